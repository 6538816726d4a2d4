"""The parts of grading, and who may import whom: what ships to students < authoring < marking < course."""

import ast
import sys
from pathlib import Path

import pytest

from vaecourse import provenance

FOLDER = provenance.ROOT / "grading"
PARTS = ["authoring", "marking", "course"]
COMMANDS = FOLDER / "__main__.py"  # they reach all parts, each when it is called
FILES = sorted(FOLDER.rglob("*.py"))
WITH_A_STUDENT = {"vaecourse", "torch", "numpy", "nbclient", "nbformat"}
"""What START.md installs: the package with what it depends on, and what runs a notebook."""


def part(module: str) -> int:
    """0 for what ships to students, then the instructor's parts in their order."""
    names = module.split(".")
    return PARTS.index(names[2]) + 1 if names[2:] and names[2] in PARTS else 0


def imported(file: Path, names: set[str]) -> set[str]:
    """The packages of others that a file imports, out of which the standard library's are left."""
    nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
    names |= {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {(node.module or "").partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", [file for file in FILES if file != COMMANDS], ids=provenance.name)
def test_each_part_imports_itself_and_those_before_it(file):
    module = provenance.name(file)
    of_grading = {other for other in provenance.imports(file.read_text("utf-8"), module) if "grading" in other.split(".")}
    assert {other for other in of_grading if part(other) > part(module)} == set()


@pytest.mark.parametrize("file", [file for file in FILES if not part(provenance.name(file))], ids=lambda file: file.name)
def test_what_ships_to_students_imports_nothing_that_they_lack(file):
    assert imported(file, set()) <= WITH_A_STUDENT


def test_each_module_of_grading_stands_in_its_part():
    beside = {file.stem for file in FOLDER.glob("*.py")}
    assert beside == {"__init__", "__main__", "checks", "selfcheck", "statistics"}
    assert {file.parent.name for file in FILES if file.name == "__init__.py"} == {"grading", "intake", *PARTS}
