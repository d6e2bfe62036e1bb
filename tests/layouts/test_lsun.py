"An lmdb of pictures: what is listed, who may open it, what is refused"
import io
import multiprocessing
import os
import shutil
import time

import lmdb
import pytest
from PIL import Image

from layerbench.data.layouts import lsun
from layerbench.data.layouts.lsun import SETS, read


@pytest.fixture(scope="module")
def car(tmp_path_factory):
    where = tmp_path_factory.mktemp("lsun") / "car"
    SETS[0].make(where, n=8)
    return where


def test_keys_in_order_and_every_picture_opens(car):
    found = read(car)
    with lmdb.open(str(car), readonly=True, lock=False) as env, env.begin() as look: stored = {k.decode(): v for k, v in look.cursor()}
    assert [e.path for e in found.entries] == sorted(stored) and len(found) == 8 and not found.notes
    assert {(e.split, e.mask, e.label) for e in found.entries} == {("", None, None)}
    with found.open() as held:
        kinds = [Image.open(io.BytesIO(held(e.path))).format for e in found.entries]
        assert all(held(e.path) == stored[e.path] for e in found.entries)
        with pytest.raises(FileNotFoundError, match="has no picture 00"): held("00")
    assert sorted(kinds) == ["JPEG"] * 2 + ["WEBP"] * 6


def test_the_first_ones_are_counted_and_none_is_called_all(car):
    some = read(car, first=3)
    assert [e.path for e in some.entries] == [e.path for e in read(car).entries[:3]] and "first 3 of 8" in some.notes[0]
    assert len(read(car, first=0)) == 8
    with pytest.raises(ValueError, match="first is -1; expected"): read(car, first=-1)


def test_the_folder_its_parent_and_its_file_are_the_same(car):
    assert read(car).entries == read(car.parent).entries == read(car / "data.mdb").entries
    assert [s.name for s in SETS if s.sniff(car.parent)] == ["lsun-car"] == [s.name for s in SETS if s.sniff(car)]
    assert "nothing inside an lmdb says which category" in SETS[3].read(car).notes[0]
    with pytest.raises(FileNotFoundError, match="expected the folder `bird` that bird.zip unpacks to"): SETS[3].read(car.parent)


def test_nothing_is_written_beside_it(car, tmp_path):
    shutil.copy(car / "data.mdb", tmp_path / "data.mdb")
    before = os.stat(tmp_path / "data.mdb").st_mtime_ns
    found = read(tmp_path)
    with found.open() as held: held(found.entries[0].path)
    assert os.listdir(tmp_path) == ["data.mdb"] and os.stat(tmp_path / "data.mdb").st_mtime_ns == before


def test_opened_twice_and_closed_after_the_last(car):
    found = read(car)
    with found.open() as one:
        with found.open() as two: assert one(found.entries[1].path) == two(found.entries[1].path)
        assert one(found.entries[2].path) and len(read(car)) == 8
    assert not lsun._environments
    lmdb.open(str(car), readonly=True, lock=False).close()   # it would say that it is open


def _sizes(manifest, place, queue):
    with manifest.open() as held: queue.put((place, [len(held(e.path)) for e in manifest.entries]))


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_worker_processes_read_while_the_parent_has_it_open(car, how):
    found, context = read(car), multiprocessing.get_context(how)
    with found.open() as held:
        sizes = [len(held(e.path)) for e in found.entries]
        queue = context.Queue()
        workers = [context.Process(target=_sizes, args=(found, i, queue)) for i in range(2)]
        for w in workers: w.start()
        assert sorted(queue.get(timeout=120) for _ in workers) == [(0, sizes), (1, sizes)]
        for w in workers: w.join()
        assert len(held(found.entries[0].path)) == sizes[0]


@pytest.mark.parametrize("spoil, said", [(lambda f: os.truncate(f, os.path.getsize(f) // 2), "is cut short: "), (lambda f: os.truncate(f, 0), "is no lmdb"),
                                         (lambda f: f.write_bytes(b"something else" * 999), "is no lmdb")])
def test_a_damaged_database_is_refused_and_kills_nobody(car, tmp_path, spoil, said):
    where = tmp_path / "car"
    shutil.copytree(car, where)
    spoil(where / "data.mdb")
    with pytest.raises(ValueError, match=said): read(where)


def test_an_empty_database_and_keys_that_are_no_names(tmp_path):
    with lmdb.open(str(tmp_path)) as env: pass
    with pytest.raises(ValueError, match="holds no pictures"): read(tmp_path)
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as into: into.put(b"\xff\xfe", b"")
    with pytest.raises(ValueError, match="keys that are no names"): read(tmp_path)


def test_a_hundred_thousand_keys_are_listed_in_a_second(tmp_path):
    with lmdb.open(str(tmp_path), map_size=2 ** 28) as env, env.begin(write=True) as into:
        for i in range(120_000): into.put(f"{i:040x}".encode(), bytes(100), append=True)
    began = time.process_time()
    assert len(read(tmp_path)) == 100_000
    assert time.process_time() - began < 1
