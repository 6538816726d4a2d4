"""`{equation-table}`: every labeled equation of the book, chapter by chapter, with what implements it and what tests it."""

from collections import Counter
from html import escape
from itertools import groupby

import sources
from docutils import nodes
from register import KINDS, Equation, equations, slug
from sphinx.util.docutils import SphinxDirective


class EquationTable(SphinxDirective):
    """Leave room for the table: it is made when all pages are read."""

    def run(self):
        self.env.metadata[self.env.docname]["equation-table"] = ""
        return [nodes.container(classes=["equation-table"])]


def pages(env) -> list[str]:
    """The pages with a table; one, or in a part of the book none."""
    return [page for page, fields in sorted(env.metadata.items()) if "equation-table" in fields]


def fill(app, doctree, docname):
    """Put the table in its place."""
    for node in [node for node in doctree.findall(nodes.container) if "equation-table" in node["classes"]]:
        found = equations(app.env, app.env.equation_register)
        chapters = [(page, list(part)) for page, part in groupby(found, key=lambda equation: equation.page)]
        html = counts(app.env, chapters) + kinds(found) + "".join(chapter(app, docname, *part) for part in chapters)
        node.replace_self(nodes.raw("", html, format="html"))


def tests(found: list[Equation]) -> set:
    """The tests of equations, each once."""
    return {check.place for equation in found for check in equation.checks}


def title(env, page: str) -> str:
    """A page's number and title."""
    number = ".".join(map(str, env.toc_secnumbers.get(page, {}).get("", ())))
    return f"{number}. " * bool(number) + escape(env.titles[page].astext())


def counts(env, chapters: list[tuple[str, list[Equation]]]) -> str:
    """How many equations, tests and definitions each chapter has, and the book."""

    def row(name: str, found: list[Equation]) -> str:
        defined = sum(not equation.checks for equation in found)
        return f'<tr><th scope="row">{name}</th><td>{len(found)}</td><td>{len(tests(found))}</td><td>{defined}</td></tr>'

    rows = "".join(row(f'<a href="#{slug(page)}-equations">{title(env, page)}</a>', found) for page, found in chapters)
    whole = row("the whole book", [equation for _, found in chapters for equation in found])
    return (
        '<table class="table equation-counts"><thead><tr><th scope="col">Chapter</th><th scope="col">equations</th>'
        '<th scope="col">tests</th><th scope="col">definitions</th></tr></thead>'
        f"<tbody>{rows}</tbody><tfoot>{whole}</tfoot></table>"
    )


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


def chapter(app, docname: str, page: str, found: list[Equation]) -> str:
    """The table of one page's equations."""
    rows = "".join(row(app.builder, docname, equation) for equation in found)
    return (
        f'<section id="{slug(page)}-equations"><h2><a href="{app.builder.get_relative_uri(docname, page)}">'
        f"{title(app.env, page)}</a></h2>"
        '<table class="table equations"><thead><tr><th scope="col">Equation</th><th scope="col">In the code</th>'
        f'<th scope="col">Tested against</th></tr></thead><tbody>{rows}</tbody></table></section>'
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
