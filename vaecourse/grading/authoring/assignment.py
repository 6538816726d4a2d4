"""An assignment's source, read and checked. Every error names file and line.

`assignment.md` is MyST text with tagged cells. Each section that holds a solution cell is an exercise.

    [setup, id=...]                        shown, locked: imports, data, what an exercise is given
    [known, id=...]                        locked; the builder fills in the known answers that the visible checks compare with
    [solution, id=..., minutes=..., difficulty=easy|medium|hard]   the student's; the answer between BEGIN and END SOLUTION
    [entry, id=...]                        the student's, beside the solution: their name, numbers that they found
    [test, id=..., points=...]             locked; what stands between BEGIN and END HIDDEN TESTS the student does not see
    [answer, id=..., points=...]           graded by hand: code, or text after `+++ {"tags": [...]}`

`wrong_answers.md` has a heading for each exercise's id, under it a heading for each wrong answer's name, and there the message
that it must get, one paragraph, and the code that stands in the solution's place.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from jupytext.myst import MystMetadataParsingError, myst_to_notebook
from markdown_it import MarkdownIt

TAGS = {  # what each kind of cell must say
    "setup": {"id"},
    "known": {"id"},
    "solution": {"id", "minutes", "difficulty"},
    "entry": {"id"},
    "test": {"id", "points"},
    "answer": {"id", "points"},
}
DIFFICULTIES = ("easy", "medium", "hard")
SOLUTION = "### BEGIN SOLUTION", "### END SOLUTION"
HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
REGION = re.compile(rf"^([ \t]*){SOLUTION[0]}\n(.*?)^[ \t]*{SOLUTION[1]}$", re.MULTILINE | re.DOTALL)
WRONG_ANSWERS_AT_LEAST = 3


class SourceError(ValueError):
    """An error in an assignment's source, with its place."""

    def __init__(self, path: Path, line: int, message: str):
        super().__init__(f"{path}:{line}: {message}")


@dataclass(frozen=True)
class Cell:
    """A cell of the source: its kind is a key of TAGS, or "text" where it has no tags. `exercise` is its section's, if any."""

    kind: str
    id: str
    type: str
    source: str
    line: int
    points: int = 0
    exercise: str | None = None


@dataclass(frozen=True)
class WrongAnswer:
    """A mistake people really make: the code in the solution's place, and the message it must get."""

    exercise: str
    name: str
    message: str
    code: str
    line: int


@dataclass(frozen=True)
class Exercise:
    """A section with a solution; points are those of its tests and of its answers graded by hand."""

    id: str
    title: str
    minutes: int
    difficulty: str
    points: int
    wrong: tuple[WrongAnswer, ...]


@dataclass(frozen=True)
class Assignment:
    """An assignment as its author wrote it."""

    folder: Path
    title: str
    cells: tuple[Cell, ...]
    exercises: tuple[Exercise, ...]

    @property
    def slug(self) -> str:
        """The chapter's, as in 07_vae."""
        return self.folder.name

    def error(self, place: Cell | WrongAnswer, message: str) -> SourceError:
        """An error at a cell or a wrong answer."""
        file = "assignment.md" if isinstance(place, Cell) else "wrong_answers.md"
        return SourceError(self.folder / file, place.line, message)


def read(folder: Path | str) -> Assignment:
    """The assignment in that folder. Raises SourceError, FileNotFoundError."""
    folder = Path(folder)
    path = folder / "assignment.md"
    cells, meta = _cells(path)
    wrong = _wrong_answers(folder / "wrong_answers.md")

    exercises = []
    for cell in cells:
        if cell.kind != "solution":
            continue
        of_section = [other for other in cells if other.exercise == cell.id]
        if not any(other.kind == "test" for other in of_section):
            raise SourceError(path, cell.line, f"exercise {cell.id!r} has no test cell in its section")
        mistakes = tuple(answer for answer in wrong if answer.exercise == cell.id)
        if len(mistakes) < WRONG_ANSWERS_AT_LEAST:
            message = (
                f"exercise {cell.id!r} needs {WRONG_ANSWERS_AT_LEAST} wrong answers in wrong_answers.md; it has {len(mistakes)}"
            )
            raise SourceError(path, cell.line, message)
        points = sum(other.points for other in of_section)
        title = of_section[0].source.splitlines()[0].removeprefix("## ")
        exercises.append(Exercise(cell.id, title, int(meta[cell.id]["minutes"]), meta[cell.id]["difficulty"], points, mistakes))

    known = {exercise.id for exercise in exercises}
    for answer in wrong:
        if answer.exercise not in known:
            message = f"no exercise is named {answer.exercise!r}; there are {', '.join(sorted(known))}"
            raise SourceError(folder / "wrong_answers.md", answer.line, message)
    title = cells[0].source.splitlines()[0]
    if not title.startswith("# "):
        raise SourceError(path, cells[0].line, "the text must begin with a title, `# ...`")
    return Assignment(folder, title.removeprefix("# "), tuple(cells), tuple(exercises))


def _cells(path: Path) -> tuple[list[Cell], dict[str, dict[str, str]]]:
    """The cells in order, and what the tags of each id say."""
    text = path.read_text("utf-8")
    try:
        notebook = myst_to_notebook(text, add_source_map=True)
    except MystMetadataParsingError as error:
        place = re.search(r"at line (\d+)", str(error))
        raise SourceError(path, int(place[1]) if place else 1, f"the cell's options cannot be read: {error}") from error

    lines, seen, meta = text.splitlines(), {}, {}
    drafts = []  # (section, kind, cell's fields)
    section = 0
    for node, start in zip(notebook.cells, notebook.metadata["source_map"], strict=True):
        if node.cell_type == "markdown":
            start = next(n for n in range(start, len(lines)) if lines[n].strip()) + 1
            section += node.source.startswith("## ")
            if buried := re.search(r"\n## ", node.source):
                line = start + node.source[: buried.end()].count("\n")
                raise SourceError(path, line, "a section's heading must begin its cell: put `+++` on a line before it")
        kind, words = _tags(path, start, node)
        if kind != "text":
            if words["id"] in seen:
                raise SourceError(path, start, f"the id {words['id']!r} is taken: line {seen[words['id']]} has it")
            seen[words["id"]] = start
            meta[words["id"]] = words
            _check(path, start, kind, node)
        drafts.append((section, kind, words, node, start))

    owner = {}
    for section, kind, words, _, start in drafts:
        if kind == "solution" and owner.setdefault(section, words["id"]) != words["id"]:
            raise SourceError(path, start, f"one solution a section: {owner[section]!r} is already in this one")
    cells, texts = [], {}
    for section, kind, words, node, start in drafts:
        exercise = owner.get(section)
        if kind in ("entry", "test", "answer") and exercise is None:
            raise SourceError(path, start, f"the {kind} {words['id']!r} is in a section without a solution cell")
        name = words.get("id")
        if name is None:
            stem = exercise or f"section{section}"
            texts[stem] = texts.get(stem, 0) + 1
            name = f"{stem}-text{texts[stem]}"
        cells.append(Cell(kind, name, node.cell_type, node.source, start, int(words.get("points", 0)), exercise))
    return cells, meta


def _tags(path: Path, line: int, node) -> tuple[str, dict[str, str]]:
    """A cell's kind and what its tags say, `id=...` as {"id": ...}."""
    tags = node.metadata.get("tags", [])
    if not tags:
        if node.cell_type == "code":
            raise SourceError(path, line, f"a code cell needs a tag, one of {', '.join(TAGS)}")
        return "text", {}
    kinds = [tag for tag in tags if "=" not in tag]
    words = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    for tag in kinds:
        if tag not in TAGS:
            raise SourceError(path, line, f"unknown tag {tag!r}: there are {', '.join(TAGS)}")
    if len(kinds) != 1:
        raise SourceError(path, line, f"a cell has one of the tags {', '.join(TAGS)}; here: {' and '.join(kinds) or 'none'}")
    kind = kinds[0]
    if missing := TAGS[kind] - set(words):
        raise SourceError(path, line, f"a {kind} cell needs {', '.join(f'{word}=...' for word in sorted(missing))}")
    if unknown := set(words) - TAGS[kind]:
        raise SourceError(path, line, f"a {kind} cell has no tag {', '.join(f'{word}=' for word in sorted(unknown))}")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,50}", words["id"]):
        raise SourceError(path, line, f"an id is made of lower-case letters, digits and _; got {words['id']!r}")
    for word in {"points", "minutes"} & set(words):
        if not re.fullmatch(r"[1-9]\d*", words[word]):
            raise SourceError(path, line, f"{word} must be a positive whole number, got {words[word]!r}")
    if "difficulty" in words and words["difficulty"] not in DIFFICULTIES:
        raise SourceError(path, line, f"difficulty must be one of {', '.join(DIFFICULTIES)}; got {words['difficulty']!r}")
    return kind, words


def _check(path: Path, line: int, kind: str, node) -> None:
    """A cell's regions are whole and where they belong, and its code is Python."""
    if node.cell_type == "markdown":
        if kind != "answer":
            raise SourceError(path, line, f"a {kind} cell is code, not text")
        return
    homes = (("solution", SOLUTION, {"solution", "entry", "answer"}), ("hidden tests", HIDDEN, {"test"}))
    for name, (begin, end), home in homes:
        marks = re.findall(f"{begin}|{end}", node.source)
        if marks and kind not in home:
            raise SourceError(path, line, f"a {kind} cell cannot hold a region of {name}")
        if marks != [begin, end] * (len(marks) // 2):
            raise SourceError(path, line, f"each {begin!r} needs its {end!r}")
    if kind in ("solution", "entry") and len(REGION.findall(node.source)) != 1:
        raise SourceError(path, line, f"what a {kind} cell expects stands between {SOLUTION[0]!r} and {SOLUTION[1]!r}, once")
    try:
        ast.parse(node.source)
    except SyntaxError as error:
        raise SourceError(path, line, f"not Python: {error.msg}, in {(error.text or '').strip()!r}") from error


def _wrong_answers(path: Path) -> list[WrongAnswer]:
    """The wrong answers of all exercises, in order."""
    exercise = name = message = None
    place = 0
    answers: list[WrongAnswer] = []
    text = path.read_text("utf-8")
    tokens = MarkdownIt().parse(f"{text}\n\n## end")  # so that a heading closes the last one, too
    for token, inline in zip(tokens, [*tokens[1:], None], strict=True):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "heading_open" and name:
            raise SourceError(path, place, f"the wrong answer {name!r} needs a message, a paragraph, and then its code")
        if token.type == "heading_open" and token.tag == "h2":
            exercise, message = inline.content, None
        elif token.type == "heading_open" and token.tag == "h3":
            name, message, place = inline.content, None, line
            if exercise is None:
                raise SourceError(path, line, f"the wrong answer {name!r} stands under no exercise's heading")
            if any((answer.exercise, answer.name) == (exercise, name) for answer in answers):
                raise SourceError(path, line, f"the wrong answer {name!r} of {exercise!r} is there twice")
        elif token.type == "paragraph_open" and name:
            if message:
                raise SourceError(path, line, f"the message of {name!r} is one paragraph")
            message = " ".join(inline.content.split())
        elif token.type == "fence":
            if not (name and message):
                raise SourceError(path, line, "a wrong answer's code follows its name, a heading, and its message, a paragraph")
            try:
                ast.parse(f"def answer():\n{indent(token.content, '    ')}")
            except SyntaxError as error:
                raise SourceError(path, line + error.lineno - 1, f"not Python: {error.msg}") from error
            answers.append(WrongAnswer(exercise, name, message, token.content, place))
            name = None
    return answers


def with_answer(source: str, code: str) -> str:
    """A solution cell with other code in the solution's place."""

    def region(match: re.Match) -> str:
        margin, (begin, end) = match[1], SOLUTION
        return f"{margin}{begin}\n{indent(code, margin)}{margin}{end}"

    return REGION.sub(region, source)


def defined(source: str) -> set[str]:
    """The names that a cell defines at its top level."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            names |= {part.id for part in parts if isinstance(part.ctx, ast.Store)}  # not the x of x.part = 1
    return names
