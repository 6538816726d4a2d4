"""Everything that is generated from an assignment's source. Rebuilds are identical to the byte.

nbgrader's own steps make the student's notebook: stubs where solutions were, hidden tests gone.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

from vaecourse.grading.authoring import files
from vaecourse.grading.authoring.assignment import (
    HIDDEN,
    SOLUTION,
    Assignment,
    Cell,
    Exercise,
    WrongAnswer,
    read,
    with_answer,
)
from vaecourse.grading.selfcheck import LIST

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "notebooks" / "source" / "assignments"
RELEASE = (
    LockCells,
    ClearSolutions,
    ClearOutput,
    ComputeChecksums,
    ClearHiddenTests,
    ClearMarkScheme,
    ComputeChecksums,
    CheckCellMetadata,
)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KNOWN = '''\
# The known answers, right and wrong, to the checks below. Generated from the assignment's source: there is nothing to change.
check = checks.Check.loads(r"""
{}
""")'''


def assignments(sources: Path = SOURCES) -> list[Assignment]:
    """All assignments in a folder, read from their sources: the book's."""
    return [read(folder) for folder in sorted(sources.iterdir()) if folder.is_dir()]


def source(assignment: Assignment, each: Callable = map) -> NotebookNode:
    """nbgrader's source notebook: solutions, hidden tests, and the known answers, found by running the wrong answers.

    `each` runs them: one after another or, as a pool of processes maps, side by side. Raises SourceError.
    """
    from vaecourse.grading.authoring import trials  # with PyTorch: only where there is something to try out

    bare = _notebook(assignment, "")
    known = trials.known_answers(assignment, bare, mutants(assignment, bare), each)
    return _notebook(assignment, KNOWN.format(trials.dumps(known)))


def mutants(assignment: Assignment, source: NotebookNode) -> Iterator[tuple[WrongAnswer, NotebookNode]]:
    """The source notebook with each wrong answer in its solution's place."""
    for exercise in assignment.exercises:
        for answer in exercise.wrong:
            notebook = deepcopy(source)
            (cell,) = (cell for cell in notebook.cells if cell.id == exercise.id)
            cell.source = with_answer(cell.source, answer.code)
            yield answer, notebook


def student(source: NotebookNode) -> NotebookNode:
    """The student's notebook, as nbgrader releases it."""
    notebook, resources = deepcopy(source), {}
    for step in RELEASE:
        notebook, resources = step().preprocess(notebook, resources)
    return notebook


def solutions(assignment: Assignment, source: NotebookNode) -> NotebookNode:
    """The instructor's notebook: solutions, all tests, and after each exercise the mistakes to expect."""
    notebook, last = deepcopy(source), {cell.exercise: cell.id for cell in assignment.cells}
    after = {last[exercise.id]: exercise for exercise in assignment.exercises}
    cells = []
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)
        cell.source = "\n".join(line for line in cell.source.split("\n") if line.strip() not in {*SOLUTION, *HIDDEN})
        cells.append(cell)
        if cell.id in after:
            exercise = after[cell.id]
            mistakes = "\n".join(f"- `{answer.name}`: {answer.message}" for answer in exercise.wrong)
            cells.append(v4.new_markdown_cell(f"**Mistakes to expect**\n\n{mistakes}", id=f"{exercise.id}-mistakes"))
    notebook.cells = cells
    return notebook


def page(assignment: Assignment, student: NotebookNode) -> str:
    """The exercise page of the book: text, stubs and visible tests."""
    notebook = f"../../notebooks/assignments/{assignment.slug}.ipynb"
    title, intro = _parts(student.cells[0].source)
    blocks = [
        f"% Generated from {SOURCES.relative_to(ROOT).as_posix()}/{assignment.slug} by `python -m vaecourse.grading build`.",
        title,
        f"To solve them, download the notebook: {{download}}`{assignment.slug}.ipynb <{notebook}>`. Its checks answer at once.",
        _myst(intro),
    ]
    for cell, written in zip(student.cells[1:], assignment.cells[1:], strict=True):
        if written.kind == "text":
            blocks.append(_myst(cell.source))
        elif written.type == "markdown":
            blocks.append("*Your answer goes into the notebook, and is read by a person.*")
        elif written.exercise and not _only_comments(cell.source):
            blocks.append(f"```python\n{cell.source}\n```")
    return "\n\n".join(blocks) + "\n"


def dumps(notebook: NotebookNode) -> str:
    """A notebook as the text of its file."""
    return nbformat.writes(notebook, version=4) + "\n"


def committed(assignment: Assignment, source: NotebookNode) -> dict[Path, str]:
    """The generated files that are kept in the repository, with their contents."""
    notebook = student(source)
    return {
        ROOT / "notebooks" / "assignments" / f"{assignment.slug}.ipynb": dumps(notebook),
        ROOT / "book" / "exercises" / f"{assignment.slug}.md": page(assignment, notebook),
    }


def instructors(assignment: Assignment, source: NotebookNode) -> dict[Path, str]:
    """The generated files that are not: nbgrader's source, the solutions, the mutants; paths from a course's folder."""
    slug = assignment.slug
    made = {
        Path("source", slug, f"{slug}.ipynb"): dumps(source),
        Path("solutions", f"{slug}.ipynb"): dumps(solutions(assignment, source)),
    }
    for answer, notebook in mutants(assignment, source):
        made[Path("mutants", slug, f"{answer.exercise}.{answer.name}.ipynb")] = dumps(notebook)
    return made


def write(texts: dict[Path, str], folder: Path = ROOT) -> None:
    """Write the files, each whole to its path from the folder; one that holds its text already stays as it is."""
    for path, text in texts.items():
        target = folder / path
        if not target.exists() or target.read_bytes() != text.encode():
            files.write(target, text)


def _notebook(assignment: Assignment, known: str) -> NotebookNode:
    cells = []
    for cell in assignment.cells:
        text = known if cell.kind == "known" else _text(assignment, cell)
        new = v4.new_code_cell if cell.type == "code" else v4.new_markdown_cell
        cells.append(new(text, id=cell.id, metadata=_metadata(cell)))
    return v4.new_notebook(cells=cells, metadata=deepcopy(METADATA) | {LIST: _graded(assignment)})


def _graded(assignment: Assignment) -> dict[str, dict]:
    """The list of the graded cells, by which a copy shows that one was deleted."""
    title = {exercise.id: f"{number}: {exercise.title}" for number, exercise in enumerate(assignment.exercises, 1)}
    return {
        cell.id: {
            "exercise": title[cell.exercise],
            "points": cell.points,
            "later": cell.kind == "answer" or HIDDEN[0] in cell.source,
        }
        for cell in assignment.cells
        if cell.kind in {"test", "answer"}
    }


def _metadata(cell: Cell) -> dict:
    """What nbgrader must know of a cell, and whether JupyterLab folds it."""
    if cell.kind == "text":
        return {}
    graded, answered = cell.kind in {"test", "answer"}, cell.kind in {"solution", "entry", "answer"}
    role = {"grade": graded, "grade_id": cell.id, "locked": not answered, "solution": answered, "task": False}
    role |= {"schema_version": 3} | ({"points": cell.points} if graded else {})
    return {"nbgrader": role} | ({"jupyter": {"source_hidden": True}} if cell.kind == "known" else {})


def _text(assignment: Assignment, cell: Cell) -> str:
    """A cell's text, with what is known about the exercises filled in."""
    if cell.kind != "text":
        return cell.source
    text = cell.source.replace("{{exercises}}", _table(assignment))
    for number, exercise in enumerate(assignment.exercises, 1):
        if cell.exercise == exercise.id and text.startswith("## "):
            _, rest = _parts(text)
            return f"## Exercise {number}: {exercise.title}\n\n*{_contract(assignment, exercise)}.*\n\n{rest}"
    return text


def _contract(assignment: Assignment, exercise: Exercise) -> str:
    by_hand = sum(cell.points for cell in assignment.cells if cell.kind == "answer" and cell.exercise == exercise.id)
    contract = f"{exercise.difficulty.capitalize()}, about {exercise.minutes} minutes, {exercise.points} points"
    return contract + (f", {by_hand} of them given by a person" if by_hand else "")


def _table(assignment: Assignment) -> str:
    rows = [
        f"| {number} | {exercise.title} | {exercise.difficulty} | {exercise.minutes} | {exercise.points} |"
        for number, exercise in enumerate(assignment.exercises, 1)
    ]
    minutes = sum(exercise.minutes for exercise in assignment.exercises)
    total = sum(exercise.points for exercise in assignment.exercises)
    head = ["|  | exercise | difficulty | minutes | points |", "| ---: | --- | --- | ---: | ---: |"]
    return "\n".join([*head, *rows, f"|  | in all |  | {minutes} | {total} |"])


def _parts(text: str) -> tuple[str, str]:
    """The heading, and what follows it."""
    heading, _, rest = text.partition("\n")
    return heading, rest.strip()


def _myst(text: str) -> str:
    """A notebook's Markdown as the book's: displayed equations become directives."""
    return re.sub(r"^\$\$\n(.*?)\n\$\$$", r"```{math}\n:class: unnumbered\n\n\1\n```", text, flags=re.MULTILINE | re.DOTALL)


def _only_comments(code: str) -> bool:
    return all(line.startswith("#") or not line.strip() for line in code.splitlines())
