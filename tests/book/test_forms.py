"""The forms of writing: claims, derivations, phrases that set a figure, questions, what chapters take from one another.

One small book has all of them, as they should be; others have one fault each, which the build must name.
"""

import re
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from helpers import ROOT, load
from vaecourse import explorable
from vaecourse.claims import answers, claim, sentences

EXTENSIONS = ROOT / "book" / "_ext"
USED = ["freshness", "numbering", "claims", "verified", "derivation", "earlier", "linked", "questions", "offline"]

HEAD = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""

CHAPTER = (
    HEAD
    + r"""# Falling

```{math}
:label: eq-fall-one
:class: definition
a = b
```

```{code-cell} ipython3
import matplotlib.pyplot as plt
from ipywidgets import Checkbox, Dropdown, FloatSlider
from vaecourse import explorable
from vaecourse.claims import answers, claim
errors = [3.0, 2.0, 1.5]
```

Before. [The error **falls** from {number}`fall.first` to {number}`fall.last:.3f`, as $x^2$ does.]{#claim-fall} After.

```{code-cell} ipython3
:tags: [claims]
steps = list(zip(errors, errors[1:]))
unrelated = 7
claim("fall", [b < a for a, b in steps], first=errors[0], last=errors[-1])
claim("low", errors[-1] < 2, last=errors[-1])
claim("falls-to", errors[-1] < 2, last=errors[-1], change=-1.5)
answers("square", right=9.0, double=6.0, sign=-9.0)
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: "A line that [falls by {number}`falls-to.change`]{#claim-falls-to}."
  figure:
    name: fig-fall
    caption: "Errors. [They end low.]{#claim-low}"
---
plt.plot(errors);
```

Now {set}`turn the slope to one half`, or {set}`choose low`. It is {numref}`fig-moves`.

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-moves
    caption: "A figure that moves."
---
def draw(slope, on, kind):
    figure, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1], [0, slope])
    figure.set_label(f"slope {slope} {on} {kind}")
    return figure

explorable.figure(
    draw,
    alt="A line, as steep as the slope.",
    states={"turn the slope to one half": {"slope": 0.5, "on": True}, "choose low": {"kind": "low", "on": False}},
    slope=FloatSlider(0.1, min=0, max=1, step=0.1, description="slope"),
    on=Checkbox(False, description="on"),
    kind=Dropdown(options=["high", "low"], description="kind"),
)
```

```{derivation}
\log p(x) &= \log \int p(x, z)\, dz % the evidence is *the* joint, integrated
&= \log \mathbb E\left[\begin{aligned} a &= b \end{aligned}\right]
  + 50\% % multiply and divide by $q$
```

```{derivation}
:fold: Once more
a &= b % why
&= c % because
```

```{question} square
:unit: nats
What is $3^2$?

right
: Yes.

double
: This is twice three.

sign
: A square is not negative.
```

```{question} choice
:right: 2
Which?

$x$
: Not this.

that
: Yes, that.
```

```{gives}
```
"""
)
TAKER = """# Taking

```{takes}
eq-fall-one that a is $b$
```
"""


def build(root: Path, pages: dict[str, str]) -> str:
    """Build a book of these chapters; what it warns of."""
    (root / "book").mkdir(exist_ok=True)
    for name, text in pages.items():
        (root / "book" / f"{name}.md").write_text(text)
    listed = "\n".join(f"book/{name}" for name in pages)
    (root / "index.md").write_text(f"# Book\n\n```{{equation-table}}\n```\n\n```{{toctree}}\n:numbered:\n{listed}\n```\n")
    settings = {
        "extensions": ["myst_nb", *USED],
        "source_suffix": {".md": "myst-nb"},
        "myst_enable_extensions": ["attrs_inline", "colon_fence", "deflist", "dollarmath"],
        "nb_execution_mode": "cache",
        "html_static_path": [str(ROOT / "book" / "_static")],
        "root_doc": "index",
        "exclude_patterns": [".*", "_build", "jupyter_execute"],
        "numfig": True,
        "math_numfig": True,
    }
    warnings = StringIO()
    with pytest.MonkeyPatch.context() as patch, docutils_namespace():
        patch.syspath_prepend(EXTENSIONS)
        patch.setenv("VAECOURSE_PAGE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        folders = [root, None, root / "_build" / "html", root / "_build" / ".doctrees"]
        Sphinx(*folders, "html", settings, status=None, warning=warnings).build()
    for name in [*USED, "execution", "equation_table", "sources", "register"]:
        sys.modules.pop(name, None)
    return warnings.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The book with all forms, built without a warning."""
    made = tmp_path_factory.mktemp("forms")
    assert not build(made, {"01_fall": CHAPTER, "02_take": TAKER})
    return made / "_build" / "html"


@pytest.fixture(scope="module")
def html(root) -> BeautifulSoup:
    return BeautifulSoup((root / "book" / "01_fall.html").read_text("utf-8"), "html.parser")


pytestmark = [pytest.mark.filterwarnings("default")]


@pytest.mark.slow
def test_a_claim_is_a_sentence_with_its_numbers_its_code_and_a_place_in_the_list(root, html):
    sentence = html.find(id="claim-fall")
    assert sentence.name == "span" and "falls from 3 to 1.500" in sentence.text
    box = html.find(id=sentence.find_next_sibling("button")["popovertarget"])
    assert box.code.text == (
        'steps = list(zip(errors, errors[1:]))\nclaim("fall", [b < a for a, b in steps], first=errors[0], last=errors[-1])'
    )
    assert box.select_one(".numbers").text == "first 3, last 1.5"
    assert html.find(id="claim-low").find_parent("figcaption")
    assert html.find("img", alt="A line that falls by \u22121.5.")
    assert "unrelated" not in html.text, "the cell is off the page"

    table = BeautifulSoup((root / "index.html").read_text("utf-8"), "html.parser")
    assert [cell.text for cell in table.select("table.equation-counts tr")[1].select("th, td")][1:] == [
        "1",
        "0",
        "1",
        "–",
        "3",
        "0",
    ]
    rows = {row["id"]: row.find("a")["href"] for row in table.select("tr[id*=claim]")}
    assert rows == {f"fall-claim-{name}": f"book/01_fall.html#claim-{name}" for name in ("fall", "low", "falls-to")}


@pytest.mark.slow
def test_a_derivation_has_a_line_for_each_step_and_its_reason(html):
    first, second = html.select(".derivation")
    lines = [
        [line.select_one(f".{part}").get_text().strip() for part in ("left", "right", "reason")]
        for line in first.select(".step")
    ]
    assert [line[2] for line in lines] == ["the evidence is the joint, integrated", "multiply and divide by \\(q\\)"]
    assert lines[0][0] == r"\(\displaystyle \log p(x)\)" and lines[1][0] == ""
    assert lines[1][1].startswith(r"\(\displaystyle {}= \log") and r"50\%" in lines[1][1]
    assert first.select_one(".reason em")
    assert second.find_parent("details").summary.text == "Once more"


@pytest.mark.slow
def test_what_a_chapter_takes_is_linked_and_what_it_gives_is_found(root, html):
    gives = html.select_one(".earlier")
    assert [a["href"] for a in gives.select("a")] == ["#equation-eq-fall-one", "02_take.html"]
    assert "(1.1) in chapter 2" in gives.get_text()
    takes = BeautifulSoup((root / "book" / "02_take.html").read_text("utf-8"), "html.parser").select_one(".earlier li")
    assert takes.a["href"] == "01_fall.html#equation-eq-fall-one" and "that a is" in takes.text


@pytest.mark.slow
def test_a_moving_figure_has_a_number_and_a_caption(html):
    figure = html.find(id="fig-moves")
    assert figure.select_one(".explorable") and "Fig. 1.2" in figure.figcaption.text
    assert html.find("a", href="#fig-moves").text == "Fig. 1.2"


@pytest.fixture
def page(root, chromium):
    page = chromium.new_page(viewport={"width": 900, "height": 700})
    page.goto((root / "book" / "01_fall.html").as_uri())
    yield page
    page.close()


def test_a_claim_opens_by_click_and_by_keys_and_closes(page):
    box = page.locator("#evidence-fall")
    assert not box.is_visible()
    page.locator("#claim-fall").click(position={"x": 30, "y": 8})
    assert box.is_visible()
    page.keyboard.press("Escape")
    box.wait_for(state="hidden")
    page.locator("[popovertarget=evidence-fall]").focus()
    page.keyboard.press("Enter")
    assert box.is_visible()
    sentence, shown = page.locator("#claim-fall").bounding_box(), box.bounding_box()
    assert 0 <= shown["y"] - sentence["y"] - sentence["height"] < 20, "right below the sentence"
    page.emulate_media(media="print")
    assert not box.is_visible()


def test_a_phrase_sets_its_figure_by_mouse_and_by_keys(page):
    page.get_by_role("button", name="turn the slope to one half").click()
    assert page.locator(".explorable .state").inner_text() == "slope 0.5 True high"
    page.get_by_role("button", name="choose low").focus()
    page.keyboard.press("Enter")
    assert page.locator(".explorable .state").inner_text() == "slope 0.5 False low"


@pytest.mark.parametrize(
    "answer, said",
    [("9", "Yes."), ("9,01", "Yes."), ("6", "twice three"), ("\u22129", "not negative"), ("5", "none"), ("", "a number")],
)
def test_a_number_is_answered_with_the_message_of_its_mistake(page, answer, said):
    form = page.locator("#question-square")
    form.locator("input").fill(answer)
    form.get_by_role("button").click()
    shown = [message.inner_text() for message in form.locator(".message").all() if message.is_visible()]
    assert len(shown) == 1 and said in shown[0]
    assert form.get_attribute("data-answered") == ("right" if said == "Yes." else "wrong" if answer else "")


def test_a_choice_is_answered(page):
    form = page.locator("#question-choice")
    for place, said in enumerate(["Not this.", "Yes, that."]):
        form.locator("input").nth(place).check()
        assert [message.inner_text() for message in form.locator(".message").all() if message.is_visible()] == [said]


IMPORTS = "from vaecourse.claims import answers, claim\n"


def faulty(text: str, code: str, meta: str = "tags: [claims]") -> str:
    return f"{HEAD}# Faulty\n\n{text}\n\n```{{code-cell}} ipython3\n---\n{meta}\n---\n{IMPORTS}{code}\n```\n"


PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2.5]);"
HIGH = f"```{{code-cell}} ipython3\n:tags: [claims]\n{IMPORTS}claim('high', 5 > 3.7, a=5)\n```"
FAULTS = {
    "false": (
        faulty("[It is two.]{#claim-two}", "a = 1\nclaim('two', a == 2, a=a)"),
        ['a claim is false: "It is two."', "a = 1\nclaim('two', a == 2, a=a)\na 1"],
    ),
    "no assertion": (
        faulty("[It is two.]{#claim-two}", "pass"),
        ['nothing asserts the sentence marked #claim-two: "It is two."'],
    ),
    "no sentence": (faulty("Words.", "claim('two', True, a=1)"), ["claim 'two': no sentence of the page is marked #claim-two"]),
    "no number": (
        faulty("[It is {number}`two.b`.]{#claim-two}", "claim('two', True, a=1)"),
        ["{number}`two.b`: no claim of this page has that number"],
    ),
    "digits in the alt text": (
        faulty("W.", PLOT, 'mystnb: {image: {alt: "From 1 to 3.7"}}'),
        ["the alt text has numbers that nothing computes or asserts: 3.7."],
    ),
    "digits in the caption": (
        faulty("W.", PLOT, 'mystnb: {image: {alt: "A line"}, figure: {name: fig-x, caption: "Up to 2.5, and $7$, then 77."}}'),
        ["the caption has numbers that nothing computes or asserts: 77."],
    ),
    "digits that only an assertion has": (
        faulty(f"[It is high.]{{#claim-high}}\n\n{HIGH}", PLOT, 'mystnb: {image: {alt: "Above 3.7"}}'),
        ["the alt text has numbers that nothing computes or asserts: 3.7."],
    ),
    "two sentences for one claim": (
        faulty(f"[It is high.]{{#claim-high}}\n\n{HIGH}", PLOT, 'mystnb: {image: {alt: "[A line]{#claim-high}"}}'),
        ["two sentences are marked #claim-high"],
    ),
    "an unknown state": (faulty("{set}`turn it`", "pass"), ["{set}`turn it`: no figure of the page has that state"]),
    "a question without values": (
        faulty("```{question} q\nWhat?\n\nright\n: Yes.\n\nsign\n: No.\n```", "answers('q', right=1, half=.5)"),
        ["question 'q' has messages for right, sign, and values of right, half"],
    ),
    "a line without a reason": (
        faulty("```{derivation}\na &= b % why\n&= c\n```", "pass"),
        ["a line of a derivation has no reason"],
    ),
    "taken from nowhere earlier": (
        faulty("```{math}\n:label: eq-x-y\n:class: definition\na\n```\n\n```{takes}\neq-x-y words\n```", "pass"),
        ["eq-x-y is no equation of an earlier chapter"],
    ),
}


@pytest.fixture(scope="module")
def warnings_of_all(tmp_path_factory) -> dict[str, str]:
    """What the build says of each faulty page."""
    pages = {f"{number:02}_page": text for number, (text, _) in enumerate(FAULTS.values())}
    said = build(tmp_path_factory.mktemp("faults"), pages)
    found = {}
    for name, page in zip(FAULTS, pages, strict=True):
        parts = [part for part in re.split(r"(?=^\S*?book/\d\d_page)", said, flags=re.MULTILINE) if f"{page}" in part[:300]]
        found[name] = "\n".join(parts)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_where_it_is(warnings_of_all, fault):
    for words in FAULTS[fault][1]:
        assert words in warnings_of_all[fault]
    assert warnings_of_all[fault].count("WARNING: ") == 1


# What the cells call


def test_a_claim_prints_whether_all_hold_and_its_numbers(capsys):
    claim("x", torch.tensor([True, False]), a=np.float32(0.5), b=[1, 2], c="three", d=torch.tensor(2.0, requires_grad=True))
    assert capsys.readouterr().out == (
        '{"claim": "x", "holds": false, "numbers": {"a": 0.5, "b": [1, 2], "c": "three", "d": 2.0}}\n'
    )


@pytest.mark.parametrize(
    "holds, numbers, error, words",
    [
        (1.0, {"a": 1}, TypeError, "a comparison is true or false"),
        (torch.tensor([]) > 0, {"a": 1}, ValueError, "nothing was compared"),
        (True, {}, ValueError, "give the numbers that show it"),
        (True, {"a": object()}, TypeError, "a is no number"),
        (True, {"a": np.zeros(13)}, ValueError, "13 numbers"),
    ],
)
def test_a_claim_that_shows_nothing_is_refused(holds, numbers, error, words):
    with pytest.raises(error, match=words):
        claim("x", holds, **numbers)


def test_answers_that_no_message_could_tell_apart_are_refused():
    with pytest.raises(ValueError, match=r"the answer of 'half', 2\.001, is that of 'right', too"):
        answers("q", right=2.0, half=2.001)


@pytest.mark.parametrize(
    "states, words",
    [
        ({"up": {"height": 1}}, "sets 'height'; the figure has slope"),
        ({"up": {"slope": 0.55}}, r"sets slope to 0.55; it takes"),
    ],
)
def test_a_state_that_the_controls_cannot_take_is_refused(states, words):
    from ipywidgets import FloatSlider

    slope = FloatSlider(0.1, min=0, max=1, step=0.5, description="slope")
    with pytest.raises(ValueError, match=words):
        explorable.figure(lambda slope: None, alt="A line that rises and falls with its slope.", states=states, slope=slope)


def test_a_lab_shows_a_sentence_without_its_mark_and_a_phrase_as_words(tmp_path):
    build_labs = load(ROOT / "notebooks" / "source" / "build_labs.py")
    text = HEAD + "[It [falls](x.md).]{#claim-fall} Now {set}`turn it`.\n\n```{code-cell} ipython3\n:tags: [claims]\n1\n```\n"
    source = tmp_path / "lab.md"
    source.write_text(text)
    (shown,) = build_labs.convert(source).cells
    assert shown.source == "It [falls](x.md). Now **turn it**."
    marked, cell = build_labs.convert(source, claims=True).cells
    assert sentences(marked.source) == {"fall": "It [falls](x.md)."} and cell.source == "1"
