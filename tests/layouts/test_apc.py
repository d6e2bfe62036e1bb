"The Amazon Picking Challenge: a split by scene, masks of numbers, scenes that hold nothing"
import random
import shutil

import numpy as np
import pytest
from PIL import Image

from layerbench.data.decoding import square
from layerbench.data.layouts.apc import SET, make, read, split_scenes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    where = tmp_path_factory.mktemp("apc")
    make(where, n=20)
    return where


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_split_is_that_of_the_published_code():
    scenes = [f"training/{t}/{o}/scene-{i:04d}" for t in ("tote", "shelf") for o in ("b", "a-b", "a") for i in range(9)]
    full = sorted(f"/data/apc/{s.replace('training', 'processed')}" for s in scenes)   # whole paths, as glob gives them there
    random.seed(0)
    random.shuffle(full)
    n = len(full) // 10
    theirs = {s: v for part, v in ((full[:n], "val"), (full[n:2 * n], "test"), (full[2 * n:], "train")) for s in part}
    assert split_scenes(scenes) == {s: theirs[f"/data/apc/{s.replace('training', 'processed')}"] for s in scenes}
    assert sorted(split_scenes(scenes).values()).count("val") == 5


def test_random_numbers_of_others_are_left_alone():
    random.seed(7)
    before = random.getstate()
    split_scenes([f"training/a/b/scene-{i}" for i in range(20)])
    assert random.getstate() == before


def test_every_field(root):
    found = read(root)
    assert (found.mask_rule, found.fit, found.smooth) == ("instances", "crop", "bilinear") and found.classes == ("kitten_cup", "plush_bear", "toy_car")
    split = split_scenes(sorted({p.parent.relative_to(root).as_posix() for p in root.glob("training/*/*/*/*.color.png")}))
    full = [e for e in found.entries if e.mask != ""]
    assert len(full) == 20 and all(e.split == split[e.group] and e.path.startswith(f"{e.group}/frame-") for e in found.entries)
    for e in full:
        assert e.mask == e.path.replace("/frame", "/masks/frame").replace(".color", ".mask") and f"/{found.classes[e.label]}/" in e.path
        assert set(np.unique(np.asarray(Image.open(root / e.mask)))) == {0, 3}
    assert [e.path for e in found.entries] == sorted(e.path for e in found.entries)


def test_masks_of_numbers_are_objects(root):
    found = read(root)
    e = next(e for e in found.entries if e.mask)
    with found.open() as held: made = square({"picture": held(e.path), "mask": held(e.mask)}, e, 64, found.mask_rule, found.fit, found.smooth)
    assert not made.flaws and set(made.mask.unique().tolist()) == {0, 255} and .02 < (made.mask > 0).float().mean() < .8


def test_empty_scenes_are_in_the_test_set_only_and_can_be_left_out(root):
    found, without = read(root), read(root, no_empty=True)
    empty = [e for e in found.entries if e.mask == ""]
    assert empty and all(e.split == "test" and "scene-empty" in e.group and e.label is None for e in empty)
    assert without.entries == [e for e in found.entries if e.mask != ""]                # nobody else changes place
    assert f"{10 - len(empty)} pictures of empty scenes not used for training and validation" in found.notes
    assert "10 pictures of empty scenes not used" in without.notes


def test_the_folder_may_be_called_processed_and_be_given_itself(root):
    before = read(root)
    assert read(root / "training").entries == before.entries and SET.sniff(root / "training")
    (root / "training").rename(root / "processed")
    assert [e.split for e in read(root).entries] == [e.split for e in before.entries] and read(root).entries[0].path.startswith("processed/")


def test_what_is_missing_is_counted_or_refused(root):
    first = next(e for e in read(root).entries if e.mask)
    (root / first.mask).unlink()
    other = next(e for e in read(root).entries if e.mask)
    (root / other.path).unlink()
    for f in (root / read(root).entries[-1].group).glob("*.color.png"): f.unlink()
    found = read(root)
    assert found.entries[[e.path for e in found.entries].index(first.path)].mask is None
    assert "1 picture without a mask" in found.notes and any(n.endswith("whose picture is not there") for n in found.notes)
    assert list(found.left_out.values()) == ["has no frame-*.color.png"]
    with pytest.raises(FileNotFoundError, match="has no folder training"): read(root / "training" / "shelf")
    (root / "nothing" / "training").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no scenes"): read(root / "nothing")
    assert not SET.sniff(root / "nothing")
