"""Sweeps end what they begin: once, whole, whatever is killed on the way"""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from layerbench.ablate.jobs import DONE, FAILED, WAITING, collect, execute, history, lay_out, run_here, state
from layerbench.ablate.settings import Setting

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = "preset = ''; steps = 0; seed = 0; overrides = {}; samples = 8; precision = ''; folder = ''; out = ''"
ABOUT = {"kind": "ablate", "chapter": "made", "command": "layerbench ablate made"}


def notebook(path, *cells):
    "A chapter of few lines"
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}})
    nb.cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(nb, path)
    return str(path)


def made(out, file, n=1):
    "A sweep of n seeds over a notebook of our own"
    return lay_out(out, [Setting("perturbgan", "smoke", seed=s, samples=8).job | {"notebook": file} for s in range(n)], ABOUT)


def until(true, seconds, sentence):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, sentence
        time.sleep(.1)


def alive(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z" if Path(f"/proc/{pid}").exists() else True


SLOW = """
import json, os, pathlib, time
mark = pathlib.Path(out).with_name("kernel")
first = not mark.exists()
mark.with_suffix(".new").write_text(str(os.getpid()))
mark.with_suffix(".new").rename(mark)   # whoever reads it finds it whole
if first: time.sleep(600)
json.dump({"seed": seed}, open(out, "w"))"""


def test_a_killed_sweep_leaves_no_process_and_goes_on(tmp_path):
    folder, = made(tmp_path / "sweep", notebook(tmp_path / "slow.ipynb", SLOW))
    words = f"from layerbench.ablate.jobs import execute; execute({str(folder)!r})"
    parent = subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until((folder / "kernel").is_file, 120, "the notebook did not begin")
    kernel, child = int((folder / "kernel").read_text()), history(folder)[0]["pid"]
    assert state(folder) == WAITING
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not alive(child), 30, "the job outlives whoever started it")
    until(lambda: not alive(kernel), 30, "the kernel outlives its job")
    assert state(folder) == WAITING, "half a job looks like a whole one"
    assert execute(str(folder)) == DONE
    assert [e["event"] for e in history(folder)] == ["began", "began", "ended"]
    assert collect(tmp_path / "sweep")[0]["result"] == {"seed": 0}


def test_two_sweeps_over_one_folder_share_the_work(tmp_path):
    file = notebook(tmp_path / "quick.ipynb", "import json, time; time.sleep(2); json.dump({'seed': seed}, open(out, 'w'))")
    folders = made(tmp_path / "sweep", file, 3)
    words = f"from layerbench.ablate.jobs import run_here; list(run_here({list(map(str, folders))!r}))"
    other = subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert set(dict(run_here(folders)).values()) == {DONE}
    assert other.wait(120) == 0
    for folder in folders: assert [e["event"] for e in history(folder)] == ["began", "ended"], "a job was done twice"


def test_a_sweep_that_nobody_waits_for_stops_its_children(tmp_path):
    folder, = made(tmp_path / "sweep", notebook(tmp_path / "slow.ipynb", SLOW))
    running = run_here([folder])
    import threading
    threading.Thread(target=lambda: (until((folder / "kernel").is_file, 120, "the notebook did not begin"), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
    with pytest.raises(KeyboardInterrupt): next(running)
    until(lambda: not alive(int((folder / "kernel").read_text())), 30, "Ctrl-C leaves a kernel behind")
    assert state(folder) == WAITING


def shell(*words):
    return subprocess.run([sys.executable, "-m", "layerbench.cli", *map(str, words)], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_a_sweep_over_a_chapter(tmp_path):
    "Ablations, a setting that cannot learn, and one that fails, from the shell; then the same again"
    out = tmp_path / "sweep"
    words = ("ablate", "perturbgan", "--preset", "smoke", "--only", "a_default", "b_no_shift", "--steps", 4, "--samples", 8, "--jobs", 2, "--out", out)
    said = shell(*words)
    assert said.returncode == 0, said.stderr
    entries = collect(out)
    assert [(e["title"], e["state"]) for e in entries] == [("a_default", DONE), ("b_no_shift", DONE)]
    for entry in entries:
        result = entry["result"]
        assert result["steps"] == 4 and result["evaluated"]["n"] == 8 and result["preset"] == f"smoke,{entry['title']}" and entry["strip"].is_file()
        assert str(tmp_path) not in json.dumps(result), "a result names a folder of this machine"
        assert (entry["folder"] / "notebook.ipynb").is_file()
    table, page = (out / "table.md").read_text(), (out / "page.html").read_text()
    for word in ("a_default", "b_no_shift", "0.685"): assert word in table and word in page, f"{word} is missing"   # 0.685: the paper's (a)
    assert "layerbench ablate perturbgan --preset smoke" in table and str(tmp_path) not in table + page
    began = time.monotonic()
    again = shell(*words)
    assert again.returncode == 0 and time.monotonic() - began < 30
    assert all([e["event"] for e in history(f["folder"])] == ["began", "ended"] for f in entries), "what was done was done again"
    refused = shell(*("ablate", "perturbgan", "--preset", "smoke", "--only", "a_default", "--steps", 5, "--samples", 8, "--out", out))
    assert refused.returncode == 2 and "steps was 4, now 5" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("words,said", [
    (("pertubgan",), "did you mean 'perturbgan'"),
    (("perturbgan", "--only", "b_no_shfit"), "did you mean 'b_no_shift'"),
    (("perturbgan", "--grid", "shfit=1"), "did you mean 'shift'"),
    (("perturbgan", "--grid", "shift"), "NAME=V1,V2"),
    (("perturbgan", "--seeds", "0"), "1 or more"),
    (("perturbgan", "--samples", "3"), "8 or more"),
    (("perturbgan", "--preset", "cpuu"), "did you mean 'cpu'"),
    (("perturbgan", "--precision", "fp16"), "32-true"),
])
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, words, said):
    done = shell("ablate", *words, "--out", tmp_path / "sweep")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()
