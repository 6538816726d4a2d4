"""Hostile submissions, graded for real: each costs itself alone, earns what it earned honestly, and leaves nothing behind."""

import csv
import ctypes
import html
import json
import multiprocessing.util
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import hostile
import nbformat
import psutil
import pytest
import torch
from nbgrader.api import Gradebook
from small_assignment import POINTS, SECRET, SLUG, solved
from small_assignment import assignment as small_assignment

from vaecourse.grading import checks
from vaecourse.grading.authoring import forms
from vaecourse.grading.course import settings
from vaecourse.grading.course.grade import grade
from vaecourse.grading.marking import bubblewrap
from vaecourse.grading.marking.marks import Marks
from vaecourse.grading.marking.task import Limits

LIMITS = Limits(seconds_a_cell=5, seconds=20, memory_mb=800, processes=128, disk_mb=50, output_kb=100)
LANES = 2
GRADER_MB = 500
"""The most that a process of the grading may hold, in MB; what it shares with others, PyTorch above all, counts in part."""

PR_SET_CHILD_SUBREAPER = 36

pytestmark = pytest.mark.filterwarnings("ignore:Object of type <SubmittedAssignment> not in session")  # nbgrader's own


def honest(notebook: nbformat.NotebookNode, host: hostile.Host) -> bytes:
    """A solved notebook, of which nobody else must read the written answer."""
    notebook.cells[-1].source = SECRET
    return hostile.dumps(notebook)


HONEST = [hostile.Hostile(f"{letter}_honest", honest, 9, 9, "^$", "") for letter in "bfmt"]  # graded among the others


@dataclass
class Run:
    """What grading all of them gave, and what they left behind."""

    course: Path
    failed: tuple[str, ...]
    anew: int
    running: list[str]
    files: list[Path]
    heard: list[bytes]
    changed: list[Path]
    memory: int

    def marks(self, name: str) -> Marks:
        """A student's marks."""
        return Marks.load(self.course / "marks" / SLUG / f"{name}.json")

    def printed(self, name: str) -> str:
        """What the student's own cells printed."""
        notebook = nbformat.read(self.course / "autograded" / name / SLUG / f"{SLUG}.ipynb", 4)
        tests = {mark.cell for mark in self.marks(name).marks}
        return json.dumps([cell.outputs for cell in notebook.cells if "outputs" in cell and cell.get("id") not in tests])

    def page(self, name: str) -> str:
        """A student's page."""
        return (self.course / "feedback" / name / SLUG / f"{SLUG}.html").read_text("utf-8")


class Listeners:
    """A port of 127.0.0.1 and a local socket with an abstract name, and what arrives there."""

    def __init__(self):
        self.heard: list[bytes] = []
        stream = socket.create_server(("127.0.0.1", 0))
        self.port = stream.getsockname()[1]
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", self.port))
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.name = f"\0vaecourse-hostile-{self.port}"
        local.bind(self.name)
        local.listen()
        self.servers = [stream, datagrams, local]
        for server in self.servers:
            server.settimeout(0.2)
        self.closing = threading.Event()
        self.threads = [threading.Thread(target=self._listen, args=(server,), daemon=True) for server in self.servers]
        for thread in self.threads:
            thread.start()

    def _listen(self, server: socket.socket) -> None:
        while not self.closing.is_set():
            try:
                if server.type == socket.SOCK_DGRAM:
                    self.heard.append(server.recv(100))
                else:
                    server.accept()[0].close()
                    self.heard.append(b"a connection")
            except TimeoutError:
                continue

    def close(self) -> None:
        """Stop listening."""
        self.closing.set()
        for thread in self.threads:
            thread.join()
        for server in self.servers:
            server.close()


class Scale(threading.Thread):
    """Weighs the graders' processes: the most MB that one of them had."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.ended = 0, threading.Event()

    def run(self) -> None:
        """Weigh them again and again."""
        while not self.ended.wait(1):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "forkserver" in " ".join(process.cmdline()):
                        self.most = max(self.most, process.memory_full_info().pss // 1_000_000)
                except psutil.Error:  # it has ended meanwhile
                    continue


@pytest.fixture(scope="module")
def run(request, needs_sandbox, tmp_path_factory):
    """Grade the attacks that were selected, among honest submissions."""
    folder = tmp_path_factory.mktemp("hostile")
    assignment = small_assignment(folder / "sources")
    right = solved(forms.source(assignment))
    place, submissions = folder / "course", folder / "submissions"
    place.mkdir()
    limits = "\n".join(f"{name} = {value}" for name, value in vars(LIMITS).items())
    (place / settings.FILE).write_text(f'seed = "{SECRET}"\nsources = "../sources"\n[limits]\n{limits}\n')

    listeners, scale = Listeners(), Scale()
    file = f"{SLUG}.ipynb"
    others = [submissions / HONEST[0].name / file, place / settings.FILE, assignment.folder / "assignment.md"]
    made = [place / "gradebook.db", place / "source" / SLUG / file]
    host = hostile.Host(listeners.port, listeners.name, tuple(map(str, others + made)))
    for attack in [case for case in (*hostile.HOSTILE, *HONEST) if case.name in _selected(request.session)]:
        path = submissions / attack.name / file
        path.parent.mkdir(parents=True)
        path.write_bytes(attack.build(json.loads(json.dumps(right), object_hook=nbformat.NotebookNode), host))
    watched = [path for path in (*others, Path(checks.__file__), Path(torch.__file__)) if path.exists()]
    before = {path: path.read_bytes() for path in watched}

    multiprocessing.util.get_temp_dir()  # its own, so that it is not made in ours
    scratch = tempfile.mkdtemp(prefix="h", dir="/tmp")  # short, since the paths of sockets must be
    usual, tempfile.tempdir = tempfile.tempdir, scratch
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # whatever loses its parent is this process's child, and is found
    scale.start()
    try:
        graded = grade(place, submissions, lanes=LANES)
    finally:
        tempfile.tempdir = usual
        scale.ended.set()
        listeners.close()
        time.sleep(1)
        running = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
        lines = [" ".join(child.cmdline()) for child in running]
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)
        files = list(Path(scratch).rglob("*"))
        shutil.rmtree(scratch)
    yield Run(
        place,
        graded.failed,
        graded.anew,
        [line for line in lines if "multiprocessing" not in line],
        files,
        listeners.heard,
        [path for path in watched if path.read_bytes() != before[path]],
        scale.most,
    )


def _selected(session: pytest.Session) -> set[str]:
    """The names of the attacks whose tests run, so that one of them alone is quick."""
    found = [item.callspec.params.get("attack") for item in session.items if hasattr(item, "callspec")]
    return {attack.name for attack in found if isinstance(attack, hostile.Hostile)}


@pytest.mark.parametrize("attack", [*hostile.HOSTILE, *HONEST], ids=lambda attack: attack.name)
def test_it_earns_its_honest_part_and_is_told_what_happened(run, attack):
    marks, printed, page = run.marks(attack.name), run.printed(attack.name), run.page(attack.name)
    told = "\n".join([*marks.notes, *(mark.message for mark in marks.marks if mark.message)])
    print(marks.dumps(), printed[:3000])
    assert attack.at_least <= marks.earned <= attack.at_most
    assert (marks.points, len(marks.marks)) == (POINTS + 2, 7)
    assert re.search(attack.says, told)
    assert re.search(attack.shows, printed)
    assert attack in HONEST or SECRET not in told + printed + page
    assert "<script>document" not in page and 'onerror="document' not in page
    for words in (*marks.notes, *(mark.message for mark in marks.marks)):
        assert " ".join(words.split())[:60] in " ".join(html.unescape(page).split())


def test_grading_itself_is_not_harmed(run):
    assert run.failed == ()
    assert 0 < run.memory < GRADER_MB
    with open(run.course / "grades.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == run.anew
    with Gradebook(f"sqlite:///{run.course / 'gradebook.db'}") as gradebook:
        for student in gradebook.students:
            assert student.score == run.marks(student.id).earned


def test_nothing_is_left_of_them(run):
    assert not run.running
    assert not run.files
    assert not run.heard
    assert not run.changed


def test_the_sandbox_shows_the_project_wherever_it_lies_and_nothing_beside_it(needs_sandbox, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        package = Path(folder) / "vaecourse"
        shutil.copytree(bubblewrap.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package.parent / "secret").write_text(SECRET)
        monkeypatch.setattr(bubblewrap, "PACKAGE", package)
        look = f"""
import os, sys
sys.path.insert(0, {folder!r})
from vaecourse.grading import checks
print(checks.__file__, os.listdir({folder!r}), os.access(checks.__file__, os.W_OK))
"""
        command = [*bubblewrap.command(1), "--", sys.executable, "-c", look]
        seen = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert seen.stdout.split() == [str(package / "grading" / "checks.py"), "['vaecourse']", "False"], seen.stderr
