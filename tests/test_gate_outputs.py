"""What an evaluation leaves behind: JSON by its schema, JUnit, Markdown, HTML, and the exit code of the command."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import junitparser
import pytest
from evaluation_policies import save_bundle
from gate_toys import CRASHES, FAULTY, RAISES
from jsonschema import Draft202012Validator

from physai import catalog, cli
from physai.evaluate.html import html
from physai.evaluate.markdown import markdown
from physai.evaluate.report import schema

Call = Callable[..., int]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


@pytest.fixture
def physai(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Runs the command in an empty folder with a bundle in it, and returns its exit code."""
    save_bundle(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["physai", "eval", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    return call


FILES = ("--json", "a.json", "--junit", "a.xml", "--markdown", "a.md", "--html", "a.html")


def test_records_that_shipped_before_are_valid(validator: Draft202012Validator) -> None:
    records = sorted(catalog.shipped_policies().glob("*/evidence/evaluation.json"))
    assert records
    for record in records:
        validator.validate(json.loads(record.read_text()))


def test_every_file_of_a_pass(physai: Call, validator: Draft202012Validator, tmp_path: Path) -> None:
    words = ("--episodes", "6", "--workers", "1", "--min-success", "0.5", "--require", "p95(last_digit)<=9")
    assert physai("bundle", *words, *FILES) == 0
    document = json.loads((tmp_path / "a.json").read_text())
    validator.validate(document)
    assert document["verdict"] == "passed"
    assert [check["passed"] for check in document["checks"]] == [True, True]
    assert document["worst"][0]["replay"] == "physai view bundle --seed 1000001"
    for wrong in ("verdict", "seeds", "success", "records"):
        assert not validator.is_valid({**document, wrong: "x"})
    assert not validator.is_valid({**document, "unheard_of": 1})
    suite = junit(tmp_path / "a.xml")
    assert (suite.tests, suite.failures, suite.errors) == (2, 0, 0)
    assert "passed, success 50.0%" in (tmp_path / "a.md").read_text()
    assert "s with 1 worker, of which" in (tmp_path / "a.md").read_text()
    assert not list(tmp_path.glob("*.journal*")), "it is not needed any more"


def test_below_the_bar(physai: Call, validator: Draft202012Validator, tmp_path: Path) -> None:
    assert physai("bundle", "--episodes", "4", "--workers", "1", "--min-success", "0.9", *FILES) == 1
    validator.validate(json.loads((tmp_path / "a.json").read_text()))
    suite = junit(tmp_path / "a.xml")
    assert (suite.tests, suite.failures, suite.errors) == (1, 1, 0)
    (case,) = list(suite)
    assert (case.name, case.is_failure) == ("success >= 0.9", True)
    assert case.result[0].message == "success >= 0.9 is not met: 0.5"
    assert "below the bar, success 50.0%" in (tmp_path / "a.md").read_text()
    assert "| success &gt;= 0.9 | 0.5 | NO |" in (tmp_path / "a.md").read_text()


def test_what_could_be_evaluated_is_kept(
    physai: Call, validator: Draft202012Validator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--task", FAULTY, "--episodes", "6", "--workers", "1", "--min-success", "0.2")
    assert physai("bundle", *words, *FILES) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the process that plays it was ended by SIGSEGV")
    assert "(2 episodes could not be played; this is the first)" in error
    document = json.loads((tmp_path / "a.json").read_text())
    validator.validate(document)
    assert document["verdict"] == "failed"
    assert (document["episodes"], document["planned"]) == (4, 6)
    assert [row["seed"] for row in document["failed"]] == [CRASHES, RAISES]
    suite = junit(tmp_path / "a.xml")
    assert (suite.tests, suite.failures, suite.errors) == (3, 0, 2)
    assert (tmp_path / "a.json.journal").exists(), "with --resume only what failed is played again"


def test_several_policies_of_which_one_is_broken(
    physai: Call, validator: Draft202012Validator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    assert physai("broken", "bundle", "--episodes", "2", "--workers", "1", *FILES) == 2
    assert "error: folder broken holds no policy" in capsys.readouterr().err
    document = json.loads((tmp_path / "a.json").read_text())
    validator.validate(document)
    assert document["schema"] == "physai-evaluations/1"
    assert [report["source"] for report in document["reports"]] == ["bundle"]
    assert document["failed"][0]["source"] == "broken"
    found = junitparser.JUnitXml.fromfile(str(tmp_path / "a.xml"))
    assert (found.tests, found.errors) == (2, 1)
    assert "broken: could not be evaluated" in (tmp_path / "a.md").read_text()


def test_a_broken_policy_is_one_sentence_also_in_the_files(
    physai: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert physai("nothing.zip", "--junit", "a.xml") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 'nothing.zip' is neither a path nor a task")
    assert error.count("\n") == 1
    (case,) = list(junit(tmp_path / "a.xml"))
    assert case.is_error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("bundle", "bundle", "--compare", "bundle"), "--compare takes one policy, not 2"),
        (("bundle", "--heat-map", "a.png"), "give --perturb"),
        (("bundle", "--resume"), "name that with --json FILE"),
        (("bundle", "--compare", "bundle", "--min-success", "0.5", "--early-stop"), "leave out --early-stop"),
        (("bundle", "--require", "steps"), "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused(
    physai: Call, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert physai(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error


def junit(path: Path) -> Any:
    (suite,) = list(junitparser.JUnitXml.fromfile(str(path)))
    return suite


class Reader(HTMLParser):
    """Notes what a page asks for, and whether its tags are closed."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def hostile(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "source": "<script>alert(1)</script>|\n", "task": "<b>x</b>"}


def test_the_page_is_one_file_and_asks_for_nothing() -> None:
    record = json.loads((catalog.shipped_policies() / "reach" / "evidence" / "evaluation.json").read_text())
    later = {"planned": 200, "verdict": "passed", "checks": [], "failed": [], "early_stop": None, "comparison": None}
    document = hostile({**record, **later, "robustness": None, "records": []})
    page, reader = html([document], {"<i>": "<i>"}), Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(link.startswith("data:image/png") for link in reader.asked)
    assert "<script" not in page
    assert "<b>" not in page
    assert not re.search(r"https?://", page)
    text = markdown([document], {"<i>": "|"})
    for tag in ("<script", "<b", "<i"):
        assert tag not in text
