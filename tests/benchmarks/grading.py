"""How long a class waits to be graded, beside stock nbgrader, which has no sandbox.

    python tests/benchmarks/grading.py [SUBMISSIONS]

grades a class of 100, or so many, in the first assignment: the solution and the wrong answers in turn, each with its
measurements. Stock nbgrader grades the first tenth of them, one after another, as it does. Memory is that of the grader's own
processes, without the sandboxes; what they share counts once. Writes book/results/grading.benchmark.json.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import harness
import psutil

from vaecourse.grading.authoring import forms
from vaecourse.grading.course import grade, gradebook

SECONDS_BETWEEN_LOOKS = 0.5


def class_of(students: int, folder: Path) -> None:
    """Submissions of a class, in folders as they are handed in."""
    assignment = forms.assignments()[0]
    source = forms.source(assignment)
    stub = forms.student(source)
    answers = [source, *(mutant for _, mutant in forms.mutants(assignment, source))]
    for number in range(students):
        name = f"student{number:03d}"
        written = {cell.id: cell.source for cell in answers[7 * number % len(answers)].cells}
        notebook = deepcopy(stub)
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("solution"):
                cell.source = written[cell.id].replace("Ada Lovelace", name)
        path = folder / name / f"{assignment.slug}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(forms.dumps(notebook), "utf-8")


def ours(students: int, folder: Path) -> dict:
    """A whole class, on all cores, in sandboxes, by the command that an instructor types."""
    command = [sys.executable, "-m", "vaecourse.grading", "grade", "--course", folder / "course", folder / "handed-in"]
    grade.prepare(folder / "course")
    started, most = time.perf_counter(), 0.0
    with subprocess.Popen(command) as grading:
        while grading.poll() is None:
            most = max(most, memory(grading.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    assert grading.returncode == 0
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return row("vaecourse.grading", students, seconds, memory_mb=most, seconds_again=time.perf_counter() - started)


def memory(pid: int) -> float:
    """The memory, in MB, of a process and all below it; what they share counts once, sandboxes do not count."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                total += 0 if "bwrap" in line or "ipykernel_launcher" in line else process.memory_full_info().pss
    return total / 1e6


def stock(students: int, folder: Path) -> dict:
    """nbgrader autograde, as it comes."""
    slug = forms.assignments()[0].slug
    there = folder / "stock"
    (there / "source" / slug).mkdir(parents=True)
    made = Path("source", slug, f"{slug}.ipynb")
    (there / made).write_bytes((folder / "course" / made).read_bytes())
    gradebook.release(there, slug)
    (there / gradebook.CONFIG).write_text(f"c = get_config()\nc.CourseDirectory.root = {str(there)!r}\n", "utf-8")
    for number in range(students):
        name = f"student{number:03d}"
        target = there / "submitted" / name / slug / f"{slug}.ipynb"
        target.parent.mkdir(parents=True)
        target.write_bytes((folder / "handed-in" / name / f"{slug}.ipynb").read_bytes())
    command = [Path(sys.executable).with_name("nbgrader"), "autograde", slug, "--create"]
    started = time.perf_counter()
    subprocess.run(command, cwd=there, check=True, capture_output=True)
    return row("nbgrader autograde, stock, no sandbox", students, time.perf_counter() - started)


def row(what: str, students: int, seconds: float, **more) -> dict:
    """One row of the table."""
    return {"what": what, "submissions": students, "seconds": seconds, "seconds_a_submission": seconds / students, **more}


def main() -> None:
    students = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        class_of(students, folder / "handed-in")
        rows = [ours(students, folder), stock(max(1, students // 10), folder)]
    for line in harness.write("grading", {"students": students}, rows)["rows"]:
        print(line)


if __name__ == "__main__":
    main()
