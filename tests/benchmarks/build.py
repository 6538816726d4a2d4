"""How long a new user waits: to install, to build the book, to build it again; if asked, to run the tests.

    python tests/benchmarks/build.py [--tests]

works in a fresh clone of what is committed, in a temporary folder, with the commands of the README; it needs a package
index and some minutes. Writes the table on the book's front page, book/results/build.md, line by line.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def seconds(clone: Path, target: str) -> float:
    """The time of one target of the Makefile. Where it fails, its output is printed, and this ends."""
    started = time.perf_counter()
    run = subprocess.run(["make", target], cwd=clone, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        sys.exit(f"{run.stdout}\nmake {target} failed: what it printed stands above")
    return time.perf_counter() - started


def write(rows: dict[str, float]) -> None:
    """The table of what is measured so far."""
    lines = ["| from a fresh clone | seconds |", "| --- | ---: |"]
    lines += [f"| {what} | {time_taken:.0f} |" for what, time_taken in rows.items()]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, PyTorch {torch.__version__}"
    lines += ["", f"Measured on {date.today().isoformat()} by `make bench`: {machine}."]
    (ROOT / "book" / "results" / "build.md").write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "book"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        for what, target in [
            ("`make install`, from nothing", "install"),
            ("`make book`, the first time", "book"),
            ("`make book`, nothing changed", "book"),
            *[("`make test`, with what it installs", "test")] * ("--tests" in sys.argv),
        ]:
            rows[what] = seconds(clone, target)
            write(rows)
            print(f"{what}: {rows[what]:.0f} s", flush=True)


if __name__ == "__main__":
    main()
