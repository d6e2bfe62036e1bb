"""Kill -9 at any moment, resume, and see the same numbers"""
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from layerbench.train import Run

SCRIPT = Path(__file__).parent / "training_script.py"
STEPS = 80  # crosses from the first stage into the fading second


def start(out, *more): return subprocess.Popen([sys.executable, str(SCRIPT), str(out), str(STEPS), *more])


def losses(path):
    "Every column that training decides; clocks and samples aside"
    return {k: v for k, v in Run(path).curves().items() if k[:2] in ("d/", "g/", "st", "se") and k != "seconds"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert start(out).wait() == 0
    return out


@pytest.mark.parametrize("pages", [0, 7])
def test_a_killed_run_resumes_to_the_same_losses(whole, tmp_path, pages):
    for attempt in range(5):   # where others have the cores, the killer may come too late
        out = tmp_path / f"run{attempt}"
        process = start(out)
        while process.poll() is None and len(Run(out).curves().get("step", [])) < pages + (pages > 0): time.sleep(.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if len(losses(out).get("step", [])) < STEPS // 4: break
    else: pytest.fail("the run ended before it could be killed; make it longer")
    assert start(out, "resume").wait() == 0
    assert losses(out) == losses(whole)   # to the last bit: the CSV holds floats in full
    a, b = (Run(p).load()["method"]["nets"] for p in (out, whole))
    assert all(torch.equal(a[k][n], b[k][n]) for k in a for n in a[k])
