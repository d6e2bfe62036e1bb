"""A sweep on a Dask cluster: workers die, every setting ends once"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from layerbench.ablate import jobs
from layerbench.ablate.cluster import connected, spread

HERE = Path(__file__).parent
LONG = 120.   # seconds that anything may take on a machine that is busy with other things


def until(true, what, seconds=LONG):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true(): return found
        time.sleep(.05)
    pytest.fail(f"waited {seconds:g} s for {what}")


def alive(pid):
    try: return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess: return False


def settings(out, n, kind="chores:waits"):
    return jobs.lay_out(out, [{"kind": kind, "slug": f"base-s{i}", "title": "base", "seed": i} for i in range(n)], {"kind": "ablate", "chapter": "made", "command": "made"})


def at_work(folder):
    "(process of the job, worker) for each time it was begun"
    file = folder / "at_work.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return [(w["pid"], w["parent"]) for w in lines]


def count(folder, event): return sum(e["event"] == event for e in jobs.history(folder))


@pytest.fixture
def environment(monkeypatch):
    "Of processes that can import `chores`"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def machines(tmp_path, environment):
    "A scheduler and, with `machines.worker()`, workers without anybody who would start them again; `.file` is the address"
    started = []
    def start(*words, **how):
        log = open(tmp_path / f"process-{len(started)}.log", "wb")
        started.append(subprocess.Popen([sys.executable, "-m", "dask", *words], stdout=log, stderr=log, cwd=tmp_path, **how))
        return started[-1]
    class Machines:
        file = str(tmp_path / "scheduler.json")
        scheduler = start("scheduler", "--scheduler-file", file, "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0")
        def worker(self, **how): return start("worker", "--scheduler-file", self.file, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--dashboard-address", ":0",
                                              "--memory-limit", "0", "--local-directory", str(tmp_path / "scratch"), **how)
    until(Path(Machines.file).is_file, "the scheduler")
    yield Machines()
    for p in started: p.kill()
    for p in started: p.wait()


class Spreading(threading.Thread):
    "A sweep in a thread of its own: `.ended` holds what it yielded"
    def __init__(self, *args, **how):
        super().__init__(daemon=True)
        self.args, self.how, self.ended, self.error = args, how, [], None
        self.start()

    def run(self):
        try: self.ended += spread(*self.args, **self.how)
        except Exception as error: self.error = error

    def all(self):
        self.join(LONG)
        assert not self.is_alive() and self.error is None, self.error
        return [(f.name, s) for f, s in self.ended]


def whole(folder):
    found = json.loads((folder / "result.json").read_text())
    return found["seed"] == int(folder.name[-1]) and found["long"] == list(range(20_000))


@pytest.mark.parametrize("machine", [True, False], ids=["the machine dies", "only the worker dies"])
def test_a_worker_is_killed_and_every_setting_ends_once(machines, tmp_path, machine):
    workers = [machines.worker(), machines.worker()]
    folders = settings(tmp_path / "out", 5)
    sweep = Spreading(folders, machines.file)
    begun = until(lambda: (w := [(f, *at_work(f)[0]) for f in folders if at_work(f)]) and len(w) == 2 and w, "two settings at work")
    assert {worker for _, _, worker in begun} == {w.pid for w in workers}   # one each, one at a time
    folder, child, victim = begun[0]
    os.kill(victim, signal.SIGKILL)
    if machine: os.kill(child, signal.SIGKILL)
    until(lambda: not alive(child), "the child of a dead worker to leave")
    assert jobs.state(folder) == jobs.WAITING and count(folder, "failed") == 0
    (tmp_path / "out" / "go").touch()
    assert sorted(sweep.all()) == [(f.name, "done") for f in folders]
    assert [count(f, "ended") for f in folders] == [1] * 5 and not any(count(f, "failed") for f in folders)
    assert [count(f, "began") for f in folders] == [1 + (f == folder) for f in folders]
    survivor = next(w.pid for w in workers if w.pid != victim)
    assert at_work(folder)[-1][1] == survivor and all(whole(f) for f in folders)
    assert {e["pid"] for e in jobs.history(folder) if e["event"] == "ended"} == {at_work(folder)[-1][0]}


def test_a_cluster_of_our_own_replaces_a_worker(tmp_path, environment):
    folders = settings(tmp_path / "out", 3)
    before = set(psutil.Process().children(recursive=True))
    sweep = Spreading(folders, "local:2")
    child, victim = until(lambda: next((at_work(f)[0] for f in folders if at_work(f)), None), "a setting at work")
    os.kill(victim, signal.SIGKILL)
    (tmp_path / "out" / "go").touch()
    assert sorted(sweep.all()) == [(f.name, "done") for f in folders]
    assert [count(f, "ended") for f in folders] == [1] * 3 and all(whole(f) for f in folders)
    until(lambda: not [p for p in psutil.Process().children(recursive=True) if p not in before and alive(p.pid) and "resource_tracker" not in " ".join(p.cmdline())], "everything to be gone")


def test_a_cluster_of_our_own_whose_workers_nobody_replaces_gets_new_ones(tmp_path, environment, monkeypatch):
    import distributed
    async def missed(self, exitcode): "as when a death is overlooked"
    monkeypatch.setattr(distributed.Nanny, "_on_worker_exit", missed)
    monkeypatch.setattr("layerbench.ablate.cluster.RENEW", 8.)
    folders = settings(tmp_path / "out", 1)
    sweep = Spreading(folders, "local:1")
    child, victim = until(lambda: next((at_work(f)[0] for f in folders if at_work(f)), None), "a setting at work")
    os.kill(victim, signal.SIGKILL)
    (tmp_path / "out" / "go").touch()
    assert sorted(sweep.all()) == [(f.name, "done") for f in folders]
    assert [count(f, "ended") for f in folders] == [1]


def test_a_worker_that_does_not_see_the_folder_is_named_before_anything_runs(machines, tmp_path, monkeypatch):
    machines.worker()
    folders = settings(tmp_path / "out", 1)
    monkeypatch.setattr("layerbench.ablate.cluster.Path.touch", lambda path: None)   # as on a worker with another disk: the mark is not there
    monkeypatch.setattr("layerbench.ablate.cluster.Path.unlink", lambda path, **how: None)
    with connected(machines.file, LONG) as (client, _):
        client.wait_for_workers(1, LONG)
        with pytest.raises(ValueError, match=r"does not see .*/out; --out must be on a file system that all workers share"):
            list(spread(folders, machines.file, patience=LONG))
    assert jobs.history(folders[0]) == []


def test_stopped_early_it_takes_back_what_waits_and_a_lost_scheduler_is_a_sentence(machines, tmp_path, capfd):
    machines.worker()
    folders = settings(tmp_path / "out", 3)
    sweep = spread(folders[:1], machines.file, patience=LONG)
    (tmp_path / "out" / "go").touch()
    assert next(sweep) == (folders[0], "done") and list(sweep) == []
    (tmp_path / "out" / "go").unlink()
    code = f"from layerbench.ablate.cluster import spread\nfor f, s in spread({[str(f) for f in folders[1:]]}, {machines.file!r}, patience={LONG}): print(s)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as client:
        busy = until(lambda: next((f for f in folders[1:] if at_work(f)), None), "a setting at work")
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=LONG)
    assert client.returncode and "what waited was taken back; 1 setting that workers are at will be ended by them" in said
    (tmp_path / "out" / "go").touch()
    until(lambda: jobs.state(busy) == jobs.DONE, "the setting that was at work")
    (tmp_path / "out" / "go").unlink()
    other = next(f for f in folders[1:] if f != busy)
    assert not at_work(other)   # taken back
    last = Spreading([other], machines.file, patience=5.)
    until(lambda: at_work(other), "the last setting")
    machines.scheduler.kill()
    last.join(LONG)
    assert isinstance(last.error, OSError) and "the scheduler at" in str(last.error) and "has gone; what was done is kept" in str(last.error)
    assert "Traceback" not in capfd.readouterr().err.replace(said, "")
