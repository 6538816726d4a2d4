"""nbgrader's gradebook of a course: SQLite, where formgrader finds what a person is to grade and leaves the points."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import bleach
from nbconvert.filters import markdown2html
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades
from traitlets.config import Config

from vaecourse.grading.marking.marks import Marks

CONFIG = "nbgrader_config.py"
# What a text may be marked up with.
TEXT_TAGS = {"a", "blockquote", "br", "code", "del", "details", "div", "em", "hr", "img", "p", "pre", "span", "strong"}
LIST_TAGS = {"h1", "h2", "h3", "h4", "h5", "h6", "li", "ol", "ul", "table", "tbody", "td", "th", "thead", "tr", "summary"}
CONFIG_TEXT = '''\
"""For formgrader. Submissions are graded by `make grade`, in a sandbox; nbgrader's own autograding, which has none, is off."""

c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.course_id = {name!r}
c.Autograde.sanitize_preprocessors = ["vaecourse.grading.course.gradebook.NotHere"]
c.GenerateFeedback.preprocessors = ["vaecourse.grading.course.gradebook.NotHere"]
c.HTMLExporter.filters = {{"markdown2html": "vaecourse.grading.course.gradebook.safe_markdown"}}
'''


class NotHere(NbGraderPreprocessor):
    """Stands in the place of nbgrader's steps that would run a student's code here, or show a student the hidden tests."""

    def preprocess(self, nb: NotebookNode, resources: dict):
        """Refuse."""
        raise RuntimeError("submissions are graded, and feedback is written, by `make grade`: nothing was done")


def safe_markdown(source: str) -> str:
    """A text as HTML, without anything that acts: formgrader shows students' texts where the instructor is logged in."""
    return bleach.clean(markdown2html(source), tags=TEXT_TAGS | LIST_TAGS, attributes={"a": ["href"], "img": ["alt"]})


def release(course: Path, slug: str) -> None:
    """Let nbgrader make the student's notebook of COURSE/source, and enter the assignment. Raises RuntimeError."""
    (course / CONFIG).write_text(CONFIG_TEXT.format(root=str(course.resolve()), name=course.resolve().name), "utf-8")
    config = Config()
    config.CourseDirectory.root = str(course.resolve())
    config.CourseDirectory.course_id = course.resolve().name
    with _alembic():
        result = NbGraderAPI(config=config).generate_assignment(slug)
    if "Cannot add or remove cells" in result.get("log", ""):
        raise RuntimeError(
            f"{slug} has other cells than when it was graded here first, and the gradebook cannot follow: go on with the "
            f"assignment as it was (a copy of its folder, named as `sources` in {course / 'course.toml'}), or with a new course"
        )
    if not result["success"]:
        raise RuntimeError(f"nbgrader could not release {slug}: {result.get('error') or result.get('log')}")


@contextmanager
def opened(course: Path) -> Iterator[Gradebook]:
    """The course's gradebook."""
    with _alembic():
        gradebook = Gradebook(f"sqlite:///{(course / 'gradebook.db').resolve()}")
    with gradebook:
        yield gradebook


@contextmanager
def _alembic() -> Iterator[None]:
    """nbgrader calls alembic by its name, to make a database: let it be found in an environment that is not activated."""
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path


def knows(gradebook: Gradebook, slug: str) -> bool:
    """Whether the assignment was entered."""
    try:
        return bool(gradebook.find_notebook(slug, slug))
    except MissingEntry:
        return False


def record(gradebook: Gradebook, marks: Marks, notebook: NotebookNode, submitted: datetime | None) -> None:
    """Enter a graded submission, handed in at that time (UTC), unless it is there with the same marks.

    Points that a person has given stay; where the submission has changed since, formgrader asks to look at them again.
    """
    slug, student = marks.assignment, gradebook.update_or_create_student(marks.student).id
    auto = {mark.cell: mark.earned for mark in marks.marks}
    try:
        there = gradebook.find_submission(slug, student)
        if there.timestamp == submitted and {grade.name: grade.auto_score for grade in there.notebooks[0].grades} == auto:
            return
    except MissingEntry:
        pass
    with gradebook.db.no_autoflush:  # nbgrader builds a submission from parts that are not in the session yet
        gradebook.update_or_create_submission(slug, student, timestamp=submitted)
    place = {"notebook": slug, "assignment": slug, "student": student, "db_url": str(gradebook.engine.url)}
    SaveAutoGrades().preprocess(notebook, {"nbgrader": place})
    gradebook.db.expire_all()  # SaveAutoGrades has a session of its own


def by_hand(gradebook: Gradebook, marks: Marks) -> tuple[Marks, dict[str, str]]:
    """The marks with the points that a person gave in formgrader, and that person's comments, by cell."""
    entry = gradebook.find_submission_notebook(marks.assignment, marks.assignment, marks.student)
    given = {
        grade.name: (grade.auto_score or 0 if grade.manual_score is None else grade.manual_score) + (grade.extra_credit or 0)
        for grade in entry.grades
        if (grade.manual_score is not None or grade.extra_credit) and not grade.needs_manual_grade
    }
    merged = tuple(replace(mark, earned=_whole(given[mark.cell])) if mark.cell in given else mark for mark in marks.marks)
    comments = {comment.name: comment.manual_comment for comment in entry.comments if comment.manual_comment}
    return replace(marks, marks=merged), comments


def _whole(points: int | float) -> int | float:
    return int(points) if points == int(points) else points
