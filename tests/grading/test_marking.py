"""Marking one submission: the student's answers, the assignment's everything else, and words that help.

The kernel here runs in the same process, and speaks through the same wire as the one in the sandbox.
"""

import io
import json
import os
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from hostile.attacks import find
from nbformat import NotebookNode, v4
from small_assignment import POINTS, SECRET, SLUG, solved

from vaecourse.grading.authoring import forms
from vaecourse.grading.authoring.assignment import defined
from vaecourse.grading.authoring.plain import encode
from vaecourse.grading.marking import judge, wire
from vaecourse.grading.marking.judge import CELLS_AT_MOST, Exam, Judge, read, rebuild, refuse
from vaecourse.grading.marking.marks import Mark, Marks
from vaecourse.grading.marking.sandbox import TIME_LIMIT, MachineFull, error_output
from vaecourse.grading.marking.task import NOTEBOOK_BYTES, Limits

pytestmark = pytest.mark.usefixtures("no_shape_checks")  # the kernel is of another class
TESTS = [f"{exercise}_{kind}" for exercise in ("twice", "norm", "settings") for kind in ("visible", "hidden")]


class Kernel:
    """Stands for the student's kernel: runs code in this process, and keeps what it was told to run or asked."""

    def __init__(self, *_):
        self.names, self.told, self.dead = {"__name__": "__main__"}, [], ""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, cell: NotebookNode) -> None:
        self.told.append(cell.source)
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                exec(cell.source, self.names)
            cell.outputs = [v4.new_output("stream", text=printed.getvalue())] if printed.getvalue() else []
        except Exception as error:
            cell.outputs = [error_output(type(error).__name__, str(error))]

    def ask(self, **request):
        if self.dead:
            raise wire.StudentError(f"not run: {self.dead}")
        self.told.append(encode(request))
        return wire.answer(wire.serve(self.names, self.told[-1]))


@pytest.fixture(scope="module")
def exam(small, small_source):
    return Exam(small, small_source, forms.student(small_source))


@pytest.fixture
def submission(exam):
    """The solved notebook, to be changed."""
    return solved(exam.source)


@pytest.fixture
def grade(exam, monkeypatch):
    """Marks a submission with a kernel of that class, which is then `grade.kernel`."""

    def mark(submitted: NotebookNode, kind: type[Kernel] = Kernel) -> Marks:
        def start(*arguments):
            mark.kernel = kind(*arguments)
            return mark.kernel

        monkeypatch.setattr(judge, "StudentKernel", start)
        marks, mark.notebook = judge.mark(exam, "ada", submitted, Limits(), Path("unused"))
        nbformat.validate(mark.notebook)
        return marks

    return mark


def of(marks: Marks, cell: str) -> Mark:
    """The mark of a cell."""
    return next(mark for mark in marks.marks if mark.cell == cell)


def sources(notebook: NotebookNode, names: str = "") -> list[str]:
    """What stands in the cells behind the cell of the first name and before that of the second."""
    first, second = names.split()
    ids = [cell.id for cell in notebook.cells]
    return [cell.source for cell in notebook.cells[ids.index(first) + 1 : ids.index(second)]]


def add(notebook: NotebookNode, after: str | None, *cells: NotebookNode) -> None:
    """Put cells behind the one of that id, or at the top."""
    place = notebook.cells.index(find(notebook, after)) + 1 if after else 0
    notebook.cells[place:place] = cells


def code(source: str) -> NotebookNode:
    return v4.new_code_cell(source)


def copy(cell: NotebookNode, source: str) -> NotebookNode:
    """A copy of a cell as JupyterLab makes it, with another text: nbgrader's metadata stay, the id is new."""
    return NotebookNode(deepcopy(cell), source=source, id=code("").id)


# Points and messages


def test_the_solution_earns_all_points_and_leaves_the_text_to_a_person(grade, submission):
    marks = grade(submission)
    assert (marks.assignment, marks.student, marks.ran, marks.notes) == (SLUG, "ada", True, ())
    assert [mark.cell for mark in marks.marks] == [*TESTS, "why"]
    assert (marks.earned, marks.pending, marks.points) == (POINTS, 2, POINTS + 2)
    assert not any(mark.message or mark.mistake for mark in marks.marks)
    assert [mark.exercise for mark in marks.marks] == ["twice"] * 2 + ["norm"] * 2 + ["settings"] * 3


def test_the_notebook_as_it_was_handed_out_earns_nothing_and_is_told_so(grade, exam):
    marks = grade(deepcopy(exam.released))
    assert marks.earned == marks.pending == 0 and marks.notes == ()
    assert {of(marks, test).message for test in TESTS} == {"nothing is written here yet"}


def test_each_known_mistake_costs_its_points_and_gets_its_message_and_its_name(grade, exam, submission):
    for answer, notebook in forms.mutants(exam.assignment, exam.source):
        wrong = deepcopy(submission)
        find(wrong, answer.exercise).source = find(notebook, answer.exercise).source
        marks = grade(wrong)
        visible = of(marks, f"{answer.exercise}_visible")
        assert answer.message in visible.message and visible.mistake == answer.name
        assert marks.earned == POINTS - 3 and of(marks, f"{answer.exercise}_hidden").message


def test_an_answer_whose_cell_stopped_is_told_why_its_function_is_not_defined(grade, submission):
    find(submission, "twice").source = "1 / 0\n\ndef twice(x):\n    return 2 * x"
    marks = grade(submission)
    assert of(marks, "twice_visible").message == (
        "NameError: name 'twice' is not defined: "
        "the cell that should define it stopped with ZeroDivisionError: division by zero"
    )
    assert marks.earned == POINTS - 3


def test_a_function_that_nobody_defined_is_said_to_be_missing(grade, submission):
    find(submission, "twice").source = "def double(x):\n    return 2 * x"
    assert of(grade(submission), "twice_visible").message == "NameError: name 'twice' is not defined"


def test_a_cell_that_defines_its_function_and_stops_then_still_earns_its_points(grade, submission):
    find(submission, "twice").source += "\n1 / 0"
    assert grade(submission).earned == POINTS


@pytest.mark.parametrize(
    "answer, message",
    [
        ("raise ValueError('x \\x1b[2J')", "ValueError: x \N{REPLACEMENT CHARACTER}[2J"),
        ("raise checks.Mistake('all well')", "Mistake: all well"),
        ("return print(x)", "double must be a tensor or a number, got None: is a `return` missing?"),
        ("return checks", "double must be a tensor or a number, got a value of type module."),
        ("return iter([x])", "double must be a tensor or a number, got a value of type list_iterator."),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("return torch.zeros(10**7)", "ValueError: a tensor of 40,000,000 bytes"),
    ],
)
def test_what_goes_wrong_in_an_answer_is_said_in_words_and_costs_that_exercise_alone(answer, message, grade, submission):
    find(submission, "twice").source = f"def twice(x):\n    {answer}"
    marks = grade(submission)
    assert of(marks, "twice_visible").message == message
    assert marks.earned == POINTS - 3


def test_a_machine_without_memory_is_no_error_of_the_answer(grade, submission):
    class Full(Kernel):
        def ask(self, **request):
            raise MachineFull("the machine had no memory left")

    with pytest.raises(MachineFull):
        grade(submission, Full)


def test_a_long_message_is_cut(grade, submission):
    find(submission, "twice").source = "def twice(x):\n    raise RuntimeError(5000 * 'x')"
    assert of(grade(submission), "twice_visible").message == "RuntimeError: " + 1000 * "x"


def test_what_is_no_function_is_plain_data_and_no_call(grade, submission):
    find(submission, "twice").source = "twice = 6"
    assert of(grade(submission), "twice_visible").message == "TypeError: 'int' object is not callable"


# What is the assignment's stays the assignment's


def test_hidden_tests_never_reach_the_student_s_kernel(grade, submission):
    grade(submission)
    assert SECRET in find(grade.notebook, "twice_hidden").source
    assert not any(SECRET in told or "compare" in told or "check(" in told for told in grade.kernel.told)


def test_a_student_who_redefines_what_the_tests_use_redefines_nothing_in_them(grade, submission):
    find(submission, "twice").source = "def twice(x):\n    return 0"
    add(submission, "twice", code("class checks:\n    compare = print\n\ncheck = torch = zip = print"))
    assert grade(submission).earned == POINTS - 3


def test_a_changed_locked_cell_is_run_as_it_was_handed_out_and_that_is_told(grade, submission):
    find(submission, "packages").source = "torch = checks = None"
    find(submission, "twice").source = "def twice(x):\n    return 0"
    find(submission, "twice_hidden").source = "print('correct')"
    marks = grade(submission)
    assert marks.earned == POINTS - 3 and of(marks, "twice_hidden").earned == 0
    assert marks.notes == tuple(
        f"The locked cell {name!r} was changed in your notebook: it was run as it was handed out."
        for name in ("packages", "twice_hidden")
    )


def test_a_missing_locked_cell_is_run_in_its_place_and_that_is_told(grade, submission):
    submission.cells = [cell for cell in submission.cells if cell.id not in ("known_answers", "norm_visible")]
    marks = grade(submission)
    assert marks.earned == POINTS
    assert marks.notes == tuple(
        f"The locked cell {name!r} is missing in your notebook: it was run as it was handed out."
        for name in ("known_answers", "norm_visible")
    )


def test_a_locked_cell_that_is_there_twice_is_run_once(grade, exam, submission):
    test = find(submission, "twice_hidden")
    add(submission, "packages", copy(test, "raise SystemExit"))
    add(submission, "twice_hidden", copy(test, test.source))
    marks = grade(submission)
    assert marks.earned == POINTS and marks.notes == ()
    assert [cell.id for cell in grade.notebook.cells] == [cell.id for cell in exam.released.cells]


def test_cells_in_another_order_are_run_in_the_assignment_s(grade, exam, submission):
    submission.cells.reverse()
    marks = grade(submission)
    assert marks.earned == POINTS and marks.notes == ()
    assert [cell.id for cell in grade.notebook.cells] == [cell.id for cell in exam.released.cells]


def test_points_cannot_be_set_by_metadata(grade, exam):
    blank = deepcopy(exam.released)
    for cell in blank.cells:
        role = cell.metadata.get("nbgrader", {})
        role |= {"points": 1000, "grade": True, "solution": True, "locked": False, "checksum": "0" * 32} if role else {}
    bonus = code("pass")
    bonus.metadata["nbgrader"] = find(blank, "twice_hidden").metadata.nbgrader | {"grade_id": "bonus"}
    add(blank, "twice", bonus)
    marks = grade(blank)
    assert [(mark.cell, mark.points) for mark in marks.marks] == list(zip([*TESTS, "why"], [1, 2] * 3 + [2], strict=True))
    assert marks.earned == 0


def test_outputs_that_a_student_brings_along_are_gone(grade, submission):
    find(submission, "twice").source = "def twice(x):\n    return 0"
    for cell in submission.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [v4.new_output("stream", text="correct.")], 7
    marks = grade(submission)
    assert marks.earned == POINTS - 3
    assert [output.get("text") for output in find(grade.notebook, "norm_visible").outputs] == ["norm: correct.\n"]
    assert find(grade.notebook, "twice").outputs == [] and find(grade.notebook, "twice").execution_count is None


# What is the student's stays the student's


def test_added_cells_keep_their_order_and_their_place(exam, submission):
    add(submission, None, code("top = 1"), v4.new_markdown_cell("At the top."))
    add(submission, "twice-text1", code("a = 1"), v4.new_raw_cell("raw"), code("b = 2"))
    add(submission, "twice_hidden", code("c = 3"))
    add(submission, "why", v4.new_markdown_cell("At the end."))
    notebook, notes = rebuild(exam, submission)
    assert notes == []
    assert [cell.source for cell in notebook.cells[:2]] == ["top = 1", "At the top."]
    assert sources(notebook, "twice-text1 twice") == ["a = 1", "raw", "b = 2"]
    assert sources(notebook, "twice_hidden norm-text1") == ["c = 3"]
    assert notebook.cells[-1].source == "At the end."
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells) == len(exam.released.cells) + 7


def test_added_cells_run_where_they_stand(grade, submission):
    find(submission, "twice").source = "def twice(x):\n    return FACTOR * x"
    add(submission, "twice-text1", code("FACTOR = 2"))
    add(submission, "twice_hidden", code("FACTOR = 7\nprint('seven')"))
    assert grade(submission).earned == POINTS
    (added,) = (cell for cell in grade.notebook.cells if "seven" in cell.source)
    assert added.outputs[0].text == "seven\n"


def test_added_cells_stay_behind_the_cell_they_followed_where_that_moved(exam, submission):
    norm = find(submission, "norm")
    submission.cells.remove(norm)
    add(submission, "packages", norm, code("of_norm = 1"))
    notebook, _ = rebuild(exam, submission)
    assert sources(notebook, "norm norm_visible") == ["of_norm = 1"]


def test_of_an_answer_s_copies_all_run_and_the_last_is_the_answer(grade, exam, submission):
    answer = find(submission, "twice")
    right, answer.source = answer.source, "first = 1"
    add(submission, "twice", code("own = first"), copy(answer, "second = own"), code("third = second"), copy(answer, right))
    add(submission, "why", code("last = third"))
    assert grade(submission).earned == POINTS
    assert sources(grade.notebook, "twice-text1 twice_visible") == [
        "first = 1",
        "own = first",
        "second = own",
        "third = second",
        right,
    ]
    assert find(grade.notebook, "twice").source == right and grade.kernel.names["last"] == 1


def test_a_copy_of_an_answer_is_not_graded_twice_nor_an_answer_that_came_before_it(grade, submission):
    answer = find(submission, "twice")
    add(submission, "settings_hidden", copy(answer, "def twice(x):\n    return 0"))
    marks = grade(submission)
    assert (marks.earned, len(marks.marks)) == (POINTS - 3, 7)


def test_a_deleted_answer_is_told_and_its_stub_is_run(grade, exam, submission):
    submission.cells = [cell for cell in submission.cells if cell.id not in ("twice", "why")]
    marks = grade(submission)
    assert marks.notes == ("The cell of your answer 'twice' is missing.", "The cell of your answer 'why' is missing.")
    assert marks.earned == POINTS - 3 and of(marks, "twice_visible").message == "nothing is written here yet"
    assert (of(marks, "why").earned, marks.pending) == (0, 0)
    assert find(grade.notebook, "twice").source == find(exam.released, "twice").source


def test_an_answer_is_known_by_its_cell_s_id_where_its_metadata_are_lost(grade, submission):
    for cell in submission.cells:
        cell.metadata = NotebookNode()
    marks = grade(submission)
    assert (marks.earned, marks.pending, marks.notes) == (POINTS, 2, ())


def test_an_answer_is_known_by_nbgrader_s_name_where_its_id_is_lost(grade, submission):
    for cell in submission.cells:
        del cell["id"]
    assert grade(submission).earned == POINTS


@pytest.mark.parametrize("data", [None, [], 7, "x", {}, {"grade_id": None}, {"grade_id": ["twice"]}, {"grade_id": "../../x"}])
def test_a_cell_with_odd_metadata_is_the_student_s_own(data, exam, submission):
    odd = code("odd = 1")
    odd.metadata["nbgrader"] = data
    add(submission, "twice", odd)
    notebook, notes = rebuild(exam, submission)
    assert notes == [] and sources(notebook, "twice twice_visible") == ["odd = 1"]
    assert notebook.cells[5].metadata == {}


def test_tags_of_a_student_s_cell_do_not_reach_the_runner(exam, submission):
    for cell in submission.cells:
        cell.metadata["tags"] = ["skip-execution", "raises-exception"]
    add(submission, "twice", NotebookNode(code("x = 1"), metadata={"tags": ["skip-execution"]}))
    notebook, _ = rebuild(exam, submission)
    assert not any("tags" in cell.metadata for cell in notebook.cells)


def test_the_text_is_the_assignment_s_and_own_text_is_kept_beside_it(exam, submission):
    find(submission, "twice-text1").source = "Full marks for everybody."
    own = v4.new_markdown_cell("My own words. ![x](attachment:x.png)", attachments={"x.png": {"image/png": "AAAA"}})
    add(submission, "twice-text1", own)
    find(submission, "why").source = "Because of \ud800 its names."
    notebook, notes = rebuild(exam, submission)
    assert notes == []
    assert find(notebook, "twice-text1").source == find(exam.released, "twice-text1").source
    assert sources(notebook, "twice-text1 twice") == [own.source] and notebook.cells[4].attachments == own.attachments
    assert find(notebook, "why").source == "Because of ? its names."
    json.dumps(notebook, ensure_ascii=False).encode("utf-8")


def test_rebuilding_changes_neither_the_submission_nor_the_assignment(exam, submission):
    add(submission, "twice", code("x = 1"))
    before = deepcopy((exam, submission))
    rebuild(exam, submission)
    assert (exam.source, exam.released, submission) == (before[0].source, before[0].released, before[1])


# What happened while it ran


class Slow(Kernel):
    """A kernel in which a cell took too long, and another printed too much."""

    def run(self, cell: NotebookNode) -> None:
        super().run(cell)
        if "slow" in cell.source:
            cell.outputs = [error_output(TIME_LIMIT, "stopped after 60 s: is there a loop without an end?")]
        if "chatty" in cell.source:
            cell.outputs = [v4.new_output("stream", text=f"x{wire.CUT}")]


def test_a_limit_that_a_cell_reached_is_told_with_the_place_of_the_cell(grade, submission):
    add(submission, None, code("slow = 1"))
    add(submission, "twice", code("chatty = 1"))
    find(submission, "norm").source += "\nslow = 1"
    marks = grade(submission, Slow)
    assert marks.notes == (
        "A cell of yours, at the top: stopped after 60 s: is there a loop without an end?",
        "A cell of yours, at 'twice': it printed too much, and the rest was cut.",
        "A cell of yours, at 'norm': stopped after 60 s: is there a loop without an end?",
    )


class Mortal(Kernel):
    """A kernel that ends where a cell says so."""

    def run(self, cell: NotebookNode) -> None:
        super().run(cell)
        self.dead = self.dead or ("the notebook's kernel ended before" if "end_here" in cell.source else "")


def test_what_was_earned_before_the_kernel_ended_is_kept(grade, submission):
    add(submission, "twice_hidden", code("end_here = 1"))
    marks = grade(submission, Mortal)
    assert marks.earned == 3 and marks.pending == 2
    assert marks.notes == ("From some point on nothing was run: the notebook's kernel ended before.",)
    assert of(marks, "norm_visible").message == "not run: the notebook's kernel ended before"


def test_a_function_that_is_gone_at_a_later_test_is_gone_in_the_judge_too(grade, submission):
    add(submission, "twice_visible", code("del twice"))
    marks = grade(submission)
    assert (of(marks, "twice_visible").earned, of(marks, "twice_hidden").earned) == (1, 0)
    assert of(marks, "twice_hidden").message == "NameError: name 'twice' is not defined"


def test_set_up_runs_on_both_sides_and_tests_run_in_the_judge_alone(exam, submission):
    kernel = Kernel()
    judge = Judge(exam, kernel)
    for cell in rebuild(exam, submission)[0].cells[:6]:
        if cell.cell_type == "code":
            judge.take(cell)
    assert {"torch", "checks", "check"} <= set(kernel.names) & set(judge.namespace)
    assert callable(kernel.names["twice"]) and judge.namespace["twice"] is not kernel.names["twice"]
    assert judge.namespace["twice"].__name__ == "twice" and judge.namespace["twice"](4) == 8


# Submissions that cannot be run


def test_a_submission_that_cannot_be_run_earns_nothing_and_is_told_why(exam):
    marks, notebook = refuse(exam, "ada", "The file is no notebook.")
    assert (marks.earned, marks.pending, marks.points, marks.ran) == (0, 0, POINTS + 2, False)
    assert marks.notes == ("The file is no notebook.",) and not any(mark.message for mark in marks.marks)
    assert all(find(notebook, test).outputs[0].ename == "NotRun" for test in TESTS)
    nbformat.validate(notebook)


def written(path: Path, data: bytes | str | dict) -> Path:
    """A file with these contents."""
    data = json.dumps(data) if isinstance(data, dict) else data
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_notebook_is_read_as_it_was_written_with_a_byte_order_mark_or_without(submission, tmp_path):
    text = forms.dumps(submission)
    assert read(written(tmp_path / "a", text)) == read(written(tmp_path / "b", "\ufeff" + text)) == submission


def test_a_notebook_of_an_older_format_is_read(tmp_path):
    cells = [{"cell_type": "code", "input": "x = 1", "outputs": [], "language": "python", "metadata": {}}]
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": cells, "metadata": {}}]}
    assert [cell.source for cell in read(written(tmp_path / "old", old)).cells] == ["x = 1"]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "The file is no valid notebook: "),
        (b"%PDF-1.7", "The file is no valid notebook: "),
        (b"[1, 2]", "The file is no valid notebook: "),
        (b"null", "The file is no valid notebook: "),
        (b"{}", "The file is no valid notebook: "),
        ({"nbformat": 4, "nbformat_minor": 5, "metadata": {}}, "The file is no valid notebook: "),
        ({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [None, 7]}, "The file is no valid notebook: "),
        ({"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}, "The file is no valid notebook: "),
        ({"nbformat": "four", "nbformat_minor": [], "cells": []}, "The file is no valid notebook: "),
        ('{"cells": []}'.encode("utf-16"), "The file is no notebook: it is not text in UTF-8."),
        (b"\xff\x00\x80", "The file is no notebook: it is not text in UTF-8."),
        (100_000 * b'{"a":[', "The file is no notebook: it is nested too deeply."),
        (
            json.dumps(v4.new_notebook(cells=[v4.new_raw_cell("", id=f"c{n}") for n in range(CELLS_AT_MOST + 1)])),
            "The file is no valid notebook: it has 1,001 cells, and 1,000 are read at most",
        ),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_file_that_is_no_notebook_is_refused_with_what_to_tell_the_student(data, message, tmp_path):
    with pytest.raises(ValueError) as caught:
        read(written(tmp_path / "x.ipynb", data))
    assert str(caught.value).startswith(message) and len(str(caught.value)) < 250 and "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = written(tmp_path / "x.ipynb", b"")
    os.truncate(path, NOTEBOOK_BYTES + 1)
    with pytest.raises(ValueError, match="more than 20 MB: clear the outputs"):
        read(path)


# Names


@pytest.mark.parametrize(
    "source, names",
    [
        ("", set()),
        ("def f(x):\n    inner = x\n    def g(): pass", {"f"}),
        ("class Net:\n    width = 3", {"Net"}),
        ("a = b = c", {"a", "b"}),
        ("a, (b, *c) = d", {"a", "b", "c"}),
        ("rate: float = 0.1", {"rate"}),
        ("net.width = 3\nnumbers[index] = 4\nnet.rate: int = 5", set()),
        ("squares = [n * n for n in range(3)]", {"squares"}),
        ("import torch\nf(x)\nfor i in a:\n    pass", set()),
    ],
)
def test_what_a_cell_defines_are_its_functions_classes_and_variables(source, names):
    assert defined(source) == names
