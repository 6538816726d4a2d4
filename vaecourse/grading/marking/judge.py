"""Mark one submission: rebuild its notebook, run the student's cells in the sandbox and the tests in the judge.

The judge is this process. Test cells run here, unchanged; the student's functions are stand-ins that ask the student's kernel
and bring back plain data. So hidden tests never enter the student's process, and nothing of the student's runs in this one.
"""

import ast
import io
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4
from nbgrader.utils import determine_grade

from vaecourse.grading.authoring.assignment import Assignment, defined
from vaecourse.grading.marking.marks import Mark, Marks
from vaecourse.grading.marking.sandbox import TIME_LIMIT, MachineFull, StudentKernel, error_output
from vaecourse.grading.marking.task import NOTEBOOK_BYTES, Limits
from vaecourse.grading.marking.wire import CUT, clean
from vaecourse.grading.selfcheck import in_words

CELLS_AT_MOST = 1_000
WORDS_OF_A_MESSAGE = 1_000


@dataclass(frozen=True)
class Exam:
    """An assignment to mark: as its author wrote it, nbgrader's source of it, and the notebook that the students were given."""

    assignment: Assignment
    source: NotebookNode
    released: NotebookNode


def read(path: Path) -> NotebookNode:
    """A submitted notebook. Raises ValueError, with what to tell the student, where the file is none."""
    if path.stat().st_size > NOTEBOOK_BYTES:
        raise ValueError(f"The file has more than {NOTEBOOK_BYTES // 1_000_000} MB: clear the outputs, and hand it in again.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = json.loads(text)
        cells = len(data.get("cells", ())) if isinstance(data, dict) else 0
        if cells > CELLS_AT_MOST:  # seen before nbformat looks at each
            raise ValueError(f"it has {cells:,} cells, and {CELLS_AT_MOST:,} are read at most")
        with warnings.catch_warnings(action="ignore"):  # of old formats, missing ids and the like
            notebook = nbformat.reads(text, as_version=4)
            nbformat.validate(notebook)
    except UnicodeDecodeError as error:
        raise ValueError("The file is no notebook: it is not text in UTF-8.") from error
    except RecursionError as error:
        raise ValueError("The file is no notebook: it is nested too deeply.") from error
    except Exception as error:  # nbformat and its upgrades raise what the broken place happens to raise
        raise ValueError(f"The file is no valid notebook: {' '.join(str(error).split())[:200]}") from error
    return notebook


def mark(exam: Exam, student: str, submitted: NotebookNode, limits: Limits, sockets: Path) -> tuple[Marks, NotebookNode]:
    """The marks of a submission, and the notebook as it was run. `sockets` is a new, empty folder with a short path.

    Raises MachineFull where the machine has no memory left.
    """
    started = time.monotonic()
    notebook, notes = rebuild(exam, submitted)
    with StudentKernel(limits, sockets) as kernel:
        judge, place = Judge(exam, kernel), "at the top"
        for cell in notebook.cells:
            if _role(cell):
                place = f"at {cell.id!r}"
            if cell.cell_type == "code":
                judge.take(cell)
                if not _role(cell).get("locked"):
                    notes += [f"A cell of yours, {place}: {words}" for words in _trouble(cell)]
    if kernel.dead:
        notes.append(f"From some point on nothing was run: {kernel.dead}.")
    return _marks(exam, student, notebook, notes, time.monotonic() - started), notebook


def _trouble(cell: NotebookNode) -> Iterator[str]:
    """What the grading did to a student's cell while it ran."""
    for output in cell.outputs:
        if output.output_type == "error" and output.ename == TIME_LIMIT:
            yield output.evalue
        if output.output_type == "stream" and output.text.endswith(CUT):
            yield "it printed too much, and the rest was cut."


def refuse(exam: Exam, student: str, problem: str) -> tuple[Marks, NotebookNode]:
    """The marks, none, of a submission that cannot be run, and a notebook that says so."""
    notebook = rebuild(exam, v4.new_notebook())[0]
    for cell in notebook.cells:
        if _role(cell).get("grade") and cell.cell_type == "code":
            cell.outputs = [error_output("NotRun", "not run: there is no notebook that can be")]
    marks = _marks(exam, student, notebook, [problem], 0.0)
    return replace(marks, marks=tuple(replace(mark, message="") for mark in marks.marks), ran=False), notebook


def rebuild(exam: Exam, submitted: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """The notebook to run, and what to tell the student about it.

    Text, set-up and tests are the assignment's, whatever the submission has in their place. From the submission come the
    answers, and every other cell, which stays behind the cell that it stood behind. Where an answer's cell is there several
    times, all run, and the last is the answer.
    """
    notebook = deepcopy(exam.released)
    for cell, original in zip(notebook.cells, exam.source.cells, strict=True):
        if not _role(cell).get("solution"):
            cell.source = original.source  # with the hidden tests
    own = {_name(cell): cell for cell in exam.released.cells}
    answers, locked, before, after = {}, defaultdict(set), defaultdict(list), defaultdict(list)
    last = None  # the assignment's cell that was met last
    for cell in submitted.cells:
        name = _name(cell)
        if name not in own:
            after[last].append(cell)
            continue
        last = name
        if not _role(own[name]).get("solution"):
            locked[name].add(cell.source)
            continue
        if name in answers:
            before[name] += [answers[name], *after.pop(name, ())]
        answers[name] = cell

    notes, cells = [], list(map(_other, after[None]))
    for cell in notebook.cells:
        name = _name(cell)
        if name in answers:
            cell.source = _text(answers[name])
        elif submitted.cells and _role(cell).get("solution"):
            notes.append(f"The cell of your answer {name!r} is missing.")
        elif submitted.cells and _role(cell) and own[name].source not in locked[name]:
            state = "was changed" if locked[name] else "is missing"
            notes.append(f"The locked cell {name!r} {state} in your notebook: it was run as it was handed out.")
        cells += [*map(_other, before[name]), cell, *map(_other, after[name])]
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "id" not in cell:
            cell.id = f"yours-{number}"
    notebook.cells = cells
    return notebook, notes


class Judge:
    """Runs a rebuilt notebook's cells, each where it belongs: set-up on both sides, tests here, all else in the sandbox."""

    def __init__(self, exam: Exam, kernel: StudentKernel):
        self.kernel, self.namespace = kernel, {"__name__": "__main__"}
        self.names = {cell.id: defined(cell.source) for cell in exam.source.cells if _is_tested(cell)}
        self.stopped: dict[str, str] = {}  # by a name that should be defined: why its cell did not

    def take(self, cell: NotebookNode) -> None:
        """Run a cell; its outputs are then in it."""
        role = _role(cell)
        if not role or role["solution"]:
            self.kernel.run(cell)
            error = next((output for output in cell.outputs if output.output_type == "error"), None)
            for name in self.names.get(cell.id, ()):
                self.stopped[name] = f"{error.ename}: {error.evalue}" if error else ""
        elif role["grade"]:
            self.test(cell)
        else:
            self.kernel.run(cell)
            cell.outputs = []
            self._execute(cell)

    def test(self, cell: NotebookNode) -> None:
        """Run a test. Whatever goes wrong in it is an error of the answer, and is said in words."""
        try:
            self._bind(cell.source)
            self._execute(cell)
        except MachineFull:  # says nothing of the answer
            raise
        except Exception as error:
            words = str(error)
            if isinstance(error, NameError) and self.stopped.get(error.name):
                words = f"{words}: the cell that should define it stopped with {self.stopped[error.name]}"
            cell.outputs = [error_output(type(error).__name__, clean(words[:WORDS_OF_A_MESSAGE]))]

    def _execute(self, cell: NotebookNode) -> None:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(cell.source, f"<{cell.id}>", "exec"), self.namespace)
        cell.outputs = [v4.new_output("stream", text=printed.getvalue())] if printed.getvalue() else []

    def _bind(self, test: str) -> None:
        """Define what a test uses of the student's names: functions as stand-ins, anything else as plain data."""
        used = {node.id for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)}
        wanted = sorted(used.intersection(*[set().union(*self.names.values())]))
        seen = self.kernel.ask(look=wanted)
        for name in wanted:
            self.namespace.pop(name, None)
            match seen.get(name) if isinstance(seen, dict) else None:
                case [True, _]:
                    self.namespace[name] = _StandIn(self.kernel, name)
                case [False, value]:
                    self.namespace[name] = value


class _StandIn:
    """A student's function, as the judge may use it."""

    def __init__(self, kernel: StudentKernel, name: str):
        self.kernel, self.__name__ = kernel, name

    def __call__(self, *args, **kwargs):
        return self.kernel.ask(call=self.__name__, args=list(args), kwargs=kwargs)


def _marks(exam: Exam, student: str, notebook: NotebookNode, notes: Iterable[str], seconds: float) -> Marks:
    exercises = {exercise.id: exercise for exercise in exam.assignment.exercises}
    of_cell = {cell.id: cell.exercise for cell in exam.assignment.cells}
    marks = []
    for cell in notebook.cells:
        if not _role(cell).get("grade"):
            continue
        earned, points = determine_grade(cell)
        errors = [output for output in cell.get("outputs", ()) if output.output_type == "error"]
        message = in_words(errors[0]) if errors and not _role(cell)["solution"] else ""
        wrong = exercises[of_cell[cell.id]].wrong if of_cell[cell.id] else ()
        mistake = next((answer.name for answer in wrong if answer.message in message), "")
        earned = None if earned is None else int(earned)
        marks.append(Mark(cell.id, of_cell[cell.id], int(points), earned, message, mistake))
    return Marks(exam.assignment.slug, student, tuple(marks), tuple(notes), round(seconds, 1))


def _role(cell: NotebookNode) -> dict:
    return cell.metadata.get("nbgrader", {})


def _name(cell: NotebookNode) -> str | None:
    """What a cell is known by: nbgrader's id, or the notebook format's own for text."""
    role = cell.metadata.get("nbgrader")
    name = role.get("grade_id") if isinstance(role, dict) else cell.get("id")
    return name if isinstance(name, str) else None


def _text(cell: NotebookNode) -> str:
    """A cell's text, without halves of characters, which no file could hold."""
    return cell.source.encode("utf-8", "replace").decode()


def _is_tested(cell: NotebookNode) -> bool:
    """Whether what the cell defines is for the tests: not so where a person reads it."""
    role = _role(cell)
    return bool(cell.cell_type == "code" and role.get("solution") and not role.get("grade"))


def _other(cell: NotebookNode) -> NotebookNode:
    """A student's own cell: what is in it, and nothing that could be mistaken for the assignment's."""
    if cell.cell_type == "code":
        return NotebookNode(cell_type="code", source=_text(cell), metadata={}, outputs=[], execution_count=None)
    attachments = {"attachments": cell.attachments} if "attachments" in cell else {}
    return NotebookNode(cell_type=cell.cell_type, source=_text(cell), metadata={}, **attachments)
