"""Grade a course: every submission, on all cores, each in a process and a sandbox of its own; then the gradebook and the pages.

The folder of a course holds its settings (`course.toml`) and all that grading makes:

    source/ release/ gradebook.db     nbgrader's: the assignments, the students' notebooks, points and comments
    submitted/                        a copy of each notebook as it was handed in
    marks/ autograded/                what grading it gave, and the notebook as it was run, with the hidden tests
    feedback/ report/ grades.csv      a page for each student, one for the instructor, and the points

Marks are written as soon as they are there, and know what they depend on. So grading can be stopped at any time; started again
it goes on, and it grades anew only what has changed. All else is made of the marks.
"""

import ctypes
import fcntl
import hashlib
import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import wait
from pathlib import Path

import nbformat
import torch
from tqdm.auto import tqdm

import vaecourse
from vaecourse.grading import checks, forms, gradebook, intake, marking, reports, sandbox, settings, trials
from vaecourse.grading.intake import Submission
from vaecourse.grading.marking import Exam
from vaecourse.grading.marks import Marks

SECONDS_TO_SPARE = 60  # beyond a notebook's own time, before its process is given up
OUR_FAULT = "Grading was stopped by an error that is not yours. It will be tried again; if this stays, tell your instructor."
PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG


class Busy(RuntimeError):
    """The course is being graded by somebody else at this moment."""


@dataclass(frozen=True)
class Graded:
    """What a run of `grade` has done: how many submissions there are, how many of them were graded now, what went wrong."""

    submissions: int
    anew: int
    failed: tuple[str, ...]
    unclear: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    exam: Exam
    submission: Submission
    course: Path
    rules: settings.Settings
    key: str
    folder: Path
    alone: bool = False


def release(course: Path) -> list[Exam]:
    """Bring nbgrader's sources, and the notebooks for the students, up to date with the assignments. Raises ValueError."""
    rules = settings.load(course)
    exams = []
    for assignment in forms.assignments(rules.sources or forms.SOURCES):
        slug = assignment.slug
        fresh = _hash(*(path.read_bytes() for path in sorted(assignment.folder.glob("*.md"))), _code())
        path, stamp = course / "source" / slug / f"{slug}.ipynb", course / "source" / f"{slug}.made-of"
        with gradebook.opened(course) as book:
            old = not stamp.exists() or stamp.read_text() != fresh or not gradebook.knows(book, slug)
        if old:
            source = forms.source(assignment)
            trials.verify(assignment, source, forms.mutants(assignment, source))
            _write(path, forms.dumps(source))
            gradebook.release(course, slug)
            _write(stamp, fresh)
        exams.append(Exam(assignment, nbformat.read(path, 4), nbformat.read(course / "release" / slug / path.name, 4)))
    return exams


def grade(course: Path, submissions: Path, lanes: int = os.cpu_count() or 1) -> Graded:
    """Grade all notebooks in a folder or zip, `lanes` at a time, and write the gradebook, grades.csv, feedback and reports.

    Raises SandboxMissing, Busy, ValueError: with nothing done.
    """
    sandbox.require()
    with _alone(course) as scratch:
        rules = settings.load(course)
        exams = {exam.assignment.slug: exam for exam in release(course)}
        taken = intake.collect(submissions, course / "submitted", sorted(exams))
        base = {slug: _hash(forms.dumps(exam.source).encode(), repr(rules).encode(), _code()) for slug, exam in exams.items()}
        tasks = []
        for number, submission in enumerate(taken.submissions):
            content = submission.notebook.read_bytes() if submission.notebook else submission.problem.encode()
            key = _hash(content, base[submission.assignment].encode())
            if _stored(course, submission) != key:
                folder = scratch / str(number)
                tasks.append(_Task(exams[submission.assignment], submission, course, rules, key, folder))
        failed = list(_run(tasks, lanes))
        publish(course, exams.values(), taken.submissions)
        return Graded(len(taken.submissions), len(tasks), tuple(failed), tuple(taken.unclear))


def publish(course: Path, exams: Collection[Exam], submissions: Sequence[Submission]) -> None:
    """Make the gradebook, grades.csv, feedback pages and reports from the marks of these submissions."""
    marks: dict[str, list[Marks]] = defaultdict(list)
    exam_of = {exam.assignment.slug: exam for exam in exams}
    with gradebook.opened(course) as book:
        for submission in submissions:
            slug, student = submission.assignment, submission.student
            own, notebook = Marks.load(_marks(course, submission)), nbformat.read(_autograded(course, submission), 4)
            handed_in = submission.notebook and datetime.fromtimestamp(submission.notebook.stat().st_mtime, UTC).replace(
                tzinfo=None
            )
            gradebook.record(book, own, notebook, handed_in)
            own, comments = gradebook.by_hand(book, own)
            marks[slug].append(own)
            page = reports.feedback(own, notebook if own.ran else None, exam_of[slug].assignment, comments)
            _write(course / "feedback" / student / slug / f"{slug}.html", page)
    for exam in exam_of.values():
        if marks[exam.assignment.slug]:
            report = reports.class_report(exam.assignment, marks[exam.assignment.slug])
            _write(course / "report" / f"{exam.assignment.slug}.html", report)
    _write(course / "grades.csv", reports.grades(marks, [exam.assignment for exam in exam_of.values()]))


def _run(tasks: Sequence[_Task], lanes: int) -> Iterator[str]:
    """Mark the submissions, so many at a time; what is yielded went wrong for no fault of a student's.

    What goes wrong beside others is tried again alone, at the end.
    """
    context = multiprocessing.get_context("forkserver")
    modules = [f"vaecourse.{module}" for module in vaecourse.__all__]
    context.set_forkserver_preload([marking.__name__, "sklearn.datasets", *modules])  # imported once, not by each process
    waiting, again, running = list(reversed(tasks)), [], {}
    progress = tqdm(total=len(tasks), unit="notebook", disable=not tasks)
    try:
        while waiting or running or again:
            if not waiting and not running:
                lanes, waiting, again = 1, [replace(task, alone=True) for task in again], []
            while waiting and len(running) < lanes:
                task = waiting.pop()
                process = context.Process(target=_mark, args=(task,), daemon=True)
                process.start()
                running[process.sentinel] = process, task, time.monotonic() + task.rules.limits.seconds + SECONDS_TO_SPARE
            for sentinel in wait(list(running), timeout=1) or [s for s, (*_, end) in running.items() if time.monotonic() > end]:
                process, task, _ = running.pop(sentinel)
                process.kill()
                process.join()
                _remove(task.folder)
                if process.exitcode != 0 and not task.alone:
                    again.append(task)
                    continue
                progress.update()
                if process.exitcode != 0:
                    _store(task, *marking.refuse(task.exam, task.submission.student, OUR_FAULT), key="")
                    yield f"{task.submission.student}, {task.submission.assignment}: its process ended with {process.exitcode}"
    finally:
        progress.close()
        for process, *_ in running.values():
            process.kill()


def _mark(task: _Task) -> None:
    """Mark one submission: all that this process does."""
    ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)  # and the sandbox dies with this process
    torch.set_num_threads(1)
    student = task.submission.student
    os.environ[checks.COURSE_SEED], os.environ[checks.STUDENT] = task.rules.seed, student
    try:
        submitted = marking.read(task.submission.notebook) if task.submission.notebook else None
    except ValueError as error:
        task = replace(task, submission=replace(task.submission, problem=str(error)))
        submitted = None
    if submitted is None:
        done = marking.refuse(task.exam, student, task.submission.problem)
    else:
        task.folder.mkdir()
        try:
            done = marking.mark(task.exam, student, submitted, task.rules.limits, task.folder)
        except sandbox.MachineFull:
            if not task.alone:
                raise
            done = marking.refuse(task.exam, student, "The notebook took all of the machine's memory, and was stopped.")
    _store(task, *done, key=task.key)


def _store(task: _Task, marks: Marks, notebook: nbformat.NotebookNode, key: str) -> None:
    """Write the notebook as it was run, and then the marks: what has marks is done."""
    _write(_autograded(task.course, task.submission), nbformat.writes(notebook, version=4))
    _write(_marks(task.course, task.submission), replace(marks, key=key).dumps())


def _stored(course: Path, submission: Submission) -> str:
    """The key of the marks that are there, "" where there are none."""
    try:
        return Marks.load(_marks(course, submission)).key
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _handed_in(submission: Submission) -> datetime | None:
    """When the copy of a submission was made, in UTC: another time where another notebook was handed in."""
    if submission.notebook is None:
        return None
    return datetime.fromtimestamp(int(submission.notebook.stat().st_mtime), UTC).replace(tzinfo=None)


def _marks(course: Path, submission: Submission) -> Path:
    return course / "marks" / submission.assignment / f"{submission.student}.json"


def _autograded(course: Path, submission: Submission) -> Path:
    return course / "autograded" / submission.student / submission.assignment / f"{submission.assignment}.ipynb"


@contextmanager
def _alone(course: Path) -> Iterator[Path]:
    """Hold the course for oneself; gives a new folder for what is passing. Raises Busy where another holds the course."""
    course.mkdir(parents=True, exist_ok=True)
    with open(course / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{course} is being graded already: wait for the other run, or stop it") from None
        scratch = Path(tempfile.gettempdir()) / f"vaecourse-{_hash(str(course.resolve()).encode())[:8]}"
        _remove(scratch)  # of a run that was killed
        scratch.mkdir(mode=0o700)
        try:
            yield scratch
        finally:
            _remove(scratch)


def _remove(folder: Path) -> None:
    """Remove a folder in which a student's process could write: rm copes with folders of any depth."""
    subprocess.run(["rm", "-rf", str(folder)], check=False)


def _write(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8", newline="\n")
    os.replace(partial, path)


def _code() -> bytes:
    """The code that marks depend on: the book's package, and what runs and judges a notebook."""
    package = Path(vaecourse.__file__).parent
    grading = package / "grading"
    deciding = {grading / f"{part}.py" for part in ("authoring", "checks", "marking", "sandbox", "trials", "wire")}
    files = [path for path in sorted(package.rglob("*.py")) if grading not in path.parents or path in deciding]
    return b"".join(path.read_bytes() for path in files)


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
