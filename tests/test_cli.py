"The command as a shell sees it"
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from layerbench.train import Run

CLI = [sys.executable, "-m", "layerbench.cli"]


def start(*words, **how):
    return subprocess.run(CLI + [str(w) for w in words], capture_output=True, text=True, timeout=300, **how)


@pytest.fixture
def picture(tmp_path):
    "Somebody's photograph: wide, lying on its side"
    path = tmp_path / "mine" / "garden.jpg"
    path.parent.mkdir()
    rows, columns = np.mgrid[:60, :90]
    disc = ((rows - 30) ** 2 + (columns - 40) ** 2 < 400)[..., None]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.where(disc, [220, 60, 40], [90, 120, 90]).astype(np.uint8)).save(path, exif=exif)
    return path


def test_help_answers_at_once():
    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = start("--help")
        assert done.returncode == 0 and all(c in done.stdout for c in ("chapters", "train", "sample", "teach", "segment", "evaluate", "speed"))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert min(once() for _ in range(3)) < .5   # its own time, which is the wall's on a machine that has nothing else to do


def test_help_imports_nothing_heavy():
    code = "import sys\nfrom layerbench.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: print(sorted({'torch', 'numpy', 'PIL', 'lightning_fabric'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.endswith("[]\n")


def test_chapters(shell):
    code, out, err = shell("chapters")
    assert (code, err) == (0, "") and "perturbgan" in out and "smoke" in out


def test_train_writes_a_run(tiny):
    assert {"config.json", "checkpoint.pt", "curves.csv", "environment.json", "samples"} <= {p.name for p in tiny.run.iterdir()}
    config = json.loads((tiny.run / "config.json").read_text())
    assert config["data"] == {"source": "scenes", "split": "train", "seed": 0, "n": 32, "size": 18} and config["preset"] == "smoke"


def test_resume_needs_nothing_but_the_folder(shell, tmp_path):
    out = tmp_path / "run"
    assert shell("train", "perturbgan", "--preset", "smoke", "--n", 24, "--steps", 2, "--out", out, "--set", "shift=0.2", "--seed", 3, "--device", "cpu")[0] == 0
    code, said, _ = shell("train", "--resume", "--out", out, "--steps", 4, "--device", "cpu")
    assert code == 0 and "4 steps" in said
    code, said, _ = shell("train", "perturbgan", "--resume", "--out", out, "--steps", 5, "--preset", "smoke", "--seed", 3, "--n", 24, "--set", "shift=0.2", "--device", "cpu")
    assert code == 0 and "5 steps" in said   # saying the same again is fine


def test_ctrl_c_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    going = subprocess.Popen(CLI + ["train", "perturbgan", "--preset", "smoke", "--set", "stage_images=1000000,1000000", "--n", "24", "--out", str(out), "--device", "cpu"],
                             stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))   # a shell's background jobs ignore it
    while not (out / "samples").exists() and going.poll() is None: time.sleep(.05)
    going.send_signal(signal.SIGINT)
    _, err = going.communicate(timeout=240)
    assert going.returncode == 130 and err.splitlines()[-1] == f"layerbench: stopped; go on from the last checkpoint with `layerbench train --resume --out {out}`"


def test_photographs_are_trained_on_and_recognised(shell, tmp_path, monkeypatch):
    mine, out = tmp_path / "mine", tmp_path / "run"
    mine.mkdir()
    for i in range(4): Image.new("RGB", (30 + i, 24), (60 * i, 99, 50)).save(mine / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    assert shell("train", "perturbgan", "--preset", "smoke", "--data", "mine", "--steps", 1, "--out", out, "--device", "cpu")[0] == 0
    monkeypatch.chdir("/")
    assert shell("train", "--resume", "--data", mine, "--steps", 2, "--out", out, "--device", "cpu")[0] == 0
    (mine / "3.png").rename(mine / "5.png")
    code, _, err = shell("train", "--resume", "--steps", 3, "--out", out, "--device", "cpu")
    assert code == 2 and "cannot be resumed with other settings (data was" in err


def test_sample(shell, tiny, tmp_path):
    for source in (tiny.run, tiny.weights):
        out = tmp_path / source.name
        assert shell("sample", source, "--n", 2, "--out", out, "--device", "cpu")[0] == 0
        assert sorted(p.name for p in out.iterdir()) == sorted([f"000{i}_{k}.png" for i in range(2) for k in ("bg", "cutout", "fg", "image", "mask")] + ["sheet.png"])
    assert Image.open(out / "0000_mask.png").mode == "L"


def test_segment_writes_masks_of_the_pictures_own_size(shell, tiny, picture, tmp_path):
    Image.open(picture).convert("L").save(picture.with_suffix(".bmp"))   # the same name twice: both get their mask
    out = tmp_path / "out"
    assert shell("segment", tiny.weights, picture, picture.parent, "--out", out, "--device", "cpu")[0] == 0
    assert sorted(p.name for p in out.iterdir()) == [f"garden{n}_{k}.png" for n in ("-2", "-3", "") for k in ("cutout", "mask")]
    mask, cutout = Image.open(out / "garden_mask.png"), Image.open(out / "garden_cutout.png")
    assert (mask.size, mask.mode) == ((60, 90), "L") and (cutout.size, cutout.mode) == ((60, 90), "RGBA")   # upright
    assert np.array_equal(np.asarray(cutout)[..., 3], np.asarray(mask))


def test_segment_needs_a_segmenter(shell, tiny, picture, tmp_path):
    code, _, err = shell("segment", tiny.run, picture, "--out", tmp_path / "out", "--device", "cpu")
    assert code == 2 and "has no segmenter yet; `layerbench teach" in err and not (tmp_path / "out").exists()


def test_evaluate_prints_one_json_object_and_nothing_else(tiny):
    done = start("evaluate", tiny.weights, "--n", 4, "--json", "-", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert {"iou", "iou_pooled", "iou_inverted", "dice", "miou", "accuracy", "coverage", "n", "data", "split", "seed", "health", "floors", "ceiling", "paths"} <= set(found)
    assert (found["n"], found["data"], found["split"], found["seed"]) == (4, "scenes", "test", 0)
    assert 0 <= found["iou"] <= 1 and found["iou"] == found["paths"]["segmenter"]["iou"]


def test_evaluate_prints_a_table_and_writes_a_file(shell, tiny, tmp_path):
    code, out, _ = shell("evaluate", tiny.weights, "--n", 4, "--json", tmp_path / "new" / "found.json", "--device", "cpu")
    assert code == 0 and "segmenter" in out and "(floor)" in out and "(ceiling)" in out
    assert json.loads((tmp_path / "new" / "found.json").read_text())["n"] == 4


def test_start_takes_over_networks_and_nothing_else(shell, tiny, tmp_path):
    def train(out, *more): return shell("train", "perturbgan", "--preset", "smoke", "--n", 16, "--out", tmp_path / out, "--device", "cpu", *more)
    assert train("first", "--steps", 4)[0] == 0 and train("second", "--steps", 1, "--seed", 5, "--start", tmp_path / "first")[0] == 0
    assert train("other", "--steps", 1, "--seed", 5)[0] == 0
    first, second, other = (Run(tmp_path / n).method().nets["average"].state_dict() for n in ("first", "second", "other"))
    def far(a, b): return sum(float((a[k].float() - b[k].float()).square().sum()) for k in a)
    assert far(first, second) < .2 * far(other, second)
    assert Run(tmp_path / "second").config["start"] == str(tmp_path / "first") and Run(tmp_path / "second").method().seen < Run(tmp_path / "first").method().seen
    code, _, err = train("third", "--steps", 1, "--start", tmp_path / "first", "--set", "latent=8")
    assert code == 2 and "has another shape" in err and not (tmp_path / "third").exists()
    assert "expected networks of 'perturbgan'" in train("third", "--steps", 1, "--start", "layered_mi/cpu")[2]
    assert "was begun" in shell("train", "--resume", "--out", tmp_path / "second", "--start", "perturbgan/cpu")[2]

def test_fork_goes_on_from_a_checkpoint_with_other_settings(shell, tmp_path):
    def train(out, *more): return shell("train", *more, "--out", tmp_path / out, "--device", "cpu")
    new = ("perturbgan", "--preset", "smoke", "--n", 16)
    assert train("first", *new, "--steps", 4)[0] == 0
    assert train("fork", "--fork", tmp_path / "first", "--set", "rate=0.01", "--steps", 6)[0] == 0
    told = Run(tmp_path / "fork").config
    assert told["config"]["rate"] == .01 and [(f["step"], list(f["changed"])) for f in told["forked"]] == [(4, ["rate"])]
    assert Run(tmp_path / "fork").curves()["step"][-1] == 6 and Run(tmp_path / "first").config["config"]["rate"] != .01
    assert "needs a setting that differs" in train("same", "--fork", tmp_path / "first")[2] and not (tmp_path / "same").exists()
    assert "already holds a run" in train("fork", "--fork", tmp_path / "first", "--set", "rate=0.02")[2]
    assert "name a new folder" in shell("train", "--fork", tmp_path / "first", "--set", "rate=0.02")[2]


def test_evaluate_sorts_pictures_by_the_code_that_a_method_reads(shell, tmp_path):
    run = tmp_path / "run"
    assert shell("train", "layered_mi", "--preset", "smoke", "--steps", 2, "--n", 16, "--out", run, "--device", "cpu")[0] == 0
    code, out, _ = shell("evaluate", run, "--layers", "--n", 4, "--clusters", 64, "--json", tmp_path / "found.json", "--device", "cpu")
    found = json.loads((tmp_path / "found.json").read_text())
    assert code == 0 and "clusters against 8 parent classes, 64 pictures: NMI" in out
    assert found["command"].endswith("--layers --clusters 64") and set(found["clusters"]) == {"child", "parent"}
    assert all(c["n"] == 64 and 0 <= c["nmi"] <= 1 and set(c["floors"]) == {"colours", "small"} for c in found["clusters"].values())


def test_evaluate_has_painted_classes_judged(shell, tmp_path):
    code, out, err = shell("evaluate", "layered_mi/cpu", "--n", 8, "--generated", 2, "--json", tmp_path / "found.json", "--device", "cpu")
    assert code == 0 and "painted classes: 32, 2 pictures each, judged among 32: C-IS" in out and "painted parents: 8, judged among 8" in out, err
    found = json.loads((tmp_path / "found.json").read_text())
    painted = found["conditional"]
    assert found["command"].endswith("--generated 2") and painted["n"] == 64
    assert painted["chance_c_is"] + 3 < painted["c_is"] <= 32 and painted["gen_ami"] > .5 and painted["real"]["accuracy"] > .95
    assert "removal" not in found


def test_removal_is_told_and_spoken(shell, tmp_path, monkeypatch):
    from layerbench.chapters.layered_mi import LayeredMI
    monkeypatch.setattr(LayeredMI, "capabilities", LayeredMI.capabilities | {"remove": "grey pictures"})
    monkeypatch.setattr(LayeredMI, "remove", lambda self, images: images * 0, raising=False)
    code, out, err = shell("evaluate", "layered_mi/cpu", "--n", 8, "--removal", "--json", tmp_path / "found.json", "--device", "cpu")
    assert code == 0 and "removal, 8 scenes: under the object MAE" in out and "Telea, true mask, 8 scenes" in out, err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["command"].endswith("--removal") and found["removal"]["n"] == 8
    assert found["removal"]["left_in"]["outside"] == {"mae": 0., "mse": 0., "psnr": None} != found["removal"]["method"]["outside"]


def test_factors_are_told_and_spoken(shell, tmp_path):
    code, out, err = shell("evaluate", "layered_mi/cpu", "--n", 8, "--factors", 24, "--json", tmp_path / "found.json", "--device", "cpu")
    assert code == 0 and "factors redrawn alone, 24 pictures" in out and out.count("everything") == 2, err
    found = json.loads((tmp_path / "found.json").read_text())
    child = found["factors"]["factors"]["child"]
    assert found["command"].endswith("--factors 24") and set(found["factors"]["factors"]) == {"bg", "child"}
    assert child["still"] == ["bg"] and child["bg"] == 0. and child["share"]["fg"] > .5 > .1 > child["leak"] and child["side"] == "inside"


def test_parts_are_told_and_spoken(shell, tmp_path):
    run, where = tmp_path / "run", ("--n", 8, "--data", "puppets", "--device", "cpu")
    assert shell("train", "ganseg", "--preset", "smoke", "--steps", 2, "--out", run, *where)[0] == 0
    code, out, err = shell("evaluate", run, *where, "--layers", "--parts", "--json", tmp_path / "found.json")
    assert code == 0 and "generated parts, 512 samples: dead parts: " in out, err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["command"].endswith("--parts") and found["data"] == "puppets" and found["ceiling"] > .9
    assert found["parts"]["generated"]["parts"] == 3 and set(found["parts"]["floors"]) == {"fixed_parts", "colours_in_true_mask"}


def test_parts_of_a_method_that_has_none_are_refused(shell):
    code, out, err = shell("evaluate", "layered_mi/cpu", "--n", 8, "--parts", "--device", "cpu")
    assert code and "leave the parts out" in err and "Traceback" not in err


def test_speed(shell):
    code, out, _ = shell("speed", "perturbgan", "--preset", "smoke", "--seconds", .3, "--json", "-", "--device", "cpu")
    row, = json.loads(out)
    assert code == 0 and row["images_per_second"] > 0 and row["memory_mib"] > 0 and 0 < row["matmul_share"] < 1.5
    code, out, _ = shell("speed", "perturbgan", "--preset", "smoke", "--seconds", .3, "--device", "cpu")
    assert code == 0 and out.splitlines()[0].startswith("chapter") and out.splitlines()[1].startswith("perturbgan")


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(f"{sys.executable} -m layerbench.cli chapters | head -0", shell=True, capture_output=True, text=True, env=os.environ)
    assert done.stderr == ""


def test_own_masks_are_measured_at_any_size(shell):
    code, out, err = shell("evaluate", "onegan/cpu", "--n", 8, "--size", 64, "--device", "cpu")
    assert code == 0, err
    own = next(line for line in out.splitlines() if line.startswith("own"))
    assert "8 pictures of 64 px" in out and float(own.split()[1]) > .5   # 0.66 at 32 px, on more scenes
