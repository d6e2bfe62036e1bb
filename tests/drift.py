"""Fail when a notebook and its module differ, when cleaning would change a notebook, or when README.md is not what its notebook says.

Works on a copy of the tree's committed and changed files, so that it never touches the tree itself. Run by `make check`.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import readme

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent   # nbdev of this environment, whatever the path says


def run(*command, cwd): return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def copy_tree(to):
    "What git knows or would add, as it lies in the tree now"
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, files):
        source, target = ROOT / name, Path(to) / name
        if not source.is_file(): continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    run("git", "init", "-q", cwd=to)
    run("git", "add", "-A", cwd=to)


def main():
    with tempfile.TemporaryDirectory() as copy:
        copy_tree(copy)
        run(BIN / "nbdev_export", cwd=copy)
        run(BIN / "nbdev_clean", cwd=copy)
        readme.main(Path(copy))
        changed = run("git", "diff", "--name-only", cwd=copy).split()
        new = run("git", "ls-files", "--others", "--exclude-standard", cwd=copy).split()
        if changed or new:
            print(run("git", "diff", cwd=copy)[:4000])
            sys.exit(f"notebooks, modules and README do not agree: {', '.join(changed + new)}. Run nbdev_export, nbdev_clean and `make readme`, and commit what changed.")
    print("notebooks, modules and README agree")


if __name__ == "__main__": main()
