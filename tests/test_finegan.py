"FineGAN as a preset of OneGAN's chapter: sizes, patches beside boxes, who learns from what, the hard-negative tail, keeping and resuming"
import copy
from dataclasses import replace

import pytest
import torch

from layerbench.cli import main
from layerbench.codes import Dice
from layerbench.data.boxes import BoxedBatches
from layerbench.data.sources import open_pictures
from layerbench.method import make, open_weights, save_weights
from layerbench.onegan.finegan import Critic, FineGAN, Painter, Reader, ReducedFineGAN, beside, field, patch_critic
from layerbench.onegan.settings import Settings
from layerbench.train import Run, fabric_for, reopen, train

SMALL = dict(width=8, batch=4, generation=8, fakes=0, reals=0, warm_up=0, hard=4)


@pytest.fixture(scope="module")
def scenes(): return open_pictures("scenes", 12, 72, masks=True)


def begun(preset="smoke,finegan", **changes):
    torch.manual_seed(0)
    method = make("onegan", preset, SMALL | changes)
    method.start(fabric_for("cpu", threads=1))
    return method


def served(method, scenes, seed=0):
    drawn = BoxedBatches(scenes).draw(4, 32, Dice(seed))
    return drawn if method.needs else {"real": drawn["real"]}


@pytest.mark.parametrize("size, width, patches", [(32, 16, (8, 2, 12)), (64, 32, (16, 2, 24)), (128, 64, (34, 4, 24))])
def test_networks_at_every_size(size, width, patches):
    c = Settings(model="finegan", size=size, width=width)
    with torch.device("meta"):   # no memory: the paper's networks are large
        painter, reader, critic, behind = Painter(c), Reader(c, c.parents), Critic(c), patch_critic(c)
        codes = {"fg": torch.empty(2, 100), "bg": torch.empty(2, 100), "parent": torch.empty(2, 20), "child": torch.empty(2, 200), "surroundings": torch.empty(2, 200)}
        painted = painter(codes)
        maps = behind(painted.bg)
        judged, parent, child = critic(painted.image), reader.read(painted.parent), critic.read(painted.child)
    assert painted.bg.shape == painted.parent.shape == painted.child.shape == (2, 3, size, size)
    assert painted.parent_mask.shape == painted.child_mask.shape == (2, 1, size, size)
    assert field(behind) == patches and maps.shape == (2, 1, patches[2], patches[2])
    assert (judged.shape, parent.shape, child.shape) == ((2, 1), (2, 20), (2, 200))
    # counted by hand: from `width` channels at half the side, doubling to 4x4, then half of that
    widths = [width * 2**i for i in range({32: 3, 64: 4, 128: 5}[size])]
    trunk = 16 * 3 * width + sum(16 * a * b + 2 * b for a, b in zip(widths, widths[1:])) + 9 * widths[-1] * widths[-1] // 2 + widths[-1]
    half = widths[-1] // 2
    assert sum(p.numel() for p in critic.trunk.parameters()) == trunk
    assert sum(p.numel() for p in critic.parameters()) == trunk + 9 * half**2 + 2 * half + 16 * half * 200 + 200 + 16 * half + 1
    joined = lambda channels, classes, out: 9 * (channels + classes) * 2 * channels + 4 * channels + 2 * (27 * channels**2 + 6 * channels) + 9 * channels * 2 * out + 4 * out   # a block that is told a class
    assert sum(p.numel() for m in (painter.shape, painter.parent) for p in m.parameters()) == joined(width, 20, width // 2) + 9 * width // 2 * 4
    assert sum(p.numel() for m in (painter.look, painter.child) for p in m.parameters()) == joined(width // 2, 200, width // 4) + 9 * width // 4 * 4


def test_the_painter_leaves_biases_to_its_norms():
    assert [n for n, m in Painter(Settings(size=32, width=8)).named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)) and m.bias is not None] == []


@pytest.mark.parametrize("size", [32, 128])
def test_a_patch_sees_its_field_and_nothing_else(size):
    critic = patch_critic(Settings(size=size, width=4))
    seen, step, count = field(critic)
    x = torch.rand(1, 3, critic.side, critic.side, requires_grad=True)   # of the critic's own side: nothing is resized
    i, j = 2, count - 1
    slope, = torch.autograd.grad(critic(x)[0, 0, i, j], x)
    rows, columns = (slope.abs().sum((0, 1)) > 0).any(1).nonzero()[:, 0], (slope.abs().sum((0, 1)) > 0).any(0).nonzero()[:, 0]
    assert (rows[0], rows[-1] + 1) == (step * i, step * i + seen)
    assert (columns[0], columns[-1] + 1) == (step * j, step * j + seen)


def test_patches_beside_a_box_by_the_intervals_that_they_cover():
    torch.manual_seed(0)
    box = torch.randint(-20, 140, (50, 2)).float()
    box = torch.cat([box, box + torch.randint(1, 90, (50, 2))], 1)
    found = beside(box, 34, 4, 24)
    for (x0, y0, x1, y1), clear in zip(box.tolist(), found[:, 0].tolist()):
        def touches(i, low, high): return 4 * i <= high and 4 * i + 34 >= low
        assert clear == [[float(not (touches(i, y0, y1) and touches(j, x0, x1))) for j in range(24)] for i in range(24)]


def test_layers_compose_to_the_final_picture():
    method = begun()
    codes = method.space.sample(6, Dice(1))
    painted, layers = method.average.module(method.latents(codes)), method.generate(codes)
    assert torch.allclose(layers.image, painted.image, atol=1e-6)
    assert torch.allclose(layers.mask, 1 - (1 - painted.parent_mask) * (1 - painted.child_mask), atol=1e-6)
    assert torch.equal(method.generate(codes, surroundings=3).mask, layers.mask) and not torch.equal(method.generate(codes, surroundings=3).bg, layers.bg)


def moved(method, work):
    "Names of the networks that `work` changes; statistics of batch norms aside"
    before = {k: {n: p.detach().clone() for n, p in net.named_parameters()} for k, net in method.nets.items()}
    work()
    return {f"{k}/{n.split('.')[0]}" for k, net in method.nets.items() for n, p in net.named_parameters() if not torch.equal(p, before[k][n])}


PAINTER = {f"generator/{n}" for n in ("bg_start", "bg_colour", "fg_start", "shape", "look", "parent", "child")}
ROUTES = {  # of each term that the painter pays: which parts of which networks it teaches
    "adv": PAINTER,
    "bg": {"generator/bg_start", "generator/bg_colour"}, "behind": {"generator/bg_start", "generator/bg_colour"},
    "parent": {"generator/fg_start", "generator/shape", "generator/parent", "reader/trunk", "reader/classes"},
    "child": {"generator/fg_start", "generator/shape", "generator/look", "generator/child", "critic/classes"}}


@pytest.mark.parametrize("term", ROUTES)
def test_each_term_teaches_its_networks(scenes, term):
    method = begun()
    codes = method.space.sample(4, Dice(0))
    painted = method.nets["generator"](method.nets["generator"].embed(codes))
    price = method.prices(painted, painted.image, codes)
    assert set(price) == set(ROUTES)
    assert moved(method, lambda: method.update("generator", price[term])) == ROUTES[term]


def test_critics_learn_apart_from_the_painter(scenes):
    method = begun()
    drawn = served(method, scenes)
    painter = method.nets["generator"]
    painted = painter(painter.embed(method.space.sample(4, Dice(0))))
    assert moved(method, lambda: method.step_critics(painted, painted.image, **drawn)) == {"critic/trunk", "critic/judge", "critic_bg/features", "critic_bg/heads"}


def test_the_order_of_updates_and_the_pull_at_masks(scenes):
    method, order = begun(), []
    update = method.update
    method.update = lambda which, loss: (order.append(which), update(which, loss))
    drawn = served(method, scenes)
    twin = copy.deepcopy({k: method.nets[k] for k in ("generator", "critic")})
    found = method.train_step(dice=Dice(5), **drawn)
    assert order == ["critic_bg", "critic", "generator"]
    # the same by a further pass, with the critic as it was when the painter asked it
    twin["critic"].load_state_dict(method.nets["critic"].state_dict() | {n: v for n, v in twin["critic"].state_dict().items() if n.startswith("classes")})
    painted = twin["generator"](twin["generator"].embed(method.space.sample(4, Dice(5))))
    adv = torch.nn.functional.softplus(-twin["critic"](painted.image)).mean()
    slopes = torch.autograd.grad(adv, [painted.parent_mask, painted.child_mask])
    for name, g in zip(("parent", "child"), slopes): assert torch.allclose(found[f"pull/{name}"], 4 * g.flatten(1).norm(dim=1).mean(), rtol=1e-3)


def test_the_tail_learns_from_the_least_visible_classes():
    method, dice = begun(), Dice(7)
    codes = method.hardest(4, dice)
    drawn = method.space.sample(40, Dice(7))
    painter, critic, shares = method.nets["generator"], method.nets["critic"], []
    with torch.no_grad():
        for part in torch.arange(40).split(4):
            some = {k: v[part] for k, v in drawn.items()}
            painted = painter(painter.embed(some))
            shares.append(critic.read(painted.child * painted.child_mask).softmax(1)[torch.arange(4), some["child"]])
    kept = torch.cat(shares).topk(4, largest=False).indices
    assert all(torch.equal(codes[k][codes["child"].argsort()], drawn[k][kept][drawn["child"][kept].argsort()]) for k in ("child", "parent"))
    assert {tuple(x.tolist()) for x in codes["fg"]} == {tuple(x.tolist()) for x in drawn["fg"][kept]}


@pytest.mark.parametrize("preset, kind", [("smoke,finegan", FineGAN), ("smoke,finegan_pi1", ReducedFineGAN)])
def test_a_training_resumes_bit_exactly_in_its_tail(scenes, tmp_path, preset, kind):
    def go(out, **how): return train("onegan", scenes, out, preset, SMALL | dict(ema=.9), device="cpu", threads=1, every=1, look_seconds=1e9, progress=False, **how)
    whole = go(tmp_path / "whole")
    go(tmp_path / "parts", steps=6); parts = go(tmp_path / "parts", resume=True)
    losses = {k: v for k, v in whole.curves().items() if k != "seconds" and "health" not in k}
    assert len(losses["step"]) == 8 and {k: v for k, v in parts.curves().items() if k in losses} == losses
    a, b = (r.load()["method"]["nets"] for r in (whole, parts))
    assert all(torch.equal(a[k][n], b[k][n]) for k in a for n in a[k])
    assert {"pull/parent", "pull/child_logit", "mask/coverage", "mask/gap"} <= set(losses)
    method, *_ = reopen(parts)
    assert type(method) is kind
    save_weights(tmp_path / "w.safetensors", method)
    again, *_ = open_weights(tmp_path / "w.safetensors")
    codes = method.space.sample(3, Dice(0))
    assert type(again) is kind and torch.allclose(again.generate(codes).image, method.generate(codes).image, atol=.02)


def test_the_command_reads_boxes_and_resumes(tmp_path, capsys):
    out = tmp_path / "run"
    small = [f"--set={k}={v}" for k, v in SMALL.items()]
    assert main(["train", "onegan", "--preset", "smoke,finegan", "--n", "8", "--steps", "2", "--device", "cpu", "--threads", "1", "--out", str(out), *small]) in (None, 0)
    assert Run(out).config["data"]["size"] == 72 and Run(out).config["config"]["model"] == "finegan"   # twice what windows are cut from
    assert main(["train", "--resume", "--steps", "3", "--device", "cpu", "--threads", "1", "--out", str(out)]) in (None, 0)
    assert Run(out).curves()["step"][-1] == 3
    assert main(["train", "onegan", "--preset", "smoke,finegan", "--backgrounds", "renders", "--device", "cpu", "--out", str(tmp_path / "other")]) == 2
    assert "onegan with these settings learns without backgrounds" in capsys.readouterr().err


def test_bad_input_is_answered_in_a_sentence(scenes, tmp_path):
    def go(pictures, preset="smoke,finegan", **how): return train("onegan", pictures, tmp_path / "run", preset, SMALL, device="cpu", threads=1, progress=False, **how)
    with pytest.raises(ValueError, match="masks=True"): go(open_pictures("scenes", 4, 72))
    with pytest.raises(ValueError, match="learns without"): go(scenes, backgrounds=scenes)
    with pytest.raises(ValueError, match="no backgrounds were given"): go(scenes, "smoke")
    empty = replace(scenes, masks=torch.zeros_like(scenes.masks))
    with pytest.raises(ValueError, match="no object"): go(empty)
    with pytest.raises(ValueError, match="at most all 8"): make("onegan", "smoke,finegan", SMALL | dict(hard=9))
