"""Every page of the built book for every reader: contrast, names and roles, and figures that answer hand, finger and keys."""

import gzip
from importlib.resources import files
from pprint import pformat

import pytest
from test_book import PAGES

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
FIGURES = ".explorable, .latent-plane"

# What the theme or the notebook's converter writes and a page cannot mend.
THEIRS = [".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-footer", ".prev-next-area"]
THEIRS += ["mjx-container", ".headerlink", ".citation-list"]


@pytest.fixture
def opened(book, chromium):
    """Opens a page of the book, typeset."""
    contexts = []

    def opened(name: str, theme: str = "light", **settings):
        contexts.append(chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings}))
        page = contexts[-1].new_page()
        page.goto((book / f"{name}.html").as_uri(), wait_until="networkidle")
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        page.evaluate("() => window.MathJax?.startup?.promise")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_passes_an_accessibility_checker(opened, name, theme):
    page = opened(name, theme)
    page.add_script_tag(content=AXE)
    violations = page.evaluate(
        """async ([rules, theirs]) => {
            const where = { include: ["article"], exclude: theirs.map(part => [part]) };
            return (await axe.run(where, { runOnly: { type: "tag", values: rules } })).violations;
        }""",
        [RULES, THEIRS],
    )
    found = {v["id"]: [(n["html"][:150], n["failureSummary"][:200]) for n in v["nodes"][:3]] for v in violations}
    assert not found, pformat(found)


@pytest.mark.parametrize("name", PAGES)
def test_every_control_of_every_figure_changes_what_is_shown(opened, name):
    page = opened(name, has_touch=True)
    dead = page.evaluate(
        """() => [...document.querySelectorAll(".explorable")].flatMap(figure => {
            const shown = () => figure.querySelector(".frame").innerHTML;
            const told = (field) => field.dispatchEvent(new Event("input", { bubbles: true }));
            const dead = [];
            for (const field of figure.querySelectorAll("input, select")) {
                const before = shown();
                const set = {
                    range: () => { field.value = field.value === field.max ? field.min : field.max; },
                    checkbox: () => { field.checked = !field.checked; },
                    radio: () => { field.checked = true; },
                }[field.type] || (() => { field.selectedIndex = (field.selectedIndex + 1) % field.options.length; });
                const chosen = field.type === "radio" && field.checked;
                set();
                told(field);
                if (!chosen && shown() === before) dead.push([figure.getAttribute("aria-label"), field.name]);
            }
            return dead;
        })"""
    )
    assert not dead, pformat(dead)


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_answers_to_keys_and_touch(opened, name):
    page = opened(name, has_touch=True)
    for number in range(page.locator(FIGURES).count()):
        figure = page.locator(FIGURES).nth(number)
        state = "figure => figure.dataset.state || figure.dataset.z"
        target = figure.locator('input[type="range"], select, input[type="radio"], [role="application"]').first
        before = figure.evaluate(state)
        if target.evaluate("e => e.tagName") == "SELECT":
            target.select_option(index=1)
        else:
            target.focus()
            key = "ArrowLeft" if target.evaluate("e => e.value !== undefined && e.value === e.max") else "ArrowRight"
            page.keyboard.press(key)
        after = figure.evaluate(state)
        assert after != before, f"figure {number} does not answer to an arrow key"
        box = target.bounding_box()
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] * 0.07, box["y"] + box["height"] / 2)
        if target.evaluate("e => e.tagName") != "SELECT":
            page.touchscreen.tap(box["x"] + box["width"] * 0.93, box["y"] + box["height"] / 2)
            assert figure.evaluate(state) != after or target.get_attribute("type") == "radio", f"figure {number}: no touch"


@pytest.mark.parametrize("name", PAGES)
def test_page_weighs_little_is_ready_soon_and_has_no_widget_that_wants_a_kernel(book, opened, name):
    html = (book / f"{name}.html").read_bytes()
    assert len(gzip.compress(html)) < 1_500_000
    assert b"application/vnd.jupyter.widget" not in html
    page = opened(name)
    ready = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert ready < 4000, f"ready after {ready:.0f} ms; a second on a machine with nothing else to do"
