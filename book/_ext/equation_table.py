"""`{equation-table}`: page by page, every labeled equation with what tests it, and every claim with its numbers."""

import json
from collections import Counter
from html import escape
from itertools import groupby
from pathlib import Path

import claims
import sources
from claims import Claim
from docutils import nodes
from register import KINDS, Equation, equations, slug
from sphinx.util.docutils import SphinxDirective


class EquationTable(SphinxDirective):
    """Leave room for the table: it is made when all pages are read."""

    def run(self):
        self.env.metadata[self.env.docname]["equation-table"] = ""
        return [nodes.container(classes=["equation-table"])]


def fill(app, doctree, docname):
    """Put the table in its place."""
    for node in [node for node in doctree.findall(nodes.container) if "equation-table" in node["classes"]]:
        found = equations(app.env, app.env.equation_register)
        by_page = {page: list(part) for page, part in groupby(found, key=lambda equation: equation.page)}
        asserted = claims.of(app.env)
        listed = [page for page in sorted(app.env.titles) if page in by_page or page in asserted]
        chapters = [(page, by_page.get(page, []), asserted.get(page, [])) for page in listed]
        html = counts(app, chapters) + kinds(found) + "".join(chapter(app, docname, *part) for part in chapters)
        node.replace_self(nodes.raw("", html, format="html"))


def tests(found: list[Equation]) -> set:
    """The tests of equations, each once."""
    return {check.place for equation in found for check in equation.checks}


def title(env, page: str) -> str:
    """A page's number and title."""
    number = ".".join(map(str, env.toc_secnumbers.get(page, {}).get("", ())))
    return f"{number}. " * bool(number) + escape(env.titles[page].astext())


def counts(app, chapters: list[tuple[str, list[Equation], list[Claim]]]) -> str:
    """How many equations, tests, definitions and claims each page has, its lab's claims, and the book's."""

    scores = read_scores(app.srcdir)

    def row(name: str, found: list[Equation], asserted: int, in_lab: int) -> str:
        defined = sum(not equation.checks for equation in found)
        cells = len(found), len(tests(found)), defined, killed(scores, found), asserted, in_lab
        return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'

    labs = {page: claims.in_lab(app.srcdir, page) for page, *_ in chapters}
    rows = "".join(
        row(f'<a href="#{slug(page)}-equations">{title(app.env, page)}</a>', found, len(asserted), labs[page])
        for page, found, asserted in chapters
    )
    every = [equation for _, found, _ in chapters for equation in found]
    whole = row("the whole book", every, sum(len(asserted) for *_, asserted in chapters), sum(labs.values()))
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Chapter", "equations", "tests", "definitions", "mutants killed", "claims", "in the lab")
    )
    return (
        f'<table class="table equation-counts"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody><tfoot>{whole}</tfoot></table>"
    )


def read_scores(root: str) -> dict:
    """What `make mutants` found, function by function; nothing where it never ran."""
    file = Path(root, "tests", "mutants", "scores.json")
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def killed(scores: dict, found: list[Equation]) -> str:
    """How many changes of the functions that compute some equations their tests notice, of all that were tried."""
    places = {f"vaecourse.{place.module}.{place.name}" for equation in found for place in equation.functions}
    judged = [score for key, score in scores.items() if any(f"{key}.".startswith(f"{place}.") for place in places)]
    made = sum(score["made"] for score in judged)
    return f"{sum(score['killed'] for score in judged)} of {made}" if made else "–"


def kinds(found: list[Equation]) -> str:
    """How many tests there are for each kind of oracle, and what the kind is."""
    seen = {(check.place, check.kind) for equation in found for check in equation.checks}
    count = Counter(kind for _, kind in seen)
    rows = "".join(
        f'<tr><th scope="row">{kind}</th><td>{count[kind]}</td><td>{KINDS[kind]}</td></tr>' for kind in KINDS if count[kind]
    )
    return (
        '<table class="table equation-counts"><thead><tr><th scope="col">The answer comes from</th>'
        f'<th scope="col">tests</th><th scope="col">that is</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def chapter(app, docname: str, page: str, found: list[Equation], asserted: list[Claim]) -> str:
    """The tables of one page: its equations, and its claims."""
    address = app.builder.get_relative_uri(docname, page)
    parts = [f'<section id="{slug(page)}-equations"><h2><a href="{address}">{title(app.env, page)}</a></h2>']
    if found:
        rows = "".join(row(app.builder, docname, equation) for equation in found)
        parts.append(table(("Equation", "In the code", "Tested against"), rows))
    if asserted:
        rows = "".join(claim_row(address, page, claim) for claim in asserted)
        parts.append(table(("Claim", "Asserted", "Numbers"), rows))
    return "".join([*parts, "</section>"])


def table(head: tuple[str, ...], rows: str) -> str:
    """A table of the register."""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f'<table class="table equations"><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>'


def claim_row(address: str, page: str, claim: Claim) -> str:
    """One claim."""
    return (
        f'<tr id="{claims.row_anchor(page, claim)}"><th scope="row">'
        f'<a href="{address}#{claim.anchor}">{escape(claim.sentence)}</a></th>'
        f"<td><code>{escape(claim.code)}</code></td><td>{escape(claim.shown)}</td></tr>"
    )


def row(builder, docname: str, equation: Equation) -> str:
    """One equation."""
    code = "".join(
        f'<li><a href="{sources.link(builder, docname, place)}">{sources.title(place)}</a></li>' for place in equation.functions
    )
    verified = "".join(
        f"<li><strong>{escape(check.oracle or '')}</strong>: "
        f'<a href="{sources.link(builder, docname, check.place)}">{sources.title(check.place)}</a></li>'
        for check in equation.checks
    )
    return (
        f'<tr id="{equation.label}"><th scope="row">'
        f'<a href="{builder.get_relative_uri(docname, equation.page)}#{equation.anchor}">({equation.number})</a> '
        f"{escape(equation.name)}</th><td><ul>{code}</ul></td>"
        f"<td>{f'<ul>{verified}</ul>' if verified else 'a definition'}</td></tr>"
    )
