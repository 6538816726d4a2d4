"""Build assignments: on all cores, and only those that have changed.

What is built is an assignment's source notebook, with its known answers, tried out. It stays in `_build/assignments`, under a
name that says what it was made of.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing.context import BaseContext
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from vaecourse import provenance
from vaecourse.grading.authoring import forms
from vaecourse.grading.authoring.assignment import Assignment
from vaecourse.grading.authoring.files import digest, write

BUILT = forms.ROOT / "_build" / "assignments"
DECIDES = "vaecourse.grading.authoring.forms"
"""With all that it imports, the code that makes a source notebook and tries it out."""


def sources(assignments: Sequence[Assignment]) -> Iterator[tuple[Assignment, NotebookNode, bool]]:
    """nbgrader's source notebook of each assignment, tried out, and whether it is new: as they are done.

    Raises SourceError where an assignment does not do its work; the others may not be done then.
    """
    places = {assignment.slug: _place(assignment) for assignment in assignments}
    stale = []
    for assignment in assignments:
        source = _kept(places[assignment.slug])
        if source is None:
            stale.append(assignment)
        else:
            yield assignment, source, False
    for assignment, source in _built(stale):
        write(places[assignment.slug], forms.dumps(source))
        for other in BUILT.glob(f"{assignment.slug}.*.ipynb"):
            if other != places[assignment.slug]:
                other.unlink(missing_ok=True)
        yield assignment, source, True


def code(assignment: Assignment, *deciding: str) -> str:
    """A hash of the code of these modules and of those that the assignment's cells import, with all that they import."""
    answers = [answer.code for exercise in assignment.exercises for answer in exercise.wrong]
    cells = [cell.source for cell in assignment.cells if cell.type == "code"]
    return provenance.code_hash({*deciding, *imported([*cells, *answers])})


def made_of(assignment: Assignment) -> str:
    """All that a source notebook depends on, as a hash: what its author wrote, and the code."""
    written = repr((assignment.title, assignment.cells, assignment.exercises))
    return digest(written.encode(), code(assignment, DECIDES).encode())


def processes(assignments: Iterable[Assignment], *modules: str) -> BaseContext:
    """Processes forked from one that has imported, once, these modules and those that the assignments' cells import."""
    there = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in there else "spawn")  # Windows builds, too
    chapters = imported(cell.source for assignment in assignments for cell in assignment.cells if cell.type == "code")
    slow = ["sklearn.datasets", "torch.fx.experimental.symbolic_shapes"]  # imported by data, and by torch.distributions
    context.set_forkserver_preload([*slow, *sorted(chapters), *modules])
    return context


def imported(cells: Iterable[str]) -> set[str]:
    """The package's modules that cells of code import."""
    return set().union(*map(provenance.imports, cells))


def _place(assignment: Assignment) -> Path:
    return BUILT / f"{assignment.slug}.{made_of(assignment)[:16]}.ipynb"


def _kept(place: Path) -> NotebookNode | None:
    try:
        return nbformat.read(place, 4)
    except FileNotFoundError:
        return None


def _built(assignments: Sequence[Assignment]) -> Iterator[tuple[Assignment, NotebookNode]]:
    """Source notebooks, tried out. A thread leads each assignment; its trials are shared among the processes."""
    if not assignments:
        return
    cores = os.cpu_count() or 1
    context = processes(assignments, "vaecourse.grading.authoring.trials")
    runs, leads = ProcessPoolExecutor(cores, context, _get_ready), ThreadPoolExecutor(cores)
    try:
        building = {leads.submit(_tried_out, assignment, runs): assignment for assignment in assignments}
        for done in as_completed(building):
            yield building[done], done.result()
    finally:
        for pool in (runs, leads):  # in this order: those who lead wait for what runs
            pool.shutdown(cancel_futures=True)


def _tried_out(assignment: Assignment, runs: Executor) -> NotebookNode:
    from vaecourse.grading.authoring import trials  # with PyTorch: only where there is something to try out

    source = forms.source(assignment, runs.map)
    trials.verify(assignment, source, forms.mutants(assignment, source), runs.map)
    return source


def _get_ready() -> None:
    """What a process does first: small tensors take one thread, and Ctrl-C ends it without a word, in the midst of a trial."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
