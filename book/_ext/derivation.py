r"""`{derivation}`: a chain of equalities, each line with its reason.

    ```{derivation}
    \log p(x) &= \log \int p(x, z)\, dz  % the evidence is the joint, integrated
    &= \log \mathbb E_q[p(x, z) / q(z)]  % multiply and divide by $q$
    ```

A line begins where there is an `&`, before which stands what it is equal to; it may go on in further lines. After the
`%` stands why it holds, as text. The option `fold` folds it away, under a title.
"""

import re
from html import escape

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


def steps(lines: list[str]) -> list[tuple[str, str, str]]:
    """Left side, right side and reason of each line of a derivation. Raises ValueError for a text that begins with none."""
    found = []
    for line in filter(str.strip, lines):
        mathematics, _, reason = re.match(r"((?:\\.|[^%\\])*)(%?)(.*)", line).groups()
        left, ampersand, right = split(mathematics)
        if ampersand:
            found.append([left.strip(), right.strip(), reason.strip()])
        elif not found:
            raise ValueError(f"a derivation begins with a line that has an &, got {line!r}")
        else:
            found[-1][1] += " " + left.strip()
            found[-1][2] = " ".join(filter(None, [found[-1][2], reason.strip()]))
    return [tuple(step) for step in found]


def split(mathematics: str) -> tuple[str, str, str]:
    r"""A line at its first & that is neither escaped nor inside braces or an environment."""
    depth = 0
    for token in re.finditer(r"\\(begin|end)\{\w+\*?\}|\\.|[{}&]", mathematics):
        depth += {"{": 1, "}": -1}.get(token[0], 0) + {"begin": 1, "end": -1}.get(token[1], 0)
        if token[0] == "&" and depth == 0:
            return mathematics[: token.start()], "&", mathematics[token.end() :]
    return mathematics, "", ""


class Derivation(SphinxDirective):
    """The lines as a grid of three columns; a narrow screen puts the reason below its line."""

    has_content = True
    option_spec = {"fold": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        grid = nodes.container(classes=["lines"])
        try:
            found = steps(list(self.content))
        except ValueError as error:
            raise self.error(str(error)) from error
        for number, (left, right, reason) in enumerate(found):
            if number and not reason:
                logger.warning(
                    "a line of a derivation has no reason (after %%): %s", right, location=(self.env.docname, self.lineno)
                )
            line = nodes.container(classes=["step"])
            line += self.cell("left", mathematics(left) if left else [])
            line += self.cell("right", mathematics("{}" + right))
            line += self.cell("reason", self.state.inline_text(reason, self.lineno)[0] if reason else [])
            grid += line
        whole = nodes.container("", grid, classes=["derivation"])
        if "fold" not in self.options:
            return [whole]
        opening = f'<details class="derivation-fold"><summary>{escape(self.options["fold"])}</summary>'
        return [nodes.raw("", opening, format="html"), whole, nodes.raw("", "</details>", format="html")]

    def cell(self, name: str, content: list[nodes.Node]) -> nodes.container:
        return nodes.container("", nodes.paragraph("", "", *content), classes=[name])


def mathematics(tex: str) -> list[nodes.Node]:
    """Displayed size, within a line."""
    return [nodes.math("", rf"\displaystyle {tex}")]


def setup(app):
    app.add_directive("derivation", Derivation)
    app.add_css_file("forms.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
