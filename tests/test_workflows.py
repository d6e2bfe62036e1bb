"""GitHub's workflows: what they run is run here, as far as it can be had without GitHub"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

import site_pages
from layerbench.method import chapters
from layerbench.shell import COMMANDS, parse

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name): return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def step(workflow, job, word): return next(s for s in read(workflow)["jobs"][job]["steps"] if word in (s.get("id"), s.get("name")))


def shell(script, folder, **env):
    return subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, env=os.environ | env)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_nothing_from_outside_is_text_of_a_command(file):
    flow = yaml.safe_load(file.read_text())
    triggers = flow[True]   # YAML 1.1 reads the word `on` as true
    assert triggers and all({"runs-on", "steps"} <= set(job) for job in flow["jobs"].values())
    for job in flow["jobs"].values():
        assert job["timeout-minutes"] <= 360
        for s in job["steps"]:
            assert ("run" in s) != ("uses" in s)
            assert "${{" not in s.get("run", ""), "an expression in a script can carry commands in; pass it through env"
            if "uses" in s: assert re.fullmatch(r"(actions|quarto-dev)/[\w/-]+@v\d+", s["uses"])


@pytest.fixture
def matrix(tmp_path):
    def of(wanted):
        out = tmp_path / "output"
        out.write_text("")
        done = shell(step("ablation", "chapters", "matrix")["run"], ROOT, CHAPTERS=wanted, GITHUB_OUTPUT=str(out))
        return done, json.loads(out.read_text().removeprefix("chapters=")) if out.read_text() else None
    return of


def test_the_matrix_has_all_chapters(matrix):
    assert matrix("all")[1] == chapters() == matrix("")[1]
    assert matrix("onegan, comgan onegan")[1] == ["onegan", "comgan"]
    done, found = matrix("onegan comgna")
    assert done.returncode and found is None and "no such chapter: comgna; expected some of comgan" in done.stderr


@pytest.fixture
def swept(tmp_path):
    "The words that the command is called with"
    fake = tmp_path / ".venv" / "bin" / "layerbench"
    fake.parent.mkdir(parents=True)
    fake.write_text(f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open('words.json', 'w'))\n")
    fake.chmod(0o755)
    def of(**inputs):
        given = {"CHAPTER": "onegan", "PRESET": "smoke", "ONLY": "", "GRID": "", "SEEDS": "1", "STEPS": "0", "SAMPLES": "8"} | inputs
        script = step("ablation", "sweep", "sweep")
        assert set(script["env"]) == set(given)
        done = shell(script["run"], tmp_path, **given)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "words.json").read_text())
    return of


def test_the_sweeps_words_are_the_commands(swept):
    import layerbench.cli   # registers them
    assert "ablate" in COMMANDS
    args = parse(swept(), "")
    assert (args.chapter, args.preset, args.only, args.grid, args.seeds, args.steps, args.samples, args.jobs, str(args.out)) == ("onegan", "smoke", None, None, 1, 0, 8, 2, "sweep")
    args = parse(swept(ONLY="a b+c", GRID="lr=1,2 blocks=(1,2),(3,)*", SEEDS="3", PRESET="cpu,x"), "")
    assert (args.only, args.grid, args.seeds, args.preset) == (["a", "b+c"], ["lr=1,2", "blocks=(1,2),(3,)*"], 3, "cpu,x")


@pytest.mark.parametrize("evil", ["$(touch broken)", "`touch broken`", "; touch broken", "' ; touch broken ; '", '" && touch broken && "', "*"])
def test_inputs_stay_words(swept, tmp_path, evil):
    for name in ("ONLY", "GRID"):
        words = swept(**{name: evil})
        assert words[words.index(f"--{name.lower()}") + 1:] == evil.split()
    assert swept(PRESET=evil)[3] == evil and not (tmp_path / "broken").exists()


def test_dispatch_and_night_fill_all_inputs():
    flow = read("ablation")
    inputs = flow[True]["workflow_dispatch"]["inputs"]
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / ".github" / "workflows" / "ablation.yml").read_text()))
    assert used == set(inputs) and flow[True]["schedule"]
    night = {k: m[1] for k, v in step("ablation", "sweep", "sweep")["env"].items() if (m := re.search(r"\|\| '(\w+)'", v))}   # inputs are empty then
    assert night == {"PRESET": "smoke", "SEEDS": "1", "STEPS": "0", "SAMPLES": "8"}


def test_a_table_becomes_the_summary(tmp_path):
    script, summary = step("ablation", "sweep", "table")["run"], tmp_path / "summary.md"
    assert shell(script, tmp_path, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0 and not summary.exists()   # stopped before there was one
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "table.md").write_text("| a |\n")
    assert shell(script, tmp_path, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0 and summary.read_text() == "| a |\n"


# the site
def listed(contents):
    for c in contents:
        if isinstance(c, str): yield c
        else: yield from listed(c["contents"])


def test_the_sidebar_has_every_notebook_once_and_chapters_first():
    contents = site_pages.sidebar(ROOT / "nbs")["website"]["sidebar"]["contents"]
    found, there = list(listed(contents)), {str(f.relative_to(ROOT / "nbs")) for f in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts}
    assert sorted(found) == sorted(there) and found[0] == "index.ipynb"
    sections = [c for c in contents if isinstance(c, dict)]
    assert sections[0]["section"] == "Chapters" and {Path(f).stem for f in sections[0]["contents"]} == set(chapters())


def test_pictures_of_papers_come_into_the_site(tmp_path):
    (tmp_path / "papers" / "one" / "results").mkdir(parents=True)
    (tmp_path / "papers" / "one" / "results" / "a.webp").write_bytes(b"picture")
    for name, up in (("index", ""), ("chapters/one", "../")):
        file = tmp_path / "nbs" / f"{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"![a]({up}../papers/one/results/a.webp) [b]({up}layers.ipynb)"),
                                                          nbformat.v4.new_code_cell("#| export\ndef one(): return 1")]), file)
    site_pages.prepare(tmp_path)
    for name, link in (("index", "papers/one/results/a.webp"), ("chapters/one", "../papers/one/results/a.webp")):
        file = tmp_path / "nbs" / f"{name}.ipynb"
        prose, code = nbformat.read(file, 4).cells
        assert code.source == "def one(): return 1"   # nbdev hides what is exported
        assert f"![a]({link})" in prose.source and (file.parent / link).read_bytes() == b"picture"
    assert yaml.safe_load((tmp_path / "nbs" / "sidebar.yml").read_text())["website"]["sidebar"]["contents"][0] == "index.ipynb"


def test_the_sites_files_agree():
    quarto = yaml.safe_load((ROOT / "nbs" / "_quarto.yml").read_text())
    assert quarto["metadata-files"] == ["nbdev.yml", "sidebar.yml"] and (ROOT / "nbs" / quarto["format"]["html"]["css"]).is_file()
    assert all((ROOT / "nbs" / item["href"]).is_file() for item in quarto["website"]["navbar"]["left"])
    settings = dict(re.findall(r"^(\w+) = (.*)$", (ROOT / "settings.ini").read_text(), re.M))
    assert settings["custom_sidebar"] == "True"   # or nbdev would write its own
    upload = next(s for s in read("site")["jobs"]["build"]["steps"] if "upload-pages" in s.get("uses", ""))
    assert upload["with"]["path"] == settings["doc_path"]
