"Flowers 17: trimaps, classes by number, three splits, lists that are missing"
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from layerbench.data.decoding import square
from layerbench.data.layouts.flowers17 import CLASSES, SET, make, read, sniff
from layerbench.data.painted import painted
from layerbench.data.lists import NOT_THERE

NUMBERS = [1 + i * 1360 // 8 for i in range(8)]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    where = tmp_path_factory.mktemp("flowers17") / "set"
    make(where, 8, 5)
    return where


@pytest.fixture
def root(made_once, tmp_path): return shutil.copytree(made_once, tmp_path / "set")


def test_every_field(root):
    flowers, made = read(root), painted("flower", 8, 5)
    assert (flowers.name, flowers.mask_rule, flowers.classes, flowers.left_out) == ("flowers17", "trimap17", CLASSES, {})
    assert [e.path for e in flowers.entries] == [f"jpg/image_{n:04d}.jpg" for n in NUMBERS] and [e.label for e in flowers.entries] == [(n - 1) // 80 for n in NUMBERS]
    assert [e.split for e in flowers.entries] == ["train", "train", "val", "test"] * 2 and [e.mask is None for e in flowers.entries] == [False, False, False, True] * 2
    with flowers.open() as file:
        for entry, flower in zip(flowers.entries, made):
            if not entry.mask: continue
            seen, trimap = square({"picture": file(entry.path), "mask": file(entry.mask)}, entry, None, flowers.mask_rule, "stretch"), np.asarray(flower.trimap())
            assert seen.whole == flower.picture.size
            assert ((seen.mask[0].numpy() > 0) == (trimap == 255)).all() and ((seen.ignore[0].numpy() > 0) == (trimap == 128)).all()
    assert Image.open(root / flowers.entries[0].mask).mode == "P" and "6 of 8 pictures have a mask" in flowers.notes


def test_classes_by_number(root):
    for number, name in ((1, "Daffodil"), (80, "Daffodil"), (81, "Snowdrop"), (1360, "Pansy")):
        (root / "jpg" / "files.txt").write_text(f"image_{number:04d}.jpg\n")
        (root / "datasplits.mat").unlink(missing_ok=True)
        (root / "jpg" / f"image_{number:04d}.jpg").touch()
        entry, = read(root).entries
        assert CLASSES[entry.label] == name


def test_three_splits(root):
    first, second, third = (read(root, k) for k in (1, 2, 3))
    assert len({tuple(e.split for e in f.entries) for f in (first, second, third)}) == 3 and read(root).entries == first.entries
    assert {word: value for word, (_, value, _) in SET.options.items()} == {"split2": 2, "split3": 3}
    with pytest.raises(ValueError, match="splits 1, 2 and 3, not 4"): read(root, 4)


def test_without_lists_and_trimaps(root):
    (root / "jpg" / "files.txt").unlink(), (root / "datasplits.mat").unlink(), shutil.rmtree(root / "trimaps")
    flowers = read(root)
    assert flowers.counts() == {"pictures": 8, "no split": 8, "label": 8} and sniff(root)
    said = " ".join(flowers.notes)
    assert "datasplits.mat is not there" in said and "trimaps.tgz" in said and "files.txt is not there" in said


def test_pictures_that_are_missing_or_not_listed(root):
    (root / "jpg" / "image_0171.jpg").unlink(), (root / "jpg" / "image_0002.jpg").touch()
    flowers = read(root)
    assert flowers.left_out == {"jpg/image_0171.jpg": NOT_THERE} and len(flowers) == 7 and any("image_0002.jpg" in note for note in flowers.notes)
    (root / "jpg" / "files.txt").unlink()
    assert read(root).left_out == {"jpg/image_0171.jpg": "is in datasplits.mat and is not there"} and len(read(root)) == 8


@pytest.mark.parametrize("text, said", [("image_0001.jpg\nimage_01", "files.txt, line 2 is 'image_01'; expected `image_<0001 to 1360>.jpg`"), ("image_1361.jpg\n", "line 1 is 'image_1361.jpg'"),
                                        ("image_0001.jpg\nimage_0001.jpg\n", "files.txt has 1 picture twice"), ("image_0001.jpg\n", r"datasplits.mat has picture 171 and jpg/files.txt \(1 line\) does not"), ("", "has no pictures")])
def test_damaged_files_are_refused(root, text, said):
    (root / "jpg" / "files.txt").write_text(text)
    with pytest.raises(ValueError, match=said): read(root)


@pytest.mark.parametrize("sets, said", [(dict(trn1=[1], val1=[1], tst1=[2]), "has picture 1 in train and in val"), (dict(trn1=[0], val1=[], tst1=[]), "puts picture 0 into train; expected numbers from 1 to 1,360"),
                                        (dict(trn1=[1], val1=[1]), "expected val1|expected tst1"), (dict(trn1=[1.5], val1=[], tst1=[]), "holds 1.5; expected whole numbers")])
def test_damaged_splits_are_refused(root, sets, said):
    savemat(root / "datasplits.mat", sets)
    with pytest.raises(ValueError, match=said): read(root)


def test_other_folders_are_not_taken_for_it(tmp_path, root):
    with pytest.raises(FileNotFoundError, match="has no jpg; expected"): read(root / "trimaps")
    (tmp_path / "plain" / "jpg").mkdir(parents=True)
    (tmp_path / "plain" / "jpg" / "holiday.jpg").touch()
    assert not sniff(tmp_path / "plain")
    with pytest.raises(ValueError, match="has no pictures image_0001.jpg to image_1360.jpg"): read(tmp_path / "plain")
    shutil.copytree(root / "jpg", tmp_path / "around" / "17flowers" / "jpg")
    assert sniff(tmp_path / "around") and read(tmp_path / "around").entries[0].path == "17flowers/jpg/image_0001.jpg"
