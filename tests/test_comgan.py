"ComGAN: the acceptance checks of its specification, the trivial solutions, who learns in which step, two stages and resume, polarity, every switch"
import copy
import io
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from layerbench.chapters import comgan
from layerbench.chapters.comgan import painted_now, update_critic, update_generator
from layerbench.codes import Dice
from layerbench.comgan import evidence as readings
from layerbench.comgan.evidence import LIMITS, alarms, evidence, made_curves, side_of
from layerbench.comgan.gradients import length, mask_gradients
from layerbench.comgan.networks import Generator, Painted, weights
from layerbench.comgan.settings import Settings
from layerbench.data.scenes import Scenes
from layerbench.layers import compose
from layerbench.losses import logistic, mask_entropy
from layerbench.method import make, open_weights, save_weights
from layerbench.segmenter import Segmenter
from layerbench.train import Run, fabric_for, reopen, train

PLAIN = dict(depths=1, whole=False, classes=0)
MODELS = {"ComGAN": PLAIN, "Pi_1": PLAIN | dict(trunks=2), "Pi_2": PLAIN | dict(trunks=3), "DS": {}}
every_model = pytest.mark.parametrize("model", MODELS)
TRUNKS = {1: (0, 0, 0), 2: (0, 1, 0), 3: (0, 1, 2)}   # of foreground, background and mask
QUIET, LOOKED_AT = 10**6, 16


@pytest.fixture(scope="module", autouse=True)
def few():
    "Detectors and the choice of sides look at fewer samples than they do in earnest: they are called hundreds of times here"
    whole = comgan.ComGAN.choose_side
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "SAMPLES", LOOKED_AT)
        patch.setattr(comgan.ComGAN, "choose_side", lambda self, n=LOOKED_AT: whole(self, n))
        yield


def tiny(model="DS", seed=0, at=0, precision="32-true", **changes):
    "A small model before iteration `at`, dice, and real pictures; stage 2 begins at 3"
    torch.manual_seed(seed)
    method = make("comgan", "smoke", dict(iterations=3, segmentation=4, colour_blocks=1, watch=1, evidence=QUIET) | MODELS[model] | changes)
    method.start(fabric_for("cpu", precision, threads=1))
    method.seen = at * method.config.batch
    return SimpleNamespace(method=method, dice=Dice(seed), real=torch.rand(4, 3, method.size, method.size, generator=torch.Generator().manual_seed(seed)) * 2 - 1)


def step(t, n=1): return [t.method.train_step(t.real, t.dice) for _ in range(n)]


def same(a, b):
    "Nested states, to the last bit"
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


def kept(method): return {k: copy.deepcopy(net.state_dict()) for k, net in method.nets.items()}


def learnt(method): return {k: [p.detach().clone() for p in net.parameters()] for k, net in method.nets.items()}


def moved(before, now): return {k for k in before if not same(before[k], now[k])}


# --- 1: sizes (the table of the specification stands in nbs/comgan/networks)

@pytest.mark.parametrize("trunks", [2, 3])
@pytest.mark.parametrize("widths", [(512, 256, 128, 64, 32, 16), (256, 64, 32, 16)], ids=["128 px", "32 px"])
def test_1_matched_models_are_as_large_as_one_trunk(trunks, widths):
    one = Settings(**PLAIN, widths=widths, head=32, colour_blocks=3, mask_blocks=0, segmenter=(8, 16))
    with torch.device("meta"): a, b, free = (Generator(replace(one, **k)) for k in ({}, dict(trunks=trunks, matched=True), dict(trunks=trunks)))
    assert .9 * weights(a) < weights(b) <= weights(a) < weights(free)
    assert len(b.trunks) == trunks and {weights(t) for t in b.trunks} == {weights(b.trunks[0])}


# --- 3, 4: heads hear their own codes alone, and a picture is its layers

@every_model
def test_4_a_picture_is_its_foreground_where_the_mask_is_1_and_its_background_where_it_is_0(model):
    t = tiny(model)
    layers = t.method.generate(t.method.space.sample(3, t.dice))
    assert torch.equal(compose(layers.bg, layers.fg, torch.ones_like(layers.mask)), layers.fg)
    assert torch.equal(compose(layers.bg, layers.fg, torch.zeros_like(layers.mask)), layers.bg)
    assert layers.image.shape == (3, 3, 32, 32) and bool(((layers.mask > 0) & (layers.mask < 1)).any())   # soft, never cut


@pytest.mark.parametrize("trunks", [1, 2, 3])
def test_3_a_code_changes_its_own_layer_and_nothing_else(trunks):
    t = tiny("DS", trunks=trunks)
    codes = t.method.space.sample(6, t.dice)
    plain = t.method.generate(codes)
    for k, own, others in (("f", "fg", ("bg", "mask")), ("b", "bg", ("fg", "mask"))):
        other = t.method.generate(codes | {k: (codes[k] + 1) % 4})
        assert not torch.equal(getattr(other, own), getattr(plain, own))
        assert all(torch.equal(getattr(other, name), getattr(plain, name)) for name in others)


def test_tied_codes_are_one_code():
    t = tiny("DS", tied_codes=True)
    m, codes = t.method, t.method.space.sample(6, t.dice)
    assert "b" not in m.space and "b" not in codes
    a, b = (m.generate(c) for c in (codes, codes | {"f": (codes["f"] + 1) % 4}))
    assert torch.equal(a.mask, b.mask) and not torch.equal(a.fg, b.fg) and not torch.equal(a.bg, b.bg)
    _, told = painted_now(m, 4, t.dice)
    assert torch.equal(told["f"], told["b"])
    free = tiny("DS").method
    assert any(not torch.equal(*painted_now(free, 4, Dice(s))[1].values()) for s in range(3))


# --- 5: entropy

@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_5_entropy_and_its_gradient_are_numbers_however_sure_the_mask_is(dtype):
    for s, wanted in ((0., 1.), (40., 0.), (-40., 0.), (200., 0.), (-200., 0.), (math.inf, 0.), (-math.inf, 0.)):
        logit = torch.full((2, 1, 4, 4), s, dtype=dtype, requires_grad=True)
        found = mask_entropy(logit.sigmoid())
        found.backward()
        assert found.dtype == torch.float32 and abs(found.item() - wanted) < 1e-4 and logit.grad.isfinite().all(), s
    mask = torch.linspace(0, 1, 65, dtype=dtype).view(1, 1, 1, 65).requires_grad_()
    mask_entropy(mask).backward()
    assert mask.grad.isfinite().all()


@every_model
@pytest.mark.parametrize("sharpen", [1e4, -1e4])
def test_5_a_saturated_model_still_takes_finite_steps(model, sharpen):
    t = tiny(model, entropy_weight=1.)
    with torch.no_grad(): t.method.nets["generator"].mask.last.weight.mul_(sharpen)
    for losses in step(t, 2): assert all(v.isfinite() for v in losses.values()), losses
    assert all(p.isfinite().all() for net in t.method.nets.values() for p in net.parameters())


# --- 6: who learns in which step

@every_model
def test_6_each_step_moves_its_own_networks(model):
    m = (t := tiny(model)).method
    painted, told = painted_now(m, 4, t.dice)
    before = kept(m)
    update_critic(m, t.real, painted)
    assert moved(before, kept(m)) == {"critic"}   # batch statistics included
    assert all(p.grad is None for p in m.nets["generator"].parameters())
    before = learnt(m)
    update_generator(m, painted, told)
    assert moved(before, learnt(m)) == {"generator"} | ({"code_f", "code_b"} if model == "DS" else set())
    assert all(p.requires_grad for p in m.nets["critic"].parameters())   # frozen for that step only


@every_model
def test_6_all_of_the_generator_learns(model):
    t = tiny(model, entropy_weight=.1)
    before = dict(t.method.nets["generator"].named_parameters())
    before = {k: p.detach().clone() for k, p in before.items()}
    step(t)
    assert [k for k, p in t.method.nets["generator"].named_parameters() if torch.equal(p, before[k])] == []


# --- 8, 10: trivial solutions

def adversarial(m, painted): return logistic(m.nets["critic"](painted.image), True)


@every_model
def test_8_equal_layers_tell_the_mask_nothing_and_sure_logits_hear_nothing(model):
    t = tiny(model)
    m, (p, _) = t.method, painted_now(t.method, 4, t.dice)
    net, none = m.nets["generator"], torch.zeros(())
    def read(painted): return mask_gradients(net, painted, adversarial(m, painted), none)
    plain, equal = read(p), read(Painted(p.bg, p.bg, p.logit))
    assert plain["grad/pix"] > 0 and plain["grad/head"] > 0 and plain["grad/trunk"] > 0
    assert equal["grad/pix"] == equal["grad/logit"] == equal["grad/head"] == equal["mask/gap"] == 0
    for s in (40., -40.):
        sure = read(Painted(p.bg, p.fg, 0 * p.logit + s))
        assert sure["grad/logit"] < 1e-12 and sure["grad/pix"] > .1 * plain["grad/pix"]


def trunk_gradients(m, painted):
    "Of the trunks that feed foreground, background and mask"
    net = m.nets["generator"]
    net.zero_grad()
    adversarial(m, painted).backward(retain_graph=True)
    return [float(length(*(p.grad for p in net.trunks[i].parameters()))) for i in TRUNKS[len(net.trunks)]]


@pytest.mark.parametrize("trunks", TRUNKS)
def test_each_layer_has_its_trunk(trunks):
    t = tiny("DS", trunks=trunks)
    p, net = painted_now(t.method, 4, t.dice)[0], t.method.nets["generator"]
    def reached(layer): return [any(g is not None and bool(g.any()) for g in torch.autograd.grad(layer.square().sum(), list(trunk.parameters()), retain_graph=True, allow_unused=True)) for trunk in net.trunks]
    assert [reached(x) for x in (p.fg, p.bg, p.logit)] == [[i == own for i in range(trunks)] for own in TRUNKS[trunks]]


@pytest.mark.parametrize("depths", [1, 3])
@pytest.mark.parametrize("trunks", TRUNKS)
def test_10_which_trunks_hear_the_critic_behind_a_full_and_behind_an_empty_mask(trunks, depths):
    t = tiny("DS", trunks=trunks, depths=depths)
    p, _ = painted_now(t.method, 4, t.dice)
    found = {case: trunk_gradients(t.method, Painted(p.bg, p.fg, p.logit + s)) for case, s in (("full", 200.), ("empty", -200.))}
    deaf = {case: [round(v, 12) == 0 for v in found[case]] for case in found}   # of foreground, background, mask
    assert deaf == {1: {"full": [False, False, False], "empty": [False, False, False]},
                    2: {"full": [False, True, False], "empty": [True, False, True]},
                    3: {"full": [False, True, True], "empty": [True, False, True]}}[trunks], found
    assert all((v == 0) == d for case in found for v, d in zip(found[case], deaf[case]))   # nothing at all, not just little


# --- 9: the second stage

@every_model
def test_9_the_second_stage_changes_no_weight_and_no_statistic_of_the_first(model):
    t = tiny(model, at=3, evidence=1)
    assert t.method.segmenting
    before = kept(t.method)
    for losses in step(t, 2): assert "evidence/listens_real" in losses and not any(k.startswith("g/") for k in losses)
    assert moved(before, kept(t.method)) == {"segmenter", "mask_critic"}


def test_9_segmentation_takes_soft_masks_of_the_averaged_generator(monkeypatch):
    t, seen = tiny("DS", at=3), {}
    layers = t.method.generate(t.method.space.sample(4, Dice(0)))
    monkeypatch.setattr(comgan, "update_mask_critic", lambda method, mask, on_fake, on_real: seen.update(mask=mask) or {})
    step(t)
    assert torch.equal(seen["mask"], layers.mask) and bool(((layers.mask > .01) & (layers.mask < .99)).any())


def test_the_mask_critic_waits_for_pairs_first():
    t = tiny("DS", at=3, pairs_first=2)
    before = kept(t.method)
    assert not any("dm/adv" in losses or "s/adv" in losses for losses in step(t, 2))
    assert moved(before, kept(t.method)) == {"segmenter"}
    assert "dm/adv" in step(t)[0] and "mask_critic" in moved(before, kept(t.method))


def test_codes_between_two_classes_change_colours_and_no_mask():
    a, b = tiny("DS", at=3), tiny("DS", at=3, mixed_codes=1.)
    (x, m), (y, n) = a.method.pairs(8, Dice(3)), b.method.pairs(8, Dice(3))
    assert torch.equal(m, n) and not torch.allclose(x, y)


def test_a_forked_training_takes_the_rates_of_its_settings():
    t = tiny("DS", at=3)
    step(t)
    other = tiny("DS", at=3, segment_rate=.01, mask_critic_rate=.5)
    other.method.load_state(t.method.state())
    assert {k: o.param_groups[0]["lr"] for k, o in other.method.optimisers.items() if k in ("segmenter", "mask_critic")} == {"segmenter": .01, "mask_critic": .005}
    assert other.method.optimisers["segmenter"].state   # memory comes along


# --- two stages and resume

@pytest.mark.parametrize("model, stop", [*(("DS", i) for i in (1, 2, 3, 5)), ("ComGAN", 2), ("Pi_1", 2), ("Pi_2", 3)])   # stage 1, its edge (3), stage 2
def test_a_stopped_training_goes_on_to_the_same_bits(model, stop):
    whole = tiny(model, evidence=2)
    step(whole, stop)
    file = io.BytesIO()
    torch.save({"method": whole.method.state(), "dice": whole.dice.state()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = tiny(model, seed=99, evidence=2)   # other first weights
    other.real = whole.real
    other.method.load_state(saved["method"]); other.dice.load_state(saved["dice"])
    assert other.method.segmenting == whole.method.segmenting == (stop >= 3)
    n = min(2, 7 - stop)
    assert same(step(whole, n), step(other, n))
    assert same(whole.method.state(), other.method.state()) and same(whole.dice.state(), other.dice.state())


def run(out, **how): return train("comgan", Scenes(36).pictures(24), out, preset="smoke", device="cpu", threads=1, every=1, look_seconds=1e9, save_seconds=1e9, progress=False, **how)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    "Both stages, without a pause"
    return run(tmp_path_factory.mktemp("smoke") / "run")


def test_a_smoke_run_takes_both_stages_and_reads_every_detector(smoke):
    curves = smoke.curves()
    rows = {name: [i for i, v in enumerate(column) if v is not None] for name, column in curves.items()}
    assert curves["step"] == list(range(1, 31)) and rows["g/adv"] == [*range(20)] and rows["s/consistency"] == [*range(20, 30)]
    assert rows["grad/head"] == [*range(0, 20, 2)]
    assert rows["evidence/area"] == rows["side/inverted"] == [0, 5, 10, 15, 19] and rows["evidence/listens_real"] == [20, 25, 29]
    assert all(math.isfinite(v) for column in curves.values() for v in column if v is not None)
    assert {told.curve for told in LIMITS.values()} <= set(made_curves(curves))
    assert {said.split(":")[0] for said in alarms(curves)} <= {k for k, told in LIMITS.items() if told.span < 30}   # nothing has lasted yet
    method = reopen(smoke.path)[0]
    layers = method.generate(method.space.sample(3, Dice(0)))
    assert method.segment(layers.image).shape == (3, 1, 32, 32) and method.score(layers.image).shape == (3,)


def test_a_stopped_run_resumes_to_the_same_numbers(smoke, tmp_path):
    run(tmp_path / "run", steps=20)   # at the edge
    part = run(tmp_path / "run", steps=24, resume=True).curves()
    told = [k for k in part if k != "seconds" and not k.startswith("health/")]
    assert len(part["step"]) == 24 and {"evidence/area", "evidence/listens_real", "s/adv"} <= set(told)
    assert {k: part[k] for k in told} == {k: v[:24] for k, v in smoke.curves().items() if k in told}


def test_detectors_do_not_disturb_training():
    a, b = tiny(), tiny(evidence=1)
    step(a, 7); step(b, 7)
    assert same(a.method.state(), b.method.state()) and same(a.dice.state(), b.dice.state())


def test_detectors_find_what_is_wrong_with_a_model():
    def read(change):
        t = tiny(seed=3)
        net, codes = t.method.average.module.train(), t.method.space.sample(16, Dice(0))
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d): m.momentum = 1.
        with torch.no_grad():
            net(net.start(codes["z"]), **net.vectors(codes))   # batch statistics as after a training, else all samples look alike
            change(net.eval())
        return {k.removeprefix("evidence/"): float(v) for k, v in evidence(t.method, t.real, t.dice).items()}
    def deaf(head):   # its code's weights, after those of the features
        def change(net): (w := getattr(net, head).body[0][0].weight)[:, -4:] = 0
        return change
    plain, one_shape, no_f, no_b = (read(c) for c in (lambda net: None, lambda net: net.mask.last.weight.zero_(), deaf("fg"), deaf("bg")))
    assert plain["spread"] > .01 and one_shape["spread"] == 0 and one_shape["grey"] == one_shape["area"] == .5
    assert plain["heard_f"] > .02 and no_f["heard_f"] == 0 == no_b["heard_b"] and no_f["heard_b"] > .02
    equal = read(lambda net: (net.fg.last.weight.zero_(), net.bg.last.weight.zero_()))
    assert plain["gap"] > .05 and equal["gap"] == 0
    broken = read(lambda net: net.fg.last.weight.fill_(math.nan))
    assert plain["not_finite"] == 0 and broken["not_finite"] > .2


# --- polarity

def turn(m, on=True):
    for net in (m.nets["generator"], m.average.module): net.inverted.fill_(on)


@every_model
def test_a_model_turned_over_paints_the_same_picture_with_the_object_in_front(model):
    m, codes = (t := tiny(model)).method, t.method.space.sample(5, t.dice)
    plain = m.generate(codes)
    turn(m)
    over = m.generate({k: codes[{"f": "b", "b": "f"}.get(k, k)] for k in codes})
    assert torch.equal(over.fg, plain.bg) and torch.equal(over.bg, plain.fg) and torch.equal(over.mask, 1 - plain.mask)
    assert torch.allclose(over.image, plain.image, atol=1e-6)


@pytest.mark.parametrize("on", [False, True])
def test_f_drives_what_is_shown_in_front(on):
    m, codes = (t := tiny()).method, t.method.space.sample(5, t.dice)
    turn(m, on)
    plain = m.generate(codes)
    for k, own, other in (("f", "fg", "bg"), ("b", "bg", "fg")):
        found = m.generate(codes | {k: (codes[k] + 1) % 4})
        assert torch.equal(found.mask, plain.mask) and torch.equal(getattr(found, other), getattr(plain, other)) and not torch.equal(getattr(found, own), getattr(plain, own))
    v = m.latents(codes)
    assert torch.equal(v["f"].argmax(1), codes["f"]) and torch.equal(v["b"].argmax(1), codes["b"])


@every_model
def test_the_side_is_asked_of_the_masks_and_is_one_answer_for_the_model(model):
    m = tiny(model).method
    first, codes = m.choose_side(), m.space.sample(16, Dice(5))
    shown = m.generate(codes).mask
    with torch.no_grad():
        for net in (m.nets["generator"], m.average.module): net.mask.last.weight.neg_()   # every mask becomes its opposite
    was, second = m.inverted, m.choose_side()
    assert second["side/border_minus_middle"] == pytest.approx(-float(first["side/border_minus_middle"]), abs=1e-5)
    assert m.inverted != was and bool(m.nets["generator"].inverted) == m.inverted == bool(second["side/inverted"])
    assert torch.allclose(m.generate(codes).mask, shown, atol=1e-6)   # so what is shown has not changed
    assert side_of(m.generate(m.space.sample(LOOKED_AT, Dice(1))).mask) <= 0


def test_the_side_is_chosen_until_stage_1_ends_and_never_after(monkeypatch):
    asked = []
    def choose(self, n=256):
        asked.append(self.iteration)
        turn(self, self.iteration == 2)
        return {}
    monkeypatch.setattr(comgan.ComGAN, "choose_side", choose)
    t = tiny(evidence=2)
    step(t, 7)
    assert asked == [0, 2] and t.method.inverted   # 2 is the last iteration


@pytest.mark.parametrize("changes", [{}, dict(shared_to_img=True), dict(tied_codes=True), PLAIN | dict(trunks=3, matched=True)], ids=["DS", "shared", "tied", "Pi_2"])
@pytest.mark.parametrize("on", [False, True])
def test_weights_remember_the_side(tmp_path, on, changes):
    t = tiny(**changes)
    m = t.method
    turn(m, on)
    save_weights(tmp_path / "w.safetensors", m)
    again, _, _ = open_weights(tmp_path / "w.safetensors")
    assert again.inverted == on and again.config == m.config
    codes = m.space.sample(4, t.dice)
    a, b = m.generate(codes), again.generate(codes)
    assert torch.allclose(a.mask, b.mask, atol=.02) and torch.allclose(a.fg, b.fg, atol=.05)   # kept as half floats
    other = tiny(seed=7, **changes).method
    other.load_state(m.state())
    assert other.inverted == on and torch.equal(other.generate(codes).image, a.image)


def test_a_weights_file_holds_its_own_segmentation_network_and_a_taught_one(tmp_path):
    m, net = tiny().method, Segmenter(4, 1, 32)
    save_weights(tmp_path / "w.safetensors", m, net)
    again, (sizes, tensors), _ = open_weights(tmp_path / "w.safetensors")
    assert sizes == dict(width=4, depth=1, size=32)
    for found, wanted in ((tensors, net.state_dict()), (again.nets["segmenter"].state_dict(), m.nets["segmenter"].state_dict())):
        assert found.keys() == wanted.keys() and all(torch.allclose(found[k].float(), wanted[k].float(), atol=1e-3) for k in wanted)


# --- every switch takes a step of both stages, and is looked at

@pytest.mark.parametrize("changes", [
    dict(trunks=2), dict(trunks=3, matched=True), dict(depths=1), dict(whole=False), dict(classes=0), dict(tied_codes=True), dict(shared_to_img=True), dict(orthogonal=False), dict(masked_info=True), dict(info_weight=0.),
    dict(entropy_weight=1.), dict(mask_critic=False), dict(watch=0), dict(z_scale=4.), dict(colour_blocks=0, mask_blocks=2), dict(consistency=0.), dict(critic_rate=0.), dict(widths=(16, 16, 8, 8, 8)), dict(segmenter=(4, 8, 8, 8, 8)), dict(mask_critic_rate=.1), dict(mixed_codes=1.), dict(mixed_codes=1., classes=0), dict(disguise=True)],
    ids=lambda c: " ".join(f"{k}={v}" for k, v in c.items()))
def test_every_switch_takes_a_step(changes):
    t = tiny(evidence=1, iterations=1, segmentation=1, **changes)
    painting, segmenting = step(t, 2)
    assert t.method.done and all(v.isfinite() for losses in (painting, segmenting) for v in losses.values()), (painting, segmenting)
    codes = changes.get("classes", 4) > 0
    assert ("g/info_f" in painting) == ("right/b" in painting) == ("evidence/leaked_f" in painting) == codes
    assert ("grad/head" in painting) == (changes.get("watch", 1) > 0)
    assert ("dm/adv" in segmenting) == ("s/adv" in segmenting) == changes.get("mask_critic", True)


def test_without_a_segmentation_network_training_ends_with_the_first_stage():
    t = tiny("ComGAN", segmentation=0)
    assert t.method.length == 3 * 4 and not t.method.can("segment") and "segmenter" not in t.method.nets
    step(t, 3)
    assert t.method.done


@pytest.mark.parametrize("model", ["ComGAN", "DS"])
def test_half_precision_takes_finite_steps_of_both_stages(model):
    t = tiny(model, precision="bf16-mixed", evidence=1, iterations=1, segmentation=1, entropy_weight=.1)
    for losses in step(t, 2): assert all(v.isfinite() for v in losses.values()), losses


@pytest.mark.parametrize("changes, words", [
    (dict(trunks=4), "setting 'trunks' is 4; expected 1 or 2 or 3"), (dict(depths=2), "setting 'depths' is 2; expected 1 or 3"), (dict(widths=(16, 8, 8)), "at least four"), (dict(widths=(16, 8, 8, 7)), "even numbers"),
    (dict(widths=(16, 8, 8, 0)), "above 0"), (dict(classes=1), "'classes' is 1"), (dict(classes=-1), "'classes' is -1"), (dict(tied_codes=True, classes=0), "needs codes"), (dict(segmenter=(4,)), "'segmenter' has 1 entries"),
    (dict(segmenter=(4,) * 6), "'segmenter' has 6 entries"), (dict(batch=1), "'batch' is 1; expected 2 or more"), (dict(ema=1.5), "'ema' is 1.5; expected 0 to 1"), (dict(entropy_weight=-1.), "'entropy_weight' is -1.0"), (dict(z_scale=0.), "'z_scale' is 0"),
    (dict(crop=3.), "'crop' is 3.0; expected 1 to 2"), (dict(iterations=0), "'iterations' is 0"), (dict(evidence=0), "'evidence' is 0"), (dict(rate=math.nan), "'rate' is nan"), (dict(trunk=2), "trunks"), (dict(trunks="two"), "trunks")],
    ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_settings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(ValueError, match=words): make("comgan", "smoke", changes)


# --- ranks

SCRIPT = """
import sys
from layerbench.data.scenes import Scenes
from layerbench.train import train
train("comgan", Scenes(36).pictures(24), sys.argv[1], preset="smoke", overrides=dict(iterations=1, segmentation=1, evidence=1), device="cpu", threads=1, every=1, look_seconds=1e9, save_seconds=1e9, progress=False)
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
    assert a["average"]["inverted"] == b["average"]["inverted"]
