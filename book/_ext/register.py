"""What implements each equation and what tests it, read from the source of the package and of its tests.

A function of `vaecourse` implements the equations whose labels its docstring names. A test verifies those of its marks,
`@pytest.mark.equation(label, oracle="quadrature in x and z")`; an oracle begins with its kind. There is no other register.
Nothing is imported.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from docutils import nodes

KINDS = {
    "closed form": "a formula for the answer, derived or known",
    "derivation by hand": "numbers and gradients worked out on paper",
    "quadrature": "the integral itself, on a grid or by an adaptive rule",
    "enumeration": "the sum over all outcomes there are",
    "finite differences": "the slope between two values close together",
    "numeric search": "no other candidate is found to do better",
    "another library": "the same quantity by SciPy, scikit-learn or PyTorch",
    "independent code": "the same quantity, written again from its definition",
    "simulation": "many draws, within a stated rate of false alarms",
    "known case": "an input built so that the answer is known beforehand",
}

NAMES = """A B AEVB AIS Bayes BDMC Bernoulli BiGAN CAVI EBM ELBO EM EMA Fréchet GAN Gaussian HMC IWAE Jensen JS KL Langevin
MALA MIG MMD NCP R Rényi SAP SVD TC"""
SPELLING = {normalize("NFKD", name).encode("ascii", "ignore").decode().lower(): name for name in NAMES.split()}


@dataclass(frozen=True)
class Place:
    """A function, class or test, by its file and qualified name; its lines may move."""

    file: str
    name: str
    first: int = field(compare=False)
    last: int = field(compare=False)

    @property
    def module(self) -> str:
        """The file's name within its folder, as Python writes it: vae, vq_vae.model, test_vae."""
        return ".".join(Path(self.file).with_suffix("").parts[1:]).removesuffix(".__init__")

    @property
    def sentence(self) -> str:
        """The name of a test as the sentence it is."""
        return self.name.rpartition(".")[2].removeprefix("test_").replace("_", " ")


@dataclass(frozen=True)
class Check:
    """A test of an equation, and the independent answer that it holds the equation against."""

    place: Place
    oracle: str | None

    @property
    def kind(self) -> str | None:
        """The kind with which the oracle begins; None where it begins with none."""
        return next((kind for kind in KINDS if re.match(rf"{kind}\b", self.oracle or "")), None)


@dataclass(frozen=True)
class Register:
    """The functions that implement each label and the tests that verify it."""

    functions: dict[str, list[Place]]
    checks: dict[str, list[Check]]

    def of(self, label: str) -> tuple[list[Place], list[Check]]:
        """The functions and the tests of one label."""
        return self.functions.get(label, []), self.checks.get(label, [])


def read(root: Path) -> Register:
    """The register of `vaecourse/` and `tests/` in a folder."""
    functions, checks = defaultdict(list), defaultdict(list)
    for place, node in definitions(root, "vaecourse", "**/*.py"):
        for label in dict.fromkeys(re.findall(r"\beq-\w+(?:-\w+)+", docstrings(node))):
            functions[label].append(place)
    for place, node in definitions(root, "tests", "**/test_*.py"):
        for label, oracle in filter(None, map(mark, node.decorator_list)):
            checks[label].append(Check(place, oracle))
    return Register(dict(functions), dict(checks))


def definitions(root: Path, folder: str, pattern: str) -> Iterator[tuple[Place, ast.AST]]:
    """All functions and classes, nested ones too, in those files of a folder that name an equation."""

    def below(tree: ast.AST, file: str, prefix: str) -> Iterator[tuple[Place, ast.AST]]:
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                yield Place(file, prefix + node.name, first, node.end_lineno), node
                yield from below(node, file, f"{prefix}{node.name}.")

    for file in sorted(root.joinpath(folder).glob(pattern)):
        text = file.read_text("utf-8")
        if "eq-" in text:
            yield from below(ast.parse(text), file.relative_to(root).as_posix(), "")


def docstrings(node: ast.AST) -> str:
    """A function's docstring, or a class's and those below its attributes."""
    return "\n".join(
        part.value.value
        for part in node.body
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)
    )


def mark(decorator: ast.expr) -> tuple[str, str | None] | None:
    """Label and oracle of `@pytest.mark.equation(label, oracle=...)`; None for any other decorator."""
    if not (isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.equation"):
        return None
    oracle = next((word.value for word in decorator.keywords if word.arg == "oracle"), None)
    return ast.literal_eval(decorator.args[0]), oracle and ast.literal_eval(oracle)


@dataclass(frozen=True)
class Equation:
    """A labeled equation of the book: its page, its number there, what implements it and what tests it."""

    label: str
    page: str
    number: str
    functions: list[Place]
    checks: list[Check]

    @property
    def anchor(self) -> str:
        """Its place on its page."""
        return nodes.make_id(f"equation-{self.label}")

    @property
    def name(self) -> str:
        """What its label says: Gaussian KL for eq-vae-gaussian-kl."""
        words = [SPELLING.get(word, word) for word in self.label.removeprefix(f"eq-{slug(self.page)}-").split("-")]
        return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def equations(env, register: Register) -> list[Equation]:
    """The labeled equations of a book, page by page in the order of their numbers."""
    found = []
    for label, (page, count) in env.get_domain("math").equations.items():
        numbers = env.toc_fignumbers.get(page, {}).get("displaymath", {})
        number = ".".join(map(str, numbers.get(nodes.make_id(f"equation-{label}"), [count])))
        found.append((page, count, Equation(label, page, number, *register.of(label))))
    return [equation for *_, equation in sorted(found, key=lambda item: item[:2])]


def table_pages(env) -> list[str]:
    """The pages with a table of all equations and claims; one, or in a part of the book none."""
    return [page for page, fields in sorted(env.metadata.items()) if "equation-table" in fields]


def displayed(doctree: nodes.document) -> list[nodes.math_block]:
    """The displayed equations of a page as it was read."""
    return list(doctree.findall(nodes.math_block))


def slug(page: str) -> str:
    """The name of a page in its labels: vq_vae for book/11_vq_vae."""
    return re.sub(r"^(?:.*/)?(?:\d\d_)?", "", page)


def faults(page: str, equations: Iterable[nodes.math_block], register: Register) -> list[str]:
    """What is wrong with the equations of a page and their tests; an empty list where nothing is."""
    prefix, found, labels = f"eq-{slug(page)}-", [], {}
    for equation in equations:
        label = equation.get("label")
        if label:
            labels[label] = "definition" in equation["classes"]
        if label and not re.fullmatch(rf"{prefix}[a-z0-9-]+", label):
            found.append(f"{label}: the label of an equation on {page} begins with {prefix}")
        if not label and "unnumbered" not in equation["classes"]:
            found.append(f"{equation.astext()}: neither a label nor the class unnumbered")
    for label, defines in labels.items():
        functions, checks = register.of(label)
        if defines and checks:
            found.append(f"{label}: a definition asserts nothing, yet {checks[0].place.name} tests it")
        if not defines and not checks:
            found.append(f'{label}: no test has @pytest.mark.equation("{label}", oracle=...), and it is no definition')
        if checks and not functions:
            found.append(f"{label}: tested, yet no docstring of a function of vaecourse names it")
    for label in sorted(register.checks.keys() - labels.keys()):
        if label.startswith(prefix):
            found.append(f"{label}: {register.checks[label][0].place.name} tests it, and {page} has no such equation")
    return found


def oracle_faults(register: Register) -> list[str]:
    """The tests whose oracle begins with none of the kinds."""
    return [
        f"{check.place.file}, {check.place.name}: the oracle of {label} is {check.oracle!r}; begin it with {', '.join(KINDS)}"
        for label, checks in register.checks.items()
        for check in checks
        if not check.kind
    ]
