"The data command: what there is, how to get it, how to prepare it, whether it is whole"
import functools
import hashlib
import http.server
import os
import shutil
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerbench.data import desk
from layerbench.data.manifest import File
from layerbench.data.sets import sets


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))


def noise(seed=0, mode="RGB", size=(60, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)).convert(mode)


@pytest.fixture
def mine(tmp_path):
    "Five photographs, two masks"
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "masks").mkdir()
    for i in range(5): noise(i).save(tmp_path / "mine" / "images" / f"{i}.jpg")
    for i in range(2): Image.fromarray(np.pad(np.full((10, 60), 255, np.uint8), ((10, 20), (0, 0)))).save(tmp_path / "mine" / "masks" / f"{i}.png")
    return tmp_path / "mine"


@pytest.fixture
def birds(tmp_path, monkeypatch):
    "CUB as its owners would offer it, from a server on this machine: (folder of the archives, what was asked of the server)"
    owner, asked = tmp_path / "owner", []
    sets()["cub"].make(tmp_path / "whole")
    owner.mkdir()
    packed = []
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): asked.append(self.path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(owner)))
    threading.Thread(target=server.serve_forever, args=(.01,), daemon=True).start()
    for inner in sorted(p for p in (tmp_path / "whole").iterdir() if p.is_dir()):
        with tarfile.open(owner / f"{inner.name}.tgz", "w:gz") as tar: tar.add(inner, inner.name)
        raw = (owner / f"{inner.name}.tgz").read_bytes()
        packed.append(File(f"http://127.0.0.1:{server.server_port}/{inner.name}.tgz", f"{inner.name}.tgz", "md5:" + hashlib.md5(raw).hexdigest(), len(raw)))
    monkeypatch.setitem(sets(), "cub", replace(sets()["cub"], files=tuple(packed)))
    yield owner, asked
    server.shutdown()
    server.server_close()


def test_list_names_every_set_and_what_lies_prepared(shell, mine):
    code, out, err = shell("data", "list")
    assert (code, err) == (0, "") and all(f"\n{name} " in out for name in sets())
    assert shell("data", "prepare", "folder", "--root", mine, "--size", 16)[0] == 0
    assert shell("data", "prepare", "folder", "--root", mine, "--size", 24)[0] == 0
    line, = (l for l in shell("data", "list")[1].splitlines() if l.startswith("folder "))
    assert line.endswith("16 px, 24 px")


@pytest.mark.parametrize("name", sets())
def test_describe_says_all_that_is_known(shell, name):
    code, out, err = shell("data", "describe", name)
    one = sets()[name]
    assert (code, err) == (0, "")
    assert all(text in out for text in (one.title, one.about, one.home, one.terms, one.splits, one.masks, one.get, *one.options, *(f.url for f in one.files)))
    assert all(line in out for line in one.tree.splitlines()) and f"layerbench data prepare {name} --root DIR" in out


def test_describe_names_the_published_runs(shell, monkeypatch):
    from layerbench import method
    found = method.chapter("perturbgan")
    monkeypatch.setattr(found, "sets", {"paper-x": "folder,stretch", "paper-y": "other"}, raising=False)
    assert "layerbench train perturbgan --preset paper-x --data folder,stretch:DIR" in (out := shell("data", "describe", "folder")[1]) and "paper-y" not in out


@pytest.mark.parametrize("name", sets())
def test_every_layout_is_known_again_checked_and_prepared(shell, tmp_path, name):
    root = tmp_path / name   # LSUN's databases are told apart by their folders' names
    sets()[name].make(root)
    code, out, err = shell("data", "check", root)
    assert code == 0, out + err
    assert "all of it is usable" in out and (name == "folder" or f"looks like {name}" in out)
    code, out, err = shell("data", "prepare", name, "--root", root, "--size", 16)
    assert code == 0 and f"--data {name}:{root}" in out and "pictures/s" in out, err


def test_archives_that_lie_there_are_unpacked(shell, tmp_path, birds):
    owner, asked = birds
    root = tmp_path / "root"
    shutil.copytree(owner, root)
    code, out, err = shell("data", "prepare", "cub", "--root", root, "--size", 16)
    assert code == 0 and "prepared in" in out and not asked, err
    assert (root / "CUB_200_2011" / "images").is_dir()
    code, out, err = shell("data", "prepare", "cub", "--root", root, "--size", 16)
    assert code == 0 and "was prepared before" in out
    assert "prepared in" in shell("data", "prepare", "cub", "--root", root, "--size", 16, "--again")[1]


def test_nothing_is_fetched_unasked(shell, tmp_path, birds):
    owner, asked = birds
    for root in (tmp_path / "root", tmp_path):
        code, out, err = shell("data", "prepare", "cub", "--root", root)
        assert code == 2 and not asked and len(err.splitlines()) == 1
        assert f"`layerbench data prepare cub --root {root} --download` fetches {len(list(owner.iterdir()))} file" in err
    assert not (tmp_path / "root").exists()


def test_download(shell, tmp_path, birds):
    owner, asked = birds
    code, out, err = shell("data", "prepare", "cub", "--root", tmp_path / "root", "--size", 16, "--download")
    assert code == 0 and sorted(asked) == sorted(f"/{p.name}" for p in owner.iterdir()) and "prepared in" in out, err
    code, out, err = shell("data", "prepare", "cub", "--root", tmp_path / "root", "--size", 16, "--download")
    assert code == 0 and "nothing was downloaded" in out and len(asked) == len(list(owner.iterdir()))


def test_download_that_fails_says_where_to_go(shell, tmp_path, birds):
    next(birds[0].iterdir()).unlink()
    code, out, err = shell("data", "prepare", "cub", "--root", tmp_path / "root", "--download")
    assert code == 2 and "answers 404" in err and f"by hand from {sets()['cub'].home} and put it into {tmp_path / 'root'}" in err.splitlines()[-1]


def test_words_reach_the_manifest(shell, mine):
    out = shell("data", "prepare", "folder", "--root", mine, "--size", 16, "--words", "stretch,first=3")[1]
    assert f"folder,first=3,stretch:{mine} at 16 px: 3 pictures" in out
    assert "was prepared before" in shell("data", "prepare", "folder,First=3", "--root", mine, "--size", 16, "--words", "stretch")[1]
    assert "did you mean 'stretch'" in shell("data", "prepare", "folder", "--root", mine, "--words", "strech")[2]


def test_what_is_left_out_is_named(shell, mine):
    for i in range(7): (mine / "images" / f"cut{i}.jpg").write_bytes((mine / "images" / "0.jpg").read_bytes()[:1000])
    code, out, err = shell("data", "prepare", "folder", "--root", mine, "--size", 16)
    assert code == 0 and "left out or kept without a mask: 7, all in" in out and "images/cut4.jpg is cut short\n  and 2 more" in out
    listed = Path(next(l for l in out.splitlines() if "left_out.csv" in l).rpartition("all in ")[2])
    assert len(listed.read_text().splitlines()) == 8


def test_check_counts_what_photographs_bring_along(shell, mine):
    images, exif = mine / "images", Image.Exif()
    exif[0x0112] = 6
    noise(9, "L").save(images / "grey.png")
    noise(9, "CMYK", (100, 80)).save(images / "print.jpg")
    noise(9, "RGBA").save(images / "clear.png")
    noise(9, size=(30, 20)).save(images / "turned.jpg", exif=exif)
    noise(9, "P").save(images / "moving.gif", save_all=True, append_images=[noise(10, "P")])
    code, out, err = shell("data", "check", mine)
    assert code == 0 and "none of the published sets" in out and "opened 10 pictures and 2 masks" in out
    assert "sizes: 20x30 to 100x80, median 60x40" in out and "6 JPEG" not in out and "7 JPEG, 2 PNG, 1 GIF" in out
    assert "1 greyscale, 1 CMYK, 1 with transparency, 1 turned by EXIF, 1 animated" in out
    assert "masks cover 25% to 25%, median 25%; 0 are empty, 0 full" in out


def test_check_names_every_one_that_cannot_be_read(shell, mine):
    images = mine / "images"
    for i in range(8): (images / f"cut{i}.jpg").write_bytes((images / "0.jpg").read_bytes()[:1000])
    (images / "text.png").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(mine / "masks" / "2.png")
    (mine / "masks" / "3.png").write_bytes(b"no mask")
    code, out, err = shell("data", "check", mine)
    assert code == 1 and "cannot be read: 11" in out and all(f"images/cut{i}.jpg is cut short" in out for i in range(8))
    assert "images/text.png is no picture" in out and "masks/2.png is 9x9, its picture 60x40" in out and "masks/3.png is no picture" in out
    assert "3 pictures are usable as they are" in out


def test_check_reads_what_it_is_told(shell, mine, tmp_path):
    assert f"folder,first=2:{mine}" in shell("data", "check", f"folder,first=2:{mine}")[1]
    with tarfile.open(tmp_path / "mine.tar", "w") as tar: tar.add(mine, "mine")
    code, out, err = shell("data", "check", tmp_path / "mine.tar")
    assert code == 0 and "opened 5 pictures and 2 masks" in out
    assert "opened 5 pictures and 2 masks" in shell("data", "check", shutil.make_archive(str(tmp_path / "mine"), "zip", mine))[1]


def test_a_listed_picture_that_is_missing_is_not_usable(shell, tmp_path):
    sets()["cub"].make(tmp_path / "cub")
    next((tmp_path / "cub" / "CUB_200_2011" / "images").rglob("*.jpg")).unlink()
    code, out, err = shell("data", "check", tmp_path / "cub")
    assert code == 1 and "listed, but cannot be used: 1" in out


@pytest.mark.parametrize("words, said", [
    ("lsit", "there is no thing to do with data 'lsit'; did you mean 'list'?"),
    ("describe cubb", "did you mean 'cub'?"),
    ("prepare cubb --root {here}", "did you mean 'cub'?"),
    ("describe", "`layerbench data describe` of what? name a set"),
    ("check", "name a folder"),
    ("check {here}/gone", "there is no folder {here}/gone"),
    ("check cub:{here}/gone", "there is no folder {here}/gone"),
    ("check cubb:{here}", "did you mean 'cub'?"),
    ("check {here}", "holds no pictures"),
    ("prepare cub", "name the folder with --root"),
    ("prepare folder --root {here}", "holds no pictures"),
    ("prepare folder --root {here} --size 0", "'0' is not a whole number of 1 or more"),
    ("prepare folder --root {here}/new --download", "folder cannot be downloaded by a program"),
    ("list cub", "did you mean `layerbench data describe cub`?"),
    ("check {here} --size 3", "does not take --size"),
    ("list --donwload", "did you mean '--download'")])
def test_bad_words_have_a_sentence(shell, tmp_path, words, said):
    empty = tmp_path / "empty"
    empty.mkdir()
    code, out, err = shell("data", *(w.format(here=empty) for w in words.split()))
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and said.format(here=empty) in err, err
    assert list(empty.iterdir()) == []


def test_the_desk_is_quiet_about_itself_until_asked():
    "`layerbench --help` stays fast: the desk is imported by its command only"
    import subprocess, sys
    code = "import sys\nfrom layerbench.cli import main\ntry: main(['data', '--help'])\nexcept SystemExit: print(sorted({'torch', 'numpy', 'PIL', 'pooch', 'layerbench.data'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ).stdout.endswith("[]\n")
