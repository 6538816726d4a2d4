"""What a student can ask at home: run the notebook, and print the points of its visible tests, exercise by exercise."""

from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

SECONDS_A_CELL = 300


@dataclass
class Tally:
    """Points of one exercise: earned in visible tests, offered there, and left to hidden tests or to a person."""

    earned: int = 0
    offered: int = 0
    later: int = 0
    message: str = ""


def report(path: Path) -> str:
    """Run the notebook in its own folder and say what its visible tests say. Raises ValueError where it is no notebook."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} is not a notebook: {error}") from error
    settings = {"allow_errors": True, "timeout": SECONDS_A_CELL, "resources": {"metadata": {"path": str(path.parent or ".")}}}
    NotebookClient(notebook, kernel_name="python3", **settings).execute()
    tallies = tally(notebook)
    width = max(map(len, tallies), default=0)
    lines = [
        f"{exercise:<{width}}  {t.earned} of {t.offered}" + (f", {t.later} when it is graded" if t.later else "") + t.message
        for exercise, t in tallies.items()
    ]
    earned, offered, later = (sum(getattr(t, part) for t in tallies.values()) for part in ("earned", "offered", "later"))
    return "\n".join([*lines, f"{'in all':<{width}}  {earned} of {offered}; hidden tests and a person give {later} more"])


def tally(notebook: NotebookNode) -> dict[str, Tally]:
    """The points by exercise in a notebook that was run."""
    tallies: dict[str, Tally] = {}
    exercise = None
    for cell in notebook.cells:
        role = cell.metadata.get("nbgrader", {})
        if role.get("solution") and not role.get("grade"):
            exercise = role["grade_id"]
        if not role.get("grade") or exercise is None:
            continue
        entry = tallies.setdefault(exercise, Tally())
        if role["solution"] or all(line.startswith("#") for line in cell.source.splitlines()):
            entry.later += role["points"]
            continue
        entry.offered += role["points"]
        error = next((output for output in cell.outputs if output.output_type == "error"), None)
        if error is None:
            entry.earned += role["points"]
        else:
            entry.message += f"\n    {error.ename}: {error.evalue}"
    return tallies
