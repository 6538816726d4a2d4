"""What students handed in, as a folder or a zip, copied to `COURSE/submitted/STUDENT/NN_slug/NN_slug.ipynb`.

Accepted, and mixed as they come, in a folder or in a zip:

    student/07_vae.ipynb, student/07_vae/07_vae.ipynb (nbgrader's), or the notebook anywhere else in the student's folder
    Full Name_1234567_assignsubmission_file_/07_vae.ipynb, and Moodle's other forms: no `_` at the end, all in one file name
    lastfirst_12345_678910_07_vae.ipynb, Canvas's; also lastfirst_LATE_12345_..., anon_Ab3dE_678910_...

In place of the notebook there may be a zip that holds it. Names that browsers (`07_vae (1).ipynb`) and Canvas
(`07_vae-1.ipynb`) change are known again. A folder around it all is seen through.

Whose a file is, only the outermost name says, which the learning system or the instructor gave. What lies deeper is the
student's own and cannot be another's. Nothing here follows a symbolic link, or trusts a size or a path that a file claims.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vaecourse.grading.course.intake.files import PATH, File, Refused, listing, unzipped
from vaecourse.grading.course.intake.names import MOODLE, Names, Person, from_system, namesakes, printable, safe_ids, some
from vaecourse.grading.marking.task import NOTEBOOK_BYTES


@dataclass(frozen=True)
class Submission:
    """One student's notebook of one assignment, or, in `problem`, a sentence for the student why there is none.

    `notebook` is the copy under COURSE/submitted, None where there is a problem. `source` says where it was found.
    `number` is what the learning system calls the student in the file's name, "" where there is none: Canvas's user id, which
    is the same everywhere, or Moodle's participant number, which is another in each assignment.
    """

    student: str
    assignment: str
    notebook: Path | None
    problem: str = ""
    source: str = ""
    number: str = ""


@dataclass(frozen=True)
class Intake:
    """What was handed in, by assignment and student, and sentences for the instructor about all else that was found."""

    submissions: list[Submission]
    unclear: list[str]


@dataclass(frozen=True)
class _Candidate:
    """A file that may be the notebook of an assignment. The first in order of `rank` is."""

    file: File
    attempt: int
    upload: int
    copy: int
    packed: bool

    @property
    def rank(self) -> tuple:
        file = self.file
        return bool(file.problem), -self.attempt, -self.upload, self.packed, self.copy, len(file.parts), file.parts


def collect(source: Path, submitted: Path, slugs: Sequence[str]) -> Intake:
    """Copy all notebooks of the assignments `slugs` from `source` to `submitted`; what is there unchanged stays as it is.

    A student is named by a safe folder name, made of what stands in the path: letters, digits, `.`, `-` and `_`.

    - A student's folder: its name. Canvas: name and user id, as in lovelaceada-12345, so that grades can be imported again.
    - Moodle: the full name alone, since its number is another in each assignment. Where two people of one intake have the same
      name, the number follows, as in Ada_Lovelace-1234567. So take in one Moodle download at a time.
    - Where other names fall together when they are made safe, six digits of a hash follow.

    Of several files for one student and assignment, the first is taken that can be read by its kind: the highest of Canvas's
    resubmissions and uploads, then one that is not packed, whose name a browser did not change, that lies least deep, that is
    first in the alphabet. `unclear` says so, except of earlier resubmissions. A copy whose student hands it in no more stays.

    Raises ValueError where `source` is no folder or zip, or has no submission in it, and says what was expected.
    """
    names = Names(slugs)
    if submitted.resolve() != source.resolve() and submitted.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{submitted} lies in {source}: what was handed in must not be mixed with what is made of it.")
    with listing(source, names.expected) as files:
        belongings, unclear = _by_person(_unwrapped(files, names), names)
        ids = safe_ids(belongings)
        submissions = []
        for person, owned in belongings.items():
            candidates, others = _sorted_out(owned, names)
            unclear += _left_out(ids[person], others, names)
            for slug, found in candidates.items():
                best, *rest = sorted(found, key=lambda candidate: candidate.rank)
                target = submitted / ids[person] / slug / f"{slug}.ipynb"
                submissions.append(_take(best.file, Submission(ids[person], slug, target, number=person.number), submitted))
                again = [other.file.shown for other in rest if other.attempt == best.attempt or other.file.problem]
                if again:
                    unclear.append(f"{ids[person]} has {slug} more than once: {best.file.shown} counts, not {some(again)}.")
    if not submissions:
        raise ValueError("\n".join([f"{source} has no submission in it.", *sorted(unclear)[:5], names.expected]))
    unclear += namesakes(belongings, ids)
    return Intake(sorted(submissions, key=lambda taken: (taken.assignment, taken.student)), sorted(unclear))


def _unwrapped(files: list[File], names: Names) -> list[File]:
    """Without the folders around everything. One that holds a notebook, or an assignment's folder, is a student's."""
    while True:
        sound = [file.parts for file in files if file.problem != PATH]
        tops, below = {parts[0] for parts in sound}, [parts[1:] for parts in sound]
        if len(tops) != 1 or not all(below) or MOODLE.fullmatch(*tops):
            return files
        students = any(
            rest[0].lower() in names.slugs
            if len(rest) > 1
            else not from_system(rest[0]) and (names.match(rest[0]) or rest[0].lower().endswith(".zip"))
            for rest in below
        )
        if students or not any(len(rest) > 1 or from_system(rest[0]) for rest in below):
            return files
        files = [file if file.problem == PATH else replace(file, parts=file.parts[1:]) for file in files]


def _by_person(files: Iterable[File], names: Names) -> tuple[dict[Person, list[tuple[File, int]]], list[str]]:
    """Each person's files, with Canvas's number of the upload, and sentences about those that are nobody's."""
    belongings, unclear = defaultdict(list), []
    for file in files:
        top, *rest = (unicodedata.normalize("NFC", part) for part in file.parts)
        system, upload = MOODLE.fullmatch(top), 0
        if system:
            if system["kind"] == "onlinetext":
                continue
            person, rest = Person(system["name"], system["number"] or ""), [*filter(None, [system["file"]]), *rest]
        elif not rest and (system := from_system(top)):
            person, rest, upload = Person(system["name"], system["number"], keep=True), [system["file"]], int(system["upload"])
        else:
            person = Person(top)
        if rest:
            belongings[person].append((replace(file, parts=tuple(rest)), upload))
        else:
            why = file.problem or "belongs to no student: it lies in no student's folder, and not Moodle nor Canvas named it"
            unclear.append(f"{file.shown} {why}.")
    return dict(belongings), unclear


def _sorted_out(owned: Iterable[tuple[File, int]], names: Names) -> tuple[dict[str, list[_Candidate]], list[File]]:
    """One person's notebooks by assignment, those in zips, too, and the files that are none."""
    candidates, others = defaultdict(list), []

    def sort(file: File, upload: int, packed: bool, suffix: str = ".ipynb") -> None:
        if found := names.match(file.name, suffix):
            slug, attempt, copy = found
            candidates[slug].append(_Candidate(file, attempt, upload, copy, packed))
        else:
            others.append(file)

    for file, upload in owned:
        if not file.is_zip:
            sort(file, upload, packed=False)
            continue
        try:
            inside = unzipped(file)
        except Refused as refused:
            # It stands for the notebook that its name promises, so that the student is told.
            sort(replace(file, problem=str(refused)), upload, packed=True, suffix=".zip")
            continue
        for entry in inside:
            sort(entry, upload, packed=True, suffix=".zip" if entry.is_zip else ".ipynb")
        if not inside:
            others.append(replace(file, problem="is empty"))
    return dict(candidates), others


def _left_out(student: str, others: list[File], names: Names) -> list[str]:
    """Sentences about a student's files that are no assignment's."""
    sentences = []
    if broken := [f"{file.shown} {file.problem}" for file in others if file.problem]:
        sentences.append(f"Not taken from {student}: {some(broken, '; ')}.")
    if rest := [file.shown for file in others if not file.problem]:
        known = ", ".join(names.slugs.values())
        sentences.append(f"{student} also handed in what is no notebook of a known assignment ({known}): {some(rest)}.")
    return sentences


def _take(file: File, wanted: Submission, submitted: Path) -> Submission:
    """Copy one notebook to where it is wanted."""
    wanted = replace(wanted, source=file.shown)
    try:
        data = file.read(NOTEBOOK_BYTES, "clear its outputs, save it, and hand it in again")
    except Refused as refused:
        return replace(wanted, notebook=None, problem=f"{printable('/'.join(file.parts))} {refused}.")
    _write(wanted.notebook, data, submitted)
    return wanted


def _write(path: Path, data: bytes, submitted: Path) -> None:
    """Put data in place at once, or not at all; leave a file alone that has them already."""
    if path.parent.resolve() != submitted.resolve() / path.parent.relative_to(submitted):
        raise ValueError(f"{path.parent} leads out of {submitted} by a symbolic link. Remove the link.")
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with partial.open("xb") as stream:
        stream.write(data)
    os.replace(partial, path)
