"Photographs as people really have them: formats, folders, tars and traps (the notebook shows the ordinary cases)"
import io
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerbench.data.layouts.folder import pair
from layerbench.data.manifest import name_of
from layerbench.data.photos import folder, open_photos


def gradient(w, h):
    "A picture whose colours say where a pixel came from"
    x, y = np.meshgrid(np.linspace(0, 255, w), np.linspace(0, 255, h))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def packed(path, mode, **files):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def encoded(picture, kind="png", **options):
    stored = io.BytesIO()
    picture.save(stored, kind, **options)
    return stored.getvalue()


@pytest.mark.parametrize("name, mode", [("a.jpg", "RGB"), ("a.jpeg", "L"), ("a.jpg", "CMYK"), ("a.png", "RGBA"), ("a.png", "P"), ("a.png", "1"), ("a.png", "LA"),
                                        ("a.webp", "RGBA"), ("a.bmp", "RGB"), ("a.tif", "I;16"), ("a.png", "I;16"), ("a.tif", "F"), ("A.PNG", "RGB")])
def test_every_format_and_mode(tmp_path, name, mode):
    grey = Image.new("L", (9, 7), 128)
    {"I;16": lambda: Image.fromarray(np.full((7, 9), 32896, np.uint16)), "1": lambda: grey.convert("1", dither=0)}.get(mode, lambda: grey.convert(mode))().save(tmp_path / name)
    pictures = folder(tmp_path, size=4)
    assert pictures.images.shape == (1, 3, 4, 4)
    assert (pictures.images.float() - (255 if mode == "1" else 128)).abs().max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured_also_where_a_large_jpeg_is_decoded_small(tmp_path, orientation):
    upright = gradient(640, 480)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}   # the transpose that stores an upright picture so that its EXIF turns it back
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    Image.new("1", (640, 480), 1).save(tmp_path / "a_mask.png")   # would be refused if the sizes were compared unturned
    upright.save(tmp_path / "b.png")
    pictures = folder(tmp_path, size=16)
    assert (pictures.images[0].float() - pictures.images[1].float()).abs().max() < 8
    assert folder(tmp_path, size=16, masks="only").names == ["a"]


def test_middle_is_kept_and_masks_stay_with_their_pictures(tmp_path):
    picture, mask = gradient(300, 100), Image.new("L", (300, 100))
    mask.paste(255, (150, 0, 300, 100))
    picture.save(tmp_path / "a.png")
    mask.save(tmp_path / "a_mask.png")
    found = folder(tmp_path, size=50, masks="only")
    assert 84 < found.images[0, 0].float().min() < 90 and 165 < found.images[0, 0].float().max() < 172   # the middle third of red
    assert torch.equal(found.truth()[0, 0], (torch.arange(50) >= 25).float().expand(50, 50))


def test_a_folder_and_its_tars_are_the_same(tmp_path):
    flat = {f"x__p{i}_dot_jpg": encoded(gradient(40 + i, 30), "jpeg") for i in (10, 9, 1)} | {"x__p9_mask_dot_png": encoded(Image.new("1", (49, 30), 1))}
    tars = [folder(packed(tmp_path / f"a.tar{end}", f"w:{kind}", **flat), size=16) for end, kind in (("", ""), (".gz", "gz"), (".xz", "xz"), (".bz2", "bz2"))]
    (tmp_path / "x").mkdir()
    for name, data in flat.items(): (tmp_path / name.replace("__", "/").replace("_dot_", ".")).write_bytes(data)
    one = folder(tmp_path / "x", size=16)
    assert one.names == ["p1", "p9", "p10"]
    assert all(torch.equal(t.images, one.images) for t in tars)


def test_own_size_is_kept_if_shared(tmp_path):
    for name in "ab": gradient(20, 10).save(tmp_path / f"{name}.png")
    assert folder(tmp_path).images.shape == (2, 3, 10, 20)


def test_training_opens_no_mask(tmp_path):
    gradient(20, 20).save(tmp_path / "a.jpg")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"opening this would fail")
    assert folder(tmp_path, size=8).masks is None
    with pytest.raises(ValueError, match="masks/a.png is no picture"): folder(tmp_path, size=8, masks="only")


def test_ignore_masks_cover_every_touched_pixel(tmp_path):
    for room in ("images", "masks", "ignore"): (tmp_path / room).mkdir()
    for name in ("a", "b"):
        gradient(8, 8).save(tmp_path / "images" / f"{name}.jpg")
        Image.new("1", (8, 8), 1).save(tmp_path / "masks" / f"{name}.png")
    dot = Image.new("1", (8, 8))
    dot.putpixel((3, 3), 1)
    dot.save(tmp_path / "ignore" / "a.png")
    ignore = folder(tmp_path, size=4, masks="only").ignore
    assert ignore.dtype == torch.bool and ignore[0].nonzero().tolist() == [[0, 1, 1]] and not ignore[1].any()


def test_a_draw_is_seeded_and_keeps_the_order(tmp_path):
    for i in range(30): Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    draws = [folder(tmp_path, 4, limit=5, seed=s).names for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] == sorted(draws[0], key=int)
    assert folder(tmp_path, 4, limit=3).names == ["0", "1", "2"]


def test_links_pipes_and_hidden_files_are_passed_over(tmp_path):
    gradient(8, 8).save(tmp_path / "a.png")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "._a.png").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "b.png").write_bytes(b"and this")
    assert folder(tmp_path, 4).names == ["a"]


def test_nothing_of_a_tar_reaches_the_disk(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.tar", "w", __escape_dot_png=encoded(gradient(4, 4)), images__a_dot_png=encoded(gradient(4, 4)), **{"../up.png": encoded(gradient(4, 4))})
    before = sorted(tmp_path.rglob("*"))
    assert folder(path, 4).names == ["a"]
    assert sorted(tmp_path.rglob("*")) == before and not (tmp_path.parent / "up.png").exists()


@pytest.mark.parametrize("files, names", [
    (["a.jpg", "a.png", "b.jpg"], [("a", "a.png"), ("b", None)]),                            # by format
    (["a.png", "a_mask.png", "b.png"], [("a", "a_mask.png"), ("b", None)]),                  # by ending
    (["images/a.jpg", "images/a_mask.jpg", "masks/a.png"], [("a", "masks/a.png"), ("a_mask", None)]),  # in images/ all are pictures
    (["s/images/a.jpg", "s/masks/a_mask.png", "t/images/a.jpg"], [("s/a", "s/masks/a_mask.png"), ("t/a", None)]),
    (["a.jpg", "a.png", "masks/a.png"], [("a", "masks/a.png"), ("a", "masks/a.png")]),       # the mask is known: both are pictures
])
def test_pairs(files, names): assert [(name_of(e.path), e.mask) for e in pair(files)] == names


@pytest.mark.parametrize("make, said", [
    (lambda p: p / "gone", "does not exist"),
    (lambda p: p, "holds no pictures: it is empty"),
    (lambda p: (p / "a.heic").write_bytes(b"x") and p, r"only other files \(.heic\)"),
    (lambda p: (p / "a.jpg").write_bytes(encoded(gradient(99, 99), "jpeg")[:400]) and p, "a.jpg is cut short"),
    (lambda p: (p / "a.png").write_bytes(encoded(gradient(99, 99))[:200]) and p, "a.png is cut short"),
    (lambda p: (p / "a.webp").write_bytes(encoded(gradient(99, 99), "webp")[:60]) and p, "none of 1 pictures .* can be used: a.webp"),
    (lambda p: (p / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)) and p, "can be used: a.png"),
    (lambda p: (p / "a.bmp").touch() or p, "a.bmp is empty"),
    (lambda p: (p / "a.tar").write_bytes(b"no tar") and p / "a.tar", "neither a folder nor a tar"),
    (lambda p: (p / "a.tar").write_bytes(packed(p / "b.tar", "w", x_dot_png=os.urandom(99999)).read_bytes()[:60000]) and p / "a.tar", "cut short or damaged"),
    (lambda p: (p / "a.tar").write_bytes(packed(p / "b.tar", "w:gz", x_dot_png=os.urandom(99999)).read_bytes()[:60000]) and p / "a.tar", "cut short or damaged"),
])
def test_sentences(tmp_path, make, said):
    with pytest.raises((ValueError, OSError), match=said) as error: folder(make(tmp_path), size=8)
    assert "\n" not in str(error.value)


def test_bad_files_are_left_out_named_and_counted(tmp_path, capsys):
    for i in range(8): (tmp_path / f"{i}.png").write_bytes(b"no picture")
    gradient(9, 9).save(tmp_path / "good.png")
    found = folder(tmp_path, 8)
    assert (found.names, found.about["left_out"]) == (["good"], 8)
    said = capsys.readouterr().err
    assert "8 of 9 pictures" in said and "4.png is no picture" in said and "5.png" not in said and "and 3 more" in said


def test_a_picture_stays_without_a_mask_that_cannot_be_used(tmp_path, capsys):
    for name in "ab":
        gradient(9, 9).save(tmp_path / f"{name}.jpg")
        Image.new("1", (9, 9), 1).save(tmp_path / f"{name}_mask.png")
    (tmp_path / "b_mask.png").write_bytes(b"no mask")
    assert folder(tmp_path, 8).names == ["a", "b"] and folder(tmp_path, 8, masks="only").names == ["a"]
    assert "b_mask.png is no picture" in capsys.readouterr().err


def test_a_mask_of_another_size_is_named(tmp_path):
    gradient(20, 10).save(tmp_path / "a.jpg")
    Image.new("1", (10, 20)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png is 10x20, its picture 20x10"): folder(tmp_path, 8, masks="only")


@pytest.mark.parametrize("size", [0, -4, 2.5, "64", True])
def test_sizes_are_positive_whole_numbers(tmp_path, size):
    with pytest.raises(ValueError, match="size is .* expected a whole number"): folder(tmp_path, size)


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path):
    header = b"P6 60000 60000 255\n"   # 10 GB of pixels in 19 bytes
    (tmp_path / "bomb.ppm").write_bytes(header)
    with pytest.raises(ValueError, match="bomb.ppm has more pixels than can be read safely"): folder(tmp_path, 8)


PACK = next((p for p in (Path(__file__).resolve().parents[2] / "shared" / "data" / "flowers17_128.tar", Path(__file__).resolve().parents[1] / ".data" / "flowers17_128.tar") if p.is_file()), None)

@pytest.mark.skipif(PACK is None, reason="needs the pack of photographs beside the repository")
def test_the_pack_of_photographs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path))
    train = open_photos(PACK, 36)
    assert len(train) == 1091 and train.stored[1:] == (0, 1091) and train.masks is None and "prepared 1,091 pictures" in capsys.readouterr().err
    began = time.process_time()   # of this process: others may be busy
    again = open_photos(PACK, 36)
    assert time.process_time() - began < 1 and torch.equal(again.images, train.images) and again.about == train.about
    test = open_photos(PACK, 64, split="test", masks=True)
    assert len(test) == 150 and test.stored is None and test.names == folder(PACK, 64, masks="only").names
    assert .12 < test.ignore.float().mean() < .18 and .2 < test.truth().mean() < .35
