"""The checks that a student meets, and the errors that an author meets."""

import textwrap

import nbformat
import numpy as np
import pytest
import torch
from nbgrader.nbgraderformat import MetadataValidator
from small_assignment import texts

from vaecourse.grading import checks
from vaecourse.grading.authoring import forms, trials
from vaecourse.grading.authoring.assignment import SourceError, read
from vaecourse.grading.checks import Check, Mistake, compare

# What a student reads


@pytest.mark.parametrize("right", [torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.00004]), [1, 2], np.array([1.0, 2.0])])
def test_a_right_value_passes_as_a_tensor_a_list_or_an_array(right):
    compare("z", right, [1.0, 2.0])


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "z must be a tensor or a number, got None: is a `return` missing?"),
        ("one", "z must be a tensor or a number, got a value of type str."),
        (torch.ones(3), "z must have shape (2,), got (3,)."),
        (torch.tensor(9.0), "z must have shape (2,), got (): the first axis was summed or averaged, too."),
        (torch.ones(2, 5), "z must have shape (2,), got (2, 5): the last axis is still there."),
        (torch.tensor(7.0), "z must have shape (2,), got (): the batch was summed, too."),
        (torch.tensor([1.0, 2.5]), "z[1] is 2.5 nats, expected 2."),
        (torch.tensor([4.0, 4.0]), "z[0] is 4 nats, expected 1: a square is missing."),
        (torch.tensor([-1.0, -2.0]), "z[0] is -1 nats, expected 1: the sign is reversed."),
        (torch.tensor([1.5, 2.5]), "z[0] is 1.5 nats, expected 1: every entry is off by the same amount, 0.5."),
        (torch.tensor([3.0, 6.0]), "z[0] is 3 nats, expected 1: every entry is 3 times what it should be."),
        (torch.tensor([1.0, float("nan")]), "z[1] is nan nats, expected 2: not finite."),
    ],
)
def test_a_check_speaks_of_the_shape_then_of_the_value_then_of_the_likely_cause(value, message):
    wrong = {"the batch was summed, too.": 7.0, "a square is missing.": [4.0, 4.0]}
    with pytest.raises(Mistake) as caught:
        compare("z", value, torch.tensor([1.0, 2.0]), "nats", wrong)
    assert str(caught.value).startswith(message)


def test_a_check_of_a_dictionary_names_the_part_that_is_wrong():
    expected, wrong = {"a": 1.0, "b": [2.0, 3.0]}, {"b is doubled.": {"b": [4.0, 6.0]}}
    compare("parts", {"a": 1.0, "b": torch.tensor([2.0, 3.0])}, expected)
    with pytest.raises(Mistake, match=r"parts\['b'\]\[0\] is 4, expected 2: b is doubled"):
        compare("parts", {"a": 1.0, "b": torch.tensor([4.0, 6.0])}, expected, wrong=wrong)
    with pytest.raises(Mistake, match=r"must be a dictionary with the keys 'a', 'b'; got the keys 'a'"):
        compare("parts", {"a": 1.0}, expected)
    with pytest.raises(Mistake, match="got None"):
        compare("parts", None, expected)


def test_none_where_a_number_should_be_can_be_a_known_mistake():
    with pytest.raises(Mistake, match="no gradient reaches it"):
        compare("gradient", None, 1.0, wrong={"no gradient reaches it.": None})


def test_a_notebook_shows_the_message_and_no_traceback():
    assert Mistake("the -1 is missing.")._render_traceback_() == ["Not yet. the -1 is missing."]


def test_known_answers_survive_being_written_and_read_even_where_they_are_not_finite(capsys):
    known = {"bound": {"expected": [-1.5, 2.0], "wrong": {'"underflow"': [float("-inf"), float("nan")], "none": None}}}
    check = Check.loads(trials.dumps(known))
    check("bound", torch.tensor([-1.5, 2.0]))
    assert capsys.readouterr().out == "bound: correct.\n"
    with pytest.raises(Mistake, match='"underflow"'):
        check("bound", torch.tensor([float("-inf"), float("nan")]))


def test_hidden_inputs_follow_the_seed_of_the_course(monkeypatch):
    def draw(exercise="kl"):
        return torch.randn(3, generator=checks.hidden_generator(exercise))

    monkeypatch.delenv(checks.COURSE_SEED, raising=False)
    first = draw()
    assert torch.equal(first, draw())
    assert not torch.equal(first, draw("iwae"))
    monkeypatch.setenv(checks.COURSE_SEED, "spring")
    assert not torch.equal(first, draw())


# What an author reads

TEXT, WRONG = texts("twice")


@pytest.fixture
def author(tmp_path):
    """Read an assignment after (old, new) was replaced in its text or in its wrong answers."""

    def write(*, text=("", ""), wrong=("", "")):
        for name, source, change in (("assignment.md", TEXT, text), ("wrong_answers.md", WRONG, wrong)):
            assert change[0] in source
            (tmp_path / name).write_text(source.replace(*change, 1) if change[0] else source, "utf-8")
        return read(tmp_path)

    return write


def build(assignment):
    source = forms.source(assignment)
    trials.verify(assignment, source, forms.mutants(assignment, source))
    return source


def test_a_small_assignment_becomes_all_its_forms(author, tmp_path):
    assignment = author()
    source = build(assignment)
    assert trials.points(source, trials.run(source)) == (3, 3)

    student = forms.student(source)
    MetadataValidator().validate_nb(student)
    text = forms.dumps(student)
    assert "raise NotImplementedError()" in text and "2 * x" not in text and "hidden_generator" not in text
    assert [cell.id for cell in student.cells][3:] == ["twice-text1", "twice", "twice_visible", "twice_hidden"]
    assert "## Exercise 1: Twice\n\n*Easy, about 5 minutes, 3 points.*" in text.replace("\\n", "\n").replace('",\n    "', "")

    names = [answer.name for answer, _ in forms.mutants(assignment, source)]
    assert names == ["squared", "one_more", "itself"]
    mutant = next(iter(forms.mutants(assignment, source)))[1]
    assert str(trials.run(mutant)["twice_visible"]) == "double is 9, expected 6: squared, not doubled."

    files = forms.instructors(assignment, source)
    forms.write(files, tmp_path / "course")
    for path in files:
        nbformat.validate(nbformat.read(tmp_path / "course" / path, 4))
    solutions = (tmp_path / "course" / "solutions" / f"{assignment.slug}.ipynb").read_text("utf-8")
    assert "return 2 * x" in solutions and "BEGIN" not in solutions and "`squared`: squared, not doubled." in solutions


@pytest.mark.parametrize(
    "old, new, line, message",
    [
        ("id=twice_visible, ", "", 28, "a test cell needs id=..."),
        (", points=1", "", 28, "a test cell needs points=..."),
        ("points=1", "points=half", 28, "points must be a positive whole number, got 'half'"),
        ("id=twice_hidden", "id=twice_visible", 33, "the id 'twice_visible' is taken: line 28 has it"),
        ("id=twice_hidden", "id=Twice!", 33, "an id is made of lower-case letters"),
        ("[test, id=twice_visible", "[tset, id=twice_visible", 28, "unknown tag 'tset'"),
        ("[test, id=twice_visible", "[test, setup, id=twice_visible", 28, "a cell has one of the tags"),
        ("minutes=5, ", "", 20, "a solution cell needs minutes=..."),
        ("minutes=5", "minutes=5, hours=1", 20, "a solution cell has no tag hours="),
        ("difficulty=easy", "difficulty=none", 20, "difficulty must be one of easy, medium, hard"),
        (":tags: [setup, id=packages]\n", "", 5, "a code cell needs a tag"),
        ("    ### END SOLUTION\n", "", 20, "each '### BEGIN SOLUTION' needs its '### END SOLUTION'"),
        ("### BEGIN HIDDEN TESTS\n", "", 33, "each '### BEGIN HIDDEN TESTS' needs its '### END HIDDEN TESTS'"),
        ("check(", "### BEGIN SOLUTION\n### END SOLUTION\ncheck(", 28, "a test cell cannot hold a region of solution"),
        ("    return 2 * x", "    return 2 *", 20, "not Python: invalid syntax, in 'return 2 *'"),
        ("## Twice\n\nDouble", "## Twice\n\n## Again\n\nDouble", 18, "a section's heading must begin its cell"),
        (
            "```{code-cell} ipython3\n:tags: [test, id=twice_visible",
            "## Next\n\n```{code-cell}\n:tags: [test, id=twice_visible",
            30,
            "in",
        ),
        ("# Exercises: a small assignment\n\n", "", 1, "the text must begin with a title"),
        (":tags: [known", ":tags: [known\n:a: b: c", 12, "the cell's options cannot be read"),
    ],
)
def test_an_error_in_the_text_names_file_and_line(author, old, new, line, message):
    with pytest.raises(SourceError) as caught:
        author(text=(old, new))
    assert f"assignment.md:{line}: " in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    "old, new, file, message",
    [
        ("## twice", "## thrice", "assignment.md:20", "exercise 'twice' needs 3 wrong answers in wrong_answers.md; it has 0"),
        (WRONG[WRONG.index("### itself") :], "", "assignment.md:20", "it has 2"),
        (
            WRONG,
            WRONG + "\n## halve\n\n### a\n\nb.\n\n```python\nreturn x\n```\n",
            "wrong_answers.md:32",
            "no exercise is named 'halve'",
        ),
        ("### one_more", "### squared", "wrong_answers.md:14", "the wrong answer 'squared' of 'twice' is there twice"),
        ("one more, not twice.\n", "", "wrong_answers.md:17", "code follows its name, a heading, and its message"),
        (
            "one more, not twice.\n",
            "one more,\n\nnot twice.\n",
            "wrong_answers.md:18",
            "the message of 'one_more' is one paragraph",
        ),
        ("```python\nreturn x\n```\n", "", "wrong_answers.md:22", "'itself' needs a message, a paragraph, and then its code"),
        ("return x + 1", "return x +", "wrong_answers.md:19", "not Python"),
        ("## twice\n", "", "wrong_answers.md:4", "the wrong answer 'squared' stands under no exercise's heading"),
    ],
)
def test_an_error_in_the_wrong_answers_names_file_and_line(author, old, new, file, message):
    with pytest.raises(SourceError) as caught:
        author(wrong=(old, new))
    assert f"{file}: " in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    "change, place, message",
    [
        ({"wrong": ("return x**2", "return x + x")}, "wrong_answers.md:5", "'squared' does not get its message. It gets: none"),
        ({"wrong": ("return x**2", "return x + 1")}, "wrong_answers.md:14", "'one_more' does not get its message"),
        (
            {"wrong": ("return x**2", "return 1 / 0")},
            "wrong_answers.md:5",
            "'squared' must return a wrong value; twice_visible raises",
        ),
        (
            {"wrong": ("return x**2", "return 2 * x if x < 3 else 7")},
            "wrong_answers.md:5",
            "'squared' passes the hidden tests",
        ),
        ({"text": ("return 2 * x", "return 1 / 0")}, "assignment.md:28", "twice_visible raises ZeroDivisionError"),
        ({"text": ("got, 2 * number", "got, 3 * number")}, "assignment.md:33", "twice_hidden raises Mistake"),
        (
            {"text": ('check("double", twice(3))', 'check("a", twice(3))\ncheck("a", twice(4))')},
            "assignment.md:28",
            "two checks are named",
        ),
    ],
)
def test_a_wrong_answer_or_a_solution_that_does_not_do_its_work_is_named(author, change, place, message):
    with pytest.raises(SourceError) as caught:
        build(author(**change))
    assert f"{place}: " in str(caught.value) and message in str(caught.value)


COUNT = [("import torch\n", "import torch\n\ncount = [3]\n"), ("[3.0, 4.0]", "[3.0, count.pop() + 1]"), ("(3)", "(len(count))")]


@pytest.mark.parametrize(
    "changes, what",
    [
        ([("twice(3)", "twice(norm(torch.tensor([3.0])))")], "twice_visible raises NameError"),
        ([("got, 2 * number", "got, 2 * number + 0 * norm(torch.ones(2))")], "twice_hidden raises NameError"),
        (COUNT, "it gives other results"),
    ],
)
def test_exercises_that_lean_on_each_other_are_named(tmp_path, changes, what):
    text, wrong = texts("norm", "twice")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "assignment.md").write_text(text, "utf-8")
    (tmp_path / "wrong_answers.md").write_text(wrong, "utf-8")
    with pytest.raises(SourceError, match=f"without the other exercises' cells {what}.*must not lean on each other"):
        build(read(tmp_path))


def test_a_wrong_answer_that_breaks_another_exercise_is_named(tmp_path):
    text, wrong = texts("norm", "twice")
    text = text.replace("import torch\n", "import torch\n\ncount = [1, 2, 3]\n", 1).replace("(3)", "(len(count))", 1)
    (tmp_path / "assignment.md").write_text(text, "utf-8")
    (tmp_path / "wrong_answers.md").write_text(
        wrong.replace("return v.square().sum()", "count.clear()\nreturn v.square().sum()"), "utf-8"
    )
    with pytest.raises(SourceError, match="'no_root' also breaks twice_visible: exercises must not lean on each other"):
        build(read(tmp_path))


def test_wrong_answers_are_tried_without_the_other_exercises(tmp_path):
    for name, text in zip(("assignment.md", "wrong_answers.md"), texts("norm", "twice"), strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    assignment = read(tmp_path)
    source = forms.source(assignment)
    assert set(trials.run(trials.alone(assignment, source, "twice"))) == {
        *("packages", "known_answers", "twice", "twice_visible", "twice_hidden")
    }


def test_a_wrong_answer_stands_at_the_solution_s_indentation(author):
    source = forms.source(author(wrong=("return x**2", "if x:\n    return x**2")))
    (cell,) = (cell for cell in next(iter(forms.mutants(author(), source)))[1].cells if cell.id == "twice")
    assert textwrap.dedent(cell.source) == "def twice(x):\n    ### BEGIN SOLUTION\n    return x**2\n    ### END SOLUTION"
