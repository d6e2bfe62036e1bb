"Archives by strangers: read in place, unpacked wholly or not at all, never outside"
import errno
import io
import os
import shutil
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from layerbench.data import archives
from layerbench.data.archives import shelf, unpack

NOISE = os.urandom(40_000)


def tarred(path, *members, how="w"):
    with tarfile.open(path, how) as tar:
        for name, data in members:   # bytes, or (type, what it links to)
            info = tarfile.TarInfo(name)
            info.mode = 0o6777
            if isinstance(data, bytes): info.size = len(data)
            else: info.type, info.linkname = data
            tar.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return path


def zipped(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data, *mode in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.compress_type, info.external_attr = name, zipfile.ZIP_DEFLATED, (mode or [stat.S_IFREG | 0o6777])[0] << 16
            file.writestr(info, data)
    return path


def everything(where): return sorted(p.relative_to(where).as_posix() for p in where.rglob("*"))


@pytest.fixture
def room(tmp_path):
    "A folder to unpack into, inside one that must not change"
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "keep.txt").write_text("mine")
    return SimpleNamespace(top=tmp_path, into=tmp_path / "into", packed=tmp_path / "packed")


def refused(room, archive, said, kind=ValueError):
    before = everything(room.top)
    with pytest.raises(kind, match=said) as caught: unpack(archive, room.into, progress=False)
    assert everything(room.top) == before and (room.top / "victim" / "keep.txt").read_text() == "mine"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending, how", [("tar", "w"), ("tar.gz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz"), ("zip", None)])
def test_every_kind_of_archive_gives_the_same_files(room, ending, how):
    members = [("birds/a.jpg", NOISE), ("./birds/deep/er/b.txt", b"b"), ("list.txt", b"1 a.jpg")]
    archive = room.top / f"birds.{ending}"
    if how: tarred(archive, *members, how=how)
    else: zipped(archive, *members)
    assert unpack(archive, room.into, progress=False) == [room.into / "birds", room.into / "list.txt"]
    assert everything(room.into) == ["birds", "birds/a.jpg", "birds/deep", "birds/deep/er", "birds/deep/er/b.txt", "list.txt"]
    assert (room.into / "birds/a.jpg").read_bytes() == NOISE
    assert not os.stat(room.into / "birds/a.jpg").st_mode & 0o7111   # neither setuid nor executable, whatever the archive says
    with shelf(archive) as (names, read):
        assert names == ["birds/a.jpg", "birds/deep/er/b.txt", "list.txt"] and read("birds/a.jpg") == NOISE


@pytest.mark.parametrize("members, said", [
    ([("fine.txt", b"1"), ("{top}/victim/keep.txt", b"evil")], "outside of the folder"),
    ([("../victim/keep.txt", b"evil")], "outside of the folder"),
    ([("a/b/../../../victim/keep.txt", b"evil")], "outside of the folder"),
    ([("a", (tarfile.SYMTYPE, "../../victim")), ("a/keep.txt", b"evil")], "outside of the folder|is a link"),
    ([("a", (tarfile.SYMTYPE, "{top}/victim")), ("fine.txt", b"")], "is a link to .*outside"),
    ([("d/e", (tarfile.SYMTYPE, ".")), ("f", (tarfile.SYMTYPE, "d/e/../..")), ("f/victim/keep.txt", b"evil")], "is a link|cannot be written"),
    ([("a", (tarfile.LNKTYPE, "../../victim/keep.txt")), ("a", b"evil")], "is a link to .*outside"),
    ([("a", (tarfile.LNKTYPE, "{top}/victim/keep.txt")), ("a", b"evil")], "is a link to .*outside"),
    ([("a", (tarfile.LNKTYPE, "missing.txt")), ("b", b"1")], "no file of the archive"),
    ([("null", (tarfile.CHRTYPE, ""))], "is a device"),
    ([("disk", (tarfile.BLKTYPE, ""))], "is a device"),
    ([("pipe", (tarfile.FIFOTYPE, ""))], "is a pipe"),
    ([("a", b"1"), ("a/b", b"2")], "cannot be written"),
    ([("folder", (tarfile.DIRTYPE, ""))], "holds no files")])
def test_an_evil_tar_writes_nothing(room, members, said):
    def fill(x): return x.format(top=room.top) if isinstance(x, str) else tuple(map(fill, x)) if isinstance(x, tuple) else x
    filled = [tuple(map(fill, m)) for m in members]
    refused(room, tarred(room.top / "evil.tar", *filled), said)


@pytest.mark.parametrize("members, said", [
    ([("fine.txt", b"1"), ("{top}/victim/keep.txt", b"evil")], "outside of the folder"),
    ([("../victim/keep.txt", b"evil")], "outside of the folder"),
    ([("a\\..\\..\\victim\\keep.txt", b"evil")], "outside of the folder"),
    ([("C:/victim/keep.txt", b"evil")], "outside of the folder"),
    ([("a", b"../victim", stat.S_IFLNK | 0o777), ("a/keep.txt", b"evil")], "is a link to .*outside|cannot be written"),
    ([("a", b"/etc/passwd", stat.S_IFLNK | 0o777)], "is a link to .*outside"), ([], "holds no files")])
def test_an_evil_zip_writes_nothing(room, members, said):
    refused(room, zipped(room.top / "evil.zip", *[(m[0].format(top=room.top), *m[1:]) for m in members]), said)


def test_a_link_to_a_file_of_the_archive_becomes_a_copy(room):
    unpack(tarred(room.top / "a.tar", ("x/soft", (tarfile.SYMTYPE, "../y")), ("y", b"why"), ("hard", (tarfile.LNKTYPE, "y"))), room.into, progress=False)
    zipped(room.top / "b.zip", ("z/soft", b"../w", stat.S_IFLNK | 0o777), ("w", b"double you"))
    unpack(room.top / "b.zip", room.into, progress=False)
    for name, held in (("x/soft", b"why"), ("hard", b"why"), ("z/soft", b"double you")):
        assert (room.into / name).read_bytes() == held and not (room.into / name).is_symlink() and os.stat(room.into / name).st_nlink == 1


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_a_bomb_is_refused_with_its_numbers(room, monkeypatch, ending):
    "A thousandth of what the limit is in earnest"
    monkeypatch.setattr(archives, "SMALL", 2 ** 20)
    zeros, few = bytes(900_000), bytes(100_000)
    members = [("a", zeros), ("b", zeros), ("c", zeros)]
    make = (lambda p, *m: tarred(p, *m, how="w:gz")) if ending == "tar.gz" else zipped
    bomb = make(room.top / f"bomb.{ending}", *members)
    assert bomb.stat().st_size * archives.RATIO < 2_700_000
    refused(room, bomb, r"brings it to [0-9.]+ MiB, from [0-9.]+ KiB packed; .* more than 200 times")
    assert unpack(make(room.top / f"small.{ending}", ("a", few)), room.into, progress=False)                       # as dense, but small
    assert unpack(make(room.top / f"honest.{ending}", *members, ("d", NOISE)), room.top / "other", progress=False)  # as large, but not as dense


def test_a_bomb_in_earnest_is_refused_by_its_claim(room):
    "Two gigabytes of zeros, of which none is written"
    archive = room.top / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open("zeros", "w", force_zip64=True) as out:
        out.write(bytes(2 ** 20))
    raw = archive.read_bytes()
    claim = (2 ** 20).to_bytes(4, "little")
    archive.write_bytes(raw[:-100] + raw[-100:].replace(claim, (2 ** 31).to_bytes(4, "little")))   # the directory lies at the end
    refused(room, archive, "brings it to 2.0 GiB")


def test_a_member_that_is_larger_than_it_claims(room):
    archive = zipped(room.top / "liar.zip", ("a.png", NOISE))
    raw, claim = archive.read_bytes(), len(NOISE).to_bytes(4, "little")
    assert raw.count(claim) == 2
    archive.write_bytes(raw.replace(claim, (100).to_bytes(4, "little")))
    refused(room, archive, "'a.png' is damaged")
    with shelf(archive) as (names, read), pytest.raises(ValueError, match="is damaged"): read(names[0])


def test_an_encrypted_zip_says_so(room):
    archive = zipped(room.top / "locked.zip", ("a.png", NOISE))
    raw = bytearray(archive.read_bytes())
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)): raw[raw.index(signature) + at] |= 1
    archive.write_bytes(raw)
    refused(room, archive, "'a.png' is encrypted")
    with shelf(archive) as (names, read), pytest.raises(ValueError, match="is encrypted"): read(names[0])


def test_an_unknown_packing_says_so(room):
    archive = zipped(room.top / "deflate64.zip", ("a.png", NOISE))
    raw = bytearray(archive.read_bytes())
    for signature, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)): raw[raw.index(signature) + at] = 9
    archive.write_bytes(raw)
    refused(room, archive, "'a.png' is packed in a way that cannot be read")


@pytest.mark.parametrize("share", [.2, .5, .9, .999])
@pytest.mark.parametrize("how", ["w", "w:gz", "w:xz", "zip"])
def test_what_is_cut_short_is_refused(room, how, share):
    members = [(f"{i}.png", NOISE) for i in range(4)]
    whole = zipped(room.packed, *members) if how == "zip" else tarred(room.packed, *members, how=how)
    raw = whole.read_bytes()
    if how == "w" and share == .999: pytest.skip("what is missing here is padding")
    whole.write_bytes(raw[:int(len(raw) * share)])
    refused(room, whole, "cut short or damaged|cannot be read|neither a folder nor a tar")


def test_flipped_bits_are_noticed(room):
    for how, said in (("zip", "is damaged"), ("w:gz", "damaged|cannot be read")):
        archive = zipped(room.packed, ("a", NOISE)) if how == "zip" else tarred(room.packed, ("a", NOISE), how=how)
        raw = bytearray(archive.read_bytes())
        raw[len(raw) // 2] ^= 16
        archive.write_bytes(raw)
        refused(room, archive, said)


def test_a_full_disk_is_said_before_anything_is_written(room, monkeypatch):
    archive = tarred(room.top / "a.tar", ("small", b"1"), ("large", NOISE))
    monkeypatch.setattr(shutil, "disk_usage", lambda where: SimpleNamespace(free=1000))
    refused(room, archive, r"the disk is full \('large' needs 39.1 KiB, and 1000 bytes are free\)", OSError)


def test_a_disk_that_fills_up_meanwhile(room, monkeypatch):
    archive = tarred(room.top / "a.tar", ("small", b"1"), ("large", NOISE))
    write = archives._write
    def full(member, path, step):
        write(member, path, step)
        if member.name == "large": raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(archives, "_write", full)
    refused(room, archive, "the disk is full", OSError)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_unpacking_leaves_nothing(room, monkeypatch, stop):
    archive, write = zipped(room.top / "a.zip", ("x/1", b"1"), ("x/2", NOISE), ("x/3", b"3")), archives._write
    def interrupted(member, path, step):
        write(member, path, step)
        if member.name == "x/2": raise stop
    with monkeypatch.context() as patch:
        patch.setattr(archives, "_write", interrupted)
        before = everything(room.top)
        with pytest.raises((stop, ValueError)): unpack(archive, room.into, progress=False)
        assert everything(room.top) == before
    assert unpack(archive, room.into, progress=False) == [room.into / "x"]


def test_what_a_killed_process_left_is_swept_away(room):
    (room.into / ".a.zip.partial" / "x").mkdir(parents=True)
    (room.into / ".a.zip.partial" / "old").write_text("half")
    unpack(zipped(room.top / "a.zip", ("x/1", b"1")), room.into, progress=False)
    assert everything(room.into) == ["x", "x/1"]


def test_files_of_the_users_are_kept(room):
    archive = zipped(room.top / "a.zip", ("x/1", b"new"), ("x/2", b"2"), ("y", b"y"))
    (room.into / "x").mkdir(parents=True)
    (room.into / "x/2").write_bytes(b"2")
    (room.into / "x/own").write_bytes(b"own")
    unpack(archive, room.into, progress=False)                  # joins what is there and agrees
    assert everything(room.into) == ["x", "x/1", "x/2", "x/own", "y"]
    (room.into / "x/1").write_bytes(b"edited")
    (room.into / "y").unlink()
    refused(room, archive, "x/1 is already there and differs")  # and y is not put back either
    assert (room.into / "x/1").read_bytes() == b"edited"
    (room.into / "x/1").unlink()
    (room.into / "x/1").mkdir()
    refused(room, archive, "x/1 is already there and differs")


def test_what_is_no_archive(room):
    with pytest.raises(FileNotFoundError, match="no archive"): unpack(room.top / "gone.zip", room.into)
    room.packed.write_bytes(b"<html>no such file</html>")
    refused(room, room.packed, "neither a folder nor a tar or zip")
    with pytest.raises(ValueError, match="is no folder"): unpack(zipped(room.top / "a.zip", ("x", b"1")), room.packed)
