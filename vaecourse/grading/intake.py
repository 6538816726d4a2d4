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

import errno
import hashlib
import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

MB = 1_000_000
MAX_NOTEBOOK = 20 * MB  # bytes of one notebook; with all its figures, a solved assignment has less than one million
MAX_STUDENTS_ZIP = 100 * MB  # bytes of a zip that a student handed in, as packed
MAX_ZIP = 2000 * MB  # bytes that are unpacked from one zip altogether
MAX_ENTRIES = 10_000  # files in one zip
MAX_DEPTH = 16  # folders in folders
MAX_ID = 100  # bytes of a student's name in an id: nbgrader keeps 128 characters, a file system 255 bytes

IGNORED = {".ipynb_checkpoints", "__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", "timestamp.txt"}  # the last is nbgrader's
MOODLE = re.compile(r"(?P<name>.+?)(?:_(?P<number>[0-9]{1,20}))?_assignsubmission_(?P<kind>[a-z0-9]+)(?:_(?P<file>.*))?")
# Nobody can pass for another by the name of a file: the first two numbers count, and a student's own name follows them.
CANVAS = re.compile(r"(?P<name>.+?)(?:_LATE)?_(?P<number>[0-9]{1,20})_(?P<upload>[0-9]{1,20})_(?P<file>.+)")
CANVAS_ANONYMOUS = re.compile(r"(?:LATE_)?(?P<name>anon)_(?P<number>[A-Za-z0-9]{1,20})_(?P<upload>[0-9]{1,20})_(?P<file>.+)")

LINK = "is a symbolic link, which is not followed: the notebook itself must be handed in"
FOLDER = "is a folder, not a notebook"
SPECIAL = "is no ordinary file"
CHANGED = "changed while it was read: it is taken when grading runs again"
DEEP = f"lies more than {MAX_DEPTH} folders deep"
PATH = "has a path that would lead out of the zip, or that is not portable: pack the notebook alone"
TWICE = "is in the zip more than once under this name, so it is not clear which one is meant"
ENCRYPTED = "is encrypted: hand it in without a password"
METHOD = "is packed in a way that is not read here: use an ordinary zip, or hand in the notebook itself"
DAMAGED = "is damaged: pack it again, or hand in the notebook itself"
NESTED = "is a zip in a zip, which is not opened: hand in the notebook itself"


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


class _Refused(Exception):
    """Why a file cannot be taken, in words that follow its name."""


@dataclass(frozen=True)
class _File:
    """A file in a folder or a zip: its path by parts, the same for messages, how to open it, or why that must not be."""

    parts: tuple[str, ...]
    shown: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    problem: str = ""

    def read(self, limit: int, advice: str) -> bytes:
        """All of it. Raises _Refused, also where there are more than `limit` bytes, whatever its size is said to be."""
        if self.problem:
            raise _Refused(self.problem)
        with self.open() as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise _Refused(f"is larger than {limit // MB} MB: {advice}")
        return data

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def is_zip(self) -> bool:
        return self.name.lower().endswith(".zip")


@dataclass(frozen=True, order=True)
class _Person:
    """Whose a file is: the name in its path, the learning system's number, and whether that is one to keep."""

    name: str
    number: str = ""
    keep: bool = False


@dataclass(frozen=True)
class _Candidate:
    """A file that may be the notebook of an assignment. The first in order of `rank` is."""

    file: _File
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
    names = _Names(slugs)
    if submitted.resolve() != source.resolve() and submitted.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{submitted} lies in {source}: what was handed in must not be mixed with what is made of it.")
    with _listing(source, names) as files:
        belongings, unclear = _by_person(_unwrapped(files, names), names)
        ids = _ids(belongings)
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
                    unclear.append(f"{ids[person]} has {slug} more than once: {best.file.shown} counts, not {_some(again)}.")
    if not submissions:
        raise ValueError("\n".join([f"{source} has no submission in it.", *sorted(unclear)[:5], names.expected]))
    unclear += _namesakes(belongings, ids)
    return Intake(sorted(submissions, key=lambda taken: (taken.assignment, taken.student)), sorted(unclear))


class _Names:
    """The assignments, and how their files may be named."""

    def __init__(self, slugs: Sequence[str]):
        self.slugs = {slug.lower(): slug for slug in slugs}
        either = "|".join(re.escape(slug) for slug in sorted(self.slugs, key=len, reverse=True))
        self._stem = rf"(?P<slug>{either})(?:-(?P<attempt>[0-9]{{1,9}}))?(?: ?\((?P<copy>[0-9]{{1,9}})\))?"

    def match(self, name: str, suffix: str = ".ipynb") -> tuple[str, int, int] | None:
        """The assignment of a file, Canvas's number of the resubmission, and a browser's number of the copy."""
        found = re.fullmatch(self._stem + re.escape(suffix), name, re.IGNORECASE | re.ASCII)
        if not found:
            return None
        return self.slugs[found["slug"].lower()], int(found["attempt"] or 0), int(found["copy"] or 0)

    @property
    def expected(self) -> str:
        slug = next(iter(self.slugs.values()))
        return "\n".join(
            [
                "Expected is a folder, or a zip, with one of these in it:",
                f"    student/{slug}.ipynb, or nbgrader's student/{slug}/{slug}.ipynb",
                f"    Moodle's Full Name_1234567_assignsubmission_file_/{slug}.ipynb",
                f"    Canvas's lastfirst_12345_678910_{slug}.ipynb",
                f"Known assignments: {', '.join(self.slugs.values())}.",
            ]
        )


# Folders and zips


@contextmanager
def _listing(source: Path, names: _Names) -> Iterator[list[_File]]:
    """The files in the source, which stays open. Raises ValueError where there is nothing to list."""
    if source.is_dir():
        root = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield _checked(_walk(root, ()), source, names)
        finally:
            os.close(root)
    elif not source.exists():
        raise ValueError(f"{source} does not exist.\n{names.expected}")
    elif not source.is_file() or not zipfile.is_zipfile(source):
        raise ValueError(f"{source} is neither a folder nor a zip.\n{names.expected}")
    else:
        try:
            archive = zipfile.ZipFile(source)
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
            raise ValueError(f"{source} is a damaged zip ({error}). Download it again.\n{names.expected}") from error
        with archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise ValueError(f"{source} holds more than {MAX_ENTRIES:,} files. Unpack it, and give the folder.")
            yield _checked(_entries(archive), source, names)


def _checked(files: Iterable[_File], source: Path, names: _Names) -> list[_File]:
    files = _relevant(files)
    if not files:
        raise ValueError(f"{source} is empty.\n{names.expected}")
    return files


def _relevant(files: Iterable[_File]) -> list[_File]:
    """Without what systems put there by themselves, in an order that no file system decides."""
    return sorted(
        (file for file in files if not any(part in IGNORED or part.startswith("._") for part in file.parts)),
        key=lambda file: (file.parts, file.shown),
    )


def _walk(root: int, above: tuple[str, ...]) -> Iterator[_File]:
    """All files below a folder that is open as `root`."""
    here = _open(root, above, os.O_DIRECTORY) if above else os.dup(root)
    try:
        with os.scandir(here) as entries:
            kinds = [
                (e.name, e.is_symlink(), e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in entries
            ]
    finally:
        os.close(here)
    for name, link, folder, ordinary in kinds:
        parts = (*above, name)
        file = _File(parts, _printable("/".join(parts)), lambda parts=parts: _reading(root, parts))
        if link:
            yield replace(file, problem=LINK)
        elif folder and name.lower().endswith(".ipynb"):
            yield replace(file, problem=FOLDER)
        elif folder and len(parts) > MAX_DEPTH:
            yield replace(file, problem=DEEP)
        elif folder:
            try:
                yield from _walk(root, parts)
            except OSError as error:
                yield replace(file, problem=_unreadable(error))
        else:
            yield file if ordinary else replace(file, problem=SPECIAL)


def _open(root: int, parts: Sequence[str], flags: int = 0) -> int:
    """Open what lies below a folder, and follow no symbolic link on the way, not even one that was put there a moment ago."""
    here = os.dup(root)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        # A FIFO in the file's place must not make the reader wait.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, dir_fd=here)
    finally:
        os.close(here)


@contextmanager
def _reading(root: int, parts: Sequence[str]) -> Iterator[BinaryIO]:
    """An ordinary file, open. Raises _Refused where it is none, or where it changed meanwhile."""
    try:
        with os.fdopen(_open(root, parts), "rb") as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise _Refused(SPECIAL)
            yield stream
            after = os.fstat(stream.fileno())
            if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
                after.st_size,
                after.st_mtime_ns,
                after.st_ctime_ns,
            ):
                raise _Refused(CHANGED)
    except OSError as error:
        raise _Refused(_unreadable(error)) from error


def _unreadable(error: OSError) -> str:
    return LINK if error.errno == errno.ELOOP else f"cannot be read ({error.strerror or error})"


def _entries(archive: zipfile.ZipFile) -> list[_File]:
    """All files in a zip, in its order. What is wrong with one is its `problem`."""
    unpacked = 0

    @contextmanager
    def unpacking(info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
        nonlocal unpacked
        if unpacked > MAX_ZIP:
            raise _Refused(
                f"was not read, because the zip holds more than {MAX_ZIP // MB:,} MB: unpack it, and give the folder"
            )
        try:
            with archive.open(info) as stream:
                yield stream
                unpacked += stream.tell()
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
            struct.error,
            ValueError,
            OverflowError,
        ) as error:
            raise _Refused(DAMAGED) from error

    files: list[_File] = []
    seen: dict[tuple[str, ...], int] = {}
    for info in archive.infolist():
        name = _entry_name(info)
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        folders = parts if name.endswith("/") else parts[:-1]
        notebook = next((depth for depth, part in enumerate(folders, 1) if part.lower().endswith(".ipynb")), None)
        problem = ""
        if name.startswith("/") or ".." in parts or re.search(r"[\\\x00]|^[A-Za-z]:", name):
            # What is left of the path is good enough for a message.
            parts, problem = (re.split(r"[/\\]", name.partition("\x00")[0])[-1],), PATH
        elif notebook:
            parts, problem = parts[:notebook], FOLDER
        elif name.endswith("/") or not parts:
            continue
        elif len(parts) > MAX_DEPTH:
            problem = DEEP
        elif info.flag_bits & 1:
            problem = ENCRYPTED
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            problem = LINK if stat.S_ISLNK(info.external_attr >> 16) else SPECIAL
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = METHOD  # Python unpacks the others without a limit on what they take
        if problem != PATH and parts in seen:
            files[seen[parts]] = replace(files[seen[parts]], problem=FOLDER if problem == FOLDER else TWICE)
            continue
        if problem != PATH:
            seen[parts] = len(files)
        files.append(_File(parts, _printable(name), lambda info=info: unpacking(info), problem))
    return files


def _entry_name(info: zipfile.ZipInfo) -> str:
    """The name as it was meant: macOS writes UTF-8 and does not say so. Characters behind a zero byte are kept."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        try:
            return name.encode("cp437").decode("utf-8")
        except UnicodeError:
            return name
    return name


def _unzipped(file: _File) -> list[_File]:
    """The files in a zip that a student handed in, as if they lay in a folder of its name. Raises _Refused."""
    with _students_zip(file) as archive:
        inside = _relevant(_entries(archive))
    return [
        replace(
            entry,
            parts=(*file.parts, *entry.parts),
            shown=f"{file.shown}/{entry.shown}",
            open=lambda entry=entry: _from_zip(file, entry.parts),
            problem=entry.problem or (NESTED if entry.is_zip else ""),
        )
        for entry in inside
    ]


@contextmanager
def _from_zip(file: _File, parts: tuple[str, ...]) -> Iterator[BinaryIO]:
    """A file in a student's zip. The zip is read again for it, so that never more than one is held in memory."""
    with _students_zip(file) as archive:
        entry = next((entry for entry in _entries(archive) if entry.parts == parts and not entry.problem), None)
        if entry is None:
            raise _Refused(CHANGED)
        with entry.open() as stream:
            yield stream


@contextmanager
def _students_zip(file: _File) -> Iterator[zipfile.ZipFile]:
    data = file.read(MAX_STUDENTS_ZIP, "hand in the notebook alone")
    if data.count(b"PK\x01\x02") > MAX_ENTRIES:  # before the list is read, which could take all memory
        raise _Refused(f"holds more than {MAX_ENTRIES:,} files: hand in the notebook alone")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError, OverflowError) as error:
        raise _Refused(DAMAGED) from error
    with archive:
        yield archive


def _unwrapped(files: list[_File], names: _Names) -> list[_File]:
    """Without the folders around everything. One that holds a notebook, or an assignment's folder, is a student's."""
    while True:
        sound = [file.parts for file in files if file.problem != PATH]
        tops, below = {parts[0] for parts in sound}, [parts[1:] for parts in sound]
        if len(tops) != 1 or not all(below) or MOODLE.fullmatch(*tops):
            return files
        students = any(
            rest[0].lower() in names.slugs
            if len(rest) > 1
            else not _from_system(rest[0]) and (names.match(rest[0]) or rest[0].lower().endswith(".zip"))
            for rest in below
        )
        if students or not any(len(rest) > 1 or _from_system(rest[0]) for rest in below):
            return files
        files = [file if file.problem == PATH else replace(file, parts=file.parts[1:]) for file in files]


# Whose, and what


def _from_system(name: str) -> re.Match | None:
    """A name that Moodle or Canvas made."""
    return MOODLE.fullmatch(name) or CANVAS_ANONYMOUS.fullmatch(name) or CANVAS.fullmatch(name)


def _by_person(files: Iterable[_File], names: _Names) -> tuple[dict[_Person, list[tuple[_File, int]]], list[str]]:
    """Each person's files, with Canvas's number of the upload, and sentences about those that are nobody's."""
    belongings, unclear = defaultdict(list), []
    for file in files:
        top, *rest = (unicodedata.normalize("NFC", part) for part in file.parts)
        system, upload = MOODLE.fullmatch(top), 0
        if system:
            if system["kind"] == "onlinetext":
                continue
            person, rest = _Person(system["name"], system["number"] or ""), [*filter(None, [system["file"]]), *rest]
        elif not rest and (system := _from_system(top)):
            person, rest, upload = _Person(system["name"], system["number"], keep=True), [system["file"]], int(system["upload"])
        else:
            person = _Person(top)
        if rest:
            belongings[person].append((replace(file, parts=tuple(rest)), upload))
        else:
            why = file.problem or "belongs to no student: it lies in no student's folder, and not Moodle nor Canvas named it"
            unclear.append(f"{file.shown} {why}.")
    return dict(belongings), unclear


def _sorted_out(owned: Iterable[tuple[_File, int]], names: _Names) -> tuple[dict[str, list[_Candidate]], list[_File]]:
    """One person's notebooks by assignment, those in zips, too, and the files that are none."""
    candidates, others = defaultdict(list), []

    def sort(file: _File, upload: int, packed: bool, suffix: str = ".ipynb") -> None:
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
            inside = _unzipped(file)
        except _Refused as refused:
            # It stands for the notebook that its name promises, so that the student is told.
            sort(replace(file, problem=str(refused)), upload, packed=True, suffix=".zip")
            continue
        for entry in inside:
            sort(entry, upload, packed=True, suffix=".zip" if entry.is_zip else ".ipynb")
        if not inside:
            others.append(replace(file, problem="is empty"))
    return dict(candidates), others


def _left_out(student: str, others: list[_File], names: _Names) -> list[str]:
    """Sentences about a student's files that are no assignment's."""
    sentences = []
    if broken := [f"{file.shown} {file.problem}" for file in others if file.problem]:
        sentences.append(f"Not taken from {student}: {_some(broken, '; ')}.")
    if rest := [file.shown for file in others if not file.problem]:
        known = ", ".join(names.slugs.values())
        sentences.append(f"{student} also handed in what is no notebook of a known assignment ({known}): {_some(rest)}.")
    return sentences


def _take(file: _File, wanted: Submission, submitted: Path) -> Submission:
    """Copy one notebook to where it is wanted."""
    wanted = replace(wanted, source=file.shown)
    try:
        data = file.read(MAX_NOTEBOOK, "clear its outputs, save it, and hand it in again")
    except _Refused as refused:
        return replace(wanted, notebook=None, problem=f"{_printable('/'.join(file.parts))} {refused}.")
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


# Names


def _ids(people: Iterable[_Person]) -> dict[_Person, str]:
    """A safe folder name for each, different from all others also where a file system knows no capitals."""
    claims = defaultdict(list)
    for person in sorted(people):
        name = f"{_safe(person.name)}-{person.number}" if person.keep else _safe(person.name)
        claims[name.casefold()].append((person, name))
    ids: dict[_Person, str] = {}
    taken = {claim for claim, claimants in claims.items() if len(claimants) == 1}
    for claimants in claims.values():
        for person, name in claimants:
            if len(claimants) > 1:
                base, name = name, f"{name}-{person.number or _digest(person.name)}"
                while name.casefold() in taken:
                    name = f"{base}-{_digest(name)}"
                taken.add(name.casefold())
            ids[person] = name
    return ids


def _safe(name: str) -> str:
    """A name of letters (with their marks), digits, `.`, `-` and `_`, that starts with a letter or a digit; NFC, not long."""
    kept = (c if unicodedata.category(c)[0] in "LMN" or c in "._-" else "\0" for c in unicodedata.normalize("NFC", name))
    text = re.sub("\0+", "_", "".join(kept))
    text = text.encode()[:MAX_ID].decode(errors="ignore").strip("._-")
    return text if text and text[0].isalnum() else f"student-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:6]


def _namesakes(people: Iterable[_Person], ids: dict[_Person, str]) -> list[str]:
    """A sentence for each name that several people have."""
    by_name = defaultdict(list)
    for person in sorted(people):
        if person.number and not person.keep:
            by_name[person.name].append(ids[person])
    return [
        f"{len(same)} people are named {_printable(name)}; Moodle's numbers keep them apart: {_some(same)}."
        for name, same in by_name.items()
        if len(same) > 1
    ]


def _printable(text: str) -> str:
    """A name for messages, short and on one line."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-97:]}"


def _some(names: Sequence[str], separator: str = ", ") -> str:
    """The first five, and how many more there are."""
    return separator.join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
