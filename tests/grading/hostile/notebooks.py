"""Changed notebooks, and files that are no notebooks."""

import json

import nbformat
from nbformat import NotebookNode, v4
from small_assignment import EXERCISES

from hostile.attacks import WRONG_VALUE, Attacks, dumps, find

attacks = Attacks()

# Changed notebooks: the tests, their points, their places


def role(notebook: NotebookNode, name: str) -> dict:
    """nbgrader's metadata of a cell."""
    return find(notebook, name).metadata["nbgrader"]


@attacks.change("restored|changed")
def tests_changed(notebook):
    for name in EXERCISES:
        for kind in ("visible", "hidden"):
            find(notebook, f"{name}_{kind}").source = "print('correct')"


@attacks.change("restored|changed|missing|deleted")
def tests_deleted(notebook):
    notebook.cells = [cell for cell in notebook.cells if not cell.id.endswith(("visible", "hidden"))]


@attacks.change(WRONG_VALUE)
def tests_doubled(notebook):
    for name in EXERCISES:
        copy = json.loads(json.dumps(find(notebook, f"{name}_hidden")))
        copy["source"] = "pass"
        notebook.cells.insert(0, nbformat.from_dict(copy))


@attacks.change("restored|missing|deleted")
def tests_renamed(notebook):
    for name in EXERCISES:
        role(notebook, f"{name}_hidden")["grade_id"] = f"{name}_other"


@attacks.change(WRONG_VALUE)
def tests_before_answers(notebook):
    notebook.cells.reverse()


@attacks.change(WRONG_VALUE)
def tests_turned_into_text(notebook):
    for name in EXERCISES:
        cell = find(notebook, f"{name}_hidden")
        cell.update(cell_type="markdown")
        del cell["outputs"], cell["execution_count"]


@attacks.change(WRONG_VALUE)
def points_of_one_s_own(notebook):
    for name in EXERCISES:
        role(notebook, f"{name}_visible").update(points=1000)
        role(notebook, f"{name}_hidden").update(points=-1000, locked=False, solution=True, grade=True)
        role(notebook, name).update(grade=True, points=1000)


@attacks.change(WRONG_VALUE)
def points_that_are_no_numbers(notebook):
    for name, points in zip(EXERCISES, ("many", float("inf"), [1000]), strict=True):
        role(notebook, f"{name}_hidden").update(points=points)
        role(notebook, f"{name}_visible").update(points=float("nan"), checksum=7)


@attacks.change(WRONG_VALUE)
def a_bonus_of_one_s_own(notebook):
    bonus = v4.new_code_cell("pass")
    bonus.metadata["nbgrader"] = dict(
        grade=True, solution=False, locked=True, grade_id="bonus", points=1000, schema_version=3, task=False
    )
    notebook.cells.append(bonus)


@attacks.change(WRONG_VALUE)
def metadata_of_other_versions(notebook):
    for cell, version in zip(notebook.cells, [0, 1, 2, 4, 99, "3", None, {}, []] * 9, strict=False):
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"].update(schema_version=version, checksum="0" * 32, cell_type="raw")


@attacks.change(".")
def metadata_that_is_none(notebook):
    junk = [
        None,
        [],
        7,
        "x",
        {"grade_id": ["twice"]},
        {"grade_id": {"a": 1}},
        {"grade_id": None},
        {"grade": "yes", "grade_id": "../../x"},
    ]
    for cell, data in zip(notebook.cells, junk * 9, strict=False):
        cell.metadata["nbgrader"] = data


@attacks.change(WRONG_VALUE)
def tags_for_the_runner(notebook):
    for cell in notebook.cells:
        cell.metadata.update(
            tags=["skip-execution", "raises-exception", "nbval-skip", "remove-cell"], editable=True, deletable=True
        )


@attacks.change("restored|changed")
def setup_changed(notebook):
    find(notebook, "packages").source = "class checks:\n    compare = hidden_generator = lambda *_: None\n\ntorch = checks"
    find(notebook, "known_answers").source = "check = lambda *_: None"


@attacks.change(".")
def solutions_doubled(notebook):
    for name in EXERCISES:
        copy = json.loads(json.dumps(find(notebook, name)))
        copy["source"] = "import os\nos._exit(0)"
        notebook.cells.append(nbformat.from_dict(copy))


@attacks.change(earns=(0, 9))
def solutions_of_other_kinds(notebook):
    for name, kind in zip(EXERCISES, ("markdown", "raw", "raw"), strict=True):
        cell = find(notebook, name)
        cell.update(cell_type=kind)
        del cell["outputs"], cell["execution_count"]
    find(notebook, "why").update(cell_type="code", source="import os\nos._exit(0)", outputs=[], execution_count=None)


@attacks.change(WRONG_VALUE)
def ids_all_the_same(notebook):
    for cell in notebook.cells:
        cell["id"] = "twice"


@attacks.change(WRONG_VALUE)
def outputs_of_success(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                v4.new_output("stream", text="correct."),
                v4.new_output("display_data", data={"text/html": "<script>1</script>"}),
            ]
            cell.execution_count = 10**9


@attacks.change(earns=(9, 9))
def answer_of_a_million_words(notebook):
    find(notebook, "why").source = (
        200_000 * "**"
        + 100_000 * "["
        + 1000 * "\n> "
        + "$"
        + 20_000 * "{"
        + "$<script>alert(1)</script><img src=x onerror=alert(1)>"
    )


@attacks.change(earns=(0, 9))
def text_that_is_no_text(notebook):
    find(notebook, "twice").source += "\n# \ud800 \x00 \u202e \x1b[2J"
    find(notebook, "why").source = "\udfff\x00"
    notebook.cells.append(v4.new_markdown_cell("\ud83d"))


@attacks.change(earns=(9, 9))
def attachments_and_markdown(notebook):
    text = "![x](attachment:x) <script>document.title = 'taken over'</script> [x](javascript:alert(1)) <iframe src='file:///etc/passwd'>"
    cell = v4.new_markdown_cell(text)
    cell["attachments"] = {"x": {"image/svg+xml": "PHN2Zz4=", "text/html": text}}
    notebook.cells.insert(1, cell)


# Files that are no notebooks

CELL = b'{"cell_type": "code", "metadata": {}, "source": "1", "outputs": [], "execution_count": null, "id": "a"},'


def damaged(name: str, says="no (valid )?notebook", earns=(0, 0), **fields) -> None:
    """The notebook with other fields; None removes one."""

    def make(notebook: NotebookNode) -> bytes:
        data = json.loads(dumps(notebook)) | fields
        return json.dumps({field: value for field, value in data.items() if value is not None}).encode()

    attacks.file(name, make, says, earns)


attacks.file("file_empty", lambda notebook: b"")
attacks.file("file_of_zeros", lambda notebook: bytes(1000))
attacks.file("file_of_another_kind", lambda notebook: b"%PDF-1.7 \x00\x01\x02\xff")
attacks.file("file_with_a_list", lambda notebook: b"[1, 2, 3]")
attacks.file("file_with_null", lambda notebook: b"null")
attacks.file("file_cut_short", lambda notebook: dumps(notebook)[:-300])
attacks.file("file_in_UTF_16", lambda notebook: json.dumps(notebook).encode("utf-16"))
attacks.file("file_with_a_byte_order_mark", lambda notebook: b"\xef\xbb\xbf" + dumps(notebook), "", (0, 9))
attacks.file(
    "file_not_in_UTF_8", lambda notebook: dumps(notebook).replace(b"Double a number", b"Double \xe9\xff a number"), "", (0, 9)
)
attacks.file("file_with_zeros_inside", lambda notebook: dumps(notebook).replace(b"Double a number", b"Double \x00 a number"))
attacks.file("file_of_200_MB", lambda notebook: dumps(notebook) + bytes(200_000_000).replace(b"\0", b" "), "MB|large")
attacks.file("file_nested_deeply", lambda notebook: 1_000_000 * b'{"a":[')
attacks.file(
    "file_with_a_long_number",
    lambda notebook: dumps(notebook).replace(b'"kernelspec"', b'"n": ' + 10_000 * b"9" + b', "kernelspec"', 1),
    "",
    (0, 9),
)
attacks.file(
    "file_with_doubled_fields",
    lambda notebook: dumps(notebook)[:-1] + b', "cells": [], "cells": [{"cell_type": "code"}]}',
    "",
    (0, 0),
)
attacks.file("file_with_a_merge_conflict", lambda notebook: b"<<<<<<< HEAD\n" + dumps(notebook) + b"\n=======\n>>>>>>> mine\n")
damaged(
    "notebook_of_version_3",
    nbformat=3,
    nbformat_minor=0,
    cells=None,
    worksheets=[{"cells": [{"cell_type": "code", "input": "x = 1", "outputs": []}]}],
    says="",
    earns=(0, 0),
)
damaged("notebook_of_version_5", nbformat=5, says="", earns=(0, 9))
damaged("notebook_of_version_99", nbformat=99, nbformat_minor=99)
damaged("notebook_of_version_text", nbformat="four", nbformat_minor=[])
damaged("notebook_without_version", nbformat=None, nbformat_minor=None)
damaged("notebook_without_cells", cells=None)
damaged("notebook_with_cells_that_are_a_text", cells="def twice(x): return 2 * x")
damaged("notebook_with_a_dictionary_of_cells", cells={"twice": {"cell_type": "code", "source": "x"}})
damaged("notebook_with_no_cells", cells=[], says=".")
damaged("notebook_with_null_cells", cells=[None, 7, "x", [], {}])
damaged(
    "notebook_with_odd_cells",
    cells=[
        {"cell_type": "code", "metadata": {}, "source": 7, "outputs": [], "execution_count": None},
        {"cell_type": "heading", "metadata": [], "source": ["a", 7, None]},
        {"cell_type": ["code"], "source": {"a": 1}},
        {
            "cell_type": "code",
            "metadata": {"nbgrader": {"grade_id": "twice", "solution": True}},
            "source": ["def twice(x):\n", "    return 0"],
        },
    ],
    says=".",
)
damaged("notebook_without_a_kernel", metadata={}, says="", earns=(9, 9))
damaged("notebook_with_null_metadata", metadata=[None], says="", earns=(0, 9))
damaged(
    "notebook_of_another_language",
    metadata={"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}, "language_info": {"name": "R"}},
    says="",
    earns=(0, 9),
)
damaged(
    "notebook_with_a_kernel_s_path",
    metadata={"kernelspec": {"name": "../../../tmp/evil; rm -rf /", "display_name": "x", "argv": ["sh"]}},
    says="",
    earns=(9, 9),
)


DEEP = b'"deep": ' + 800 * b'{"a":' + b"1" + 800 * b"}" + b', "kernelspec"'
attacks.file("metadata_nested_deeply", lambda notebook: dumps(notebook).replace(b'"kernelspec"', DEEP, 1), "", (0, 9))
attacks.file(
    "cells_without_end", lambda notebook: dumps(notebook).replace(b'"cells": [', b'"cells": [' + 100_000 * CELL), "cells"
)


@attacks.change(earns=(0, 9), says="")
def ids_without_end(notebook):
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{number}" + 1_000_000 * "i"


@attacks.change(earns=(0, 9), says="")
def cells_that_are_hard_to_parse(notebook):
    find(notebook, "twice").source = "x = " + 200 * "(" + 200 * ")" + "\ny = " + 100_000 * "-" + "1"
    find(notebook, "norm").source = "1" + 200_000 * "+1"
    find(notebook, "settings").source = "\t def settings(n):\n  return 0\n\x0c"
