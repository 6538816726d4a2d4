"""The book as its readers get it: built without a warning, complete, and right in a browser with no network.

The build is the one that `make book` makes, in `_build`; what has not changed is not built again.
"""

import http.server
import pickle
import re
import threading
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from pprint import pformat
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import TimeoutError as NotInTime

from helpers import ROOT, load

HTML = ROOT / "_build" / "html"

SLOPPY = """() => ({
    untypeset: [...document.querySelectorAll('.math')]
        .filter(e => !e.querySelector('mjx-container') || e.querySelector('mjx-merror, mjx-mtext[style*="red"]'))
        .map(e => e.textContent.trim()),
    images_without_alt: [...document.querySelectorAll('article img')].filter(e => !e.alt.trim()).map(e => e.src),
    broken_images: [...document.images].filter(e => e.complete && !e.naturalWidth).map(e => e.src),
    pixels_scrolled_sideways: document.documentElement.scrollWidth - window.innerWidth,
})"""


def pages_of(entry: dict) -> list[str]:
    """The pages of a part of the table of contents, in order."""
    below = [page for key in ("parts", "chapters", "sections") for part in entry.get(key, []) for page in pages_of(part)]
    return [entry[key] for key in ("root", "file") if key in entry] + below


PAGES = pages_of(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8")))
CHAPTERS = [match[1] for page in PAGES if (match := re.fullmatch(r"book/(\d\d_\w+)", page))]


def open_typeset(page, url: str) -> None:
    """Open a page and wait for its mathematics, a minute at most: what is not set by then is for a test to find."""
    page.goto(url, wait_until="networkidle")
    with suppress(NotInTime):
        page.wait_for_function(
            "() => [...document.querySelectorAll('.math')].every(e => e.querySelector('mjx-container'))", timeout=60_000
        )
        page.evaluate("() => window.MathJax?.startup?.promise")


def problems(browser, url: str, allowed: tuple[str, ...]) -> dict:
    """What is wrong with a page on a narrow screen: requests that leave it, errors, and what a reader would stumble over."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    foreign, errors = [], []
    page.on("request", lambda request: request.url.startswith(allowed) or foreign.append(request.url))
    page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
    page.on("response", lambda response: response.status < 400 or errors.append(f"{response.url}: {response.status}"))
    page.on("console", lambda message: message.type != "error" or errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_typeset(page, url)
    found = {"foreign_requests": foreign, "errors": errors, **page.evaluate(SLOPPY)}
    page.close()
    return {what: how for what, how in found.items() if how}


@pytest.mark.parametrize("page", PAGES)
def test_page_opens_from_a_file_with_no_fault_and_no_request_elsewhere(book, chromium, page):
    found = problems(chromium, (book / f"{page}.html").as_uri(), ("file:", "data:", "blob:"))
    assert not found, pformat(found)


def test_pages_served_over_http_request_nothing_elsewhere(book, chromium):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=book)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}/"
        found = {page: problems(chromium, f"{here}{page}.html", (here, "data:", "blob:")) for page in PAGES}
        server.shutdown()
    assert not any(found.values()), pformat(found)


@cache
def soup(file: Path) -> BeautifulSoup:
    return BeautifulSoup(file.read_text("utf-8"), "html.parser")


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_the_book_lead_somewhere(book, page):
    file = book / f"{page}.html"
    dead = []
    for tag in soup(file).find_all(["a", "link", "img", "script"]):
        link = urlsplit(tag.get("href") or tag.get("src") or "")
        if link.scheme or link.netloc:
            continue
        target = (file.parent / unquote(link.path)).resolve() if link.path else file
        anchored = target.suffix == ".html" and link.fragment
        if not target.exists() or (anchored and not soup(target).find(id=unquote(link.fragment))):
            dead.append(link.geturl())
    assert not dead, pformat(dead)


@pytest.mark.parametrize("page", PAGES)
def test_executed_page_is_silent_on_stderr(book, page):
    file = ROOT / "_build" / "jupyter_execute" / f"{page}.ipynb"
    cells = nbformat.read(file, as_version=4).cells if file.exists() else []
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    said = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not said, pformat(said)


new_chapter = load(ROOT / "notebooks" / "source" / "new_chapter.py")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_its_five_faces(chapter):
    lacks = new_chapter.unfinished(chapter)
    assert not lacks, "\n".join(lacks)


register = load(ROOT / "book" / "_ext" / "register.py")


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("book/exercises/")])
def test_each_equation_asserts_and_is_tested_or_defines_or_is_unnumbered(book, page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")  # whose nodes a page may hold
    # Exercises are notebooks, too, where equations carry no marks; they ask, and assert nothing.
    doctree = pickle.loads((ROOT / "_build" / ".doctrees" / f"{page}.doctree").read_bytes())
    found = register.faults(page, register.displayed(doctree), register.read(ROOT))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_equations_of_a_chapter_are_counted_from_one_behind_its_number(book, chapter):
    numbers = [span.get_text().strip("()#") for span in soup(book / f"book/{chapter}.html").select(".eqno")]
    assert numbers == [f"{int(chapter[:2])}.{count}" for count in range(1, len(numbers) + 1)]


def test_each_test_of_an_equation_says_what_kind_of_oracle_it_has():
    found = register.oracle_faults(register.read(ROOT))
    assert not found, "\n".join(found)


def test_links_of_source_pages_lead_somewhere(book):
    dead = []
    for file in sorted((book / "sources").rglob("*.html")):
        for path, anchor in re.findall(r'<a [^>]*href="([^"#:]*)#([^"]+)"', file.read_text("utf-8")):
            target = (file.parent / path).resolve() if path else file
            if f'id="{anchor}"' not in target.read_text("utf-8"):
                dead.append(f"{file}: {path}#{anchor}")
    assert not dead, pformat(dead)


def test_source_page_opens_from_a_file_with_no_fault_and_no_request_elsewhere(book, chromium):
    files = sorted((book / "sources").rglob("*.html"), key=lambda file: file.stat().st_size)
    found = {file.name: problems(chromium, file.as_uri(), ("file:", "data:", "blob:")) for file in (files[0], files[-1])}
    assert not any(found.values()), pformat(found)


def test_mark_of_an_equation_opens_by_mouse_by_keyboard_and_by_click(book, chromium):
    page = chromium.new_page()
    page.goto((book / f"book/{CHAPTERS[0]}.html").as_uri())
    mark = page.locator("details.verified").first
    summary = mark.locator("summary")

    def is_open() -> bool:
        page.wait_for_timeout(300)
        return mark.evaluate("mark => mark.open")

    summary.hover()
    assert is_open()
    page.mouse.move(0, 0)
    assert not is_open()
    summary.click()
    page.mouse.move(0, 0)
    assert is_open(), "a click keeps it open"
    page.keyboard.press("Escape")
    assert not is_open()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert summary.evaluate("summary => summary == document.activeElement") and is_open()
    page.keyboard.press("Tab")
    assert mark.locator("a").first.evaluate("a => a == document.activeElement") and is_open()
    page.close()
