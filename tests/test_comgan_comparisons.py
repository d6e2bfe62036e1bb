"""What ComGAN is compared with can be trained, kept and measured like itself: no layers, boxes, more trunks, other terms of stage 2"""
import json

import pytest
import torch

from layerbench.data.scenes import Scenes
from layerbench.measure.report import evaluate
from layerbench.method import make
from layerbench.segmenter import Segmenter
from layerbench.train import Run, reopen
from layerbench.method import save_weights

QUICK = ("--device", "cpu", "--threads", "1", "--n", 8)


@pytest.mark.parametrize("laid, said", [("ds_t2_baseline", {"trunks": 1, "heads": False}), ("bbox_crop", {"boxes": True}), ("pi2_matched,study", {"trunks": 3, "segmentation": 0}), ("seg_no_Dm", {"mask_critic": False})])
def test_a_comparison_trains_from_a_shell(shell, tmp_path, laid, said):
    run = tmp_path / "run"
    short = ("--set", "iterations=2", *(("--set", "segmentation=1") if laid in ("bbox_crop", "seg_no_Dm") else ()))
    code, _, err = shell("train", "comgan", "--preset", f"smoke,{laid}", "--out", run, *QUICK, *short)
    assert code == 0, err
    config = Run(run).config["config"]
    assert {k: config[k] for k in said} == said
    assert reopen(run)[0].done


def test_without_layers_there_is_a_picture_and_nothing_to_segment():
    torch.manual_seed(0)
    method = make("comgan", "smoke,ds_t2_baseline")
    found = evaluate(method, None, "scenes", n=8, samples=8, only_layers=True)
    assert found["iou"] is None and "identical_layers" in {f["name"] for f in found["health"] if f["bad"]}
    with pytest.raises(ValueError, match="no way to segment"): evaluate(method, None, "scenes", n=8, samples=8)


def test_boxes_need_masks(tmp_path):
    from layerbench.data.sources import bare
    from layerbench.train import train
    with pytest.raises(ValueError, match="have no masks and no boxes, so where their objects are"):
        train("comgan", bare(Scenes(36).pictures(8)), tmp_path / "run", "smoke,bbox_crop", steps=1, device="cpu", threads=1, progress=False)


def test_its_own_network_and_a_taught_segmenter_share_a_file(tmp_path):
    torch.manual_seed(0)
    method, taught = make("comgan", "smoke"), Segmenter(width=4, depth=2, size=32)
    save_weights(tmp_path / "both.safetensors", method, taught)
    save_weights(tmp_path / "one.safetensors", method)
    again, segmenter, _ = reopen(tmp_path / "both.safetensors")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.allclose(again.segment(x), method.segment(x), atol=2e-3) and torch.allclose(segmenter.segment(x), taught.eval().segment(x), atol=2e-3)
    assert reopen(tmp_path / "one.safetensors")[1] is None


def test_weights_of_other_chapters_still_open():
    "Files that were written before the taught segmenter had a name of its own"
    method, segmenter, record = reopen("perturbgan/cpu")
    assert segmenter is not None and json.dumps(record)
