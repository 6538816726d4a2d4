"""The commands of the graded exercises."""

import argparse
import sys
from pathlib import Path


def build(folder: Path | None = None) -> None:
    """Read, try out and write all assignments: what the repository keeps or, into a folder, what only the instructor sees."""
    from vaecourse.grading import forms, trials

    for assignment in forms.assignments():
        source = forms.source(assignment)
        trials.verify(assignment, source, forms.mutants(assignment, source))
        if folder:
            forms.write(forms.instructors(assignment, source), folder)
        else:
            forms.write(forms.committed(assignment, source))
        mistakes = sum(len(exercise.wrong) for exercise in assignment.exercises)
        points = sum(exercise.points for exercise in assignment.exercises)
        print(f"{assignment.slug}: {len(assignment.exercises)} exercises, {points} points, {mistakes} wrong answers caught")


def check(notebook: Path) -> None:
    """Run a student's notebook and print what its visible tests give."""
    from vaecourse.grading.selfcheck import report

    print(report(notebook))


def main() -> None:
    """Read the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m vaecourse.grading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="write student notebooks and exercise pages again from their sources")
    instructor = commands.add_parser("instructor", help="write nbgrader's sources, solutions and wrong answers, as notebooks")
    instructor.add_argument("folder", type=Path, help="where to: a new folder, or nbgrader's course")
    student = commands.add_parser("check", help="run a student's notebook and print the points of its visible tests")
    student.add_argument("notebook", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "check":
            check(arguments.notebook)
        else:
            build(getattr(arguments, "folder", None))
    except (ValueError, OSError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
