"""One set of exact versions, and for each purpose no more of it than it needs."""

import tomllib
from functools import cache
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
HERE = {canonicalize_name(pin.name): pin for pin in PINS if pin.marker is None or pin.marker.evaluate()}


def asked(extra: str | None = None) -> list[Requirement]:
    """What the package itself, or one of its extras, asks for."""
    return [Requirement(line) for line in (EXTRAS[extra] if extra else PROJECT["dependencies"])]


@cache
def needed(extra: str) -> frozenset[str]:
    """The names of all packages that an extra brings on this system, by what the installed ones say they need."""
    found, waiting = set(), [*asked(), *asked(extra)]
    while waiting:
        requirement = waiting.pop()
        if requirement.name == PROJECT["name"]:
            waiting += [inner for inner_extra in requirement.extras for inner in asked(inner_extra)]
            continue
        for of in (requirement.extras or {""}) | {""}:
            if (key := (canonicalize_name(requirement.name), of)) not in found:
                found.add(key)
                inner = map(Requirement, metadata.requires(requirement.name) or [])
                waiting += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": of})]
    return frozenset(name for name, _ in found)


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_each_requirement_is_pinned_to_a_version_that_it_allows(extra):
    for requirement in asked(extra):
        if requirement.name == PROJECT["name"]:
            assert requirement.extras <= EXTRAS.keys()
        elif extra == "bench":
            assert str(requirement.specifier).startswith("=="), f"{requirement}: a peer is compared in one version"
        else:
            pin = HERE[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), f"{requirement} and {pin}"


def test_all_that_is_needed_is_pinned_and_nothing_else():
    everything = frozenset().union(*map(needed, EXTRAS.keys() - {"bench"}))
    assert {name for name in everything if not name.startswith(("nvidia-", "triton", "cuda-"))} == HERE.keys()


@pytest.mark.parametrize("stack", ["nbgrader", "jupyterlab", "playwright", "pytest", "hypothesis", "pandas", "ruff"])
def test_a_reader_of_the_book_does_not_get_the_stacks_of_others(stack):
    assert stack not in needed("book")
