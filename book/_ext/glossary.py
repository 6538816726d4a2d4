"""The glossary: names in other scripts, the chapter of each term, and its definition beside every link to it.

`book/glossary.md` is the data and the page. A chapter links to it by {term}`ELBO`. The definition is put beside the link,
hidden; the style sheet shows it under the pointer or the keyboard's focus.
"""

import ast
import re
from html import escape
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxRole

PAGE = "book/glossary"
LANGUAGES = {"hebrew": ("he", "rtl"), "russian": ("ru", "ltr"), "persian": ("fa", "rtl")}

# Escape puts definitions away until the next key or movement: they may lie over what one wants to read.
ESCAPE = """for (const event of ["keydown", "pointermove"])
  addEventListener(event, ({key}) => document.documentElement.classList.toggle("escaped", key === "Escape"));"""


class Translation(SphinxRole):
    """{hebrew}`...`, {russian}`...`, {persian}`...`: a name in that language, in its direction and isolated."""

    def run(self):
        language, direction = LANGUAGES[self.name]
        name = f'<bdi lang="{language}" dir="{direction}">{escape(self.text)}</bdi>'
        html = f'<span class="translation"><span>{self.name.capitalize()}</span> {name}</span>'
        return [nodes.raw("", html, format="html")], []


class Chapter(SphinxRole):
    """{chapter}`07_vae`: number and title of a chapter, which is a link once the chapter is in the book."""

    def run(self):
        self.env.note_dependency("_toc.yml")
        number, slug = self.text.split("_", 1)
        page = f"book/{self.text}"
        if page in self.env.found_docs:
            target = {"refdomain": "std", "reftype": "doc", "refdoc": self.env.docname, "reftarget": f"/{page}"}
            title = addnodes.pending_xref("", nodes.inline(), refexplicit=False, refwarn=True, **target)
        else:
            title = nodes.inline("", subject(slug))
        return [nodes.inline("", f"Chapter {int(number)}: ", title, classes=["chapter"])], []


def subject(slug: str) -> str:
    """What a chapter that is not yet in the book is about: the first words of its module."""
    module = Path(find_spec(f"vaecourse.{slug}").origin)
    return re.match(r"[^.:,(]+", ast.get_docstring(ast.parse(module.read_text("utf-8"))))[0].strip()


class Defined(nodes.inline):
    """A link to a term, with its definition beside it."""


def visit_defined(self, node):
    self.body.append(f'<span class="term"><a class="reference internal" href="{node["uri"]}" aria-describedby="{node["tip"]}">')


def depart_defined(self, node):
    self.body.append(f'</a><span role="tooltip" id="{node["tip"]}">{escape(node["definition"])}</span></span>')


def depend_on_glossary(app, doctree):
    """Make a page with terms be read again when the glossary changes."""
    if any(link["reftype"] == "term" for link in doctree.findall(addnodes.pending_xref)):
        app.env.note_dependency(f"{PAGE}.md")


def define_terms(app, doctree, docname):
    """Put the definition of each linked term beside the link."""
    words = [word for word in doctree.findall(nodes.inline) if "std-term" in word["classes"]]
    terms = definitions(app.env.get_doctree(PAGE)) if words else {}
    for number, word in enumerate(words):
        link = word.parent
        uri = link.get("refuri") or f"#{link['refid']}"
        definition = terms[uri.partition("#")[2]]
        link.replace_self(Defined("", "", word, uri=uri, definition=definition, tip=f"definition-{number}"))


def definitions(glossary: nodes.document) -> dict[str, str]:
    """The definition of each term of the glossary, by the term's anchor."""
    return {
        anchor: item.next_node(nodes.paragraph).astext()
        for item in glossary.findall(nodes.definition_list_item)
        for term in item.findall(nodes.term)
        for anchor in term["ids"]
    }


def setup(app):
    for language in LANGUAGES:
        app.add_role(language, Translation())
    app.add_role("chapter", Chapter())
    app.add_node(Defined, html=(visit_defined, depart_defined))
    app.add_js_file(None, body=ESCAPE)
    app.connect("doctree-read", depend_on_glossary)
    app.connect("doctree-resolved", define_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
