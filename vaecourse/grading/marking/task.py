"""A submission to mark, and what it may use, as they go from the process that waits to the one that marks."""

from dataclasses import dataclass
from pathlib import Path

from vaecourse.grading.authoring.assignment import Assignment

NOTEBOOK_BYTES = 20_000_000
"""The most that a notebook may have; with all its figures, a solved assignment has less than one million."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Seconds: of a cell, or of one call of a student's function in a test; of the whole notebook. Of all the student's processes
    together: megabytes of memory, processes and threads, megabytes of files. Kilobytes that one cell may print and draw.
    """

    seconds_a_cell: int = 60
    seconds: int = 300
    memory_mb: int = 3000
    processes: int = 128
    disk_mb: int = 256
    output_kb: int = 500


@dataclass(frozen=True)
class Task:
    """A submission to mark.

    `handed_in` is the student's notebook, None where there is none, for the reason that `problem` says. `source` and `released`
    are nbgrader's source of the assignment and the notebook that the students were given; `autograded` and `marks`, where the
    notebook is written as it was run, and what it gives. `seed` is the course's. `key` identifies all that the marks depend on.
    `scratch` is a folder to be made for it; `alone`, whether nothing else is marked beside it.
    """

    assignment: Assignment
    student: str
    handed_in: Path | None
    problem: str
    source: Path
    released: Path
    autograded: Path
    marks: Path
    seed: str
    limits: Limits
    key: str
    scratch: Path
    alone: bool = False
