"""A course, graded from end to end: the sandbox, the gradebook, the pages, and grading that is stopped and goes on."""

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
import small_assignment
import torch

from vaecourse.grading import checks
from vaecourse.grading.authoring import forms
from vaecourse.grading.course import grade as courses
from vaecourse.grading.course import gradebook
from vaecourse.grading.marking.marks import Marks

SLUG = small_assignment.SLUG


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """An assignment of one exercise, with a student's own number and a text."""
    return small_assignment.assignment(tmp_path_factory.mktemp("sources"), "twice", "draw", "why")


@pytest.fixture
def course(tmp_path, twice):
    """A new course with this assignment."""
    folder = tmp_path / "course"
    folder.mkdir()
    (folder / "course.toml").write_text(f'seed = "autumn"\nsources = "{twice.folder.parent}"\n', "utf-8")
    return folder


@pytest.fixture(scope="module")
def solved(twice):
    """The student's notebook, solved by a given function and student: (code, name, number, text) -> the file's text."""
    stub = forms.student(forms.source(twice))

    def solve(code="return 2 * x", name="Ada", own="", text="Because it is so."):
        notebook = deepcopy(stub)
        cells = {cell.id: cell for cell in notebook.cells}
        cells["twice"].source = f"def twice(x):\n    {code}"
        own = own or "torch.rand((), generator=checks.own_generator('twice', student))"
        cells["draw"].source = f"student = {name!r}\nown = {own}"
        cells["why"].source = text
        return forms.dumps(notebook)

    return solve


@pytest.fixture
def handed_in(tmp_path, solved):
    """A class: a solution, a wrong answer, a copied number, a file that is no notebook."""
    folder = tmp_path / "handed-in"
    texts = {
        "ada": solved(),
        "ben": solved("return x**2", name="Ben"),
        "cy": solved(name="ada"),
        "dee": "this is no notebook",
    }
    for student, text in texts.items():
        (folder / student).mkdir(parents=True)
        (folder / student / f"{SLUG}.ipynb").write_text(text, "utf-8")
    return folder


def marks(course: Path, student: str) -> Marks:
    return Marks.load(course / "marks" / SLUG / f"{student}.json")


def earned(course: Path, student: str) -> list:
    return [mark.earned for mark in marks(course, student).marks]


def rows(course: Path) -> dict[str, dict[str, str]]:
    with open(course / "grades.csv", encoding="utf-8-sig", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def in_gradebook(course: Path) -> list[tuple]:
    """All that the gradebook knows of points, as plain data."""
    with closing(sqlite3.connect(course / "gradebook.db")) as database:
        query = """
            select sa.student_id, bc.name, g.auto_score, g.manual_score, g.needs_manual_grade
            from grade g join base_cell bc on bc.id = g.cell_id
            join submitted_notebook sn on sn.id = g.notebook_id join submitted_assignment sa on sa.id = sn.assignment_id
            order by 1, 2"""
        return database.execute(query).fetchall()


def command(*words) -> list[str]:
    return [sys.executable, "-m", "vaecourse.grading", *map(str, words)]


def test_a_class_is_graded_and_each_gets_what_it_earned(needs_sandbox, course, handed_in):
    done = courses.grade(course, handed_in)
    assert (done.submissions, done.anew, done.failed, done.unclear) == (4, 4, (), ())

    assert earned(course, "ada") == [1, 2, 1, None]
    assert earned(course, "ben") == [0, 0, 1, None]
    assert earned(course, "cy") == [1, 2, 0, None], "a copied number, with its name, is not one's own"
    assert earned(course, "dee") == [0, 0, 0, 0]
    visible, hidden, *_ = marks(course, "ben").marks
    assert visible.mistake == "squared" and "squared, not doubled." in visible.message and hidden.message
    assert "not the name under which this was handed in" in marks(course, "cy").marks[2].message
    assert "no valid notebook" in marks(course, "dee").notes[0]

    table = rows(course)
    assert (table["ada"][SLUG], table["ada"][f"{SLUG} pending"]) == ("4", "2")
    assert table["dee"][SLUG] == "0" and "no valid notebook" in table["dee"][f"{SLUG} notes"]
    scores = {(student, cell): (auto, needs) for student, cell, auto, _, needs in in_gradebook(course)}
    assert scores["ada", "twice_hidden"] == (2, 0) and scores["ben", "twice_hidden"] == (0, 0)
    assert scores["ada", "why"] == (None, 1)
    for student in table:
        page = (course / "feedback" / student / SLUG / f"{SLUG}.html").read_text("utf-8")
        assert student in page and "hidden_generator" not in page
    assert "squared" in (course / "report" / f"{SLUG}.html").read_text("utf-8")
    executed = nbformat.read(course / "autograded" / "ada" / SLUG / f"{SLUG}.ipynb", 4)
    nbformat.validate(executed)


def test_only_what_changed_is_graded_again_and_points_given_by_a_person_stay(needs_sandbox, course, handed_in, solved):
    courses.grade(course, handed_in)
    with gradebook.opened(course) as book:
        grade = book.find_grade("why", SLUG, SLUG, "ada")
        grade.manual_score, grade.needs_manual_grade = 1, False
        book.find_comment("why", SLUG, SLUG, "ada").manual_comment = "Say more."
        book.db.commit()

    (handed_in / "ben" / f"{SLUG}.ipynb").write_text(solved(name="Ben"), "utf-8")
    done = courses.grade(course, handed_in)
    assert (done.submissions, done.anew) == (4, 1)
    assert earned(course, "ben") == [1, 2, 1, None]
    assert rows(course)["ada"][SLUG] == "5" and rows(course)["ada"][f"{SLUG} pending"] == "0"
    assert "Say more." in (course / "feedback" / "ada" / SLUG / f"{SLUG}.html").read_text("utf-8")

    before = in_gradebook(course)
    assert courses.grade(course, handed_in).anew == 0
    assert in_gradebook(course) == before

    (handed_in / "ada" / f"{SLUG}.ipynb").write_text(solved(text="Because I say so."), "utf-8")
    os.utime(handed_in / "ada" / f"{SLUG}.ipynb")
    time.sleep(1.1)  # the gradebook counts seconds
    assert courses.grade(course, handed_in).anew == 1
    needs = {cell: needed for student, cell, *_, needed in in_gradebook(course) if student == "ada"}
    assert needs["why"] == 1, "another answer must be read again"


def test_killed_halfway_it_goes_on_and_ends_with_the_same_gradebook(needs_sandbox, course, handed_in, solved, tmp_path):
    for number in range(2):
        folder = handed_in / f"more{number}"
        folder.mkdir()
        (folder / f"{SLUG}.ipynb").write_text(solved(name=f"more{number}"), "utf-8")

    run = subprocess.Popen(
        command("grade", "--course", course, handed_in), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list((course / "marks").rglob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    first = {path: path.stat().st_mtime_ns for path in (course / "marks").rglob("*.json")}
    assert 2 <= len(first) < 6, "it was to be killed halfway"

    done = courses.grade(course, handed_in)
    assert done.submissions == 6 and done.anew <= 6 - len(first), "what has marks is not graded twice"
    assert all(path.stat().st_mtime_ns == then for path, then in first.items())

    other = tmp_path / "other"
    other.mkdir()
    (other / "course.toml").write_text((course / "course.toml").read_text())
    courses.grade(other, handed_in)
    assert in_gradebook(course) == in_gradebook(other)
    assert (course / "grades.csv").read_bytes() == (other / "grades.csv").read_bytes()


def test_two_gradings_at_once_refuse_politely(needs_sandbox, course, handed_in):
    with courses._alone(course):
        told = subprocess.run(command("grade", "--course", course, handed_in), capture_output=True, text=True)
    assert told.returncode == 1 and "being graded already" in told.stderr and "Traceback" not in told.stderr


@pytest.mark.slow
def test_without_the_sandbox_nothing_is_graded_and_it_says_what_to_install(course, handed_in, tmp_path):
    environment = dict(os.environ, PATH=str(tmp_path))
    told = subprocess.run(command("grade", "--course", course, handed_in), capture_output=True, text=True, env=environment)
    assert told.returncode == 1 and "apt-get install bubblewrap" in told.stderr and "Traceback" not in told.stderr
    assert not (course / "marks").exists()


def test_the_hidden_inputs_follow_the_seed_of_the_course(needs_sandbox, course, handed_in, solved, monkeypatch):
    monkeypatch.setenv(checks.COURSE_SEED, "autumn")
    hidden = torch.randn(5, generator=checks.hidden_generator("twice")).tolist()
    known = {3: 6} | {number: 2 * number for number in hidden}
    (handed_in / "eve").mkdir()
    (handed_in / "eve" / f"{SLUG}.ipynb").write_text(solved(f"return {known}[x]"), "utf-8")
    courses.grade(course, handed_in)
    assert earned(course, "eve")[:2] == [1, 2], "whoever knows the seed knows the answers"
    (course / "course.toml").write_text((course / "course.toml").read_text().replace("autumn", "winter"))
    courses.grade(course, handed_in)
    assert earned(course, "eve")[:2] == [1, 0] and earned(course, "ada")[:2] == [1, 2]


@pytest.mark.slow
def test_the_release_is_one_zip_with_all_that_a_student_needs(course):
    told = subprocess.run(command("release", "--course", course), capture_output=True, text=True, check=True).stdout
    assert "exercises.zip" in told
    with zipfile.ZipFile(course / "exercises.zip") as archive:
        names = archive.namelist()
        text = archive.read(f"exercises/{SLUG}.ipynb").decode()
        start = archive.read("exercises/START.md").decode()
    assert len(names) == 3 and any(name.endswith(".whl") for name in names)
    assert "BEGIN HIDDEN" not in text and "return 2 * x" not in text and f"{SLUG}.ipynb" in start


def test_the_books_assignment_solved_earns_all_that_a_machine_gives_and_untouched_nothing(needs_sandbox, tmp_path):
    assignment = forms.assignments()[0]
    slug = assignment.slug
    source = forms.source(assignment)
    stub = forms.student(source)
    answers = {cell.id: cell.source.replace("Ada Lovelace", "ada") for cell in source.cells}
    answers["measure_c"] = "print('left out here: it takes its time')"
    solved = deepcopy(stub)
    for cell in solved.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = answers[cell.id]
    for student, notebook in (("ada", solved), ("ben", stub)):
        (tmp_path / "handed-in" / student).mkdir(parents=True)
        (tmp_path / "handed-in" / student / f"{slug}.ipynb").write_text(forms.dumps(notebook), "utf-8")
    courses.grade(tmp_path / "course", tmp_path / "handed-in")

    by_hand = sum(cell.points for cell in assignment.cells if cell.kind == "answer")
    ada, ben = (Marks.load(tmp_path / "course" / "marks" / slug / f"{student}.json") for student in ("ada", "ben"))
    assert (ada.earned, ada.pending) == (ada.points - by_hand, by_hand), ada
    assert (ben.earned, ben.pending) == (0, 0)
    assert {mark.message for mark in ben.marks if mark.message} <= {
        "nothing is written here yet",
        "Enter your name, or the number by which your course knows you: your data depend on it.",
    }


@pytest.mark.slow
def test_formgrader_needs_a_course(tmp_path):
    told = subprocess.run(command("formgrader", "--course", tmp_path), capture_output=True, text=True)
    assert told.returncode == 1 and "is no course yet" in told.stderr


def test_formgrader_shows_texts_without_anything_that_acts():
    text = "<script>alert(1)</script> <img src=x onerror=alert(1)> **bold** [link](javascript:alert(1)) <b onclick=x>b</b>"
    shown = gradebook.safe_markdown(text)
    assert "<script" not in shown and "onerror" not in shown.replace("&lt;", "") and 'href="javascript' not in shown
    assert "<strong>bold</strong>" in gradebook.safe_markdown("**bold**")


def test_a_folder_that_its_owner_may_not_enter_is_removed_too(tmp_path):
    folder = tmp_path / "scratch" / "closed"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("x")
    folder.chmod(0)
    courses._remove(tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
