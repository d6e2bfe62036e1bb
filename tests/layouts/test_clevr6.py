"CLEVR with masks: records, counts of objects, streams that end early"
import gzip
import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image
from tfrecord.example_pb2 import BytesList, Example, Feature, Features, FloatList
from tfrecord.reader import tfrecord_iterator

from layerbench.data.layouts import clevr6
from layerbench.data.layouts.clevr6 import SET, index, read, write_record

NAME = "clevr_with_masks_train.tfrecords"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    where = tmp_path_factory.mktemp("clevr")
    clevr6.make(where, n=8)
    return where


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / NAME).write_bytes((made / NAME).read_bytes())
    return tmp_path


def others(path):
    "The same records, by the framing of another library, and unpacked whole"
    for data in tfrecord_iterator(str(path), compression_type="gzip"):
        known = Example.FromString(bytes(data)).features.feature
        yield {"image": b"".join(known["image"].bytes_list.value), "mask": b"".join(known["mask"].bytes_list.value), "visibility": sum(known["visibility"].float_list.value)}


def test_pictures_and_masks_are_those_of_another_reader(root):
    found, theirs = read(root, every=True), list(others(root / NAME))
    assert len(found) == len(theirs) == 8 and [e.path for e in found.entries] == [f"scene-{i:06d}" for i in range(8)]
    with found.open() as held:
        for e, record in zip(found.entries, theirs):
            picture, mask = (np.asarray(Image.open(io.BytesIO(held(name)))) for name in (e.path, e.mask))
            assert picture.tobytes() == record["image"] and picture.shape == (240, 320, 3)
            masks = np.frombuffer(record["mask"], np.uint8).reshape(11, 240, 320)
            assert np.array_equal(mask, 255 - masks[0]) and 0 < (mask > 0).mean() < .9     # whatever is not background


def test_six_objects_at_most(root):
    found, theirs = read(root), list(others(root / NAME))
    few = [f"scene-{i:06d}" for i, r in enumerate(theirs) if r["visibility"] - 1 <= 6]
    assert [e.path for e in found.entries] == few and len(few) == 6 and "2 scenes with more than six objects" in found.notes[1]


def test_the_split_goes_by_scenes_of_the_whole_file(root, monkeypatch):
    assert [e.split for e in read(root, every=True).entries] == ["train"] * 5 + ["val"] * 2 + ["test"]    # 70 to 15 to 15 of 8
    starts, objects = list(range(100_000)), [3 + i % 8 for i in range(100_000)]
    monkeypatch.setattr(clevr6, "remembered", lambda *_: {"starts": starts, "objects": objects, "whole": True, "flaw": ""})
    found = read(root)
    at = {s: [int(e.path[-6:]) for e in found.entries if e.split == s] for s in ("train", "val", "test")}
    assert max(at["train"]) < 70_000 <= min(at["val"]) and max(at["val"]) < 85_000 <= min(at["test"]) and sum(map(len, at.values())) == 50_000


def test_compressed_or_not_one_string_or_a_million(root, tmp_path):
    before, plain = read(root), tmp_path / "plain" / NAME
    plain.parent.mkdir()
    with gzip.open(root / NAME) as packed, open(plain, "wb") as out:
        while data := clevr6.record(packed):
            record = Example.FromString(data)
            for k in ("image", "mask"):
                joined = b"".join(record.features.feature[k].bytes_list.value)
                record.features.feature[k].CopyFrom(Feature(bytes_list=BytesList(value=[joined])))
            write_record(out, record.SerializeToString())
    after = read(plain)
    assert after.entries == before.entries and read(plain.parent).entries == before.entries and SET.sniff(plain.parent)
    with before.open() as one, after.open() as two: assert all(one(n) == two(n) for e in before.entries[:3] for n in (e.path, e.mask))


def test_backwards_in_another_process_and_by_two_at_once(root):
    found = pickle.loads(pickle.dumps(read(root)))
    with found.open() as one, found.open() as two:
        forward = [one(e.mask) for e in found.entries]
        assert [two(e.mask) for e in found.entries[::-1]] == forward[::-1]
        with pytest.raises(FileNotFoundError, match="has no scene-999999"): one("scene-999999")


def test_the_pass_is_remembered_until_the_file_changes(root, monkeypatch):
    passes = []
    monkeypatch.setattr(clevr6, "index", lambda *a: passes.append(a) or index(*a))
    before = read(root).entries
    assert read(root).entries == before and len(passes) == 1
    assert len(read(root, first=2)) <= 2 and len(passes) == 2
    assert all(e.split == "train" for e in read(root, first=3).entries)     # of the whole file, not of these three
    os.utime(root / NAME, ns=(1, 1))
    assert read(root).entries == before and len(passes) == 4


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_cut_short_is_used_as_far_as_it_goes(root, packed):
    whole = (root / NAME).read_bytes() if packed else gzip.decompress((root / NAME).read_bytes())
    (root / NAME).write_bytes(whole[:len(whole) * 2 // 3])
    found = read(root, every=True)
    assert 3 <= len(found) <= 6 and f"cut short after {len(found)} whole scenes" in found.notes[0] and all(e.split == "train" for e in found.entries)
    with found.open() as held: assert held(found.entries[-1].mask)
    (root / NAME).write_bytes(whole[:500])
    with pytest.raises(ValueError, match="is cut short; expected records of CLEVR"): read(root)


@pytest.mark.parametrize("content, said", [(b"", "is empty"), (b"something else" * 99, "is damaged"), (gzip.compress(b"something else" * 99), "is damaged"), (b"\x1f\x8bxx" * 99, "is damaged")])
def test_other_files_are_refused(root, content, said):
    (root / NAME).write_bytes(content)
    with pytest.raises(ValueError, match=said): read(root)


def test_damage_in_the_middle_ends_the_set_there(root):
    whole = bytearray((root / NAME).read_bytes())
    whole[len(whole) // 2:len(whole) // 2 + 64] = bytes(64)
    (root / NAME).write_bytes(whole)
    found = read(root, every=True)
    assert 1 <= len(found) < 8 and "after" in found.notes[0]


@pytest.mark.parametrize("keys, said", [({"image": b"x"}, "has no mask, visibility in its records"), ({"image": b"x", "mask": b"y", "visibility": [1., 1.]}, "counts 2 visible things")])
def test_records_of_another_set_are_refused(root, keys, said):
    with open(root / NAME, "wb") as f:
        write_record(f, Example(features=Features(feature={k: Feature(bytes_list=BytesList(value=[v])) if isinstance(v, bytes) else Feature(float_list=FloatList(value=v)) for k, v in keys.items()})).SerializeToString())
    with pytest.raises(ValueError, match=said): read(root)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"has no {NAME}"): read(tmp_path)
    assert not SET.sniff(tmp_path)
