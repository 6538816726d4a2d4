"""Assignments are built where they have changed, and what has not changed is neither built nor graded again."""

import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from small_assignment import assignment

from vaecourse import provenance
from vaecourse.grading.authoring import build, forms
from vaecourse.grading.authoring.assignment import SourceError, read
from vaecourse.grading.course.grade import DECIDING


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The folder where sources stay, a new one."""
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    return tmp_path / "built"


def test_what_has_not_changed_is_not_built_again(built, small, small_source, tmp_path):
    ((of, source, new),) = build.sources([small])
    assert (of, new) == (small, True) and forms.dumps(source) == forms.dumps(small_source)
    (kept,) = built.iterdir()
    ((_, again, new),) = build.sources([small])
    assert not new and forms.dumps(again) == forms.dumps(source)

    edited = assignment(tmp_path / "edited")
    file = edited.folder / "assignment.md"
    file.write_text(file.read_text("utf-8").replace("Nothing slow.", "Nothing new."), "utf-8")
    ((_, source, new),) = build.sources([read(edited.folder)])
    assert new and "Nothing new." in source.cells[0].source
    assert not kept.exists() and len(list(built.iterdir())) == 1


def test_an_assignment_that_does_not_do_its_work_is_named_and_not_kept(built, tmp_path):
    small = assignment(tmp_path / "sources", "twice")
    file = small.folder / "assignment.md"
    file.write_text(file.read_text("utf-8").replace("return 2 * x", "return 1 / 0"), "utf-8")
    with pytest.raises(SourceError, match="twice_visible raises ZeroDivisionError: division by zero"):
        list(build.sources([read(small.folder)]))
    assert not built.exists()


ENDLESS = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background has it ignored
from vaecourse.grading.authoring import build
from vaecourse.grading.authoring.assignment import read
if __name__ == "__main__":
    build.BUILT = Path(sys.argv[1])
    for assignment, *_ in build.sources([read(folder) for folder in sys.argv[2:]]):
        print(assignment.slug, flush=True)
"""


@pytest.mark.slow
def test_interrupted_in_the_midst_of_a_trial_it_ends_at_once_and_leaves_what_is_whole(built, small, tmp_path):
    endless = assignment(tmp_path / "sources", "twice").folder.rename(tmp_path / "91_endless")
    file = endless / "assignment.md"
    file.write_text(file.read_text("utf-8").replace("return 2 * x", "while True: pass"), "utf-8")
    script = tmp_path / "script.py"
    script.write_text(ENDLESS)
    command = [sys.executable, script, built, small.folder, endless]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout.readline() == "90_small\n"
    os.killpg(run.pid, signal.SIGINT)
    started = time.monotonic()
    _, told = run.communicate(timeout=60)
    assert time.monotonic() - started < 20
    assert run.returncode != 0 and told.rstrip().endswith("KeyboardInterrupt") and told.count("Traceback") == 1
    (kept,) = built.iterdir()
    assert nbformat.read(kept, 4).cells


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, whose code is what counts."""
    shutil.copytree(provenance.ROOT, tmp_path / "vaecourse", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "vaecourse")
    return tmp_path / "vaecourse"


@pytest.mark.parametrize(
    "file, line, decides",
    [
        ("grading/marking/bubblewrap.py", "# a comment", False),
        ("grading/marking/bubblewrap.py", "CODE = 1", True),
        ("grading/marking/lane.py", "CODE = 1", True),
        ("grading/marking/wire.py", "CODE = 1", True),
        ("grading/authoring/forms.py", "CODE = 1", True),
        ("grading/authoring/trials.py", "CODE = 1", True),
        ("grading/course/intake/names.py", "CODE = 1", True),
        ("grading/checks.py", "CODE = 1", True),
        ("vae.py", "CODE = 1", True),
        ("training/loop.py", "CODE = 1", True),
        ("gradients/by_path.py", "CODE = 1", False),
        ("experiments/vae.py", "CODE = 1", False),
        ("experiments/fvi.py", "# a comment", False),
        ("grading/course/reports.py", "CODE = 1", False),
        ("grading/course/gradebook.py", "CODE = 1", False),
    ],
)
def test_marks_depend_on_the_code_that_makes_runs_and_judges_a_notebook(package, file, line, decides):
    chapter = read(forms.SOURCES / "07_vae")
    before = build.code(chapter, *DECIDING)
    (package / file).write_text(f"{(package / file).read_text('utf-8')}\n{line}\n", "utf-8")
    assert (build.code(chapter, *DECIDING) != before) == decides


def test_marks_depend_on_what_the_assignment_imports(package, small):
    before = build.code(small, *DECIDING)
    (package / "vae.py").write_text("CODE = 1\n", "utf-8")
    assert build.code(small, *DECIDING) == before
