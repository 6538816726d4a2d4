"""What a course gives to its students, in one zip: the notebooks, the book's package, and how to begin."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from vaecourse.grading import course as courses
from vaecourse.grading import forms
from vaecourse.grading.layout import Place

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
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files give the same zip


def pack(course: Path) -> Path:
    """Write COURSE/exercises.zip, and return its path. Raises ValueError and RuntimeError, with the reason."""
    assignments = courses.prepare(course)
    with tempfile.TemporaryDirectory() as folder:
        wheel = _wheel(Path(folder))
        files = {f"{own.slug}.ipynb": Place(course, own.slug).release.read_bytes() for own in assignments}
        listed = "\n".join(f"- `{own.slug}.ipynb`: {own.title}" for own in assignments)
        start = START.format(wheel=wheel.name, notebooks=listed, first=next(iter(files)))
        files |= {"START.md": start.encode(), wheel.name: wheel.read_bytes()}
    path = course / ARCHIVE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(f"exercises/{name}", EPOCH), content, zipfile.ZIP_DEFLATED)
    return path


def _wheel(folder: Path) -> Path:
    """The book's package as a wheel, built in the folder from a copy: building leaves traces."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(forms.ROOT / name, folder)
    shutil.copytree(forms.ROOT / "vaecourse", folder / "vaecourse", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if built.returncode:
        raise RuntimeError(f"the package could not be built:\n{built.stderr}")
    (wheel,) = folder.glob("*.whl")
    return wheel
