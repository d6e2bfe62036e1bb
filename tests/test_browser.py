"Every chapter as a person meets it: JupyterLab, Chromium, Run All, a slider moved with the arrow keys"
import ast
import json
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

from layerbench.method import chapters

ROOT = Path(__file__).resolve().parent.parent
SHOTS = ROOT / "ci-output"
NOTEBOOKS = {path: {"preset": "smoke"} for name in chapters() if (ROOT / (path := f"nbs/chapters/{name}.ipynb")).is_file()}
NOTEBOOKS["nbs/explore/panel.ipynb"] = {}   # path -> parameters
WIDGETS = """from pathlib import Path
import torch
from layerbench.codes import Dice
from layerbench.explore.discs import AbleDiscs
from layerbench.explore.figures import layer_grid
from layerbench.explore.history import history
from layerbench.explore.inversion import inversion
from layerbench.explore.side_by_side import side_by_side
method = AbleDiscs()
images = method.generate(method.space.sample(4, Dice(4))).image
Path("samples").mkdir()
for step in (100, 200): layer_grid(method.generate(method.space.sample(6, Dice(step))), 6, 48).save(f"samples/{step:07d}.png")
#
side_by_side({"32 px": method, "64 px": AbleDiscs(size=64), "a recorded sheet": "samples/0000200.png"}, seed=3, dx=5)
#
inversion(method, images, steps=300, every=20, progress=False)
#
history(".")""".split("#\n")   # cells of a page with every widget besides the explorer
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-component-update", "--disable-sync"]
SECONDS = 900   # for one notebook to run where others keep the cores busy (comgan took 240 with a load of 14 on two); a cell that fails ends the wait at once
ANSWER = 60     # for a page to answer a hand there; nothing waits that long where it is well
HAS = {"perturbgan": ("perturbation", "mixing"), "layered_mi": ("perturbation",), "comgan": ("mixing",), "ganseg": ("mixing", "hands"), "onegan": (), "panel": ("perturbation",)}   # what an explorer must offer


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
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=lesson", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, f"JupyterLab stopped at once: {(home / 'log.txt').read_text()[-2000:]}"
                time.sleep(.2)
        else: pytest.fail(f"JupyterLab did not answer within two minutes: {(home / 'log.txt').read_text()[-2000:]}")
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


def until(what, sentence, seconds=ANSWER, stays=0.):   # stays: seconds after which it must be true still; for what is not to be seen, and may only be late
    "Wait for something to become true. A page answers when it can, one widget after another: nothing that a hand brought about may be read before it was waited for"
    end = time.time() + seconds
    while time.time() < end:
        found = what()
        if found and stays:
            time.sleep(stays)
            found = what()
        if found: return found
        time.sleep(.2)
    pytest.fail(sentence() if callable(sentence) else sentence)


def at_rest(image):
    "The bytes that an image shows when nothing moves any more: exact, and the same a second later"
    return until(lambda: (shown := bytes_of(image)).startswith("137,80,78,71") and shown, "at rest a picture should be a PNG that stays as it is", stays=1.)


def stayed(image, still): return at_rest(image) == still
def brought(what, seconds=ANSWER): return what.wait_for(timeout=1000 * seconds)   # Playwright's own way to wait for an element


def told(explorer):
    "What the line of code says: the state that the kernel has painted"
    line = explorer.locator("input[type=text]").last.input_value()
    return {k.arg: ast.literal_eval(k.value) for k in ast.parse(line).body[0].value.keywords if k.arg != "pictures"} if line else {}


def turn(page, explorer, handle, key, times):
    "Move an explorer's slider with the keyboard, and wait until what is painted is the last that was asked for"
    nudge(page, handle, key, times)
    named, = handle.evaluate("e => Array.from(e.closest('[class*=control-]').classList).filter(c => c.startsWith('control-'))")
    readout, name = explorer.locator(f".{named} .widget-readout"), named.removeprefix("control-")
    def arrived(): return abs(float(told(explorer).get(name, "nan")) - float(readout.inner_text().replace("−", "-"))) < .0051   # two places are shown
    until(arrived, lambda: f"{name} was moved to {readout.inner_text()}, and the line of code says {told(explorer)}")


def prompts(page): return page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
def done(page): return all(re.search(r"\[\d+\]", p) for p in prompts(page)[-1:]) and not any("*" in p for p in prompts(page))
def begins(page, seconds):
    "Whether a cell was taken up within some seconds"
    end = time.time() + seconds
    while time.time() < end:
        if any(p.strip("[]: \n") for p in prompts(page)): return True
        time.sleep(.2)
    return False
def failed(page):
    "What failed cells show. JupyterLab 4.6 draws an error with the type of stderr, where warnings are, too: a traceback begins with a rule, a syntax error with its cell"
    kinds = "application/vnd.jupyter.error", "application/vnd.jupyter.stderr"
    found = page.locator(", ".join(f".jp-OutputArea-output[data-mime-type='{kind}']" for kind in kinds)).all_inner_texts()
    return [text for text in found if re.match(r"\s*(-{40,}|Cell In\[|\w+(Error|Exception|Interrupt)\b)", text)]


def written(folder, notebook, name):
    "A notebook without outputs, where JupyterLab finds it"
    for cell in notebook.cells:
        if cell.cell_type == "code": cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / f"{name}.ipynb")


def run_all(page, address, name):
    "Open a notebook and run it to its end; a cell that fails ends the test with what it says"
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?token=lesson", timeout=1000 * SECONDS)   # a workspace each: no other notebook in it
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=1000 * SECONDS)
    page.locator(".jp-NotebookPanel-toolbar").get_by_text("Python 3").first.wait_for(timeout=1000 * SECONDS)   # the kernel is known
    for _ in range(3):   # a kernel that is still connecting, as happens where others keep the cores busy, loses what it is asked
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        if begins(page, 20): break
    until(lambda: done(page) or failed(page), f"{name} did not run to its end within {SECONDS} s", SECONDS, stays=.5)
    assert not failed(page), f"{name} shows an error: {failed(page)[0][-1500:]}"


def nudge(page, handle, key, times):
    "Move a slider with the keyboard"
    handle.focus()
    for _ in range(times): page.keyboard.press(key)


def modes_answer(page, explorer, name):
    "OneGAN's modes: repaint a scene, mix its map, take its object away, make it another child's"
    picture = explorer.locator(".panel-image img")
    for mode, slider, key in (("reconstruct", "reconstruct_beta1", "ArrowLeft"), ("remove", "remove_opacity", "ArrowRight"), ("translate", "translate_strength", "ArrowLeft")):
        still = at_rest(picture)
        explorer.locator(".group-mode button").get_by_text(mode, exact=True).click()
        handle = explorer.locator(f".control-{slider} .noUi-handle")
        until(handle.is_visible, f"the mode {mode} was chosen and its slider did not come")
        until(lambda: explorer.locator(".panel-given img").is_visible(), f"{mode} works on a picture, and none is shown")
        if mode == "reconstruct": turn(page, explorer, explorer.locator(".control-picture .noUi-handle"), "ArrowRight", 8)   # a scene: the photograph before it holds no object
        until(lambda: bytes_of(picture) != still, f"the mode {mode} was chosen and the picture stayed as it was")
        still = at_rest(picture)
        turn(page, explorer, handle, key, 12)
        until(lambda: bytes_of(picture) != still, f"{slider} was moved and the picture stayed as it was")
        at_rest(picture)
        explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
        page.screenshot(path=SHOTS / f"{name}-{mode}.png")
        if mode == "reconstruct": until(lambda: explorer.get_by_text("beyond training").first.is_visible(), "less of the bypass than training had, and nothing says so")


def codes_answer(page, explorer, name):
    "ComGAN's codes move their own layer and the picture, and nothing else; its network S cuts a scene out"
    panels = {k: explorer.locator(f".panel-{k} img") for k in ("image", "background", "foreground", "mask")}
    for code, own, other in (("f", "foreground", "background"), ("b", "background", "foreground")):
        choice = explorer.locator(f".control-{code} select")
        for value in ("2", "5"):   # one of them is not the class that was drawn
            still = {k: at_rest(panel) for k, panel in panels.items()}
            choice.select_option(label=value)
            until(lambda: told(explorer).get(code) == int(value), f"{code} was set to {value}, and the line of code does not say so")
            if value == "5": until(lambda: bytes_of(panels["image"]) != still["image"], f"{code} was chosen and the picture stayed as it was")
            now = {k: at_rest(panel) for k, panel in panels.items()}
            assert value == "2" or (now[own] != still[own] and now["mask"] == still["mask"] and now[other] == still[other]), f"{code} belongs to the {own}, and another layer moved"
    explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
    page.screenshot(path=SHOTS / f"{name}-codes.png")
    explorer.locator(".group-mode button").get_by_text("segment", exact=True).click()
    until(lambda: explorer.locator(".panel-given img").is_visible(), "segment works on a picture, and none is shown")
    at_rest(explorer.locator(".panel-given img"))
    page.screenshot(path=SHOTS / f"{name}-segment.png")


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_slider_moves_the_picture(browser, lab, path):
    folder, address = lab
    name = Path(path).stem
    notebook = load_notebook_node(str(ROOT / path))
    written(folder, parameterize_notebook(notebook, NOTEBOOKS[path]) if NOTEBOOKS[path] else notebook, name)
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        run_all(page, address, name)
        explorer = page.locator(".jp-OutputArea .layerbench-explorer").first
        brought(explorer)

        explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
        picture, first = explorer.locator(".panel-image img"), explorer.locator(".group-directions .noUi-handle").first
        brought(first)
        still = at_rest(picture)
        page.screenshot(path=SHOTS / f"{name}-before.png")
        turn(page, explorer, first, "ArrowRight", 12)
        until(lambda: bytes_of(picture) != still, f"the slider of {path} was moved and its picture stayed as it was")
        moved = at_rest(picture)   # sent once more, exact
        page.screenshot(path=SHOTS / f"{name}-after.png")

        if "perturbation" in HAS[name]:   # only the perturbed panel answers to the method's own perturbation
            shaking, shaken = explorer.locator(".group-perturbation .noUi-handle").first, explorer.locator(".panel-perturbed img")
            brought(shaking)
            still = at_rest(shaken)
            turn(page, explorer, shaking, "ArrowLeft", 3)
            until(lambda: bytes_of(shaken) != still, "a perturbation was moved and the perturbed panel stayed as it was")
            at_rest(shaken)
            assert stayed(picture, moved), "a perturbation was moved and the plain picture changed"

        if "mixing" in HAS[name]:   # the other seed's style
            mixing = explorer.locator(".group-mixing .noUi-handle").first
            brought(mixing)
            lowest = mixing.get_attribute("aria-valuenow") == mixing.get_attribute("aria-valuemin")
            turn(page, explorer, mixing, "ArrowRight" if lowest else "ArrowLeft", 8)
            until(lambda: bytes_of(picture) != moved, "the styles were mixed and the picture stayed as it was")

        if "hands" in HAS[name]:   # a part goes where a hand drags it
            handle = explorer.locator(".panel-image .layerbench-handle").first
            brought(handle)
            still = at_rest(picture)
            explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
            begin = where(handle)
            drag(page, begin, (60, 40))
            until(lambda: bytes_of(picture) != still and "move" in said(explorer), "a part was dragged and the picture stayed as it was")
            until(lambda: abs(middle_of(handle)[0] - begin[0] - 60) < 1.5, "the handle did not stay under the hand", stays=.5)
            at_rest(picture)
            page.screenshot(path=SHOTS / f"{name}-hands.png")

        upload = explorer.locator(".jupyter-button:has(.fa-upload)")   # a person's own picture: every one of these comes with a segmenter
        brought(upload)
        Image.linear_gradient("L").save(folder / "mine.png")
        with page.expect_file_chooser(timeout=1000 * ANSWER) as chooser: upload.click()
        chooser.value.set_files(folder / "mine.png")
        brought(explorer.get_by_text("of the picture"))
        at_rest(explorer.locator(".layerbench-upload img").first)
        explorer.evaluate("e => e.scrollIntoView({block: 'end'})")
        page.screenshot(path=SHOTS / f"{name}-upload.png")
        if name == "onegan": modes_answer(page, explorer, name)
        if name == "comgan": codes_answer(page, explorer, name)
        assert not failed(page)
    finally:
        page.screenshot(path=SHOTS / f"{name}-last.png")   # also when something went wrong: the first thing to look at
        page.close()


def cells(*sources):
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(metadata={"kernelspec": kernel}, cells=[nbformat.v4.new_code_cell(s) for s in sources])


def test_the_other_widgets_answer(browser, lab):
    folder, address = lab
    written(folder, cells(*WIDGETS), "widgets")
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        run_all(page, address, "widgets")
        for name, key in (("side-by-side", "ArrowRight"), ("inversion", "ArrowLeft"), ("history", "ArrowLeft")):
            shown = page.locator(f".jp-OutputArea .layerbench-{name}").first
            brought(shown)
            moving, handle = shown.locator("img").nth(1 if name == "inversion" else 0), shown.locator(".noUi-handle").first   # beside the given picture stands the repainted one
            brought(moving)
            brought(handle)
            shown.evaluate("e => e.scrollIntoView({block: 'start'})")
            still = at_rest(moving)
            page.screenshot(path=SHOTS / f"widgets-{name}.png")
            nudge(page, handle, key, 8)
            until(lambda: bytes_of(moving) != still, f"the slider of {name} was moved and its picture stayed as it was")
        assert not failed(page)
    finally:
        page.screenshot(path=SHOTS / "widgets-last.png")
        page.close()


def test_a_cell_that_fails_is_told_at_once(browser, lab):
    "A test of the test: JupyterLab 4.6 shows errors in another way than 4.5 did"
    folder, address = lab
    written(folder, cells("import warnings; warnings.warn('a warning is no error')", "raise ValueError('a reason to be told')", "'never run'"), "fails")
    page = browser.new_page()
    try:
        start = time.time()
        with pytest.raises(AssertionError, match="(?s)fails shows an error.*a reason to be told"): run_all(page, address, "fails")
        assert time.time() - start < SECONDS / 2, "a cell that failed did not end the wait"
        until(lambda: len(failed(page)) == 1, lambda: f"one cell fails, and {len(failed(page))} show an error", stays=1.)
    finally: page.close()


FACTORS = """from layerbench.explore import explore
from layerbench.explore.discs import FactorDiscs
from layerbench.explore.grid import grid
#
grid(FactorDiscs(), "f", "b", (4, 6), seed=3)
#
explore(FactorDiscs(), seed=3, f=3)""".split("#\n")


def test_factors_are_seen_in_a_grid_and_told_under_the_tiles(browser, lab):
    folder, address = lab
    written(folder, cells(*FACTORS), "factors")
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        run_all(page, address, "factors")
        grid = page.locator(".jp-OutputArea .layerbench-grid").first
        picture = grid.locator("img").first
        brought(picture)
        def shot(what, name):
            what.evaluate("e => e.scrollIntoView({block: 'start'})")
            at_rest(what.locator("img").first)
            page.screenshot(path=SHOTS / f"factors-{name}.png")
        shot(grid, "grid")
        for control, choice in (("rows", "z"), ("show", "mask"), ("steps", "interpolation"), ("columns", "f"), ("show", "image")):
            still = at_rest(picture)
            grid.locator(f".control-{control} select").select_option(label=choice)
            until(lambda: bytes_of(picture) != still, f"{control} was set to {choice} and the grid stayed as it was")
            if control == "steps": until(lambda: grid.locator(".control-seed_b").is_visible(), "between two draws, and the second has no seed")
        at_rest(picture)
        until(lambda: picture.evaluate("e => e.naturalWidth > 0 && e.naturalWidth <= e.clientWidth + 1"), "the grid is shown smaller than it was painted, and so blurred")
        shot(grid, "grid-after")

        explorer = page.locator(".jp-OutputArea .layerbench-explorer").first
        readout = explorer.locator(".layerbench-readout")
        until(lambda: "Turn a control" in readout.inner_text(), "nothing says what the line under the tiles is for")
        mix = explorer.locator(".control-f_mix")
        turn(page, explorer, mix.locator(".noUi-handle"), "ArrowRight", 1)
        until(lambda: "f_mix 0.00 →" in readout.inner_text() and "%" in readout.inner_text(), "a control was moved and nothing is told of it")
        turn(page, explorer, mix.locator(".noUi-handle"), "ArrowRight", 5)   # where others work, a hand seems to rest between two keys, and the next begins another turn
        until(lambda: f"→ {mix.locator('.widget-readout').inner_text()}" in readout.inner_text(), lambda: f"the control went on, and what is told is {readout.inner_text()}")
        until(lambda: (text := readout.inner_text()).count("unchanged") == 2 and "foreground" in text and readout.evaluate("e => e.scrollHeight <= e.clientHeight + 1 && e.scrollWidth <= e.clientWidth + 1"),
              lambda: f"two layers should be unchanged, and all of it fit: {readout.inner_text()}", stays=.5)
        shot(explorer, "readout")
        explorer.locator(".control-b select").select_option(label="4")
        until(lambda: "b as drawn" in readout.inner_text(), "a class was chosen and nothing is told of it")
        shot(explorer, "readout-after")
        assert not failed(page)
    finally:
        page.screenshot(path=SHOTS / "factors-last.png")
        page.close()


MODES = """from layerbench.explore import explore
from layerbench.explore.discs import ModedDiscs
#
explore(ModedDiscs())""".split("#\n")


def test_a_mode_shows_its_own_controls(browser, lab):
    folder, address = lab
    written(folder, cells(*MODES), "modes")
    Image.linear_gradient("L").save(folder / "mine.png")
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        run_all(page, address, "modes")
        explorer = page.locator(".jp-OutputArea .layerbench-explorer").first
        brought(explorer)
        picture, given, perturbed = (explorer.locator(f".panel-{k} img") for k in ("image", "given", "perturbed"))
        def shot(name):
            explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
            at_rest(picture)
            page.screenshot(path=SHOTS / f"modes-{name}.png")
        def choose(mode): explorer.locator(".group-mode button").get_by_text(mode, exact=True).click()
        def shows(key): return explorer.locator(f".control-{key}").is_visible()
        def only(mode, keys, gone):
            "All of these controls are to be seen, and none of those"
            until(lambda: all(map(shows, keys)) and not any(map(shows, gone)), stays=.5,
                  sentence=lambda: f"{mode} should show {[k for k in keys if not shows(k)]}, which it does not, and not {[k for k in gone if shows(k)]}")

        only("generate", ("seed", "fg_1"), ("picture", "reconstruct_detail"))
        until(lambda: perturbed.is_visible() and not given.is_visible(), "a mode that works on no picture shows the perturbed one, and none that is given", stays=.5)
        explorer.locator(".control-fg_tied input").click()
        brought(explorer.get_by_text("beyond training: fg drawn apart from bg"))
        shot("generate")

        choose("reconstruct")
        only("reconstruct", ("reconstruct_detail", "picture", "hard"), ("seed", "t", "fg_1", "dx", "truncation", "recolour_target", "picture_b"))
        until(lambda: given.is_visible() and not perturbed.is_visible(), "the mode was chosen and the real picture did not come", stays=.5)
        still = at_rest(picture)
        turn(page, explorer, explorer.locator(".control-reconstruct_detail .noUi-handle"), "ArrowLeft", 9)
        until(lambda: bytes_of(picture) != still, "the mode's slider was moved and the picture stayed as it was")
        brought(explorer.get_by_text("beyond training, 0.5 to 1"))
        still = at_rest(given)
        turn(page, explorer, explorer.locator(".control-picture .noUi-handle"), "ArrowRight", 5)
        until(lambda: bytes_of(given) != still, "another picture was chosen and the old one stayed")
        shot("reconstruct")

        choose("recombine")
        only("recombine", ("picture", "picture_b", "bg_seed", "bg_1"), ("fg_1", "reconstruct_detail"))
        until(lambda: explorer.locator(".panel-given_b img").is_visible(), "the mode works on two pictures, and shows one")
        still, upload = at_rest(given), explorer.locator(".jupyter-button:has(.fa-upload)")
        brought(upload)
        with page.expect_file_chooser(timeout=1000 * ANSWER) as chooser: upload.click()
        chooser.value.set_files(folder / "mine.png")
        until(lambda: bytes_of(given) != still, "a picture was given and the one before stayed")
        until(lambda: "yours" in explorer.locator(".control-picture").inner_text(), "the slider does not say whose picture it is")
        shot("recombine")
        nudge(page, explorer.locator(".control-picture .noUi-handle"), "ArrowRight", 1)
        until(lambda: "yours" not in explorer.locator(".control-picture").inner_text(), "a number was chosen and the picture is still one's own")

        choose("generate")
        only("generate", ("seed", "fg_1", "dx"), ("picture", "picture_b", "recombine_background"))
        until(lambda: not explorer.locator(".control-fg_tied input").is_checked(), "what was chosen in a mode is forgotten when it comes back", stays=.5)
        until(perturbed.is_visible, "the first mode did not bring its panels back")
        still = at_rest(perturbed)
        turn(page, explorer, explorer.locator(".control-dx .noUi-handle"), "ArrowRight", 4)
        until(lambda: bytes_of(perturbed) != still, "the perturbation was moved and its panel stayed as it was")
        shot("generate-again")
        assert not failed(page)
    finally:
        page.screenshot(path=SHOTS / "modes-last.png")
        page.close()


def test_the_gallery_switches_weights(browser, lab):
    "The first page that anybody opens: a slider of its first explorer, other weights and back, and all five rooms"
    folder, address = lab
    written(folder, nbformat.read(ROOT / "nbs" / "gallery.ipynb", 4), "gallery")
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        run_all(page, address, "gallery")
        def shot(what, name):
            what.evaluate("e => e.scrollIntoView({block: 'start'})")
            page.screenshot(path=SHOTS / f"gallery-{name}.png")
        shot(page.locator(".jp-Cell").first, "top")
        table = page.locator(".jp-OutputArea table").first
        brought(table)
        shot(table, "table")
        room = page.locator(".jp-OutputArea .gallery-perturbgan").first
        explorer = room.locator(".layerbench-explorer").first
        picture, slider = explorer.locator(".panel-image img"), explorer.locator(".control-fg_1 .noUi-handle")
        brought(slider)
        still = at_rest(picture)
        turn(page, explorer, slider, "ArrowRight", 12)
        until(lambda: bytes_of(picture) != still, "a slider of the gallery was moved and its picture stayed as it was")
        moved = at_rest(picture)
        shot(room, "scenes")

        room.get_by_role("button", name="photographs of flowers").click()
        until(lambda: "perturbgan/flowers" in room.inner_text() and "fg_1" not in told(explorer), "other weights were chosen, and nothing says so")
        flowers = at_rest(picture)
        assert flowers != moved and told(explorer) == {"seed": 5}
        brought(slider)
        turn(page, explorer, slider, "ArrowLeft", 12)
        until(lambda: bytes_of(picture) != flowers, "a slider of the flowers was moved and their picture stayed as it was")
        at_rest(picture)
        shot(room, "flowers")
        room.get_by_role("button", name="scenes").click()
        until(lambda: "perturbgan/cpu" in room.inner_text() and at_rest(picture) == moved, "the weights that were left are not as they were left")

        for name in chapters():
            room = page.locator(f".jp-OutputArea .gallery-{name}").first
            tile = room.locator(".panel-image img")
            brought(tile)
            at_rest(tile)
            shot(room, name)
        assert not failed(page)
    finally:
        page.screenshot(path=SHOTS / "gallery-last.png")
        page.close()


HANDS = """from layerbench.explore import explore
from layerbench.explore.discs import Discs, PartDiscs
#
explore(PartDiscs(), seed=3)
#
explore(Discs(), seed=3)""".split("#\n")


def where(node):
    "The middle of something that has come to its place"
    return until(lambda: node.bounding_box() and middle_of(node), "it has no place on the page", stays=.5)


def middle_of(node):
    box = node.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, begin, offset, steps=12, **how):
    "A hand goes somewhere with the button down"
    page.mouse.move(*begin)
    page.mouse.down(**how)
    for i in range(1, steps + 1): page.mouse.move(begin[0] + offset[0] * i / steps, begin[1] + offset[1] * i / steps)
    page.mouse.up(**how)


def said(explorer):
    "The edits that the line of code tells"
    return told(explorer).get("edits", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_hand_drags_what_it_sees(browser, lab, theme):
    folder, address = lab
    dark = folder.parent / "settings" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    dark.write_text(json.dumps({"theme": f"JupyterLab {theme.title()}"}))
    written(folder, cells(*HANDS), f"hands-{theme}")
    SHOTS.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        run_all(page, address, f"hands-{theme}")
        explorer = page.locator(".jp-OutputArea .layerbench-explorer").first
        brought(explorer)
        explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
        picture, background = explorer.locator(".panel-image img"), explorer.locator(".panel-background img")
        handles, ring = explorer.locator(".panel-image .layerbench-handle"), explorer.locator(".layerbench-ring").first
        until(lambda: handles.first.is_visible(), "the picture has no handles")
        at_rest(picture)
        assert picture.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated" and picture.evaluate("e => e.clientWidth / e.naturalWidth") == 12
        page.screenshot(path=SHOTS / f"hands-{theme}-before.png")
        still, begin = bytes_of(picture), where(handles.nth(2))
        drag(page, begin, (96, 0))   # a quarter of 384 px
        until(lambda: said(explorer).get("move") == {2: [.25, 0.]}, lambda: f"part 2 was dragged by a quarter of the side, and the explorer says {said(explorer)}")
        until(lambda: bytes_of(picture) != still, "a part was dragged and the picture stayed as it was")
        until(lambda: "part 2 moved by (8.0, 0.0) px" in explorer.locator(".layerbench-readout").inner_text(), "nothing tells of the drag")
        until(lambda: abs(middle_of(handles.nth(2))[0] - begin[0] - 96) < 1, "the handle did not stay under the hand", stays=.5)
        at_rest(picture)
        page.screenshot(path=SHOTS / f"hands-{theme}-after.png")

        until(lambda: len([h for h in handles.all()[4:] if h.is_visible()]) == 3 and ring.is_visible(), "the chosen part should show its points and how far it reaches", stays=.5)
        point = next(h for h in handles.all()[4:] if h.is_visible())
        point.focus()
        for key in ("ArrowDown", "ArrowDown", "Shift+ArrowLeft"): page.keyboard.press(key)
        until(lambda: said(explorer).get("points") == {6: [-.125, .0625]}, lambda: f"a point was moved with the keys, and the explorer says {said(explorer)}")
        page.keyboard.press("Home")
        until(lambda: "points" not in said(explorer), "Home does not put a point back")
        assert "point 6" in point.get_attribute("aria-label") and picture.get_attribute("alt") == "image"

        at_rest(picture)
        box = picture.bounding_box()
        drag(page, (box["x"] + 6, box["y"] + 6), (24, 48))
        until(lambda: set(said(explorer).get("move", ())) == {0, 1, 2, 3}, "the picture was dragged between its handles, and not every part moved")
        still = at_rest(background)
        drag(page, (box["x"] + 6, box["y"] + 6), (36, 0), button="right")
        until(lambda: said(explorer).get("slide") == [.0938, 0.] and bytes_of(background) != still, "the right button does not slide the background")
        at_rest(background)
        drag(page, where(background), (0, 48))
        until(lambda: said(explorer).get("slide") == [.0938, .25], "the background's own picture does not slide it")
        until(lambda: not page.locator(".lm-Menu").first.is_visible(), "the right button opened the notebook's menu", stays=1.)

        at_rest(picture)
        page.mouse.dblclick(*where(handles.nth(2)))
        until(lambda: set(said(explorer).get("move", ())) == {0, 1, 3}, "a double click does not put a part back")
        nudge(page, explorer.locator(".group-parts .noUi-handle").first, "ArrowRight", 8)
        until(lambda: 2 in said(explorer).get("scale", {}), "the slider of the chosen part does nothing")
        explorer.get_by_text("hide this part").click()
        until(lambda: said(explorer).get("hide") == [2], "the part was not hidden")
        at_rest(picture)
        page.screenshot(path=SHOTS / f"hands-{theme}-last.png")

        other = page.locator(".jp-OutputArea .layerbench-explorer").nth(1)
        other.evaluate("e => e.scrollIntoView({block: 'start'})")
        shaken, handle = other.locator(".panel-perturbed img"), other.locator(".panel-perturbed .layerbench-handle")
        until(lambda: handle.count() == other.locator(".layerbench-handle").count() == 1, "one handle moves the object, and it is on the perturbed picture", stays=.5)
        still = at_rest(shaken)
        drag(page, where(handle), (24, -12))
        until(lambda: (told(other).get("dx"), told(other).get("dy")) == (4, -2), lambda: f"the object was dragged, and dx and dy did not follow: {told(other)}")
        until(lambda: bytes_of(shaken) != still, "the object was dragged and stayed where it was")
        at_rest(shaken)
        page.screenshot(path=SHOTS / f"hands-{theme}-object.png")
        assert not failed(page)
    finally:
        dark.unlink()
        page.close()
