"""Beside each labeled equation, what implements it and what verifies it, as `register` finds it.

An equation is one of three things. It asserts something: it has a label, and a test. It is a definition: it has a label, and
the class `definition`. It asserts nothing new: it has no label, and the class `unnumbered`. `tests/test_book.py` holds this.
"""

from collections import defaultdict
from hashlib import sha256
from html import escape
from pathlib import Path

import claims
import equation_table
import register
import sources
from docutils import nodes
from register import Equation


def read_register(app):
    app.env.equation_register = register.read(Path(app.srcdir))


def pages_to_write_again(app, env) -> list[str]:
    """The pages whose equations, or the sources of these, are no longer those that were last written."""
    found, before = defaultdict(list), getattr(env, "equation_signatures", {})
    for equation in register.equations(env, env.equation_register):
        for page in {equation.page, *register.table_pages(env)}:
            found[page].append(equation)
    env.equation_signatures = {page: signature(app.srcdir, equations) for page, equations in found.items()}
    for page in register.table_pages(env):
        env.equation_signatures[page] += repr((claims.of(env), equation_table.read_scores(app.srcdir)))
    return [page for page, now in env.equation_signatures.items() if before.get(page) != now]


def signature(root: str, equations: list[Equation]) -> str:
    """A hash of equations and of the files that implement and test them."""
    digest = sha256(repr(equations).encode())
    for file in sources.used_files(equations):
        digest.update(Path(root, file).read_bytes())
    return digest.hexdigest()


def add_marks(app, doctree, docname):
    """Put a mark after each labeled equation."""
    marks = {equation.label: equation for equation in register.equations(app.env, app.env.equation_register)}
    for block in register.displayed(doctree):
        if label := block.get("label"):
            html = mark_html(app, marks[label])
            block.parent.insert(block.parent.index(block) + 1, nodes.raw("", html, format="html"))
        block["classes"].clear()  # themes style `definition` in their own way


def mark_html(app, equation: Equation) -> str:
    """The mark of an equation and what it opens; and a note in its place on paper. A definition has no tests."""
    state = "tested" if equation.checks else "definition"
    code = ", ".join(
        f'<a href="{sources.link(app.builder, equation.page, place)}">{sources.title(place)}</a>'
        for place in equation.functions
    )
    tests = "".join(
        f'<li><a href="{sources.link(app.builder, equation.page, check.place)}">{sources.title(check.place)}</a>'
        f"<br>against {escape(check.oracle or '')}</li>"
        for check in equation.checks
    )
    uri = app.builder.get_relative_uri
    said = [
        "" if tests else "<p>Defined here. It asserts nothing that a test could refute.</p>",
        f"<p>In the code: {code}</p>" if code else "",
        f"<p>Verified by tests:</p><ul>{tests}</ul>" if tests else "",
        *(
            f'<p><a href="{uri(equation.page, page)}#{equation.label}">Every equation and every claim</a></p>'
            for page in register.table_pages(app.env)
        ),
    ]
    return (
        f'<details class="verified {state}"><summary aria-label="{state}: equation ({equation.number})">{state}</summary>'
        f'<div>{"".join(said)}</div></details><p class="verified on-paper">{note(equation)}</p>'
    )


def note(equation: Equation) -> str:
    """What the mark says on paper: tested against quadrature: test_vae.py."""
    if not equation.checks:
        return "definition"
    kinds = dict.fromkeys(check.kind or check.oracle or "" for check in equation.checks)
    files = dict.fromkeys(Path(check.place.file).name for check in equation.checks)
    return escape(f"tested against {', '.join(kinds)}: {', '.join(files)}")


def setup(app):
    app.add_css_file("verified.css")
    app.add_js_file("verified.js", loading_method="defer")
    app.add_directive("equation-table", equation_table.EquationTable)
    app.connect("builder-inited", read_register)
    app.connect("env-get-updated", pages_to_write_again, priority=950)  # numbering.py is done by then
    app.connect("doctree-resolved", add_marks)
    app.connect("doctree-resolved", equation_table.fill)
    app.connect("html-collect-pages", sources.collect_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
