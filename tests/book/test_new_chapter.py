"""`make chapter` begins a chapter: stubs of its five faces, nothing overwritten, and what is not yet written is named."""

import ast

import pytest

from helpers import ROOT, load
from vaecourse.grading.authoring import assignment

new_chapter = load(ROOT / "notebooks" / "source" / "new_chapter.py")
build_labs = load(ROOT / "notebooks" / "source" / "build_labs.py")

NAME = "16_flow_matching"
FILES = [
    "book/16_flow_matching.md",
    "notebooks/source/labs/16_flow_matching.md",
    "notebooks/source/assignments/16_flow_matching/assignment.md",
    "notebooks/source/assignments/16_flow_matching/wrong_answers.md",
    "vaecourse/flow_matching.py",
    "tests/test_flow_matching.py",
]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with one chapter's page, and no other files."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "07_vae.md").write_text("# The VAE")
    monkeypatch.setattr(new_chapter, "ROOT", tmp_path)
    return tmp_path


def test_a_new_chapter_gets_a_stub_of_each_face_and_each_says_that_it_is_one(clone):
    assert new_chapter.begin(NAME) == FILES
    lacks = new_chapter.unfinished(NAME)
    assert lacks[: len(FILES)] == [f"{file} is not written" for file in FILES]
    assert lacks[len(FILES) :] == [
        "notebooks/16_flow_matching.ipynb is missing",
        "notebooks/assignments/16_flow_matching.ipynb is missing",
        "book/exercises/16_flow_matching.md is missing",
    ]


def test_the_stubs_are_what_the_builders_read(clone):
    new_chapter.begin(NAME)
    assert assignment.read(clone / "notebooks/source/assignments" / NAME).title == "Exercises: Flow matching"
    lab = build_labs.convert(clone / "notebooks/source/labs" / f"{NAME}.md")
    assert lab.cells[0].source.startswith("# Lab 16. Flow matching\n")
    assert "from vaecourse import figures, flow_matching" in next(cell.source for cell in lab.cells if cell.cell_type == "code")
    for file in FILES[-2:]:
        assert ast.get_docstring(ast.parse((clone / file).read_text()))


def test_what_is_there_stays_a_folder_of_the_modules_name_too(clone):
    for file in ("vaecourse/flow_matching/__init__.py", "tests/test_flow_matching.py"):
        (clone / file).parent.mkdir(parents=True)
        (clone / file).write_text('"""Mine."""\n')
    assert new_chapter.begin(NAME) == FILES[:4]
    assert (clone / "tests/test_flow_matching.py").read_text() == '"""Mine."""\n'
    assert new_chapter.begin(NAME) == []


def test_a_chapter_is_finished_when_nothing_is_missing_and_nothing_says_to_be_written(clone):
    for file in (*FILES, *new_chapter.generated(NAME)):
        (clone / file).parent.mkdir(parents=True, exist_ok=True)
        (clone / file).write_text("written")
    assert new_chapter.unfinished(NAME) == []


@pytest.mark.parametrize(
    "name, answer",
    [
        ("", "no chapter's name"),
        ("flow_matching", "no chapter's name"),
        ("16-flow", "no chapter's name"),
        ("16_Flow", "no chapter's name"),
        ("16_../flow", "no chapter's name"),
        ("16_lambda", "no chapter's name"),
        ("07_flow", "07_vae is a chapter already"),
        ("16_vae", "07_vae is a chapter already"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(clone, name, answer):
    with pytest.raises(ValueError, match=answer):
        new_chapter.begin(name)
    assert [file.name for file in clone.rglob("*.*")] == ["07_vae.md"]
