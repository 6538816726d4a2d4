"""How long a new user waits: to install, to build the book, to build it again, and to run the tests.

    python tests/benchmarks/build.py

works in a fresh clone of what is committed, in a temporary folder, with the commands of the README; it needs a package
index and some minutes. Writes the table on the book's front page, book/results/build.md.
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
EDITED = "vaecourse/exact_models.py"  # a module that a page imports


def seconds(clone: Path, target: str) -> float:
    """The time of one target of the Makefile. Where it fails, its output is printed, and this ends."""
    started = time.perf_counter()
    run = subprocess.run(["make", target], cwd=clone, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        sys.exit(f"{run.stdout}\nmake {target} failed: what it printed stands above")
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "book"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        rows = {"`make install`, from nothing": seconds(clone, "install")}
        rows["`make book`, the first time"] = seconds(clone, "book")
        rows["`make book`, nothing changed"] = seconds(clone, "book")
        rows["`make test`"] = seconds(clone, "test")
        with (clone / EDITED).open("a") as module:
            module.write("\nEDITED = True\n")
        rows[f"`make book`, `{EDITED}` edited"] = seconds(clone, "book")
    lines = ["| from a fresh clone | seconds |", "| --- | ---: |"]
    lines += [f"| {what} | {time_taken:.0f} |" for what, time_taken in rows.items()]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, PyTorch {torch.__version__}"
    lines += ["", f"Measured on {date.today().isoformat()} by `make bench`: {machine}."]
    (ROOT / "book" / "results" / "build.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
