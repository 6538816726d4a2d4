"""The student's kernel, in a bubblewrap sandbox: no network, no files but the environment's, no other processes.

nbclient runs the cells; the judge's questions take a second client of the same kernel. A thread watches from outside what the
sandbox uses, since limits set inside count per process, or per user, or not at all for root.
"""

import asyncio
import os
import queue
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import nbclient
import nbformat
import psutil
import zmq
import zmq.asyncio
from jupyter_client import AsyncKernelClient, AsyncKernelManager, BlockingKernelClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode, v4

from vaecourse.grading.authoring.plain import CHARACTERS_AT_MOST, encode
from vaecourse.grading.marking import wire
from vaecourse.grading.marking.bubblewrap import command
from vaecourse.grading.marking.task import Limits

ANSWER_BYTES, ANSWERS_WAITING = 2 * CHARACTERS_AT_MOST, 4
OUTPUT_BYTES, OUTPUTS_WAITING = 4_000_000, 50
"""The largest message that is read at all, from the judge's channel and from the notebook's, and how many may wait."""

TIME_LIMIT = "TimeLimit"  # the name of the error of a cell that was stopped
MACHINE_FULL = "the machine had no memory left"
SHOWN = ("text/plain", "image/png", "image/jpeg")
OPEN_FILES, FILES_IN_SOCKETS, MEMORY_LEFT = 512, 100, 300_000_000
CELLS_OF_OUTPUT = 20
"""All cells together may print what so many cells may."""

SECONDS_BETWEEN_LOOKS, SECONDS_TO_STOP, SECONDS_TO_START = 0.2, 3, 60


class MachineFull(RuntimeError):
    """The machine ran out of memory, and it is not known which of the notebooks that ran took it."""


class SandboxedKernels(AsyncKernelManager):
    """Starts kernels in the sandbox; `sockets` is the one folder that a kernel shares with the grader."""

    def __init__(self, sockets: Path, limits: Limits):
        super().__init__(kernel_name="python3", context=zmq.asyncio.Context())
        self.context.setsockopt(zmq.MAXMSGSIZE, OUTPUT_BYTES)
        self.context.setsockopt(zmq.RCVHWM, OUTPUTS_WAITING)
        self.sockets, self.limits = sockets, limits
        self.transport, self.connection_file, self.ip = "ipc", str(sockets / "kernel.json"), str(sockets / "s")
        self.kernel_spec.interrupt_mode = "message"  # a signal would not reach into the sandbox

    def client(self, **words) -> AsyncKernelClient:
        """A client that shares the limits on messages."""
        return super().client(context=self.context, **words)

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """The kernel's command, in the sandbox."""
        sockets = ["--bind", str(self.sockets), str(self.sockets)]
        kernel = [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file, *(extra_arguments or [])]
        files = ["prlimit", "--core=0", f"--nofile={OPEN_FILES}", f"--fsize={self.limits.disk_mb * 1_000_000}"]
        return [*command(self.limits.disk_mb), *sockets, "--", *files, "nice", *kernel]


class Watch(threading.Thread):
    """Kills the sandbox where its processes together use too much; `reason` says what."""

    def __init__(self, pid: int, sockets: Path, limits: Limits):
        super().__init__(daemon=True)
        self.process, self.sockets, self.limits = psutil.Process(pid), sockets, limits
        self.reason, self.ended = "", threading.Event()

    def run(self) -> None:
        """Look, again and again, until the sandbox is gone."""
        while not self.reason and not self.ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.reason = self._excess()
            except psutil.NoSuchProcess:
                return
        if self.reason:
            self.process.kill()

    def _excess(self) -> str:
        memory = threads = 0
        hidden = {}  # files that have no name any more, or never had one: they count, too
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                memory += process.memory_info().rss
                threads += process.num_threads()
                hidden |= _nameless(process.pid)
            except psutil.NoSuchProcess:
                continue
        if memory + sum(hidden.values()) > self.limits.memory_mb * 1e6:
            return f"it used more than {self.limits.memory_mb:,} MB of memory"
        if threads > self.limits.processes:
            return f"it started more than {self.limits.processes} processes and threads"
        if psutil.virtual_memory().available < MEMORY_LEFT:
            return MACHINE_FULL
        if _too_full(self.sockets, self.limits.disk_mb * 1e6):
            return "it filled a folder that is not its own"
        return ""


def _nameless(pid: int) -> dict[tuple[int, int], int]:
    """The bytes of a process's open files that stand in no folder, by device and inode."""
    found = {}
    with suppress(OSError):  # the process is gone meanwhile
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # the file is
                file = entry.stat()
                if stat.S_ISREG(file.st_mode) and not file.st_nlink:
                    found[file.st_dev, file.st_ino] = 512 * file.st_blocks
    return found


def _too_full(folder: Path, size: float) -> bool:
    """Whether the files in a folder are too many, or too large together. The folder may change meanwhile."""
    files = 0
    for here, folders, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size -= os.lstat(os.path.join(here, name)).st_size
        files += len(folders) + len(names)
        if size < 0 or files > FILES_IN_SOCKETS:
            return True
    return False


class _Cells(nbclient.NotebookClient):
    """Runs cells, whose outputs are limited: those of one cell to `a_cell` characters, those of all to `left`."""

    a_cell = left = 0

    def run(self, cell: NotebookNode) -> None:
        """Run one cell, and fill in its outputs."""
        self.room = min(self.a_cell, self.left)
        self.nb = v4.new_notebook(cells=[cell])  # nbclient writes the cell back into its notebook
        self.execute_cell(cell, 0)

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Take an output, if there is room for it."""
        if msg["msg_type"].startswith("comm_"):  # a widget has nobody to talk to
            return None
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data", "error"):
            size, before = len(str(msg["content"])), self.room
            self.room, self.left = self.room - size, self.left - size
            if self.room < 0:
                if before >= 0:
                    cell.outputs.append(v4.new_output("stream", text=wire.CUT))
                return None
        return super().process_message(msg, cell, cell_index)


class StudentKernel:
    """A kernel in the sandbox, for one submission: `with StudentKernel(limits, folder) as kernel`.

    `folder`, for its sockets, is new and empty, with a short path. `dead` is "" while the kernel lives; then it says why not,
    in words for the student. What the student's code does, `run` says in the cell's outputs and `ask` raises as an exception.
    """

    def __init__(self, limits: Limits, folder: Path):
        self.limits, self.sockets, self.dead = limits, folder, ""
        self.deadline = time.monotonic() + limits.seconds

    def __enter__(self) -> "StudentKernel":
        self.manager = SandboxedKernels(self.sockets, self.limits)
        self.cells = _Cells(
            v4.new_notebook(),
            km=self.manager,
            allow_errors=True,
            raise_on_iopub_timeout=True,
            store_widget_state=False,
            startup_timeout=SECONDS_TO_START,
            timeout_func=lambda cell: self._seconds(),
            extra_arguments=["--HistoryManager.enabled=False"],
        )
        self.cells.log.disabled = True
        self.cells.a_cell = 1000 * self.limits.output_kb
        self.cells.left = CELLS_OF_OUTPUT * self.cells.a_cell
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        bare = {"PATH": os.environ["PATH"]}  # bubblewrap's own environment can be read in the sandbox
        self.cells.start_new_kernel(env=bare, **quiet)
        self.watch = Watch(self.manager.provisioner.process.pid, self.sockets, self.limits)
        self.watch.start()
        self.cells.start_new_kernel_client()
        self.judge = self._judge()
        self._evaluate(f"limit_output({self.cells.a_cell // 2})", SECONDS_TO_START)  # imports PyTorch
        self.deadline = time.monotonic() + self.limits.seconds
        return self

    def __exit__(self, *error) -> None:
        self._kill()
        self.watch.join()
        for client in (self.judge, self.cells.kc):
            if client is not None:
                client.stop_channels()

    def _judge(self) -> BlockingKernelClient:
        """A second client, for the judge's questions."""
        context = zmq.Context()
        context.setsockopt(zmq.MAXMSGSIZE, ANSWER_BYTES)
        context.setsockopt(zmq.RCVHWM, ANSWERS_WAITING)
        client = BlockingKernelClient(context=context)
        client.load_connection_info(self.manager.get_connection_info())
        client.start_channels(iopub=False, stdin=False, hb=False)
        return client

    def run(self, cell: NotebookNode) -> None:
        """Run a code cell; its outputs, an error too, are then in it."""
        if self.dead:
            cell.outputs = [error_output("NotRun", f"not run: {self.dead}")]
            return
        bare = v4.new_code_cell(cell.source)  # tags and the like are not the student's to set
        try:
            self._run(bare)
        finally:
            cell.outputs = [_harmless(output) for output in bare.outputs if _valid(output)]

    def _run(self, cell: NotebookNode) -> None:
        started, allowed = time.monotonic(), self._seconds()
        try:
            self.cells.run(cell)
        except CellTimeoutError:
            if time.monotonic() - started < allowed:  # the cell has ended, not so its outputs: one was too large to be read
                cell.outputs.append(v4.new_output("stream", text=wire.CUT))
                self._reconnect()
                return
            cell.outputs.append(error_output(TIME_LIMIT, self._late()))
        except Exception as error:  # the kernel is gone, or speaks nonsense
            self._lost(error)
            cell.outputs.append(error_output("KernelDied", self.dead))

    def ask(self, **request):
        """What the student's kernel answers (see `wire.serve`). Raises what the student's code raised, or StudentError."""
        if self.dead:
            raise wire.StudentError(f"not run: {self.dead}")
        try:
            content = self._evaluate(f"serve(get_ipython().user_ns, {encode(request)!r})")
            text = content["user_expressions"]["value"]["data"]["text/plain"]
        except (KeyError, TypeError):
            raise wire.StudentError("the kernel's answer cannot be read") from None
        return wire.answer(text)

    def _evaluate(self, call: str, seconds: float | None = None) -> dict:
        """Call a function of `wire` in the student's kernel, outside of any cell: the kernel's reply."""
        code = f"__import__({wire.__name__!r}, fromlist=['*']).{call}"
        asked = self.judge.execute("", silent=True, store_history=False, user_expressions={"value": code})
        return self._reply(asked, seconds or self._seconds())

    def _reply(self, message: str, seconds: float) -> dict:
        """The content of the reply to a message; StudentError where none comes within a cell's time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                reply = self.judge.get_shell_msg(timeout=0.2)
                if reply["parent_header"].get("msg_id") == message:
                    return reply["content"]
            except queue.Empty:
                if self.manager.provisioner.process.poll() is None:
                    continue
                self._lost(DeadKernelError())
            except Exception as error:  # the kernel speaks nonsense
                self._lost(error)
            if self.dead:
                raise wire.StudentError(f"no answer: {self.dead}")
        raise wire.StudentError(f"no answer, {self._late()}")

    def _seconds(self) -> float:
        """What the next cell, or answer, may take."""
        return max(1.0, min(self.limits.seconds_a_cell, self.deadline - time.monotonic()))

    def _late(self) -> str:
        """Interrupt a kernel that took too long, give it up where that does not help; what is to be said of it."""
        if self.deadline - time.monotonic() <= 0:
            words = f"stopped: the notebook had used all of its {self.limits.seconds} s"
            self._give_up(words)
            return words
        words = f"stopped after {self.limits.seconds_a_cell} s: is there a loop without an end?"
        run_sync(self.manager.interrupt_kernel)()
        if not self._reconnect():
            self._give_up("a cell ran on without an end, and could not be interrupted")
        return words

    def _reconnect(self) -> bool:
        """Take new channels to the kernel; whether it answers there."""
        run_sync(_cancel_all)()
        self.cells.kc.stop_channels()
        self.judge.stop_channels()
        self.judge = self._judge()
        self.cells.startup_timeout = SECONDS_TO_STOP
        try:
            self.cells.start_new_kernel_client()
        except RuntimeError:
            return False
        return True

    def _lost(self, error: Exception) -> None:
        """The kernel is gone: say why, as far as it is known."""
        self.watch.join(2 * SECONDS_BETWEEN_LOOKS)
        if self.watch.reason == MACHINE_FULL:
            raise MachineFull(MACHINE_FULL)
        if self.watch.reason:
            self._give_up(f"the notebook was stopped, because {self.watch.reason}")
        elif isinstance(error, DeadKernelError):
            self._give_up("the notebook's kernel ended before (an exit, a crash, or no memory)")
        else:
            self._give_up("the notebook's kernel could no longer be understood")

    def _give_up(self, words: str) -> None:
        self.dead = self.dead or words
        self._kill()

    def _kill(self) -> None:
        """End the sandbox: its first process takes all the others with it."""
        self.watch.ended.set()
        process = self.manager.provisioner.process
        if process is not None:
            process.kill()
            process.wait()


def _valid(output: NotebookNode) -> bool:
    """Whether a notebook can hold the output: a kernel can send anything."""
    try:
        nbformat.validate(output, ref="output", version=4)
    except nbformat.ValidationError:
        return False
    return True


def _harmless(output: NotebookNode) -> NotebookNode:
    """The output with text and pictures only: markup could act for the instructor who looks at it."""
    if "data" in output:
        output.data = NotebookNode({kind: content for kind, content in output.data.items() if kind in SHOWN})
        output.metadata = NotebookNode()
    return output


async def _cancel_all() -> None:
    """End the readers that nbclient leaves behind where a cell took too long: they would take the next cell's messages."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def error_output(name: str, words: str) -> NotebookNode:
    """An error as a cell's output."""
    return v4.new_output("error", ename=name, evalue=words, traceback=[f"{name}: {words}"])
