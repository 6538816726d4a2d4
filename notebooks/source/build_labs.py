"""Make the labs: each text in labs/ becomes an executed notebook one folder up.

python notebooks/source/build_labs.py            all of them
python notebooks/source/build_labs.py 07_vae     one
"""

import hashlib
import os
import sys
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

SOURCES = Path(__file__).parent / "labs"
NOTEBOOKS = Path(__file__).parents[1]


def convert(source: Path) -> NotebookNode:
    """The notebook of a lab's text, not executed. A cell's id comes from its content, so that it outlives other edits."""
    notebook = jupytext.read(source, fmt="md:myst")
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
    settings = {"timeout": 120, "record_timing": False, "coalesce_streams": True, "store_widget_state": False}
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
