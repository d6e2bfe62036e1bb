"Prepared sets: killed, raced, damaged, outdated, too large (the notebook shows the ordinary cases)"
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from layerbench.data import prepared
from layerbench.data.manifest import Entry, columns
from layerbench.data.photos import open_photos
from layerbench.data.prepared import Prepared, find, place_of, prepare
from layerbench.data.sets import described, source_of


@pytest.fixture
def mine(tmp_path, monkeypatch):
    "A folder of twelve pictures, four with masks, and an empty cache"
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))
    described("folder").make(tmp_path / "mine", 12)
    return source_of(tmp_path / "mine")


def left(mine): return sorted(p.name for p in prepared.cache().iterdir() if not p.name.endswith(".lock"))


def test_prepared_and_direct_reading_give_the_same(mine, monkeypatch):
    direct = open_photos(mine, 40, split="test", masks=True)
    prepare(mine.manifest(), 40, progress=False)
    monkeypatch.setattr(prepared, "squares", None)   # nothing may be decoded again
    mapped = open_photos(mine, 40, split="test", masks=True)
    assert torch.equal(direct.images, mapped.images) and torch.equal(direct.masks, mapped.masks) and direct.names == mapped.names
    assert torch.equal(direct.child, mapped.child) and direct.about == mapped.about


def test_a_large_set_is_prepared_by_itself(mine, monkeypatch):
    monkeypatch.setattr("layerbench.data.photos.DIRECT", 8)
    found = open_photos(mine, 24)
    assert found.stored[1:] == (0, 12) and find(mine.name, mine.words, mine.root, 24) is not None and found.masks is None


def test_a_killed_preparation_leaves_nothing_that_looks_finished(mine, tmp_path):
    slow = ("import sys, time; import layerbench.data.prepared as p; real = p.square\n"
            "def slowly(*a): print('one', flush=True); time.sleep(2); return real(*a)\n"
            "p.square = slowly\nfrom layerbench.data.sets import source_of\np.prepare(source_of(sys.argv[1]).manifest(), 32, progress=False)")
    child = subprocess.Popen([sys.executable, "-c", slow, str(mine.root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "one\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert find(mine.name, mine.words, mine.root, 32) is None
    assert [n for n in left(mine) if not n.startswith(".")] == []
    assert len(prepare(mine.manifest(), 32, progress=False)) == 12
    assert [n for n in left(mine) if n.startswith(".")] == []   # what the dead one left is gone


def test_two_processes_prepare_once(mine):
    words = [sys.executable, "-c", "import sys; from layerbench.data.prepared import prepare; from layerbench.data.sets import source_of; print(prepare(source_of(sys.argv[1]).manifest(), 32, progress=False).about)", str(mine.root)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate()[0] for p in both]
    assert all(p.returncode == 0 for p in both) and said[0] == said[1]   # the same seconds: the second has waited


@pytest.mark.parametrize("harm", [
    lambda p: (p / "about.json").write_text((p / "about.json").read_text()[:50]),
    lambda p: (p / "about.json").unlink(),
    lambda p: os.truncate(p / "pictures.npy", 5000),
    lambda p: (p / "pictures.npy").unlink(),
    lambda p: (p / "about.json").write_text(json.dumps({"format": 0})),
])
def test_a_damaged_set_is_made_again(mine, harm):
    first = prepare(mine.manifest(), 32, progress=False)
    expected = first.bytes.clone()
    del first.bytes
    harm(first.path)
    assert find(mine.name, mine.words, mine.root, 32) is None
    assert torch.equal(prepare(mine.manifest(), 32, progress=False).bytes, expected)


def test_words_and_sizes_have_sets_of_their_own(mine):
    from layerbench.data.sets import Source
    stretched = Source("folder", ("stretch",), mine.root)
    paths = {prepare(s.manifest(), size, progress=False).path for s in (mine, stretched) for size in (24, 32)}
    assert len(paths) == 4
    assert find("folder", ("stretch",), mine.root, 24).about["fit"] == "stretch"


def test_rows_lie_split_by_split_and_bad_ones_are_closed_up(mine):
    manifest = mine.manifest()
    entries = [replace(e, split=("test", "train", "val")[i % 3]) for i, e in enumerate(manifest.entries)]
    broken = mine.root / entries[4].path
    broken.write_bytes(b"broken")
    (mine.root / entries[0].path).write_bytes(b"broken")
    made = prepare(replace(manifest, entries=entries), 16, progress=False)
    assert [e.split for e in made.entries] == ["train"] * 3 + ["val"] * 4 + ["test"] * 3
    assert made.bytes.shape == (10, 4, 16, 16) and (made.path / "pictures.npy").stat().st_size == 128 + 10 * 4 * 16 * 16
    from layerbench.data.decoding import square
    for row, e in enumerate(made.entries):
        one = square({"picture": (mine.root / e.path).read_bytes()}, e, 16)
        assert torch.equal(made.bytes[row, :3], one.picture), e.path
    assert set(made.left_out) == {entries[0].path, entries[4].path} and "no picture" in made.left_out[entries[4].path]


def test_nothing_usable_is_an_error_and_leaves_nothing(mine):
    for file in mine.root.rglob("*.jpg"): file.write_bytes(b"broken")
    with pytest.raises(ValueError, match="none of 12 pictures .* is no picture"): prepare(mine.manifest(), 16, progress=False)
    assert left(mine) == []


def test_a_full_disk_is_seen_before_any_work(mine, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(10**9, 10**9, 1000))
    monkeypatch.setattr(prepared, "squares", None)
    with pytest.raises(OSError, match="the disk is full: folder at 512 px needs .* LAYERBENCH_CACHE"): prepare(mine.manifest(), 512, progress=False)
    assert left(mine) == []


def test_odd_pictures_are_read_or_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "odd"
    here.mkdir()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8))
    photo.convert("L").save(here / "grey.jpg")
    photo.convert("CMYK").save(here / "cmyk.jpg")
    photo.convert("RGBA").save(here / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(here / "turned.jpg", exif=exif)
    photo.save(here / "animated.gif", save_all=True, append_images=[photo.rotate(90)] * 3)
    photo.resize((9000, 6000), 0).save(here / "huge.jpg", quality=30)
    Image.new("1", (20_000, 20_000)).save(here / "bomb.png")
    photo.save(here / "cut.jpg")
    (here / "cut.jpg").write_bytes((here / "cut.jpg").read_bytes()[:900])
    (here / "empty.png").touch()
    (here / "text.jpg").write_text("no picture")
    made = prepare(source_of(here).manifest(), 32, progress=False)
    assert [e.path for e in made.entries] == ["alpha.png", "animated.gif", "cmyk.jpg", "grey.jpg", "huge.jpg", "turned.jpg"]
    assert made.left_out == {"bomb.png": "has more pixels than can be read safely", "cut.jpg": "is cut short", "empty.png": "is empty", "text.jpg": "is no picture in a format that can be read"}
    assert made.known["whole"].tolist()[-1] == [60, 80]   # as a viewer shows it


def test_a_second_start_of_200_000_pictures_takes_less_than_a_second(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))
    n, root = 200_000, tmp_path / "large"
    root.mkdir()
    place = place_of("folder", (), root, 36)
    place.mkdir(parents=True)
    with open(place / "pictures.npy", "wb") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (n, 3, 36, 36)})
        f.truncate(f.tell() + n * 3 * 36 * 36)   # a file with a hole: takes no room
    known = columns([Entry(f"{i:06d}.jpg", "train" if i < 150_000 else "test", label=i % 7) for i in range(n)])
    names = np.frombuffer("\0".join(known.pop("names")).encode(), np.uint8)
    np.savez(place / "known.npz", names=names, whole=np.full((n, 2), 100, np.int32), **known)
    (place / "about.json").write_text(json.dumps({"format": prepared.FORMAT, "n": n, "bytes": (place / "pictures.npy").stat().st_size, "root": str(root), "fit": "crop", "left_out": 0, "stamps": {}}))
    began = time.process_time()   # of this process: others may be busy
    found = open_photos(f"folder:{root}", 36)
    assert len(found) == 150_000 and found.stored[1:] == (0, 150_000) and found.images[149_999].sum() == 0
    assert time.process_time() - began < 1
    assert isinstance(find("folder", (), root, 36), Prepared)


@pytest.mark.parametrize("name", ["cub", "taichi", "celeba", "lsun-car", "apc", "clevr6", "dogs"])
def test_the_folder_above_a_set_is_as_good(tmp_path, monkeypatch, name):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))
    inner = {"cub": "CUB_200_2011", "taichi": "taichi", "celeba": "celeba", "lsun-car": "lsun", "apc": "apc", "clevr6": "clevr", "dogs": "dogs"}[name]
    described(name).make(tmp_path / inner, 6)
    from layerbench.data.sets import parsed
    try: manifest = parsed(f"{name}:{tmp_path}").manifest()
    except (ValueError, OSError): return   # refused in a sentence is well, too
    made = prepare(manifest, 16, progress=False)
    assert find(name, (), tmp_path, 16).path == made.path   # found again by the folder that was named
