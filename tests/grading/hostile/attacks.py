"""What a hostile submission is, and how one is made: a cell, an answer, a changed notebook, another file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import dedent

from nbformat import NotebookNode, v4
from small_assignment import EXERCISES, POINTS


@dataclass(frozen=True)
class Host:
    """What the test has put on the machine: no submission may reach it.

    A port of 127.0.0.1 and a local socket's abstract name, both listened to, and the paths of files that hold SECRET.
    """

    port: int
    socket: str
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Hostile:
    """A hostile submission.

    `build` makes its bytes from the solved notebook. It earns `at_least` to `at_most` of the machine's points. `says` is a
    regular expression that the notes or messages must match, `shows` one for what its cells print: that the attack took place.
    """

    name: str
    build: Callable[[NotebookNode, Host], bytes]
    at_least: int
    at_most: int
    says: str
    shows: str


WRONG_VALUE = "is 0, expected|must be a tensor|must be a dictionary|must have shape"
ALL, BEFORE = (POINTS, POINTS), (6, 6)
"""What honest exercises earn: all, or those before an attack that stands after the second and ends everything."""
TIME = r"stopped after \d+ s|could not be interrupted|had used all"
ENDED = "kernel ended|could no longer be understood"
MEMORY = "MB of memory|no memory"


def dumps(notebook: NotebookNode) -> bytes:
    """A notebook's bytes, whatever is in it."""
    return json.dumps(notebook).encode()


def find(notebook: NotebookNode, name: str) -> NotebookNode:
    """The cell of that id."""
    return next(cell for cell in notebook.cells if cell.id == name)


def unsolve(notebook: NotebookNode) -> None:
    """Answers that are numbers and wrong, in every solution."""
    for name in EXERCISES:
        find(notebook, name).source = f"def {name}(*_):\n    return 0"


def add(notebook: NotebookNode, code: str, after: str) -> None:
    """A new cell after the one of that id."""
    notebook.cells.insert(notebook.cells.index(find(notebook, after)) + 1, v4.new_code_cell(dedent(code).strip()))


class Attacks(list[Hostile]):
    """Hostile submissions, as they are added."""

    def cell(self, name, code, says="", *, earns=ALL, after="norm_hidden", shows="", honest=True) -> None:
        """An attack in a cell of its own; unless `honest`, nothing is solved. It can use the fields of Host in capitals."""

        def build(notebook: NotebookNode, host: Host) -> bytes:
            if not honest:
                unsolve(notebook)
            places = f"PORT, SOCKET, SECRETS = {host.port}, {host.socket!r}, {host.secrets!r}\n"
            uses_them = "PORT" in code or "SECRETS" in code
            add(notebook, places * uses_them + dedent(code).strip(), after)
            return dumps(notebook)

        self.append(Hostile(name, build, *(earns if honest else (0, 0)), says, shows))

    def solution(self, name, says=WRONG_VALUE, *, earns=BEFORE, **solutions: str) -> None:
        """Attacks in the place of solutions; the other exercises are solved."""

        def build(notebook: NotebookNode, host: Host) -> bytes:
            for exercise, code in solutions.items():
                find(notebook, exercise).source = dedent(code).strip()
            return dumps(notebook)

        self.append(Hostile(name, build, *earns, says, ""))

    def change(self, says="", *, earns=(0, 0)):
        """An attack that changes the notebook, of which nothing is solved unless it says so."""

        def register(function: Callable[[NotebookNode], None]):
            def build(notebook: NotebookNode, host: Host) -> bytes:
                if earns == (0, 0):
                    unsolve(notebook)
                function(notebook)
                return dumps(notebook)

            self.append(Hostile(function.__name__, build, *earns, says, ""))

        return register

    def file(self, name: str, make: Callable[[NotebookNode], bytes], says="no (valid )?notebook", earns=(0, 0)) -> None:
        """A file that is no notebook, or hardly one."""
        self.append(Hostile(name, lambda notebook, host: make(notebook), *earns, says, ""))
