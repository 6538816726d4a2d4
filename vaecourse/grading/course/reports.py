"""What people read of a grading: a student's feedback, the class report, and the grades for a learning system.

All that comes from a student is hostile. It reaches a page as text, with everything escaped, or as a picture that was checked;
no markup of a student's, no script and no link does. A page holds all it needs and asks the network for nothing.
"""

import csv
import io
import re
import statistics
import warnings
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from jupyterlab_pygments import JupyterStyle
from markupsafe import Markup, escape
from nbformat import NotebookNode
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from vaecourse.grading.authoring.assignment import HIDDEN, Assignment, Cell
from vaecourse.grading.marking.marks import Mark, Marks

LINES, CHARACTERS = 300, 20_000  # of one text on a page: what is more is left out of its middle
OUTPUTS = 20  # of one cell
COLORED_LINE = 1_000  # characters
PICTURE_CHARACTERS, PICTURE_PIXELS = 3_000_000, 16_000_000  # in base64: 2.25 MB
BELOW = 0.5  # the share of the points below which a class report names a student
MESSAGES = 15  # that no known mistake explains, in a class report
BINS = 10

TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?)")  # colors, the cursor, a window's title
INVISIBLE = re.compile(  # control characters, what turns the direction of writing, and what UTF-8 cannot hold
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # what a spreadsheet may read as the beginning of a formula


# One student's page


@dataclass(frozen=True)
class Verdict:
    """What one graded cell got. `status` is passed, failed, partly or pending; `words` say it, beside a sign."""

    label: str
    status: str
    words: str
    mark: Mark


@dataclass(frozen=True)
class Work:
    """What the student did in one cell: code, highlighted, or text; what it put out; what a person says about it."""

    title: str
    code: Markup | None
    text: str
    outputs: tuple[dict, ...]
    left_out: int
    comment: str


@dataclass(frozen=True)
class Section:
    """An exercise on a student's page."""

    number: int
    id: str
    title: str
    earned: int | float
    points: int
    pending: int
    verdicts: tuple[Verdict, ...]
    works: tuple[Work, ...]


def feedback(
    marks: Marks, notebook: NotebookNode | None, assignment: Assignment, comments: Mapping[str, str] | None = None
) -> str:
    """A student's page, HTML: the points, what each test says, the student's own answers with their outputs.

    `notebook` is the executed one, None where there is none to show. `comments` are a person's, by cell id; points given by a
    person are in `marks`. Tests are not shown, neither their code nor their tracebacks, only the messages in `marks`. Raises
    ValueError where marks are of another assignment.
    """
    answers = {} if notebook is None else _answers(notebook, assignment)
    sections = []
    for number, (exercise, own) in enumerate(
        zip(assignment.exercises, by_exercise(marks, assignment).values(), strict=True), 1
    ):
        cells = [cell for cell in assignment.cells if cell.exercise == exercise.id]
        by_id = {cell.id: cell for cell in cells}
        verdicts = tuple(_verdict(mark, by_id[mark.cell]) for mark in own)
        works = tuple(
            _work(cell, answers.get(cell.id), (comments or {}).get(cell.id, ""))
            for cell in cells
            if cell.id in answers or (comments or {}).get(cell.id)
        )
        part = Marks(marks.assignment, marks.student, tuple(own))
        sections.append(Section(number, exercise.id, exercise.title, part.earned, part.points, part.pending, verdicts, works))
    ran = notebook is not None or any(mark.message for mark in marks.marks)
    return _page(
        "feedback.html.j2", marks=marks, assignment=assignment, sections=sections, has_notebook=notebook is not None, ran=ran
    )


def by_exercise(marks: Marks, assignment: Assignment) -> dict[str, list[Mark]]:
    """The marks of each exercise of the assignment, in its order. Raises ValueError where they are another assignment's."""
    graded = {cell.id: cell.exercise for cell in assignment.cells if cell.kind in {"test", "answer"}}
    groups: dict[str, list[Mark]] = {exercise.id: [] for exercise in assignment.exercises}
    for mark in marks.marks:
        if marks.assignment != assignment.slug or graded.get(mark.cell) != mark.exercise:
            raise ValueError(
                f"the marks of {marks.student!r} in {marks.assignment} have the cell {mark.cell!r} of the exercise "
                f"{mark.exercise!r}, which {assignment.slug} does not have: grade the submission again"
            )
        groups[mark.exercise].append(mark)
    return groups


def _answers(notebook: NotebookNode, assignment: Assignment) -> dict[str, NotebookNode]:
    """The student's cells: those that the assignment leaves to be answered, and no others."""
    wanted = {cell.id for cell in assignment.cells if cell.kind in {"solution", "entry", "answer"}}
    answers: dict[str, NotebookNode] = {}
    for cell in notebook.cells:
        role = cell.metadata.get("nbgrader", {})
        if role.get("solution") and role.get("grade_id") in wanted:
            answers.setdefault(role["grade_id"], cell)
    return answers


def _verdict(mark: Mark, cell: Cell) -> Verdict:
    if cell.kind == "test":
        label = "Hidden tests" if HIDDEN[0] in cell.source else "Visible tests"
        full, none = "Passed", "Not yet"
    else:
        label = "Code, read by a person" if cell.type == "code" else "Text, read by a person"
        full, none = "Full points", "No points"
    if mark.earned is None:
        return Verdict(label, "pending", "Yet to be read", mark)
    if mark.earned >= mark.points:
        return Verdict(label, "passed", full, mark)
    return Verdict(label, *(("partly", "Partly") if mark.earned > 0 else ("failed", none)), mark)


def _work(cell: Cell, answer: NotebookNode | None, comment: str) -> Work:
    answer_title = "Your code" if cell.type == "code" else "Your text"
    title = {"solution": "Your function", "entry": "Your entries", "answer": answer_title}[cell.kind]
    source = "" if answer is None else _short(_string(answer.get("source")))
    code = _highlighted(source) if cell.type == "code" else None
    outputs = [] if answer is None or cell.type != "code" else list(_outputs(answer))
    return Work(title, code, source.strip(), tuple(outputs[:OUTPUTS]), max(0, len(outputs) - OUTPUTS), _short(comment))


def _highlighted(code: str) -> Markup:
    """Python with its syntax in color; plain where a line is so long that coloring it could take seconds."""
    if any(len(line) > COLORED_LINE for line in code.split("\n")):
        return escape(code)
    return Markup(highlight(code, get_lexer_by_name("ipython3"), HtmlFormatter(nowrap=True)))


def _outputs(cell: NotebookNode) -> Iterator[dict]:
    """A cell's outputs as {"kind": "text" or "error", "text": ...} and {"kind": "picture", "source": ..., "alt": ...}."""
    stream, name = [], None
    for output in [*cell.get("outputs", []), {}]:
        kind = output.get("output_type")
        if stream and (kind != "stream" or output.get("name") != name):  # printed in pieces, shown in one
            yield {"kind": "text", "text": _short("".join(stream))}
            stream = []
        if kind == "stream":
            name = output.get("name")
            stream.append(_string(output.get("text")))
        elif kind == "error":
            trace = "\n".join(map(_string, output.get("traceback") or []))
            yield {"kind": "error", "text": _short(trace or f"{_string(output.get('ename'))}: {_string(output.get('evalue'))}")}
        elif kind in {"execute_result", "display_data"}:
            data = output.get("data") or {}
            text = _short(_string(data.get("text/plain")))
            for media in ("image/png", "image/jpeg"):
                if picture := _picture(_string(data.get(media)), media):
                    yield {"kind": "picture", "source": picture, "alt": f"A picture that your code drew: {text[:100]}"}
                    break
            else:
                if text:
                    yield {"kind": "text", "text": text}


def _picture(encoded: str, media: str) -> Markup | None:
    """A picture as the source of an <img>; None where it is not what it claims to be, or is too large."""
    if not encoded or len(encoded) > PICTURE_CHARACTERS:
        return None
    try:
        data = b64decode("".join(encoded.split()), validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=[media.removeprefix("image/").upper()])
        width, height = image.size
        image.verify()
    except Exception:  # a reader of pictures that is given any bytes at all may raise anything
        return None
    if width * height > PICTURE_PIXELS:
        return None
    return Markup(f"data:{media};base64,{b64encode(data).decode()}")


# The class


@dataclass(frozen=True)
class ExerciseRow:
    """An exercise over all submissions.

    `mean` is the mean share of its points, None where none were given yet; `full` submissions have all of them, of the `done`
    ones, in which nothing of the exercise is pending.
    """

    title: str
    points: int
    mean: float | None
    full: int
    done: int
    pending: int


def class_report(assignment: Assignment, all_marks: Sequence[Marks]) -> str:
    """The instructor's page about a class, HTML: it names students.

    A share is of the points given so far: what a person has yet to read counts neither for nor against it. Raises ValueError
    where marks are of another assignment.
    """
    all_marks = sorted(all_marks, key=lambda marks: marks.student)
    grouped = [by_exercise(marks, assignment) for marks in all_marks]
    shares = {marks.student: share for marks in all_marks if (share := _share(marks.marks)) is not None}
    values = list(shares.values())
    rows = [
        _exercise_row(exercise.title, exercise.points, [groups[exercise.id] for groups in grouped])
        for exercise in assignment.exercises
    ]
    measured = [row for row in rows if row.mean is not None]
    below = [marks for marks in all_marks if shares.get(marks.student, 1) < BELOW]
    return _page(
        "class_report.html.j2",
        assignment=assignment,
        submissions=len(all_marks),
        points=sum(exercise.points for exercise in assignment.exercises),
        pending=sum(marks.pending > 0 for marks in all_marks),
        shares=shares,
        mean=statistics.fmean(values) if values else None,
        quartiles=np.quantile(values, (0.25, 0.5, 0.75)).tolist() if values else None,
        bins=_bins(values),
        exercises=rows,
        hardest=min(measured, key=lambda row: row.mean) if measured else None,
        mistakes=_mistakes(assignment, grouped),
        unexplained=_unexplained(assignment, grouped),
        noted=[marks for marks in all_marks if marks.notes],
        below=sorted(below, key=lambda marks: (shares[marks.student], marks.student)),
    )


def _share(marks: Sequence[Mark]) -> float | None:
    """The share of the points given so far that were earned; None where none were."""
    points = sum(mark.points for mark in marks if mark.earned is not None)
    return sum(mark.earned or 0 for mark in marks) / points if points else None


def _exercise_row(title: str, points: int, by_student: Sequence[Sequence[Mark]]) -> ExerciseRow:
    shares = [share for marks in by_student if (share := _share(marks)) is not None]
    done = [_share(marks) for marks in by_student if all(mark.earned is not None for mark in marks)]
    return ExerciseRow(
        title,
        points,
        mean=statistics.fmean(shares) if shares else None,
        full=sum(share >= 1 for share in done),  # more than 1 where a person gave extra credit
        done=len(done),
        pending=len(by_student) - len(done),
    )


def _bins(shares: Sequence[float]) -> list[int]:
    """How many shares lie in each tenth; 1 itself lies in the last."""
    counts = Counter(min(int(share * BINS + 1e-9), BINS - 1) for share in shares)
    return [counts[i] for i in range(BINS)]


def _mistakes(assignment: Assignment, grouped: Sequence[Mapping[str, Sequence[Mark]]]) -> list[dict]:
    """The known mistakes that were made, the most frequent first; a student counts once for each."""
    counts = Counter(
        (exercise, name)
        for groups in grouped
        for exercise, marks in groups.items()
        for name in {mark.mistake for mark in marks if mark.mistake}
    )
    known = [
        {
            "exercise": exercise.title,
            "name": answer.name,
            "message": answer.message,
            "students": counts[exercise.id, answer.name],
        }
        for exercise in assignment.exercises
        for answer in exercise.wrong
    ]
    return sorted((row for row in known if row["students"]), key=lambda row: -row["students"])


def _unexplained(assignment: Assignment, grouped: Sequence[Mapping[str, Sequence[Mark]]]) -> list[dict]:
    """The first message of each exercise that was failed by no known mistake, the most frequent messages first."""
    counts: Counter[tuple[int, str]] = Counter()
    for groups in grouped:
        for number, marks in enumerate(groups.values()):
            failed = [mark for mark in marks if mark.message and mark.earned is not None and mark.earned < mark.points]
            if failed and not any(mark.mistake for mark in marks):
                counts[number, failed[0].message] += 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"exercise": assignment.exercises[number].title, "message": message, "students": students}
        for (number, message), students in ordered[:MESSAGES]
    ]


# The grades


def grades(all_marks: Mapping[str, Sequence[Marks]], assignments: Sequence[Assignment]) -> str:
    """The grades of a course as the text of a CSV file, one row a student: write it as UTF-8, with newline="".

    The columns are `student`; then for each assignment its points so far, `07_vae`, each exercise's, `07_vae gaussian_kl`,
    those that a person has yet to give or refuse, `07_vae pending`, and what happened to the submission, `07_vae notes`. A cell
    is blank where nothing was handed in, and an exercise's where all its points are pending. While `pending` is not 0, the
    assignment's points are not final: do not import them yet.

    Moodle: Grades, Import, CSV file, encoding UTF-8, separator comma. Map `student` to the field it holds (username, ID number
    or email address), each column of points to its grade item or to a new one, and notes to the same item's feedback, if you
    want them there; ignore the rest. Moodle takes a blank for "no grade", and stops at a student it does not know.
    Canvas: its import wants its own first columns (Student, ID, SIS User ID, SIS Login ID, Section). Export its gradebook, fill
    the assignment's column from this file by the student's id, a spreadsheet's lookup, and import that.

    The text begins with a byte order mark: without it Excel misreads every letter that is not ASCII, while Moodle and the usual
    readers (pandas, LibreOffice, Python's utf-8-sig) drop it. A text that a spreadsheet would take for a formula gets an
    apostrophe in front, a student's id included.

    Raises ValueError where marks are of an assignment that is not given, or a student has two marks in one.
    """
    if unknown := set(all_marks) - {assignment.slug for assignment in assignments}:
        raise ValueError(f"there are marks of {', '.join(sorted(unknown))}, and no such assignment")
    columns, rows = ["student"], {}
    for assignment in assignments:
        slug = assignment.slug
        columns += [slug, *(f"{slug} {exercise.id}" for exercise in assignment.exercises), f"{slug} pending", f"{slug} notes"]
        for marks in all_marks.get(slug, ()):
            row = rows.setdefault(marks.student, {"student": _cell(marks.student)})
            if slug in row:
                raise ValueError(f"{marks.student!r} has marks in {slug} twice")
            row |= {slug: f"{marks.earned:g}", f"{slug} pending": marks.pending, f"{slug} notes": _cell(" ".join(marks.notes))}
            for exercise, own in by_exercise(marks, assignment).items():
                given = [mark.earned for mark in own if mark.earned is not None]
                row[f"{slug} {exercise}"] = f"{sum(given):g}" if given else ""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows[student] for student in sorted(rows))
    return "\ufeff" + text.getvalue()


def _cell(text: str) -> str:
    """A text on one line that a spreadsheet takes for nothing but text."""
    line = " ".join(_clean(text).split())
    return f"'{line}" if line.startswith(FORMULA) else line


# Text and pages


def _string(value) -> str:
    """A text of a notebook, which may stand there in pieces; "" where it is no text."""
    if isinstance(value, list):
        return "".join(map(_string, value))
    return value if isinstance(value, str) else ""


def _clean(text: str) -> str:
    """What is to be seen of a text: no terminal codes, no invisible characters, of an overwritten line what came last."""
    lines = TERMINAL.sub("", text).split("\n")
    return INVISIBLE.sub("", "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines))


def _short(text: str) -> str:
    """A text, cleaned, of at most LINES lines and CHARACTERS characters: begin and end are kept."""
    half = CHARACTERS // 2
    if len(text) > CHARACTERS:
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
    lines = _clean(text).split("\n")
    if len(lines) > LINES:
        half = LINES // 2
        lines = [*lines[:half], f"[… {len(lines) - 2 * half:,} lines left out …]", *lines[-half:]]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}\u00a0%"


def _count(number: int, word: str) -> str:
    """A number and what it counts, as in "1 point"."""
    return f"{number}\u00a0{word}{'' if number == 1 else 's'}"


def _shown(value):
    """What a template shows of a value: of a text what is fit to be seen, of 2.0 points "2"."""
    if isinstance(value, float):
        return f"{value:g}"
    return _short(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vaecourse.grading.course"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"percent": _percent, "count": _count}
    environment.globals["highlighting"] = Markup(HtmlFormatter(style=JupyterStyle).get_style_defs("pre.code"))
    return environment


def _page(template: str, **names) -> str:
    return _environment().get_template(template).render(**names)
