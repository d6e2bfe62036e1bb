"Every published run: its preset names a data set, and a folder in that set's layout trains it"
import pytest
import torch

from layerbench.cli import asked
from layerbench.data.backgrounds import open_backgrounds
from layerbench.data.boxes import open_boxed
from layerbench.data.photos import names_of
from layerbench.data.sets import described, parsed, sets, understood
from layerbench.data.sources import open_pictures
from layerbench.measure.report import evaluate
from layerbench.method import chapter, chapters, make
from layerbench.train import Run

RUNS = [(name, preset) for name in chapters() for preset in chapter(name).sets]
N = 40   # pictures in a made set: a fifth of them gives patches enough


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    "The folder of a small set in its published layout, by name"
    kept = {}
    def one(name):
        if name not in kept:
            kept[name] = tmp_path_factory.mktemp("sets") / name.removeprefix("lsun-")
            described(name).make(kept[name], n=N)
        return kept[name]
    return one


@pytest.mark.parametrize("name, preset", RUNS)
def test_every_set_is_one_and_understands_its_words(name, preset):
    found = chapter(name)
    assert preset in found.presets
    source = parsed(f"{found.sets[preset]}:/somewhere")
    assert source.name in sets() and understood(source.published, source.words)
    assert asked("/somewhere", found, preset) == asked("/somewhere", found, f"smoke,{preset}") == str(source)


def test_of_several_presets_the_last_that_was_published_counts():
    found = chapter("ganseg")
    assert found.published("code_cub,K_4,short") == "cub,stretch,bilinear" and found.published("code_cub,paper-flowers") == "flowers102,stretch,bilinear,literal"
    assert found.published("cpu,K_4") is None


@pytest.mark.parametrize("name, preset", RUNS)
def test_a_published_run_starts_on_its_set(name, preset, made, shell, tmp_path):
    words = chapter(name).sets[preset]
    root = made(words.partition(",")[0])
    code, said, err = shell("train", name, "--preset", f"{preset},smoke", "--data", root, "--steps", 1, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 0 and "1 steps" in said, err
    kept, source = Run(tmp_path / "run").config, parsed(f"{words}:{root.resolve()}")
    assert parsed(kept["data"]["source"]) == source and kept["data"]["split"] == "train"
    entries = source.manifest().entries
    training = len(entries) if source.everything or not any(e.split for e in entries) else sum(e.split == "train" for e in entries)
    for_backgrounds = round(training / 5) if name == "onegan" else 0
    assert kept["data"]["n"] == training - for_backgrounds > 1
    assert kept["data"].get("fit", "crop") == source.manifest().fit
    if for_backgrounds: assert kept["backgrounds"]["of"]["n"] == for_backgrounds and kept["backgrounds"]["n"] >= 16 and len(kept["backgrounds"]["native"]) == 3
    if preset != next(iter(chapter(name).sets)): return   # going on is the same for all of them
    code, said, err = shell("train", "--resume", "--out", tmp_path / "run", "--data", root, "--steps", 2, "--device", "cpu")
    assert code == 0 and "2 steps" in said, err


def test_without_its_folder_a_published_run_is_refused_and_scenes_still_train(shell, tmp_path):
    code, _, err = shell("train", "layered_mi", "--preset", "paper-dogs", "--out", tmp_path / "run", "--device", "cpu")
    assert code == 2 and "published on the data set 'dogs'" in err and "layerbench data describe dogs" in err and not (tmp_path / "run").exists()
    code, _, err = shell("train", "layered_mi", "--preset", "paper-dogs", "--data", tmp_path, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 2 and err.count("\n") == 1 and not (tmp_path / "run").exists(), err   # an empty folder is no Stanford Dogs
    code, said, err = shell("train", "layered_mi", "--preset", "paper-dogs,smoke", "--data", "scenes", "--n", 16, "--steps", 1, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 0 and Run(tmp_path / "run").config["data"]["source"] == "scenes", err


@pytest.mark.parametrize("name", ["cub", "dogs", "cars"])
def test_patches_lie_beside_published_boxes_and_no_picture_is_in_both_sets(name, made):
    source = f"{name},all:{made(name)}"
    real, free = open_backgrounds(source, size=32)
    givers = {patch.rsplit("/", 1)[0] for patch in free.names}
    assert len(real) == N - N // 5 and not givers & set(real.names) and free.about["used"] == len(givers)
    assert real.boxes is None and real.masks is None   # X_c is told nothing
    boxed = open_boxed(source, size=32)
    assert boxed.masks is None and boxed.boxes.shape == (N, 4) and set(boxed.names) == {n for n, *_ in names_of(source)}


def spots(at, side=32):
    "Faint masks whose centres lie exactly there, (n,K,2) in sides"
    line = (torch.arange(side) + .5) / side
    hat = lambda x: (1 - (x[..., None] - line).abs() * side).clamp(min=0)
    return .1 * hat(at[..., 1])[..., :, None] * hat(at[..., 0])[..., None, :]


class Face:
    "A segmenter that has been told where the five points of each face are, and shows an affine image of them as parts"
    def __init__(self, pictures, off):
        self.known = {x.numpy().tobytes(): p for x, p in zip(pictures.images, pictures.keypoints)}
        self.off = off   # by picture: how far all its parts have moved
    def parts(self, images):
        raw = [((x + 1) * 127.5).round().byte().numpy().tobytes() for x in images]
        parts = spots(torch.stack([.15 + .7 * (self.known[r].clamp(0, 1) + self.off.get(r, 0)) for r in raw]))
        return torch.cat([1 - parts.sum(1, keepdim=True), parts], 1)
    def segment(self, images): return 1 - self.parts(images)[:, :1]


def test_faces_without_masks_are_examined_by_their_points(tmp_path):
    described("celeba").make(tmp_path, n=80)   # faces enough to learn ten numbers and an intercept from
    source = f"celeba,mafl:{tmp_path}"
    lesson, exam = (open_pictures(source, None, 32, split, boxes=True) for split in ("train", "test"))
    assert lesson.keypoints.shape[1:] == exam.keypoints.shape[1:] == (5, 2) and not set(lesson.names) & set(exam.names)
    both = open_pictures(source, None, 32, "all", boxes=True)
    method = make("ganseg", "smoke")
    def error(off): return evaluate(method, Face(both, off), source, None, 32, samples=8, parts=True)
    right = error({})
    points = right["parts"]["ways"]["segmenter"]["keypoints"]
    assert right["iou"] is None and right["floors"] is None and right["n"] == len(exam)
    assert (points["protocol"], points["n"], points["n_lesson"], points["lesson"]) == ("celeba", len(exam), len(lesson), "train")
    eyes = (exam.keypoints[:, 0] - exam.keypoints[:, 1]).norm(dim=1)
    moved = error({x.numpy().tobytes(): float(e) * torch.tensor([.1, 0]) for x, e in zip(exam.images, eyes)})
    # with an intercept the map is exact, so points that have moved by a tenth of the eyes' distance are off by just that
    assert points["with_intercept"] == pytest.approx(0, abs=.01) and moved["parts"]["ways"]["segmenter"]["keypoints"]["with_intercept"] == pytest.approx(10, abs=.01)
    with pytest.raises(ValueError, match="no mask"): evaluate(method, Face(both, {}), source, None, 32, samples=8)
