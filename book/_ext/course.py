"""`{chapter-table}`, `{schedule}`, `{lab-notes}`: what each chapter asks of its reader and of a class, read from its own files.

Nothing is typed twice. A page says its minutes, a lab its sections and what to expect of them, an exercise its minutes and
points. A chapter is there as soon as `_toc.yml` names its page.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from sphinx.util.docutils import SphinxDirective

from vaecourse.claims import unmarked

READING = re.compile(r"\*\*Time\*\*: (\d+) minutes")
LAB = re.compile(r"^(\d+) minutes", re.MULTILINE)
LAB_TITLE = re.compile(r"^# (.*)$", re.MULTILINE)
LAB_SECTION = re.compile(r"^\| (\d+) \| (.+) \| (\d+) \|$", re.MULTILINE)
LAB_NOTES = re.compile(r"<summary><b>For the instructor</b></summary>\n(.*?)</details>", re.DOTALL)

UNKNOWN = "–"


@dataclass(frozen=True)
class Chapter:
    """The minutes and points of a chapter; None where the face that would say so is missing."""

    name: str
    reading: int | None
    lab: int | None
    exercises: int | None
    points: int | None


def faces(root: Path, name: str) -> tuple[Path, Path, Path]:
    """The page of a chapter, the source of its lab, and the folder of its assignment."""
    source = root / "notebooks" / "source"
    return root / "book" / f"{name}.md", source / "labs" / f"{name}.md", source / "assignments" / name


def read(root: Path, name: str) -> Chapter:
    """A chapter's minutes and points. Raises `assignment.SourceError` where its assignment cannot be read."""
    page, lab, folder = faces(root, name)
    minutes = points = None
    if folder.exists():
        from vaecourse.grading.authoring import (
            assignment,
        )  # here, since it takes longer than a build in which nothing has changed

        exercises = assignment.read(folder).exercises
        minutes, points = sum(e.minutes for e in exercises), sum(e.points for e in exercises)
    return Chapter(name, first(READING, page), first(LAB, lab), minutes, points)


def first(pattern: re.Pattern, file: Path) -> int | None:
    """The number that the pattern finds first in a file."""
    found = pattern.search(file.read_text("utf-8")) if file.exists() else None
    return found and int(found[1])


def notes(lab: str) -> str:
    """The instructor's notes of a lab's text, each row of their table named by its section and that section's minutes."""
    sections = {number: f"{number}. {title} ({minutes}\u00a0min)" for number, title, minutes in LAB_SECTION.findall(lab)}
    found = LAB_NOTES.search(lab)
    text = unmarked(found[1]) if found else ""  # what the notes say of a run the lab's tests assert
    return re.sub(r"^\| (\d+)(?= \|)", lambda row: f"| {sections.get(row[1], row[1])}", text, flags=re.MULTILINE)


class FromFiles(SphinxDirective):
    """A directive that writes Markdown from the files of chapters, and is read again when one of them changes."""

    def run(self):
        self.root = Path(self.env.srcdir)
        self.env.note_dependency("_toc.yml")
        return self.parse_text_to_nodes(self.markdown())

    def markdown(self) -> str:
        raise NotImplementedError

    def existing(self) -> list[str]:
        """The chapters of the book, in order."""
        return sorted(page[5:] for page in self.env.found_docs if re.fullmatch(r"book/\d\d_\w+", page))

    def depend_on(self, name: str):
        page, lab, folder = faces(self.root, name)
        for file in (page, lab, folder / "assignment.md", folder / "wrong_answers.md"):
            if file.exists():
                self.env.note_dependency(str(file.relative_to(self.root)))

    def chapter(self, name: str) -> Chapter:
        self.depend_on(name)
        known = self.env.temp_data.setdefault("chapters", {})  # a page asks for one more than once
        if name not in known:
            known[name] = read(self.root, name)
        return known[name]


class ChapterTable(FromFiles):
    """The chapters of the book, with minutes and points."""

    def markdown(self) -> str:
        chapters = [self.chapter(name) for name in self.existing()]
        columns = [[c.reading, c.lab, c.exercises, c.points] for c in chapters]
        rows = [f"{{chapter}}`{c.name}`" for c in chapters]
        columns.append([sum(value or 0 for value in column) for column in zip(*columns, strict=True)])
        head = "| chapter | reading | lab | exercises | points |\n| --- | ---: | ---: | ---: | ---: |"
        return "\n".join([head, *map(row, [*rows, "in all"], columns)])


def row(name: str, numbers: list[int | None]) -> str:
    return f"| {name} | {' | '.join(UNKNOWN if number is None else str(number) for number in numbers)} |"


class Schedule(FromFiles):
    """A course, one line of YAML a week: {read: [01_pca], lab: [01_pca], hand in: [01_pca]}."""

    has_content = True

    def markdown(self) -> str:
        head = "| week | read | in class | hand in | at home |\n| ---: | --- | --- | --- | ---: |"
        weeks = yaml.safe_load("\n".join(self.content))
        return "\n".join([head, *(self.week(number, week) for number, week in enumerate(weeks, 1))])

    def week(self, number: int, week: dict[str, list[str]]) -> str:
        """One row; what is not in the book yet is planned."""
        there = self.existing()
        labs = [self.link(name, "lab", "{{download}}`lab\u00a0{0} <../notebooks/{1}.ipynb>`") for name in week["lab"]]
        tasks = [self.link(name, "exercises", "[exercises\u00a0{0}](exercises/{1}.md)") for name in week["hand in"]]
        home = "planned"
        if set(week["read"]) | set(week["hand in"]) <= set(there):
            reading = sum(self.chapter(name).reading or 0 for name in week["read"])
            exercises = sum(self.chapter(name).exercises or 0 for name in week["hand in"])
            home = f"{(reading + exercises) / 60:.1f} h"
        read = "<br>".join(f"{{chapter}}`{name}`" for name in week["read"])
        return f"| {number} | {read} | {'<br>'.join(labs)} | {'<br>'.join(tasks)} | {home} |"

    def link(self, name: str, what: str, form: str) -> str:
        """A link to a chapter's lab or exercises; its name alone, until the chapter is in the book."""
        return form.format(int(name[:2]), name) if name in self.existing() else f"{what}\u00a0{int(name[:2])}"


class LabNotes(FromFiles):
    """The instructor's notes of all labs, folded."""

    def markdown(self) -> str:
        labs = []
        for name in self.existing():
            self.depend_on(name)
            lab = faces(self.root, name)[1]
            if lab.exists():
                text = lab.read_text("utf-8")
                labs.append(f"::::{{dropdown}} {LAB_TITLE.search(text)[1]}\n{notes(text)}\n::::")
        return "\n\n".join(labs)


def setup(app):
    app.add_directive("chapter-table", ChapterTable)
    app.add_directive("schedule", Schedule)
    app.add_directive("lab-notes", LabNotes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
