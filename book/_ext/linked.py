"""{set}`turn rho to .9`: a phrase of the text sets a figure of the page to one of its states.

The figure names its states by these phrases, `explorable.figure(..., states={"turn rho to .9": {"rho": 0.9}})`. On paper the
phrase is text. In a lab it is a button of the figure (`notebooks/source/build_labs.py`).
"""

import json
import re
from html import escape, unescape

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

STATES = re.compile(r'<div class="explorable" id="([\w-]+)" data-states="([^"]*)"')

logger = logging.getLogger(__name__)


class Set(SphinxRole):
    """A button that looks like a phrase; which figure it moves is known when the whole page is read."""

    def run(self):
        node = nodes.inline("", self.text, classes=["sets"])
        self.set_source_info(node)
        return [node], []


def link(app, doctree: nodes.document) -> None:
    """Make the phrases of a page buttons; warn of those that no figure of the page knows."""
    known = {}
    for block in doctree.findall(nodes.raw):
        for figure, states in STATES.findall(block.astext()):
            for phrase, places in json.loads(unescape(states)).items():
                known[phrase] = figure, places
    for node in list(doctree.findall(lambda node: isinstance(node, nodes.inline) and "sets" in node["classes"])):
        phrase = node.astext()
        if phrase not in known:
            logger.warning(
                "{set}`%s`: no figure of the page has that state; there are: %s", phrase, "; ".join(known), location=node
            )
            continue
        figure, places = known[phrase]
        data = escape(json.dumps(places))
        html = f'<button type="button" class="sets" data-figure="{figure}" data-state="{data}">{escape(phrase)}</button>'
        node.replace_self(nodes.raw("", html, format="html"))


def setup(app):
    app.add_role("set", Set())
    app.add_js_file("linked.js", loading_method="defer")
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
