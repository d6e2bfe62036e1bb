"""Two ranks train as one rank does on the joined batch"""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from layerbench.train import Run

SCRIPT = Path(__file__).parent / "training_script.py"


def train(out, steps, ranks):
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"] if ranks > 1 else [sys.executable]
    subprocess.run([*launch, str(SCRIPT), str(out), str(steps)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240)
    return Run(out)


@pytest.fixture(scope="module", params=[1, 6], ids=["one step", "six steps"])
def pair(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    return request.param, train(out / "one", request.param, 1), train(out / "two", request.param, 2)


def test_two_ranks_match_one(pair):
    steps, one, two = pair
    assert two.environment["ranks"] == 2 and one.load()["served"] == two.load()["served"]
    a, b = (r.load()["method"] for r in (one, two))
    # Adam's first moment is the last gradient (beta1 is 0): the critic's first one is compared as it stands
    if steps == 1:
        for i, m in a["optimisers"]["critic"]["state"].items():
            assert torch.allclose(m["exp_avg"], b["optimisers"]["critic"]["state"][i]["exp_avg"], rtol=1e-3, atol=1e-5), f"gradient of the critic's parameter {i}"
    # a gradient near zero may round to either sign, and Adam moves such a weight by a whole step either way: so weights are compared as a crowd
    for net in ("generator", "critic", "average"):
        gaps = torch.cat([(a["nets"][net][n] - b["nets"][net][n]).abs().flatten() for n in a["nets"][net]])
        assert gaps.mean() < 1e-4 * steps and gaps.quantile(.9) < 1e-4 * steps, f"{net}: mean gap {gaps.mean():.1e}, 90 % below {gaps.quantile(.9):.1e}"
