"""Run an assignment's notebooks in this process: what authoring and its tests need.

Only for code that can be trusted, the author's own: there is no sandbox and no time limit.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass

from nbformat import NotebookNode

from vaecourse.grading.authoring.assignment import Assignment, WrongAnswer, defined
from vaecourse.grading.authoring.plain import decode, encode
from vaecourse.grading.checks import agree, tensor


@dataclass(frozen=True)
class Failure:
    """An error that stopped a cell, as plain data: its type's name, its words, and whether a test says by it what is wrong."""

    kind: str
    words: str
    of_a_test: bool

    def __str__(self) -> str:
        return self.words


def run(notebook: NotebookNode, **names) -> dict[str, Failure | None]:
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
            errors[cell.id] = Failure(type(error).__name__, str(error), isinstance(error, AssertionError))
    return errors


def record(notebook: NotebookNode) -> tuple[dict[str, Failure | None], dict]:
    """Run the notebook with a Recorder in the place of the checks: the error of each cell, and the results by their names."""
    recorder = Recorder()
    return run(notebook, check=recorder), recorder.results


def _as_judged(value):
    """A student's function, or value, as the judge has it: what goes in, and what comes back, is plain data."""
    if not callable(value):
        return decode(encode(value))
    return lambda *args, **words: decode(encode(value(*decode(encode(args)), **decode(encode(words)))))


def alone(assignment: Assignment, notebook: NotebookNode, exercise: str) -> NotebookNode:
    """The notebook with one exercise: of the others only what is given stays. Trying a wrong answer takes no more."""
    left_out = {cell.id for cell in assignment.cells if cell.exercise not in {None, exercise} and cell.kind != "setup"}
    return NotebookNode(notebook | {"cells": [cell for cell in notebook.cells if cell.id not in left_out]})


def points(notebook: NotebookNode, errors: Mapping[str, Failure | None]) -> tuple[int, int]:
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
    assignment: Assignment,
    right: NotebookNode,
    mutants: Iterable[tuple[WrongAnswer, NotebookNode]],
    each: Callable = map,
) -> dict[str, dict]:
    """What each visible check is given by the solution and, where that differs, by each wrong answer (see `Check`).

    `each` runs the notebooks, as `map` does. Raises SourceError where the solution fails, or gives an exercise other results
    without the other exercises, and where a wrong answer fails otherwise than by a wrong value.
    """
    cells = {cell.id: cell for cell in assignment.cells}
    tried, exercises = list(mutants), [exercise.id for exercise in assignment.exercises]
    single = [alone(assignment, right, exercise) for exercise in exercises]
    ((errors, results),) = each(record, [right])  # before all others, which are in vain where it fails
    for name, error in errors.items():
        if error:
            raise assignment.error(cells[name], f"with the solution in place, {name} raises {error.kind}: {error}")
    known = {name: {"expected": value, "wrong": {}} for name, value in results.items()}
    recorded = list(each(record, [*single, *(alone(assignment, notebook, answer.exercise) for answer, notebook in tried)]))
    of_single, recorded = recorded[: len(single)], recorded[len(single) :]
    for exercise, (errors, results) in zip(exercises, of_single, strict=True):
        failed = [name for name, error in errors.items() if error]
        if failed or not all(agree(value, known[name]["expected"]) for name, value in results.items()):
            what = f"{failed[0]} raises {errors[failed[0]].kind}: {errors[failed[0]]}" if failed else "it gives other results"
            raise assignment.error(
                cells[exercise], f"without the other exercises' cells {what}. Exercises must not lean on each other"
            )
    for (answer, _), (errors, results) in zip(tried, recorded, strict=True):
        for name, error in errors.items():
            if error and not error.of_a_test:
                raise assignment.error(
                    answer, f"{answer.name!r} must return a wrong value; {name} raises {error.kind}: {error}"
                )
        for name, value in results.items():
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


def verify(
    assignment: Assignment,
    right: NotebookNode,
    mutants: Iterable[tuple[WrongAnswer, NotebookNode]],
    each: Callable = map,
) -> None:
    """The solution passes every test; each wrong answer fails the visible ones with its message, and the hidden ones, too.

    Wrong answers are tried without the other exercises, the first of each exercise with them, too. `each` runs the notebooks,
    as `map` does. Raises SourceError where that is not so.
    """
    cells = {cell.id: cell for cell in assignment.cells}
    tried = list(mutants)
    first = {answer.exercise: (answer, notebook) for answer, notebook in reversed(tried)}
    tried = [(answer, alone(assignment, notebook, answer.exercise)) for answer, notebook in tried] + list(first.values())
    of_the_solution, *of_the_answers = each(run, [right, *(notebook for _, notebook in tried)])
    for name, error in of_the_solution.items():
        if error:
            raise assignment.error(cells[name], f"the solution fails {name}: {error}")
    for (answer, notebook), errors in zip(tried, of_the_answers, strict=True):
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
            if error and not error.of_a_test:
                words = f"{answer.name!r} makes {name} raise {error.kind}: {error}. A test must say what is wrong"
                raise assignment.error(answer, words)
