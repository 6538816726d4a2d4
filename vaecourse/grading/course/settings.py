"""A course's settings, in `course.toml`: its seed, and what one submission may use. Written once, then the instructor's."""

import os
import secrets
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vaecourse.grading.marking.task import Limits

FILE = "course.toml"
TEMPLATE = """\
# The course's own seed: the inputs of the hidden tests, and each student's data, are drawn from it. Keep it to yourself.
seed = "{seed}"

# Your own assignments, in place of the book's: a folder like notebooks/source/assignments, in a private repository.
# sources = "../my-assignments"

# What one submission may use. A student who reaches a limit reads so on the feedback page.
[limits]
seconds_a_cell = {seconds_a_cell}   # wall time of one cell, and of one call of a student's function in a test
seconds = {seconds}         # wall time of the whole notebook
memory_mb = {memory_mb}      # all the student's processes together
processes = {processes}       # processes and threads; a kernel with PyTorch has about 20
disk_mb = {disk_mb}         # the student's files; they are gone afterwards
output_kb = {output_kb}       # what one cell may print and draw; all together, 20 times as much
"""


@dataclass(frozen=True)
class Settings:
    """The seed of the hidden inputs, the limits, and the folder of the assignments' sources, None for the book's."""

    seed: str
    limits: Limits
    sources: Path | None = None


def load(course: Path) -> Settings:
    """The course's settings; a new course gets a random seed and the usual limits. Raises ValueError, with file and reason."""
    path = course / FILE
    if not path.exists():
        course.mkdir(parents=True, exist_ok=True)
        path.write_text(TEMPLATE.format(seed=secrets.token_hex(8), **asdict(Limits())), "utf-8")
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if unknown := set(found) - {"seed", "sources", "limits"}:
        raise ValueError(f"{path}: unknown: {', '.join(sorted(unknown))}; there are seed, sources and the table [limits]")
    seed, sources, limits = found.get("seed"), found.get("sources"), found.get("limits", {})
    if not isinstance(seed, str) or not isinstance(sources, str | None) or not isinstance(limits, dict):
        raise ValueError(f'{path}: expected seed = "...", sources = "..." (or nothing) and the table [limits]')
    names = [limit.name for limit in fields(Limits)]
    for name, value in limits.items():
        if name not in names:
            raise ValueError(f"{path}: unknown limit {name!r}; there are {', '.join(names)}")
        if type(value) is not int or value < 1:
            raise ValueError(f"{path}: the limit {name} must be a positive whole number, got {value!r}")
    folder = None if sources is None else course / os.path.expanduser(sources)
    if folder and not folder.is_dir():
        raise ValueError(f"{path}: sources names no folder: {folder}")
    return Settings(seed, Limits(**limits), folder)
