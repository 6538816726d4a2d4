"""Run an assignment's notebooks in this process: what authoring and its tests need.

Only for code that can be trusted, the author's own: there is no sandbox and no time limit.
"""

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout

from nbformat import NotebookNode

from vaecourse.grading.authoring import Assignment, WrongAnswer
from vaecourse.grading.checks import agree, tensor
from vaecourse.grading.marking import defined
from vaecourse.grading.wire import decode, encode


def run(notebook: NotebookNode, **names) -> dict[str, Exception | None]:
    """Run the code cells in one fresh namespace, in which `names` are defined; the error of each cell by its id, or None.

    A cell that fails stops at its error, the notebook goes on. Answers graded by hand are left out.
    """
    namespace, errors = {"__name__": "__main__", **names}, {}
    for cell in notebook.cells:
        role = cell.metadata.get("nbgrader", {})
        if cell.cell_type != "code" or (role.get("solution") and role.get("grade")):
            continue
        try:
            with redirect_stdout(io.StringIO()):
                exec(compile(cell.source, f"<{cell.id}>", "exec"), namespace)
            if role.get("solution"):
                for name in defined(cell.source) & set(namespace):
                    namespace[name] = _as_judged(namespace[name])
            errors[cell.id] = None
        except Exception as error:
            errors[cell.id] = error
    return errors


def _as_judged(value):
    """A student's function, or value, as the judge has it: what goes in, and what comes back, is plain data."""
    if not callable(value):
        return decode(encode(value))
    return lambda *args, **words: decode(encode(value(*decode(encode(args)), **decode(encode(words)))))


def points(notebook: NotebookNode, errors: Mapping[str, Exception | None]) -> tuple[int, int]:
    """The points earned and the points there are, in the tests that were run."""
    worth = {cell.id: cell.metadata["nbgrader"]["points"] for cell in notebook.cells if is_test(cell)}
    return sum(worth[test] for test in worth if errors[test] is None), sum(worth.values())


def is_test(cell: NotebookNode) -> bool:
    """Whether a cell is graded by machine."""
    role = cell.metadata.get("nbgrader", {})
    return bool(role.get("grade") and not role.get("solution"))


class Recorder:
    """Stands where the checks stand, and notes the results it is given, by name, as plain data."""

    def __init__(self):
        self.results = {}

    def __call__(self, name: str, value, unit: str = "") -> None:
        if name in self.results:
            raise ValueError(f"two checks are named {name!r}")
        self.results[name] = plain(value)


def plain(value):
    """Numbers of six digits, in lists and dictionaries."""
    if isinstance(value, Mapping):
        return {part: plain(item) for part, item in value.items()}
    if value is None:
        return None
    return rounded(tensor(value).tolist())


def rounded(value):
    return [rounded(item) for item in value] if isinstance(value, list) else float(f"{value:.6g}")


def known_answers(
    assignment: Assignment, right: NotebookNode, mutants: Iterable[tuple[WrongAnswer, NotebookNode]]
) -> dict[str, dict]:
    """What each visible check is given by the solution and, where that differs, by each wrong answer (see `Check`).

    Raises SourceError where the solution fails, or where a wrong answer fails otherwise than by a wrong value.
    """
    cells = {cell.id: cell for cell in assignment.cells}
    recorder = Recorder()
    for name, error in run(right, check=recorder).items():
        if error:
            raise assignment.error(cells[name], f"with the solution in place, {name} raises {type(error).__name__}: {error}")
    known = {name: {"expected": value, "wrong": {}} for name, value in recorder.results.items()}
    for answer, notebook in mutants:
        recorder = Recorder()
        for name, error in run(notebook, check=recorder).items():
            if error and not isinstance(error, AssertionError):
                raise assignment.error(answer, f"{answer.name!r} must return a wrong value; {name} raises {error!r}")
        for name, value in recorder.results.items():
            expected = known[name]["expected"]
            if isinstance(expected, Mapping) and isinstance(value, Mapping):
                value = {part: item for part, item in value.items() if not agree(item, expected.get(part))}
            if value != {} and not agree(value, expected):
                known[name]["wrong"][answer.message] = value
    return known


def dumps(known: Mapping[str, Mapping]) -> str:
    """The known answers as JSON, one answer a line."""

    def block(name: str, answers: Mapping) -> str:
        wrong = ",\n".join(f"  {_json(message)}: {_json(value)}" for message, value in answers["wrong"].items())
        return f'{_json(name)}: {{"expected": {_json(answers["expected"])}, "wrong": {{\n{wrong}}}}}'

    return "{" + ",\n".join(block(name, answers) for name, answers in known.items()) + "}"


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def verify(assignment: Assignment, right: NotebookNode, mutants: Iterable[tuple[WrongAnswer, NotebookNode]]) -> None:
    """The solution passes every test; each wrong answer fails the visible ones with its message, and the hidden ones, too.

    Raises SourceError where that is not so.
    """
    cells = {cell.id: cell for cell in assignment.cells}
    for name, error in run(right).items():
        if error:
            raise assignment.error(cells[name], f"the solution fails {name}: {error}")
    for answer, notebook in mutants:
        errors = run(notebook)
        own = {cell.id for cell in assignment.cells if cell.exercise == answer.exercise}
        tests = {cell.id: cell.source for cell in notebook.cells if is_test(cell) and cell.id in own}
        if not any(errors[test] and answer.message in str(errors[test]) for test in tests):
            first = next((str(error) for error in errors.values() if error), "none: it passes every test")
            raise assignment.error(answer, f"{answer.name!r} does not get its message. It gets: {first}")
        if not any(errors[test] for test, source in tests.items() if "BEGIN HIDDEN TESTS" in source):
            raise assignment.error(answer, f"{answer.name!r} passes the hidden tests")
        for name, error in errors.items():
            if error and name not in tests:
                raise assignment.error(answer, f"{answer.name!r} also breaks {name}: exercises must not lean on each other")
            if error and not isinstance(error, AssertionError):
                raise assignment.error(answer, f"{answer.name!r} makes {name} raise {error!r}: a test must say what is wrong")
