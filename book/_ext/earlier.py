"""`{takes}`: what a chapter takes from earlier ones; `{gives}`: what later ones take from it, which is found by itself.

```{takes}
eq-pca-dropped the error of PCA is the variance that it drops
```
"""

import register
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class Takes(SphinxDirective):
    """A list of equations of earlier chapters, each with what it says."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        taken = [line.partition(" ")[::2] for line in self.content if line.strip()]
        for label, said in taken:
            if not said.strip():
                raise self.error(f"{label}: say in words what is taken")
        self.env.metadata[self.env.docname].setdefault("takes", []).extend(label for label, _ in taken)
        title = nodes.paragraph("", "", nodes.strong("", "From earlier chapters"), classes=["forms-title"])
        box, items = nodes.container("", title, classes=["earlier"]), nodes.bullet_list()
        for label, said in taken:
            text, _ = self.state.inline_text(f"{{eq}}`{label}` {said.strip()}", self.lineno)
            items += nodes.list_item("", nodes.paragraph("", "", *text))
        box += items
        return [box]


class Gives(SphinxDirective):
    """Leave room for the list: it is made when all pages are read."""

    def run(self) -> list[nodes.Node]:
        return [nodes.container(classes=["gives"])]


def check(app, env) -> None:
    """Warn of equations that are taken from a later chapter, or from the same one."""
    equations = env.get_domain("math").equations
    for page, fields in env.metadata.items():
        for label in fields.get("takes", []):
            source, _ = equations.get(label, ("", 0))
            if source >= page:  # 07_vae comes after 03_elbo
                logger.warning("%s is no equation of an earlier chapter, but of %s", label, source, location=page)


def fill(app, doctree: nodes.document, docname: str) -> None:
    """Write which equations of a page later chapters take, with links to these chapters."""
    env = app.env
    for room in list(doctree.findall(lambda node: isinstance(node, nodes.container) and "gives" in node["classes"])):
        html = ""
        for equation in register.equations(env, env.equation_register):
            pages = [page for page in sorted(env.titles) if equation.label in env.metadata[page].get("takes", [])]
            if equation.page == docname and pages:
                links = ", ".join(
                    f'<a href="{app.builder.get_relative_uri(docname, page)}">{title(env, page)}</a>' for page in pages
                )
                html += f'<li><a href="#{equation.anchor}">({equation.number})</a> in {links}</li>'
        if html:
            html = f'<div class="earlier"><p class="forms-title"><strong>In later chapters</strong></p><ul>{html}</ul></div>'
        room.replace_self(nodes.raw("", html, format="html"))


def title(env, page: str) -> str:
    chapter = env.toc_secnumbers.get(page, {}).get("", ())
    return f"chapter {chapter[0]}" if chapter else register.slug(page)


def setup(app):
    app.add_directive("takes", Takes)
    app.add_directive("gives", Gives)
    app.connect("env-check-consistency", check)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
