"""What grading one submission gives: the marks of each graded cell, and what else the student should be told."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Mark:
    """One graded cell. `earned` is None while a person has yet to give the points.

    `message` is for the student, "" where all is well. `mistake` names the known wrong answer that the message comes from, as
    in "no_half"; else it is "".
    """

    cell: str
    exercise: str
    points: int
    earned: int | float | None
    message: str = ""
    mistake: str = ""


@dataclass(frozen=True)
class Marks:
    """All marks of a submission, in the assignment's order.

    `notes` say, in sentences, what happened to the submission beyond its answers: a changed test that was restored, a limit
    that was reached, a file that is no notebook. `seconds` is the wall time of the grading. `key` identifies all that the marks
    depend on; while it is the same, nothing is graded again. `ran` is False where there was no notebook that could be run.
    """

    assignment: str
    student: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = field(default=())
    seconds: int | float = 0.0
    key: str = ""
    ran: bool = True

    @property
    def earned(self) -> int | float:
        """The points given so far."""
        return sum(mark.earned or 0 for mark in self.marks)

    @property
    def points(self) -> int:
        """The points that can be had."""
        return sum(mark.points for mark in self.marks)

    @property
    def pending(self) -> int:
        """The points that a person has yet to give or refuse."""
        return sum(mark.points for mark in self.marks if mark.earned is None)

    def dumps(self) -> str:
        """The marks as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)

    @classmethod
    def load(cls, path: Path) -> "Marks":
        """Read marks that were written by `dumps`."""
        data = json.loads(path.read_text("utf-8"))
        marks = tuple(Mark(**mark) for mark in data.pop("marks"))
        return cls(marks=marks, notes=tuple(data.pop("notes")), **data)
