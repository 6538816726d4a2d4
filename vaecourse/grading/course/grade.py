"""Grade a course: every submission, on all cores, each in a process and a sandbox of its own; then the gradebook and the pages.

The folder of a course holds its settings (`course.toml`) and all that grading makes:

    source/ release/ gradebook.db     nbgrader's: the assignments, the students' notebooks, points and comments
    submitted/                        a copy of each notebook as it was handed in
    marks/ autograded/                what grading it gave, and the notebook as it was run, with the hidden tests
    feedback/ report/ grades.csv      a page for each student, one for the instructor, and the points

Marks are written as soon as they are there, and know what they depend on. So grading can be stopped at any time; started again
it goes on, and it grades anew only what has changed. All else is made of the marks.
"""

import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path

import nbformat
from tqdm.auto import tqdm

from vaecourse.grading.authoring import build, forms
from vaecourse.grading.authoring.assignment import Assignment
from vaecourse.grading.authoring.files import digest, write
from vaecourse.grading.course import gradebook, intake, reports, settings
from vaecourse.grading.course.intake import Submission
from vaecourse.grading.course.layout import Place
from vaecourse.grading.marking import bubblewrap
from vaecourse.grading.marking.marks import Marks
from vaecourse.grading.marking.task import Task

LANE = "vaecourse.grading.marking.lane"
DECIDING = LANE, build.DECIDES, "vaecourse.grading.course.intake"
"""With all that they import, the code that decides about marks: what makes the tests, runs and judges a notebook, and what
takes it in. To this come the modules that an assignment's cells import."""

SECONDS_TO_SPARE = 60  # beyond a notebook's own time, before its process is given up


class Busy(RuntimeError):
    """The course is being graded by somebody else at this moment."""


@dataclass(frozen=True)
class Graded:
    """What a run of `grade` has done: how many submissions there are, how many of them were graded now, what went wrong."""

    submissions: int
    anew: int
    failed: tuple[str, ...]
    unclear: tuple[str, ...]


def prepare(course: Path) -> list[Assignment]:
    """Bring nbgrader's sources, and the notebooks for the students, up to date; the course's assignments.

    Prints a line for each that is new or changed. Raises ValueError and RuntimeError, with the reason.
    """
    rules = settings.load(course)
    assignments = forms.assignments(rules.sources or forms.SOURCES)
    with gradebook.opened(course) as book:
        known = {assignment.slug for assignment in assignments if gradebook.knows(book, assignment.slug)}
    stale = [
        assignment
        for assignment in assignments
        if assignment.slug not in known or _text(Place(course, assignment.slug).made_of) != build.made_of(assignment)
    ]
    if stale:
        with ProcessPoolExecutor(1, _processes(assignments)) as pool:
            pool.submit(_prepare, course, stale).result()
    return assignments


def _prepare(course: Path, assignments: Sequence[Assignment]) -> None:
    """The same of these assignments, in a process of its own: trying them out takes PyTorch."""
    try:
        for assignment, source, _ in build.sources(assignments):
            place = Place(course, assignment.slug)
            write(place.source, forms.dumps(source))
            gradebook.release(course, assignment.slug)
            write(place.made_of, build.made_of(assignment))
            print(f"{assignment.slug}: made and tried out", flush=True)
    except ValueError as error:  # a SourceError would not survive the way to the other process
        raise RuntimeError(str(error)) from None


def grade(course: Path, submissions: Path, lanes: int = os.cpu_count() or 1) -> Graded:
    """Grade all notebooks in a folder or zip, `lanes` at a time, and write the gradebook, grades.csv, feedback and reports.

    Raises SandboxMissing, Busy, ValueError, RuntimeError: with nothing graded.
    """
    bubblewrap.require()
    with _alone(course) as scratch:
        rules = settings.load(course)
        assignments = {assignment.slug: assignment for assignment in prepare(course)}
        decides = {slug: build.code(assignment, *DECIDING) for slug, assignment in assignments.items()}
        taken = intake.collect(submissions, course / "submitted", sorted(assignments))
        tasks = []
        for number, submission in enumerate(taken.submissions):
            place = Place(course, submission.assignment, submission.student)
            content = submission.notebook.read_bytes() if submission.notebook else submission.problem.encode()
            parts = repr(rules).encode(), decides[place.slug].encode()
            key = digest(content, place.source.read_bytes(), *parts)
            if _stored(place.marks) != key:
                task = Task(
                    assignments[place.slug],
                    place.student,
                    handed_in=submission.notebook,
                    problem=submission.problem,
                    source=place.source,
                    released=place.release,
                    autograded=place.autograded,
                    marks=place.marks,
                    seed=rules.seed,
                    limits=rules.limits,
                    key=key,
                    scratch=scratch / str(number),
                )
                tasks.append(task)
        failed = list(_run(tasks, lanes))
        publish(course, list(assignments.values()), taken.submissions)
        return Graded(len(taken.submissions), len(tasks), tuple(failed), tuple(taken.unclear))


def publish(course: Path, assignments: Sequence[Assignment], submissions: Sequence[Submission]) -> None:
    """Make the gradebook, grades.csv, feedback pages and reports from the marks of these submissions."""
    by_slug = {assignment.slug: assignment for assignment in assignments}
    marks: dict[str, list[Marks]] = defaultdict(list)
    with gradebook.opened(course) as book:
        for submission in submissions:
            place = Place(course, submission.assignment, submission.student)
            own, notebook = Marks.load(place.marks), nbformat.read(place.autograded, 4)
            gradebook.record(book, own, notebook, _handed_in(submission))
            own, comments = gradebook.by_hand(book, own)
            marks[place.slug].append(own)
            shown = notebook if own.ran else None
            write(place.feedback, reports.feedback(own, shown, by_slug[place.slug], comments))
    for slug, all_marks in marks.items():
        write(Place(course, slug).report, reports.class_report(by_slug[slug], all_marks))
    write(course / "grades.csv", reports.grades(marks, assignments))


def _run(tasks: Sequence[Task], lanes: int) -> Iterator[str]:
    """Mark the submissions, so many at a time; what is yielded went wrong for no fault of a student's.

    What goes wrong beside others is tried again alone, at the end.
    """
    context = _processes([task.assignment for task in tasks])
    waiting, again, running = list(reversed(tasks)), [], {}
    progress = tqdm(total=len(tasks), unit="notebook", disable=not tasks)
    try:
        while waiting or running or again:
            if not waiting and not running:
                lanes, waiting, again = 1, [replace(task, alone=True) for task in again], []
            while waiting and len(running) < lanes:
                task = waiting.pop()
                process = context.Process(target=_in_lane, args=("mark", task), daemon=True)
                process.start()
                running[process.sentinel] = process, task, time.monotonic() + task.limits.seconds + SECONDS_TO_SPARE
            late = [sentinel for sentinel, (*_, end) in running.items() if time.monotonic() > end]
            for sentinel in wait(list(running), timeout=1) or late:
                process, task, _ = running.pop(sentinel)
                process.kill()
                process.join()
                _remove(task.scratch)
                if process.exitcode != 0 and not task.alone:
                    again.append(task)
                    continue
                progress.update()
                if process.exitcode != 0:
                    last = context.Process(target=_in_lane, args=("give_up", task), daemon=True)
                    last.start()
                    last.join()
                    yield f"{task.student}, {task.assignment.slug}: its process ended with {process.exitcode}"
    finally:
        progress.close()
        for process, *_ in running.values():
            process.kill()


def _processes(assignments: Sequence[Assignment]) -> BaseContext:
    """Processes forked from one that has imported what marking needs; the lane last, which then holds all of it still."""
    return build.processes(assignments, __name__, LANE)


def _in_lane(function: str, task: Task) -> None:
    """Call a function of `lane`, in its own process: imported here, it leaves the one that waits small."""
    from vaecourse.grading.marking import lane

    getattr(lane, function)(task)


def _text(path: Path) -> str:
    """What a file holds, "" where there is none."""
    return path.read_text("utf-8") if path.exists() else ""


def _stored(marks: Path) -> str:
    """The key of the marks that are there, "" where there are none."""
    try:
        return Marks.load(marks).key
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _handed_in(submission: Submission) -> datetime | None:
    """When the copy of a submission was made, in UTC: another time where another notebook was handed in."""
    if submission.notebook is None:
        return None
    return datetime.fromtimestamp(int(submission.notebook.stat().st_mtime), UTC).replace(tzinfo=None)


@contextmanager
def _alone(course: Path) -> Iterator[Path]:
    """Hold the course for oneself; gives a new folder for what is passing. Raises Busy where another holds the course."""
    import fcntl  # not on Windows, where there is no sandbox either

    course.mkdir(parents=True, exist_ok=True)
    with open(course / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{course} is being graded already: wait for the other run, or stop it") from None
        scratch = Path(tempfile.gettempdir()) / f"vaecourse-{digest(str(course.resolve()).encode())[:8]}"
        _remove(scratch)  # of a run that was killed
        scratch.mkdir(mode=0o700)
        try:
            yield scratch
        finally:
            _remove(scratch)


def _remove(folder: Path) -> None:
    """Remove a folder in which a student's process could write: of any depth, and closed to its owner."""
    remove = ["rm", "-rf", str(folder)]
    if subprocess.run(remove, stderr=subprocess.DEVNULL).returncode:
        subprocess.run(["chmod", "-R", "u+rwx", str(folder)], stderr=subprocess.DEVNULL)
        subprocess.run(remove)
