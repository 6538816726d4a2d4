"""What Moodle, Canvas and browsers make of names, and the safe names that students get."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_ID = 100  # bytes of a student's name in an id: nbgrader keeps 128 characters, a file system 255 bytes
MOODLE = re.compile(r"(?P<name>.+?)(?:_(?P<number>[0-9]{1,20}))?_assignsubmission_(?P<kind>[a-z0-9]+)(?:_(?P<file>.*))?")
# Nobody can pass for another by the name of a file: the first two numbers count, and a student's own name follows them.
CANVAS = re.compile(r"(?P<name>.+?)(?:_LATE)?_(?P<number>[0-9]{1,20})_(?P<upload>[0-9]{1,20})_(?P<file>.+)")
CANVAS_ANONYMOUS = re.compile(r"(?:LATE_)?(?P<name>anon)_(?P<number>[A-Za-z0-9]{1,20})_(?P<upload>[0-9]{1,20})_(?P<file>.+)")


class Names:
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
        """What a folder or zip of submissions looks like, for an instructor whose own does not."""
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


@dataclass(frozen=True, order=True)
class Person:
    """Whose a file is: the name in its path, the learning system's number, and whether that is one to keep."""

    name: str
    number: str = ""
    keep: bool = False


def from_system(name: str) -> re.Match | None:
    """A name that Moodle or Canvas made."""
    return MOODLE.fullmatch(name) or CANVAS_ANONYMOUS.fullmatch(name) or CANVAS.fullmatch(name)


def safe_ids(people: Iterable[Person]) -> dict[Person, str]:
    """A safe folder name for each, different from all others also where a file system knows no capitals."""
    claims = defaultdict(list)
    for person in sorted(people):
        name = f"{_safe(person.name)}-{person.number}" if person.keep else _safe(person.name)
        claims[name.casefold()].append((person, name))
    ids: dict[Person, str] = {}
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


def namesakes(people: Iterable[Person], ids: dict[Person, str]) -> list[str]:
    """A sentence for each name that several people have."""
    by_name = defaultdict(list)
    for person in sorted(people):
        if person.number and not person.keep:
            by_name[person.name].append(ids[person])
    return [
        f"{len(same)} people are named {printable(name)}; Moodle's numbers keep them apart: {some(same)}."
        for name, same in by_name.items()
        if len(same) > 1
    ]


def printable(text: str) -> str:
    """A name for messages, short and on one line."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-97:]}"


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first five, and how many more there are."""
    return separator.join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
