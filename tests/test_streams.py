"""A stream serves what memory serves, and leaves no process behind"""
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerbench.codes import Dice
from layerbench.data.batches import Batches, Pictures
from layerbench.data.scenes import Scenes
from layerbench.data.streams import Rows, Stream, mapped
from layerbench.method import make
from layerbench.train import Run, feeds_of

SCRIPT = Path(__file__).parent / "training_script.py"
STEPS = 80  # crosses from the first stage into the fading second


@pytest.fixture
def file(tmp_path):
    noise = torch.Generator().manual_seed(0)
    np.save(tmp_path / "set.npy", torch.randint(0, 256, (60, 4, 24, 24), dtype=torch.uint8, generator=noise).numpy())   # a mask in every row, too
    return tmp_path / "set.npy"


def pair(file, workers, first=5, last=58, **how):
    pictures = mapped(file, first, last)
    return Batches(pictures, 3, **how), Stream(pictures, 3, workers=workers, **how)


def same(plain, stream, draws):
    dice = Dice(1), Dice(1)
    return all(torch.equal(plain.draw(n, side, dice[0]), stream.draw(n, side, dice[1])) for n, side in draws)


def ended(pids, seconds=60.):   # a worker looks for its parent every five seconds, and may have to wait for a core
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(running(p) for p in pids): return True
        time.sleep(.05)
    return False


def running(pid):
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError: return False


def children(pid): return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# what is served
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("message", [1, 2 ** 14, 2 ** 20])   # a batch, a few, or many handed over at a time
@pytest.mark.parametrize("how", [{}, {"flip": .5}, {"zoom": True}, {"zoom": True, "flip": .5, "enlarge": 1.5}, {"enlarge": 1.}], ids=str)
def test_batches_are_those_of_memory_bit_for_bit(file, workers, how, message, monkeypatch):
    monkeypatch.setattr("layerbench.data.streams.MESSAGE", message)
    plain, stream = pair(file, workers, **how)
    draws = [(8, 20)] * 15 + [(5, 24)] * 3 + [(7, 9)] * 4 + [(8, 9)]   # two epochs of 53; sizes above, at and below that of the file
    assert same(plain, stream, draws)
    assert plain.served == stream.served == sum(n for n, _ in draws)
    stream.close()


def test_to_and_fro_between_two_sides_starts_nothing_over(file, monkeypatch):
    plain, stream = pair(file, 1)
    begun, loop = [], Stream._take
    monkeypatch.setattr(Stream, "_take", lambda self, place: begun.append(place) or loop(self, place))
    assert same(plain, stream, [(4, 20), (4, 10), (2, 20), (3, 10)] * 5)
    assert len(begun) == 1   # the first draw; all others were read where they were asked for
    stream.close()


def test_a_stream_goes_on_where_it_was(file):
    plain, stream = pair(file, 1)
    assert same(plain, stream, [(8, 20)] * 3)
    for served in (160, 8):   # ahead, and back
        plain.served = stream.served = served
        assert same(plain, stream, [(8, 20)] * 4)
    stream.close()
    assert same(plain, stream, [(8, 20)] * 2)   # new workers
    stream.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_share_a_batch(file, workers):
    whole, _ = pair(file, 0)
    parts = [pair(file, workers)[1] for _ in range(3)]
    dice = [Dice(1, rank=r, world=3) for r in range(3)]
    one = Dice(1)
    for side in [20] * 9 + [10] * 3:
        assert torch.equal(whole.draw(6, side, one), torch.cat([p.draw(2, side, d) for p, d in zip(parts, dice)]))
    for p in parts: p.close()


def test_a_rank_reads_nothing_but_its_part(file, monkeypatch):
    read, loop = [], Rows.read
    monkeypatch.setattr(Rows, "read", lambda self, rows, wide: read.extend(rows) or loop(self, rows, wide))
    _, stream = pair(file, 0)
    dice = Dice(1, rank=1, world=2)
    for _ in range(3): stream.draw(4, 20, dice)
    order = torch.randperm(53, generator=torch.Generator().manual_seed(3 * 1_000_003)).tolist()
    assert read == order[4:8] + order[12:16] + order[20:24]


def test_torchs_own_chance_is_left_alone(file):
    _, stream = pair(file, 1)
    before = torch.get_rng_state()
    for _ in range(3): stream.draw(4, 20, Dice(1))
    assert torch.equal(before, torch.get_rng_state())
    stream.close()


# what is counted
def slow(seconds):
    loop = Rows.read
    def read(self, rows, wide): time.sleep(seconds); return loop(self, rows, wide)
    return read


def test_waiting_is_counted(file, monkeypatch):
    monkeypatch.setattr(Rows, "read", slow(.05))
    _, stream = pair(file, 0)
    assert stream.waiting == stream.total == 0
    for _ in range(4): stream.draw(4, 20, Dice(1)); time.sleep(.05)
    before, share, after = stream.total, stream.waiting, stream.total   # the clock goes on
    assert .2 <= stream.waited <= before - .2 and stream.waited / after <= share <= stream.waited / before


def test_reading_hides_behind_a_longer_step(file, monkeypatch):
    monkeypatch.setattr(Rows, "read", slow(.04))
    monkeypatch.setattr("layerbench.data.streams.MESSAGE", 1)   # each batch by itself
    _, stream = pair(file, 1)
    stream.draw(4, 20, Dice(1))   # the start of the process is paid for here
    def waited(draws, step):
        begun = stream.waited
        for _ in range(draws): time.sleep(step); stream.draw(4, 20, Dice(1))
        return stream.waited - begun
    # others may have the cores just then: reading that does not hide never gets below .4 s, however often it is tried
    assert any(waited(10, .08) < .2 for _ in range(10)), "the step waited although reading takes half as long"
    assert any(waited(16, 0) > .3 for _ in range(10)), "no waiting was counted although nothing else was done"
    stream.close()


# when it ends
def test_a_closed_and_a_forgotten_stream_end_their_workers(file):
    for end in (lambda held: held[0].close(), lambda held: held.clear()):
        before, held = set(children(os.getpid())), [pair(file, 2)[1]]   # other tests may have left children of their own
        held[0].draw(4, 20, Dice(1))
        pids = set(children(os.getpid())) - before
        assert len(pids) >= 2
        end(held)
        assert ended(pids - set(p.pid for p in multiprocessing.active_children())), "workers are left"


def test_a_killed_worker_is_told_in_a_sentence(file):
    _, stream = pair(file, 1)
    stream.draw(4, 20, Dice(1))
    worker, = stream._coming._workers
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises((OSError, RuntimeError), match="is killed by signal|has ended"):   # torch may say so before it is asked
        for _ in range(1000): stream.draw(4, 20, Dice(1)); time.sleep(.05)   # as long as it takes to be told
    stream.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_files_that_go_wrong(file, workers):
    def on(stream):
        for _ in range(200): stream.draw(4, 20, Dice(1))   # more than is read ahead
    _, stream = pair(file, workers)
    file.rename(file.with_name("away.npy"))
    with pytest.raises(OSError, match="are gone; prepare them again, then resume"): on(stream)
    file.with_name("away.npy").rename(file)
    on(stream)   # and on it goes
    os.truncate(file, 5000)
    with pytest.raises(OSError, match="has become shorter"): on(stream)
    with pytest.raises(ValueError, match="no whole .npy file"): Rows((file, 0, None))


def test_a_disk_that_fails(file, monkeypatch):
    def broken(self, rows, wide): raise OSError(5, "Input/output error")
    monkeypatch.setattr(Rows, "read", broken)
    _, stream = pair(file, 1)
    with pytest.raises(OSError, match="set.npy cannot be read .Input/output error.; check the disk"): stream.draw(4, 20, Dice(1))
    assert not multiprocessing.active_children()


def test_what_is_no_prepared_file(file, tmp_path):
    with pytest.raises(ValueError, match="lie in memory, and only prepared ones can be streamed"): Stream(Pictures(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)))
    np.save(tmp_path / "floats.npy", np.zeros((2, 3, 8, 8), np.float32))
    with pytest.raises(ValueError, match="expected uint8"): mapped(tmp_path / "floats.npy")
    with pytest.raises(ValueError, match="rows 5 to 61"): mapped(file, 5, 61)
    pictures = mapped(file)
    np.save(file, np.zeros((50, 3, 24, 24), np.uint8))
    with pytest.raises(ValueError, match="rows 0 to 60"): Stream(pictures)


# in a training
def test_memory_decides(file, monkeypatch):
    method = make("perturbgan", "smoke")
    def feed(stream=None): return feeds_of(method, mapped(file), {}, 0, torch.device("cpu"), stream)["real"]
    free = 2 * (60 * 3 * 24 * 24 + 60 * 3 * 18 * 18)   # the file's pictures and the resized ones, in half of it
    monkeypatch.setattr("layerbench.data.streams.room", lambda device="cpu": free)
    assert type(feed()) is Batches and type(feed(True)) is Stream
    monkeypatch.setattr("layerbench.data.streams.room", lambda device="cpu": free - 1)
    assert type(feed()) is Stream and type(feed(False)) is Batches


def test_objects_are_not_cut_out_of_a_stream(file, monkeypatch):
    method = make("onegan", "smoke,finegan")
    pictures = mapped(file)
    pictures.boxes = torch.tensor([[.2, .2, .8, .8]]).expand(len(pictures), 4)
    with pytest.raises(ValueError, match="which a stream does not; leave out the stream"): feeds_of(method, pictures, {}, 0, "cpu", True)
    monkeypatch.setattr("layerbench.data.streams.room", lambda device="cpu": 1000)
    with pytest.raises(ValueError, match="needs them in memory: take fewer"): feeds_of(method, pictures, {}, 0, "cpu")


def start(out, file, *more, steps=STEPS, **how):
    words = [sys.executable, str(SCRIPT), str(out), str(steps), *([str(file)] if file else []), *more]
    return subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **how)   # a shell's background jobs ignore it


def losses(path): return {k: v for k, v in Run(path).curves().items() if k[:2] in ("d/", "g/", "st", "se") and k != "seconds"}


def running_for(process, out, pages):
    while process.poll() is None and len(Run(out).curves().get("step", [])) < pages: time.sleep(.01)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    file = tmp_path_factory.mktemp("scenes") / "scenes.npy"
    np.save(file, Scenes(18).pictures(40).images.numpy())
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert start(out, None).wait() == 0
    return out


def test_a_streamed_training_is_that_from_memory_also_after_a_kill(whole, scenes, tmp_path):
    for attempt in range(5):   # where others have the cores, the killer may come too late
        out = tmp_path / f"run{attempt}"
        process = start(out, scenes)
        running_for(process, out, 7)
        workers = children(process.pid) if process.poll() is None else []
        process.kill(); process.wait()
        if workers and 0 < len(losses(out)["step"]) < STEPS // 4: break
    else: pytest.fail("the run ended before it could be killed; make it longer")
    assert ended(workers), "workers outlived the training"
    process = start(out, scenes, "resume")
    assert process.wait() == 0 and process.stderr.read() == ""
    assert losses(out) == losses(whole)
    assert 0 < Run(out).curves()["time/waiting"][-1] < 1 and "time/waiting" not in Run(whole).curves()
    a, b = (Run(p).load()["method"]["nets"] for p in (out, whole))
    assert all(torch.equal(a[k][n], b[k][n]) for k in a for n in a[k])


def test_ctrl_c_leaves_no_process_and_no_noise(scenes, tmp_path):
    out = tmp_path / "run"
    process = start(out, scenes, steps=100_000)
    running_for(process, out, 3)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)   # what a terminal does: all of them are told
    said = process.communicate(timeout=240)[1]
    assert workers and ended(workers)
    assert process.returncode and said.count("Traceback") == 1 and said.rstrip().endswith("KeyboardInterrupt")
    assert not any(word in said for word in ("semaphore", "leaked", "DataLoader", "Process-")), said


def test_a_dead_worker_ends_a_training_with_a_sentence(scenes, tmp_path):
    process = start(tmp_path / "run", scenes, steps=100_000)
    running_for(process, tmp_path / "run", 3)
    worker = children(process.pid)[0]
    os.kill(worker, signal.SIGKILL)
    said = process.communicate(timeout=240)[1].rstrip().splitlines()[-1]
    assert said.startswith("OSError: a process that read pictures ahead has ended") and said.endswith("then resume")


def test_two_ranks_stream(scenes, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", str(SCRIPT)]
    for name, more in (("memory", []), ("stream", [str(scenes)])):
        subprocess.run([*launch, str(tmp_path / name), "8", *more], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240)
    assert losses(tmp_path / "memory") == losses(tmp_path / "stream")
    assert "time/waiting" in Run(tmp_path / "stream").curves()


def test_the_command_line_says_what_cannot_be_streamed(shell, tmp_path):
    code, _, err = shell("train", "perturbgan", "--preset", "smoke", "--n", 8, "--steps", 1, "--out", tmp_path / "run", "--device", "cpu", "--stream")
    assert code == 2 and "only prepared ones can be streamed" in err and len(err.splitlines()) == 1


def test_a_prepared_set_streams_from_the_command_line(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    for i, picture in enumerate(Scenes(24).pictures(300).images): Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "set" / f"{i:03d}.png")   # more than are read unprepared
    for out, more in (("stream", ["--stream"]), ("memory", [])):
        code, said, err = shell("train", "perturbgan", "--preset", "smoke", "--data", tmp_path / "set", "--steps", 6, "--out", tmp_path / out, "--device", "cpu", "--threads", 1, *more)
        assert code == 0, err
        assert ("% of the time spent on waiting for pictures" in said) == bool(more)
    assert losses(tmp_path / "stream") == losses(tmp_path / "memory")
