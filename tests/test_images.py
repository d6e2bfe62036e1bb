"Painted pictures judged from a shell: what is measured, what is refused, and what training never needs"
import json
import subprocess
import sys

import pytest
import torch

from layerbench.measure.images import scenes_features, score_images, table


def test_images_are_told_and_spoken(shell, tmp_path):
    code, out, err = shell("evaluate", "perturbgan/cpu", "--layers", "--n", 8, "--images", 40, "--json", tmp_path / "found.json", "--device", "cpu")
    assert code == 0 and "images, 40 generated against 40 real of 32 px, seen by scenes_32: FID" in out and "comparable only within layerbench" in out, err
    found = json.loads((tmp_path / "found.json").read_text())
    images = found["images"]
    assert found["command"].endswith("--layers --images 40")
    assert (images["features"], images["n_generated"], images["n_real"], images["data"], images["split"], images["seed"]) == ("scenes_32", 40, 40, "scenes", "test", 0)
    assert images["fid"] > images["floor"] > 0 and images["bg_fid"] > 0 and 1 <= images["inception_score"] <= 32


def test_what_images_refuse(shell, tmp_path, monkeypatch):
    monkeypatch.delenv("LAYERBENCH_INCEPTION", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    def said(*words):
        code, out, err = shell("evaluate", "perturbgan/cpu", "--n", 4, "--device", "cpu", *words)
        assert (code, out) == (2, "") and err.splitlines()[-1].startswith("layerbench: "), err
        return err
    assert "expected at least 20" in said("--layers", "--images", 5)
    assert "say how many, e.g. with --images 2000" in said("--features", "inception")
    assert "did you mean 'inception'" in said("--images", 40, "--features", "incepton")
    assert "weights are not here" in said("--images", 40, "--features", "inception") and not list(tmp_path.glob("layerbench/*"))   # and nothing was fetched
    assert "There is no file" in said("--images", 40, "--inception", tmp_path / "none.pth")
    assert "its sha256 begins with" in said("--images", 40, "--inception", other)
    assert "leave one of them out" in said("--images", 40, "--features", "scenes_32", "--inception", other)


def test_a_table_never_mixes_what_cannot_be_compared(tiny):
    from layerbench.train import reopen
    method, look = reopen(tiny.weights, "cpu")[0], scenes_features()
    one, more = (score_images(method, n=n, features=look) for n in (20, 30))
    assert "real against real" in table({"one": one, "again": score_images(method, n=20, features=look)})
    with pytest.raises(ValueError, match="number of generated pictures is 20 for one and 30 for the other"): table({"one": one, "more": more})
    with pytest.raises(ValueError, match="feature network is scenes_32 for one and inception"): table({"one": one, "other": one | {"features": "inception"}})


def test_only_images_need_torchmetrics(tiny):
    code = f"""import sys
sys.modules["torchmetrics"] = None   # as if it were not installed; lightning-fabric looks at its version where it is
from layerbench.cli import main
print(main(["evaluate", {str(tiny.weights)!r}, "--layers", "--n", "4", "--device", "cpu"]), main(["evaluate", {str(tiny.weights)!r}, "--n", "4", "--images", "20", "--device", "cpu"]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("\n0 2\n"), done.stderr
    assert "install it with `pip install 'torchmetrics>=1.9'`" in done.stderr.splitlines()[-1]
