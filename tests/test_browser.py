"The explorer as a person meets it: JupyterLab, Chromium, Run All, a slider moved with the arrow keys"
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SHOTS = ROOT / "ci-output"
NOTEBOOKS = {"nbs/chapters/perturbgan.ipynb": {"preset": "smoke"}, "nbs/explore/panel.ipynb": {}}   # path -> parameters
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-component-update", "--disable-sync"]
SECONDS = 120   # for one notebook to run, on two busy cores


def chromium():
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "there is no Chromium; install it (Debian: apt-get install chromium, or run .ci/run) or name one in the variable CHROMIUM"
    return found


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "A JupyterLab of its own: free port, token, empty settings; gone afterwards, kernels and all"
    home = tmp_path_factory.mktemp("lab")
    settings = home / "settings" / "@jupyterlab"
    (settings / "notebook-extension").mkdir(parents=True)
    (settings / "apputils-extension").mkdir()
    every_cell_on_the_page, no_news = '{"windowingMode": "none"}', '{"fetchNews": "false", "checkForUpdates": false}'
    (settings / "notebook-extension" / "tracker.jupyterlab-settings").write_text(every_cell_on_the_page)
    (settings / "apputils-extension" / "notification.jupyterlab-settings").write_text(no_news)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    env = os.environ | {name: str(home / name.lower()) for name in own}
    env |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}   # two threads crawl where others work
    (home / "work").mkdir()
    log = open(home / "log.txt", "w")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=lesson", f"--ServerApp.root_dir={home / 'work'}"]
    server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=lesson", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, f"JupyterLab stopped at once: {(home / 'log.txt').read_text()[-2000:]}"
                time.sleep(.2)
        else: pytest.fail(f"JupyterLab did not answer within a minute: {(home / 'log.txt').read_text()[-2000:]}")
        yield home / "work", f"http://127.0.0.1:{port}"
    finally:
        server.terminate()   # it takes its kernels along
        try: server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


def bytes_of(image):
    "The bytes that an image element shows"
    return image.evaluate("async e => Array.from(new Uint8Array(await (await fetch(e.src)).arrayBuffer())).join()")


def until(what, seconds, sentence):
    "Wait for something to become true"
    end = time.time() + seconds
    while time.time() < end:
        if (found := what()): return found
        time.sleep(.2)
    pytest.fail(sentence)


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_slider_moves_the_picture(browser, lab, path):
    folder, address = lab
    name = Path(path).stem
    notebook = load_notebook_node(str(ROOT / path))
    for cell in notebook.cells:
        if cell.cell_type == "code": cell.outputs, cell.execution_count = [], None
    nbformat.write(parameterize_notebook(notebook, NOTEBOOKS[path]) if NOTEBOOKS[path] else notebook, folder / f"{name}.ipynb")
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?token=lesson", timeout=60_000)   # a workspace each: no other notebook in it
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        page.locator(".jp-NotebookPanel-toolbar").get_by_text("Python 3").first.wait_for(timeout=30_000)   # the kernel is known
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

        explorer = page.locator(".jp-OutputArea .layerbench-explorer").first
        def prompts(): return page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
        def done(): return all(re.search(r"\[\d+\]", p) for p in prompts()[-1:]) and not any("*" in p for p in prompts())
        def failed(): return page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").all_inner_texts()
        until(lambda: done() or failed(), SECONDS, f"{path} did not run to its end within {SECONDS} s")
        assert not failed(), f"{path} shows an error: {failed()[0][-1500:]}"
        explorer.wait_for(timeout=15_000)

        explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
        picture = explorer.locator(".panel-image img")
        still = bytes_of(picture)
        page.screenshot(path=SHOTS / f"{name}-before.png")
        handle = explorer.locator("[class*='control-fg_1'] .noUi-handle, [class*='control-picture_1'] .noUi-handle").first
        handle.focus()
        for _ in range(12): page.keyboard.press("ArrowRight")
        until(lambda: bytes_of(picture) != still, 15, f"the slider of {path} was moved and its picture stayed as it was")
        time.sleep(1)   # at rest the picture is sent once more, exact
        page.screenshot(path=SHOTS / f"{name}-after.png")
        moved = bytes_of(picture)
        assert moved.startswith("137,80,78,71"), "at rest the picture should be a PNG"

        handle = explorer.locator(".control-dx .noUi-handle")   # only the perturbed panel answers to the method's own perturbation
        handle.focus()
        shaken = explorer.locator(".panel-perturbed img")
        still = bytes_of(shaken)
        for _ in range(3): page.keyboard.press("ArrowLeft")
        until(lambda: bytes_of(shaken) != still, 15, "dx was moved and the perturbed panel stayed as it was")
        assert bytes_of(picture) == moved, "dx was moved and the plain picture changed"

        upload = explorer.locator(".jupyter-button:has(.fa-upload)")
        if upload.count():   # a person's own picture, where there is a segmenter
            Image.linear_gradient("L").save(folder / "mine.png")
            with page.expect_file_chooser() as chooser: upload.click()
            chooser.value.set_files(folder / "mine.png")
            explorer.get_by_text("of the picture").wait_for(timeout=15_000)
            explorer.evaluate("e => e.scrollIntoView({block: 'end'})")
            time.sleep(1)
            page.screenshot(path=SHOTS / f"{name}-upload.png")
        assert not failed()
    finally:
        page.screenshot(path=SHOTS / f"{name}-last.png")   # also when something went wrong: the first thing to look at
        page.close()
