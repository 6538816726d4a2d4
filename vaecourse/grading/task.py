"""A submission to mark, as it goes from the process that waits to the one that marks it."""

from dataclasses import dataclass
from pathlib import Path

from vaecourse.grading.authoring import Assignment
from vaecourse.grading.intake import Submission
from vaecourse.grading.layout import Place
from vaecourse.grading.settings import Settings


@dataclass(frozen=True)
class Task:
    """A submission to mark. `scratch` is a folder to be made for it; `alone`, whether nothing else is marked beside it."""

    assignment: Assignment
    submission: Submission
    course: Path
    rules: Settings
    key: str
    scratch: Path
    alone: bool = False

    @property
    def place(self) -> Place:
        """Where its files lie."""
        return Place(self.course, self.submission.assignment, self.submission.student)
