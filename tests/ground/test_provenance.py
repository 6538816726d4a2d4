"""The hash of the code behind a result changes when that code changes, and only then."""

import pytest

from vaecourse import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the same name with five modules: bottom <- middle <- top, and a folder with a relative import."""
    files = {
        "__init__.py": '__all__ = ["bottom"]\n',
        "bottom.py": "def one():\n    return 1\n",
        "middle.py": "from vaecourse.bottom import one\n",
        "top.py": "from vaecourse import middle\nimport math\n",
        "folder/__init__.py": "from .leaf import two\n",
        "folder/leaf.py": "from ..bottom import one\n\n\ndef two():\n    return 2 * one()\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "source, names",
    [
        ("from vaecourse import top", {"vaecourse.top"}),
        ("from vaecourse.bottom import one", {"vaecourse.bottom"}),
        ("import vaecourse.folder.leaf as leaf", {"vaecourse.folder.leaf"}),
        ("import vaecourse\nvaecourse.middle.one()", {"vaecourse.middle"}),
        ("def f():\n    from vaecourse import top, folder", {"vaecourse.top", "vaecourse.folder"}),
        ("import torch\nfrom numpy import top\ntop.vaecourse.middle", set()),
        ("from vaecourse import __version__", set()),
    ],
)
def test_imports_are_found_however_they_are_written(package, source, names):
    assert provenance.imports(source) == names


def test_a_relative_import_needs_the_name_of_its_module(package):
    with pytest.raises(ValueError, match="line 1"):
        provenance.imports("from . import bottom")


@pytest.mark.parametrize("module", ["vaecourse", "vaecourse.bottom", "vaecourse.folder", "vaecourse.folder.leaf"])
def test_a_module_is_named_by_its_file(package, module):
    assert provenance.name(provenance.path(module)) == module


def test_closure_follows_imports_and_packages_to_the_end(package):
    assert provenance.closure({"vaecourse.top"}) == {"vaecourse.top", "vaecourse.middle", "vaecourse.bottom"}
    assert provenance.closure({"vaecourse.folder.leaf"}) == {
        "vaecourse.folder",
        "vaecourse.folder.leaf",
        "vaecourse.bottom",
    }


def test_closure_names_a_module_that_does_not_exist(package):
    with pytest.raises(ModuleNotFoundError, match=r"vaecourse\.absent is not a module"):
        provenance.closure({"vaecourse.absent"})


def test_code_hash_sees_an_edit_in_any_module_below_and_in_no_other(package):
    before = provenance.code_hash({"vaecourse.top"})
    (package / "folder/leaf.py").write_text("two = None\n")
    assert provenance.code_hash({"vaecourse.top"}) == before
    (package / "bottom.py").write_text("def one():\n    return 1.0\n")
    assert provenance.code_hash({"vaecourse.top"}) != before


def test_code_hash_sees_the_script_and_the_style_beside_a_module(package):
    hashes = [provenance.code_hash({"vaecourse.top"})]
    for suffix in ("js", "css"):
        (package / f"middle.{suffix}").write_text("/* */")
        hashes.append(provenance.code_hash({"vaecourse.top"}))
    assert len(set(hashes)) == 3


def test_the_scripts_and_styles_of_figures_all_lie_beside_modules_that_every_figure_imports():
    assets = {asset.with_suffix("") for kind in ("*.js", "*.css") for asset in provenance.ROOT.rglob(kind)}
    assert assets <= {provenance.path(module).with_suffix("") for module in provenance.closure({"vaecourse.explorable"})}


def test_code_hash_does_not_see_words(package):
    before = provenance.code_hash({"vaecourse.bottom"})
    words = '"""A module.\n\nμ, in two lines."""\n\n# a remark\ndef one():\n    """One."""\n\n    return 1  # exactly   \n'
    (package / "bottom.py").write_text(words, encoding="utf-8")
    assert provenance.code_hash({"vaecourse.bottom"}) == before


def test_strings_that_are_data_are_code():
    source = 'name = "# not a remark"\nlines = """one\ntwo"""\nprint(f"{name!r} # nor this")'
    assert provenance.code(source) == source


def test_code_hash_is_the_same_under_every_python(package):
    (package / "top.py").write_text(
        '"""Doc."""\nprint(f"{1:#x} # {2!r}")  # nested f-strings differ in how they are tokenized\n'
    )
    assert (
        provenance.code_hash({"vaecourse.top", "vaecourse.folder"})
        == "c97e6bba2a22671f823bc26da75a46243e51033d0c18e2e0ce47f45c39a00aed"
    )
