"""Where things lie in a course's folder, how they are written there, and what tells that something has changed."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
DECIDING = {"authoring.py", "checks.py", "marking.py", "sandbox.py", "selfcheck.py", "statistics.py", "trials.py", "wire.py"}
"""What of this folder decides about marks."""


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


def write(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8", newline="")
    os.replace(partial, path)


def digest(*parts: bytes) -> str:
    """A text that is another where any of the parts is."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def code() -> bytes:
    """The code that marks depend on: the book's package, and what runs and judges a notebook."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if "grading" not in path.parts[len(PACKAGE.parts) :]]
    files += [PACKAGE / "grading" / name for name in sorted(DECIDING)]
    return b"".join(path.read_bytes() for path in files)
