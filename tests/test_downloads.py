"Downloads against a server on this machine that misbehaves in every way we know"
import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from layerbench.data import downloads
from layerbench.data.downloads import LEDGER, fetch, lying, settle
from layerbench.data.manifest import File, Published

NOISE = os.urandom(30_000)


def packed(**files):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"birds/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return held.getvalue()


HELD = packed(noise=NOISE)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        s, asked = self.server.moods, self.headers["Range"]
        s.asked.append(asked)
        status = s.statuses.pop(0) if s.statuses else 200
        if status != 200: return self.answer(status, b"sorry", s.further)
        fresh = s.if_range and self.headers["If-Range"] not in (None, s.version)
        start = int(asked[6:-1]) if asked and s.ranges and not fresh else 0
        total = len(s.held)
        if start >= total: return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
        further = s.further | ({s.how: s.version} if s.version else {}) | ({"Content-Range": f"bytes {start + s.shift}-{total - 1}/{total}"} if start else {})
        drop = s.drops.pop(0) if s.drops else None
        self.answer(206 if start else 200, s.held[start:], further, drop)

    def answer(self, status, body, further, drop=None):
        self.send_response(status)
        for k, v in ({"Content-Length": str(len(body))} | further).items(): self.send_header(k, v)
        self.end_headers()
        s, body = self.server.moods, body[:drop]
        for at in range(0, len(body), 8192):
            self.wfile.write(body[at:at + 8192])
            if s.slow: time.sleep(s.slow)
        if drop is not None:
            self.wfile.flush()
            if s.hang: s.released.wait(240)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_): pass


@pytest.fixture
def web(tmp_path, monkeypatch):
    "A server with moods, and the set that it holds"
    monkeypatch.setattr(downloads, "PAUSES", (0, 0, 0))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    moods = server.moods = SimpleNamespace(held=HELD, asked=[], drops=[], statuses=[], ranges=True, if_range=True, version='"v1"', how="ETag", shift=0, slow=0, hang=False, further={}, released=threading.Event())
    threading.Thread(target=server.serve_forever, args=(.01,), daemon=True).start()
    moods.url, moods.root = f"http://127.0.0.1:{server.server_port}/birds.tar", tmp_path / "root"
    moods.md5 = "md5:" + hashlib.md5(HELD).hexdigest()
    def published(checksum=moods.md5, **more):
        file = {"url": moods.url, "name": "birds.tar", "checksum": checksum} | more
        return Published("birds", "Birds", "", "http://owner.example/birds", "", "", None, None, None, files=(File(**file),))
    moods.published = published
    moods.fetch = lambda **how: fetch(published(**how), moods.root, progress=False)
    moods.names = lambda: sorted(p.relative_to(moods.root).as_posix() for p in moods.root.rglob("*")) if moods.root.exists() else []
    yield moods
    moods.released.set()
    server.shutdown()
    server.server_close()


DONE = [LEDGER, "birds", "birds.tar", "birds/noise"]


def test_fetched_once(web):
    assert web.fetch() == [] and web.names() == DONE and web.asked == [None]
    assert (web.root / "birds/noise").read_bytes() == NOISE
    web.fetch()
    assert web.asked == [None]


@pytest.mark.parametrize("how, version", [("ETag", '"v1"'), ("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")])
def test_a_dropped_connection_is_taken_up_where_it_broke(web, how, version):
    web.how, web.version, web.drops = how, version, [10_000, 5000, 0, 1]
    web.fetch(checksum=None)
    assert web.names() == DONE and web.asked == [None, "bytes=10000-", "bytes=15000-", "bytes=15000-", "bytes=15001-"]
    assert (web.root / "birds.tar").read_bytes() == HELD


def test_a_stopped_download_goes_on_the_next_day(web):
    web.drops = [10_000] + [0] * 9
    with pytest.raises(OSError, match=r"could not be fetched from 127.0.0.1 in 4 tries .*9.8 KiB are kept in .*birds.tar.partial.* goes on from there"): web.fetch()
    assert web.names() == [LEDGER, "birds.tar.partial"]   # nothing that looks finished
    web.drops, web.asked = [], []
    web.fetch()
    assert web.asked == ["bytes=10000-"] and web.names() == DONE


def test_ctrl_c_keeps_what_has_arrived(web, monkeypatch):
    web.drops = [10_000]
    def interrupt(seconds): raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(downloads.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt): web.fetch()
    web.fetch()
    assert web.asked == [None, "bytes=10000-"] and web.names() == DONE


def test_a_server_without_ranges_is_begun_anew(web):
    web.ranges, web.drops = False, [10_000]
    web.fetch()
    assert web.asked == [None, "bytes=10000-"] and web.names() == DONE


@pytest.mark.parametrize("checks, resumed", [(True, [None, "bytes=10000-"]), (False, [None, "bytes=10000-", None])])
def test_a_file_that_changed_meanwhile_is_begun_anew(web, checks, resumed):
    "With a server that honours If-Range, and with one that sends the rest of the new file"
    web.drops = [10_000] + [0] * 9
    with pytest.raises(OSError): web.fetch(checksum=None)
    web.drops, web.held, web.version, web.if_range, web.asked = [], packed(noise=NOISE[::-1]), '"v2"', checks, [None]
    web.fetch(checksum=None)
    assert (web.root / "birds/noise").read_bytes() == NOISE[::-1] and web.asked == resumed


def test_without_version_and_checksum_nothing_is_resumed(web):
    web.version, web.drops = "", [10_000]
    web.fetch(checksum=None)
    assert web.asked == [None, None] and web.names() == DONE
    shutil.rmtree(web.root)
    web.asked, web.drops = [], [10_000]
    web.fetch()    # with a checksum it may be tried
    assert web.asked == [None, "bytes=10000-"]


def test_another_part_than_asked_for_is_not_used(web):
    web.shift, web.drops = 7, [10_000]
    web.fetch(checksum=None)
    assert web.asked == [None, "bytes=10000-", None] and (web.root / "birds.tar").read_bytes() == HELD


def test_a_part_that_is_the_whole(web):
    "Killed after the last byte, before it was moved"
    web.root.mkdir()
    (web.root / "birds.tar.partial").write_bytes(HELD)
    (web.root / LEDGER).write_text(json.dumps({"birds.tar": {"partial": {"url": web.url, "version": '"v1"'}}}))
    web.fetch()
    assert web.asked == [f"bytes={len(HELD)}-"] and web.names() == DONE
    (web.root / "birds.tar").unlink()
    (web.root / "birds.tar.partial").write_bytes(HELD + b"more")
    (web.root / LEDGER).write_text(json.dumps({"birds.tar": {"partial": {"url": web.url, "version": '"v1"'}}}))
    web.fetch()
    assert web.asked[1:] == [f"bytes={len(HELD) + 4}-", None] and (web.root / "birds.tar").read_bytes() == HELD


def test_a_spoilt_part_is_found_out_and_fetched_once_more(web):
    web.root.mkdir()
    (web.root / "birds.tar.partial").write_bytes(bytes(10_000))
    (web.root / LEDGER).write_text(json.dumps({"birds.tar": {"partial": {"url": web.url, "version": '"v1"'}}}))
    web.fetch()
    assert web.asked == ["bytes=10000-", None] and web.names() == DONE


def test_a_wrong_checksum_is_said_and_nothing_is_kept(web):
    web.held = HELD[:-1] + b"!"
    with pytest.raises(ValueError, match=rf"has the checksum {hashlib.md5(web.held).hexdigest()}, and {web.md5} was expected; it was deleted.*by hand from http://owner.example/birds and put it into"): web.fetch()
    assert web.names() in ([], [LEDGER]) and web.asked == [None]


@pytest.mark.parametrize("status, said", [(403, "403"), (404, "404"), (410, "410"), (401, "401")])
def test_what_is_not_there_is_said_at_once(web, status, said):
    web.statuses = [status]
    with pytest.raises(OSError, match=rf"birds.tar cannot be fetched: the server answers {said} .*by hand from http://owner.example/birds and put it into .*root"): web.fetch()
    assert len(web.asked) == 1 and web.names() == []


def test_a_busy_server_is_asked_again(web, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    monkeypatch.setattr(downloads, "PAUSES", (1, 2, 4, 8))
    web.statuses, web.further = [503, 500, 429], {"Retry-After": "3"}
    web.fetch()
    assert web.names() == DONE and waits == [3, 3, 3]
    shutil.rmtree(web.root)
    web.statuses, web.further = [503] * 9, {}
    waits.clear()
    with pytest.raises(OSError, match=r"in 5 tries \(the server answers 503 .*try again later, or get birds.tar by hand"): web.fetch()
    assert waits == [1, 2, 4, 8] and "birds.tar.partial" not in web.names()


def test_no_network(web):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/birds.tar"
    with pytest.raises(OSError, match=r"127.0.0.1 cannot be reached \(connection refused\); check the network and try again, or get birds.tar by hand"): web.fetch(url=nobody)
    with pytest.raises(OSError, match="name.invalid cannot be reached"): web.fetch(url="http://name.invalid/birds.tar")
    with pytest.raises(ValueError, match="is no address that can be fetched"): web.fetch(url="ftp:birds.tar")
    assert "birds.tar" not in web.names() and "birds.tar.partial" not in web.names()


def test_a_page_instead_of_the_file(web):
    web.held, web.further = b"<html>please sign in</html>", {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(OSError, match="gives a page to read, not the file; get birds.tar by hand"): web.fetch(checksum=None)
    assert web.names() == []
    web.held, web.further = b"", {}
    with pytest.raises(OSError, match="416|empty file"): web.fetch(checksum=None)


def test_slow_is_not_broken_but_silence_is(web, monkeypatch):
    web.slow = .05
    web.fetch()
    assert web.asked == [None]
    shutil.rmtree(web.root)
    monkeypatch.setattr(downloads, "TIMEOUT", (5, 2))   # seconds of silence; a busy machine takes some of its own
    monkeypatch.setattr(downloads, "PIECE", 4096)
    web.slow, web.hang, web.drops, web.asked = 0, True, [16_384], []
    web.fetch()
    assert web.asked == [None, "bytes=16384-"] and web.names() == DONE


def test_bytes_are_kept_as_they_are_sent(web):
    "Some servers call a .tgz an encoding; unpacked on the way it would have the wrong checksum"
    web.further = {"Content-Encoding": "gzip"}
    web.fetch()
    assert (web.root / "birds.tar").read_bytes() == HELD


def test_a_file_put_there_by_hand_counts(web):
    web.root.mkdir()
    (web.root / "birds.tar").write_bytes(HELD)
    assert [f.name for f in lying(web.published(), web.root)] == ["birds.tar"]
    assert web.fetch() == [] and web.asked == [] and web.names() == DONE
    shutil.rmtree(web.root / "birds")
    assert settle(web.published(), web.root, progress=False) == [] and web.names() == DONE   # unpacked again, as it is gone


def test_a_wrong_file_by_hand_is_neither_used_nor_overwritten(web):
    web.root.mkdir()
    (web.root / "birds.tar").write_bytes(HELD[:5000])
    with pytest.raises(ValueError, match=rf"has the md5 {hashlib.md5(HELD[:5000]).hexdigest()}, and {web.md5[4:]} was expected; it is damaged, cut short or another version: move it away"): web.fetch()
    assert (web.root / "birds.tar").read_bytes() == HELD[:5000] and web.asked == [] and not (web.root / "birds").exists()


def test_without_a_checksum_the_first_is_remembered(web):
    told = web.fetch(checksum=None)
    digest = hashlib.sha256(HELD).hexdigest()
    assert len(told) == 1 and "publishes no checksum" in told[0] and digest in told[0]
    assert json.loads((web.root / LEDGER).read_text())["birds.tar"]["sha256"] == digest
    assert web.fetch(checksum=None) == []
    (web.root / "birds.tar").unlink()
    web.held = packed(noise=b"another")
    with pytest.raises(ValueError, match=f"is not the file that was seen here before .* then {digest}"): web.fetch(checksum=None)
    (web.root / LEDGER).write_text("{cut sh")
    shutil.rmtree(web.root / "birds")
    assert len(web.fetch(checksum=None)) == 1   # a damaged memory is made anew


def test_a_checked_file_is_not_read_again(web, monkeypatch):
    web.fetch()
    monkeypatch.setattr(downloads, "checksum", lambda *_: pytest.fail("read again"))
    web.fetch()


def test_lists_are_not_unpacked(web):
    web.held = b"1 a.jpg\n"
    web.fetch(name="list.txt", unpack=False, into="lists", checksum="md5:" + hashlib.md5(web.held).hexdigest())
    assert web.names() == [LEDGER, "lists", "lists/list.txt"]


def test_disk_space_is_looked_at_first(web, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda where: SimpleNamespace(free=2000))
    with pytest.raises(OSError, match="the disk is full .*needs 39.1 KiB before it is unpacked, and 2.0 KiB are free"): web.fetch(size=40_000)
    assert web.asked == []
    with pytest.raises(OSError, match="the disk is full .birds.tar needs 40.0 KiB more"): web.fetch()
    assert web.names() == []


def test_no_right_to_write(web, monkeypatch):
    web.root.write_text("a file")
    with pytest.raises(OSError, match="cannot be made .*choose another with --root"): web.fetch()
    web.root.unlink()
    monkeypatch.setattr(downloads.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="nothing can be written into .*check your rights"): web.fetch()
    assert web.asked == []


def test_two_at_once(web):
    "The second says so; the first is not disturbed"
    web.hang, web.drops = True, [8192]
    first = threading.Thread(target=web.fetch)
    first.start()
    for _ in range(6000):
        if (web.root / "birds.tar.partial").exists() and web.asked: break
        time.sleep(.01)
    else: pytest.fail("the first download did not begin within a minute")
    with pytest.raises(ValueError, match="is being written by another process"): web.fetch()
    web.hang = False
    web.released.set()
    first.join(240)
    assert web.names() == DONE and (web.root / "birds.tar").read_bytes() == HELD


def test_sets_that_nobody_may_fetch(tmp_path):
    closed = Published("celeba", "CelebA", "", "", "", "", None, None, None, get="Ask its owners, and put Img into ROOT.")
    with pytest.raises(ValueError, match="celeba cannot be downloaded by a program. Ask its owners"): fetch(closed, tmp_path)
