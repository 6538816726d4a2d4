"""Files in folders and zips, listed and read safely: no symbolic link is followed, no size or path is trusted."""

import errno
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from vaecourse.grading.course.intake.names import printable

MB = 1_000_000
MAX_STUDENTS_ZIP = 100 * MB  # bytes of a zip that a student handed in, as packed
MAX_ZIP = 2000 * MB  # bytes that are unpacked from one zip altogether
MAX_ENTRIES = 10_000  # files in one zip
MAX_DEPTH = 16  # folders in folders

IGNORED = {".ipynb_checkpoints", "__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", "timestamp.txt"}  # the last is nbgrader's

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


class Refused(Exception):
    """Why a file cannot be taken, in words that follow its name."""


@dataclass(frozen=True)
class File:
    """A file in a folder or a zip: its path by parts, the same for messages, how to open it, or why that must not be."""

    parts: tuple[str, ...]
    shown: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    problem: str = ""

    def read(self, limit: int, advice: str) -> bytes:
        """All of it. Raises Refused, also where there are more than `limit` bytes, whatever its size is said to be."""
        if self.problem:
            raise Refused(self.problem)
        with self.open() as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise Refused(f"is larger than {limit // MB} MB: {advice}")
        return data

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.parts[-1]

    @property
    def is_zip(self) -> bool:
        """Whether its name says that it is a zip."""
        return self.name.lower().endswith(".zip")


@contextmanager
def listing(source: Path, expected: str) -> Iterator[list[File]]:
    """The files in the source, which stays open. Raises ValueError, with what is expected, where there is nothing to list."""
    if source.is_dir():
        root = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield _checked(_walk(root, ()), source, expected)
        finally:
            os.close(root)
    elif not source.exists():
        raise ValueError(f"{source} does not exist.\n{expected}")
    elif not source.is_file() or not zipfile.is_zipfile(source):
        raise ValueError(f"{source} is neither a folder nor a zip.\n{expected}")
    else:
        try:
            archive = zipfile.ZipFile(source)
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
            raise ValueError(f"{source} is a damaged zip ({error}). Download it again.\n{expected}") from error
        with archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise ValueError(f"{source} holds more than {MAX_ENTRIES:,} files. Unpack it, and give the folder.")
            yield _checked(_entries(archive), source, expected)


def _checked(files: Iterable[File], source: Path, expected: str) -> list[File]:
    files = _relevant(files)
    if not files:
        raise ValueError(f"{source} is empty.\n{expected}")
    return files


def _relevant(files: Iterable[File]) -> list[File]:
    """Without what systems put there by themselves, in an order that no file system decides."""
    return sorted(
        (file for file in files if not any(part in IGNORED or part.startswith("._") for part in file.parts)),
        key=lambda file: (file.parts, file.shown),
    )


def _walk(root: int, above: tuple[str, ...]) -> Iterator[File]:
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
        file = File(parts, printable("/".join(parts)), lambda parts=parts: _reading(root, parts))
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
    """An ordinary file, open. Raises Refused where it is none, or where it changed meanwhile."""
    try:
        with os.fdopen(_open(root, parts), "rb") as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise Refused(SPECIAL)
            yield stream
            after = os.fstat(stream.fileno())
            if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
                after.st_size,
                after.st_mtime_ns,
                after.st_ctime_ns,
            ):
                raise Refused(CHANGED)
    except OSError as error:
        raise Refused(_unreadable(error)) from error


def _unreadable(error: OSError) -> str:
    return LINK if error.errno == errno.ELOOP else f"cannot be read ({error.strerror or error})"


def _entries(archive: zipfile.ZipFile) -> list[File]:
    """All files in a zip, in its order. What is wrong with one is its `problem`."""
    unpacked = 0

    @contextmanager
    def unpacking(info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
        nonlocal unpacked
        if unpacked > MAX_ZIP:
            raise Refused(f"was not read, because the zip holds more than {MAX_ZIP // MB:,} MB: unpack it, and give the folder")
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
            raise Refused(DAMAGED) from error

    files: list[File] = []
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
        files.append(File(parts, printable(name), lambda info=info: unpacking(info), problem))
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


def unzipped(file: File) -> list[File]:
    """The files in a zip that a student handed in, as if they lay in a folder of its name. Raises Refused."""
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
def _from_zip(file: File, parts: tuple[str, ...]) -> Iterator[BinaryIO]:
    """A file in a student's zip. The zip is read again for it, so that never more than one is held in memory."""
    with _students_zip(file) as archive:
        entry = next((entry for entry in _entries(archive) if entry.parts == parts and not entry.problem), None)
        if entry is None:
            raise Refused(CHANGED)
        with entry.open() as stream:
            yield stream


@contextmanager
def _students_zip(file: File) -> Iterator[zipfile.ZipFile]:
    data = file.read(MAX_STUDENTS_ZIP, "hand in the notebook alone")
    if data.count(b"PK\x01\x02") > MAX_ENTRIES:  # before the list is read, which could take all memory
        raise Refused(f"holds more than {MAX_ENTRIES:,} files: hand in the notebook alone")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError, OverflowError) as error:
        raise Refused(DAMAGED) from error
    with archive:
        yield archive
