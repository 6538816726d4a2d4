"""What a student can ask at home: run the notebook, and print the points of its visible tests, exercise by exercise.

A notebook made by `authoring` lists its graded cells, so that one that was deleted is missed; `LIST` is that list's name in the
notebook's metadata. Of a notebook without it nobody knows whether all of its tests are still there: it never has full points.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

SECONDS_A_CELL = 300
LIST = "vaecourse_graded"


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
        notebook.cells  # noqa: B018, other JSON has none
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is not a notebook, or is damaged: {error}") from error
    died = _run(notebook, path.parent)
    tallies = tally(notebook)
    total = Tally(*(sum(getattr(t, part) for t in tallies.values()) for part in ("earned", "offered", "later")))
    width = max(map(len, tallies), default=0)
    lines = [f"{'exercise':<{width}}    points    later*"]
    for exercise, t in [*tallies.items(), ("", total)]:
        offered = t.offered if LIST in notebook.metadata or t.earned < t.offered else "?"
        lines.append(f"{exercise:<{width}}  {t.earned:>3} of {offered:<3}  {t.later:>5}")
        lines += [f"    {message}" for message in t.messages]
    lines += [died] * bool(died)
    if LIST not in notebook.metadata:
        lines.append("This notebook does not say which tests belong to it: is one missing? Nobody can tell from it alone.")
    return "\n".join([*lines, "* when it is graded: by hidden tests, or by a person"])


def _run(notebook: NotebookNode, folder: Path) -> str:
    """Run the cells; a sentence where Python died before the last, else nothing."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    running: list[NotebookNode] = []
    client = NotebookClient(
        notebook,
        on_cell_start=lambda cell, cell_index: running.append(cell),
        kernel_name="python3",
        allow_errors=True,
        timeout=SECONDS_A_CELL,
        interrupt_on_timeout=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except DeadKernelError:
        running[-1].execution_count = None  # it has not run to its end
        return f"Python died in the cell that begins {running[-1].source.splitlines()[0]!r}: nothing after it was run."
    return ""


def tally(notebook: NotebookNode) -> dict[str, Tally]:
    """The points by exercise in a notebook that was run. A copy of a test counts no second time, a missing one is named."""
    listed = notebook.metadata.get(LIST, {})
    tallies: dict[str, Tally] = {entry["exercise"]: Tally() for entry in listed.values()}
    exercise, seen = None, set()
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.match("## Exercise (.*)", cell.source)):
            exercise = heading[1]
        role = cell.metadata.get("nbgrader", {})
        name = role.get("grade_id")
        home = listed.get(name, {}).get("exercise", exercise)
        if not role.get("grade") or home is None:
            continue
        entry = tallies.setdefault(home, Tally())
        if name in seen:
            entry.messages.append(f"the test {name!r} is there twice, and counts once, as the first says")
            continue
        seen.add(name)
        if role["solution"] or all(line.startswith("#") for line in cell.source.splitlines()):
            entry.later += role["points"]
            continue
        entry.offered += role["points"]
        if said := wrong(cell):
            entry.messages.append(said)
        else:
            entry.earned += role["points"]
    for name in (name for name in listed if name not in seen):
        entry, missing = tallies[listed[name]["exercise"]], listed[name]
        entry.messages.append(f"the test {name!r} is missing: take it from a fresh copy of the notebook")
        if missing["later"]:
            entry.later += missing["points"]
        else:
            entry.offered += missing["points"]
    return tallies


def wrong(cell: NotebookNode) -> str:
    """What keeps a test from its points, for the student; nothing where it passed."""
    if cell.cell_type != "code":
        return f"the test {cell.metadata.nbgrader.grade_id!r} has become text: make it a code cell again"
    if cell.execution_count is None:
        return "this test was not run"
    error = next((output for output in cell.outputs if output.output_type == "error"), None)
    return "" if error is None else in_words(error)


def in_words(error: NotebookNode) -> str:
    """An error of a test, for the student: a check's own words as they are."""
    if error.ename == "NotImplementedError" and not error.evalue:
        return "nothing is written here yet"
    return error.evalue if error.ename in ("Mistake", "StudentError") else f"{error.ename}: {error.evalue}"
