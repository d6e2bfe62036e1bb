"Whatever a user gets wrong is said in one sentence, names the thing and what to do, and leaves nothing half-written"
import errno
import json
import os

import pytest
import torch
from PIL import Image

TRAIN = ("train", "perturbgan", "--preset", "smoke", "--n", 24, "--steps", 1, "--device", "cpu")


@pytest.fixture
def refused(shell):
    "Runs a command that must be refused; gives the sentence"
    def run(*words):
        code, out, err = shell(*words)
        assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("layerbench: "), (code, out, err)
        assert "Traceback" not in err
        return err
    return run


@pytest.mark.parametrize("words, said", [
    (("evalute", "x"), "there is no command 'evalute'; did you mean 'evaluate' or 'ablate'?"),
    (("train", "perturbgan", "--preset", "smke"), "there is no preset 'smke'; did you mean 'smoke'?"),
    (("train", "perturbgam"), "there is no chapter 'perturbgam'; did you mean 'perturbgan'?"),
    (("train",), "which chapter is to be trained?"),
    (("train", "perturbgan", "--set", "shfit=0.2"), "there is no setting 'shfit'; did you mean 'shift'?"),
    (("train", "perturbgan", "--set", "shift"), "--set shift is not of the form NAME=VALUE"),
    (("train", "perturbgan", "--set", "shift=wide"), "setting 'shift' is 'wide'; expected a number"),
    (("train", "perturbgan", "--set", "depth=2.5"), "setting 'depth' is 2.5; expected a whole number"),
    (("train", "perturbgan", "--set", "shift=7"), "setting 'shift' is 7.0; expected 0 to 1"),
    (("train", "perturbgan", "--setps", "4"), "there is no option of `layerbench train` '--setps'; did you mean '--steps'"),
    (("train", "perturbgan", "--steps", "many"), "'many' is not a whole number of 1 or more"),
    (("train", "perturbgan", "--steps", "0"), "'0' is not a whole number of 1 or more"),
    (("train", "perturbgan", "--minutes", "-1"), "'-1' is not a number of 0 or more"),
    (("train", "perturbgan", "--precision", "16"), "precision is '16'; expected '32-true' or 'bf16-mixed'"),
    (("train", "perturbgan", "--device", "gpu"), "device is 'gpu'; expected 'auto', 'cpu' or 'cuda'"),
    (("chapters", "perturbgan"), "`layerbench chapters` does not take 'perturbgan'"),
    (("train", "--resume"), "which run is to go on?"),
    (("train", "--resume", "--out", "/no/such/run"), "/no/such/run is not a run"),
    (("evaluate", "perturbgan/cqu"), "there is no run or weights file 'perturbgan/cqu'"),
    (("evaluate", "/no/such/run"), "there is no run or weights file '/no/such/run'"),
    (("speed", "perturbgan", "--preset", "smke"), "did you mean 'smoke'?"),
])
def test_words(refused, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(*words)
    assert not list(tmp_path.iterdir())   # nothing was begun


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("words", [TRAIN[:-2] + ("--out", "run"), ("evaluate", "{weights}"), ("sample", "{weights}", "--out", "o"), ("speed", "perturbgan")])
def test_no_gpu(refused, tiny, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert "torch finds none; use device 'cpu'" in refused(*(str(w).format(weights=tiny.weights) for w in words), "--device", "cuda")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data, said", [
    ("scenes:vivd", "there is no kind of scenes 'vivd'; did you mean 'vivid'"),
    ("scens", "did you mean 'scenes'?"),
    ("/no/such/folder", "there is no folder or tar /no/such/folder"),
    ("{here}", "holds no pictures: it is empty"),
    ("{here}/notes", "holds no pictures, only other files (.txt)"),
    ("{here}/notes/a.txt", "is neither a folder nor a tar"),
    ("{here}/cut", "cut.jpg is cut short"),
])
def test_data(refused, tmp_path, data, said):
    for name in ("notes", "cut") if data != "{here}" else (): (tmp_path / name).mkdir()
    if data != "{here}":
        (tmp_path / "notes" / "a.txt").write_text("no picture")
        Image.effect_noise((99, 99), 50).save(tmp_path / "whole.jpg")
        (tmp_path / "cut" / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    out = tmp_path.parent / (tmp_path.name + "-run")
    assert said in refused("train", "perturbgan", "--preset", "smoke", "--device", "cpu", "--data", data.format(here=tmp_path), "--out", out)
    assert not out.exists()


def test_photographs_without_masks_cannot_be_measured(refused, tiny, tmp_path):
    Image.effect_noise((40, 40), 50).save(tmp_path / "a.png")
    assert "holds 1 pictures but no mask" in refused("evaluate", tiny.weights, "--data", tmp_path, "--device", "cpu")


def test_clusters_need_a_reader_and_classes(refused, tiny, tmp_path):
    assert "'perturbgan' reads no code off pictures" in refused("evaluate", tiny.weights, "--n", 4, "--clusters", 8, "--device", "cpu")
    assert "'perturbgan' cannot remove objects" in refused("evaluate", tiny.weights, "--n", 4, "--removal", "--device", "cpu")
    assert "hold no category" in refused("evaluate", tiny.weights, "--n", 4, "--generated", 2, "--device", "cpu")
    for option in ("--generated", "--factors"): assert "'0' is not a whole number of 1 or more" in refused("evaluate", tiny.weights, option, 0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.effect_noise((40, 40), 50).point(lambda v: 255 * (v > 128)).save(tmp_path / folder / "rose.png")
    words = ("evaluate", tiny.weights, "--data", tmp_path, "--clusters", 8, "--device", "cpu")
    assert "classes of these pictures" in refused(*words) and "not all numbered (['rose'])" in refused(*words, "--numbered", 80)


def test_bad_pictures_do_not_hold_up_good_ones(shell, tiny, tmp_path):
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    Image.effect_noise((50, 40), 50).save(mine / "good.jpg")
    (mine / "cut.jpg").write_bytes((mine / "good.jpg").read_bytes()[:600])
    (mine / "empty.png").touch()
    code, said, err = shell("segment", tiny.weights, mine, "--out", out, "--device", "cpu")
    assert code == 2 and "1 masks" in said
    assert err.splitlines()[-1] == f"layerbench: 2 of 3 pictures could not be segmented: {mine}/cut.jpg is cut short; {mine}/empty.png is empty"
    assert sorted(p.name for p in out.iterdir()) == ["good_cutout.png", "good_mask.png"]


def test_a_missing_picture(refused, tiny, tmp_path):
    assert "gone.jpg does not exist" in refused("segment", tiny.weights, tmp_path / "gone.jpg", "--out", tmp_path / "out", "--device", "cpu")


# runs and weights of somebody else, or of another time

def copy_run(tiny, to):
    to.mkdir()
    for name in ("config.json", "checkpoint.pt", "curves.csv", "environment.json"): (to / name).write_bytes((tiny.run / name).read_bytes())
    return to


def test_a_run_is_not_started_twice(refused, tiny):
    before = (tiny.run / "checkpoint.pt").read_bytes()
    assert "already holds a run; resume it with --resume" in refused(*TRAIN, "--out", tiny.run)
    assert (tiny.run / "checkpoint.pt").read_bytes() == before


def test_a_run_is_not_resumed_as_another(refused, tiny):
    said = refused("train", "--resume", "--out", tiny.run, "--seed", 5, "--n", 99, "--data", "scenes:vivid", "--preset", "cpu", "--set", "shift=0.3")
    for part in ("seed was 0, now 5", "n was 32, now 99", "data was 'scenes', now 'scenes:vivid'", "preset was 'smoke', now 'cpu'", "shift was 0.125, now 0.3"): assert part in said


def test_a_checkpoint_of_another_method(refused, tiny, tmp_path):
    run = copy_run(tiny, tmp_path / "run")
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save(state | {"chapter": "onegan"}, run / "checkpoint.pt")
    assert "is of 'onegan', but" in refused("sample", run, "--out", tmp_path / "o", "--device", "cpu")
    assert "is of 'onegan', and 'perturbgan' was asked for" in refused("train", "--resume", "--out", run, "--device", "cpu").splitlines()[-1]


def test_a_checkpoint_of_another_version(refused, tiny, tmp_path):
    run = copy_run(tiny, tmp_path / "run")
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save(state | {"format": 99}, run / "checkpoint.pt")
    assert "has format 99, this version reads" in refused("sample", run, "--out", tmp_path / "o", "--device", "cpu")


def test_a_checkpoint_that_does_not_fit(refused, tiny, tmp_path):
    run = copy_run(tiny, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["config"]["widths"] = [16, 16, 4]
    (run / "config.json").write_text(json.dumps(config))
    assert "does not fit this version's network" in refused("sample", run, "--out", tmp_path / "o", "--device", "cpu")


@pytest.mark.parametrize("name", ["checkpoint.pt", "config.json"])
def test_a_truncated_run(refused, tiny, tmp_path, name):
    run = copy_run(tiny, tmp_path / "run")
    (run / name).write_bytes((run / name).read_bytes()[:100])
    said = refused("sample", run, "--out", tmp_path / "o", "--device", "cpu")
    assert "cannot be read" in said and "may be truncated" in said


@pytest.mark.parametrize("data, said", [(lambda whole: whole[:5000], "may be truncated"), (lambda whole: b"text", "cannot be read as a weights file"), (lambda whole: b"", "cannot be read")])
def test_weights_that_are_none(refused, tiny, tmp_path, data, said):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data(tiny.weights.read_bytes()))
    assert said in refused("evaluate", path, "--device", "cpu")


def test_weights_of_somebody_else_and_of_another_version(refused, tmp_path):
    from safetensors.torch import save_file
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    assert "was not written by layerbench" in refused("evaluate", path, "--device", "cpu")
    save_file({"a": torch.zeros(2)}, path, {"layerbench": json.dumps({"format": 99})})
    assert "has format 99, this version reads format" in refused("evaluate", path, "--device", "cpu")
    save_file({"a": torch.zeros(2)}, path, {"layerbench": json.dumps({"format": 1, "chapter": "cyclegan", "config": {}, "seen": 0, "record": {}})})
    assert "there is no chapter 'cyclegan'" in refused("evaluate", path, "--device", "cpu")


# a full disk: /dev/full answers every write with "no space left"

full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


@full
def test_a_full_disk_in_training(shell, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "checkpoint.pt.partial").symlink_to("/dev/full")
    code, _, err = shell(*TRAIN, "--out", out)
    assert code == 2 and "the disk is full" in err.splitlines()[-1] and "checkpoint.pt" in err and "Traceback" not in err
    assert not (out / "checkpoint.pt").exists() and not (out / "checkpoint.pt.partial").is_symlink()


@full
def test_a_full_disk_in_segmenting(shell, tiny, tmp_path):
    Image.effect_noise((50, 40), 50).save(tmp_path / "a.jpg")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_mask.png.partial").symlink_to("/dev/full")
    code, said, err = shell("segment", tiny.weights, tmp_path / "a.jpg", "--out", out, "--device", "cpu")
    assert code == 2 and said == "" and "the disk is full" in err.splitlines()[-1]
    assert not list(out.iterdir())


@full
def test_a_full_disk_when_figures_are_written(shell, tiny, tmp_path, monkeypatch):
    from layerbench.measure import report
    monkeypatch.setattr(report, "evaluate", lambda *words, **more: {"iou": .5})   # seconds of measuring that this is not about
    (tmp_path / "found.json").write_text("older figures")
    (tmp_path / "found.json.partial").symlink_to("/dev/full")
    code, _, err = shell("evaluate", tiny.weights, "--device", "cpu", "--json", tmp_path / "found.json")
    assert code == 2 and "the disk is full" in err.splitlines()[-1] and (tmp_path / "found.json").read_text() == "older figures"


def test_a_full_disk_when_weights_are_written(shell, tiny, tmp_path, monkeypatch):
    import layerbench.method
    from safetensors import SafetensorError
    def fail(tensors, path, metadata):   # its own writer makes a file of its own name, so /dev/full cannot stand in
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr(layerbench.method, "save_file", fail)
    code, _, err = shell("teach", tiny.run, "--out", tmp_path / "w.safetensors", "--steps", 1, "--batch", 4, "--device", "cpu")
    assert code == 2 and "the disk is full" in err.splitlines()[-1] and not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written(refused, tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = refused("sample", tiny.weights, "--out", tmp_path / "file" / "o", "--n", 1, "--device", "cpu")
    assert str(tmp_path / "file") in said and "check the path" in said


def test_a_bug_keeps_its_traceback(monkeypatch):
    from layerbench.cli import main
    from layerbench.shell import COMMANDS
    monkeypatch.setitem(COMMANDS, "chapters", (lambda args: {}["a bug"], ()))
    with pytest.raises(KeyError): main(["chapters"])


def test_errors_of_the_system_are_sentences():
    from layerbench.shell import sentence
    assert sentence(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y")).startswith("the disk is full")
    assert sentence(PermissionError(errno.EACCES, "Permission denied", "/x/y")) == "/x/y: Permission denied; check the path and your rights to it"
