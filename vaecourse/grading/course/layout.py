"""Where things lie in a course's folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """The files of one assignment, or of one student's submission of it, in a course."""

    course: Path
    slug: str
    student: str = ""

    @property
    def source(self) -> Path:
        """nbgrader's source: solutions and hidden tests."""
        return self.course / "source" / self.slug / f"{self.slug}.ipynb"

    @property
    def made_of(self) -> Path:
        """What the source was made of."""
        return self.course / "source" / f"{self.slug}.made-of"

    @property
    def release(self) -> Path:
        """The notebook that the students get."""
        return self.course / "release" / self.slug / f"{self.slug}.ipynb"

    @property
    def marks(self) -> Path:
        """What grading gave."""
        return self.course / "marks" / self.slug / f"{self.student}.json"

    @property
    def autograded(self) -> Path:
        """The notebook as it was run, with the hidden tests."""
        return self.course / "autograded" / self.student / self.slug / f"{self.slug}.ipynb"

    @property
    def feedback(self) -> Path:
        """The student's page."""
        return self.course / "feedback" / self.student / self.slug / f"{self.slug}.html"

    @property
    def report(self) -> Path:
        """The instructor's page."""
        return self.course / "report" / f"{self.slug}.html"
