"What README says about photographs is what was measured, and nothing that is shipped tells where"
import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from layerbench.ablate.contest import MARKS, readme_table
from layerbench.ablate.record import opened
from layerbench.cli import homeless

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_of_flowers_is_that_of_the_results():
    text = (ROOT / "README.md").read_text()
    rows = [line.split("|")[1:-1] for line in text[text.index("### Photographs of flowers"):].split("\n## ")[0].splitlines() if re.match(r"\| `\w+", line)]
    ceiling = json.loads((ROOT / "papers" / "comgan" / "results" / "flowers.json").read_text())
    assert {r[0].strip().split("`")[1] for r in rows} == {"perturbgan", "layered_mi", "onegan", "comgan", "ganseg"}
    for name, way, *figures in rows:
        key = name.strip().split("`")[1]
        found = json.loads((ROOT / "papers" / key / "results" / "flowers.json").read_text())
        marks = found["paths"][{"own masks": "own", "segmenter": "segmenter"}[way.strip()]]
        said = [float(f.strip(" *")) for f in figures[:3]]
        assert said == [round(marks[k], 3) for k in ("iou", "miou", "dice")], key
        assert float(figures[3].strip()) == round(found["floors"]["fixed_mask"], 3), key
        assert float(figures[4].strip()) == round(ceiling["ceiling"], 3), key
        assert int(figures[6].strip().replace(",", "")) == round(found["record"]["trained"]["seconds"]), key
    assert f"**{ceiling['ceiling']:.3f}**" in text and ceiling["crossed"]["steps"] == 600


@pytest.mark.parametrize("file", sorted([*ROOT.glob("papers/*/weights/*.safetensors"), *ROOT.glob("papers/*/results/*.json")]), ids=lambda p: f"{p.parent.parent.name}/{p.name}")
def test_what_is_shipped_names_no_folder_of_a_machine(file):
    def sources(record):
        if not isinstance(record, dict): return []
        return [v for k, v in record.items() if k in ("source", "kind") and isinstance(v, str)] + [s for v in record.values() for s in sources(v)]
    if file.suffix == ".json": record = json.loads(file.read_text())
    else:
        with safe_open(file, "pt") as weights: record = json.loads(weights.metadata()["layerbench"])
    assert not [s for part in (record if isinstance(record, list) else [record]) for s in sources(part.get("record", {})) if "/" in s]


def test_a_record_loses_its_folders():
    said = {"data": {"source": "cub,all:/home/me/CUB"}, "backgrounds": {"kind": "/home/me/meadows", "of": {"source": "/home/me/a.tar", "n": 3}}, "seed": 0}
    assert homeless(said) == {"data": {"source": "cub,all:CUB"}, "backgrounds": {"kind": "meadows", "of": {"source": "a.tar", "n": 3}}, "seed": 0}


def test_the_table_of_the_comparison_is_that_of_the_results():
    text, (about, entries) = (ROOT / "README.md").read_text(), opened(ROOT / "papers" / "comparison")
    table = text.partition(MARKS[0])[2].partition(MARKS[1])[0].strip()
    assert table == readme_table(entries) and about["command"] in text
    for name in {e["title"] for e in entries if e["state"] == "done"}:   # by hand, once more
        seeds = [e["result"]["evaluated"]["iou"] for e in entries if e["title"] == name and e["result"]]
        cells = next(line for line in table.splitlines() if line.startswith(f"| `{name}`")).split("|")
        if None not in seeds: assert float(cells[3].split("±")[0]) == pytest.approx(sum(seeds) / len(seeds), abs=5.1e-4), name


def test_the_comparison_names_no_folder_of_a_machine():
    text = (ROOT / "papers" / "comparison" / "record.json").read_text()
    assert not re.findall(r'"(?:/|~)[^"]*"', text)
    assert all(e["strip"].is_file() for e in opened(ROOT / "papers" / "comparison")[1] if e["state"] == "done")
