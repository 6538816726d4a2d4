"""What grading does in processes of their own: prepare the assignments, mark one submission.

They are forked from a process that has imported PyTorch and the book's package once; the one that waits for them has neither.
"""

import ctypes
import gc
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nbformat
import torch

from vaecourse.grading import checks, forms, gradebook, marking, trials
from vaecourse.grading.authoring import Assignment
from vaecourse.grading.layout import Place, code, digest, write
from vaecourse.grading.marking import Exam
from vaecourse.grading.marks import Marks
from vaecourse.grading.sandbox import MachineFull
from vaecourse.grading.task import Task

OUR_FAULT = "Grading was stopped by an error that is not yours. It will be tried again; if this stays, tell your instructor."
PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG


def prepare(course: Path, assignments: Sequence[Assignment]) -> None:
    """Bring nbgrader's sources, and the notebooks for the students, up to date. Raises RuntimeError, with the reason."""
    try:
        for assignment in assignments:
            _prepare(Place(course, assignment.slug), assignment)
    except ValueError as error:  # a SourceError would not survive the way to the other process
        raise RuntimeError(str(error)) from None


def _prepare(place: Place, assignment: Assignment) -> None:
    fresh = digest(*(path.read_bytes() for path in sorted(assignment.folder.glob("*.md"))), code())
    with gradebook.opened(place.course) as book:
        known = gradebook.knows(book, place.slug)
    if known and place.made_of.exists() and place.made_of.read_text() == fresh:
        return
    source = forms.source(assignment)
    trials.verify(assignment, source, forms.mutants(assignment, source))
    write(place.source, forms.dumps(source))
    gradebook.release(place.course, place.slug)
    write(place.made_of, fresh)


def mark(task: Task) -> None:
    """Mark one submission, and write what it gives."""
    ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)  # and the sandbox dies with this process
    torch.set_num_threads(1)
    student = task.submission.student
    os.environ[checks.COURSE_SEED], os.environ[checks.STUDENT] = task.rules.seed, student
    exam = _exam(task)
    problem, submitted = task.submission.problem, None
    if task.submission.notebook is not None:
        try:
            submitted = marking.read(task.submission.notebook)
        except ValueError as error:
            problem = str(error)
    if submitted is None:
        done = marking.refuse(exam, student, problem)
    else:
        task.scratch.mkdir()
        try:
            done = marking.mark(exam, student, submitted, task.rules.limits, task.scratch)
        except MachineFull:
            if not task.alone:
                raise
            done = marking.refuse(exam, student, "The notebook took all of the machine's memory, and was stopped.")
    _store(task, *done, key=task.key)


def give_up(task: Task) -> None:
    """Write that a submission could not be marked, for no fault of the student's; it is marked when grading runs again."""
    _store(task, *marking.refuse(_exam(task), task.submission.student, OUR_FAULT), key="")


def _exam(task: Task) -> Exam:
    return Exam(task.assignment, nbformat.read(task.place.source, 4), nbformat.read(task.place.release, 4))


def _store(task: Task, marks: Marks, notebook: nbformat.NotebookNode, key: str) -> None:
    """Write the notebook as it was run, and then the marks: what has marks is done."""
    write(task.place.autograded, nbformat.writes(notebook, version=4))
    write(task.place.marks, replace(marks, key=key).dumps())


gc.collect()
gc.freeze()  # what is imported is shared with the processes forked from here, as long as the collector does not write to it
