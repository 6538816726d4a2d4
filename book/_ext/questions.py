"""`{question}`: a question that the page itself checks, with no kernel, and with a message for each mistake it knows.

    ```{question} gaussian-kl
    How many nats is ...?

    right
    : Yes: ...

    sign
    : This is minus the divergence. ...
    ```

A cell with the tag `claims` computes what each answer would be, `answers("gaussian-kl", right=kl, sign=-kl)`
(`vaecourse.claims`). With the option `right: 2` it is a choice instead: the terms are what can be chosen, the second is right.
"""

import json
from html import escape

import claims
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class question(nodes.General, nodes.Element):
    """A question: its text, and for each answer a message."""


class Question(SphinxDirective):
    """Text, then a definition list: what may be answered, and what is said then."""

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012
        "right": directives.positive_int,
        "tolerance": directives.unchanged,
        "unit": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        *text, answers = parsed.children or [None]
        if not isinstance(answers, nodes.definition_list) or not text:
            raise self.error("a question is a text, then a definition list: each answer, and below it what is said to it")
        node = question("", name=self.arguments[0], **self.options)
        node += nodes.container("", *text, classes=["asked"])
        for item in answers:
            term, definition = item[0], item[-1]
            key = term.astext()
            message = nodes.container("", *definition.children, classes=["message"], key=key)
            node += [nodes.container("", nodes.inline("", "", *term.children), classes=["option"]), message]
        return [node]


def check(app, doctree: nodes.document) -> None:
    """Give each question the values of its answers; warn where a message has no value, or a value no message."""
    found = {}
    for _, _, printed in claims.cells(doctree, claims.TAG):
        said = [json.loads(line) for line in printed if line.startswith('{"question"')]
        found |= {one["question"]: one["answers"] for one in said}
    asked = {}
    for node in doctree.findall(question):
        name, keys = node["name"], [child["key"] for child in node if "message" in child["classes"]]
        asked[name] = node
        if "right" in node:
            if node["right"] > len(keys):
                logger.warning("question %r has %d answers, the right one is said to be %d", name, len(keys), node["right"])
            continue
        node["answers"] = found.get(name, {})
        if set(keys) - {"else"} != set(node["answers"]) or "right" not in keys:
            logger.warning(
                'question %r has messages for %s, and values of %s: write answers("%s", right=..., ...) in a cell with the '
                "tag claims, and a message for each",
                name,
                ", ".join(keys),
                ", ".join(node["answers"]) or "none",
                name,
                location=node,
            )
    for name in found.keys() - asked.keys():
        logger.warning("answers to %r are given, and the page does not ask it", name, location=app.env.docname)


def visit_question(self, node: question) -> None:
    name = node["name"]
    data = {"tolerance": float(node.get("tolerance", 0.01)), "answers": node.get("answers"), "right": node.get("right")}
    self.body.append(
        f'<form class="question" id="question-{name}" data-question="{escape(json.dumps(data))}" autocomplete="off">'
    )
    asked, *answers = node.children
    asked.walkabout(self)
    options, messages = answers[::2], answers[1::2]
    if "right" in node:
        self.body.append('<div class="answers" role="radiogroup" aria-label="Answers">')
        for place, option in enumerate(options):
            self.body.append(f'<label><input type="radio" name="answer" value="{place}"><span>')
            option[0].walkabout(self)
            self.body.append("</span></label>")
        self.body.append("</div>")
    else:
        unit = escape(node.get("unit", ""))
        self.body.append(
            '<div class="answers"><label>Your answer <input type="text" inputmode="decimal" name="answer"></label> '
            f'<span>{unit}</span> <button type="submit">Check</button></div>'
        )
    self.body.append('<div class="said" role="status">')
    for message in messages:
        self.body.append(f'<div class="message" data-key="{escape(message["key"])}" hidden>')
        for child in message.children:
            child.walkabout(self)
        self.body.append("</div>")
    self.body.append('<p class="message" data-key="" hidden></p></div></form>')
    raise nodes.SkipNode


def setup(app):
    app.add_node(question, html=(visit_question, None))
    app.add_directive("question", Question)
    app.add_js_file("questions.js", loading_method="defer")
    app.connect("doctree-read", check, priority=400)  # before the cells are taken away
    return {"parallel_read_safe": True, "parallel_write_safe": True}
