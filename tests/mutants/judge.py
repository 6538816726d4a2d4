"""Is each function that computes an equation held by its tests? `make mutants` tries.

A mutant is the function with one change: + for -, < for <=, another number, an argument left out (mutmut makes them). The
tests that call it judge it: those of its equations first, then the quick ones of its test files; a mutant that they all pass
survives. pytest collects once; each mutant is judged in a forked process, as many side by side as there are cores.

`scores.json` keeps what was found, with the hash of each function and of its tests: a run goes on where the last one stopped,
and judges what has changed. `equivalent.toml` lists the mutants that compute the same, each with the reason; they do not count.

    python tests/mutants/judge.py                     all functions
    python tests/mutants/judge.py vaecourse.elbo fvi  those whose name has one of these words
    python tests/mutants/judge.py --survivors         of unchanged functions what survived alone: after tests were added
"""

import ast
import hashlib
import inspect
import json
import os
import resource
import selectors
import signal
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryFile
from types import CodeType, FunctionType
from typing import TextIO

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the processes share the cores

import libcst as cst
import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation.file_mutation import create_mutations

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT / "tests")]

import register  # noqa: E402

SCORES = HERE / "scores.json"
EQUIVALENT = HERE / "equivalent.toml"
MEMORY = 6 << 30  # bytes that a mutant may take beyond what the parent has
LONG = 3  # seconds: a test that takes more judges only mutants of its own equations
PATIENCE = 10  # times the seconds of the unchanged function's tests; an endless loop is a killed mutant, too


@dataclass(frozen=True)
class Mutant:
    """A changed function: the line that differs, before and after, and the whole source."""

    line: int
    before: str
    after: str
    source: str = field(repr=False)


@dataclass
class Target:
    """A function that computes equations: its file and name there, the tests of its equations, and its test files."""

    file: str
    name: str
    own: set[str]
    files: set[str]

    @property
    def key(self) -> str:
        """vaecourse.vae.VAE.elbo."""
        return f"{'.'.join(Path(self.file).with_suffix('').parts).removesuffix('.__init__')}.{self.name}"


def targets() -> list[Target]:
    """The functions that the register names, each once; of a class, its methods."""
    known = register.read(ROOT)
    found: dict[tuple[str, str], Target] = {}
    for label, places in known.functions.items():
        own = {f"{check.place.file}::{check.place.name.replace('.', '::')}" for check in known.checks.get(label, [])}
        for place in places:
            for name in methods(place):
                files = {test.partition("::")[0] for test in own} | own_test_file(place.file)
                target = found.setdefault((place.file, name), Target(place.file, name, set(), set()))
                target.own |= own
                target.files |= files
    return sorted(found.values(), key=lambda target: target.key)


def methods(place: register.Place) -> list[str]:
    """The function itself; of a class, the functions that stand in it; of a function inside another, the outer one."""
    body, path = ast.parse((ROOT / place.file).read_text("utf-8")), place.name.split(".")
    node: ast.AST = body
    for depth, part in enumerate(path):
        if isinstance(node, ast.FunctionDef):
            return [".".join(path[:depth])]
        node = next(child for child in node.body if getattr(child, "name", None) == part)
    if isinstance(node, ast.FunctionDef):
        return [place.name]
    return [f"{place.name}.{child.name}" for child in node.body if isinstance(child, ast.FunctionDef)]


def own_test_file(file: str) -> set[str]:
    """tests/test_vae.py for vaecourse/vae.py, tests/ground/test_networks.py for vaecourse/networks.py."""
    slug = Path(file).parts[1].removesuffix(".py")
    places = (f"tests/test_{slug}.py", f"tests/ground/test_{slug}.py", f"tests/book/test_{slug}.py")
    return {place for place in places if (ROOT / place).exists()}


def source_of(target: Target) -> tuple[str, int]:
    """The function's source without decorators and default values, which are no part of its code; its first line."""
    text = (ROOT / target.file).read_text("utf-8")
    node: ast.AST = ast.parse(text)
    for part in target.name.split("."):
        node = next(child for child in node.body if getattr(child, "name", None) == part)
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines)) + "\n", node.lineno


def mutants(source: str, first_line: int) -> Iterator[Mutant]:
    """The mutants of a function; not those of its words: docstring, error messages, names of keys, annotations, defaults."""
    module, mutations, *_ = create_mutations("function.py", source)
    spared = set()
    for node in _walk(module):
        if isinstance(node, cst.Param | cst.Annotation | cst.Raise | cst.Decorator | cst.Assert | cst.BaseString):
            spared |= {id(child) for child in _walk(node)}
    seen = set()
    for mutation in mutations:
        if id(mutation.original_node) in spared:
            continue
        changed = module.deep_replace(mutation.original_node, mutation.mutated_node).code
        if changed in seen or changed == source:
            continue
        seen.add(changed)
        old, new = source.splitlines(), changed.splitlines()
        start = next(i for i, (a, b) in enumerate(zip([*old, None], [*new, None], strict=False)) if a != b)
        yield Mutant(first_line + start, old[start].strip(), new[start].strip() if start < len(new) else "", changed)


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _walk(child)


def function_of(target: Target) -> FunctionType:
    """The function that Python runs, under its decorators."""
    module = import_module(target.key.removesuffix(f".{target.name}"))
    owner, (*outer, last) = module, target.name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    found = inspect.getattr_static(owner, last)
    found = getattr(found, "__func__", None) or getattr(found, "fget", None) or getattr(found, "func", None) or found
    return inspect.unwrap(found)


def code_of(target: Target, source: str, original: CodeType) -> CodeType:
    """The compiled mutant, as a method of its class where it is one, so that `super()` means the same."""
    for owner in reversed(target.name.split(".")[:-1]):
        source = f"class {owner}:\n{textwrap.indent(source, '    ')}"
    found = compile(source, original.co_filename, "exec", dont_inherit=True)
    for part in target.name.split("."):
        found = next(const for const in found.co_consts if isinstance(const, CodeType) and const.co_name == part)
    return found


# Which tests call which function


def instrumented(target: Target) -> CodeType:
    """The function's code, which first notes that it was called."""
    source, _ = source_of(target)
    tree = ast.parse(source)
    body = tree.body[0].body
    words = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str)
    note = ast.parse(f"__import__('sys').called_by_test.add({target.key!r})").body
    body[words:words] = note
    return code_of(target, ast.unparse(tree), function_of(target).__code__)


def survey(wanted: list[Target], items: list[pytest.Item]) -> dict[str, tuple[list[pytest.Item], float]]:
    """The tests of each function, and their seconds in all: those that call it, and those that share a fixture with these.

    A fixture that is made once, that is: only the first test that asks for it calls what makes it. The tests of the function's
    equations come first, then the quick before the long; the very long are left out.
    """
    by_file: dict[str, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.nodeid.partition("::")[0], []).append(item)
    seconds, calls = {}, {}
    for found in run([partial(watched, wanted, part) for part in by_file.values()], [1800] * len(by_file)):
        if found.said is None:
            raise RuntimeError(f"{list(by_file)[found.place]} did not run to its end")
        for nodeid, said in found.said.items():
            if said is None:
                print(f"not used, it fails without any mutant: {nodeid}", flush=True)
            else:
                seconds[nodeid], calls[nodeid] = said
    items, chosen = [item for item in items if item.nodeid in calls], {}
    for target in wanted:
        callers = [item for item in items if target.key in calls[item.nodeid]]
        shared = {id(made) for item in callers for made in made_once(item)}
        also = [item for item in items if item not in callers and shared & {id(made) for made in made_once(item)}]
        rank = {item.nodeid: (item.nodeid.partition("[")[0] not in target.own, seconds[item.nodeid]) for item in callers + also}
        tests = sorted(
            (item for item in callers + also if rank[item.nodeid] < (True, LONG)), key=lambda item: rank[item.nodeid]
        )
        chosen[target.key] = tests, sum(seconds[item.nodeid] for item in tests)
    return chosen


def made_once(item: pytest.Item) -> list:
    """The fixtures of a test that other tests share: of its module, its class, the session."""
    defined = item._fixtureinfo.name2fixturedefs.values()
    return [defs[-1] for defs in defined if defs[-1].scope != "function" and defs[-1].baseid]


def watched(wanted: list[Target], items: list[pytest.Item]) -> dict:
    """Run tests: of each its seconds and the functions that it called, or None where it fails in this way of running."""
    for target in wanted:
        function_of(target).__code__ = instrumented(target)
    found = {}
    for item, after in zip(items, [*items[1:], None], strict=True):
        sys.called_by_test = set()
        began = time.monotonic()
        failed = any(report.failed for report in runtestprotocol(item, log=False, nextitem=after))
        found[item.nodeid] = None if failed else (time.monotonic() - began, sorted(sys.called_by_test))
    return found


# Judging


def passes(target: Target, mutant: Mutant, items: list[pytest.Item]) -> bool | None:
    """Run the tests with the mutant in the function's place, until one fails; None then."""
    function = function_of(target)
    try:
        function.__code__ = code_of(target, mutant.source, function.__code__)
    except ValueError:  # another number of free variables: the change cuts a name out
        return None
    for item, after in zip(items, [*items[1:], None], strict=True):
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
            return None
    return True


@dataclass
class Found:
    """What the process of a job said, in JSON; None if it failed, or did not end."""

    place: int
    said: object


def run(jobs: list[Callable[[], object]], seconds: list[float]) -> Iterator[Found]:
    """Call each job in a forked process, as many at a time as there are cores; each has its seconds at most."""
    waiting, at_work = list(enumerate(jobs))[::-1], {}
    try:
        while waiting or at_work:
            while waiting and len(at_work) < (os.cpu_count() or 1):
                place, job = waiting.pop()
                answer = TemporaryFile("w+")  # noqa: SIM115, it is closed when the process has ended
                pid = fork(job, seconds[place], answer)
                at_work[pid] = place, answer, os.pidfd_open(pid)
            with selectors.DefaultSelector() as ends:  # not os.wait, which takes the ends of other people's processes
                for pid, (_, _, end) in at_work.items():
                    ends.register(end, selectors.EVENT_READ, pid)
                pid = ends.select()[0][0].data
            place, answer, end = at_work.pop(pid)
            os.close(end)
            _, status = os.waitpid(pid, 0)
            with answer:
                answer.seek(0)
                found = Found(place, json.loads(answer.read() or "null") if status == 0 else None)
            yield found
    finally:
        for pid, (_, answer, end) in at_work.items():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(end)
            answer.close()


def fork(job: Callable[[], object], seconds: float, answer: TextIO) -> int:
    """Start a process that calls the job and writes what it gives; an error, or too long, ends it with another status."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        signal.alarm(int(seconds) + 1)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        json.dump(job(), answer)
        answer.flush()
        status = 0
    finally:
        os._exit(status)


class Judge:
    """A plugin of pytest: in place of running the tests it judges the mutants by them."""

    def __init__(self, wanted: list[Target], again: bool):
        self.wanted, self.again = wanted, again

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        scores = json.loads(SCORES.read_text()) if SCORES.exists() else {}
        hashes = {target.key: hashes_of(target) for target in self.wanted}
        todo = []
        for one in self.wanted:
            before = scores.get(one.key, {})
            if self.again and before.get("function") == hashes[one.key]["function"] and not before["survivors"]:
                before |= hashes[one.key]
            if {name: before.get(name) for name in hashes[one.key]} != hashes[one.key]:
                todo.append(one)
        files, own = {file for one in todo for file in one.files}, {test for one in todo for test in one.own}
        items = [
            item
            for item in session.items
            if item.nodeid.partition("[")[0] in own
            or (item.nodeid.partition("::")[0] in files and not item.get_closest_marker("slow"))
        ]
        print(f"{len(todo)} functions to judge; which of {len(items)} tests call them?", flush=True)
        tests = survey(todo, items)
        for number, target in enumerate(todo, 1):
            print(f"{number}/{len(todo)} {target.key}", end=" ", flush=True)
            before = scores.get(target.key, {})
            known = self.again and before.get("function") == hashes[target.key]["function"]
            only = {(one["before"], one["after"]) for one in before["survivors"]} if known else None
            scores[target.key] = score = hashes[target.key] | judged(target, *tests[target.key], only)
            print(f"{score['killed']} of {score['made']} killed", flush=True)
            keep(scores)
        return True


def judged(target: Target, tests: list[pytest.Item], seconds: float, only: set[tuple] | None) -> dict:
    """How many mutants of a function were made and killed, and those that survived. With `only`, others were killed before."""
    made = list(mutants(*source_of(target)))
    same = {(entry["before"], entry["after"]) for entry in equivalents(target.key)}
    tried = [one for one in made if only is None or (one.before, one.after) in only | same]
    jobs = [partial(passes, target, mutant, tests) for mutant in tried]
    alive = [tried[found.place] for found in run(jobs, [PATIENCE * (1 + seconds)] * len(jobs)) if found.said]
    survivors = sorted(alive, key=lambda mutant: (mutant.line, mutant.after))
    left = [mutant for mutant in survivors if (mutant.before, mutant.after) not in same]
    return {
        "made": len(made) - len(survivors) + len(left),
        "killed": len(made) - len(survivors),
        "equivalent": len(survivors) - len(left),
        "survivors": [{"line": one.line, "before": one.before, "after": one.after} for one in left],
        "judged": f"{date.today()}, {', '.join(f'{name} {metadata.version(name)}' for name in ('mutmut', 'torch'))}",
    }


def equivalents(key: str) -> list[dict]:
    """The entries of `equivalent.toml` for a function."""
    listed = tomllib.loads(EQUIVALENT.read_text("utf-8"))["mutant"] if EQUIVALENT.exists() else []
    return [entry for entry in listed if entry["function"] == key]


def hashes_of(target: Target) -> dict[str, str]:
    """Hashes of the function, and of its test files and what is marked as equivalent."""
    tests = [*((ROOT / file).read_bytes() for file in sorted(target.files)), repr(equivalents(target.key)).encode()]
    parts = {"function": [source_of(target)[0].encode()], "tests": tests}
    return {name: hashlib.sha256(b"".join(content)).hexdigest()[:16] for name, content in parts.items()}


def keep(scores: dict) -> None:
    """Write the scores of all functions that there are; others have gone."""
    now = {target.key for target in targets()}
    partial = SCORES.with_suffix(".partial")
    partial.write_text(json.dumps({key: scores[key] for key in sorted(scores) if key in now}, indent=1) + "\n")
    os.replace(partial, SCORES)


def main(words: list[str]) -> int:
    again = "--survivors" in words
    words = [word for word in words if word != "--survivors"]
    wanted = [target for target in targets() if not words or any(word in target.key for word in words)]
    files = sorted({file for target in wanted for file in target.files})
    os.chdir(ROOT)
    return pytest.main(["-q", "-p", "no:cacheprovider", *files], plugins=[Judge(wanted, again)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
