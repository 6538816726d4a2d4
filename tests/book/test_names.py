"""What the book says of the package is there: every module and name that a page, a lab, an assignment or a note spells out."""

import re
from functools import cache
from importlib import import_module
from types import ModuleType

import pytest

import vaecourse
from helpers import ROOT

FOLDERS = ["book", "book/exercises", "notebooks/source/labs", "notebooks/source/assignments"]
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.md")) if "results" not in file.parts),
]
SPELLED = re.compile(rf"(?<![\w./\"'])({'|'.join(vaecourse.__all__)})((?:\.[A-Za-z_]\w*)+)")
FILES = {"md", "py", "ipynb", "json", "npz", "txt", "css", "js", "toml", "benchmark", "safetensors"}


@cache
def there(module: str, names: tuple[str, ...]) -> bool:
    """Whether the package has module.names[0].names[1]: modules and classes are looked into, other objects are not."""
    thing = import_module(f"vaecourse.{module}")
    for name in names:
        if name in getattr(thing, "__annotations__", ()):  # a field of a dataclass
            return True
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
        if not isinstance(thing, type | ModuleType):
            return True
    return True


def test_what_is_there_is_told_from_what_is_gone():
    assert there("vae", ("VAE", "elbo")) and there("vae", ("Score", "nll")) and there("training", ("loop", "fit"))
    assert not there("vae", ("VAE", "lower_bound")) and not there("fvi", ("Generator",))


@pytest.mark.parametrize("text", dict.fromkeys(TEXTS), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_every_name_of_the_package_that_a_text_spells_out_is_there(text):
    words = text.read_text("utf-8")
    imported = set(re.findall(r"^\s*(?:from vaecourse import|import) (.+)$", words, re.MULTILINE))
    modules = {name.strip() for line in imported for name in line.split(",")}
    gone = set()
    for module, dotted in SPELLED.findall(words):
        names = tuple(dotted[1:].split("."))
        quoted = f"`{module}{dotted}" in words or f"vaecourse.{module}{dotted}" in words
        if names[-1] not in FILES and (module in modules or quoted) and not there(module, names):
            gone.add(f"{module}{dotted}")
    assert not gone
