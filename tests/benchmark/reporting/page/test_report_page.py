import base64
import dataclasses
import hashlib
import html
import itertools
import json
import re
from html.parser import HTMLParser

import pytest
from remade import report_of, tables_of

from benchmark.__main__ import build_parser
from benchmark.rows.file import append_rows
from benchmark.study.hypotheses import USUAL_HYPOTHESES
from mindiffusion.errors import UserError

VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """Elements with their attributes and texts; complains of tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append((tag, len(self.elements) - 1))

    def handle_endtag(self, tag):
        if self.open and tag not in ("line", "rect", "circle", "path", "use"):
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            number = self.open[-1][1]
            self.texts[number] = self.texts.get(number, "") + data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def text_of(self, identifier):
        numbers = [k for k, (_, attrs) in enumerate(self.elements) if attrs.get("id") == identifier]
        return self.texts[numbers[0]]


@pytest.fixture(scope="module")
def text(report):
    return report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def small_study(folder, rows):
    append_rows(folder / "rows.jsonl", rows)
    return folder


def test_sections_come_in_a_readers_order(page):
    sections = [attrs["id"] for attrs in page.all("section")]
    assert sections == [
        "checks", "claims", "training", "figures", "tables", "samples", "provenance"
    ]  # fmt: skip
    links = [attrs["href"] for attrs in page.all("a") if attrs["href"] in
             {f"#{name}" for name in sections}]  # fmt: skip
    assert links[: len(sections)] == [f"#{name}" for name in sections]


def test_first_screen_has_answer_figure_and_table(text):
    first = text[text.index("<h1>") : text.index('<section id="checks"')]
    assert 'class="answer">Yes: ' in first and "95\u00a0% interval" in first
    assert "n\u00a0=\u00a08 seeds" in first
    assert 'id="figure-fid_vs_steps"' in first and 'id="table-main"' in first


def test_a_study_with_hypotheses_of_its_own_has_its_own_question(planted, tmp_path, text):
    folder = small_study(tmp_path, planted(("B", "C"), range(3)))
    asked = {"name": "H", "contrast": "C - B", "expected": "worse", "question": "Is C <worse>?"}
    index = {"study": "planted", "cells": [], "hypotheses": [asked]}
    (folder / "study.json").write_text(json.dumps(index))
    own = report_of(folder).read_text(encoding="utf-8")
    assert "<h1>Is C &lt;worse&gt;?</h1>" in own and "Does a noise curriculum train" not in own
    assert 'class="answer">Refuted: C − B is worse: ' in own
    explained = '<p class="question">A noise curriculum (C)'
    assert explained in text and explained not in own
    # One that asks what is usually asked, of other arms beside, says what C is.
    (benefit,) = (one for one in USUAL_HYPOTHESES if one.contrast == "C - B")
    index["hypotheses"] = [{"name": "H", "contrast": "C - B", "question": benefit.question}]
    (folder / "study.json").write_text(json.dumps(index))
    assert explained in report_of(folder).read_text(encoding="utf-8")


def test_swapping_two_arms_labels_changes_the_answer(planted, tmp_path, text):
    swap = {"B": "C", "C": "B"}
    rows = [
        dataclasses.replace(row, arm=swap.get(row.arm, row.arm))
        for row in planted(("B", "C"), range(4))
    ]
    swapped = report_of(small_study(tmp_path, rows)).read_text()
    assert 'class="answer">No: ' in swapped
    benefit = re.compile(r'id="claim-H2".*?</svg>(\w+)', re.DOTALL)
    assert benefit.search(text)[1] == "supported"
    assert benefit.search(swapped)[1] == "refuted"


def test_every_identifier_is_there_once_and_every_link_has_its_end(page):
    identifiers = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    targets = [attrs["href"] for name in ("a", "use") for attrs in page.all(name)]
    targets += [f"#{attrs['data-copy']}" for attrs in page.all("button") if "data-copy" in attrs]
    targets += [f"#{attrs['aria-labelledby']}" for _, attrs in page.elements
                if "aria-labelledby" in attrs]  # fmt: skip
    assert {target[1:] for target in targets} <= set(identifiers)


def test_semantics_that_readers_of_all_kinds_need(page):
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert all(attrs["scope"] in ("col", "row") for attrs in page.all("th"))
    assert all("alt" in attrs for attrs in page.all("img"))
    assert next(attrs["href"] for attrs in page.all("a")) == "#answer"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_policy_forbids_the_network_and_allows_our_own_text_alone(page, text):
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in attrs or any(key.startswith("on") for key in attrs)
                   for _, attrs in page.elements)  # fmt: skip
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


def test_names_from_rows_are_escaped(page, text):
    assert "x<b>" not in text and "x&lt;b&gt;&amp;&#34;%/*" in text
    assert "b" not in {tag for tag, _ in page.elements}


def test_copied_latex_and_csv_are_the_studys_own_tables(page, study_dir):
    tables_of(study_dir)
    files = sorted((study_dir / "tables").glob("*.tex"))
    assert len(files) > 3
    for path in files:
        whole = path.read_text()
        count = whole.count(r"\begin{table}")
        parts = [page.text_of(f"{path.stem}_{k}-tex") for k in range(1, count + 1)]
        assert "\n".join(parts) == whole
        assert page.text_of(f"{path.stem}-numbers") == path.with_suffix(".csv").read_text()


def test_same_rows_give_the_same_bytes_in_whatever_order(planted, tmp_path):
    rows = planted(("B", "C"), [0, 1])
    first = report_of(small_study(tmp_path / "a", rows)).read_bytes()
    assert report_of(tmp_path / "a").read_bytes() == first
    other = report_of(small_study(tmp_path / "b", rows[::-1])).read_text()
    digest = re.compile("SHA-256 [0-9a-f]{64}")
    assert digest.sub("", other) == digest.sub("", first.decode())


def test_one_seed_without_figures_and_strips_still_makes_a_page(planted, tmp_path):
    rows = planted(("B", "C"), [0], "FD-EffNet-Lite0-64px@1024")
    text = report_of(small_study(tmp_path, rows)).read_text()
    Page(text)
    first = text[: text.index('<section id="checks"')]
    assert "One training seed" in first and "Smoke:" in first
    assert "is not in this copy of the study" in first
    assert "Figures without rows or files" in text and "No sample strips" in text


def test_a_study_without_a_finished_arm_still_makes_a_page(planted, tmp_path):
    rows = [row for row in planted(("B",), [0]) if row.step < 1000]
    text = report_of(small_study(tmp_path, rows)).read_text()
    Page(text)
    assert "No table of distances" in text and "no claim can be tested yet" in text


def test_a_folder_without_rows_is_one_line(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        report_of(tmp_path)


def test_the_commands_that_make_it_anew_are_commands(text):
    lines = re.findall(r"^python -m benchmark (.*?)(?:</pre>)?$", text, re.MULTILINE)
    assert lines == ["reproduce planted", "report results/planted"]
    for line in lines:
        assert build_parser().parse_args(line.split()).command == line.split()[0]


def test_provenance_names_where_numbers_come_from(text, study_dir):
    end = text[text.index('<section id="provenance"') :]
    digest = hashlib.sha256((study_dir / "rows.jsonl").read_bytes()).hexdigest()
    for part in (
        digest,
        "git g1",
        "torch 2.15",
        "avatars, manifest m1",
        "box; threads 1",
        "c10 c11",
    ):
        assert part in end


def test_what_can_be_copied_is_neither_formula_nor_command(tmp_path, planted):
    rows = [
        dataclasses.replace(row, arm={"C": "=cmd()"}.get(row.arm, row.arm), study="a; rm -rf ~")
        for row in planted(("B", "C"), range(2))
    ]
    text = html.unescape(report_of(small_study(tmp_path, rows)).read_text())
    assert "reproduce 'a; rm -rf ~'" in text
    sources = re.findall(r'id="[^"]*-(?:csv|numbers)"[^>]*>(.*?)</textarea>', text, re.DOTALL)
    lines = [line for source in sources for line in source.splitlines()]
    assert any(line.startswith("'=cmd()") for line in lines)
    assert not [line for line in lines if re.match(r"[=+@]|-[^\d.]", line)]
