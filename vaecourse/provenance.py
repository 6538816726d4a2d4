"""Which code a result comes from: the package's modules that a piece of Python depends on, and one hash of them.

Everything is read from the source text; nothing is imported. Comments, docstrings, blank lines and trailing spaces do not
count, so that rewording a docstring makes no stored result stale; nor does the package's own `__init__`, which only lists
the modules. The hash is the same under every Python that runs the book.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent
PACKAGE = __package__


def path(module: str) -> Path | None:
    """The file of a module of this package, by its dotted name; None where there is none."""
    base = ROOT.joinpath(*module.split(".")[1:])
    candidates = base / "__init__.py", base.with_suffix(".py")
    return next((file for file in candidates if file.is_file()), None) if module.split(".")[0] == PACKAGE else None


def name(file: Path) -> str:
    """The dotted name of the module in a file of this package, or of the package in a folder."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGE, *(parts[:-1] if parts[-1:] == ("__init__",) else parts)])


def imports(source: str, module: str | None = None) -> set[str]:
    """The package's modules that Python source imports directly; `module` is its own name, for relative imports."""
    names = set()
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module)
            for name in (f"{base}.{alias.name}" for alias in node.names):
                names.add(name if path(name) else base)  # a module of a package, or what a module holds
        elif isinstance(node.value, ast.Name) and node.value.id == PACKAGE:
            names.add(f"{PACKAGE}.{node.attr}")  # `import vaecourse`, then `vaecourse.vae`
    return {name for name in names if name != PACKAGE and path(name)}


@cache
def _nodes(source: str) -> list[ast.Import | ast.ImportFrom | ast.Attribute]:
    """The statements and expressions of Python source that may name a module."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute)]


def _base(node: ast.ImportFrom, module: str | None) -> str:
    """The absolute name that a `from ... import` starts from."""
    if not node.level:
        return node.module or ""
    if module is None:
        raise ValueError(f"line {node.lineno} imports relative to a module that was not named")
    parents = module.split(".")
    package = parents if path(module).name == "__init__.py" else parents[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def closure(modules: Iterable[str]) -> set[str]:
    """The given modules with all that they import inside the package, transitively, and the packages they lie in."""
    found, waiting = set(), set(modules)
    while waiting:
        module = waiting.pop()
        found.add(module)
        file = path(module)
        if file is None:
            raise ModuleNotFoundError(f"{module} is not a module of {PACKAGE}")
        waiting |= imports(file.read_text("utf-8"), module) | ({module.rpartition(".")[0]} - {PACKAGE})
        waiting -= found
    return found


@cache  # a book of many pages, and a suite of many results, ask for the same modules
def code(source: str) -> str:
    """Python source without comments, docstrings, blank lines and trailing spaces."""
    lines = [list(line) for line in source.split("\n")]
    at_start, string = True, None  # a statement begins here; it has been one lone string so far
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            _blank(lines, token)
        elif token.type == tokenize.NEWLINE:
            if string:
                _blank(lines, string)
            at_start, string = True, None
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            string = token if at_start and token.type == tokenize.STRING else None
            at_start = False
    stripped = ("".join(line).rstrip() for line in lines)
    return "\n".join(line for line in stripped if line)


def _blank(lines: list[list[str]], token: tokenize.TokenInfo) -> None:
    """Overwrite a token with spaces."""
    (first, start), (last, end) = token.start, token.end
    for number in range(first, last + 1):
        line = lines[number - 1]
        left, right = (start if number == first else 0), (end if number == last else len(line))
        line[left:right] = " " * (right - left)


def code_hash(modules: Iterable[str]) -> str:
    """SHA-256 of the code (see `code`) of the modules and of all that they import inside the package.

    A module's script and style, explorable.js beside explorable.py, are part of it.
    """
    digest = hashlib.sha256()
    for module in sorted(closure(modules)):
        file = path(module)
        digest.update(f"{module}\n{code(file.read_text('utf-8'))}\n".encode())
        for part in filter(Path.exists, (file.with_suffix(".css"), file.with_suffix(".js"))):
            digest.update(part.read_bytes())
    return digest.hexdigest()
