"""Make the site out of a copy of the tree: python tests/site_pages.py [FOLDER]. Needs Quarto, which CI installs; run by `make site`.

Quarto publishes nothing from outside its project, which is nbs/: pictures of papers/ are copied into it, and notebooks pointed to them.
nbdev would show signatures where code is exported, and run all of it for that; these notebooks are read for their code, so it stays, and nothing is run.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import yaml

import drift

FIRST = ["index", "gallery", "comparison"]   # above the rooms, if they are there
CHAPTERS = ["perturbgan", "layered_mi", "onegan", "comgan", "ganseg"]   # in the order in which they are read
ROOMS = {"explore": "Explorer", "measure": "Measures", "ablate": "Ablations", "data": "Data", "onegan": "OneGAN, in parts", "comgan": "ComGAN, in parts", "ganseg": "GANSeg, in parts"}


def notebooks(folder, nbs): return sorted(str(f.relative_to(nbs)) for f in folder.glob("*.ipynb"))


def sidebar(nbs):
    "Navigation: home, then chapters, then the rooms; every notebook once"
    own = [f"chapters/{c}.ipynb" for c in CHAPTERS]
    chapters = own + [f for f in notebooks(nbs / "chapters", nbs) if f not in own]
    top = [f"{n}.ipynb" for n in FIRST if (nbs / f"{n}.ipynb").is_file()]
    contents = [*top, {"section": "Chapters", "contents": chapters},
                {"section": "The bench", "contents": [f for f in notebooks(nbs, nbs) if f not in top]}]
    folders = [f.name for f in sorted(nbs.iterdir()) if f.is_dir() and f.name != "chapters" and any(f.rglob("*.ipynb"))]
    for name in sorted(folders, key=lambda n: (list(ROOMS).index(n) if n in ROOMS else len(ROOMS), n)):
        inner = [{"section": d.name, "contents": notebooks(d, nbs)} for d in sorted((nbs / name).iterdir()) if d.is_dir() and any(d.glob("*.ipynb"))]
        contents.append({"section": ROOMS.get(name, name), "contents": notebooks(nbs / name, nbs) + inner})
    return {"website": {"sidebar": {"contents": contents}}}


def prepare(tree):
    "What Quarto needs, in a copy that may be changed"
    nbs = tree / "nbs"
    (nbs / "sidebar.yml").write_text(yaml.safe_dump(sidebar(nbs), sort_keys=False))
    for picture in (tree / "papers").rglob("*.webp"):
        copy = nbs / picture.relative_to(tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, copy)
    for file in nbs.rglob("*.ipynb"):
        up = "../" * len(file.relative_to(nbs).parts)
        notebook = nbformat.read(file, 4)
        for cell in notebook.cells:
            if cell.cell_type == "code": cell.source = re.sub(r"^#\|\s*exports?\s*\n", "", cell.source)
            if cell.cell_type == "markdown": cell.source = re.sub(rf"(?<=\]\(){re.escape(up)}papers/", up.removeprefix("../") + "papers/", cell.source)
        nbformat.write(notebook, file)


def main(out):
    if not shutil.which("quarto"): sys.exit("Quarto is not installed; see https://quarto.org/docs/get-started, or let .github/workflows/site.yml make the site")
    with tempfile.TemporaryDirectory() as copy:
        drift.copy_tree(copy)
        prepare(Path(copy))
        os.utime(Path(copy) / "README.md")   # newer than its notebook: nbdev leaves it alone
        subprocess.run([drift.BIN / "nbdev_docs", "--n_workers", "2"], cwd=copy, check=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(Path(copy) / "_docs", out)
    print(f"{out}: {sum(1 for _ in out.rglob('*.html'))} pages")


if __name__ == "__main__": main(Path(sys.argv[1] if len(sys.argv) > 1 else drift.ROOT / "_docs"))
