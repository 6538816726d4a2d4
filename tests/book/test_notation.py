"""The book's notation: each name of the package that the page gives exists, where the page says."""

import re
from importlib import import_module

import pytest

import vaecourse
from helpers import ROOT

PAGE = (ROOT / "book" / "notation.md").read_text("utf-8")
ARGUMENTS = {"x", "z", "mu", "log_sigma", "log_joint", "batch_size", "pixels", "latents", "samples", "draws", "factors"}
ARGUMENTS |= {"beta", "decay", "code", "x_G", "potential"}


def names() -> list[tuple[str, tuple[str, ...]]]:
    """The names in the tables, each with the modules that its section begins with; names of arguments are left out."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        modules = re.search(r"\. Modules? (.*)\.$", section, re.M)
        written = [name for row in section.splitlines() if row.startswith("|") for name in re.findall(r"`([\w.]+)`", row)]
        for name in written:
            if name not in ARGUMENTS and not name.startswith("."):
                found.append((name, tuple(re.findall(r"`(\w+)`", modules[1]))))
    return found


def exists(name: str) -> bool:
    module, *path = name.split(".")
    found = import_module(f"vaecourse.{module}")
    for part in path:
        fields = getattr(found, "__annotations__", {})
        if not (hasattr(found, part) or part in fields):
            return False
        found = getattr(found, part, fields.get(part))
    return True


@pytest.mark.parametrize("name, modules", names())
def test_each_name_exists_in_the_module_of_its_section_or_in_the_one_before_it(name, modules):
    elsewhere = name.split(".")[0] in vaecourse.__all__
    assert exists(name) if elsewhere else any(exists(f"{module}.{name}") for module in modules)


def test_the_sections_go_through_the_chapters_in_order():
    chapters = [int(number) for number in re.findall(r"\{chapter\}`(\d\d)_", PAGE)]
    assert set(chapters) == set(range(1, 16))
