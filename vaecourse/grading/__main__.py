"""The commands of the graded exercises."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def check(notebook: Path) -> None:
    """Run a student's notebook and print what its visible tests give."""
    from vaecourse.grading.selfcheck import report

    print(report(notebook))


def build(folder: Path | None = None) -> None:
    """Read, try out and write all assignments: what the repository keeps or, into a folder, what only the instructor sees."""
    from vaecourse.grading.authoring import build, forms

    for assignment, source, new in build.sources(forms.assignments()):
        if folder:
            forms.write(forms.instructors(assignment, source), folder)
        else:
            forms.write(forms.committed(assignment, source))
        mistakes = sum(len(exercise.wrong) for exercise in assignment.exercises)
        points = sum(exercise.points for exercise in assignment.exercises)
        caught = f"{mistakes} wrong answers caught{'' if new else ' before: nothing has changed since'}"
        print(f"{assignment.slug}: {len(assignment.exercises)} exercises, {points} points, {caught}", flush=True)


def release(course: Path) -> None:
    """Pack what students need into one zip."""
    from vaecourse.grading.authoring import release
    from vaecourse.grading.course import grade, layout

    assignments = grade.prepare(course)
    archive = course / release.ARCHIVE
    print(f"{len(assignments)} assignments are ready. Building the students' package ...", flush=True)
    release.pack(archive, {layout.Place(course, assignment.slug).release: assignment for assignment in assignments})
    print(f"{archive}: for the students. The course's settings are in {course / 'course.toml'}.")


def grade(course: Path, submissions: Path) -> int:
    """Grade the submissions; 1 where something went wrong that is no student's fault, or where a file belongs to nobody."""
    from vaecourse.grading.course.grade import grade

    done = grade(course, submissions)
    print(f"{done.submissions} submissions, {done.anew} of them new or changed.")
    print(f"Points: {course / 'grades.csv'}. For the students: {course / 'feedback'}. For you: {course / 'report'}.")
    for sentence in (*done.unclear, *done.failed):
        print(f"- {sentence}", file=sys.stderr)
    return int(bool(done.failed or done.unclear))


def formgrader(course: Path) -> None:
    """Open nbgrader's formgrader on the course, to grade what a person must."""
    from vaecourse.grading.course.gradebook import CONFIG

    if not (course / CONFIG).exists():
        raise ValueError(f"{course} is no course yet: there is no {CONFIG} in it. Grade something first.")
    os.chdir(course)  # where nbgrader reads its configuration
    command = [sys.executable, "-m", "jupyter", "lab", "--LabApp.default_url=/formgrader"]
    os.execv(command[0], command)


def main() -> int:
    """Read the command line and run the command."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for this process's children, too: of small tensors, threads have nothing
    parser = argparse.ArgumentParser(prog="python -m vaecourse.grading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    student = commands.add_parser("check", help="run a student's notebook and print the points of its visible tests")
    student.add_argument("notebook", type=Path)
    if find_spec("vaecourse.grading.course"):  # a student's package has no more than this
        _add_instructors(commands)
    given = vars(parser.parse_args())
    name = given.pop("command")
    run = {"build": build, "instructor": build, "check": check, "release": release, "grade": grade, "formgrader": formgrader}
    try:
        return run[name](**given) or 0
    except KeyboardInterrupt:
        sys.exit("Stopped. What was done is kept: the same command goes on.")
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"{error}")


def _add_instructors(commands: argparse._SubParsersAction) -> None:
    """The commands of those who write assignments and grade them."""
    commands.add_parser("build", help="write student notebooks and exercise pages again from their sources")
    instructor = commands.add_parser("instructor", help="write nbgrader's sources, solutions and wrong answers, as notebooks")
    instructor.add_argument("folder", type=Path, help="where to: a new folder, or nbgrader's course")
    for name, words in (
        ("release", "pack what the students need into one zip"),
        ("grade", "grade a folder or zip of submissions"),
        ("formgrader", "open formgrader, for what a person must grade"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("--course", type=Path, default=Path("course"), help="the course's folder (default: course)")
        if name == "grade":
            command.add_argument("submissions", type=Path)


if __name__ == "__main__":
    sys.exit(main())
