"""What students get: a package of their own, in an environment that has nothing of this repository."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from small_assignment import SLUG, solved

from helpers import ROOT
from vaecourse import provenance
from vaecourse.grading.authoring import build, forms, release

ALL = """
import json, pkgutil, sys, vaecourse
modules = ["vaecourse"]
for module in pkgutil.walk_packages(vaecourse.__path__, "vaecourse."):
    __import__(module.name)
    modules.append(module.name)
print(json.dumps([modules, [sys.modules[module].__file__ for module in modules]]))
"""


@pytest.fixture(scope="module")
def unpacked(small, small_source, tmp_path_factory):
    """The folder of exercises, with an environment in it: the wheel, and other people's packages."""
    folder = tmp_path_factory.mktemp("student")
    notebook = folder / f"{SLUG}.ipynb"
    notebook.write_text(forms.dumps(forms.student(small_source)), "utf-8")
    release.pack(folder / release.ARCHIVE, {notebook: small})
    with zipfile.ZipFile(folder / release.ARCHIVE) as archive:
        archive.extractall(folder)
    exercises = folder / "exercises"
    venv.create(exercises / ".venv", symlinks=True)
    place = Path(sysconfig.get_path("purelib", "venv", {"base": str(exercises / ".venv")}))
    (place / "others.pth").write_text(sysconfig.get_path("purelib"))  # an editable vaecourse there is not found by this way
    (wheel,) = exercises.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return exercises


@pytest.fixture(scope="module")
def python(unpacked):
    """Runs the student's Python."""
    program = unpacked / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    return lambda *words: subprocess.run([program, *words], capture_output=True, text=True, cwd=unpacked)


@pytest.fixture(scope="module")
def modules(python, unpacked):
    """The modules of the student's package, each of which was imported."""
    done = python("-W", "error", "-c", ALL)
    assert done.returncode == 0, done.stderr
    names, files = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(unpacked) for file in files)
    return set(names)


@pytest.mark.slow
def test_a_student_gets_the_chapters_the_checks_and_nothing_of_the_instructor(modules):
    assert {"vaecourse.pca", "vaecourse.vae", "vaecourse.explorable", "vaecourse.results"} <= modules
    of_grading = {module for module in modules if module.startswith("vaecourse.grading.")}
    assert of_grading == {f"vaecourse.grading.{name}" for name in ("__main__", "checks", "selfcheck", "statistics")}


@pytest.mark.slow
def test_labs_and_assignments_find_what_they_import_there(modules):
    for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/assignments/*.ipynb")]:
        cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert provenance.closure(build.imported(cells)) <= modules, path


@pytest.mark.slow
def test_a_student_counts_points_by_the_command_and_is_offered_no_other(python, unpacked, small_source):
    (unpacked / f"{SLUG}.ipynb").write_text(forms.dumps(solved(small_source)), "utf-8")
    done = python("-m", "vaecourse.grading", "check", f"{SLUG}.ipynb")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].split() == ["3", "of", "3", "8"]
    for command in ("build", "instructor", "release", "grade", "formgrader"):
        told = python("-m", "vaecourse.grading", command)
        assert told.returncode == 2 and f"invalid choice: '{command}'" in told.stderr
