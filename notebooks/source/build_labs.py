"""Make the labs: each text in labs/ becomes an executed notebook one folder up.

python notebooks/source/build_labs.py            all of them
python notebooks/source/build_labs.py 07_vae     one
"""

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

SOURCES = Path(__file__).parent / "labs"
NOTEBOOKS = Path(__file__).parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"


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
    """Run all cells in a fresh kernel; raises nbclient's CellExecutionError where one fails."""
    settings = {"timeout": 120, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": NOTEBOOKS}}, **settings).execute()
    return notebook


def settle(notebook: NotebookNode) -> NotebookNode:
    """Leave out what differs from run to run: the Python's version and the widgets' random names."""
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}):
                output.data["text/plain"] = "Controls: run the notebook to move them."
    text = nbformat.writes(notebook)
    names = dict.fromkeys(re.findall(r'"model_id": "([0-9a-f]{32})"', text))
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for i, name in enumerate([*names, *(name for name in states if name not in names)]):
        text = text.replace(name, f"{i:032x}")
    return nbformat.reads(text, as_version=4)


def build(source: Path) -> Path:
    """Convert, execute and write one lab; return the notebook's path."""
    target = NOTEBOOKS / f"{source.stem}.ipynb"
    nbformat.write(settle(execute(convert(source))), target)
    return target


if __name__ == "__main__":
    for source in sorted(SOURCES.glob("*.md")):
        if not sys.argv[1:] or source.stem in sys.argv[1:]:
            print(build(source))
