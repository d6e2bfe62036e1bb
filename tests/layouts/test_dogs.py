"Stanford Dogs: every field of what was made, several boxes, broken annotations, lists that contradict each other"
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from layerbench.data.decoding import square
from layerbench.data.layouts.dogs import MARKS, SET, make, read, sniff
from layerbench.data.painted import cells, painted
from layerbench.data.lists import NOT_THERE


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    where = tmp_path_factory.mktemp("dogs") / "set"
    make(where, 7, 1)
    return where


@pytest.fixture
def root(made_once, tmp_path): return shutil.copytree(made_once, tmp_path / "set")


def rewrite(path, **columns): savemat(path, {k: v for k, v in loadmat(path).items() if not k.startswith("__")} | columns)


def test_every_field(root):
    dogs, made = read(root), sorted(painted("bear", 7, 1), key=lambda b: b.kind)
    assert (dogs.name, dogs.mask_rule, len(dogs), dogs.left_out) == ("dogs", "grey", 7, {})
    assert dogs.classes == ("Crimson bear", "Crimson patched bear", "Purple bear", "Purple patched bear")
    known = {e.path: e for e in dogs.entries}
    with dogs.open() as file:
        for i, bear in enumerate(made):
            breed = {0: "n09000001-Crimson_bear", 1: "n09000002-Crimson_patched_bear", 2: "n09000003-Purple_bear", 3: "n09000004-Purple_patched_bear"}[bear.kind]
            entry = known[f"Images/{breed}/{breed[:9]}_{7 + 5 * i}.jpg"]
            assert (entry.split, entry.label, entry.box) == ("test" if i % 3 == 2 else "train", bear.kind, bear.box)
            seen = square({"picture": file(entry.path), "mask": file(entry.mask)}, entry, None, dogs.mask_rule, "stretch")
            assert seen.whole == bear.picture.size and (seen.mask[0].numpy() == np.asarray(bear.mask)).all()
    assert Image.open(root / dogs.entries[1].path).format == "PNG" and dogs.entries[1].path.endswith(".jpg")
    assert "1 picture with several boxes: the largest was taken" in dogs.notes and any("agreement" in note for note in dogs.notes)


def test_the_folder_around_it(root):
    inner = root / "anything"
    inner.mkdir()
    for path in [p for p in root.iterdir() if p != inner]: shutil.move(path, inner)
    dogs = read(root)
    assert sniff(root) and dogs.counts() == read(inner).counts()
    with dogs.open() as file: assert all(file(e.path) and file(e.mask) for e in dogs.entries)


@pytest.mark.parametrize("text", ["", "<annotation><object><bndbox><xmin>3", "<annotation><object><bndbox><xmin>9</xmin><ymin>1</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>",
                                  "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>", "<annotation></annotation>"])
def test_an_annotation_that_says_nothing_costs_the_box_only(root, text):
    path = read(root).entries[0].path
    (root / path.replace("Images", "Annotation").removesuffix(".jpg")).write_text(text)
    dogs = read(root)
    assert len(dogs) == 7 and dogs.entries[0].box is None and dogs.counts()["box"] == 6
    assert any(note.startswith("1 picture without a box") for note in dogs.notes)


def test_without_annotations_and_masks(root):
    shutil.rmtree(root / "Annotation"), shutil.rmtree(root / "masks")
    dogs = read(root)
    assert "box" not in dogs.counts() and "mask" not in dogs.counts()
    assert any("annotation.tar" in note for note in dogs.notes) and any("none are published" in note for note in dogs.notes)


def test_pictures_that_are_missing_or_not_listed(root):
    gone = read(root).entries[2].path
    (root / gone).unlink()
    (root / "Images" / "n09000001-Crimson_bear" / "n09000001_999.jpg").touch()
    dogs = read(root)
    assert dogs.left_out == {gone: NOT_THERE} and len(dogs) == 6 and any("1 picture on disk that no list names" in note for note in dogs.notes)


@pytest.mark.parametrize("missing", MARKS)
def test_what_makes_the_layout_must_be_there(root, missing):
    shutil.rmtree(root / missing) if missing == "Images" else (root / missing).unlink()
    assert not sniff(root)
    with pytest.raises(FileNotFoundError, match=f"has no {missing}; expected"): read(root)


def test_lists_that_are_damaged_are_refused(root):
    path = root / "train_list.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="train_list.mat cannot be read as a MATLAB file"): read(root)
    path.write_bytes(whole)
    rewrite(path, labels=[[1], [1]])
    with pytest.raises(ValueError, match="train_list.mat has 5 files and 2 labels"): read(root)
    path.write_bytes(whole)
    rewrite(path, labels=[[1], [2], [2], [2], [4]])
    with pytest.raises(ValueError, match="expected one breed for each class"): read(root)
    path.write_bytes(whole)
    rewrite(path, labels=[[0], [1], [2], [3], [4]])
    with pytest.raises(ValueError, match="classes count from 1"): read(root)
    path.write_bytes(whole)
    tested = read(root).only("test").entries[0]
    rewrite(path, file_list=cells([tested.path.removeprefix("Images/")]), labels=[[tested.label + 1]])
    with pytest.raises(ValueError, match=r"test_list.mat lists .*, which another line puts elsewhere \(train, class \d\); expected each picture once"): read(root)



def test_squeezed_lists_and_one_picture(tmp_path, root):
    before = read(root)
    for name in ("train_list.mat", "test_list.mat"):
        kept = loadmat(root / name, squeeze_me=True)
        savemat(root / name, {k: kept[k] for k in ("file_list", "labels")})
    assert read(root).entries == before.entries
    make(tmp_path / "one", 1, 0)
    assert read(tmp_path / "one").counts()["train"] == 1


def test_downloads_have_checksums():
    assert [f.name for f in SET.files] == ["images.tar", "annotation.tar", "lists.tar"] and all(f.checksum.startswith("md5:") and f.url.endswith(f.name) for f in SET.files)
