"Stanford Cars: boxes that count from 1, test labels that may be missing, structs in every nesting"
import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from layerbench.data.decoding import square
from layerbench.data.layouts.cars import FIELDS, MARKS, SET, make, read, sniff
from layerbench.data.painted import cells, painted, structs
from layerbench.data.lists import NOT_THERE


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    where = tmp_path_factory.mktemp("cars") / "set"
    make(where, 7, 2)
    return where


@pytest.fixture
def root(made_once, tmp_path): return shutil.copytree(made_once, tmp_path / "set")


def annotation(**changed): return {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 10, "bbox_y2": 10, "class": 1, "fname": "00001.jpg"} | changed


def test_every_field(root):
    cars, made = read(root), painted("car", 7, 2)
    assert (cars.name, cars.mask_rule, len(cars), cars.left_out) == ("cars", "grey", 7, {})
    assert cars.classes == ("Red Coupe 2012", "Red Banded Coupe 2012", "Yellow Coupe 2009", "Yellow Banded Coupe 2009")
    known, count = {e.path: e for e in cars.entries}, {"train": 0, "test": 0}
    with cars.open() as file:
        for i, car in enumerate(made):
            split = "test" if i % 3 == 2 else "train"
            count[split] += 1
            entry = known[f"cars_{split}/{count[split]:05d}.jpg"]
            assert (entry.split, entry.label, entry.box) == (split, car.kind, car.box)   # from 0, the end just beyond: as painted
            seen = square({"picture": file(entry.path), "mask": file(entry.mask)}, entry, None, cars.mask_rule, "stretch")
            assert seen.whole == car.picture.size and (seen.mask[0].numpy() == np.asarray(car.mask)).all()


def test_boxes_count_from_1_and_small_numbers_do_not_wrap(root):
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": structs([annotation(bbox_x1=np.uint8(1), bbox_x2=np.uint16(500), **{"class": np.uint8(1)})], *FIELDS)})
    assert read(root).entries[0].box == (0, 0, 500, 10) and read(root).entries[0].label == 0


def test_labels_of_test_pictures_in_three_states(root):
    cars = read(root)
    shutil.move(root / "cars_test_annos_withlabels.mat", root / "devkit")
    assert read(root).entries == cars.entries
    (root / "devkit" / "cars_test_annos_withlabels.mat").unlink()
    bare = read(root)
    assert [e.label for e in bare.only("test").entries] == [None, None] and [e.box for e in bare.entries] == [e.box for e in cars.entries]
    assert any("test pictures have no classes" in note for note in bare.notes)
    (root / "devkit" / "cars_test_annos.mat").unlink()
    with pytest.raises(FileNotFoundError, match="has no cars_test_annos_withlabels.mat and no devkit/cars_test_annos.mat; expected one of them"): read(root)


def test_squeezed_files_read_alike(root):
    cars = read(root)
    for path in [*root.glob("*.mat"), *root.glob("devkit/*.mat")]:
        kept = loadmat(path, squeeze_me=True)
        savemat(path, {k: v for k, v in kept.items() if not k.startswith("__")})
    assert read(root).entries == cars.entries and read(root).classes == cars.classes


def test_a_cell_of_structs_reads_alike(root):
    path, cars = root / "devkit" / "cars_train_annos.mat", read(root)
    rows = loadmat(path)["annotations"]
    several = np.empty((1, rows.shape[1]), object)
    for i in range(rows.shape[1]): several[0, i] = rows[:, i:i + 1]
    savemat(path, {"annotations": several})
    assert read(root).entries == cars.entries


@pytest.mark.parametrize("rows, fields, said", [
    ([annotation(**{"class": 5})], FIELDS, "gives 00001.jpg the class 5; cars_meta.mat has 4 classes"),
    ([annotation(), annotation()], FIELDS, "has 00001.jpg twice"),
    ([annotation()], [f for f in FIELDS if f != "class"], "has the fields bbox_x1, bbox_y1, bbox_x2, bbox_y2, fname; expected class"),
    ([annotation(bbox_x1=1.5)], FIELDS, "holds 1.5; expected whole numbers"),
    ([annotation(bbox_x1=[])], FIELDS, "record 1 of annotations in .* has 0 values for bbox_x1"),
    ([annotation(fname=3)], FIELDS, "has 3 for fname; expected a string"),
])
def test_damaged_lists_are_refused(root, rows, fields, said):
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": structs(rows, *fields)})
    with pytest.raises(ValueError, match=said): read(root)


def test_something_else_under_the_right_name(root):
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": cells(["a"])})
    with pytest.raises(ValueError, match="annotations in .* holds no records; expected the fields"): read(root)
    savemat(root / "devkit" / "cars_train_annos.mat", {"other": 1})
    with pytest.raises(ValueError, match="has the variables other; expected annotations"): read(root)
    (root / "devkit" / "cars_train_annos.mat").write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(ValueError, match="cannot be read as a MATLAB file"): read(root)


@pytest.mark.parametrize("missing", MARKS)
def test_what_makes_the_layout_must_be_there(root, missing):
    shutil.rmtree(root / missing) if (root / missing).is_dir() else (root / missing).unlink()
    assert not sniff(root)
    with pytest.raises(FileNotFoundError, match=f"has no {missing}; expected"): read(root)


def test_missing_pictures_no_masks_and_the_folder_around_it(root):
    (root / "cars_test" / "00001.jpg").unlink(), (root / "cars_train" / "99999.jpg").touch(), shutil.rmtree(root / "masks")
    inner = root / "stanford_cars"
    inner.mkdir()
    for path in [p for p in root.iterdir() if p != inner]: shutil.move(path, inner)
    cars = read(root)
    assert cars.left_out == {"stanford_cars/cars_test/00001.jpg": NOT_THERE} and len(cars) == 6 and "mask" not in cars.counts()
    assert any("none are published" in note for note in cars.notes) and any("1 picture on disk" in note for note in cars.notes)
    with cars.open() as file: assert all(file(e.path) for e in cars.entries)


def test_nothing_is_offered_for_download_and_one_picture_is_a_set(tmp_path):
    assert not SET.files and "cars_test_annos_withlabels.mat" in SET.get
    make(tmp_path, 1, 0)
    assert read(tmp_path).counts()["train"] == 1
