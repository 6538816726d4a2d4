"""The suite's own rules: what stays in one process, what comes first, and what is said at the end."""

import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

import suite
from helpers import ROOT
from suite import Budget, unit


@pytest.fixture
def ledger(monkeypatch):
    """A ledger of three lines."""
    lines = [Budget("tests/labs.py", 50, by_case=True), Budget("tests/page*.py", 100), Budget("tests/*", 10)]
    monkeypatch.setattr(suite, "LEDGER", lines)


class Terminal:
    """Keeps what is written."""

    def __init__(self):
        self.lines = []

    def section(self, title: str, **_) -> None:
        self.lines.append(title)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def test_each_line_of_the_ledger_is_for_a_file():
    assert [line.files for line in suite.LEDGER if not list(ROOT.glob(line.files))] == []


def test_a_file_stays_together_or_else_each_of_its_cases(ledger):
    assert unit("tests/a.py::test_b") == unit("tests/a.py::test_c[1]") == "tests/a.py"
    assert unit("tests/labs.py::test_b[07_vae]") == unit("tests/labs.py::test_c[07_vae]") == "tests/labs.py::[07_vae]"
    assert unit("tests/labs.py::test_b[06_fvi]") != unit("tests/labs.py::test_b[07_vae]") != unit("tests/labs.py::test_d")


def test_the_longest_come_first_and_files_with_a_browser_last(ledger):
    def item(nodeid: str, *fixtures: str):
        marks = []
        return SimpleNamespace(
            nodeid=nodeid, path=Path(nodeid.partition("::")[0]), fixturenames=fixtures, add_marker=marks.append, marks=marks
        )

    items = [
        item("tests/page.py::test_text"),
        item("tests/page.py::test_look", "chromium"),
        item("tests/a.py::test_a"),
        item("tests/labs.py::test_b[07_vae]"),
        item("tests/b.py::test_c", "needs_sandbox"),
    ]
    suite.pytest_collection_modifyitems(items)
    names = [each.nodeid.partition("::test_")[2] for each in items]
    assert names == ["b[07_vae]", "a", "c", "text", "look"]
    assert [each.nodeid[-4:] for each in items if each.marks == ["slow"]] == ["st_c", "look"]


def test_what_is_over_its_budget_is_said_and_the_slowest_files_of_a_long_run(ledger, monkeypatch):
    monkeypatch.setattr(suite, "LINES", 2)
    monkeypatch.setattr(suite, "started", time.monotonic())
    took = Counter({"tests/a.py::test_a": 11, "tests/labs.py::test_b[06_fvi]": 49, "tests/labs.py::test_b[07_vae]": 30})
    suite.report_times(short := Terminal(), took)
    assert short.lines == ["over budget: see LEDGER in tests/suite.py", "tests/a.py took 11 s"]
    suite.report_times(long := Terminal(), took + Counter({"tests/b.py::test_c": 3}))
    assert long.lines[:3] == ["the 2 slowest of 3 files", "    79 s of  100  tests/labs.py", "    11 s of   10  tests/a.py"]


def test_many_stale_results_are_counted_and_few_are_named(monkeypatch):
    said = []
    for many in (3, 30):
        monkeypatch.setattr("vaecourse.results.stale", lambda many=many: [f"result {k}" for k in range(many)])
        suite.report_stale(terminal := Terminal())
        said.append(len(terminal.lines))
    assert said == [4, 2]
