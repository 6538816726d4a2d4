"""The package as a whole: modules are its names, imported when first used, on floors that nothing climbs."""

import subprocess
import sys
from importlib import import_module

import pytest

import vaecourse
from vaecourse import provenance


def modules() -> dict[str, set[str]]:
    """What each module of the package imports inside it, by dotted names."""
    found = {}
    for file in sorted(provenance.ROOT.rglob("*.py")):
        parts = file.relative_to(provenance.ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = provenance.imports(file.read_text("utf-8"), name) - {name}
    return found


IMPORTS = modules()


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_costs_nothing():
    loaded = python(
        "import sys, vaecourse; print({'torch', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules), dir(vaecourse))"
    )
    assert loaded.startswith("set()") and "'vae'" in loaded


@pytest.mark.parametrize("name", vaecourse.__all__)
def test_each_listed_name_is_a_module_with_a_docstring(name):
    module = getattr(vaecourse, name)
    assert module is import_module(f"vaecourse.{name}")
    assert module.__doc__


def test_an_unknown_name_is_an_error_that_lists_the_modules():
    with pytest.raises(AttributeError, match=r"no attribute 'gan'; it has provenance, .*vae"):
        _ = vaecourse.gan


LEVELS = [vaecourse.FLOORS["ground"], *((chapter,) for chapter in vaecourse.FLOORS["chapters"]), vaecourse.FLOORS["shows"]]


def level(module: str) -> int:
    """0 for what the chapters share, then each chapter in the book's order, then what shows them."""
    name = module.split(".")[1]
    return next(number for number, names in enumerate(LEVELS) if name in names)


def test_each_module_stands_on_one_floor_and_each_name_of_a_floor_is_a_module():
    standing = [name for names in LEVELS for name in names]
    assert sorted(standing) == sorted({name.split(".")[1] for name in IMPORTS if "." in name}), (
        "see FLOORS in vaecourse/__init__.py"
    )


@pytest.mark.parametrize("name", sorted(IMPORTS.keys() - {"vaecourse"}))
def test_no_module_imports_from_a_floor_above_its_own(name):
    assert [other for other in IMPORTS[name] if level(other) > level(name)] == []


def test_imports_make_no_circle():
    left = dict(IMPORTS)
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"a circle among {', '.join(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}
