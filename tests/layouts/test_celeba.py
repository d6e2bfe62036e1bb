"CelebA in the wild: splits, the filter, and lists that are not what they should be"
import shutil

import numpy as np
import pytest
from PIL import Image

from layerbench.data.layouts.celeba import POINTS, SET, make, read

ROWS = {"box": "Anno/list_bbox_celeba.txt", "points": "Anno/list_landmarks_celeba.txt", "split": "Eval/list_eval_partition.txt"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    where = tmp_path_factory.mktemp("celeba")
    make(where, n=20, side=240)
    return where


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))
    shutil.copytree(made, tmp_path / "celeba")
    return tmp_path / "celeba"


def table(root, which, head=2): return {row[0]: tuple(map(int, row[1:])) for row in map(str.split, (root / ROWS[which]).read_text().splitlines()[head:])}


def test_every_field_is_what_the_lists_say(root):
    found, box, points = read(root, every=True), table(root, "box"), table(root, "points")
    assert len(found) == 20 and found.parts == POINTS and (found.fit, found.smooth) == ("stretch", "bilinear")
    for e in found.entries:
        x, y, w, h = box[e.path.removeprefix("img_celeba/")]
        assert e.box == (x, y, x + w, y + h) and all(seen for *_, seen in e.parts)
        assert [v for x, y, _ in e.parts for v in (x, y)] == list(points[e.path.removeprefix("img_celeba/")])
    assert {e.group for e in found.entries} == set("12345")


def test_points_lie_on_what_was_painted(root):
    found = read(root, every=True)
    with found.open() as held:
        for e in found.entries[:6]:
            picture = np.asarray(Image.open(root / e.path).convert("L"))
            for x, y, _ in e.parts[:2]: assert picture[int(y), int(x)] < 90   # an eye is dark
            assert e.box[0] <= min(p[0] for p in e.parts) and e.box[3] >= max(p[1] for p in e.parts)


def test_splits_of_the_papers(root):
    numbers = lambda found, split: {int(e.path[-8:-4]) - 1 for e in found.entries if e.split == split}
    ganseg, mafl, own = read(root, every=True), read(root, "mafl", every=True), read(root, "official", every=True)
    assert numbers(ganseg, "test") == numbers(mafl, "test") == {2, 3, 8, 12, 13, 18}
    assert numbers(ganseg, "train") == {0, 1, 4, 5, 10, 11, 14, 15} and numbers(ganseg, "val") == {6, 7, 16, 17} and numbers(ganseg, "") == {9, 19}
    assert numbers(mafl, "train") == {0, 1, 6, 10, 11, 16} and len(mafl) == 12
    assert numbers(own, "train") == {i for i in range(20) if i % 10 < 6} and numbers(own, "test") == {8, 9, 18, 19}
    with pytest.raises(ValueError, match="protocol is 'other'; expected one of ganseg, mafl, official"): read(root, "other")


def test_faces_below_thirty_percent_are_dropped_and_counted(root):
    found, every, box = read(root), read(root, every=True), table(root, "box")
    def share(e):
        w, h = Image.open(root / e.path).size
        return np.prod(box[e.path[-10:]][2:]) / (w * h)
    assert {e.path for e in found.entries} == {e.path for e in every.entries if share(e) >= .3} and 0 < len(found) < 20
    assert f"{20 - len(found)} pictures not used" in found.notes[0] and not found.left_out


def test_sizes_are_remembered_until_the_set_changes(root, tmp_path, monkeypatch):
    from layerbench.data.layouts import celeba
    before, asked = read(root), []
    monkeypatch.setattr(celeba, "_area", lambda file: asked.append(file) or 10)
    assert read(root).entries == before.entries and not asked
    (root / "img_celeba" / "zz.jpg").touch()
    assert len(read(root)) == 20 and len(asked) == 20                       # ten pixels: every face is large
    (root / "img_celeba" / "zz.jpg").unlink()
    (root / "list_imsize_celeba.txt").write_text("20\nimage_id height width\n" + "".join(f"{i:06d}.jpg 9000 9000\n" for i in range(1, 20)))
    assert len(read(root)) == 1 and len(asked) == 21                        # its list is asked first; one picture is missing there


def test_the_list_of_training_pictures_counts_where_it_is_there(root):
    (root / "MAFL" / "celebA_training.txt").write_text("".join(f"{i + 1:06d}.jpg\n" for i in (0, 1, 2, 4, 9)))
    found = read(root, every=True)
    assert {int(e.path[-8:-4]) - 1 for e in found.entries if e.split == "train"} == {0, 1, 4, 9}   # 2 is MAFL's test
    assert "celebA_training.txt differs" in found.notes[0] and "6 pictures" in found.notes[0]


def test_lists_may_lie_together_and_pictures_in_their_room(root):
    for name in ROWS.values(): (root / name).rename(root / name.split("/")[1])
    (root / "Img").mkdir()
    (root / "img_celeba").rename(root / "Img" / "img_celeba")
    found = read(root.parent, every=True) if (root.rename(root.parent / "CelebA")) else None
    assert len(found) == 20 and found.entries[0].path == "Img/img_celeba/000001.jpg" and found.left_out == {}
    with found.open() as held: assert held(found.entries[0].path)[:2] == b"\xff\xd8"
    assert SET.sniff(root.parent) and not SET.sniff(root.parent / "CelebA" / "Img")


def test_missing_unreadable_and_unlisted_pictures_are_named(root):
    (root / "img_celeba" / "000001.jpg").unlink()
    (root / "img_celeba" / "000002.jpg").write_bytes(b"no picture")
    (root / "img_celeba" / "extra.jpg").write_bytes(b"")
    with open(root / "MAFL" / "testing.txt", "a") as f: f.write("999999.jpg\n")
    found = read(root)
    assert {k[-10:]: v for k, v in found.left_out.items()} == {"000001.jpg": "is listed and is not there", "000002.jpg": "is no picture in a format that can be read",
                                                               "999999.jpg": "is in a list of MAFL, but not in list_bbox_celeba.txt"}
    assert any("extra.jpg" in n for n in found.notes)


@pytest.mark.parametrize("name", ["img_celeba", *ROWS.values(), "MAFL/training.txt"])
def test_what_is_missing_is_named(root, name):
    (root / name).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"has no {name.removeprefix('Anno/').removeprefix('Eval/')}"): read(root)


def spoiled(root, which, change):
    lines = (root / ROWS[which]).read_text().splitlines()
    change(lines)
    (root / ROWS[which]).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("which, change, said", [
    ("box", lambda l: l.pop(), "names 19 pictures and promises 20"), ("box", lambda l: l.__setitem__(4, "000003.jpg 1 2 3"), "line 5 is '000003.jpg 1 2 3'"),
    ("points", lambda l: l.__setitem__(7, l[7][:-30]), "line 8 is"), ("box", lambda l: l.pop(0), "line 1 is"), ("split", lambda l: l.pop(), "has no line for 000020.jpg"),
    ("split", lambda l: l.__setitem__(0, "000001.jpg 7"), "gives 000001.jpg the partition 7"), ("points", lambda l: l.clear(), "line 1 is ''")])
def test_lists_cut_short_or_damaged_are_refused_with_file_and_line(root, which, change, said):
    spoiled(root, which, change)
    with pytest.raises(ValueError, match=said) as told: read(root)
    assert ROWS[which].split("/")[1] in str(told.value)


def test_a_box_of_nothing_is_no_box(root):
    spoiled(root, "box", lambda l: l.__setitem__(2, "000001.jpg 0 0 0 0"))
    assert read(root, every=True).entries[0].box is None
