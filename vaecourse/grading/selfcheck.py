"""What a student can ask at home: run the notebook, and print the points of its visible tests, exercise by exercise."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

SECONDS_A_CELL = 300


@dataclass
class Tally:
    """One exercise: points earned in visible tests, offered there, and left to hidden tests or a person; what is wrong."""

    earned: int = 0
    offered: int = 0
    later: int = 0
    messages: list[str] = field(default_factory=list)


def report(path: Path) -> str:
    """Run the notebook in its own folder and say what its visible tests say. Raises ValueError where it is no notebook."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} is not a notebook: {error}") from error
    NotebookClient(
        notebook,
        kernel_name="python3",
        allow_errors=True,
        timeout=SECONDS_A_CELL,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    tallies = tally(notebook)
    total = Tally(*(sum(getattr(t, part) for t in tallies.values()) for part in ("earned", "offered", "later")))
    width = max(map(len, tallies), default=0)
    lines = [f"{'exercise':<{width}}    points    later*"]
    for exercise, t in [*tallies.items(), ("", total)]:
        lines.append(f"{exercise:<{width}}  {t.earned:>3} of {t.offered:<3}  {t.later:>5}")
        lines += [f"    {message}" for message in t.messages]
    return "\n".join([*lines, "* when it is graded: by hidden tests, or by a person"])


def tally(notebook: NotebookNode) -> dict[str, Tally]:
    """The points by exercise in a notebook that was run."""
    tallies: dict[str, Tally] = {}
    exercise = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.match("## Exercise (.*)", cell.source)):
            exercise = heading[1]
        role = cell.metadata.get("nbgrader", {})
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
            entry.messages.append(in_words(error))
    return tallies


def in_words(error: NotebookNode) -> str:
    """An error of a test, for the student: a check's own words as they are."""
    if error.ename == "NotImplementedError" and not error.evalue:
        return "nothing is written here yet"
    return error.evalue if error.ename in ("Mistake", "StudentError") else f"{error.ename}: {error.evalue}"
