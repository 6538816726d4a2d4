"""How to use the book: what the page says of chapters, labs and exercises is what their own files say."""

import re
import shutil
import sys

import pytest
import yaml
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from helpers import ROOT, load

EXTENSIONS = ROOT / "book" / "_ext"
PAGE = (ROOT / "book" / "using.md").read_text("utf-8")
SCHEDULES = [yaml.safe_load(weeks) for weeks in re.findall(r"```\{schedule\}\n(.*?)```", PAGE, re.DOTALL)]
PLANNED = sorted(set(re.findall(r"\{chapter\}`(\d\d_\w+)`", (ROOT / "book" / "notation.md").read_text("utf-8"))))
LABS = sorted((ROOT / "notebooks" / "source" / "labs").glob("*.md"))
CHAPTERS = re.findall(r"file: book/(\d\d_\w+)", (ROOT / "_toc.yml").read_text("utf-8"))


course = load(EXTENSIONS / "course.py")


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_says_its_minutes_and_points_as_its_exercise_page_does(name):
    chapter = course.read(ROOT, name)
    exercises = (ROOT / "book" / "exercises" / f"{name}.md").read_text("utf-8")
    (stated,) = re.findall(r"^\|\s*\| in all \|\s*\| (\d+) \| (\d+) \|$", exercises, re.MULTILINE)
    assert (chapter.exercises, chapter.points) == tuple(map(int, stated))
    assert chapter.reading and chapter.lab == 45


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_the_sections_of_a_lab_fill_its_class_and_each_has_a_row_in_the_notes(lab):
    text = lab.read_text("utf-8")
    sections = course.LAB_SECTION.findall(text)
    assert sum(int(minutes) for *_, minutes in sections) == 45
    noted = re.findall(r"^\| (\d+)\. .*\d\u00a0min\) \|", course.notes(text), re.MULTILINE)
    assert noted == [number for number, *_ in sections if number != "0"]


def test_the_notes_say_what_the_labs_tests_assert_without_its_mark():
    lab = "<summary><b>For the instructor</b></summary>\nIt [falls]{#claim-fall}, [as told](x.md).\n</details>"
    assert course.notes(lab) == "It falls, [as told](x.md).\n"


def test_the_courses_have_four_and_twelve_weeks_and_the_longer_one_reads_each_chapter_once():
    assert [len(weeks) for weeks in SCHEDULES] == [4, 12]
    assert [name for week in SCHEDULES[1] for name in week["read"]] == PLANNED
    for weeks in SCHEDULES:
        for week in weeks:
            assert set(week) == {"read", "lab", "hand in"}
            assert set(week["lab"]) | set(week["hand in"]) <= set(week["read"]), "what is done was read"
            assert set(week["read"]) <= set(PLANNED)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_introductions_of_parts_name_the_chapters_of_the_plan_in_order(number):
    text = (ROOT / "book" / f"part_{number}.md").read_text("utf-8")
    first, last = [(1, 2), (3, 6), (7, 12)][number - 1]
    assert re.findall(r"^- \{chapter\}`(\d\d_\w+)`", text, re.MULTILINE) == PLANNED[first - 1 : last]


BOOK = """# A book

```{chapter-table}
```

```{schedule}
- {read: [02_autoencoders, 07_vae], lab: [02_autoencoders, 07_vae], hand in: [07_vae]}
- {read: [07_vae], lab: [07_vae], hand in: [07_vae]}
```

```{lab-notes}
```

```{toctree}
07_vae
exercises/07_vae
```
"""


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A book of this page and one chapter, built: the page, and a way to build it again."""
    monkeypatch.syspath_prepend(EXTENSIONS)
    for name in ("labs/07_vae.md", "assignments/07_vae/assignment.md", "assignments/07_vae/wrong_answers.md"):
        copy = tmp_path / "notebooks" / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "notebooks" / "source" / name, copy)
    (tmp_path / "notebooks" / "07_vae.ipynb").write_text("{}")
    (tmp_path / "_toc.yml").write_text("")
    (tmp_path / "book" / "exercises").mkdir(parents=True)
    (tmp_path / "book" / "page.md").write_text(BOOK)
    (tmp_path / "book" / "07_vae.md").write_text("# The VAE\n\n**Time**: 41 minutes\n")
    (tmp_path / "book" / "exercises" / "07_vae.md").write_text("# Exercises\n")
    settings = {
        "extensions": ["myst_parser", "sphinx_design", "glossary", "course"],
        "source_suffix": {".md": "markdown"},  # Sphinx would write in a default that all builds of a process share
        "myst_enable_extensions": ["colon_fence", "dollarmath"],
        "root_doc": "book/page",
        "exclude_patterns": ["notebooks", "out"],
    }

    def build() -> BeautifulSoup:
        out = tmp_path / "out"
        with docutils_namespace():
            Sphinx(tmp_path, None, out / "html", out / "doctrees", "html", settings, status=None, warningiserror=True).build()
        return BeautifulSoup((out / "html" / "book" / "page.html").read_text("utf-8"), "html.parser")

    yield tmp_path, build
    for name in ("glossary", "course"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("default")
def test_the_tables_of_a_page_are_made_from_the_files_and_made_again_when_these_change(built):
    root, build = built

    def rows(table) -> list[list[str]]:
        return [
            [cell.get_text(" ", strip=True).replace("\u00a0", " ") for cell in row.find_all("td")]
            for row in table.select("tbody tr")
        ]

    exercises = course.read(ROOT, "07_vae")
    page = build()
    chapters, schedule, notes = page.find_all("table")
    numbers = ["41", "45", str(exercises.exercises), str(exercises.points)]
    assert rows(chapters) == [["Chapter 7: The VAE", *numbers], ["in all", *numbers]]
    planned, there = rows(schedule)
    assert planned[2:] == ["lab 2 lab 7", "exercises 7", "planned"]
    assert there == ["2", "Chapter 7: The VAE", "lab 7", "exercises 7", f"{(41 + exercises.exercises) / 60:.1f} h"]
    assert not schedule.select("tbody tr")[0].find_all("a", string=re.compile("Autoencoders"))
    assert rows(notes)[0][0] == "1. Darts at a latent space (8 min)"
    assert page.select_one("details.sd-dropdown summary").get_text(strip=True) == "Lab 7. The variational autoencoder"

    (root / "book" / "07_vae.md").write_text("# The VAE\n\n**Time**: 42 minutes\n")
    lab = root / "notebooks" / "source" / "labs" / "07_vae.md"
    lab.write_text(lab.read_text("utf-8").replace("Darts at a latent space", "Darts"))
    chapters, _, notes = build().find_all("table")
    assert rows(chapters)[0][1] == "42" and rows(notes)[0][0] == "1. Darts (8 min)"
