"""The assignments of the book: generated from their sources, solvable, and not by the mistakes people make."""

import json
import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.nbgraderformat import MetadataValidator
from small_assignment import solved
from traitlets.config import Config

from vaecourse.grading.authoring import forms, trials
from vaecourse.grading.authoring.assignment import REGION

pytestmark = pytest.mark.slow  # the exercises of all chapters, worked through


@pytest.fixture(scope="module", params=forms.assignments(), ids=lambda assignment: assignment.slug)
def assignment(request):
    return request.param


@pytest.fixture(scope="module")
def source(assignment):
    return forms.source(assignment)


@pytest.fixture(scope="module")
def student(assignment):
    return nbformat.read(forms.ROOT / "notebooks" / "assignments" / f"{assignment.slug}.ipynb", 4)


KNOWN = re.compile(r'Check\.loads\(r\\"\\"\\"(.*?)\\"\\"\\"\)', re.S)


def alike(one: str, other: str) -> bool:
    """Whether two generated files are the same to the byte, but for how a processor rounds the known answers.

    Their numbers agree to a ten thousandth, and so their cell's checksum does not count.
    """
    texts = [KNOWN.sub("", re.sub(r'"checksum": "\w+"', "", text)) for text in (one, other)]
    return texts[0] == texts[1] and close(*(known_answers(text) for text in (one, other)))


def known_answers(text: str) -> dict:
    """Those of a notebook's text; none where it is no notebook."""
    if not KNOWN.search(text):
        return {}
    (cell,) = (
        cell for cell in json.loads(text)["cells"] if cell["metadata"].get("nbgrader", {}).get("grade_id") == "known_answers"
    )
    return json.loads("".join(cell["source"]).split('"""')[1])


def close(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-4, abs=1e-6, nan_ok=True)
    return one == other


def test_known_answers_are_held_to_a_ten_thousandth_and_all_else_to_the_byte(assignment):
    text = forms.dumps(nbformat.read(forms.ROOT / "notebooks" / "assignments" / f"{assignment.slug}.ipynb", 4))
    number = next(found for found in re.finditer(r"[1-9]\.\d{4,}", KNOWN.search(text)[0]))
    at = KNOWN.search(text).start() + number.start()
    assert alike(text, text) and not alike(text, text[:at] + f"{float(number[0]) * 1.01:.6g}" + text[at + len(number[0]) :])
    assert alike(text, text[:at] + f"{float(number[0]) * (1 + 2e-5):.7g}" + text[at + len(number[0]) :])
    assert not alike(text, text.replace("import", "imports", 1))


def test_the_repository_holds_what_the_source_generates(assignment, source):
    for path, text in forms.committed(assignment, source).items():
        assert alike(path.read_text("utf-8"), text), (
            f"{path} is not what its source generates: python -m vaecourse.grading build"
        )


def test_it_has_the_size_that_the_book_asks_for(assignment):
    assert 4 <= len(assignment.exercises) <= 7
    assert 60 <= sum(exercise.minutes for exercise in assignment.exercises) <= 120
    assert 20 <= sum(exercise.points for exercise in assignment.exercises) <= 40
    assert any(cell.kind == "answer" for cell in assignment.cells), "one exercise is an experiment, concluded in words"


def test_the_solution_earns_every_point_and_the_stubs_earn_none(source, student):
    full = trials.points(source, trials.run(source))
    assert full[0] == full[1] > 0
    unsolved = {cell.id: cell.source for cell in student.cells}
    blank = deepcopy(source)
    for cell in blank.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = unsolved[cell.id]
    assert trials.points(blank, trials.run(blank)) == (0, full[1])


def test_each_wrong_answer_loses_points_and_gets_its_message(assignment, source):
    for answer, mutant in forms.mutants(assignment, source):
        mutant = trials.alone(assignment, mutant, answer.exercise)
        errors = trials.run(mutant)
        earned, offered = trials.points(mutant, errors)
        assert earned < offered, answer
        assert any(answer.message in str(error) for error in errors.values()), answer


def test_the_student_gets_neither_solutions_nor_hidden_tests(assignment, source, student):
    text = "\n".join(cell.source for cell in student.cells)
    assert "HIDDEN TESTS" not in text and "hidden_generator" not in text and "BEGIN SOLUTION" not in text
    for cell in source.cells:
        for _, solution in REGION.findall(cell.source):
            assert solution not in text
    MetadataValidator().validate_nb(student)


def test_nbgrader_releases_the_same_notebook(assignment, source, student, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # nbgrader calls alembic by its name
    slug = assignment.slug
    forms.write(
        {path: text for path, text in forms.instructors(assignment, source).items() if "source" in path.parts}, tmp_path
    )
    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.course_id = "book"
    result = NbGraderAPI(config=config).generate_assignment(slug)
    assert result["success"], result
    released = nbformat.read(tmp_path / "release" / slug / f"{slug}.ipynb", 4)
    assert alike(forms.dumps(released), forms.dumps(student))
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        points = gradebook.find_assignment(slug).max_score
    assert points == sum(exercise.points for exercise in assignment.exercises)


def test_the_solved_notebook_run_by_a_kernel_earns_all_that_it_shows(assignment, source, tmp_path):
    path = tmp_path / f"{assignment.slug}.ipynb"
    path.write_text(forms.dumps(solved(source)), "utf-8")
    command = [sys.executable, "-m", "vaecourse.grading", "check", str(path)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    visible = sum(cell.points for cell in assignment.cells if cell.kind == "test" and cell.id.endswith("_visible"))
    total = report.splitlines()[-2].split()
    assert total[:3] == [str(visible), "of", str(visible)], report
