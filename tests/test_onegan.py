"OneGAN: the acceptance checks of its specification (section 12), the routes of gradients (3.3), clones, stages, resume, every switch"
import copy
import io
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as nnF

from layerbench.chapters import onegan
from layerbench.chapters.onegan import PATHS, Mixture, drawn_mixture, mixed, repaint, step_again, step_critics
from layerbench.codes import Dice
from layerbench.data.backgrounds import open_backgrounds
from layerbench.layers import compose
from layerbench.losses import area_prior, normal_kl
from layerbench.method import chapter, make, settings
from layerbench.onegan.evidence import LIMITS, evidence
from layerbench.onegan.networks import Critics, GLUNorm, Painter, PatchCritic
from layerbench.onegan.settings import Settings
from layerbench.train import fabric_for, reopen, train

FOUND = chapter("onegan")
TINY = dict(width=8, noise=6, parent_code=4, child_code=5, bg_code=7, generation=3, fakes=4, warm_up=2, reals=3, evidence=10**6)   # smoke, smaller: stages begin at 0, 3, 5 and 7
BEGINS = {"generation": 0, "warm_up": 3, "fake": 5, "real": 7}


def tiny(at="generation", seed=0, **changes):
    "A small OneGAN that enters a stage, dice, and pictures of both kinds"
    torch.manual_seed(seed)
    method = make("onegan", "smoke", TINY | changes)
    method.start(fabric_for("cpu", threads=1))
    method.seen = BEGINS[at] * method.config.batch
    method.enter(method.stage)
    return SimpleNamespace(method=method, dice=Dice(seed), real=torch.rand(4, 3, 32, 32) * 2 - 1, backgrounds=torch.rand(4, 3, 32, 32) * 2 - 1)


def step(t, n=1): return [t.method.train_step(t.real, t.dice, t.backgrounds) for _ in range(n)]


def same(a, b):
    "Nested states, to the last bit"
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


def kept(net): return copy.deepcopy(net.state_dict())


def moved(before, net): return {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}


# --- 1: shapes and sizes

def table(size, width, noise, parent_code, codes, parents, classes, batch, stage, warm_up):
    return dict(size=size, width=width, noise=noise, parent_code=parent_code, child_code=codes, bg_code=codes, parents=parents, classes=classes, batch=batch, generation=stage, fakes=stage, reals=stage, warm_up=warm_up)


SPEC = {   # section 10: settings, and millions of parameters of G, of E with V, and of a pair of critics
    "cpu32": (table(32, 16, 32, 8, 16, 4, 16, 32, 2000, 100), (.32, .35, .16)),
    "small32": (table(32, 32, 32, 8, 16, 4, 16, 32, 10_000, 500), (.91, 1.36, .61)),
    "small64": (table(64, 32, 64, 16, 32, 6, 24, 24, 30_000, 1500), (3.2, 5.5, 2.4)),
    "wide64": (table(64, 64, 64, 16, 32, 6, 24, 20, 50_000, 2500), (9.8, 22.0, 9.5)),
    "paper": (table(128, 64, 100, 16, 32, 20, 200, 20, 200_000, 10_000), (33.9, 72.0, 38.1)),
}


def preset(name): return settings(FOUND.Config, FOUND.presets, name)


def millions(*modules): return sum(p.numel() for m in modules for p in m.parameters()) / 1e6


def agrees(found, printed, digits):
    "Within 1 %, or rounded to what is printed"
    return abs(found - printed) <= max(.01 * printed, .5 * 10 ** -digits)


@pytest.mark.parametrize("name", SPEC)
def test_1_parameters_are_as_many_as_the_specification_says(name):
    (said, printed), c = SPEC[name], preset(name)
    assert {k: getattr(c, k) for k in said} == said
    with torch.device("meta"): painter, critics = Painter(c), Critics(c)   # no memory: the paper's networks are large
    # the table's E has V in it: 0.35 of cpu32 is 0.3451 with V and 0.3448 without; elsewhere both round alike
    counts = millions(painter.bg_start, painter.bg, painter.fg_start, painter.fg), millions(painter.encoders, painter.tables), millions(critics)
    assert all(agrees(a, b, 2 if b < 2 else 1) for a, b in zip(counts, printed)), counts
    assert millions(painter.tables) * 1e6 == c.classes * c.child_code + c.parents * (c.parent_code + c.bg_code)


def test_1_each_network_of_the_paper_has_its_size():
    with torch.device("meta"): painter, critics = Painter(Settings()), Critics(Settings())
    e, fg = painter.encoders, painter.fg
    counts = {"G_bg0": millions(painter.bg_start), "G_bg1": millions(painter.bg), "G_fg0": millions(painter.fg_start), "G_fg1": millions(fg.grow, fg.shape), "G_fg2": millions(fg.look, fg.colour, fg.mask),
              "E_c": millions(e.child_trunk, e.child_deep, e.child), "E_p": millions(e.parent_trunk, e.parent_deep, e.parent, e.z, e.fg_bypass), "E_bg": millions(e.bg_trunk, e.bg_bypass),
              "D_c": millions(critics.picture), "D_bg": millions(critics.patch)}
    printed = dict(G_bg0=16.16, G_bg1=.78, G_fg0=15.64, G_fg1=1.24, G_fg2=.12, E_c=29.12, E_p=39.86, E_bg=3.02, D_c=37.47, D_bg=.67)
    assert all(agrees(counts[k], printed[k], 2) for k in printed), counts
    assert agrees(sum(counts.values()), 144, 0) and agrees(sum(counts.values()) + 2 * (counts["D_c"] + counts["D_bg"]), 220, 0)


@pytest.mark.parametrize("name", FOUND.presets)
def test_1_bypasses_have_the_shape_of_pre_images(name):
    c = preset(name)
    with torch.device("meta"): painter, critics = Painter(c), Critics(c)
    def blank(*shape): return torch.zeros(2, *shape, device="meta")
    codes = {"fg": blank(c.noise), "bg": blank(c.noise), "parent": blank().long(), "child": blank().long()}
    v = painter.embed(codes)
    middles, read = painter.middles(v), painter.encoders.read(blank(3, c.size, c.size))
    wanted = (2, c.width * c.size // (2 * c.middle), c.middle, c.middle)
    assert middles["fg"].shape == middles["bg"].shape == read["fg"].shape == painter.encoders.background(blank(3, c.size, c.size), blank(1, c.size, c.size)).shape == wanted
    layers = painter.paint(v, middles)
    assert layers.bg.shape == layers.fg.shape == (2, 3, c.size, c.size) and layers.mask.shape == (2, 1, c.size, c.size)
    painted, behind, _ = critics.patch.all(layers.bg)
    side = 8 if c.size == 32 else 24 if c.patch_stride == 1 else 4
    assert painted.shape == behind.shape == (2, 1, side, side)
    judged, classes, features = critics.picture.all(layers.image)
    assert judged.shape == (2, 1) and classes.shape == (2, c.classes) and features.shape[2:] == (8, 8)


# --- 2, 3, 7: blocks, compositing and losses with known answers

def test_2_the_value_half_is_normalised_and_the_gate_is_not():
    net, x = GLUNorm(6), torch.randn(3, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    value, gate = x.chunk(2, 1)
    plain = net(x)
    assert torch.allclose(net(torch.cat([3 * value, gate], 1)), plain, atol=1e-4)
    assert not torch.allclose(net(torch.cat([value, 3 * gate], 1)), plain, atol=.1)


def test_3_masks_of_nothing_everything_and_no_opacity():
    bg, fg, mask = (torch.rand(2, k, 4, 4) for k in (3, 3, 1))
    assert torch.equal(compose(bg, fg, 0 * mask), bg) and torch.equal(compose(bg, fg, 0 * mask + 1), fg)
    layers = tiny().method.reconstruct(torch.rand(2, 3, 32, 32))
    assert torch.equal(compose(layers.bg, layers.fg, 0. * layers.mask), layers.bg) and not torch.equal(layers.image, layers.bg)


def test_7_losses_whose_value_is_known():
    t, mask = torch.randn(5, 4), torch.zeros(2, 1, 8, 8)
    assert normal_kl(t, 0 * t, t) == 0 and normal_kl(t + 1, 0 * t, t) == .5
    crisp = mask.clone(); crisp[:, :, :4] = 1
    found = [float(area_prior(m)) for m in (crisp, mask + .5, mask, mask + 1)]
    assert found == pytest.approx([0, .1, .6, .6])


# --- 4: mixtures

@pytest.fixture(scope="module")
def painter(): return tiny(seed=4).method.nets["generator"]


@torch.no_grad()
def again(painter, mixture, beliefs, tables):
    x = torch.linspace(-1, 1, 3 * 3 * 32 * 32).view(3, 3, 32, 32)
    return repaint(painter, x, tables, mixture, beliefs=beliefs).layers.image


@pytest.mark.parametrize("mixture, ignored, heard", [
    (Mixture(1., 1., 1.), ("z", "start", "tables"), ("fg", "parent", "child")), (Mixture(.5, .5, 0.), ("fg",), ("z", "start", "tables", "parent", "child")),
    (Mixture(0., 0., .5), ("parent", "child"), ("fg", "z", "start", "tables")), (Mixture(1., 1., .5), ("tables",), ("fg", "z", "start", "parent", "child")),
    (Mixture(torch.zeros(3), torch.zeros(3), torch.ones(3)), ("z", "start", "parent", "child"), ("fg", "tables"))],
    ids=["all read", "no bypass", "codes of the tables", "codes as read", "tables and bypass, per picture"])
def test_4_shares_of_zero_and_one_shut_a_source_out(painter, mixture, ignored, heard):
    with torch.no_grad(): beliefs = painter.encoders.read(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    tables = torch.randn(3, 4), torch.randn(3, 5)
    was = again(painter, mixture, beliefs, tables)
    def changed(source):
        if source == "tables": return again(painter, mixture, beliefs, tuple(-t for t in tables))
        if source == "start":
            other = copy.deepcopy(painter)
            with torch.no_grad():
                for p in other.fg_start.parameters(): p.mul_(-1.5)
            return again(other, mixture, beliefs, tables)
        told = beliefs["fg"].flip(0) + 1 if source == "fg" else (beliefs[source][0], beliefs[source][1] + 3, beliefs[source][2])
        return again(painter, mixture, beliefs | {source: told}, tables)
    for source in ignored: assert torch.equal(changed(source), was), source
    for source in heard: assert not torch.allclose(changed(source), was, atol=1e-5), source


def test_4_shares_are_drawn_for_every_picture():
    m = drawn_mixture(Settings(), 1000, Dice(0))
    assert torch.equal(m.parent, m.child) and m.parent.shape == m.map.shape == (1000,)
    assert m.parent.min() < .05 and m.parent.max() > .95 and m.parent.var() > .07   # 1/12 for U[0,1]
    assert .5 <= m.map.min() < .52 and m.map.max() > .98 and m.map.var() > .018     # 1/48
    assert abs(torch.corrcoef(torch.stack([m.parent, m.map]))[0, 1]) < .1
    spread = mixed(m.map, torch.zeros(1000, 4, 3, 3), torch.ones(1000, 4, 3, 3))
    assert torch.equal(spread, m.map.view(-1, 1, 1, 1).expand_as(spread))


def test_4_without_the_bypass_nothing_reads_it():
    painter = tiny(bypass=False).method.nets["generator"]
    with torch.no_grad(): beliefs = painter.encoders.read(torch.rand(3, 3, 32, 32))
    a, b = (again(painter, Mixture(), beliefs | {"fg": f}, None) for f in (beliefs["fg"], beliefs["fg"] + 1))
    assert torch.equal(a, b)


# --- 5: who learns from what

def groups(method):
    "The columns of table 3.3, the first two and E apart"
    p, e = method.nets["generator"], method.nets["generator"].encoders
    found = {"V_c": [p.tables.child], "V_p": [p.tables.parent], "V_bg": [p.tables.bg], "G_bg0": [p.bg_start], "G_bg1": [p.bg], "G_fg0": [p.fg_start], "G_fg": [p.fg],
             "E_c": [e.child_trunk, e.child_deep, e.child], "E_p1": [e.parent_trunk, e.fg_bypass], "E_p0": [e.parent_deep, e.parent, e.z], "E_bg": [e.bg_trunk, e.bg_bypass]}
    found = {k: [q for m in v for q in m.parameters()] for k, v in found.items()}
    for path in PATHS:
        found[f"D_{path}"] = method.nets[f"critics_{path}"].judging()
        found[f"D_cB_{path}"] = list(method.nets[f"critics_{path}"].picture.classes.parameters())
    return found


FG = {"V_c", "V_p", "G_fg0", "G_fg"}
G = FG | {"V_bg", "G_bg0", "G_bg1"}
READ = {"E_c", "E_p0", "E_p1"}
AE = FG | READ | {"G_bg1", "E_bg"}   # V and G_fg0 by their shares of the mixtures
ROUTES = {
    "gen": {"adv": G, "class": G | {"D_cB_gen"}, "bg": {"V_bg", "G_bg0", "G_bg1"}, "behind": {"V_bg", "G_bg0", "G_bg1"}, "read": G | READ, "lengths": {"V_c", "V_p", "V_bg"}, "mask": FG,
            "mse child": G | {"E_c"}, "mse parent": G | {"E_p0", "E_p1"}, "mse bg": {"E_bg"}, "mse fg": G | {"E_p1"}, "mse z": G | {"E_p0", "E_p1"}},
    "fake": {"adv": AE, "class": AE | {"D_cB_fake"}, "bg": AE, "behind": AE, "read": READ, "lengths": {"V_c", "V_p"}, "mask": FG | READ, "spread": READ, "perceptual": AE, "perceptual bg": AE,
             "mse child": {"E_c"}, "mse parent": {"E_p0", "E_p1"}, "mse bg": FG | READ | {"E_bg"}, "mse fg": {"E_p1"}, "mse z": {"E_p0", "E_p1"}, "l1 image": AE, "l1 bg": AE, "l1 mask": FG | READ},
    "real": {"adv": AE, "bg": AE, "behind": AE, "lengths": {"V_c", "V_p"}, "mask": FG | READ, "spread": READ, "perceptual": AE, "l1 image": AE},
}


@pytest.fixture(scope="module")
def routes():
    "Each term of a step of the real stage, as the step computes it: the groups that get a gradient"
    t = tiny("real")
    columns, found, heard = groups(t.method), {}, []
    def spied(f):
        def call(*a, **k): heard.append(f(*a, **k)); return heard[-1]
        return call
    def reached(loss):
        grads = {k: torch.autograd.grad(loss, thawed, retain_graph=True, allow_unused=True) for k, ps in columns.items() if (thawed := [p for p in ps if p.requires_grad])}
        return {k for k, found in grads.items() if any(g is not None and bool(g.any()) for g in found)}
    plain, mse = t.method.weighted, ["mse child", "mse parent", "mse bg", "mse fg", "mse z"]
    order = {"gen": mse, "fake": ["l1 image", "perceptual", *mse, "l1 bg", "l1 mask", "perceptual bg"], "real": ["l1 image", "perceptual"]}   # in which a path computes the terms that it sums
    def watched(parts):
        path = PATHS[len(found)]
        terms = parts | dict(zip(order[path], heard, strict=True))
        heard.clear()
        found[path] = {k: reached(v) for k, v in terms.items() if k not in ("match", "again")}
        return plain(parts)
    t.method.weighted = watched
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mse_loss", "l1_loss"): patch.setattr(onegan.nnF, name, spied(getattr(nnF, name)))
        step(t)
    return found


@pytest.mark.parametrize("path, term", [(path, term) for path in ROUTES for term in ROUTES[path]], ids=lambda x: x)
def test_5_gradients_take_the_routes_of_table_3_3(routes, path, term): assert routes[path][term] == ROUTES[path][term]


def test_5_no_term_is_left_out(routes): assert {k: set(v) for k, v in routes.items()} == {k: set(v) for k, v in ROUTES.items()}


@pytest.mark.parametrize("path", ["fake", "real"])
def test_5_painting_again_leaves_the_background_start_and_other_critics_alone(path):
    t = tiny("real")
    m, codes = t.method, t.method.space.sample(4, t.dice)
    truth = m.watched(codes)
    before, critics = kept(m.nets["generator"]), {p: kept(m.nets[f"critics_{p}"]) for p in PATHS}
    step_again(m, path, truth[3].image if path == "fake" else t.real, truth if path == "fake" else None, t.real, t.backgrounds, t.dice)
    parts = {k.split(".")[0] if not k.startswith("tables") else k for k in moved(before, m.nets["generator"])}
    assert parts == {"tables.child.weight", "tables.parent.weight", "fg_start", "fg", "bg", "encoders"}
    for p in PATHS:
        changed = moved(critics[p], m.nets[f"critics_{p}"])
        assert (p == path) == bool(changed), p
        if p == path: assert any(k.startswith("picture.classes") for k in changed) == (path == "fake")   # real pictures have no class to learn from


def test_5_the_warm_up_moves_encoders_alone():
    t = tiny("warm_up")
    assert t.method.stage == "warm_up"
    before = {k: kept(n) for k, n in t.method.nets.items()}
    step(t)
    assert {k.split(".")[0] for k in moved(before["generator"], t.method.nets["generator"])} == {"encoders"}
    assert not moved(before["critics_gen"], t.method.nets["critics_gen"]) and not moved(before["critics_real"], t.method.nets["critics_real"])
    judges = moved(before["critics_fake"], t.method.nets["critics_fake"])
    assert judges and not any(k.startswith("picture.classes") for k in judges)
    assert all(p.requires_grad for k in ("generator", *(f"critics_{p}" for p in PATHS)) for p in t.method.nets[k].parameters())   # everything thaws


# --- 6: clones

def memory(method, path):
    "What Adam remembers about a path's critics, class heads included"
    heads = [method.optimisers["generator"].state.get(p, {}) for p in method.nets[f"critics_{path}"].picture.classes.parameters()]
    return copy.deepcopy([method.optimisers[f"critics_{path}"].state_dict()["state"], heads])


def test_6_clones_begin_alike_and_part_ways():
    t = tiny()
    m = t.method
    step(t, 2)
    assert memory(m, "gen")[0] and not memory(m, "fake")[0] and memory(m, "gen")[1][0]["step"] == 2
    m.enter("warm_up")
    for path in ("fake", "real"): assert same(kept(m.nets[f"critics_{path}"]), kept(m.nets["critics_gen"])) and same(memory(m, path), memory(m, "gen"))
    layers = m.watched(m.space.sample(4, t.dice))[3]
    for stepped in PATHS:
        before = {p: (kept(m.nets[f"critics_{p}"]), memory(m, p)) for p in PATHS}
        step_critics(m, stepped, layers, t.real, t.backgrounds)
        for p in PATHS: assert same((kept(m.nets[f"critics_{p}"]), memory(m, p)), before[p]) == (p != stepped), (stepped, p)


@pytest.mark.parametrize("refresh", [True, False])
def test_6_the_real_path_takes_over_the_fake_paths_critics(refresh):
    t = tiny(refresh_real=refresh)
    m = t.method
    step(t, 3)
    first = kept(m.nets["critics_gen"]), memory(m, "gen")
    step(t, 4)
    assert m.stage == "real" and same((kept(m.nets["critics_real"]), memory(m, "real")), first)   # they have waited since phase I
    fake = kept(m.nets["critics_fake"]), memory(m, "fake")
    m.enter("real")
    assert same((kept(m.nets["critics_real"]), memory(m, "real")), fake if refresh else first)
    assert not same(fake, first)


# --- 8: patches

@pytest.mark.parametrize("size, side, stride, last", [(32, 16, 2, 7), (64, 16, 2, 23), (128, 34, 4, 23)])
def test_8_a_patch_is_as_large_as_it_should_be(size, side, stride, last):
    critic = PatchCritic(Settings(size=size, width=4))
    x = torch.rand(1, 3, critic.side, critic.side, requires_grad=True)
    maps = critic.heads(critic.features(x))
    assert maps.shape[2:] == (last + 1, last + 1) and stride * last + side == critic.side   # patches tile the picture
    for i, j in ((0, 0), (last // 2, last - 1), (last, last)):
        g, = torch.autograd.grad(maps[0, 0, i, j], x, retain_graph=True)
        rows, cols = (g.abs().sum((0, 1, d)).nonzero().flatten() for d in (3, 2))
        for found, at in ((rows, i), (cols, j)): assert (int(found[0]), int(found[-1]) + 1, len(found)) == (stride * at, stride * at + side, side)


# --- 9: directions

@torch.no_grad()
def opinions(method, layers):
    critics = method.critics("gen")
    patch, behind, _ = critics.patch.all(layers.bg)
    return {"picture": float(critics.picture(layers.image).mean()), "patch": float(patch.mean()), "behind": float(behind.mean())}


def test_9_critics_learn_to_say_painted():
    t = tiny(rate=1e-3)
    layers = t.method.watched(t.method.space.sample(4, t.dice))[3]
    critic, before = t.method.critics("gen").patch, opinions(t.method, layers)
    for _ in range(50): step_critics(t.method, "gen", layers, t.real, t.backgrounds)
    after = opinions(t.method, layers)
    assert all(after[k] < before[k] - .5 for k in ("picture", "patch")), (before, after)
    with torch.no_grad(): assert critic.all(t.backgrounds)[1].mean() > critic.all(t.real)[1].mean() + .5   # background or object?


@pytest.mark.parametrize("bg_weight, rises", [(10., ("picture", "patch")), (0., ("picture", "behind"))])   # the patch critic's two heads may disagree, so each is heard without the other's weight
def test_9_painters_learn_to_be_called_real(bg_weight, rises):
    t = tiny(rate=1e-3, bg_weight=bg_weight)
    m, codes = t.method, t.method.space.sample(4, t.dice)
    for group in m.optimisers["critics_gen"].param_groups: group["lr"] = 0.   # the critics hold still
    before = opinions(m, m.watched(codes)[3])
    for _ in range(50): onegan.step_generation(m, codes, t.real, t.backgrounds)
    after = opinions(m, m.watched(codes)[3])
    assert all(after[k] > before[k] + .05 for k in rises), (before, after)


# --- 10: classes (that pictures and backgrounds share no scene is in test_backgrounds.py)

@pytest.mark.parametrize("parents, classes", [(4, 16), (20, 200), (12, 120), (14, 196), (5, 5), (1, 3)])
def test_10_parents_have_children_alike_in_number(parents, classes):
    with torch.device("meta"): method = FOUND(Settings(size=32, width=4, parents=parents, classes=classes))
    parent = method.space.parent_of("child", torch.arange(classes))
    assert parent.bincount().tolist() == [classes // parents] * parents and parent.tolist() == sorted(parent.tolist())
    codes = method.space.sample(500, Dice(0))
    assert torch.equal(codes["parent"], parent[codes["child"]]) and torch.equal(codes["fg"], codes["bg"])
    assert codes["child"].unique().numel() > .8 * min(classes, 500)


# --- 11: all stages, all detectors

DETECTORS = {"F1": {"extreme"}, "F2": {"decisive"}, "F3": {"left_out", "called_bg", "told_nothing"}, "F4": {"larger_on_reals"},
             "F5": {"used_drawn", "used_real", "even_drawn", "even_real", "rows_child", "rows_parent", "rows_bg"}, "F6": {"active_child", "active_parent", "active_z", "signal_child", "signal_parent"},
             "F7": {"bypass_half", "bypass_none", "bypass_other"}, "F8": {"shape_owned"}, "F9": {"parent_bg", "parent_swapped"},
             "F10": {f"{what}_{path}{part}" for what in ("right", "margin") for path in PATHS for part in ("", "_bg")} | {f"share_{path}" for path in PATHS},
             "F11": {f"gates_{part}" for part in ("bg_start", "fg_start", "bg", "fg", "encoders")}, "F12": {"drift"}}
LATER = DETECTORS["F3"] | DETECTORS["F4"] | DETECTORS["F7"] | {"signal_child", "signal_parent", "extreme_real", "decisive_real"}


@pytest.fixture(scope="module")
def scenes(): return open_backgrounds("scenes", 40, 36)


def run(out, scenes, **how): return train("onegan", scenes[0], out, preset="smoke", backgrounds=scenes[1], device="cpu", threads=1, every=1, look_seconds=1e9, save_seconds=1e9, progress=False, **how)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, scenes):
    "All three phases, without a pause"
    return run(tmp_path_factory.mktemp("smoke") / "run", scenes)


def test_11_a_smoke_run_takes_every_stage(smoke):
    curves, ran = smoke.curves(), {}
    assert curves["step"] == list(range(1, 61))
    for path in PATHS: ran[path] = [i for i, v in enumerate(curves[f"g_{path}/adv"]) if v is not None]
    assert ran == {"gen": [*range(20), *range(24, 60)], "fake": [*range(20, 60)], "real": [*range(40, 60)]}   # the generator waits during the warm-up
    assert all(math.isfinite(v) for column in curves.values() for v in column if v is not None)
    assert smoke.load()["method"]["cloned"] == 2
    method = reopen(smoke.path)[0]
    layers = method.generate(method.space.sample(3, Dice(0)))
    assert layers.image.isfinite().all() and method.segment(layers.image).shape == (3, 1, 32, 32)


def test_11_a_smoke_run_writes_every_detector(smoke):
    rows = {}
    for name, column in smoke.curves().items():
        for i, v in enumerate(column):
            if name.startswith("evidence/") and v is not None: rows.setdefault(i, set()).add(name[9:])
    everything = set().union(*DETECTORS.values()) | LATER
    of_real, of_fake = ({f"{what}_{path}{part}" for what in ("right", "margin", "share") for part in ("", "_bg")} & everything for path in ("real", "fake"))
    assert rows == {i: everything - (set() if i >= 40 else of_real) - (set() if i >= 20 else of_fake | LATER) for i in range(0, 60, 10)}
    assert set(LIMITS) - everything == {"colour_ahead", "drift_lost"}   # those need labels, and an earlier reading


def test_a_stopped_run_resumes_to_the_same_numbers(smoke, scenes, tmp_path):
    run(tmp_path / "run", scenes, steps=22)   # inside the warm-up
    part = run(tmp_path / "run", scenes, steps=30, resume=True).curves()
    told = [k for k in part if k != "seconds" and not k.startswith("health/")]
    assert len(part["step"]) == 30 and "evidence/left_out" in told
    assert {k: part[k] for k in told} == {k: v[:30] for k, v in smoke.curves().items() if k in told}


def test_detectors_do_not_disturb_training():
    a, b = tiny(), tiny(evidence=1)
    for _ in range(9): step(a); step(b)
    assert same(a.method.state(), b.method.state()) and same(a.dice.state(), b.dice.state())


def test_batch_statistics_are_not_moved_by_looking():
    t = tiny("real", norm="batch")
    before = kept(t.method.nets["generator"])
    evidence(t.method, t.real, t.dice, t.backgrounds)
    assert not moved(before, t.method.nets["generator"]) and t.method.nets["generator"].training
    assert all(p.grad is None for p in t.method.nets["generator"].parameters())


# --- resume, in every stage and at every boundary

@pytest.mark.parametrize("stop", range(2, 9))
def test_a_stopped_training_goes_on_to_the_same_bits(stop):
    whole = tiny(evidence=2)
    step(whole, stop)
    file = io.BytesIO()
    torch.save({"method": whole.method.state(), "dice": whole.dice.state()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = tiny(seed=99, evidence=2)   # other first weights
    other.real, other.backgrounds = whole.real, whole.backgrounds
    other.method.load_state(saved["method"]); other.dice.load_state(saved["dice"])
    assert other.method.stage == whole.method.stage
    assert same(step(whole, 3), step(other, 3))
    assert same(whole.method.state(), other.method.state()) and same(whole.dice.state(), other.dice.state())


# --- every switch takes a step of the last stage, and is looked at

@pytest.mark.parametrize("changes", [
    dict(bypass=False), dict(bypass=False, bg_bypass=False), dict(mix_codes=(1., 1.), mix_maps=(1., 1.)), dict(mix_maps=(0., 1.)), dict(own_critics=False), dict(multiphase=False), dict(norm="plain"),
    dict(norm="batch"), dict(real_code="soft"), dict(behind_input="masked"), dict(behind_grad=False), dict(kl=False), dict(perceptual=False), dict(real_mask_prior=False), dict(mask_weight=0.), dict(mse_z=0.), dict(last="generation"), dict(last="fake"),
    dict(classes=4), dict(parents=1, classes=3), dict(parents=1, classes=1), dict(critic_width=12), dict(size=64, width=4)], ids=lambda c: " ".join(f"{k}={v}" for k, v in c.items()))
def test_every_switch_takes_a_step(changes):
    t = tiny("real", evidence=1, **changes)
    if "size" in changes: t.real, t.backgrounds = (torch.rand(4, 3, 64, 64) for _ in range(2))
    losses, = step(t)
    assert all(torch.isfinite(v) for v in losses.values()), losses
    paths = {k.split("/")[0][2:] for k in losses if k.startswith("d_")}
    assert paths == {"generation": {"gen"}, "fake": {"gen", "fake"}, "real": set(PATHS)}[changes.get("last", "real")]
    assert {k[15:] for k in losses if k.startswith("evidence/share_")} == paths
    assert ("evidence/shape_owned" in losses) == (t.method.config.classes > t.method.config.parents > 1)
    assert ("g_fake/spread" in losses, "g_fake/perceptual" in losses) == (changes.get("kl", True) and "fake" in paths, changes.get("perceptual", True) and "fake" in paths)
