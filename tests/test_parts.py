"Parts from end to end: a teacher that paints them, its segmenter in a weights file, maps and key points of photographs; auto-encoders in GANSeg's place"
import json

import pytest
import torch
from PIL import Image

from layerbench.codes import Dice
from layerbench.data.puppets import Puppets
from layerbench.method import make, save_weights
from layerbench.segmenter import PartSegmenter, teach
from layerbench.train import Run, reopen


@pytest.mark.parametrize("kind, sizes", [("unet", dict(width=4, depth=1)), ("deeplab", dict(width=4, depth=18))])
def test_a_part_segmenter_survives_its_weights_file(tmp_path, kind, sizes):
    method, images = make("ganseg", "smoke"), Puppets(16).pictures(3).floats()
    taught = PartSegmenter(4, kind, size=16, **sizes).eval()
    taught.load_state_dict({k: v.half() for k, v in taught.state_dict().items()})   # weights files are in half precision
    save_weights(tmp_path / "w.safetensors", method, taught)
    _, again, _ = reopen(tmp_path / "w.safetensors")
    assert (again.about, again.training) == (taught.about, False)
    assert torch.equal(again.parts(images), taught.parts(images)) and torch.equal(again.keypoints(images), taught.keypoints(images))


def test_blended_pictures_are_taught_as_they_are_painted(monkeypatch):
    method, seen = make("ganseg", "smoke"), []
    painted = method.generate(method.space.sample(4, Dice(0)))
    painted.mask[:], painted.parts[:] = .1, .1 / 3
    painted.mask[:, :, :8], painted.parts[:, 0, :8] = .9, .9 - .2 / 3   # an untrained mask is everywhere the same
    monkeypatch.setattr(method, "generate", lambda codes, **view: painted)
    from layerbench import segmenter
    images, target = segmenter.invent_parts(method, 4, Dice(0))
    assert torch.equal(images, painted.image.clamp(-1, 1)) and not torch.allclose(images, torch.lerp(painted.bg, painted.fg, painted.mask), atol=1e-3)
    assert target.shape[1] == 4 and target[:, 1, :8].all() and target[:, 0, 8:].all()
    with pytest.raises(ValueError, match="leave recombine at 0"): segmenter.invent(method, 4, Dice(0), recombine=.5)
    assert teach(method, steps=1, batch=2, width=4, depth=1, progress=False).classes == 4


def test_segment_counts_pixels_of_parts(shell, tmp_path):
    taught = PartSegmenter(4, width=4, depth=1, size=16).eval()
    save_weights(tmp_path / "w.safetensors", make("ganseg", "smoke"), taught)
    Image.new("RGB", (50, 30), "teal").save(tmp_path / "sea.png")
    code, said, _ = shell("segment", tmp_path / "w.safetensors", tmp_path / "sea.png", "--out", tmp_path / "out", "--device", "cpu")
    assert code == 0 and "maps of parts, and keypoints.json" in said
    parts, told = Image.open(tmp_path / "out" / "sea_parts.png"), json.loads((tmp_path / "out" / "keypoints.json").read_text())["sea"]
    counted = parts.histogram()
    assert [p["share"] for p in told["parts"]] == [round(counted[k] / 1500, 4) for k in (1, 2, 3)]


@pytest.mark.parametrize("name", ["ae_points", "ae_masks"])
def test_an_auto_encoder_resumes_to_the_same_numbers(shell, tmp_path, name):
    begin = ("train", "ganseg", "--preset", "smoke", "--set", f"replaced_by={name}", "--data", "puppets", "--n", 32, "--device", "cpu")
    assert shell(*begin, "--steps", 4, "--out", tmp_path / "whole")[0] == 0
    assert shell(*begin, "--steps", 2, "--out", tmp_path / "halves")[0] == 0
    assert shell("train", "--resume", "--steps", 4, "--out", tmp_path / "halves", "--device", "cpu")[0] == 0
    a, b = (Run(tmp_path / k).load()["method"]["nets"] for k in ("whole", "halves"))
    assert set(a) == {"generator", "average", "memory"} and all(torch.equal(v, b[k][n]) for k, net in a.items() for n, v in net.items())
    method = Run(tmp_path / "whole").method()
    assert method.segment_parts(Puppets(16).pictures(3).floats()).shape == (3, 4, 16, 16)
    assert method.segment(method.generate(method.space.sample(3, Dice(0))).image).shape == (3, 1, 16, 16)
