"""The glossary: each term in four languages, defined in a sentence, linked once from the chapter that introduces it."""

import re
import unicodedata
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from helpers import ROOT

BOOK = ROOT / "book"
SCRIPTS = {"hebrew": "HEBREW", "russian": "CYRILLIC", "persian": "ARABIC"}
ARABIC_NOT_PERSIAN = set("كيىةٱأإ٠١٢٣٤٥٦٧٨٩")


def read_entries() -> dict[str, dict]:
    """The glossary's entries by their first name: names, definition, chapter and the name in each language."""
    (listed,) = re.findall(r"^```\{glossary\}\n:sorted:\n(.*?)^```", (BOOK / "glossary.md").read_text("utf-8"), re.M | re.S)
    entries = {}
    for names, definition, roles in re.findall(r"\n((?:\S.*\n)+)  (\S.*)\n\n((?:  \{.*\n)+)", listed):
        first = names.splitlines()[0]
        assert first not in entries, f"{first} stands in the glossary twice"
        entries[first] = {"names": names.splitlines(), "definition": definition, **dict(re.findall(r"\{(\w+)\}`(.*?)`", roles))}
    return entries


ENTRIES = read_entries()
NAMES = {name.lower(): term for term, entry in ENTRIES.items() for name in entry["names"]}
CONTENTS = re.findall(r"file: book/(\d\d_\w+)", (ROOT / "_toc.yml").read_text("utf-8"))


def linked(chapter: str) -> list[str]:
    """The terms that a chapter links, in order, by their first names."""
    targets = re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]*)>?`", (BOOK / f"{chapter}.md").read_text("utf-8"))
    return [NAMES[target.lower()] for target in targets]


def scripts(text: str) -> set[str]:
    """The scripts of a text's letters, as the first words of their names in Unicode."""
    return {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}


def test_no_entry_is_lost_between_the_page_and_these_tests():
    assert len(ENTRIES) == (BOOK / "glossary.md").read_text("utf-8").count("{chapter}`") > 80


@pytest.mark.parametrize("term", ENTRIES)
def test_term_has_one_sentence_and_a_name_in_each_language(term):
    entry = ENTRIES[term]
    assert re.fullmatch(r"[A-Z][^.!?]*\.", entry["definition"]), "one sentence, from a capital letter to its only full stop"
    for language, script in SCRIPTS.items():
        assert script in scripts(entry[language]) <= {script, "LATIN"}
    assert scripts(term) == {"LATIN"}


def test_persian_is_spelled_with_persian_letters():
    assert not {term for term, entry in ENTRIES.items() if ARABIC_NOT_PERSIAN & set(entry["persian"])}


def test_chapters_of_terms_are_those_of_the_plan():
    chapters = {entry["chapter"] for entry in ENTRIES.values()}
    numbers, slugs = zip(*(chapter.split("_", 1) for chapter in sorted(chapters)), strict=True)
    assert numbers == tuple(f"{number:02}" for number in range(1, 16))
    assert all(find_spec(f"vaecourse.{slug}") for slug in slugs), "a chapter is named after its module"


@pytest.mark.parametrize("chapter", CONTENTS)
def test_chapter_links_each_term_once_and_all_that_it_introduces(chapter):
    links = linked(chapter)
    assert not {term for term in links if links.count(term) > 1}, "linked more than once"
    assert not {term for term in ENTRIES if ENTRIES[term]["chapter"] == chapter} - set(links), "introduced here, and not linked"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """A small book with the glossary, a chapter that uses terms, and the book's theme, style and extension."""
    folder = tmp_path_factory.mktemp("glossary")
    (folder / "book").mkdir()
    (folder / "index.md").write_text("# Book\n\n```{toctree}\nbook/07_vae\nbook/glossary\n```\n")
    (folder / "book" / "glossary.md").write_text((BOOK / "glossary.md").read_text("utf-8"), "utf-8")
    (folder / "book" / "07_vae.md").write_text(
        "# Bounds & more\n\nThe {term}`lower bound <ELBO>`, its *{term}`Rate`*, and\n\n- " + "far " * 18 + "{term}`prior`.\n"
    )
    settings = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
    settings = {
        "extensions": ["myst_parser", "glossary"],
        "source_suffix": {".md": "markdown"},  # Sphinx would write in a default that all builds of a process share
        "html_theme": "sphinx_book_theme",
        "html_static_path": [str(BOOK / "_static")],
        "html_css_files": settings["html_css_files"],
        "nitpicky": True,
    }
    with pytest.MonkeyPatch.context() as patch, docutils_namespace():
        patch.syspath_prepend(BOOK / "_ext")
        Sphinx(folder, None, folder / "html", folder / "doctrees", "html", settings, status=None, warningiserror=True).build()
    return folder / "html" / "book"


@pytest.fixture
def open_page(pages, chromium):
    """Open a page of the small book at a width in pixels."""
    opened = []

    def open_page(name: str, width: int):
        opened.append(chromium.new_page(viewport={"width": width, "height": 800}))
        opened[-1].goto((pages / f"{name}.html").as_uri())
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


@pytest.mark.parametrize("width", [390, 1200])
def test_names_stand_in_their_own_direction_and_inside_the_page(open_page, width):
    page = open_page("glossary", width)
    names = page.locator("dl.glossary bdi").evaluate_all(
        """names => names.map(name => {
            const {direction, unicodeBidi} = getComputedStyle(name), {left, right} = name.getBoundingClientRect()
            const page = name.closest('dl').getBoundingClientRect()
            return [name.lang, direction, unicodeBidi, left >= page.left && right <= page.right]
        })"""
    )
    assert names == [["he", "rtl", "isolate", True], ["ru", "ltr", "isolate", True], ["fa", "rtl", "isolate", True]] * len(
        ENTRIES
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_chapter_of_a_term_is_a_link_if_it_is_in_the_book_and_a_name_if_not(open_page):
    page = open_page("glossary", 1200)
    chapters = page.locator("dl.glossary .chapter")
    assert chapters.filter(has_text="Chapter 7: Bounds & more").first.locator("a").get_attribute("href") == "07_vae.html"
    absent = chapters.filter(has_text="Chapter 4: Mean field and coordinate ascent")
    assert absent.count() and not absent.locator("a").count()


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("term", ["evidence lower bound", "rate", "prior"])
def test_definition_shows_on_focus_beside_the_term_and_goes_with_it_or_with_escape(open_page, width, term):
    page = open_page("07_vae", width)
    link = page.locator(f"a[href='glossary.html#term-{'ELBO' if ' ' in term else term}']")
    tip = page.locator(f"#{link.get_attribute('aria-describedby')}")
    assert tip.text_content() == ENTRIES[term]["definition"]
    assert not tip.is_visible()
    page.keyboard.press("Tab")  # the keyboard is in use
    link.focus()
    assert tip.is_visible()
    word, box = link.bounding_box(), tip.bounding_box()
    assert 0 <= box["y"] - word["y"] - word["height"] < 12
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.keyboard.press("Shift")
    assert tip.is_visible()
    page.keyboard.press("Tab")
    assert not tip.is_visible()


def test_definition_shows_under_the_pointer_and_stays_while_the_pointer_is_on_it(open_page):
    page = open_page("07_vae", 1200)
    link, tip = page.locator(".term a").first, page.locator(".term [role=tooltip]").first
    link.hover()
    assert tip.is_visible()
    word, box = link.bounding_box(), tip.bounding_box()
    page.mouse.move(word["x"] + 5, box["y"] + 5, steps=20)
    assert tip.is_visible()
    page.mouse.move(word["x"] + 5, box["y"] + box["height"] + 50)
    assert not tip.is_visible()


def test_print_has_neither_definition_nor_mark(open_page):
    page = open_page("07_vae", 1200)
    page.emulate_media(media="print")
    page.locator(".term a").first.hover()
    assert not page.locator(".term [role=tooltip]").first.is_visible()
    assert page.locator(".term a").first.evaluate("link => getComputedStyle(link).textDecorationLine") == "none"
