"Comparing chapters: what is refused, budgets of pictures and seconds, a whole contest, killed and taken over"
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from layerbench.ablate import contest
from layerbench.ablate.contest import compete, entered, schedule, trained
from layerbench.ablate.record import keep, opened
from layerbench.cli import main as layerbench
from layerbench.segmenter import NothingToLearn
from layerbench.train import reopen

QUICK = dict(preset="smoke", n=32, lesson=2, exam=6, samples=6, paint=20, clusters=16, hidden=4, device="cpu")
CHAPTERS = ["perturbgan", "layered_mi"]
ROOT = Path(__file__).resolve().parents[1]


def entry(name, **how): return entered([name], seeds=1, **QUICK | how)[0]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    "Two chapters, one seed, to the end: results by chapter, and their folder"
    out = tmp_path_factory.mktemp("compared")
    jobs = entered(CHAPTERS, pictures=64, seeds=1, **QUICK)
    return {job["chapter"]: compete(json.loads(json.dumps(job)), out / job["slug"]) for job in jobs}, out   # jobs come back from files


def test_both_had_the_same_budget_and_the_same_examination(compared):
    results, _ = compared
    assert {r["seen"] for r in results.values()} == {64}
    for r in results.values(): assert r["budget"] == {"pictures": 64} and r["speed"]["images_per_second"] == pytest.approx(64 / r["seconds"], rel=1e-3)
    a, b = (results[k]["evaluated"] for k in CHAPTERS)
    for same in ("floors", "ceiling", "n", "seed", "split", "size"): assert a[same] == b[same], same
    assert a["seed"] == contest.EXAM_SEED and a["images"]["floor"] == b["images"]["floor"] and a["images"]["fid"] != b["images"]["fid"]
    for found in (a, b): assert found["iou"] == found["paths"]["segmenter"]["iou"]


def test_each_is_asked_for_what_it_can(compared):
    results, _ = compared
    assert results["perturbgan"]["hidden"]["by"] == "reconstruct" and 0 < results["perturbgan"]["hidden"]["method"]["under"]["mae"] < 2
    assert "neither removes objects nor repaints" in results["layered_mi"]["hidden"]["cannot"]
    assert "clusters" not in results["perturbgan"]["evaluated"] and 0 <= results["layered_mi"]["evaluated"]["clusters"]["child"]["nmi"] <= 1
    assert results["layered_mi"]["schedule"]["finished"] and not results["perturbgan"]["schedule"]["finished"]   # one is fitted, the other stopped
    for r in results.values(): assert r["bad"] == [f["name"] for f in r["evaluated"]["health"] if f["bad"]] and r["ailments"] == len(r["bad"])


def test_results_are_plain_and_name_no_folder(compared):
    results, out = compared
    for r in results.values():
        text = json.dumps(r, allow_nan=False)
        assert str(out) not in text and "/tmp" not in text and str(Path.home()) not in text


def test_weights_are_left_for_explorers(compared):
    _, out = compared
    method, pupil, record = reopen(out / "layered_mi-s0" / "weights.safetensors")
    assert method.name == "layered_mi" and pupil is not None and record["taught"]["steps"] == 2


def test_a_contest_that_lost_its_examination_does_not_train_again(compared, monkeypatch):
    results, out = compared
    monkeypatch.setattr(contest, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(contest, "taught", lambda *_, **__: pytest.fail("taught again"))
    asked = []
    def examined(job, method, pupil, record):   # the same again; how is tested above
        asked.append((method.seen, pupil.size, record["taught"]["steps"]))
        return results["layered_mi"]["evaluated"]
    monkeypatch.setattr(contest, "examined", examined)
    again = compete(entry("layered_mi", pictures=64), out / "layered_mi-s0")
    assert asked == [(64, 16, 2)]
    assert {k: v for k, v in again.items() if k != "environment"} == {k: v for k, v in results["layered_mi"].items() if k != "environment"}


SCRIPT = "import sys, json, pathlib; from layerbench.ablate.contest import trained; trained(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]))"


def test_a_killed_training_is_taken_over_to_the_same_numbers(tmp_path):
    job = entry("perturbgan", pictures=128)
    whole = trained(job, tmp_path / "whole").curves()
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-P", "-c", SCRIPT, json.dumps(job), str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    while process.poll() is None and not (killed / "run" / "checkpoint.pt").is_file(): time.sleep(.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = trained(job, killed).curves()
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in whole.items() if k != "seconds"}


def test_a_run_of_the_command_line_is_taken_over(tmp_path):
    "What `layerbench train` began with the same settings, stopped half way"
    words = ["train", "ganseg", "--preset", "smoke", "--n", "32", "--data", "scenes", "--set", "iterations=6", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert layerbench([*words, "--steps", "3"]) == 0
    run = trained(entry("ganseg", pictures=24), tmp_path)
    assert run.curves()["step"] == [3, 6] and run.method().done


def test_another_budget_is_another_training(tmp_path):
    trained(entry("ganseg", pictures=8), tmp_path)
    with pytest.raises(ValueError, match="iterations was 2, now 4"): trained(entry("ganseg", pictures=16), tmp_path)


def test_seconds_end_by_the_clock(tmp_path):
    job = entry("perturbgan", seconds=.5, overrides={"perturbgan": {"stage_images": (10_000, 10_000)}})
    run = trained(job, tmp_path)
    rows = run.curves()
    assert .5 <= rows["seconds"][-1] and not run.method().done
    assert len(rows["seconds"]) == 1 or rows["seconds"][-2] < .5   # the first page after the clock is the last
    assert schedule(job, tmp_path) == ({}, None, .5 / 60)


def test_seconds_become_a_whole_schedule(tmp_path, monkeypatch):
    job, paces = entry("comgan", seconds=20), iter((2., 50.))
    monkeypatch.setattr(contest, "pace_of", lambda job: next(paces))
    fit, steps, minutes = schedule(job, tmp_path)
    assert fit["iterations"] + fit["segmentation"] == 36 and steps is None and minutes == pytest.approx(1 / 3)   # nine tenths of 20 s, at 2 steps a second
    assert schedule(job, tmp_path)[0] == fit   # measured once: a resumed training goes on as it began


def test_a_pace_is_measured_over_all_stages(monkeypatch):
    monkeypatch.setattr(contest, "PROBE", 6)
    assert 0 < contest.pace_of(entry("ganseg", seconds=20)) < 1e4
    assert contest.pace_of(entry("perturbgan", seconds=20)) is None   # nothing has to be fitted: the clock is enough


def test_masks_that_nobody_can_learn_from_are_a_result(compared, tmp_path, monkeypatch):
    _, out = compared
    def refuse(*_, **__): raise NothingToLearn("None of 256 samples has a mask")
    monkeypatch.setattr("layerbench.segmenter.teach", refuse)
    os.symlink(out / "perturbgan-s0" / "run", tmp_path / "run")
    result = compete(entry("perturbgan", pictures=64), tmp_path)
    assert result["refused"] == "None of 256 samples has a mask" and result["evaluated"]["iou"] is None
    assert result["evaluated"]["paths"]["generated"]["n"] == 6 and result["evaluated"]["floors"]


@pytest.mark.parametrize("how, said", [
    (dict(chapters=["pertubgan"], pictures=64), "did you mean 'perturbgan'"),
    (dict(chapters=["perturbgan", "perturbgan"], pictures=64), "each once"),
    (dict(chapters=[], pictures=64), "expected some"),
    (dict(pictures=64, seconds=1), "both pictures and seconds"),
    (dict(), "neither pictures nor seconds"),
    (dict(chapters=CHAPTERS, pictures=0), "more than 0"),
    (dict(chapters=CHAPTERS, pictures=3), "less than one batch"),
    (dict(chapters=["perturbgan"], pictures=10**6), "lengthen it by its settings"),
    (dict(chapters=["perturbgan", "comgan"], pictures=64), "choose presets of one size"),
    (dict(chapters=CHAPTERS, pictures=64, data="scens"), "did you mean 'scenes'"),
    (dict(chapters=CHAPTERS, pictures=64, data="scenes:vivd"), "did you mean 'vivid'"),
    (dict(chapters=CHAPTERS, pictures=64, precision="bf16"), "did you mean 'bf16-mixed'"),
    (dict(chapters=CHAPTERS, pictures=64, overrides={"onegan": {}}), "among those that are compared"),
    (dict(chapters=CHAPTERS, pictures=64, overrides={"perturbgan": {"shfit": 1}}), "did you mean 'shift'"),
    (dict(chapters=CHAPTERS, pictures=64, paint=3), "at least 20"),
    (dict(chapters=CHAPTERS, pictures=64, seeds=0), "at least one"),
], ids=lambda x: x if isinstance(x, str) else "")
def test_what_makes_no_sense_is_refused_before_anything_is_trained(how, said):
    with pytest.raises(ValueError, match=said): entered(**QUICK | how)


def test_photographs_without_masks_are_refused(tmp_path):
    from PIL import Image
    for i in range(3): Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="holds no masks"): entered(CHAPTERS, pictures=64, data=str(tmp_path), **QUICK)


def test_what_is_kept_reads_back(compared, tmp_path):
    results, out = compared
    strips = {k: sorted((out / f"{k}-s0" / "run" / "samples").glob("*.png"))[-1] for k in CHAPTERS}
    entries = [{"title": k, "seed": 0, "state": "done", "reason": None, "folder": out / f"{k}-s0", "strip": strips[k], "result": results[k]} for k in CHAPTERS]
    entries.append({"title": "onegan", "seed": 0, "state": "failed", "reason": "it broke", "folder": out / "onegan-s0", "strip": None, "result": None})
    keep(entries, {"kind": "compare", "command": "layerbench compare", "jobs": [1]}, tmp_path / "record")
    about, again = opened(tmp_path / "record")
    assert about == {"kind": "compare", "command": "layerbench compare"} and [e["state"] for e in again] == ["done", "done", "failed"]
    assert all(e["strip"].is_file() for e in again[:2]) and again[2]["reason"] == "it broke"
    assert contest.readme_table(again) == contest.readme_table(entries)
