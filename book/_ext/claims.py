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
        return [nodes.inline("", "", classes=["number"], number=self.text)], []


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
    claims = take(doctree)
    fill(doctree, claims)
    warn_of_loose_digits(app.env.docname, doctree)  # the cells of claims are gone: a bound in a condition is no setting
    sentences = marked(doctree, claims)
    for name, (said, place) in sentences.items():
        if name not in claims:
            logger.warning('nothing asserts the sentence marked #%s%s: "%s"', PREFIX, name, said, location=place)
    found = []
    for name, (claim, cell) in claims.items():
        if name not in sentences:
            logger.warning("claim %r: no sentence of the page is marked #%s%s", name, PREFIX, name, location=cell)
            continue
        said, place = sentences[name]
        found.append(replace(claim, sentence=said))
        if not claim.holds:
            logger.warning('a claim is false: "%s"\n%s\n%s', said, claim.code, claim.shown, location=place)
    app.env.metadata[app.env.docname]["claims"] = found


Known = dict[str, tuple[Claim, nodes.container]]


def take(doctree: nodes.document) -> Known:
    """The claims of a page, by name, with their cells, which are taken away."""
    claims: Known = {}
    for cell, source, printed in cells(doctree, TAG):
        for claim in read(source, printed):
            if claim.name in claims:
                logger.warning("two claims are named %r", claim.name, location=cell)
            claims[claim.name] = claim, cell
        cell.parent.remove(cell)
    return claims


def number(text: str, claims: Known, place: nodes.Node) -> str:
    """What {number}`text` writes."""
    name, _, form = text.partition(":")
    name, _, key = name.partition(".")
    if name not in claims or key not in claims[name][0].numbers:
        logger.warning("{number}`%s`: no claim of this page has that number", text, location=place)
        return "?"
    return written(claims[name][0].numbers[key], form)


def fill(doctree: nodes.document, claims: Known) -> None:
    """Write the numbers of claims into the text."""
    for node in doctree.findall(nodes.inline):
        if "number" in node:
            node += nodes.Text(number(node["number"], claims, node))


def marked(doctree: nodes.document, claims: Known) -> dict[str, tuple[str, nodes.Node]]:
    """The marked sentences of a page by name, each with its place; alternative texts are left without marks."""
    sentences: dict[str, tuple[str, nodes.Node]] = {}

    def keep(name: str, said: str, place: nodes.Node) -> None:
        if name in sentences:
            logger.warning("two sentences are marked #%s%s", PREFIX, name, location=place)
        sentences[name] = " ".join(said.split()), place

    for node in doctree.findall(nodes.inline):
        for anchor in [anchor for anchor in node["ids"] if anchor.startswith(PREFIX)]:
            keep(anchor.removeprefix(PREFIX), node.astext(), node)
            node["classes"].append("claim")
    for picture in [picture for picture in doctree.findall(nodes.image) if picture.get("alt")]:
        alt = NUMBER_IN_ALT.sub(lambda found, place=picture: number(found[1], claims, place), picture["alt"])
        for said, name in MARK_IN_ALT.findall(alt):
            keep(name, said, picture)
            anchor = nodes.inline(ids=[PREFIX + name])  # where the list of all leads; the picture's own would stand twice
            picture.parent.insert(picture.parent.index(picture), anchor)
        picture["alt"] = MARK_IN_ALT.sub(r"\1", alt)
    return sentences


def warn_of_loose_digits(page: str, doctree: nodes.document) -> None:
    """Warn of numbers in captions and alternative texts that nothing computes or asserts, and that no cell of the page sets."""
    sources = [block.astext() for block in doctree.findall(nodes.literal_block) if "cell_input" in block.parent["classes"]]
    settings = {number for source in sources for number in numbers_in(source)}
    texts = [("the alt text of a figure that moves", alt, page) for source in sources for alt in alts_in(source)]
    for picture in doctree.findall(nodes.image):
        texts.append(("the alt text", MARK_IN_ALT.sub("", NUMBER_IN_ALT.sub("", picture.get("alt") or "")), picture))
    texts += [("the caption", own_words(caption), caption) for caption in doctree.findall(nodes.caption)]
    for where, text, place in texts:
        loose = [digits for digits in DIGITS.findall(text) if float(digits.replace(",", "")) not in settings]
        if loose:
            logger.warning(
                "%s has numbers that nothing computes or asserts: %s. Write them by {number}`claim.key`, or mark the words "
                "as a claim; what the page's code sets may stand as it is",
                where,
                ", ".join(loose),
                location=place,
            )


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
    claimed = any(anchor.startswith(PREFIX) for anchor in node.get("ids", []))
    if isinstance(node, spared) or claimed or "number" in node or "xref" in node.tagname:
        return " "
    return "".join(own_words(child) for child in node.children)


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
    return {"env_version": 3, "parallel_read_safe": True, "parallel_write_safe": True}
