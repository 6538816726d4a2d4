"""Make the labs: each text in labs/ becomes an executed notebook one folder up.

python notebooks/source/build_labs.py            all of them
python notebooks/source/build_labs.py 07_vae     one
"""

import hashlib
import os
import re
import sys
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from vaecourse.claims import unmarked

SOURCES = Path(__file__).parent / "labs"
INSTRUCTORS = re.compile(r"\s*<details><summary><b>For the instructor</b></summary>\n.*?</details>", re.DOTALL)
NOTEBOOKS = Path(__file__).parents[1]


def convert(source: Path, *, claims: bool = False) -> NotebookNode:
    """The notebook of a lab's text, not executed. A cell's id comes from its content, so that it outlives other edits.

    With `claims` it keeps the cells that assert what the text says (`vaecourse.claims`), the marks of these sentences and the
    instructor's notes, which the book prints, for the tests; a class gets none of them. A phrase that sets a figure,
    {set}`so`, is one of the figure's buttons.
    """
    notebook = jupytext.read(source, fmt="md:myst")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = cell.source if claims else INSTRUCTORS.sub("", unmarked(cell.source))
            cell.source = re.sub(r"\{set\}`([^`]+)`", r"**\1**", text)
    if not claims:
        kept = [cell for cell in notebook.cells if "claims" not in cell.metadata.get("tags", [])]
        notebook.cells = [cell for cell in kept if cell.source]  # the notes may be all of a cell
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    twins = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        cell.id = f"{digest}-{twins[digest]}" if twins[digest] else digest
        twins[digest] += 1
    notebook.nbformat_minor = 5
    return notebook


def execute(notebook: NotebookNode) -> NotebookNode:
    """Run all cells in a fresh kernel, on one thread; raises nbclient's CellExecutionError where one fails.

    A lab's tensors are tiny: threads would wait for one another, and for whatever else the machine does.
    """
    settings = {"timeout": 300, "record_timing": False, "coalesce_streams": True, "store_widget_state": False}
    NotebookClient(notebook, resources={"metadata": {"path": NOTEBOOKS}}, **settings).execute(
        env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return notebook


def settle(notebook: NotebookNode) -> NotebookNode:
    """Leave out Python's version, and controls, which without their kernel would move and change nothing."""
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None):
                output.data = {"text/plain": "Controls: run the notebook to see and to move them."}
    return notebook


def build(source: Path) -> Path:
    """Convert, execute and write one lab; return the notebook's path."""
    target = NOTEBOOKS / f"{source.stem}.ipynb"
    nbformat.write(settle(execute(convert(source))), target)
    return target


if __name__ == "__main__":
    for source in sorted(SOURCES.glob("*.md")):
        if not sys.argv[1:] or source.stem in sys.argv[1:]:
            print(build(source))
