"""A process of its own for each submission, in which it is marked.

It is forked from one that has imported PyTorch and the book's package once; the one that waits for it has neither.
"""

import ctypes
import gc
import os
import signal
from dataclasses import replace

import nbformat
import torch

from vaecourse.grading import checks
from vaecourse.grading.authoring.files import write
from vaecourse.grading.marking import judge
from vaecourse.grading.marking.judge import Exam
from vaecourse.grading.marking.marks import Marks
from vaecourse.grading.marking.sandbox import MachineFull
from vaecourse.grading.marking.task import Task

OUR_FAULT = "Grading was stopped by an error that is not yours. It will be tried again; if this stays, tell your instructor."
PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG


def mark(task: Task) -> None:
    """Mark one submission, and write what it gives."""
    ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)  # and the sandbox dies with this process
    torch.set_num_threads(1)
    os.environ[checks.COURSE_SEED], os.environ[checks.STUDENT] = task.seed, task.student
    exam, problem, submitted = _exam(task), task.problem, None
    if task.handed_in is not None:
        try:
            submitted = judge.read(task.handed_in)
        except ValueError as error:
            problem = str(error)
    if submitted is None:
        done = judge.refuse(exam, task.student, problem)
    else:
        task.scratch.mkdir()
        try:
            done = judge.mark(exam, task.student, submitted, task.limits, task.scratch)
        except MachineFull:
            if not task.alone:
                raise
            done = judge.refuse(exam, task.student, "The notebook took all of the machine's memory, and was stopped.")
    _store(task, *done, key=task.key)


def give_up(task: Task) -> None:
    """Write that a submission could not be marked, for no fault of the student's; it is marked when grading runs again."""
    _store(task, *judge.refuse(_exam(task), task.student, OUR_FAULT), key="")


def _exam(task: Task) -> Exam:
    return Exam(task.assignment, nbformat.read(task.source, 4), nbformat.read(task.released, 4))


def _store(task: Task, marks: Marks, notebook: nbformat.NotebookNode, key: str) -> None:
    """Write the notebook as it was run, and then the marks: what has marks is done."""
    write(task.autograded, nbformat.writes(notebook, version=4))
    write(task.marks, replace(marks, key=key).dumps())


gc.collect()
gc.freeze()  # what is imported is shared with the processes forked from here, as long as the collector does not write to it
