"""Is each function that computes an equation held by its tests? `make mutants` tries.

A mutant is the function with one change: + for -, < for <=, another number, an argument left out (mutmut makes them). The
tests of its equations run first, then all quick ones of its test files; a mutant that they all pass survives. pytest collects
once; each mutant is judged in a forked process, as many side by side as there are cores. `scores.json` keeps what was found,
with the hash of each function and of its tests: a run goes on where the last one stopped, and judges what has changed.
`equivalent.toml` lists the mutants that compute the same, each with the reason; they do not count.

    python tests/mutants/judge.py                     all functions
    python tests/mutants/judge.py vaecourse.elbo fvi  those whose name has one of these words
"""

import ast
import hashlib
import inspect
import json
import os
import resource
import signal
import sys
import textwrap
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module, metadata
from pathlib import Path
from types import CodeType, FunctionType

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


# Judging


@dataclass
class Job:
    """What one process is to find out: do the tests fail with this mutant? None is the function as it is."""

    target: Target
    mutant: Mutant | None
    items: list[pytest.Item]
    seconds: float
    started: float = 0.0


def passes(job: Job) -> bool:
    """Run the tests with the mutant in the function's place; in a process of its own."""
    if job.mutant:
        function = function_of(job.target)
        try:
            function.__code__ = code_of(job.target, job.mutant.source, function.__code__)
        except ValueError:  # another number of free variables: the change cuts a name out
            return False
    for item, after in zip(job.items, [*job.items[1:], None], strict=True):
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
            return False
    return True


def start(job: Job) -> int:
    """Fork a process for a job; its exit status is 0 where all tests pass."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        signal.alarm(int(job.seconds) + 1)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        status = 0 if passes(job) else 1
    finally:
        os._exit(status)


def run(jobs: list[Job]) -> Iterator[tuple[Job, bool, float]]:
    """Do the jobs on all cores; each with whether the tests passed, and its seconds."""
    waiting, at_work = jobs[::-1], {}
    try:
        while waiting or at_work:
            while waiting and len(at_work) < (os.cpu_count() or 1):
                job = waiting.pop()
                job.started = time.monotonic()
                at_work[start(job)] = job
            pid, status = os.wait()
            job = at_work.pop(pid)
            yield job, status == 0, time.monotonic() - job.started
    finally:
        for pid in at_work:
            os.kill(pid, signal.SIGKILL)
            os.wait()


class Judge:
    """A plugin of pytest: in place of running the tests it judges the mutants by them."""

    def __init__(self, wanted: list[Target]):
        self.wanted = wanted

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        scores = json.loads(SCORES.read_text()) if SCORES.exists() else {}
        for number, target in enumerate(self.wanted, 1):
            fingerprint = fingerprint_of(target)
            if scores.get(target.key, {}).get("fingerprint") != fingerprint:
                print(f"{number}/{len(self.wanted)} {target.key}", end=" ", flush=True)
                scores[target.key] = score = {"fingerprint": fingerprint, **judged(target, session.items)}
                print(f"{score['killed']} of {score['made']} killed", flush=True)
                keep(scores)
        return True


def judged(target: Target, items: list[pytest.Item]) -> dict:
    """How many mutants of a function were made and killed, and those that survived."""
    source, line = source_of(target)
    own = [item for item in items if item.nodeid.partition("[")[0] in target.own]
    rest = [
        item
        for item in items
        if item.nodeid.partition("::")[0] in target.files and item not in own and not item.get_closest_marker("slow")
    ]
    left = list(mutants(source, line))
    made = len(left)
    same = {(entry["before"], entry["after"]) for entry in equivalents(target.key)}
    for tests in (own, rest):
        if not tests or not left:
            continue
        ((_, unchanged, seconds),) = run([Job(target, None, tests, 600)])
        if not unchanged:
            raise RuntimeError(f"the tests of {target.key} fail without any mutant")
        jobs = [Job(target, mutant, tests, PATIENCE * (1 + seconds)) for mutant in left]
        left = [job.mutant for job, passed, _ in run(jobs) if passed]
    survivors = sorted(left, key=lambda mutant: (mutant.line, mutant.after))
    equal = [mutant for mutant in survivors if (mutant.before, mutant.after) in same]
    alive = [mutant for mutant in survivors if mutant not in equal]
    return {
        "made": made - len(equal),
        "killed": made - len(survivors),
        "equivalent": len(equal),
        "survivors": [{"line": one.line, "before": one.before, "after": one.after} for one in alive],
        "judged": f"{date.today()}, {', '.join(f'{name} {metadata.version(name)}' for name in ('mutmut', 'torch'))}",
    }


def equivalents(key: str) -> list[dict]:
    """The entries of `equivalent.toml` for a function."""
    listed = tomllib.loads(EQUIVALENT.read_text("utf-8"))["mutant"] if EQUIVALENT.exists() else []
    return [entry for entry in listed if entry["function"] == key]


def fingerprint_of(target: Target) -> str:
    """A hash of the function, of its test files, and of what is marked as equivalent."""
    digest = hashlib.sha256(source_of(target)[0].encode())
    for file in sorted(target.files):
        digest.update((ROOT / file).read_bytes())
    digest.update(repr(equivalents(target.key)).encode())
    return digest.hexdigest()[:16]


def keep(scores: dict) -> None:
    """Write the scores of all functions that there are; others have gone."""
    now = {target.key for target in targets()}
    partial = SCORES.with_suffix(".partial")
    partial.write_text(json.dumps({key: scores[key] for key in sorted(scores) if key in now}, indent=1) + "\n")
    os.replace(partial, SCORES)


def main(words: list[str]) -> int:
    wanted = [target for target in targets() if not words or any(word in target.key for word in words)]
    files = sorted({file for target in wanted for file in target.files})
    os.chdir(ROOT)
    return pytest.main(["-q", "-p", "no:cacheprovider", *files], plugins=[Judge(wanted)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
