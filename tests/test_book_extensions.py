"""The book's local extensions: a page runs again when what it depends on changes, and numbers come from file names."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from sphinx.application import Sphinx

import vaecourse
from vaecourse import provenance

EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"

PAGE = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# A page

```{code-cell} ipython3
from vaecourse import provenance
open("runs", "a").write("run ");
```
"""


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A one-page book whose page counts its runs, and a copy of the package to edit."""
    package, source = tmp_path / "vaecourse", tmp_path / "source"
    shutil.copytree(Path(vaecourse.__file__).parent, package)
    (source / "results").mkdir(parents=True)
    (source / "07_page.md").write_text(PAGE)
    monkeypatch.setattr(provenance, "ROOT", package)
    monkeypatch.syspath_prepend(EXTENSIONS)
    yield tmp_path
    sys.modules.pop("freshness", None)


def runs(project) -> int:
    """Build, as often as asked; how often the page has run in all."""
    settings = {
        "extensions": ["myst_nb", "freshness"],
        "nb_execution_mode": "cache",
        "root_doc": "07_page",
    }
    folders = [project / "source", None, project / "_build" / "html", project / "_build" / ".doctrees"]
    Sphinx(*folders, "html", settings, status=None).build()
    return (project / "source" / "runs").read_text().count("run")


@pytest.mark.filterwarnings("default")
def test_page_runs_again_only_when_its_code_or_its_results_change(project):
    assert runs(project) == 1
    assert runs(project) == 1, "nothing changed"

    with (project / "vaecourse" / "vae.py").open("a") as module:
        module.write("\nEDITED = True\n")
    assert runs(project) == 1, "the page does not import this module"

    with (project / "vaecourse" / "provenance.py").open("a") as module:
        module.write("\n# a remark\n")
    assert runs(project) == 1, "words are not code"

    with (project / "vaecourse" / "provenance.py").open("a") as module:
        module.write("\nEDITED = True\n")
    assert runs(project) == 2

    (project / "source" / "results" / "page.json").write_text("{}")
    assert runs(project) == 3


@pytest.mark.parametrize(
    "page, counted, shown",
    [
        ("book/07_vae", (1,), (7,)),
        ("book/07_vae", (1, 4), (7, 4)),
        ("book/exercises/12_vq_vae2", (2, 9), (12, 9)),
        ("book/references", (3,), (3,)),
        ("book/07_vae", (), ()),
    ],
)
def test_number_begins_with_that_of_the_file(page, counted, shown):
    assert load("numbering").with_chapter(page, counted) == shown


def test_tests_of_an_equation_are_read_from_their_marks(tmp_path):
    (tmp_path / "test_it.py").write_text(
        '@pytest.mark.equation("eq-a-b", oracle="quadrature")\n'
        '@pytest.mark.equation("eq-a-c")\n'
        '@pytest.mark.parametrize("x", [1])\n'
        "def test_one_is_one(x): ...\n"
        'class TestMore:\n    @pytest.mark.equation("eq-a-b")\n    def test_two_is_two(self): ...\n'
    )
    checks = {
        label: [(check.test, check.oracle) for check in found] for label, found in load("verified").checks(tmp_path).items()
    }
    assert checks == {
        "eq-a-b": [("test_one_is_one", "quadrature"), ("test_two_is_two", None)],
        "eq-a-c": [("test_one_is_one", None)],
    }


def test_mark_of_an_equation_reads_as_a_sentence_and_tells_how_to_run_it():
    verified = load("verified")
    html = verified.mark_html([verified.Check("test_vae.py", "test_rate_is_below_nothing", "2 < 3")])
    assert "rate is below nothing, against 2 &lt; 3" in html
    assert "pytest tests/test_vae.py -k test_rate_is_below_nothing" in html
