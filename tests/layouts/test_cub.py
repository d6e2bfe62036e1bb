"CUB-200-2011: every field of what was made, and everything that copies of it lack"
import shutil

import numpy as np
import pytest
from PIL import Image

from layerbench.data.decoding import square
from layerbench.data.layouts.cub import PARTS, SET, make, read, sniff
from layerbench.data.painted import painted
from layerbench.data.lists import NOT_THERE


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    where = tmp_path_factory.mktemp("cub") / "set"
    make(where, 7, 3)
    return where


@pytest.fixture
def root(made_once, tmp_path): return shutil.copytree(made_once, tmp_path / "set")


def lists(root, name): return root / "CUB_200_2011" / name


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_field(root):
    birds, made = read(root), sorted(painted("bird", 7, 3), key=lambda b: b.kind)
    assert (birds.name, birds.mask_rule, len(birds), birds.left_out) == ("cub", "grey", 7, {})
    assert birds.classes == ("Blue Plain Bird", "Blue Spotted Bird", "Scarlet Plain Bird", "Scarlet Spotted Bird") and birds.parts == PARTS
    with birds.open() as file:
        for i, (entry, bird) in enumerate(zip(birds.entries, made)):
            assert entry.label == bird.kind and entry.box == bird.box and entry.split == ("val" if i == 5 else "train")
            assert f"/{bird.kind + 1:03d}." in entry.path and entry.path.endswith(f"_{1001 + i}.jpg")
            seen = square({"picture": file(entry.path), "mask": file(entry.mask)}, entry, None, birds.mask_rule, "stretch")
            assert seen.whole == bird.picture.size and not seen.flaws
            assert (seen.mask[0].numpy() == np.asarray(bird.mask)).all()   # also those that are stored with four channels
            named = dict(zip(birds.parts, entry.parts))
            x, y, visible = bird.points["tail"]
            assert named["tail"] == ((round(x, 1), round(y, 1), True) if visible else (0, 0, False)) and named["nape"] == (0, 0, False)
            right = bird.points["beak"][0] > bird.points["body"][0]
            assert named["right wing" if right else "left wing"][2] == bird.points["wing"][2] and not named["left wing" if right else "right wing"][2]
    assert Image.open(root / birds.entries[4].mask).mode == "RGBA"


def test_masks_lie_beside_or_inside_and_either_folder_may_be_named(root):
    top = root / "CUB_200_2011"
    def masks(named):
        birds = read(named)
        with birds.open() as file: assert all(file(e.path) and file(e.mask) for e in birds.entries)
        return birds.counts()["mask"]
    assert masks(root) == masks(top) == 7
    shutil.move(root / "segmentations", top / "segmentations")
    assert masks(root) == masks(top) == 7 and sniff(root) and sniff(top)
    shutil.rmtree(top / "segmentations")
    bare = read(root)
    assert "mask" not in bare.counts() and "segmentations.tgz" in " ".join(bare.notes)


def test_splits(root):
    assert [e.split for e in read(root, "official").entries] == ["train", "test"] * 3 + ["train"]
    drawn = read(root, **{SET.options["drawn"][0]: SET.options["drawn"][1]})
    assert {e.split for e in drawn.entries} == {"train", "test"} and "drawn by us" in drawn.notes[0] and drawn.entries == read(root, "drawn").entries
    lists(root, "train_val_test_split.txt").unlink()
    bare = read(root)
    assert bare.counts()["no split"] == 7 and "ReDO" in bare.notes[0] and "`official`" in bare.notes[0] and "`drawn`" in bare.notes[0]
    with pytest.raises(ValueError, match="official"): read(root, "offical")


def test_drawn_split_has_the_published_proportions(tmp_path):
    make(tmp_path, 1, 0)
    name, many = (lists(tmp_path, "images.txt").read_text().split()[1]), range(1, 1179)
    for file, line in (("images", "{} " + name), ("image_class_labels", "{} 1"), ("bounding_boxes", "{} 0 0 9 9"), ("train_test_split", "{} 1")):
        lists(tmp_path, f"{file}.txt").write_text("".join(line.format(i) + "\n" for i in many))
    shutil.rmtree(lists(tmp_path, "parts"))
    drawn = read(tmp_path, "drawn")
    assert {k: drawn.counts()[k] for k in ("train", "val", "test")} == {"train": 999, "val": 79, "test": 100}
    assert "pictures have no parts" in " ".join(drawn.notes)


def test_pictures_that_are_missing_or_not_listed(root):
    birds = read(root)
    gone, bare, extra = birds.entries[0].path, birds.entries[1], root / "CUB_200_2011" / "images" / "more.jpg"
    (root / gone).unlink(), (root / bare.mask).unlink(), extra.write_bytes(b"")
    after = read(root)
    assert after.left_out == {gone: NOT_THERE} and [e.path for e in after.entries] == [e.path for e in birds.entries[1:]]
    assert after.entries[0].mask is None and "5 of 6 pictures have a mask" in after.notes
    assert any("1 picture on disk that no list names" in note and "more.jpg" in note for note in after.notes)


@pytest.mark.parametrize("missing", ["images.txt", "image_class_labels.txt", "classes.txt", "bounding_boxes.txt", "train_test_split.txt", "images"])
def test_what_makes_the_layout_must_be_there(root, missing):
    path = lists(root, missing)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not sniff(root)
    with pytest.raises(FileNotFoundError, match=f"has no {missing}; expected"): read(root)


@pytest.mark.parametrize("file, old, new, said", [
    ("images.txt", "_1007.jpg", "_10", r"images.txt, line 7 is .*<id> <class folder>/<file>.jpg"),
    ("images.txt", "\n2 ", "\n1 ", "images.txt has two lines for 1"),
    ("bounding_boxes.txt", "\n2 ", "\n2 nan ", "bounding_boxes.txt, line 2 is"),
    ("bounding_boxes.txt", "1 ", "1 x", "bounding_boxes.txt, line 1 is"),
    ("image_class_labels.txt", "7 4", "", r"image_class_labels.txt has no line for 7 \(1 of the 7 in images.txt are missing\)"),
    ("image_class_labels.txt", "7 ", "8 ", "image_class_labels.txt has no line for 7"),
    ("image_class_labels.txt", "1 1", "1 9", "gives picture 1 the class 9; classes.txt has 1 to 4"),
    ("classes.txt", "2 002.", "5 002.", "classes.txt has the classes 1 to 5 in 4 lines"),
    ("train_val_test_split.txt", "6 1", "6 3", "train_val_test_split.txt, line 6 is '6 3'; expected `<id> 0|1|2`"),
    ("train_val_test_split.txt", "7 0", "7 0\n8 0", "train_val_test_split.txt has a line for 8, which"),
    ("parts/part_locs.txt", "7 15 ", "7 16 ", "has part 16 of picture 7; images.txt has 7 pictures and parts.txt 15 parts"),
    ("parts/part_locs.txt", "7 15 ", "7 14 ", "has part 14 of picture 7 twice"),
    ("parts/parts.txt", "15 throat\n", "", "has part 15 of picture 1"),
])
def test_lists_that_are_cut_short_or_damaged_are_refused(root, file, old, new, said):
    change(lists(root, file), old, new)
    with pytest.raises(ValueError, match=said): read(root)


def test_a_list_that_ends_between_two_lines(root):
    path = lists(root, "parts/part_locs.txt")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(ValueError, match="13 of the 15 parts of picture 7: it is cut short"): read(root)
    lines = lists(root, "images.txt").read_text().splitlines(keepends=True)
    lists(root, "images.txt").write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match="has a line for 7, which .*images.txt does not have"): read(root)


def test_no_folder_and_no_cub(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected images.txt"): read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"): read(tmp_path / "file")
    assert not sniff(tmp_path) and not sniff(tmp_path / "file") and not sniff(tmp_path / "nowhere")


def test_windows_line_ends_and_stamps(root):
    for path in (root / "CUB_200_2011").glob("*.txt"): path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    birds = read(root)
    assert birds.entries == read(root).entries and birds.counts()["box"] == 7
    assert {"CUB_200_2011/images.txt", "segmentations", "segmentations/001.Blue_Plain_Bird", "CUB_200_2011/images/004.Scarlet_Spotted_Bird"} <= set(birds.stamps)
