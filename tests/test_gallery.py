"""The gallery runs unattended, opens quickly and nothing that nobody looks at, and its numbers are those of the files"""
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from layerbench.explore.gallery import at_hand, exhibits, gallery
from layerbench.method import chapters

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "nbs" / "gallery.ipynb"
SHIPPED = sorted(f"{p.parent.parent.name}/{p.stem}" for p in ROOT.glob("papers/*/weights/*.safetensors"))
EARLY = "import json, time\nprint('EARLY', json.dumps({'seconds': time.process_time(), 'explorers': {k: list(r.explorers) for k, r in rooms.items()}}))"
LATE = """from layerbench.explore.gallery import at_hand
print('LATE', json.dumps({'opened': at_hand.cache_info().misses, 'explorers': {k: list(r.explorers) for k, r in rooms.items()}, 'frames': [sorted(r.explorer.frame.panels) for r in rooms.values()]}))"""


@pytest.fixture(scope="module")
def ran():
    "(what the page said of itself, its outputs)"
    page = nbformat.read(PAGE, 4)
    first = next(i for i, c in enumerate(page.cells) if "= gallery(" in c.source)
    page.cells.insert(first + 1, nbformat.v4.new_code_cell(EARLY))
    page.cells.append(nbformat.v4.new_code_cell(LATE))
    NotebookClient(page, timeout=900, kernel_name="python3", store_widget_state=False, resources={"metadata": {"path": str(PAGE.parent)}}).execute()   # a cell that fails raises
    outputs = [o for c in page.cells if c.cell_type == "code" for o in c.outputs]
    said = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    return {word: json.loads(rest) for word, rest in re.findall(r"^(EARLY|LATE) (.*)$", said, re.M)}, outputs


def test_the_first_explorer_comes_at_once(ran):
    "Within ten seconds on idle cores; here, where others may be busy, CPU time is bounded"
    early = ran[0]["EARLY"]
    assert early["explorers"] == {"perturbgan": ["scenes"]} and early["seconds"] < 10


def test_every_chapter_has_its_explorer_and_nothing_else_was_opened(ran):
    late = ran[0]["LATE"]
    assert sorted(late["explorers"]) == chapters() and all(len(opened) == 1 for opened in late["explorers"].values())
    assert late["opened"] == len(chapters()) < len(SHIPPED)
    assert all({"image", "background", "foreground", "mask", "cutout"} <= set(panels) for panels in late["frames"])


def test_the_tables_numbers_are_those_of_the_files(ran):
    table, = (o.data["text/markdown"] for o in ran[1] if o.output_type == "execute_result" and "text/markdown" in o.data)
    rows = [[cell.strip(" *`") for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]
    assert sorted(row[1] for row in rows if row[1] != "not shipped") == SHIPPED
    ceilings = {}
    for link, source, pictures, iou, fixed, grabcut, top, where in rows:
        key, file = re.fullmatch(r"\[(\w+)\]\((.*)\)", link).groups()
        name = source.split("/")[1] if "/" in source else "flowers"
        kept = json.loads((ROOT / "papers" / key / "results" / f"{name}.json").read_text())
        assert (PAGE.parent / file).is_file() and (iou, fixed, grabcut) == tuple(f"{v:.3f}" for v in (kept["iou"], kept["floors"]["fixed_mask"], kept["floors"]["grabcut"]))
        assert where.startswith(f"{kept['n']} ") and where.endswith(f"{kept['size']} px") and (kept["ceiling"] is None or top == f"{kept['ceiling']:.3f}")
        ceilings.setdefault(pictures, set()).add(top)
        assert source != "not shipped" or float(iou) < float(fixed)
    assert all(len(found) == 1 and found != {""} for found in ceilings.values()), f"one ceiling for the same pictures: {ceilings}"


@pytest.mark.parametrize("chapter", chapters())
def test_all_shipped_weights_can_be_reached(chapter):
    room = gallery(chapter, seed=3)
    own = {x.source: x.pictures for x in exhibits(chapter) if x.shipped}
    assert sorted(own) == [s for s in SHIPPED if s.startswith(f"{chapter}/")]
    for source, pictures in own.items():
        room.choice.value = pictures
        explorer = room.explorer
        assert f"explore('{source}', seed=3)" == explorer.code.value and not explorer.frame.error and explorer.upload is not None and source in room.about.value
        assert explorer.renderer.method is at_hand(source)[0] and ("Painted at" in room.about.value) == (explorer.frame.layers.mask.shape[-1] < explorer.renderer.method.size)


def test_the_committed_page_can_be_read_unrun():
    page = nbformat.read(PAGE, 4)
    assert PAGE.stat().st_size < 1_000_000 and "widgets" not in page.metadata
    for cell in page.cells:
        if cell.cell_type != "code" or not re.search(r"\b(wall|contact_sheet)\(|= gallery\(", cell.source): continue
        kinds = {kind for o in cell.outputs for kind in o.get("data", {})}
        assert kinds & {"image/png", "image/jpeg"} and "application/vnd.jupyter.widget-view+json" not in kinds, f"nothing is seen of {cell.source!r}"
