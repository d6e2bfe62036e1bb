"Tables and pages of sweeps: odd input, and every name in every paper.toml"
import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from layerbench.ablate.page import page
from layerbench.ablate.settings import known, named, paper
from layerbench.ablate.tables import LINES, Column, columns_of, csv_text, markdown, measured, order, rows_of, summary, words_of, written
from layerbench.method import chapter, chapters, settings

IOU = Column("evaluated.iou", "IoU", "more", paper={"a": .9, "b": .5, "c": .1}, lines=LINES["masks"])


def entry(title, seed=0, iou=None, state="done", reason=None, folder="sweep", result=None):
    result = result if result is not None else {"evaluated": {"iou": iou, "floors": {"full_mask": .2}, "ceiling": None}}
    return dict(title=title, seed=seed, state=state, reason=reason, folder=Path(folder) / f"{seed}", result=result if state == "done" else None, strip=None)


@pytest.mark.parametrize("key", chapters())
def test_every_sweep_names_what_there_is(key):
    facts, method = paper(key), chapter(key)
    columns, main, stands = columns_of(key), facts["sweeps"]["main"], facts["sweeps"]["stands_for"]
    assert len({c.title for c in columns}) == len(columns) == len({c.measure for c in columns}) >= 5
    assert len(set(main)) == len(main) >= 5
    for name in main: settings(method.Config, method.presets, ",".join(["cpu", *named(key, [name])[0]]))
    assert set(main) <= set(known(key)) | set(stands)
    for entry in facts["sweep"]:
        assert set(entry) <= {"measure", "title", "better", "places", "table", "column", "scale", "where", "key", "lines", "about"}
        for table in [entry["table"]] if isinstance(entry.get("table", []), str) else entry.get("table", []):
            assert any(entry.get("key", "setting") in row for row in rows_of(facts, table)), table
    for c in columns:   # a setting with a figure can be run: a preset, several, or one of the names that stand for it
        for name in {*c.paper, *c.fails} - set(stands.values()): named(key, [name])
        assert c.where if c.told else not c.where, c.title
    assert any(c.told and sum(t in c.paper or t in c.fails for t in main) >= 3 for c in columns)   # there is an order to compare


@pytest.mark.parametrize("key", chapters())
def test_base_is_the_setting_that_it_stands_for(key):
    method, same = chapter(key), paper(key)["sweeps"]["stands_for"]["base"]
    if same in method.presets: assert settings(method.Config, method.presets, f"cpu,{same}") == settings(method.Config, method.presets, "cpu")
    assert any("base" in c.paper for c in columns_of(key)) and words_of(key)["base"]


@pytest.mark.parametrize("found", [None, {}, {"evaluated": None}, {"evaluated": {"iou": None}}, {"evaluated": {"iou": "0.5"}}, {"evaluated": {"iou": float("nan")}}, {"evaluated": {"iou": True}}, {"evaluated": [1, 2]}])
def test_what_was_not_measured_is_empty_and_not_zero(found):
    assert measured(found, "evaluated.iou") is None
    sweep = [entry("a", iou=.5), entry("b", result=found or {})]
    table = markdown(sweep, [IOU])
    assert "| `b` | 1 |  | 0.500 |" in table and "nan" not in table and "None" not in table
    assert next(r for r in csv.DictReader(io.StringIO(csv_text(sweep, [IOU]))) if r["title"] == "b")["evaluated.iou"] == ""
    assert "not measured" in page(sweep, [IOU])


@pytest.mark.parametrize("sweep", [[], [entry("a", state="waiting")], [entry("a", state="failed", reason=None)], [entry("a", iou=.5)]])
def test_nothing_one_failed_and_waiting(sweep):
    assert markdown(sweep, [IOU]).startswith("# Ablations")
    assert csv_text(sweep, [IOU]).count("\n") == 1 + 2 * len(sweep) + any(e["state"] == "done" for e in sweep)
    assert order(summary(sweep, [IOU]), IOU) is None
    assert page(sweep, [IOU]).rstrip().endswith("</html>")
    assert markdown(sweep, []) and csv_text(sweep, []) and page(sweep, [])


def test_one_seed_has_no_spread_and_a_failed_seed_does_not_hide_the_other():
    row, = summary([entry("a", 0, .5), entry("a", 1, state="failed", reason="it broke")], [IOU])
    assert (row.cells["IoU"].mean, row.cells["IoU"].spread, row.seeds, row.state) == (.5, None, "1 of 2", "done")
    text = markdown(row.entries, [IOU])
    assert "±" not in text.split("Mean over seeds")[0] and "seed 1: it broke" in text


class Names(HTMLParser):
    def __init__(self): super().__init__(); self.tags, self.text, self.inside = [], [], ""
    def handle_starttag(self, tag, attrs): self.tags.append(tag); self.inside = tag
    def handle_data(self, data): self.text += [data] if self.inside not in ("script", "style") else []


@pytest.mark.parametrize("title", ["a|b", "<script>alert(1)</script>", "x=1,2", 'say "no"', "`tick`", "a&b", "größer 🙂", "*_[x](y)"])
def test_any_title_makes_a_sound_table_and_page(title, tmp_path):
    sweep = [entry(title, 0, .5), entry(title, 1, state="failed", reason=f"{title}\nand | more"), entry("plain", 0, .4)]
    files = written(tmp_path, sweep, [IOU], {"command": f"layerbench ablate {title}"})
    rows = list(csv.reader(io.StringIO(files[0].read_text(encoding="utf-8"))))
    assert {len(r) for r in rows} == {len(rows[0])} and [r[1] for r in rows].count(title) == 3
    table = [line for line in files[1].read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1 and not any("<script" in line for line in table)
    parsed = Names()
    parsed.feed(page(sweep, [IOU], {"command": title, "title": title}))
    assert title in "".join(parsed.text) and parsed.tags.count("h1") == 1 and "alert" not in parsed.tags
    assert parsed.tags.count("script") == page([entry("x", 0, .5), entry("plain", 0, .4)], [IOU]).count("<script")


def test_the_order_knows_seeds_and_which_way_is_better():
    far = [entry("a", s, .8 + .01 * s) for s in (0, 1)] + [entry("b", s, .3 + .01 * s) for s in (0, 1)] + [entry("c", s, .305 + .01 * s) for s in (0, 1)]
    found = order(summary(far, [IOU]), IOU)
    assert (found.same, found.swapped, found.within) == ([("a", "b"), ("a", "c")], [], [("b", "c")])
    less = replace(IOU, better="less")
    turned = order(summary(far, [less]), less)   # the same figures say the same about a measure of which less is better, but name the other one first
    assert (turned.same, turned.within) == ([("b", "a"), ("c", "a")], [("c", "b")]) and turned.tau == found.tau
    backwards = order(summary([entry("a", 0, .1), entry("b", 0, .2), entry("c", 0, .3)], [IOU]), IOU)
    assert backwards.tau == -1 and len(backwards.swapped) == 3 and "c stands before a, b" in backwards.sentence


def test_what_fails_in_words_comes_behind_every_figure():
    column = replace(IOU, paper={"a": .2}, fails={"b": True, "c": False})
    rows = summary([entry("a", 0, .5), entry("b", 0, .6), entry("c", 0, .1)], [column])
    assert order(rows, column).swapped == [("a", "b")]   # of c the paper says that it works, and not how well
    assert "| `b` | 1 | 0.600 | fails |" in markdown([e for r in rows for e in r.entries], [column])


def test_a_comparison_has_methods_for_rows():
    text = markdown([entry("perturbgan", 0, .5), entry("onegan", 0, .6)], [replace(IOU, paper={})], {"kind": "compare"})
    assert text.startswith("# Comparison of the chapters") and "| method | seeds | IoU ↑ |" in text


def test_two_measures_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two measures are called IoU"): summary([], [IOU, IOU])


def test_a_failed_training_links_to_its_notebook(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "notebook.ipynb").write_text("{}")
    text = page([entry("a", 0, state="failed", reason="it broke", folder=tmp_path), entry("a", 1, state="failed", reason="so did this", folder=tmp_path)], [IOU])
    assert text.count('href="0/notebook.ipynb"') == 1 and "so did this" in text
