"""Write README.md from nbs/index.ipynb: python tests/readme.py [FOLDER]. Paths in the notebook start from nbs/, those of the README from the root."""
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter


def main(root):
    text, _ = MarkdownExporter().from_notebook_node(nbformat.read(root / "nbs" / "index.ipynb", as_version=4))
    (root / "README.md").write_text("<!-- Made from nbs/index.ipynb by `make readme`: edit there. -->\n\n" + text.replace("](../", "](").strip() + "\n")


if __name__ == "__main__": main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
