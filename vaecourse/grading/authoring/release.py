"""What students get, in one zip: the notebooks, the book's package without what only an instructor uses, and how to begin."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat

from vaecourse import provenance
from vaecourse.grading.authoring import build, forms
from vaecourse.grading.authoring.assignment import Assignment

ARCHIVE = "exercises.zip"
START = """\
# Exercises

You need Python 3.11, 3.12 or 3.13. In this folder:

    python -m venv .venv
    .venv/bin/pip install ./{wheel} jupyterlab ipykernel nbclient
    .venv/bin/jupyter lab

(On Windows, `.venv\\Scripts` in place of `.venv/bin`.) Open a notebook:

{notebooks}

The tests below each exercise answer at once. To count your points so far:

    .venv/bin/python -m vaecourse.grading check {first}

Hand in the notebook itself, under its own name. Leave the locked cells as they are; cells of your own may be added anywhere.
"""
INSTRUCTORS = tuple(f"vaecourse.{part}" for part in ("experiments", "grading.authoring", "grading.marking", "grading.course"))
"""What a student's package lacks, but for the experiments of which a notebook imports something."""

EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files give the same zip


def pack(archive: Path, assignments: Mapping[Path, Assignment]) -> None:
    """Write the zip of the students' notebooks, each with its assignment. Raises RuntimeError where there can be no wheel."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = _wheel(Path(folder), [*(forms.ROOT / "notebooks").glob("*.ipynb"), *assignments])
        files = {notebook.name: notebook.read_bytes() for notebook in assignments}
        listed = "\n".join(f"- `{notebook.name}`: {assignment.title}" for notebook, assignment in assignments.items())
        start = START.format(wheel=wheel.name, notebooks=listed, first=next(iter(files)))
        files |= {"START.md": start.encode(), wheel.name: wheel.read_bytes()}
    partial = archive.with_name(f"{archive.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(f"exercises/{name}", EPOCH), content, zipfile.ZIP_DEFLATED)
    os.replace(partial, archive)


def _wheel(folder: Path, notebooks: Iterable[Path]) -> Path:
    """The book's package as a wheel for those who work with these notebooks, built in the folder from a copy."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(forms.ROOT / name, folder)
    modules = set(map(provenance.name, provenance.ROOT.rglob("*.py"))) - {provenance.PACKAGE}
    cells = [cell.source for path in notebooks for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    others = {module for module in modules if module.split(".")[1] not in ("grading", "experiments")}
    needed = provenance.closure(others | build.imported(cells))
    left_out = {module for module in modules - needed if module.startswith(INSTRUCTORS)}

    def ignored(where: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or provenance.name(Path(where, name)) in left_out]

    shutil.copytree(provenance.ROOT, folder / "vaecourse", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if built.returncode:
        raise RuntimeError(f"the package could not be built:\n{built.stderr}")
    (wheel,) = folder.glob("*.whl")
    return wheel
