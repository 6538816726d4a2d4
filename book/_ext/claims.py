"""Claims: a sentence that says what a run showed stands beside its assertion, and answers when it is touched.

In the text, a caption or an alt text a sentence is marked, `[The error falls.]{#claim-fall}`. A cell with the tag `claims`
asserts it: `claim("fall", last < first, first=..., last=...)` (`vaecourse.claims`). The cell is taken off the page. A false
claim, a sentence without an assertion and an assertion without a sentence are warnings, and so errors of the build.
{number}`fall.last:.2f` writes a number of a claim, in a text, a caption or an alt text. What is left there of digits must
be a setting, which stands in the page's code.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import register
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

TAG = "claims"
PREFIX = "claim-"
NUMBER_IN_ALT = re.compile(r"\{number\}`([^`]+)`")
MARK_IN_ALT = re.compile(r"\[([^\[\]]*)\]\{#claim-([\w-]+)\}")
DIGITS = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """A sentence of a page, the code that asserts it, whether it holds, and the numbers that show it."""

    name: str
    holds: bool
    numbers: dict
    code: str
    sentence: str = ""

    @property
    def anchor(self) -> str:
        """Its place on its page."""
        return PREFIX + self.name

    @property
    def shown(self) -> str:
        """Its numbers, in words: first 2.31, last 0.402."""
        return ", ".join(f"{key.replace('_', ' ')} {written(value)}" for key, value in self.numbers.items())


def written(value, form: str = "") -> str:
    """A number as the page writes it: by a format, or with three digits, with a true minus."""
    if isinstance(value, list):
        return ", ".join(written(part, form) for part in value)
    if isinstance(value, str):
        return value
    if form or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 10_000):
        text = format(value, form)
    else:
        text = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


class Number(SphinxRole):
    """{number}`claim.key` or {number}`claim.key:.2f`: put in its place when the page's claims are known."""

    def run(self):
        return [nodes.inline("", "", classes=["number-of-claim"], number=self.text)], []


def cells(doctree: nodes.document, tag: str) -> Iterator[tuple[nodes.container, str, list[str]]]:
    """The cells of a page with a tag: node, source and the lines that it printed."""
    for cell in list(doctree.findall(nodes.container)):
        if cell.get("nb_element") == "cell_code" and f"tag_{tag}" in cell["classes"]:
            source, printed = "", []
            for block in cell.findall(nodes.literal_block):
                if "cell_input" in block.parent["classes"]:
                    source = block.rawsource or block.astext()
                else:
                    printed += block.astext().splitlines()
            yield cell, source, printed


def read(source: str, printed: list[str]) -> list[Claim]:
    """The claims that a cell printed, each with its code."""
    said = [json.loads(line) for line in printed if line.startswith('{"claim"')]
    code = codes(source)
    return [Claim(one["claim"], one["holds"], one["numbers"], code.get(one["claim"], source)) for one in said]


def codes(source: str) -> dict[str, str]:
    """The code of each claim of a cell: its call, after the lines of the cell that make what it compares."""
    found, before = {}, []
    for statement in ast.parse(source).body:
        text = ast.get_source_segment(source, statement)
        call = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "claim" and isinstance(call.args[0], ast.Constant):
            found[call.args[0].value] = "\n".join([*needed(statement, before), text])
        else:
            before.append((statement, text))
    return found


def needed(statement: ast.stmt, before: list[tuple[ast.stmt, str]]) -> list[str]:
    """Those of the earlier statements that bind a name which this one uses, or which one of those uses."""

    def names(tree: ast.AST) -> tuple[set[str], set[str]]:
        used, bound = set(), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.FunctionDef):
                bound.add(node.name)
        return used, bound

    wanted, kept = names(statement)[0], []
    for earlier, text in reversed(before):
        used, bound = names(earlier)
        if bound & wanted:
            wanted |= used
            kept.append(text)
    return kept[::-1]


def collect(app, doctree: nodes.document):
    """Read the page's claims, take their cells away, and put their numbers in place; warn of what does not stand."""
    page = app.env.docname
    claims, warn = {}, lambda text, place=None: logger.warning(text, location=place or page)
    sources = [block.astext() for block in doctree.findall(nodes.literal_block) if "cell_input" in block.parent["classes"]]
    settings = {number for source in sources for number in numbers_in(source)}
    for source in sources:
        for alt in alts_in(source):
            warn_of_digits(MARK_IN_ALT.sub("", alt), settings, "the alt text of a figure that moves", page)
    for cell, source, printed in cells(doctree, TAG):
        for claim in read(source, printed):
            if claim.name in claims:
                warn(f"two claims are named {claim.name!r}", cell)
            claims[claim.name] = claim
        cell.parent.remove(cell)

    def number(text: str, place) -> str:
        name, _, form = text.partition(":")
        name, _, key = name.partition(".")
        try:
            return written(claims[name].numbers[key], form)
        except KeyError:
            warn(f"{{number}}`{text}`: no claim of this page has that number", place)
            return "?"

    for node in list(doctree.findall(lambda node: isinstance(node, nodes.inline) and "number-of-claim" in node["classes"])):
        node["classes"].remove("number-of-claim")
        node["classes"].append("number")
        node += nodes.Text(number(node["number"], node))

    sentences = {}
    for node in doctree.findall(nodes.inline):
        for name in [name.removeprefix(PREFIX) for name in node["ids"] if name.startswith(PREFIX)]:
            if name in sentences:
                warn(f"two sentences are marked #{PREFIX}{name}", node)
            sentences[name] = node.astext(), node
            node["classes"].append("claim")
    for picture in list(doctree.findall(nodes.image)):
        alt = picture.get("alt") or ""
        warn_of_digits(MARK_IN_ALT.sub("", NUMBER_IN_ALT.sub("", alt)), settings, "the alt text", picture)
        alt = NUMBER_IN_ALT.sub(lambda match, place=picture: number(match[1], place), alt)
        for said, name in MARK_IN_ALT.findall(alt):
            sentences.setdefault(name, (said, picture))
            anchor = nodes.inline(ids=[PREFIX + name])  # where the list of all leads; the picture's own would stand twice
            picture.parent.insert(picture.parent.index(picture), anchor)
        if alt:
            picture["alt"] = MARK_IN_ALT.sub(r"\1", alt)
    for caption in doctree.findall(nodes.caption):
        warn_of_digits(own_words(caption), settings, "the caption", caption)

    for name, (said, place) in sentences.items():
        if name not in claims:
            warn(f'nothing asserts the sentence marked #{PREFIX}{name}: "{said}"', place)
    found = []
    for name, claim in claims.items():
        if name not in sentences:
            warn(f"claim {name!r}: no sentence of the page is marked #{PREFIX}{name}")
            continue
        said, place = sentences[name]
        found.append(replace(claim, sentence=" ".join(said.split())))
        if not claim.holds:
            warn(f'a claim is false: "{found[-1].sentence}"\n{claim.code}\n{claim.shown}', place)
    app.env.metadata[page]["claims"] = found


def numbers_in(source: str) -> Iterator[float]:
    """The numbers that stand in a cell's code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield abs(float(node.value))


def alts_in(source: str) -> Iterator[str]:
    """The words of `alt=` in a cell's code, without what an f-string computes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "alt":
            parts = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
            yield " ".join(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


def own_words(node: nodes.Node) -> str:
    """The words of a caption that are neither claimed nor computed, nor mathematics, code or a reference."""
    if isinstance(node, nodes.Text):
        return str(node)
    spared = nodes.math | nodes.literal | nodes.reference | nodes.raw
    if isinstance(node, spared) or {"claim", "number"} & set(node.get("classes", [])) or "xref" in node.tagname:
        return " "
    return "".join(own_words(child) for child in node.children)


def warn_of_digits(text: str, settings: set[float], where: str, place) -> None:
    """Warn of numbers that nothing computes or asserts."""
    loose = [digits for digits in DIGITS.findall(text) if float(digits.replace(",", "")) not in settings]
    if loose:
        logger.warning(
            "%s has numbers that nothing computes or asserts: %s. Write them by {number}`claim.key`, or mark the words "
            "as a claim; what the page's code sets may stand as it is",
            where,
            ", ".join(loose),
            location=place,
        )


def of(env) -> dict[str, list[Claim]]:
    """The claims of each page that has any, in the order of the book."""
    return {page: found for page in env.titles if (found := env.metadata[page].get("claims"))}


def in_lab(root: Path, page: str) -> int:
    """How many claims the lab of a chapter makes."""
    text = Path(root, "notebooks", "source", "labs", f"{page.rpartition('/')[2]}.md")
    return len(re.findall(r"\]\{#claim-", text.read_text("utf-8"))) if text.exists() else 0


def add_evidence(app, doctree: nodes.document, docname: str):
    """Put behind each claimed sentence what opens when it is touched."""
    found = {claim.anchor: claim for claim in app.env.metadata[docname].get("claims", [])}
    for node in list(doctree.findall(lambda node: isinstance(node, nodes.inline) and "claim" in node["classes"])):
        claim = found.get(node["ids"][0])
        if claim:
            html = evidence(app, docname, claim)
            node.parent.insert(node.parent.index(node) + 1, nodes.raw("", html, format="html"))


def evidence(app, docname: str, claim: Claim) -> str:
    """The assertion and the numbers of a claim, as a box that opens over the text."""
    links = "".join(
        f'<span><a href="{app.builder.get_relative_uri(docname, page)}#{row_anchor(docname, claim)}">'
        "Every equation and every claim</a></span>"
        for page in register.table_pages(app.env)
    )
    identity = f"evidence-{claim.name}"
    return (
        f'<button type="button" class="claim-sign" popovertarget="{identity}" aria-label="what shows this"></button>'
        f'<span class="claim-evidence" id="{identity}" popover="auto" role="note">'
        f"<span>Asserted when this page was built, and it holds:</span><code>{escape(claim.code)}</code>"
        f'<span class="numbers">{escape(claim.shown)}</span>{links}</span>'
    )


def row_anchor(page: str, claim: Claim) -> str:
    """The place of a claim in the list of all."""
    return f"{register.slug(page)}-{claim.anchor}"


def setup(app):
    app.add_css_file("claims.css")
    app.add_js_file("claims.js", loading_method="defer")
    app.add_role("number", Number())
    app.connect("doctree-read", collect)
    app.connect("doctree-resolved", add_evidence)
    return {"env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
