"""Jobs for tests of sweeps, in a module of their own so that a worker can import them: kind 'chores:waits'"""
import json
import os
import time
from pathlib import Path


def waits(job, folder):
    "Work that goes on until a file called `go` lies beside the jobs, and writes its result in many pieces"
    with open(folder / "at_work.jsonl", "a") as f: f.write(json.dumps({"pid": os.getpid(), "parent": os.getppid()}) + "\n")
    while not (folder.parent / "go").exists(): time.sleep(.05)
    return {"seed": job["seed"], "long": list(range(20_000))}
