"Flowers 102: the split turned round, two mask rules, numbers that belong to no list"
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from layerbench.data.decoding import square
from layerbench.data.layouts.flowers102 import CLASSES, MARKS, SET, make, read, sniff
from layerbench.data.layouts.flowers17 import make as make_17, sniff as sniff_17
from layerbench.data.painted import painted
from layerbench.data.lists import NOT_THERE


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    where = tmp_path_factory.mktemp("flowers102") / "set"
    make(where, 7, 4)
    return where


@pytest.fixture
def root(made_once, tmp_path): return shutil.copytree(made_once, tmp_path / "set")


def test_every_field(root):
    flowers, made = read(root), painted("flower", 7, 4)
    assert (flowers.name, flowers.mask_rule, flowers.left_out) == ("flowers102", "blue", {}) and flowers.classes == CLASSES and len(CLASSES) == 102
    assert [e.split for e in flowers.entries] == ["train", "train", "train", "test", "val", "train", "train"]
    with flowers.open() as file:
        for i, (entry, flower) in enumerate(zip(flowers.entries, made), 1):
            assert (entry.path, entry.mask, entry.label) == (f"jpg/image_{i:05d}.jpg", f"segmim/segmim_{i:05d}.jpg", flower.kind * 30)
            raw, true = {"picture": file(entry.path), "mask": file(entry.mask)}, np.asarray(flower.mask) >= 128
            def iou(rule):
                seen = square(raw, entry, None, rule, "stretch").mask[0].numpy() >= 128
                return (seen & true).sum() / (seen | true).sum()
            assert iou("blue") > .97 and iou("blue_literal") < iou("blue")   # JPEG blurs the blue; only the robust rule survives it


def test_words(root):
    words = {word: {keyword: value} for word, (keyword, value, _) in SET.options.items()}
    official = read(root, **words["official"])
    assert [e.split for e in official.entries] == ["test", "test", "test", "train", "val", "test", "test"] and official.mask_rule == "blue"
    assert read(root, **words["literal"]).mask_rule == "blue_literal" and read(root, **words["literal"]).entries == read(root).entries
    with pytest.raises(ValueError, match="official"): read(root, "oficial")
    with pytest.raises(ValueError, match="robust"): read(root, masks="robst")


def test_pictures_that_are_missing_not_listed_or_without_a_mask(root):
    (root / "jpg" / "image_00002.jpg").unlink(), (root / "jpg" / "image_00099.jpg").touch(), (root / "segmim" / "segmim_00001.jpg").unlink()
    flowers = read(root)
    assert flowers.left_out == {"jpg/image_00002.jpg": NOT_THERE} and flowers.entries[0].mask is None and "5 of 6 pictures have a mask" in flowers.notes
    assert any("image_00099.jpg" in note for note in flowers.notes)
    shutil.rmtree(root / "segmim")
    assert "mask" not in read(root).counts() and any("102segmentations.tgz" in note for note in read(root).notes)


def test_a_number_in_no_list_has_no_split(root):
    savemat(root / "setid.mat", {"tstid": [1, 2], "valid": [3], "trnid": [4]})
    assert [e.split for e in read(root).entries] == ["train", "train", "val", "test", "", "", ""] and "3 pictures in none of the three lists of setid.mat" in read(root).notes


@pytest.mark.parametrize("sets, said", [({"tstid": [1], "valid": [1], "trnid": [2]}, "setid.mat has picture 1 in train and in val"), ({"tstid": [8], "valid": [], "trnid": []}, "setid.mat puts picture 8 into train; expected numbers from 1 to 7"),
                                        ({"tstid": [1], "valid": [2]}, "setid.mat has the variables tstid, valid; expected trnid")])
def test_damaged_splits_are_refused(root, sets, said):
    savemat(root / "setid.mat", sets)
    with pytest.raises(ValueError, match=said): read(root)


def test_damaged_labels_are_refused(root):
    savemat(root / "imagelabels.mat", {"labels": [[1, 2, 103, 4, 5, 6, 7]]})
    with pytest.raises(ValueError, match="imagelabels.mat has the class 103; expected 1 to 102"): read(root)
    savemat(root / "imagelabels.mat", {"labels": [[1, 2]]})
    with pytest.raises(ValueError, match="expected numbers from 1 to 2"): read(root)
    (root / "imagelabels.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600))
    with pytest.raises(ValueError, match="version 7.3"): read(root)
    (root / "imagelabels.mat").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read as a MATLAB file"): read(root)


@pytest.mark.parametrize("missing", MARKS)
def test_what_makes_the_layout_must_be_there(root, missing):
    shutil.rmtree(root / missing) if missing == "jpg" else (root / missing).unlink()
    assert not sniff(root)
    with pytest.raises(FileNotFoundError, match=f"has no {missing}; expected"): read(root)


def test_the_two_flowers_are_told_apart(tmp_path, root):
    make_17(tmp_path / "17", 4, 0)
    assert (sniff(root), sniff_17(root)) == (True, False) and (sniff(tmp_path / "17"), sniff_17(tmp_path / "17")) == (False, True)


def test_the_folder_around_it(tmp_path, root):
    shutil.copytree(root, tmp_path / "around" / "flowers")
    flowers = read(tmp_path / "around")
    assert sniff(tmp_path / "around") and flowers.counts() == read(root).counts()
    with flowers.open() as file: assert all(file(e.path) and file(e.mask) for e in flowers.entries)
