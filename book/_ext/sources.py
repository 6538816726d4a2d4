"""The source that the book's equations rest on, as pages of the book: what implements them and what tests them.

Each file has its page, `sources/vaecourse/vae.html`. Lines have anchors, `#L-20`, and so have functions, `#VAE.elbo`; beside a
function stand links back to its equations.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from pathlib import Path

from register import Equation, Place, equations


def link(builder, page: str, place: Place) -> str:
    """The address of a function's source, seen from a page of the book."""
    return f"{builder.get_relative_uri(page, page_of(place.file))}#{place.name}"


def page_of(file: str) -> str:
    return "sources/" + file.removesuffix(".py")


def collect_pages(app) -> Iterator[tuple[str, dict, str]]:
    """The source pages that are new or changed, for Sphinx to write; what is no longer needed is removed."""
    store = Path(app.doctreedir, "sources.json")
    before, now = json.loads(store.read_text()) if store.exists() else {}, {}
    for file, uses in sorted(used_files(equations(app.env, app.env.equation_register)).items()):
        page, text = page_of(file), Path(app.srcdir, file).read_text("utf-8")
        backs = [(place, [(back.page, back.anchor, back.number) for back in found]) for place, found in uses.items()]
        shown = text, backs, sorted((name, heading.astext()) for name, heading in app.env.titles.items())  # in the sidebar
        now[page] = sha256(repr(shown).encode()).hexdigest()
        if before.get(page) != now[page] or not Path(app.builder.get_outfilename(page)).exists():
            yield page, {"title": file, "body": body(app.builder, file, text, uses)}, "page.html"
    for page in before.keys() - now.keys():
        Path(app.builder.get_outfilename(page)).unlink(missing_ok=True)
    store.write_text(json.dumps(now))


def used_files(found: list[Equation]) -> dict[str, dict[Place, list[Equation]]]:
    """For each file, in the order of its lines, its functions with their equations."""
    files = defaultdict(lambda: defaultdict(list))
    for equation in found:
        for place in dict.fromkeys([*equation.functions, *(check.place for check in equation.checks)]):
            files[place.file][place].append(equation)
    return {file: dict(sorted(uses.items(), key=lambda use: use[0].first)) for file, uses in files.items()}


def body(builder, file: str, text: str, uses: dict[Place, list[Equation]]) -> str:
    """A source page: which function belongs to which equation, then the source."""
    page, rows, starts, ends = page_of(file), "", defaultdict(str), defaultdict(str)
    for place, found in uses.items():
        links = [
            (f"{builder.get_relative_uri(page, equation.page)}#{equation.anchor}", f"({equation.number}) {equation.name}")
            for equation in found
        ]
        named = ", ".join(f'<a href="{address}">{escape(name)}</a>' for address, name in links)
        rows += f'<li><a href="#{place.name}">{title(place)}</a>: {named}</li>'
        # What the link says is an attribute, so that who copies the code does not copy it.
        backs = "".join(
            f'<a href="{address}" aria-label="equation {escape(name)}" data-text="{escape(name)}"></a>'
            for address, name in links
        )
        starts[place.first] += f'<span class="place" id="{place.name}"><span class="to-equations">{backs}</span>'
        ends[place.last] += "</span>"
    about = (
        f"These tests verify equations of the book. To run them: <code>pytest {file}</code>."
        if file.startswith("tests/")
        else "These functions and classes stand for equations of the book."
    )
    return (
        f'<section class="source"><h1>{file.replace("/", "/<wbr>")}</h1><p>{about}</p><ul>{rows}</ul>'
        f"{highlighted(builder, text, starts, ends)}</section>"
    )


def title(place: Place) -> str:
    """How a reader is told of a function, `vae.VAE.elbo`, or of a test, whose name is a sentence."""
    if place.file.startswith("tests/"):
        return escape(place.sentence)
    return f"<code>{place.module}.{place.name}</code>".replace(".", ".<wbr>").replace("_", "_<wbr>")


def highlighted(builder, text: str, starts: dict[int, str], ends: dict[int, str]) -> str:
    """Python source as HTML, an anchor and a number at each line, and something more before and after some."""
    html = builder.highlighter.highlight_block(text, "python", linenos="inline", linespans="L")
    lines = html.split('<span id="L-')
    for number in range(1, len(lines)):
        line, end, after = lines[number].rpartition("\n</span>")
        lines[number] = f'{starts.get(number, "")}<span id="L-{line}{end}{ends.get(number, "")}{after}'
    return f'<div class="highlight-python notranslate">{"".join(lines)}</div>'
