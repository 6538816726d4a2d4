"""Pages are executed side by side, one kernel a core, with a line for each as it ends.

jupyter-cache executes a page and keeps it. Its own parallel executor hands out pages in batches and is silent until the last
of them has ended, so the pool is here.
"""

import os
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from jupyter_cache.executors.utils import single_nb_execution
from jupyter_core.utils import ensure_event_loop
from nbformat import NotebookNode

# What the kernels inherit. One thread each: they share the cores, and a page's numbers must not depend on how many there are.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["VAECOURSE_PAGE"] = "1"  # figures that move are drawn for a page (`vaecourse.explorable.figure.IN_PAGE`)


@dataclass
class Page:
    """A page to execute: its name, its file, its cells, and the seconds it may take."""

    name: str
    path: Path
    notebook: NotebookNode
    seconds: float


@dataclass
class Outcome:
    """What came of a page: it holds its outputs now, and took so many seconds; or it failed, and how."""

    page: Page
    seconds: float
    failure: str | None


def execute(pages: list[Page], timeout: int):
    """Execute pages, as many at a time as there are cores, and yield the outcome of each as it ends."""
    cores = min(os.cpu_count() or 1, len(pages))
    longest_first = sorted(
        pages, key=lambda page: (page.seconds, page.name), reverse=True
    )  # later chapters train larger models
    longest = max(page.seconds for page in pages)
    expected = max(longest, sum(page.seconds for page in pages) / cores)
    say(f"{counted(len(pages), 'page')} to execute on {counted(cores, 'core')}: about {duration(expected)}")
    width = max(len(page.name) for page in pages)
    with ThreadPool(cores) as pool:  # its threads end with the program, and kernels with their parent
        for outcome in pool.imap_unordered(lambda page: run(page, timeout), longest_first):
            say(f"  {outcome.page.name:<{width}} {outcome.seconds:6.1f} s{'  failed' if outcome.failure else ''}")
            yield outcome


def run(page: Page, timeout: int) -> Outcome:
    """Execute one page in its own folder; `timeout` is in seconds for a cell."""
    quiet = ["--log-level=ERROR"]  # a kernel warns that it talks unencrypted, to this very machine
    try:
        result = single_nb_execution(page.notebook, str(page.path.parent), timeout, False, extra_arguments=quiet)
    except Exception:  # the kernel could not start, or died
        return Outcome(page, 0.0, traceback.format_exc())
    finally:
        ensure_event_loop().close()  # this thread's, which nbclient leaves open
    return Outcome(page, result.time, result.exc_string)


def say(line: str) -> None:
    """Progress; on stderr, as Sphinx's warnings are."""
    print(line, file=sys.stderr, flush=True)


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 3 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
