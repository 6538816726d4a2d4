"""The labs: a class can open them, predict, run, and compare, with no network."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import IPyNbFile, coalesce_streams

from helpers import ROOT, load
from vaecourse.claims import sentences

NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted((NOTEBOOKS / "source" / "labs").glob("*.md"))

every_lab = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


build_labs = load(NOTEBOOKS / "source" / "build_labs.py")


def _shipped(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{source.stem}.ipynb", as_version=4)


def _sections(source: Path) -> dict[str, str]:
    """A lab's text by its second-level headings."""
    parts = re.split(r"^## (.+)$", source.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_there_is_a_notebook_for_each_text_and_a_text_for_each_notebook():
    assert [source.stem for source in SOURCES] == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


@every_lab
def test_the_notebook_holds_the_cells_of_its_text(source):
    written, shipped = build_labs.convert(source).cells, _shipped(source).cells
    assert not any("For the instructor" in cell.source for cell in shipped)  # the book prints these notes
    for ours, theirs in zip(written, shipped, strict=True):
        assert (theirs.cell_type, theirs.id, theirs.source) == (ours.cell_type, ours.id, ours.source), (
            f"{source.stem}: the notebook is older than its text. python notebooks/source/build_labs.py {source.stem}"
        )
        assert theirs.metadata == ours.metadata


@every_lab
def test_the_notebook_is_shipped_run_from_top_to_bottom_without_errors_or_warnings(source):
    notebook = _shipped(source)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            assert " at 0x" not in text, f"an address differs at every run; end the cell with a semicolon: {text}"


@every_lab
def test_every_figure_that_moves_is_shipped_as_it_starts_with_a_text_for_those_who_cannot_see_it(source):
    for cell in _shipped(source).cells:
        if "explorable.figure(" in cell.source:
            figure = cell.outputs[-1]
            assert "image/png" in figure.data
            assert len(figure.metadata["image/png"]["alt"]) > 40


@every_lab
def test_the_sections_take_45_minutes_and_each_predicts_before_it_discusses(source):
    sections = _sections(source)
    minutes = [int(found[1]) for title in sections if (found := re.search(r" · (\d+) minutes$", title))]
    assert sum(minutes) == 45
    for title, text in sections.items():
        if not title.endswith("minutes") or title.startswith("0."):
            continue
        anatomy = ("**Predict", "explorable.figure(", "# NBVAL_CHECK_OUTPUT", "<b>What happened", "**Discuss.")
        steps = [text.find(step) for step in anatomy]
        assert -1 not in steps, title
        assert steps == sorted(steps), title
    assert "Open play" in list(sections)[-1]
    assert "<b>For the instructor" in list(sections.values())[-1]


@every_lab
def test_the_plan_on_top_is_the_plan_below(source):
    plan = re.findall(r"^\| (\d) \| (.+?) \| (\d+) \|$", source.read_text(), flags=re.MULTILINE)
    titles = [title for title in _sections(source) if title.endswith("minutes")]
    assert [f"{number}. {name} · {minutes} minutes" for number, name, minutes in plan] == titles


# A lab is run once, for all that is asked of a run. Its fixture is the only one with a parameter here, so that the tests of one
# lab follow one another.

BEFORE = """
import socket
from vaecourse import explorable

def only_this_machine(connect):
    def checked(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), f"the lab asks the network for {address}"
        return connect(self, address)
    return checked

socket.socket.connect = only_this_machine(socket.socket.connect)

shown = []

def recorded(figure):
    def record(draw, alt, drag=None, states=None, **controls):
        calls = []
        figure(lambda **values: (calls.append(values), draw(**values))[1], alt, drag, states, **controls)
        shown.append((draw.__name__, calls, controls))
    return record

explorable.figure = recorded(explorable.figure)
"""

AFTER = """
def places(control):
    if isinstance(control.value, bool):
        return [False, True]
    if hasattr(control, "options"):
        choices = list(control.options)
        return [choices[0], choices[len(choices) // 2], choices[-1]]
    middle = type(control.min)((control.min + control.max) / 2)
    places = [control.min, middle, control.max]
    return [control.base**place for place in places] if hasattr(control, "base") else places

for name, calls, controls in shown:
    for label, control in controls.items():
        assert control.description, f"{name}: the control of {label} has no label"
        start = control.value
        for place in [*places(control), start]:
            before = control.value
            control.value = place
            redrawn = control.value == before or calls[-1][label] == control.value
            assert redrawn, f"{name} was not drawn again at {label} = {place}"
print(f"{len(shown)} figures moved")
"""


@pytest.fixture(scope="module", params=SOURCES, ids=lambda source: source.stem)
def ran(request) -> nbformat.NotebookNode:
    """A lab that ran: first what watches the network and records the figures, last what moves their controls."""
    notebook = build_labs.convert(request.param, claims=True)
    moving = nbformat.v4.new_code_cell(AFTER, metadata={"tags": ["raises-exception"]})  # one test's failure, not all tests'
    notebook.cells = [nbformat.v4.new_code_cell(BEFORE), *notebook.cells, moving]
    notebook.metadata.stem = request.param.stem
    return build_labs.execute(notebook)


def test_the_lab_runs_without_a_network_and_is_silent_on_stderr(ran):
    for cell in ran.cells:
        assert not [output for output in cell.get("outputs", []) if output.get("name") == "stderr"], cell.source


def test_what_the_lab_says_of_its_runs_is_asserted_and_holds(ran):
    marked = {}
    for cell in ran.cells:
        if cell.cell_type == "markdown":
            marked |= sentences(cell.source)
    printed = [output.get("text", "") for cell in ran.cells for output in cell.get("outputs", [])]
    said = [json.loads(line) for text in printed for line in text.splitlines() if line.startswith('{"claim"')]
    assert sorted(claim["claim"] for claim in said) == sorted(marked), "each marked sentence has one claim, and each claim one"
    false = {marked[claim["claim"]]: claim["numbers"] for claim in said if not claim["holds"]}
    assert not false, "\n".join(f"{sentence}\n    {numbers}" for sentence, numbers in false.items())


def test_marked_cells_print_what_the_shipped_notebook_shows(ran, request):
    """As `pytest --nbval-lax` compares them, without a run of its own."""
    shipped = IPyNbFile.from_parent(request.session, path=NOTEBOOKS / f"{ran.metadata.stem}.ipynb")
    shipped.compare_outputs = False  # but for the marked ones
    printed = {cell.id: cell.get("outputs", []) for cell in ran.cells}
    marked = [item for item in shipped.collect() if item.options["check"]]
    assert marked
    for item in marked:
        same = item.compare_outputs(coalesce_streams(printed[item.cell.id]), coalesce_streams(item.cell.outputs))
        assert same, "\n".join(item.comparison_traceback)


def test_every_control_redraws_at_its_ends_and_middle(ran):
    *cells, moved = ran.cells
    moving = sum(cell.source.count("explorable.figure(\n") for cell in cells)
    assert [output.get("text") or output.get("evalue") for output in moved.outputs] == [f"{moving} figures moved\n"]
