"""How the suite runs: what each file may take, what stays together and what comes first; at its end, what it took.

With `pytest -n 2`, two processes share the work. A unit of it is a file, so that what a file makes once is made once; where a
file goes through chapters one by one, a unit is one chapter.
"""

import re
import time
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch

import pytest
from xdist.scheduler import LoadScopeScheduling

from helpers import ROOT

CHAPTERS = len(re.findall(r"file: book/\d\d_", (ROOT / "_toc.yml").read_text("utf-8")))


@dataclass(frozen=True)
class Budget:
    """What the files of a pattern may take, in seconds: each, or each of its cases, `by_case`, which need not stay together."""

    files: str
    seconds: int
    by_case: bool = False


LEDGER = [  # the first that fits
    Budget("tests/grading/test_hostile.py", 420),
    Budget("tests/grading/test_course.py", 180),
    Budget("tests/book/test_book.py", 300),  # it builds the book
    Budget("tests/book/test_explorable.py", 120),
    Budget("tests/book/test_labs.py", 60, by_case=True),
    Budget("tests/ground/test_results.py", 15, by_case=True),
    Budget("tests/grading/test_assignments.py", 60, by_case=True),
    Budget("tests/book/test_pages.py", 10, by_case=True),
    Budget("tests/test_*.py", 60),
    Budget("tests/*", 60),
]
SUITE = 60 * (10 + 2 * CHAPTERS)
"""What all may take on two cores, in seconds: 40 minutes with fifteen chapters."""

SLOW = {"chromium", "book", "needs_sandbox", "ran", "pair"}
"""Fixtures that make a test slow: `make quick` leaves it out."""

LINES = 10
started = time.monotonic()


def file_of(nodeid: str) -> str:
    """The file of a test."""
    return nodeid.partition("::")[0]


def budget(nodeid: str) -> Budget:
    """The line of the ledger for a test."""
    return next(line for line in LEDGER if fnmatch(file_of(nodeid), line.files))


def unit(nodeid: str) -> str:
    """The tests that stay together with this one: a name for them."""
    file, _, test = nodeid.partition("::")
    _, bracket, case = test.partition("[")
    return f"{file}::{bracket}{case}" if budget(nodeid).by_case else file


class Units(LoadScopeScheduling):
    """Hands out the units in the order of `pytest_collection_modifyitems`."""

    _split_scope = staticmethod(unit)


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> Units:
    """Called by pytest-xdist."""
    config.option.loadscopereorder = False
    return Units(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long units first, so that no process ends long after the others; the browser's last.

    Playwright's event loop is in the way of all others in its process, and so of kernels, for as long as the browser lives.
    """
    for item in items:
        if SLOW & set(item.fixturenames):
            item.add_marker("slow")
    browsing = {item.path for item in items if "chromium" in item.fixturenames}
    items.sort(key=lambda item: (item.path in browsing, -budget(item.nodeid).seconds))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the slowest files took, what took longer than the ledger says, and which stored results are stale."""
    took = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            took[report.nodeid] += report.duration
    report_times(terminalreporter, took)
    report_stale(terminalreporter)


def report_times(terminalreporter: pytest.TerminalReporter, took: Counter) -> None:
    """The slowest files of a run of many, and whatever is over its budget: a warning, since machines differ."""
    files, units, planned = Counter(), Counter(), Counter()
    for nodeid, seconds in took.items():
        files[file_of(nodeid)] += seconds
        units[unit(nodeid)] += seconds
    for name in units:
        planned[file_of(name)] += budget(name).seconds
    over = [f"{name} took {seconds:.0f} s" for name, seconds in units.items() if seconds > budget(name).seconds]
    if (elapsed := time.monotonic() - started) > SUITE:
        over.append(f"the suite took {elapsed / 60:.0f} minutes, {SUITE // 60} planned with {CHAPTERS} chapters on two cores")
    if len(files) > LINES:
        terminalreporter.section(f"the {LINES} slowest of {len(files)} files")
        for file, seconds in files.most_common(LINES):
            terminalreporter.write_line(f"{seconds:6.0f} s of {planned[file]:4}  {file}")
    if over:
        terminalreporter.section("over budget: see LEDGER in tests/suite.py", yellow=True)
        for line in over:
            terminalreporter.write_line(line)


def report_stale(terminalreporter: pytest.TerminalReporter) -> None:
    """The stored results that are older than their code, or how many there are, where they are many."""
    from vaecourse import results  # not above: conftest.py has the shapes checked first

    if lines := results.stale():
        terminalreporter.section("stale results: python -m vaecourse.experiments NAME computes one again")
        for line in lines if len(lines) <= LINES else [f"{len(lines)} results are older than their code, or incomplete"]:
            terminalreporter.write_line(line)
