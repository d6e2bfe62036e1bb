"A second feed: what a chapter that needs object-free pictures is given, keeps and resumes"
import json
import sys

import pytest
import torch
from PIL import Image

import layerbench.chapters
from layerbench.data.backgrounds import open_backgrounds
from layerbench.measure.speed import pace
from layerbench.train import Run, train

CHAPTER = '''
from dataclasses import dataclass
import torch
from layerbench.codes import CodeSpace, Normal
from layerbench.layers import Layers
from layerbench.method import Method

@dataclass
class Config:
    size:int=16      # side in pixels
    crop:float=1.125 # room for crops
    flip:float=.5    # so that the dice are asked as well
    pause:int=5      # every so many steps no picture is asked for

class TwoTints(Method):
    "Learns the mean colour of pictures and of backgrounds"
    name, Config, presets, space, needs = "two_tints", Config, {"cpu": {}}, CodeSpace(Normal("z", 2)), ("backgrounds",)
    length = 400
    def __init__(self, config):
        super().__init__(config)
        self.nets["tints"], self.turns = torch.nn.Linear(1, 6), 0
    @property
    def size(self): return self.config.size
    def latents(self, codes): return codes
    @torch.no_grad()
    def paint(self, latents):
        n = len(latents["z"])
        fg, bg = self.nets["tints"].bias.tanh().view(2, 1, 3, 1, 1).expand(2, n, 3, self.size, self.size)
        return Layers(bg, fg, torch.full((n, 1, self.size, self.size), .5))
    def start(self, fabric): self.optimisers["tints"] = torch.optim.Adam(self.nets["tints"].parameters(), .05)
    def demand(self): return 0 if (self.turns + 1) % self.config.pause == 0 else 8, self.size
    def train_step(self, real, dice, backgrounds):
        self.turns += 1
        if real is None: return {"d/none": torch.tensor(float(backgrounds is None))}
        assert real.shape == backgrounds.shape == (8, 3, self.size, self.size)
        self.seen += len(real)
        wanted = torch.cat([x.mean((0, 2, 3)) for x in (real, backgrounds)])
        loss = (self.nets["tints"].bias.tanh() - wanted).square().sum()
        self.optimisers["tints"].zero_grad(); loss.backward(); self.optimisers["tints"].step()
        return {"d/fit": loss.detach(), "d/real": wanted[:3].mean(), "d/backgrounds": wanted[3:].mean()}
    def state(self): return super().state() | {"turns": self.turns}
    def load_state(self, state): super().load_state(state); self.turns = state["turns"]
'''


@pytest.fixture
def two_tints(tmp_path, monkeypatch):
    "A chapter for this test alone"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "two_tints.py").write_text(CHAPTER)
    monkeypatch.setattr(layerbench.chapters, "__path__", [*layerbench.chapters.__path__, str(tmp_path / "more")])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield "two_tints"
    sys.modules.pop("layerbench.chapters.two_tints", None)


def go(out, data, steps, **how):
    pictures, backgrounds = data
    return train("two_tints", pictures, out, steps=steps, backgrounds=backgrounds, device="cpu", every=1, look_seconds=1e9, progress=False, **how)


@pytest.fixture
def data(): return open_backgrounds("scenes", 40, 18)


def told(run): return {k: v for k, v in run.curves().items() if k.startswith("d/")}


def test_a_resumed_run_goes_on_in_both_feeds(two_tints, data, tmp_path):
    whole = go(tmp_path / "whole", data, 12)
    half = go(tmp_path / "half", data, 7)
    assert half.load()["served"] == half.load()["further"]["backgrounds"] == 6 * 8   # the fifth step asks for none
    half = go(tmp_path / "half", data, 12, resume=True)
    assert told(half) == told(whole)
    assert told(whole)["d/none"][4] == 1. and None not in told(whole)["d/backgrounds"][:4]
    a, b = (r.load() for r in (half, whole))
    assert a["further"] == b["further"] == {"backgrounds": 80}
    assert all(torch.equal(a["dice"][k], b["dice"][k]) for k in a["dice"])


def test_backgrounds_come_from_their_own_pictures(two_tints, tmp_path):
    pictures, backgrounds = open_backgrounds("scenes", 40, 18)
    pictures.images.fill_(255)
    backgrounds.images.fill_(0)
    rows = told(go(tmp_path / "run", (pictures, backgrounds), 3))
    assert rows["d/real"] == [1., 1., 1.] and rows["d/backgrounds"] == [-1., -1., -1.]


def test_a_checkpoint_that_knows_one_feed_still_loads(two_tints, data, tmp_path):
    run = go(tmp_path / "run", data, 3)
    state = run.load()
    del state["further"]
    torch.save(state, run.checkpoint)
    assert len(go(tmp_path / "run", data, 4, resume=True).curves()["step"]) == 4


def test_what_the_backgrounds_were_is_kept_and_kept_to(two_tints, data, tmp_path):
    run = go(tmp_path / "run", data, 2)
    assert run.config["backgrounds"] == {"kind": "renders", "source": "scenes", "seed": 0, "n": 16, "size": 18, "first": 40}
    other = open_backgrounds("scenes", 40, 18, kind="patches")
    with pytest.raises(ValueError, match="cannot be resumed with other settings .backgrounds was .'kind': 'renders'.*'kind': 'patches'"): go(tmp_path / "run", other, 3, resume=True)
    assert len(run.curves()["step"]) == 2


def test_none_given_and_none_needed(two_tints, data, tmp_path):
    with pytest.raises(ValueError, match="two_tints learns from real pictures and backgrounds, and no backgrounds were given"): go(tmp_path / "run", (data[0], None), 2)
    with pytest.raises(ValueError, match="backgrounds were given and perturbgan learns without"):
        train("perturbgan", data[0], tmp_path / "run", preset="smoke", steps=1, backgrounds=data[1], device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_timing_feeds_both(two_tints):
    assert pace("two_tints", "cpu", {"pause": 1000}, seconds=.01, device="cpu")["batch"] == 8


def test_the_command_takes_renders_patches_or_a_folder(two_tints, shell, tmp_path):
    def run(out, *more): return shell("train", two_tints, "--n", 40, "--steps", 2, "--out", tmp_path / out, "--device", "cpu", *more)
    def kept(out): return json.loads((tmp_path / out / "config.json").read_text())["backgrounds"]
    assert run("usual")[0] == 0 and kept("usual")["kind"] == "renders"
    assert run("cut", "--backgrounds", "patches")[0] == 0 and kept("cut")["kind"] == "patches" and kept("cut")["of"]["first"] == 40
    walls = tmp_path / "walls"
    walls.mkdir()
    for i in range(4): Image.new("RGB", (40, 30), (50 * i, 90, 90)).save(walls / f"w{i}.png")
    assert run("own", "--backgrounds", walls)[0] == 0 and kept("own")["kind"] == str(walls) and kept("own")["n"] == 4
    for out in ("usual", "cut", "own"):   # nothing need be said again
        code, said, err = shell("train", "--resume", "--out", tmp_path / out, "--steps", 4, "--device", "cpu")
        assert (code, "4 steps" in said) == (0, True), err
    assert Run(tmp_path / "cut").load()["further"]["backgrounds"] == 32
    code, _, err = shell("train", "--resume", "--out", tmp_path / "cut", "--backgrounds", "renders", "--device", "cpu")
    assert code == 2 and "backgrounds was 'patches', now 'renders'" in err


@pytest.mark.parametrize("words, said", [
    (("two_tints", "--backgrounds", "patchs"), "did you mean 'patches'"),
    (("two_tints", "--data", "HERE"), "holds no masks"),
    (("two_tints", "--data", "HERE", "--backgrounds", "renders"), "only scenes can be rendered"),
    (("two_tints", "--data", "HERE", "--backgrounds", "HERE"), "is the data itself"),
    (("perturbgan", "--preset", "smoke", "--backgrounds", "renders"), "perturbgan learns without backgrounds; leave out --backgrounds renders")])
def test_what_cannot_be_is_refused_in_a_sentence(two_tints, shell, tmp_path, words, said):
    here = tmp_path / "here"
    here.mkdir()
    for i in range(3): Image.new("RGB", (40, 30), (50 * i, 90, 90)).save(here / f"w{i}.png")
    code, _, err = shell("train", *[here if w == "HERE" else w for w in words], "--n", 9, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 2 and said in err and err.count("\n") == 1 and not (tmp_path / "run").exists(), err
