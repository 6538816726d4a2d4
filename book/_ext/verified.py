"""Beside each labeled equation, what verifies it: the tests that carry `@pytest.mark.equation(label, oracle=...)`.

An equation is one of three things. It asserts something: it has a label, and a test. It is a definition: it has a label, and
the class `definition`. It asserts nothing new: it has no label, and the class `unnumbered`. `tests/test_book.py` holds this.
"""

import ast
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes

TESTS = Path(__file__).parents[2] / "tests"


@dataclass(frozen=True)
class Check:
    """One test of an equation: its file and name, and the independent answer it holds the equation against."""

    file: str
    test: str
    oracle: str | None


def checks(folder: Path = TESTS) -> dict[str, list[Check]]:
    """The tests of each equation label, read from the tests' source."""
    found = defaultdict(list)
    for file in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for label, oracle in filter(None, map(mark, node.decorator_list)):
                    found[label].append(Check(file.name, node.name, oracle))
    return dict(found)


def mark(decorator: ast.expr) -> tuple[str, str | None] | None:
    """Label and oracle of `@pytest.mark.equation(label, oracle=...)`; None for any other decorator."""
    if not (isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.equation"):
        return None
    oracle = next((word.value for word in decorator.keywords if word.arg == "oracle"), None)
    return ast.literal_eval(decorator.args[0]), oracle and ast.literal_eval(oracle)


def read_again(app, env, added, changed, removed):
    """The pages of the equations whose tests changed."""
    before, env.equation_checks = getattr(env, "equation_checks", {}), checks()
    equations = env.get_domain("math").equations
    return [name for label, (name, _) in equations.items() if before.get(label) != env.equation_checks.get(label)]


def add_marks(app, doctree, docname):
    """Put a small folded list after each labeled equation."""
    for equation in list(doctree.findall(nodes.math_block)):
        if label := equation.get("label"):
            html = mark_html(app.env.equation_checks.get(label, []))
            equation.parent.insert(equation.parent.index(equation) + 1, nodes.raw("", html, format="html"))
        equation["classes"].clear()  # themes style `definition` in their own way


def mark_html(tests: list[Check]) -> str:
    """The mark of an equation, as HTML; a definition has no tests."""
    if not tests:
        return '<p class="verified">definition</p>'
    items = "".join(
        f"<li>{escape(sentence(check.test))}"
        + (f", against {escape(check.oracle)}" if check.oracle else "")
        + f"<br><code>pytest tests/{check.file} -k {check.test}</code></li>"
        for check in tests
    )
    return f'<details class="verified"><summary>tested</summary><ul>{items}</ul></details>'


def sentence(test: str) -> str:
    """A test's name as the sentence it is."""
    return test.removeprefix("test_").replace("_", " ")


def setup(app):
    app.connect("env-get-outdated", read_again)
    app.connect("doctree-resolved", add_marks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
