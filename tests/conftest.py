"What several test files share: one small run, trained and taught once"
import os
from types import SimpleNamespace

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")   # before torch is imported


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    "Prepared sets of tests are not the user's"
    before = os.environ.get("LAYERBENCH_CACHE")
    os.environ["LAYERBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None: del os.environ["LAYERBENCH_CACHE"]
    else: os.environ["LAYERBENCH_CACHE"] = before


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    "A PerturbGAN of a few steps (`run`) and its weights with a segmenter (`weights`); not to be changed by tests"
    from layerbench.cli import main
    here = tmp_path_factory.mktemp("tiny")
    run, weights = here / "run", here / "tiny.safetensors"
    assert main(["train", "perturbgan", "--preset", "smoke", "--n", "32", "--steps", "4", "--seed", "0", "--out", str(run), "--device", "cpu"]) == 0
    assert main(["teach", str(run), "--out", str(weights), "--steps", "3", "--batch", "4", "--device", "cpu"]) == 0
    return SimpleNamespace(run=run, weights=weights)


@pytest.fixture
def shell(capsys):
    "Runs a command in this process: (exit code, stdout, stderr)"
    from layerbench.cli import main
    def run(*words):
        capsys.readouterr()
        code = main([str(w) for w in words])
        return code, *capsys.readouterr()
    return run
