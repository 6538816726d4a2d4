"""Every page of the built book for every reader: contrast, names and roles, and figures that answer hand, finger and keys."""

import gzip
from importlib.resources import files
from pprint import pformat

import pytest
from test_book import PAGES, open_typeset

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
FIGURES = ".explorable, .latent-plane, .langevin, .computed"

# What the theme or the notebook's converter writes and a page cannot mend.
THEIRS = [".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-footer", ".prev-next-area"]
THEIRS += ["mjx-container", ".headerlink", ".citation-list"]


@pytest.fixture(scope="module", params=PAGES)
def name(request) -> str:
    """A page of the book. Its tests follow one another, so that it is opened once."""
    return request.param


@pytest.fixture(scope="module")
def page(book, chromium, name):
    """The page, typeset, on a screen that can be touched."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, has_touch=True)
    page = context.new_page()
    open_typeset(page, (book / f"{name}.html").as_uri())
    yield page
    context.close()


def test_page_weighs_little_is_ready_soon_and_has_no_widget_that_wants_a_kernel(book, page, name):
    html = (book / f"{name}.html").read_bytes()
    assert len(gzip.compress(html)) < 1_500_000
    assert b"application/vnd.jupyter.widget" not in html
    time = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    other, seen = page.context.new_page(), []
    for _ in range(3):  # a machine that does something else meanwhile is no fault of the page
        other.goto((book / "book" / "glossary.html").as_uri())
        ready, plain = page.evaluate(time), other.evaluate(time)  # a page of text, on the same machine at the same time
        seen.append(f"ready after {ready:.0f} ms, the glossary after {plain:.0f}")
        if ready < max(4000, 12 * plain):
            break
        open_typeset(page, page.url)
    else:
        pytest.fail(", ".join(seen))
    other.close()


def test_every_control_of_every_figure_changes_what_is_shown(page):
    dead = page.evaluate(
        """() => [...document.querySelectorAll(".explorable")].flatMap(figure => {
            const shown = () => figure.querySelector(".frame").innerHTML;
            const told = (field) => field.dispatchEvent(new Event("input", { bubbles: true }));
            const dead = [];
            for (const field of figure.querySelectorAll("input, select")) {
                field.form.reset();  // each from where the figure starts: one dial may make another idle
                told(field);
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


def test_every_figure_answers_to_keys_and_touch(page):
    state = "figure => figure.dataset.state || figure.dataset.z || figure.querySelector('[role=status]').textContent"
    for figure in page.locator(FIGURES).all():
        target = figure.locator('input[type="range"], select, input[type="radio"]:checked, [role="application"]').first
        before = figure.evaluate(state)
        if target.evaluate("field => field.tagName") == "SELECT":
            target.select_option(index=1)
            assert figure.evaluate(state) != before, f"{figure.get_attribute('aria-label')} does not answer to a choice"
            continue
        target.focus()
        at_end = target.evaluate("field => field.value !== undefined && field.value === field.max")
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
        after = figure.evaluate(state)
        assert after != before, f"{figure.get_attribute('aria-label')} does not answer to an arrow key"
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        touched = set()
        for share in (0.07, 0.5, 0.93):
            page.touchscreen.tap(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
            touched.add(figure.evaluate(state))
        if target.get_attribute("type") == "radio":
            figure.locator("fieldset label:not(:has(:checked))").first.tap()
            touched |= {after, figure.evaluate(state)}
        assert len(touched) > 1, f"{figure.get_attribute('aria-label')} does not answer to touch"


def test_page_passes_an_accessibility_checker_on_a_light_and_on_a_dark_ground(page):
    page.add_script_tag(content=AXE)
    found = {}
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        violations = page.evaluate(
            """async ([rules, theirs]) => {
                const where = { include: ["article"], exclude: theirs.map(part => [part]) };
                return (await axe.run(where, { runOnly: { type: "tag", values: rules } })).violations;
            }""",
            [RULES, THEIRS],
        )
        for v in violations:
            found[theme, v["id"]] = [(n["html"][:150], n["failureSummary"][:200]) for n in v["nodes"][:3]]
    assert not found, pformat(found)
