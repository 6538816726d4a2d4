"""What a student asks at home, of notebooks as people leave them: copied, deleted and changed cells, a kernel that dies."""

import copy

import nbformat
import pytest
from nbformat import v4
from nbformat.v4 import new_code_cell, new_markdown_cell
from small_assignment import SLUG, solved

from vaecourse.grading import selfcheck
from vaecourse.grading.authoring import forms


def place(notebook, name):
    """Where the cell of that name stands."""
    return next(i for i, cell in enumerate(notebook.cells) if cell.metadata.get("nbgrader", {}).get("grade_id") == name)


@pytest.fixture
def given(small_source):
    return forms.student(small_source)


def as_run(notebook, **errors):
    """The notebook as after a run, in which the named tests fail."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 1
            said = errors.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
            cell.outputs = [v4.new_output("error", ename="Mistake", evalue=said, traceback=[])] if said else []
    return notebook


def counts(notebook):
    return {exercise: (t.earned, t.offered, t.later) for exercise, t in selfcheck.tally(notebook).items()}


def test_an_assignment_lists_what_is_graded_in_it_as_the_self_check_counts_it(given, small):
    alone = copy.deepcopy(given)
    del alone.metadata[selfcheck.LIST]
    assert counts(as_run(given)) == counts(as_run(alone))
    points = sum(earned + later for earned, _, later in counts(given).values())
    assert points == sum(exercise.points for exercise in small.exercises)


def test_a_deleted_test_is_named_and_its_points_are_still_offered(given):
    whole = counts(as_run(given))
    del given.cells[place(given, "norm_visible")]
    del given.cells[place(given, "norm_hidden")]
    exercise, found = next((e, t) for e, t in selfcheck.tally(as_run(given)).items() if "norm" in str(t.messages))
    assert (found.earned, found.offered, found.later) == (0, *whole[exercise][1:])
    assert [message.split(":")[0] for message in found.messages] == [
        "the test 'norm_visible' is missing",
        "the test 'norm_hidden' is missing",
    ]


@pytest.mark.parametrize("errors, earned", [({}, 1), ({"norm_visible": "wrong"}, 0)])
def test_a_copied_test_counts_once(given, errors, earned):
    whole = counts(as_run(given))
    given.cells.append(copy.deepcopy(given.cells[place(given, "norm_visible")]))
    exercise, found = next((e, t) for e, t in selfcheck.tally(as_run(given, **errors)).items() if "norm" in str(t.messages))
    assert (found.earned, found.offered) == (earned, whole[exercise][1])
    assert "the test 'norm_visible' is there twice" in found.messages[-1]


def test_a_test_that_was_made_text_earns_nothing_and_is_told_so(given):
    where = place(given, "norm_visible")
    test = given.cells[where]
    given.cells[where] = new_markdown_cell(test.source, metadata=test.metadata)
    (found,) = (t for t in selfcheck.tally(as_run(given)).values() if t.messages)
    assert found.earned == 0 and "'norm_visible' has become text" in found.messages[0]


def test_without_the_list_full_points_are_not_claimed(tmp_path):
    role = {"grade": True, "solution": False, "locked": True, "points": 2, "schema_version": 3, "task": False}
    test = new_code_cell("assert 1 + 1 == 2", metadata={"nbgrader": role | {"grade_id": "t"}})
    nbformat.write(v4.new_notebook(cells=[new_markdown_cell("## Exercise 1: add"), test]), tmp_path / "a.ipynb")
    said = selfcheck.report(tmp_path / "a.ipynb")
    assert said.splitlines()[1].split() == ["1:", "add", "2", "of", "?", "0"]
    assert "does not say which tests belong to it" in said


@pytest.mark.slow
def test_where_python_dies_what_ran_before_is_counted_and_the_cell_is_named(small_source, tmp_path):
    notebook = solved(small_source)
    notebook.cells.insert(place(notebook, "norm_visible"), new_code_cell("import os\nos._exit(1)"))
    nbformat.write(notebook, tmp_path / f"{SLUG}.ipynb")
    said = selfcheck.report(tmp_path / f"{SLUG}.ipynb")
    assert said.splitlines()[-3].split()[:3] == ["1", "of", "3"]
    assert "Python died in the cell that begins 'import os': nothing after it was run." in said
    assert said.count("this test was not run") == 2


@pytest.mark.parametrize("content", [b"nothing", b"[1, 2]", b"{}", b"\xff\xfe{}"])
def test_what_is_no_notebook_is_refused_by_name(content, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ipynb is not a notebook"):
        selfcheck.report(tmp_path / "a.ipynb")
