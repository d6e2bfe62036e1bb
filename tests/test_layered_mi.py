"Improved Layered GANs, what no notebook says better: killed inside the U-Net's turn, on two ranks, with every other path, with bad settings"
import os
import subprocess
import sys

import pytest
import torch

from layerbench.codes import Dice
from layerbench.data.scenes import Scenes
from layerbench.method import chapter, make, settings
from layerbench.train import Run, fabric_for, train

FOUND = chapter("layered_mi")
SMALL = dict(widths=(16, 8, 8), trunk=(8, 8), images=32)   # smoke, smaller: four steps of the GAN, four of the U-Net, twice


@pytest.fixture(scope="module")
def pictures(): return Scenes(19).pictures(40)


def learn(out, pictures, steps, resume=False, **changes):
    return train("layered_mi", pictures, out, preset="smoke", overrides=SMALL | changes, steps=steps, resume=resume, device="cpu", threads=1, every=1,
                 save_seconds=0., look_seconds=1e9, progress=False)


def numbers(run): return {k: v for k, v in run.curves().items() if k != "seconds" and not k.startswith("health/")}


# --- resume

@pytest.fixture(scope="module")
def whole(tmp_path_factory, pictures):
    "Both rounds, without a pause"
    return learn(tmp_path_factory.mktemp("whole") / "run", pictures, None)


def test_a_whole_run_takes_both_turns_of_both_rounds(whole):
    curves = whole.curves()
    taught = [i for i, v in enumerate(curves["f/cross"]) if v is not None]
    assert taught == [4, 5, 6, 7, 12, 13, 14, 15]
    assert [i for i, v in enumerate(curves["g/bg"]) if v is not None] == [8, 9, 10, 11]   # from the second round on
    state = whole.load()
    assert (state["method"]["seen"], state["method"]["taught"], state["served"]) == (64, 8, 64)


@pytest.mark.parametrize("stop", [4, 6, 8, 10], ids=["before the U-Net's turn", "inside it", "after it", "inside the second round"])
def test_a_stopped_run_resumes_to_the_same_numbers(whole, tmp_path, pictures, stop):
    part = learn(tmp_path / "run", pictures, stop)
    assert part.load()["method"]["taught"] == min(max(stop - 4, 0), 4)
    part = learn(tmp_path / "run", pictures, None, resume=True)
    assert numbers(part) == numbers(whole)   # to the last bit: the CSV holds floats in full
    a, b = (r.load()["method"] for r in (part, whole))
    assert all(torch.equal(a["nets"][k][n], b["nets"][k][n]) for k in a["nets"] for n in a["nets"][k])
    for k in a["optimisers"]:
        for i, moments in a["optimisers"][k]["state"].items():
            assert all(torch.equal(v, b["optimisers"][k]["state"][i][n]) for n, v in moments.items()), f"Adam of {k}"


# --- ranks

SCRIPT = '''
import sys
from layerbench.data.scenes import Scenes
from layerbench.train import train
# the U-Net's turn comes after two steps; batch norm in critic and readers is the hard case: its statistics are of both ranks' pictures
train("layered_mi", Scenes(19).pictures(40), sys.argv[1], preset="smoke", steps=5, device="cpu", threads=1, every=1, look_seconds=1e9, progress=False,
      overrides=dict(widths=(16, 8, 8), trunk=(8, 8), images=16, unet_steps=2, d_norm=sys.argv[2], binary_ramp=64))
'''


def on_ranks(folder, ranks, norm):
    script = folder / "train.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"] if ranks > 1 else [sys.executable]
    subprocess.run([*launch, str(script), str(folder / f"{ranks}"), norm], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240)
    return Run(folder / f"{ranks}")


def test_two_ranks_match_one(tmp_path):
    one, two = on_ranks(tmp_path, 1, "bn"), on_ranks(tmp_path, 2, "bn")
    assert two.environment["ranks"] == 2
    a, b = (r.load() for r in (one, two))
    for k in ("seen", "taught"): assert a["method"][k] == b["method"][k]
    assert a["served"] == b["served"] and a["method"]["taught"] == 2   # two steps, the U-Net's turn, and into the second round
    torch.manual_seed(0)
    fresh = make("layered_mi", "", one.config["config"])   # where both began
    # losses are each rank's own means: the networks are what must agree. A gradient near zero may round to either sign, and Adam's first steps
    # move such a weight by a whole step; so gaps are compared with how far training moved, all weights together. The U-Net has biases before
    # batch norms, whose true gradient is zero
    for net, most in dict(generator=.1, critic=.1, reader=.1, average=.1, unet=.25).items():
        found = [(a["method"]["nets"][net][n], b["method"]["nets"][net][n], p.detach()) for n, p in fresh.nets[net].named_parameters()]
        gap, way = (sum(float((x - y).abs().sum()) for x, y in pairs) for pairs in ([(x, y) for x, y, _ in found], [(x, z) for x, _, z in found]))
        assert 0 < gap + way and gap < most * way, f"{net}: ranks differ by {gap / way:.1%} of what training moved"
        for n, norm in fresh.nets[net].named_modules():   # statistics are of both ranks' pictures
            if isinstance(norm, torch.nn.BatchNorm2d):
                x, y = (r["method"]["nets"][net][f"{n}.running_mean"] for r in (a, b))
                assert torch.allclose(x, y, atol=.01), f"{net} {n}: {(x - y).abs().max():.1e}"


# --- every other path

@pytest.mark.parametrize("changes", [
    dict(prior="normal", classes=4), dict(prior="normal", classes=4, log_variance=True), dict(prior="normal", classes=4, leaky_bg=True),
    dict(mask_loss_on="warped"), dict(fg_pad="border"), dict(colours="mild"), dict(unet_soft=True), dict(d_norm="bn"), dict(leaky_bg=True),
    dict(perturb=False), dict(mi_image=False), dict(mi_mask=False), dict(mi_trunk=False), dict(mi_weight=0., size_weight=2.), dict(contrast=.3), dict(rounds=1)],
    ids=lambda c: " ".join(f"{k}={v}" for k, v in c.items()))
def test_every_path_takes_a_step(changes):
    torch.manual_seed(0)
    method, dice = make("layered_mi", "smoke", SMALL | dict(images=8, unet_steps=1) | changes), Dice(0)
    method.start(fabric_for("cpu", threads=1))
    real = torch.rand(8, 3, 16, 16) * 2 - 1
    taken = [method.train_step(real, dice)]
    if method.config.rounds > 1:
        assert method.demand() == (0, 16)
        taken.append(method.train_step(None, dice))
    for losses in taken: assert all(torch.isfinite(v) for v in losses.values()), losses
    layers = method.generate(method.space.sample(3, dice))
    assert layers.image.shape == (3, 3, 16, 16) and 0 <= layers.mask.min() <= layers.mask.max() <= 1
    if changes.get("prior") == "normal":
        assert not method.can("cluster") and method.read(real).shape == (8, 4)
    else: assert torch.allclose(method.cluster(real).sum(1), torch.ones(8), atol=1e-5)
    if changes.get("size_weight"): assert "g/size" in taken[0]


def test_the_same_seed_gives_the_same_step():
    def one():
        torch.manual_seed(3)
        method = make("layered_mi", "smoke", SMALL)
        method.start(fabric_for("cpu", threads=1))
        return method.train_step(torch.linspace(-1, 1, 8 * 3 * 256).view(8, 3, 16, 16), Dice(5))
    a, b = one(), one()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("preset", [p if p in ("smoke", "cpu", "gpu", "paper") else f"gpu,{p}" for p in FOUND.presets])
def test_every_preset_makes_sense(preset): settings(FOUND.Config, FOUND.presets, preset)


@pytest.mark.parametrize("preset", ["cpu", "cpu,prior_normal_4", "gpu", "cub64", "paper-cars"])
def test_presets_build(preset):
    with torch.device("meta"): method = make("layered_mi", preset)   # no memory: the paper's networks are large
    c = method.config
    layers = method.nets["generator"].bg(torch.zeros(2, 16 * c.widths[0], device="meta"))
    assert layers.shape == (2, 3, c.size, c.size) and ("unet" in method.nets) == (c.rounds > 1)


# --- bad settings

@pytest.mark.parametrize("changes, said", [
    (dict(widths=(16, 8)), "expected at least three"), (dict(widths=(16, 8, 6)), "multiples of 4 and of 2"), (dict(trunk=(8,)), "one for each halving"),
    (dict(classes=9), "a multiple of 'group', 2"), (dict(group=0), "'group' is 0; expected 1 or more"), (dict(prior="normel"), "'categorical' or 'normal'"),
    (dict(scale=(0., .5)), "objects only shrink"), (dict(scale=(-.1,)), "two exponents"), (dict(shift=16.), "expected 0 to 1"), (dict(crop=.9), "expected 1 to 2"),
    (dict(rotation=-5.), "expected 0 to 180"), (dict(colours="loud"), "'wild' or 'mild'"), (dict(mask_loss_on="moved"), "'plain' or 'warped'"),
    (dict(rate=float("nan")), "'rate' is nan"), (dict(rounds=0), "expected 1 or more"), (dict(mi_wieght=1.), "mi_weight"), (dict(rate="quick"), "rate")])
def test_bad_settings_are_refused_in_a_sentence(changes, said):
    with pytest.raises(ValueError, match="setting") as problem: settings(FOUND.Config, FOUND.presets, "smoke", changes)
    assert said in str(problem.value), problem.value
