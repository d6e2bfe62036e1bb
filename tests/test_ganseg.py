"GANSeg: the acceptance checks of its specification, who learns in which step and how often, points and masks, edits, resume, every switch"
import copy
import io
import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from layerbench.chapters.ganseg import GANSeg, concentration, fakes, shortfall, strayed, update_critic, update_generator
from layerbench.codes import Dice
from layerbench.data.puppets import Puppets
from layerbench.ganseg import evidence as readings
from layerbench.ganseg.equivariance import drag, layer, posed, residual, settled, slim, varied, worst
from layerbench.ganseg.evidence import LIMITS, alarms, evidence, made_curves
from layerbench.ganseg.networks import Generator
from layerbench.ganseg.points import centres, edit, heatmaps, least_area, pixel_grid, scales
from layerbench.ganseg.settings import Settings
from layerbench.method import make, open_weights, save_weights
from layerbench.segmenter import classes_of, label_map
from layerbench.train import Run, fabric_for, train

QUIET = 10**6
SCALES = ("cone", "gauss_std", "gauss_paper", "gauss_radvar")


@pytest.fixture(scope="module", autouse=True)
def few():
    "Detectors look at fewer samples than they do in earnest: they are called often here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "SAMPLES", 16)
        yield


def tiny(seed=0, at=0, precision="32-true", preset="smoke", **changes):
    "A small model before iteration `at`, dice, and real pictures"
    torch.manual_seed(seed)
    method = make("ganseg", preset, dict(evidence=QUIET) | changes)
    method.start(fabric_for("cpu", precision, threads=1))
    method.seen = at * method.config.batch
    return SimpleNamespace(method=method, dice=Dice(seed), real=torch.rand(method.config.batch, 3, method.size, method.size, generator=torch.Generator().manual_seed(seed)) * 2 - 1)


def step(t, n=1): return [t.method.train_step(t.real, t.dice) for _ in range(n)]


def same(a, b):
    "Nested states, to the last bit"
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


def kept(method): return {k: copy.deepcopy(net.state_dict()) for k, net in method.nets.items()}


def moved(before, now): return {k for k in before if not same(before[k], now[k])}


def told_losses(t, monkeypatch, n):
    "Steps, and the whole loss that each network was updated by"
    found, update = [], t.method.update
    monkeypatch.setattr(t.method, "update", lambda which, loss: (found.append((which, float(loss.detach()))), update(which, loss))[1])
    return step(t, n), found


# --- equivariance (all of the specification's section 8 is in nbs/ganseg/equivariance)

@pytest.fixture(scope="module", params=[((16, 32), 8, 4), ((16, 16, 32), 8, 0)], ids=str)
def net(request):
    sizes, margin, last = request.param
    torch.manual_seed(0)
    return settled(Generator(slim(sizes, margin=margin, last_margin=last)))


def test_masks_foreground_background_and_picture_move_with_the_points(net):
    told = posed(net)
    assert worst(net, told, (1, -3)) < 1e-10
    for part in ("foreground", "background", "image"): assert worst(net, told, (1,), part, clear=True) < 1e-10, part


def test_what_should_break_equivariance_does(net):
    told = posed(net)
    assert residual(varied(net, margin=0, last_margin=0), told).nan_to_num().max() > .1
    assert .01 < residual(varied(net, grid_mode="corner"), told).nan_to_num().max() < .2
    assert residual(net, told, live=True).nan_to_num().max() > 1e-3


def test_a_narrow_last_margin_shows_the_same_picture():
    torch.manual_seed(0)
    net = settled(Generator(slim((16, 32), margin=8)))
    told = posed(net, 3)
    for part in ("masks", "foreground", "background", "image"): assert torch.allclose(layer(net, told, part), layer(varied(net, last_margin=4), told, part), atol=1e-10, rtol=0), part


def test_residual_wants_whole_pixels(net):
    with pytest.raises(ValueError, match="expected a whole number below 32"): residual(net, posed(net), .2)


# --- losses

def test_concentration_by_hand():
    grid, centre = pixel_grid(2), torch.zeros(1, 1, 2)   # pixels at a half either way
    whole = torch.ones(1, 1, 2, 2)
    assert concentration(whole, centre, grid) == pytest.approx(.5, abs=1e-5) == concentration(.1 * whole, centre, grid)   # of a share: how much mask there is does not matter
    one = torch.zeros(1, 1, 2, 2); one[0, 0, 1, 1] = 1
    assert concentration(one, centre + .5, grid) == pytest.approx(0, abs=1e-6) and concentration(one, centre - .5, grid) == pytest.approx(2, abs=1e-5)
    both = torch.cat([one, whole], 1)   # a mean over parts, not a sum
    assert concentration(both, torch.tensor([[[-.5, -.5], [0., 0.]]]), grid) == pytest.approx(1.25, abs=1e-5)


def test_shortfall_by_hand():
    masks = torch.zeros(2, 2, 32, 32)
    masks[0, 0, :2, :2] = 1; masks[0, 1, :4, :4] = 1; masks[1] = 1
    assert shortfall(masks, torch.full((2, 2), 10.)) == pytest.approx((10 - 4) * 16 / 2)   # the second is larger, the other picture's are; pixels count 16-fold at a quarter of 128
    assert shortfall(masks[1:], torch.full((1, 2), 1024.)) == 0


def test_neither_points_nor_masks_are_detached():
    t = tiny()
    _, points, parts = fakes(t.method, 4, t.dice)
    masks = t.method.nets["generator"].visible(parts.masks)[:, :-1]
    for loss in (concentration(masks, centres(points), pixel_grid(16)), shortfall(masks, least_area(points, scales(points), 16) + 256)):
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, (points, masks), retain_graph=True))


@pytest.mark.parametrize("preset", ["smoke", "cpu", "puppets32"])
def test_at_first_no_mask_is_too_small(preset):
    torch.manual_seed(0)
    m = make("ganseg", preset)
    g, c = m.nets["generator"], m.config
    with torch.no_grad():
        points, looks = g.points_from(torch.randn(8, c.noise)), g.looks_from(torch.randn(8, c.noise))
        masks = g.train().visible(g.masks(points, looks).masks)[:, :-1]
    assert shortfall(masks, least_area(points, g.scale(points), c.size)) == 0


def test_20_iterations_are_finite():
    t = tiny(evidence=5)
    losses = step(t, 20)
    assert t.method.done and all(v.isfinite() for found in losses for v in found.values()) and losses[0]["g/area"] == 0
    assert [i for i, found in enumerate(losses) if "evidence/dead" in found] == [0, 5, 10, 15, 19]


def test_strayed_parts_keep_their_shape_and_their_points_do_not_learn():
    t = tiny(stray=.3, parts=4, batch=32)
    _, points, _ = fakes(t.method, 32, t.dice)
    away, parts = strayed(t.method, points, t.dice)
    went = (centres(away) - centres(points.detach())).norm(dim=2)
    assert torch.allclose(scales(away), scales(points.detach()), atol=1e-6)
    assert .3 < (went > 1e-6).float().mean() < .7 and centres(away).abs().max() <= .9 + 1e-6
    assert .2 < went[went > 1e-6].mean() < .55 and not away.requires_grad and parts.masks.requires_grad   # a plane's normal of .3 is .38 long on average


def test_stray_is_paid_with_the_regularisers_and_otherwise_changes_nothing():
    names = [{k for k in found if k.endswith("_strayed")} for found in step(tiny(stray=.3), 4)]
    assert names == [{"g/con_strayed", "g/area_strayed"}, set()] * 2
    a, b = tiny(), tiny(stray=0.)
    assert same(step(a, 3), step(b, 3)) and same(a.dice.state(), b.dice.state()) and not any("strayed" in k for found in step(a) for k in found)


# --- who learns, and how often

def test_each_step_moves_its_own_networks():
    t = tiny()
    m, painted = t.method, fakes(t.method, 4, t.dice)
    before = kept(m)
    update_critic(m, t.real, painted[0])
    assert moved(before, kept(m)) == {"critic"}   # batch statistics included
    assert all(p.grad is None for p in m.nets["generator"].parameters())
    before = kept(m)
    update_generator(m, *painted)
    assert moved(before, kept(m)) == {"generator"} and all(p.requires_grad for p in m.nets["critic"].parameters())   # frozen for that step only


def test_all_of_the_generator_learns():
    t = tiny()
    before = {k: p.detach().clone() for k, p in t.method.nets["generator"].named_parameters()}
    step(t, 2)
    assert [k for k, p in t.method.nets["generator"].named_parameters() if torch.equal(p, before[k])] == []


def test_two_draws_unless_fakes_are_shared(monkeypatch):
    drawn = []
    whole = Dice.normal
    monkeypatch.setattr(Dice, "normal", lambda self, *a, **k: (drawn.append(1), whole(self, *a, **k))[1])
    counts = []
    for shared in (False, True):
        drawn.clear()
        step(tiny(at=1, shared_fakes=shared))   # detectors draw at iteration 0
        counts.append(len(drawn))
    assert counts == [6, 3]   # three noises to a draw


def test_penalty_and_regularisers_come_when_they_should():
    defaults = Settings()
    assert (defaults.penalty_every, defaults.reg_every, defaults.lazy_rescale) == (16, 2, False)
    losses = step(tiny(), 18)
    assert [i for i, v in enumerate(losses) if "d/penalty" in v] == [0, 16] and [i for i, v in enumerate(losses) if "g/con" in v] == [*range(0, 18, 2)] == [i for i, v in enumerate(losses) if "g/area" in v]


@pytest.mark.parametrize("rescale, penalty, regular", [(False, 10 / 16, 10 / 2), (True, 10., 10.)])
def test_effective_weights(monkeypatch, rescale, penalty, regular):
    t = tiny(lazy_rescale=rescale, area=0.)
    losses, whole = told_losses(t, monkeypatch, 16)
    d, g = ([v for which, v in whole if which == name] for name in ("critic", "generator"))
    assert len(d) == len(g) == 16
    shares = [(v - float(l["d/adv"])) / float(l["d/penalty"]) if "d/penalty" in l else v - float(l["d/adv"]) for v, l in zip(d, losses)]
    assert sum(shares) / 16 == pytest.approx(penalty, rel=1e-3)
    shares = [(v - float(l["g/adv"])) / float(l["g/con"]) if "g/con" in l else v - float(l["g/adv"]) for v, l in zip(g, losses)]
    assert sum(shares) / 16 == pytest.approx(regular, rel=1e-3)


@pytest.mark.parametrize("also, base", [("", 10.), ("_taichi", 30.), ("_flowers", 30.)])
def test_concentration_follows_the_number_of_parts(also, base):
    c = [GANSeg.presets[f"K_{k}{also}"] for k in (1, 4, 8, 12, 16, 32)]
    assert len({p["concentration"] / p["parts"] for p in c}) == 1 and [p["parts"] for p in c] == [1, 4, 8, 12, 16, 32]
    k = 10 if also == "_taichi" else 8
    assert c[0]["concentration"] * k == pytest.approx(base)   # Table 1


# --- layers

def test_the_background_is_the_generators_last_mask_and_the_segmenters_first_class():
    t = tiny()
    m, codes = t.method, t.method.space.sample(4, t.dice)
    layers = m.generate(codes)
    masks = layers.parts.sum(1, keepdim=True)
    assert torch.allclose(masks, layers.mask, atol=1e-6)
    g = m.average.module
    with torch.no_grad(): every = g.visible(g.masks(**{k: m.unfold(m.latents(codes))[k] for k in ("points", "looks")}).masks)
    first = classes_of(layers)
    assert first.shape == every.shape and torch.allclose(every[:, -1:], 1 - layers.mask, atol=1e-6)
    assert torch.allclose(first[:, :1], every[:, -1:], atol=1e-6) and torch.allclose(first[:, 1:], every[:, :-1], atol=1e-6)
    assert torch.equal(label_map(layers), (every.argmax(1) + 1) % every.shape[1])


def test_a_pinned_background_does_not_move_up_or_down():
    def change(pinned, axis):
        torch.manual_seed(0)
        net = settled(Generator(slim((16, 32), margin=8, pinned=pinned)), 2)
        told = posed(net)
        step = torch.zeros(1, 2, dtype=torch.float64); step[0, axis] = .3
        return not torch.equal(layer(net, told, "background"), layer(net, told | {"at": told["at"] + step}, "background"))
    assert [change(p, axis) for p in (False, True) for axis in (0, 1)] == [True, True, False, True]
    assert all(d["pinned"] == (k == "paper-taichi") for k, d in GANSeg.presets.items() if k.startswith("paper-")) and all(d["pinned"] for k, d in GANSeg.presets.items() if k.startswith("code_"))


@pytest.mark.parametrize("joint", [False, True])
def test_bg_joint_takes_the_background_from_the_points_noise(joint):
    m = (t := tiny(bg_joint=joint)).method
    codes, other = m.space.sample(4, t.dice), m.space.sample(4, t.dice)
    style = m.latents(codes)["bg"]
    assert torch.equal(m.latents(codes | {"bg": other["bg"]})["bg"], style) == joint and torch.equal(m.latents(codes | {"point": other["point"]})["bg"], style) == (not joint)


def test_a_fixed_scale_is_the_same_for_all_parts():
    g = tiny(fixed_scale=.3).method.nets["generator"]
    points = torch.randn(2, 3, 4, 2) * .2
    assert torch.equal(g.scale(points), torch.full((2, 3), .3))
    assert torch.allclose(g.heat(points, pixel_grid(16)), g.heat(edit(points, scale=torch.full((1, 3), 3.)), pixel_grid(16)), atol=1e-5)


@pytest.mark.parametrize("per_part", [2, 4])
@pytest.mark.parametrize("mode", SCALES)
def test_every_scale_mode_takes_a_step(mode, per_part):
    for losses in step(tiny(scale_mode=mode, per_part=per_part, area_mode="sigma"), 2): assert all(v.isfinite() for v in losses.values()), losses


def test_the_variance_of_two_radii_is_nothing():
    c = make("ganseg", "smoke,nper_2_radvar")
    g = c.nets["generator"]
    points = torch.rand(64, 3, 2, 2) * 2 - 1
    assert torch.allclose(g.scale(points), torch.full((64, 3), 1e-6), atol=1e-7)
    cones = heatmaps(centres(points), scales(points, "cone"), g.grid(0, points))
    assert g.heat(points, g.grid(0, points)).mean() < 1e-4 and cones.mean() > 2e-3   # these heatmaps are empty, cones of the same points are not


# --- edits

def trained(n=4):
    "A model whose batch statistics are those of its pictures, with settled looks: what hands take hold of"
    t = tiny(seed=1)
    m = t.method
    with torch.no_grad():
        for net in (m.average.module,):
            for module in net.modules():
                if isinstance(module, torch.nn.BatchNorm2d): module.momentum = .3
            for _ in range(8): net.train()(**m.told(net, m.space.sample(8, t.dice)))
            net.eval()
    return m, m.latents(m.space.sample(n, t.dice)), m.latents(m.space.sample(n, t.dice))


def test_sliding_the_background_leaves_masks_and_foreground_to_the_bit():
    m, latents, _ = trained()
    a, b = m.paint(latents), m.paint(m.pull(latents, {"slide": [.2, -.1]}))
    assert torch.equal(a.parts, b.parts) and torch.equal(a.mask, b.mask) and torch.equal(a.fg, b.fg) and not torch.equal(a.bg, b.bg)
    c = m.paint(latents | {"bg": latents["bg"].roll(1, 0)})
    assert torch.equal(a.parts, c.parts) and torch.equal(a.fg, c.fg) and not torch.equal(a.bg, c.bg)


def test_another_look_for_one_part_leaves_the_background_and_the_other_looks():
    m, latents, other = trained()
    swapped = m.pull(latents, {"look": {1: 1.}}, other)
    a, b = (m.unfold(x)["looks"] for x in (latents, swapped))
    assert torch.equal(a[:, [0, 2]], b[:, [0, 2]]) and torch.allclose(b[:, 1], m.unfold(other)["looks"][:, 1])
    a, b = m.paint(latents), m.paint(swapped)
    assert torch.equal(a.bg, b.bg) and not torch.equal(a.fg, b.fg) and not torch.equal(a.parts, b.parts)   # masks see looks, too


def test_a_drag_of_untrained_networks_is_measured_or_refused():
    try: found = drag(trained()[0], pixels=2, n=4)
    except ValueError as said: assert "nearly empty" in str(said)
    else: assert found["followed"] + found["empty"] + found["outside"] == 4 * 3 * 4 and math.isfinite(found["soft"])


# --- resume, weights, ranks, precision

@pytest.mark.parametrize("changes", [{}, dict(shared_fakes=True), dict(replaced_by="ae_points")], ids=str)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_training_goes_on_to_the_same_bits(stop, changes):
    whole = tiny(evidence=2, penalty_every=3, **changes)
    step(whole, stop)
    file = io.BytesIO()
    torch.save({"method": whole.method.state(), "dice": whole.dice.state()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = tiny(seed=99, evidence=2, penalty_every=3, **changes)   # other first weights
    other.real = whole.real
    other.method.load_state(saved["method"]); other.dice.load_state(saved["dice"])
    assert same(step(whole, 2), step(other, 2))
    assert same(whole.method.state(), other.method.state()) and same(whole.dice.state(), other.dice.state())


def run(out, **how): return train("ganseg", Puppets(16).pictures(24), out, preset="smoke", device="cpu", threads=1, every=1, look_seconds=1e9, save_seconds=1e9, progress=False, **how)


def test_a_smoke_run_reads_every_detector_and_resumes_to_the_same_numbers(tmp_path):
    whole = run(tmp_path / "whole").curves()
    assert whole["step"] == list(range(1, 21)) and [i for i, v in enumerate(whole["evidence/dead"]) if v is not None] == [0, 5, 10, 15, 19]
    assert all(math.isfinite(v) for column in whole.values() for v in column if v is not None)
    assert {told.curve for name, told in LIMITS.items() if name != "trivial"} <= set(made_curves(whole)) and alarms(whole) == []   # nothing has lasted yet
    run(tmp_path / "part", steps=7)
    part = run(tmp_path / "part", steps=12, resume=True).curves()
    told = [k for k in part if k != "seconds" and not k.startswith("health/")]
    assert {"evidence/dead", "g/con", "d/lead"} <= set(told) and {k: part[k] for k in told} == {k: v[:12] for k, v in whole.items() if k in told}


@pytest.mark.parametrize("changes", [{}, dict(head="single", parts=5), dict(replaced_by="ae_masks")], ids=str)
def test_weights_come_back(tmp_path, changes):
    t = tiny(**changes)
    step(t, 2)
    save_weights(tmp_path / "w.safetensors", t.method)
    again, _, _ = open_weights(tmp_path / "w.safetensors")
    assert again.config == t.method.config and type(again) is type(t.method)
    codes = t.method.space.sample(4, t.dice)
    a, b = t.method.generate(codes), again.generate(codes)
    assert torch.allclose(a.parts, b.parts, atol=.02) and torch.allclose(a.image, b.image, atol=.05)   # kept as half floats


SCRIPT = """
import sys
from layerbench.data.puppets import Puppets
from layerbench.train import train
train("ganseg", Puppets(16).pictures(24), sys.argv[1], preset="smoke", overrides=dict(iterations=1), device="cpu", threads=1, every=1, look_seconds=1e9, save_seconds=1e9, progress=False)
"""


def test_two_ranks_match_one(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    def launched(out, *launch): subprocess.run([sys.executable, *launch, str(tmp_path / "script.py"), str(out)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600)
    launched(tmp_path / "one")
    launched(tmp_path / "two", "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0")
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    a, b = (r.load()["method"]["nets"] for r in (one, two))
    assert two.environment["ranks"] == 2 and one.load()["served"] == two.load()["served"]
    # a gradient near zero may round to either sign, and Adam moves such a weight by a whole step either way: weights are compared as a crowd
    for net in a:
        gaps = torch.cat([(a[net][n].float() - b[net][n].float()).abs().flatten() for n in a[net]])
        assert gaps.mean() < 2e-4 and gaps.quantile(.9) < 2e-4, f"{net}: mean gap {gaps.mean():.1e}, 90 % below {gaps.quantile(.9):.1e}"


def test_half_precision_takes_finite_steps_and_keeps_places():
    t = tiny(precision="bf16-mixed", evidence=1)
    for losses in step(t, 2): assert all(v.isfinite() for v in losses.values()), losses
    _, points, parts = fakes(t.method, 4, t.dice)
    assert points.dtype == parts.masks.dtype == torch.float32   # a place in bf16 would be rounded to a tenth of a pixel


# --- every switch, and detectors

@pytest.mark.parametrize("changes", [
    dict(parts=1), dict(parts=8), dict(per_part=1), dict(grid_mode="corner"), dict(head="single"), dict(late_crop=False), dict(mask_margin=True), dict(pinned=True), dict(abs_coord=True), dict(bg_joint=True), dict(fixed_scale=.1),
    dict(area_mode="heat"), dict(penalty="r1"), dict(concentration=0., area=0.), dict(margin=0, last_margin=0, late_crop=False), dict(sizes=(8, 8, 16), mask_widths=(8, 8), widths=(8, 8, 8)), dict(lazy_rescale=True), dict(shared_fakes=True),
    dict(replaced_by="ae_points"), dict(replaced_by="ae_masks"), dict(replaced_by="ae_points", ae_reg=False)], ids=lambda c: " ".join(f"{k}={v}" for k, v in c.items()))
def test_every_switch_takes_a_step(changes):
    t = tiny(evidence=1, **changes)
    for losses in step(t, 2): assert all(v.isfinite() for v in losses.values()), losses
    assert ("evidence/narrow" in losses) == (changes.get("replaced_by") != "ae_masks") and ("d/lead" in losses) == ("replaced_by" not in changes)


def test_detectors_do_not_disturb_training():
    a, b = tiny(), tiny(evidence=1)
    step(a, 5); step(b, 5)
    assert same(a.method.state(), b.method.state()) and same(a.dice.state(), b.dice.state())


def test_detectors_find_what_is_wrong_with_a_model():
    def read(change):
        m, _, _ = trained()
        with torch.no_grad(): change(m.average.module)
        return {k.removeprefix("evidence/"): float(v) for k, v in evidence(m, torch.zeros(4, 3, 16, 16), Dice(0)).items()}
    def still(net): net.to_points[-1].weight.zero_()
    def background(by):
        def change(net): net.mask_tower.blocks[-1].convs[-1].bias[-1] += by
        return change
    plain, fixed, full, none, broken = read(lambda net: None), read(still), read(background(99.)), read(background(-99.)), read(lambda net: net.table.fill_(math.nan))
    assert plain["wandering"] > 0 == fixed["wandering"] and plain["not_finite"] == 0 < broken["not_finite"]
    assert full["background"] > .97 > plain["background"] > .05 > none["background"] and full["dead"] == 3 and plain["dead"] < 3
    assert none["leaked"] >= 0 and all(math.isfinite(v) for k, v in plain.items())


# --- refusals

@pytest.mark.parametrize("changes, words", [
    (dict(parts=0), "'parts' is 0; expected 1 or more"), (dict(scale_mode="gauss"), "'scale_mode' is 'gauss'; expected 'cone'"), (dict(grid_mode="center"), "'grid_mode' is 'center'"), (dict(sizes=(8, 24)), "twice it"),
    (dict(sizes=(12, 24)), "power of two"), (dict(mask_widths=(8, 8)), "'mask_widths' is \\(8, 8\\); expected 1 numbers"), (dict(critic=(8,)), "'critic' is"), (dict(divisor=0.), "'divisor' is 0"), (dict(start=7), "even number"),
    (dict(last_margin=9), "no more than 'margin'"), (dict(last_margin=1), "'last_margin' is 1; expected 0, or 2"), (dict(margin=0, last_margin=0), "expected 'late_crop' false"), (dict(scale_mode="gauss_radvar", per_part=1), "expected 'per_part' of 2"),
    (dict(scale_mode="gauss_std", per_part=1), "expected 'per_part' of 2"), (dict(penalty="wgan"), "'penalty' is 'wgan'"), (dict(replaced_by="ae"), "'replaced_by' is 'ae'"), (dict(batch=1), "'batch' is 1; expected 2 or more"),
    (dict(ema=1.5), "'ema' is 1.5"), (dict(rate=math.nan), "'rate' is nan"), (dict(evidence=0), "'evidence' is 0"), (dict(concentraton=1.), "concentration"), (dict(parts="six"), "parts")], ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_settings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(ValueError, match=words): make("ganseg", "smoke", changes)


@pytest.mark.parametrize("which", ["ae_points", "ae_masks"])
def test_auto_encoders_keep_places_out_of_bf16(which):
    t = tiny(precision="bf16-mixed", replaced_by=which)
    losses = step(t, 2)
    assert all(v.isfinite() for found in losses for v in found.values())
    with torch.autocast("cpu", torch.bfloat16):
        net = t.method.nets["generator"]
        told = net.read(t.real)
        if which == "ae_points": assert told["points"].dtype == torch.float32
