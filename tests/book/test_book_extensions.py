"""The book's local extensions: pages run when needed and side by side, numbers come from file names, equations have marks."""

import re
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import vaecourse
from helpers import ROOT, load
from vaecourse import provenance
from vaecourse.explorable.figure import IN_PAGE

EXTENSIONS = ROOT / "book" / "_ext"

PAGE = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# A page

```{code-cell} ipython3
from pathlib import Path
from vaecourse import provenance
with Path("NAME.runs").open("a") as runs: print("run", file=runs)
results = "page.numbers";
```
"""


class Project:
    """A book whose pages count their runs, and a copy of the package to edit."""

    def __init__(self, root: Path):
        self.root, self.package, self.source = root, root / "vaecourse", root / "source"
        self.warnings = ""
        shutil.copytree(Path(vaecourse.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        (self.source / "results").mkdir(parents=True)

    def page(self, name: str, more: str = "") -> None:
        """Write a page, with one more line of code."""
        (self.source / f"{name}.md").write_text(PAGE.replace("NAME", name).replace("results =", f"{more}\nresults ="))

    def build(self) -> int:
        """Build; the exit status."""
        settings = {
            "extensions": ["myst_nb", "freshness"],
            "source_suffix": {".md": "myst-nb"},  # Sphinx would write in a default that all builds of a process share
            "nb_execution_mode": "cache",
            "root_doc": "07_page",
        }
        warnings = StringIO()
        with docutils_namespace():
            folders = [self.source, None, self.root / "_build" / "html", self.root / "_build" / ".doctrees"]
            app = Sphinx(*folders, "html", settings, status=None, warning=warnings, warningiserror=True, keep_going=True)
            app.build()
        self.warnings = warnings.getvalue()
        return app.statuscode

    def runs(self, name: str = "07_page") -> int:
        """How often a page has run in all."""
        return (self.source / f"{name}.runs").read_text().count("run")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "vaecourse")
    monkeypatch.syspath_prepend(EXTENSIONS)
    for inherited in (IN_PAGE, "OMP_NUM_THREADS"):  # what pages are executed with is forgotten again
        monkeypatch.setenv(inherited, "to be forgotten")
    yield Project(tmp_path)
    for extension in ("freshness", "execution"):
        sys.modules.pop(extension, None)


@pytest.mark.filterwarnings("default")
@pytest.mark.slow
def test_page_runs_again_only_when_its_code_or_its_results_change(project):
    def runs() -> int:
        assert project.build() == 0
        return project.runs()

    project.page("07_page")
    assert runs() == 1
    assert runs() == 1, "nothing changed"

    with (project.package / "vae.py").open("a") as module:
        module.write("\nEDITED = True\n")
    assert runs() == 1, "the page does not import this module"

    with (project.package / "provenance.py").open("a") as module:
        module.write("\n# a remark\n")
    assert runs() == 1, "words are not code"

    with (project.package / "provenance.py").open("a") as module:
        module.write("\nEDITED = True\n")
    assert runs() == 2

    (project.source / "results" / "page.numbers.json").write_text("{}")
    assert runs() == 3


@pytest.mark.filterwarnings("default")
@pytest.mark.slow
def test_a_line_is_said_for_each_page_and_one_that_fails_breaks_the_build_and_alone_runs_again(project, capfd):
    project.page("07_page", "import os; assert os.environ['OMP_NUM_THREADS'] == os.environ['VAECOURSE_PAGE'] == '1'")
    project.page("08_page", "1 / 0")
    (project.source / "index.md").write_text("# Nothing to execute")
    with (project.source / "07_page.md").open("a") as page:
        page.write("\n```{toctree}\n08_page\nindex\n```\n")
    assert project.build() == 1
    (warning,) = project.warnings.split("WARNING: ")[1:]
    assert "08_page.md: " in project.warnings and "ZeroDivisionError" in warning and "1 / 0" in warning
    first, *lines = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"2 pages to execute on [12] cores?: about \d+ s", first)
    progress = [line for line in lines if "_page" in line]  # a kernel that ends may have a last word of libzmq's own
    assert sorted(re.sub(r" +[\d.]+ s", "", line).strip() for line in progress) == ["07_page", "08_page  failed"]
    assert (project.runs("07_page"), project.runs("08_page")) == (1, 1)

    project.page("08_page")
    assert project.build() == 0
    assert (project.runs("07_page"), project.runs("08_page")) == (1, 2)
    html = project.root / "_build" / "html" / "index.html"
    assert capfd.readouterr().err.splitlines()[-1] == f"The book is built. Open {html.as_uri()}"


def test_the_pages_are_told_that_they_are_pages():
    assert f'"{IN_PAGE}"' in (EXTENSIONS / "execution.py").read_text(), (
        "the name is written there, since importing it takes long"
    )


@pytest.mark.parametrize(
    "page, counted, shown",
    [
        ("book/07_vae", (1,), (7,)),
        ("book/07_vae", (1, 4), (7, 4)),
        ("book/exercises/12_vq_vae2", (2, 9), (12, 9)),
        ("book/prerequisites", (3,), (3,)),
        ("book/07_vae", (), ()),
    ],
)
def test_number_begins_with_that_of_the_file(page, counted, shown):
    assert load(EXTENSIONS / "numbering.py").with_chapter(page, counted) == shown


# Equations


TOY = {
    "index.md": "# Book\n\n```{toctree}\n:numbered:\nbook/07_toy\n```\n\n```{toctree}\nbook/equations\n```\n",
    "book/07_toy.md": """# Toys

```{math}
:label: eq-toy-two
:class: definition
two = 1 + 1
```

```{math}
:label: eq-toy-gaussian-sum
two + two = 4
```

```{math}
:class: unnumbered
two + two = two + 1 + 1
```
""",
    "book/equations.md": "# Every equation\n\n```{equation-table}\n```\n",
    "vaecourse/toy.py": """class Sum:
    \"""Numbers to add.\"""

    total: float
    \"""Their sum (eq-toy-gaussian-sum).\"""

    def half(self):
        \"""Half of it.\"""
""",
    "vaecourse/games/dice.py": 'def two():\n    """One and one; equation eq-toy-two."""\n',
    "tests/mutants/scores.json": """{
"vaecourse.toy.Sum.__init__": {"killed": 3, "made": 3},
"vaecourse.games.dice.two": {"killed": 4, "made": 5},
"vaecourse.games.dice.twofold": {"killed": 1, "made": 9}}""",
    "tests/test_toy.py": """import pytest


@pytest.mark.equation("eq-toy-gaussian-sum", oracle="enumeration of all < 5")
@pytest.mark.parametrize("x", [1])
def test_two_and_two_are_four(x): ...


class TestMore:
    @pytest.mark.equation("eq-toy-gaussian-sum", oracle="quadrature")
    def test_four_is_an_integral(self): ...
""",
}


class Book:
    """The toy book, to be edited and built again."""

    def __init__(self, root: Path):
        self.root = root
        for file, text in TOY.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text)

    def edit(self, file: str, old: str, new: str):
        text = (self.root / file).read_text()
        assert old in text
        (self.root / file).write_text(text.replace(old, new))

    def build(self):
        settings = {
            "extensions": ["myst_nb", "numbering", "verified"],
            "source_suffix": {".md": "myst-nb"},
            "nb_execution_mode": "off",
            "root_doc": "index",
            "exclude_patterns": ["_build"],
            "numfig": True,
            "math_numfig": True,
        }
        warnings = StringIO()
        with docutils_namespace():
            folders = [self.root, None, self.root / "_build" / "html", self.root / "_build" / ".doctrees"]
            app = Sphinx(*folders, "html", settings, status=None, warning=warnings)
            app.build()
        assert not warnings.getvalue()
        return app

    def html(self, page: str) -> BeautifulSoup:
        return BeautifulSoup((self.root / "_build" / "html" / f"{page}.html").read_text(), "html.parser")

    def faults(self) -> list[str]:
        register = load(EXTENSIONS / "register.py")
        equations = register.displayed(self.build().env.get_doctree("book/07_toy"))
        return register.faults("book/07_toy", equations, register.read(self.root))


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Book:
    monkeypatch.syspath_prepend(EXTENSIONS)
    yield Book(tmp_path)
    for extension in ("verified", "equation_table", "claims", "sources", "register", "numbering"):
        sys.modules.pop(extension, None)


def test_the_register_is_read_from_docstrings_and_marks(toy):
    register = load(EXTENSIONS / "register.py").read(toy.root)
    assert {label: [(place.module, place.name) for place in places] for label, places in register.functions.items()} == {
        "eq-toy-gaussian-sum": [("toy", "Sum")],
        "eq-toy-two": [("games.dice", "two")],
    }
    ((label, (first, second)),) = register.checks.items()
    assert (label, first.oracle, first.kind, second.kind) == (
        "eq-toy-gaussian-sum",
        "enumeration of all < 5",
        "enumeration",
        "quadrature",
    )
    assert (first.place.name, first.place.first, first.place.last) == ("test_two_and_two_are_four", 4, 6)
    assert (second.place.name, second.place.sentence) == ("TestMore.test_four_is_an_integral", "four is an integral")


@pytest.mark.filterwarnings("default")
def test_a_mark_opens_what_computes_an_equation_and_what_tests_it_and_each_link_leads_to_the_source(toy):
    toy.build()
    definition, tested = toy.html("book/07_toy").select("details.verified")
    assert definition.summary["aria-label"] == "definition: equation (7.1)"
    assert "Defined here" in definition.text and "games.dice.two" in definition.text
    assert tested.summary["aria-label"] == "tested: equation (7.2)"
    assert "two and two are four" in tested.text and "against enumeration of all < 5" in tested.text
    assert [note.text for note in toy.html("book/07_toy").select(".on-paper")] == [
        "definition",
        "tested against enumeration, quadrature: test_toy.py",
    ]
    links = [a["href"] for mark in (definition, tested) for a in mark.select("a")]
    assert links == [
        "../sources/vaecourse/games/dice.html#two",
        "equations.html#eq-toy-two",
        "../sources/vaecourse/toy.html#Sum",
        "../sources/tests/test_toy.html#test_two_and_two_are_four",
        "../sources/tests/test_toy.html#TestMore.test_four_is_an_integral",
        "equations.html#eq-toy-gaussian-sum",
    ]
    for link in links:
        page, anchor = link.removeprefix("../").split(".html#")
        assert toy.html(page if "/" in page else f"book/{page}").find(id=anchor), link


@pytest.mark.filterwarnings("default")
def test_a_source_page_shows_the_file_with_anchors_and_links_back(toy):
    toy.build()
    page = toy.html("sources/tests/test_toy")
    (place, _) = page.select(".place")
    (back,) = place.select("a")
    assert back["href"] == "../../book/07_toy.html#equation-eq-toy-gaussian-sum"
    assert (back["data-text"], back["aria-label"]) == ("(7.2) Gaussian sum", "equation (7.2) Gaussian sum")
    assert toy.html("book/07_toy").find(id="equation-eq-toy-gaussian-sum")
    assert [line["id"] for line in place.select("[id^=L-]")] == ["L-4", "L-5", "L-6"]
    for number in page.select(".linenos"):
        number.decompose()
    assert page.pre.text == TOY["tests/test_toy.py"], "who copies it copies the file"


@pytest.mark.filterwarnings("default")
def test_the_table_counts_and_lists_every_equation(toy):
    toy.build()
    page = toy.html("book/equations")
    counts, kinds, table = (
        [[cell.text for cell in row.select("th, td")] for row in part.select("tr")] for part in page.select("table")
    )
    assert counts[1:] == [
        ["7. Toys", "2", "2", "1", "7 of 8", "0", "0"],
        ["the whole book", "2", "2", "1", "7 of 8", "0", "0"],
    ]
    assert [row[:2] for row in kinds[1:]] == [["quadrature", "1"], ["enumeration", "1"]]
    assert table[1:] == [
        ["(7.1) Two", "games.dice.two", "a definition"],
        [
            "(7.2) Gaussian sum",
            "toy.Sum",
            "enumeration of all < 5: two and two are fourquadrature: four is an integral",
        ],
    ]


@pytest.mark.filterwarnings("default")
def test_a_page_is_written_again_when_what_its_equations_rest_on_changes_and_only_then(toy):
    pages = ("book/07_toy", "book/equations", "sources/tests/test_toy", "sources/vaecourse/toy")

    def written() -> list[str]:
        files = [toy.root / "_build" / "html" / f"{page}.html" for page in pages]
        before = [file.stat().st_mtime_ns for file in files]
        toy.build()
        return [page for page, file, then in zip(pages, files, before, strict=True) if file.stat().st_mtime_ns > then]

    toy.build()
    assert written() == []
    toy.edit("tests/test_toy.py", "four_is_an_integral", "four_is_a_sum")
    assert written() == ["book/07_toy", "book/equations", "sources/tests/test_toy"]
    assert "four is a sum" in toy.html("book/07_toy").text and "four is a sum" in toy.html("book/equations").text
    toy.edit("tests/test_toy.py", "import pytest\n", "import pytest\n\nFOUR = 4\n")
    assert "sources/tests/test_toy" in written(), "its lines moved"
    toy.edit("vaecourse/toy.py", "Half of it.", "Half of it (eq-toy-two).")
    assert written() == ["book/07_toy", "book/equations", "sources/vaecourse/toy"]
    assert "toy.Sum.half" in toy.html("book/07_toy").text
    (toy.root / "vaecourse" / "other.py").write_text("x = 1\n")
    assert written() == []


def test_a_sound_chapter_has_no_fault(toy):
    assert toy.faults() == []


@pytest.mark.parametrize(
    "file, old, new, fault",
    [
        ("book/07_toy.md", ":class: unnumbered\n", "", "neither a label nor the class unnumbered"),
        (
            "book/07_toy.md",
            "eq-toy-two",
            "eq-sum-two",
            "the label of an equation on book/07_toy begins with eq-toy-",
        ),
        ("book/07_toy.md", ":class: definition\n", "", "eq-toy-two: no test has @pytest.mark.equation"),
        ("book/07_toy.md", "sum\n", "sum\n:class: definition\n", "a definition asserts nothing, yet test_two_and_two_are_four"),
        ("book/07_toy.md", ":label: eq-toy-gaussian-sum", ":class: unnumbered", "and book/07_toy has no such equation"),
        ("vaecourse/toy.py", "eq-toy-gaussian-sum", "", "tested, yet no docstring of a function of vaecourse names it"),
    ],
    ids=["bare", "foreign label", "untested", "tested definition", "test without equation", "without code"],
)
@pytest.mark.filterwarnings("default")
def test_a_broken_chapter_has_its_fault(toy, file, old, new, fault):
    toy.edit(file, old, new)
    (found,) = toy.faults()
    assert fault in found


def test_labels_of_chapters_whose_names_begin_alike_are_kept_apart(toy):
    toy.edit("tests/test_toy.py", '"eq-toy-gaussian-sum", oracle="quadrature"', '"eq-toy2-sum", oracle="quadrature"')
    assert toy.faults() == []


@pytest.mark.parametrize("oracle", ["", ', oracle="a look at it"', ', oracle="quadratures"', ", oracle=None"])
def test_an_oracle_of_no_kind_is_a_fault(toy, oracle):
    register = load(EXTENSIONS / "register.py")
    assert register.oracle_faults(register.read(toy.root)) == []
    toy.edit("tests/test_toy.py", ', oracle="quadrature"', oracle)
    (found,) = register.oracle_faults(register.read(toy.root))
    assert "tests/test_toy.py, TestMore.test_four_is_an_integral: the oracle of eq-toy-gaussian-sum" in found
