"""What students hand in: every layout is read alike, every trick costs itself alone, and nothing is lost without a word."""

import io
import os
import stat
import unicodedata
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vaecourse.grading.course import intake
from vaecourse.grading.course.intake import Submission, collect
from vaecourse.grading.marking.task import NOTEBOOK_BYTES

SLUGS = ["07_vae", "08_flow"]
ADA, BOB = b'{"cells": [], "who": "ada"}', b'{"cells": [], "who": "bob"}'


def folder(root: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    root.mkdir(exist_ok=True)
    return root


def packed(entries, method=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these entries: by name, or as pairs of a name or ZipInfo, and data."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, data)
    return target.getvalue()


def of_kind(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o644) << 16
    return info


def odd(name: str) -> zipfile.ZipInfo:
    """An entry whose name is written as it is, zero bytes and all."""
    info = zipfile.ZipInfo("x")
    info.filename = name
    return info


def encrypted(data: bytes) -> bytes:
    """The zip, with the flag of its only entry set: in the entry and in the list."""
    data = bytearray(data)
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.fixture(params=["folder", "zip"])
def handed_in(request, tmp_path):
    """Makes a source of the files, once as a folder and once as a zip."""

    def make(files: dict[str, bytes]) -> Path:
        if request.param == "folder":
            return folder(tmp_path / "source", files)
        path = tmp_path / "source.zip"
        path.write_bytes(packed(files))
        return path

    return make


@pytest.fixture
def submitted(tmp_path):
    return tmp_path / "course" / "submitted"


def taken(source: Path, submitted: Path) -> dict[tuple[str, str], bytes]:
    """The notebooks by student and assignment, where all went well and nothing was unclear."""
    found = collect(source, submitted, SLUGS)
    assert not found.unclear
    for each in found.submissions:
        assert each.notebook == submitted / each.student / each.assignment / f"{each.assignment}.ipynb" and not each.problem
    return {(each.student, each.assignment): each.notebook.read_bytes() for each in found.submissions}


def only(source: Path, submitted: Path) -> tuple[Submission, list[str]]:
    found = collect(source, submitted, SLUGS)
    (submission,) = found.submissions
    return submission, found.unclear


# Layouts


LAYOUTS = {
    "folders": ({"ada/07_vae.ipynb": ADA, "bob/07_vae.ipynb": BOB}, "ada", "bob"),
    "nbgrader's": (
        {"ada/07_vae/07_vae.ipynb": ADA, "bob/07_vae/07_vae.ipynb": BOB, "bob/07_vae/timestamp.txt": b"now"},
        "ada",
        "bob",
    ),
    "in a folder": ({"class/ada/07_vae.ipynb": ADA, "class/bob/07_vae.ipynb": BOB}, "ada", "bob"),
    "in two folders": ({"a/b/ada/07_vae.ipynb": ADA, "a/b/bob/07_vae/07_vae.ipynb": BOB}, "ada", "bob"),
    "in folders of their own": ({"ada/my work/vae/07_vae.ipynb": ADA, "bob/x/07_vae.ipynb": BOB}, "ada", "bob"),
    "Moodle's folders": (
        {
            "Ada Lovelace_1234567_assignsubmission_file_/07_vae.ipynb": ADA,
            "Ada Lovelace_1234567_assignsubmission_onlinetext_/onlinetext.html": b"<p>Done</p>",
            "Bob O'Neill_1234568_assignsubmission_file/deep/07_vae.ipynb": BOB,
        },
        "Ada_Lovelace",
        "Bob_O_Neill",
    ),
    "Moodle's flat": (
        {
            "Ada Lovelace_1234567_assignsubmission_file_07_vae.ipynb": ADA,
            "Ada Lovelace_1234567_assignsubmission_onlinetext_onlinetext.html": b"<p>Done</p>",
            "Bob_7_assignsubmission_file_07_vae.ipynb": BOB,
        },
        "Ada_Lovelace",
        "Bob",
    ),
    "Moodle's groups": (
        {"Group A_12_assignsubmission_file/07_vae.ipynb": ADA, "Default group_assignsubmission_file/07_vae.ipynb": BOB},
        "Group_A",
        "Default_group",
    ),
    "Canvas's": (
        {"lovelaceada_12345_678910_07_vae.ipynb": ADA, "o_neillbob_LATE_12346_678911_07_vae.ipynb": BOB},
        "lovelaceada-12345",
        "o_neillbob-12346",
    ),
    "Canvas's, in a folder": (
        {"submissions/lovelaceada_1_2_07_vae.ipynb": ADA, "submissions/bob_3_4_work.zip": packed({"07_vae.ipynb": BOB})},
        "lovelaceada-1",
        "bob-3",
    ),
    "Canvas's without names": (
        {"anon_Ab3dE_678910_07_vae.ipynb": ADA, "LATE_anon_77777_12_07_vae.ipynb": BOB},
        "anon-Ab3dE",
        "anon-77777",
    ),
    "mixed": ({"ada/07_vae.ipynb": ADA, "Bob_7_assignsubmission_file_/07_vae.ipynb": BOB}, "ada", "Bob"),
    "zips": (
        {
            "ada/work.zip": packed({"07_vae.ipynb": ADA}),
            "Bob_7_assignsubmission_file_/x.ZIP": packed({"a/b/07_vae.ipynb": BOB}),
        },
        "ada",
        "Bob",
    ),
    "names that browsers change": ({"ada/07_vae (1).ipynb": ADA, "bob_1_2_07_vae-1 (2).ipynb": BOB}, "ada", "bob-1"),
    "capitals": ({"ada/07_VAE.IPYNB": ADA, "bob/07_vae(3).ipynb": BOB}, "ada", "bob"),
    "what systems add": (
        {
            "ada/07_vae.ipynb": ADA,
            "ada/.ipynb_checkpoints/07_vae.ipynb": BOB,
            "__MACOSX/ada/._07_vae.ipynb": b"?",
            "ada/.DS_Store": b"?",
            "bob/07_vae.ipynb": BOB,
            "bob/._07_vae.ipynb": b"?",
        },
        "ada",
        "bob",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_read_as_a_folder_and_as_a_zip(layout, handed_in, submitted):
    files, ada, bob = LAYOUTS[layout]
    assert taken(handed_in(files), submitted) == {(ada, "07_vae"): ADA, (bob, "07_vae"): BOB}


def test_several_assignments_come_sorted_by_assignment_then_student(handed_in, submitted):
    source = handed_in({"bob/08_flow.ipynb": BOB, "bob/07_vae.ipynb": BOB, "ada/08_flow.ipynb": ADA, "ada/07_vae.ipynb": ADA})
    assert [*taken(source, submitted)] == [("ada", "07_vae"), ("bob", "07_vae"), ("ada", "08_flow"), ("bob", "08_flow")]


def test_a_stray_path_does_not_hide_the_folder_around_everything(tmp_path, submitted):
    (tmp_path / "source.zip").write_bytes(
        packed({"class/ada/07_vae.ipynb": ADA, "class/bob/07_vae.ipynb": BOB, "../07_vae.ipynb": BOB})
    )
    found = collect(tmp_path / "source.zip", submitted, SLUGS)
    assert [each.student for each in found.submissions] == ["ada", "bob"]
    assert len(found.unclear) == 1 and found.unclear[0].startswith("../07_vae.ipynb has a path")


def test_one_student_alone_is_not_taken_for_a_folder_around_students(handed_in, submitted):
    assert taken(handed_in({"ada/07_vae/07_vae.ipynb": ADA}), submitted) == {("ada", "07_vae"): ADA}


def test_the_folder_of_earlier_copies_can_be_the_source(tmp_path, submitted):
    taken(folder(tmp_path / "source", {"ada/07_vae.ipynb": ADA}), submitted)
    assert taken(submitted, submitted) == {("ada", "07_vae"): ADA}


def test_a_zip_made_by_macos_gives_names_as_they_are(tmp_path, submitted):
    name = "Zoë/07_vae.ipynb".encode()  # UTF-8, and no flag says so
    (tmp_path / "source.zip").write_bytes(packed({"x" * len(name): ADA}).replace(b"x" * len(name), name))
    assert taken(tmp_path / "source.zip", submitted) == {("Zoë", "07_vae"): ADA}


def test_a_folder_whose_name_is_no_text_gets_an_id_and_can_be_spoken_of(tmp_path, submitted):
    source = folder(tmp_path / "source", {"bob/07_vae.ipynb": BOB})
    odd = os.fsencode(source) + b"/caf\xe9\n"
    os.mkdir(odd)
    for name, data in ((b"/07_vae.ipynb", ADA), (b"/\xff.txt", b"")):
        with open(odd + name, "wb") as stream:
            stream.write(data)
    found = collect(source, submitted, SLUGS)
    assert [each.student for each in found.submissions] == ["bob", "caf"]
    "".join([*found.unclear, *(each.source for each in found.submissions)]).encode()
    assert len(found.unclear) == 1 and "\n" not in found.unclear[0]


# Who


def test_the_number_in_a_file_s_name_is_kept_for_importing_grades(handed_in, submitted):
    source = handed_in(
        {"Bob_7_assignsubmission_file_/07_vae.ipynb": BOB, "ada_12_13_07_vae.ipynb": ADA, "eve/07_vae.ipynb": ADA}
    )
    numbers = {each.student: each.number for each in collect(source, submitted, SLUGS).submissions}
    assert numbers == {"Bob": "7", "ada-12": "12", "eve": ""}


def test_two_people_of_the_same_name_stay_apart(handed_in, submitted):
    source = handed_in(
        {
            "Ada Lovelace_1_assignsubmission_file_/07_vae.ipynb": ADA,
            "Ada Lovelace_2_assignsubmission_file_/07_vae.ipynb": BOB,
            "Bob_3_assignsubmission_file_/07_vae.ipynb": BOB,
        }
    )
    found = collect(source, submitted, SLUGS)
    assert {each.student: each.notebook.read_bytes() for each in found.submissions} == {
        "Ada_Lovelace-1": ADA,
        "Ada_Lovelace-2": BOB,
        "Bob": BOB,
    }
    assert found.unclear == [
        "2 people are named Ada Lovelace; Moodle's numbers keep them apart: Ada_Lovelace-1, Ada_Lovelace-2."
    ]


def test_names_that_fall_together_when_made_safe_stay_apart(handed_in, submitted):
    names = ["Ada Lovelace", "Ada+Lovelace", "Ada_Lovelace", "ada_lovelace", "???", "!!!"]
    source = handed_in({f"{name}/07_vae.ipynb": name.encode() for name in names})
    found = taken(source, submitted)
    assert sorted(found.values()) == sorted(name.encode() for name in names)
    assert len({student.casefold() for student, _ in found}) == len(names)


def test_the_same_name_in_two_forms_of_unicode_is_one_person(handed_in, submitted):
    source = handed_in({f"{unicodedata.normalize('NFD', 'Zoë')}/07_vae.ipynb": ADA, "Zoë/08_flow.ipynb": ADA})
    assert [*taken(source, submitted)] == [("Zoë", "07_vae"), ("Zoë", "08_flow")]


@given(st.lists(st.tuples(st.text(min_size=1), st.sampled_from(["", "1", "2"]), st.booleans()), unique=True, max_size=8))
@example([("a", "1", False), ("A", "2", False), ("a-1", "", False), ("a", "1", True), ("a", "", False)])
@example([("a", "", False), ("A", "", False)])
@example([("x" * 300, "", False), ("x" * 301, "", False), ("..", "", False), ("-", "", False), ("\ud800", "", False)])
def test_ids_are_safe_folder_names_and_no_two_are_the_same(people):
    ids = intake.names.safe_ids([intake.names.Person(*person) for person in people])
    assert len({id.casefold() for id in ids.values()}) == len(people)
    for id in ids.values():
        assert id[0].isalnum() and id == unicodedata.normalize("NFC", id) and len(id.encode()) < 128
        assert all(c.isalnum() or c in "._-" or unicodedata.category(c)[0] == "M" for c in id)


@pytest.mark.parametrize(
    "name",
    [
        "mallory_1_2_ada_3_4_07_vae.ipynb",
        "mallory_1_2_3_07_vae.ipynb",
        "anon_Ab3dE_1_2_07_vae.ipynb",
        "Mallory_1_assignsubmission_file_Ada_3_assignsubmission_file_07_vae.ipynb",
    ],
)
def test_a_file_s_own_name_cannot_make_it_another_student_s(name, handed_in, submitted):
    found = collect(handed_in({name: ADA, "eve/07_vae.ipynb": ADA}), submitted, SLUGS)
    assert [each.student for each in found.submissions] == ["eve"]
    assert len(found.unclear) == 1 and name in found.unclear[0]


def test_a_path_in_a_student_s_zip_cannot_make_it_another_student_s(handed_in, submitted):
    entries = {"ada_1_2_07_vae.ipynb": ADA, "ada/07_vae.ipynb": BOB}
    submission, unclear = only(handed_in({"mallory/work.zip": packed(entries)}), submitted)
    assert submission.student == "mallory" and submission.notebook.read_bytes() == BOB
    assert len(unclear) == 1 and "mallory/work.zip/ada_1_2_07_vae.ipynb" in unclear[0]


# Which


@pytest.mark.parametrize(
    "files, counts, unclear",
    [
        (
            {"ada_1_20_07_vae.ipynb": BOB, "ada_1_21_07_vae-1.ipynb": BOB, "ada_1_22_07_vae-10.ipynb": ADA},
            "ada_1_22_07_vae-10.ipynb",
            0,
        ),
        ({"ada_1_9_07_vae.ipynb": BOB, "ada_1_10_07_vae (1).ipynb": ADA}, "ada_1_10_07_vae (1).ipynb", 1),
        ({"ada/07_vae (1).ipynb": BOB, "ada/07_vae.ipynb": ADA}, "ada/07_vae.ipynb", 1),
        ({"ada_1_9_07_vae-1.ipynb": BOB, "ada_1_8_07_vae-2.ipynb": ADA}, "ada_1_8_07_vae-2.ipynb", 0),
        ({"ada/0/07_vae.ipynb": BOB, "ada/07_vae.ipynb": ADA}, "ada/07_vae.ipynb", 1),
        ({"ada/07_vae/b/07_vae.ipynb": BOB, "ada/07_vae/a/07_vae.ipynb": ADA}, "ada/07_vae/a/07_vae.ipynb", 1),
        ({"ada/a.zip": packed({"07_vae.ipynb": BOB}), "ada/x/07_vae.ipynb": ADA}, "ada/x/07_vae.ipynb", 1),
        ({"ada/a.zip": packed({"07_vae-2.ipynb": ADA}), "ada/07_vae.ipynb": BOB}, "ada/a.zip/07_vae-2.ipynb", 0),
    ],
)
def test_of_several_files_one_counts_by_a_rule_and_the_instructor_is_told(files, counts, unclear, handed_in, submitted):
    submission, sentences = only(handed_in(files), submitted)
    assert submission.source == counts and submission.notebook.read_bytes() == ADA
    assert len(sentences) == unclear and all(f"{counts} counts, not " in sentence for sentence in sentences)


def test_what_belongs_to_nobody_or_to_no_assignment_is_told(handed_in, submitted):
    extra = {f"ada/{number}.png": b"" for number in range(7)}
    source = handed_in(
        {"07_vae.ipynb": ADA, "ada/solution.ipynb": ADA, "ada/07_vae-Copy1.ipynb": ADA, "bob/07_vae.ipynb": BOB, **extra}
    )
    submission, unclear = only(source, submitted)
    assert submission.student == "bob"
    assert unclear == [
        "07_vae.ipynb belongs to no student: it lies in no student's folder, and not Moodle nor Canvas named it.",
        "ada also handed in what is no notebook of a known assignment (07_vae, 08_flow): "
        "ada/0.png, ada/07_vae-Copy1.ipynb, ada/1.png, ada/2.png, ada/3.png and 4 more.",
    ]


# Again


def test_what_is_unchanged_is_not_touched_and_what_changed_is_taken(handed_in, submitted):
    source = handed_in({"ada/07_vae.ipynb": ADA, "bob/07_vae.ipynb": BOB})
    first = collect(source, submitted, SLUGS)
    for each in first.submissions:
        os.utime(each.notebook, ns=(1, 1))
    assert collect(source, submitted, SLUGS) == first
    assert {each.notebook.stat().st_mtime_ns for each in first.submissions} == {1}
    ada, bob = (each.notebook for each in first.submissions)
    collect(handed_in({"ada/07_vae.ipynb": ADA, "bob/07_vae.ipynb": BOB.swapcase()}), submitted, SLUGS)
    assert ada.stat().st_mtime_ns == 1
    assert bob.stat().st_mtime_ns != 1 and bob.read_bytes() == BOB.swapcase()


def test_a_copy_is_put_in_place_at_once(tmp_path, submitted, monkeypatch):
    source = folder(tmp_path / "source", {"ada/07_vae.ipynb": ADA})
    submission, _ = only(source, submitted)
    (source / "ada" / "07_vae.ipynb").write_bytes(BOB)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(intake.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(source, submitted, SLUGS)
    assert submission.notebook.read_bytes() == ADA
    collect(source, submitted, SLUGS)
    assert submission.notebook.read_bytes() == BOB
    assert [path.name for path in submission.notebook.parent.iterdir()] == ["07_vae.ipynb"]


def test_nothing_depends_on_the_order_in_a_zip(tmp_path, submitted):
    files = {
        name: name.encode()
        for name in ["Ada+/07_vae.ipynb", "Ada /07_vae.ipynb", "b/07_vae (1).ipynb", "b/x/07_vae.ipynb", "c"]
    }
    found = []
    for order in (list(files.items()), list(files.items())[::-1]):
        (tmp_path / "source.zip").write_bytes(packed(order))
        found.append(collect(tmp_path / "source.zip", submitted, SLUGS))
    assert found[0] == found[1]


# Tricks, each of which costs itself alone


def trick_in_folder(trick: str, path: Path) -> None:
    """Put a trick in the notebook's place."""
    secret = path.parents[2] / "secret"
    secret.mkdir(exist_ok=True)
    (secret / "07_vae.ipynb").write_bytes(b"secret")
    path.parent.mkdir(parents=True, exist_ok=True)
    if trick == "link":
        path.symlink_to(secret / "07_vae.ipynb")
    elif trick == "folder":
        folder(path, {"07_vae.ipynb": b"secret"})
    elif trick == "fifo":
        os.mkfifo(path)
    elif trick == "large":
        path.write_bytes(b"")
        os.truncate(path, NOTEBOOK_BYTES + 1)


@pytest.mark.parametrize(
    "trick, problem",
    [
        ("link", "07_vae.ipynb is a symbolic link, which is not followed"),
        ("folder", "07_vae.ipynb is a folder, not a notebook."),
        ("fifo", "07_vae.ipynb is no ordinary file."),
        ("large", "07_vae.ipynb is larger than 20 MB: clear its outputs"),
    ],
)
def test_a_trick_in_a_folder_costs_that_student_alone_and_is_told(trick, problem, tmp_path, submitted):
    source = folder(tmp_path / "source", {"bob/07_vae.ipynb": BOB})
    trick_in_folder(trick, source / "ada" / "07_vae.ipynb")
    ada, bob = collect(source, submitted, SLUGS).submissions
    assert (ada.student, ada.notebook) == ("ada", None) and ada.problem.startswith(problem)
    assert bob.notebook.read_bytes() == BOB and not (submitted / "ada").exists()


@pytest.mark.parametrize("trick", ["link", "folder", "fifo"])
def test_beside_a_trick_a_sound_file_is_taken(trick, tmp_path, submitted):
    source = folder(tmp_path / "source", {"ada/later/07_vae.ipynb": ADA})
    trick_in_folder(trick, source / "ada" / "07_vae.ipynb")
    submission, unclear = only(source, submitted)
    assert submission.notebook.read_bytes() == ADA and "counts, not ada/07_vae.ipynb" in unclear[0]


def test_a_linked_folder_is_not_entered(tmp_path, submitted):
    source = folder(tmp_path / "source", {"bob/07_vae.ipynb": BOB})
    elsewhere = folder(tmp_path / "elsewhere", {"07_vae.ipynb": b"secret"})
    (source / "ada").symlink_to(elsewhere)
    (source / "eve").mkdir()
    (source / "eve" / "07_vae").symlink_to(elsewhere)
    submission, unclear = only(source, submitted)
    assert submission.student == "bob"
    assert [sentence.split(", which")[0] for sentence in unclear] == [
        "Not taken from eve: eve/07_vae is a symbolic link",
        "ada is a symbolic link",
    ]


@pytest.mark.parametrize("where", ["file", "folder", "fifo"])
def test_a_link_or_fifo_put_there_after_the_folder_was_listed_is_not_read(where, tmp_path, submitted, monkeypatch):
    source = folder(tmp_path / "source", {"ada/x/07_vae.ipynb": ADA})
    elsewhere = folder(tmp_path / "elsewhere", {"07_vae.ipynb": b"secret"})
    listed = intake.files._checked

    def swapped(*arguments):
        files = listed(*arguments)
        (source / "ada" / "x").rename(tmp_path / "away")
        if where == "folder":
            (source / "ada" / "x").symlink_to(elsewhere)
        elif where == "fifo":
            (source / "ada" / "x").mkdir()
            os.mkfifo(source / "ada" / "x" / "07_vae.ipynb")
        else:
            (source / "ada" / "x").mkdir()
            (source / "ada" / "x" / "07_vae.ipynb").symlink_to(elsewhere / "07_vae.ipynb")
        return files

    monkeypatch.setattr(intake.files, "_checked", swapped)
    submission, _ = only(source, submitted)
    assert submission.notebook is None
    told = {"file": "is a symbolic link", "folder": "cannot be read", "fifo": "is no ordinary file"}
    assert told[where] in submission.problem


def test_very_deep_folders_are_not_entered(tmp_path, submitted):
    source = folder(tmp_path / "source", {"ada/" + "x/" * 20 + "07_vae.ipynb": ADA, "bob/07_vae.ipynb": BOB})
    submission, unclear = only(source, submitted)
    assert submission.student == "bob" and len(unclear) == 1 and "lies more than 16 folders deep" in unclear[0]


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path, submitted, monkeypatch):
    source = folder(tmp_path / "source", {"ada/07_vae.ipynb": ADA})
    read = intake.os.fdopen

    def slow(fd, mode):
        stream = read(fd, mode)
        return Changing(stream.detach())

    class Changing(io.BufferedReader):
        def read(self, size=-1):
            data = super().read(size)
            with (source / "ada" / "07_vae.ipynb").open("ab") as stream:
                stream.write(b"more")
            return data

    monkeypatch.setattr(intake.os, "fdopen", slow)
    submission, _ = only(source, submitted)
    assert submission.notebook is None
    assert submission.problem == "07_vae.ipynb changed while it was read: it is taken when grading runs again."


def test_a_file_that_cannot_be_read_is_told(tmp_path, submitted, monkeypatch):
    source = folder(tmp_path / "source", {"ada/07_vae.ipynb": ADA, "eve/08_flow.ipynb": ADA, "bob/07_vae.ipynb": BOB})
    opened = intake.files._open

    def denied(root, parts, flags=0):
        if parts in [("ada", "07_vae.ipynb"), ("eve",)]:
            raise PermissionError(13, "Permission denied")
        return opened(root, parts, flags)

    monkeypatch.setattr(intake.files, "_open", denied)
    found = collect(source, submitted, SLUGS)
    assert [each.problem for each in found.submissions] == ["07_vae.ipynb cannot be read (Permission denied).", ""]
    assert found.unclear == ["eve cannot be read (Permission denied)."]


BOMB = packed({"07_vae.ipynb": bytes(21_000_000)})
TRICKS = {
    "a bomb": (BOMB, "is larger than 20 MB"),
    "a size that lies": (BOMB.replace((21_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")), "is damaged"),
    "a link": (packed([(of_kind("07_vae.ipynb", stat.S_IFLNK), "/etc/passwd")]), "is a symbolic link"),
    "a FIFO": (packed([(of_kind("07_vae.ipynb", stat.S_IFIFO), "")]), "is no ordinary file"),
    "a folder": (packed({"07_vae.ipynb/": b""}), "is a folder"),
    "a folder by its files": (packed({"07_vae.ipynb/a": b"", "07_vae.ipynb/b": b""}), "is a folder"),
    "the same name twice": (packed([("07_vae.ipynb", ADA), ("07_vae.ipynb", BOB)]), "more than once"),
    "a password": (encrypted(packed({"07_vae.ipynb": ADA})), "is encrypted"),
    "damage": (packed({"07_vae.ipynb": ADA}, zipfile.ZIP_STORED).replace(ADA, BOB), "is damaged"),
    "another method": (packed({"07_vae.ipynb": ADA}, zipfile.ZIP_BZIP2), "is packed in a way"),
    "an absolute path": (packed({"/tmp/07_vae.ipynb": ADA}), "has a path"),
    "a path upwards": (packed({"a/../../07_vae.ipynb": ADA}), "has a path"),
    "backslashes": (packed({"..\\..\\07_vae.ipynb": ADA}), "has a path"),
    "a zero byte": (packed([(odd("07_vae.ipynb\0.txt"), ADA)]), "has a path"),
    "a drive": (packed({"C:/07_vae.ipynb": ADA}), "has a path"),
    "deep folders": (packed({"x/" * 40 + "07_vae.ipynb": ADA}), "lies more than 16 folders deep"),
    "a zip in a zip": (packed({"07_vae.zip": packed({"07_vae.ipynb": ADA})}), "is a zip in a zip"),
}

FORGED = {
    "a size that lies",
    "a password",
    "damage",
    "another method",
    "a zero byte",
    "a zip in a zip",
}  # nothing that names can carry over


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_in_a_student_s_zip_costs_that_student_alone_and_is_told(trick, handed_in, submitted):
    data, problem = TRICKS[trick]
    source = handed_in({"ada/work.zip": data, "bob/07_vae.ipynb": BOB})
    ada, bob = collect(source, submitted, SLUGS).submissions
    assert (ada.student, ada.notebook) == ("ada", None)
    assert ada.problem.startswith("work.zip/") and problem in ada.problem
    assert bob.notebook.read_bytes() == BOB


@pytest.mark.parametrize("trick", [trick for trick in TRICKS if trick not in FORGED])
def test_a_trick_among_all_submissions_costs_itself_alone(trick, tmp_path, submitted):
    """The zip of the whole class, to which Moodle's name of a student's file is put before the trick."""
    data, problem = TRICKS[trick]
    inside = zipfile.ZipFile(io.BytesIO(data)).infolist()
    entries = [("bob/07_vae.ipynb", BOB)]
    for info in inside:
        where = info.filename.replace("07_vae", "Ada_1_assignsubmission_file_07_vae")
        entries.append((of_kind(where, stat.S_IFMT(info.external_attr >> 16)), zipfile.ZipFile(io.BytesIO(data)).read(info)))
    (tmp_path / "source.zip").write_bytes(packed(entries))
    found = collect(tmp_path / "source.zip", submitted, SLUGS)
    (bob,) = (each for each in found.submissions if each.student == "bob")
    assert bob.notebook.read_bytes() == BOB
    told = [*found.unclear, *(each.problem for each in found.submissions if each.student != "bob")]
    assert any(problem in sentence for sentence in told)
    assert {path.name for path in submitted.iterdir()} <= {"bob", "Ada"}


def test_beside_a_trick_in_a_zip_a_sound_file_of_the_same_name_is_taken(handed_in, submitted):
    entries = {"../07_vae.ipynb": BOB, "07_vae.ipynb": ADA, "x/07_vae.zip": packed({"07_vae.ipynb": BOB})}
    submission, unclear = only(handed_in({"ada/work.zip": packed(entries)}), submitted)
    assert submission.notebook.read_bytes() == ADA
    assert unclear == [
        "ada has 07_vae more than once: ada/work.zip/07_vae.ipynb counts, "
        "not ada/work.zip/../07_vae.ipynb, ada/work.zip/x/07_vae.zip."
    ]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", packed({"07_vae.ipynb": ADA})[:-30]])
def test_a_zip_that_is_none_is_told_under_the_assignment_that_its_name_promises(data, handed_in, submitted):
    found = collect(handed_in({"ada/07_vae.zip": data, "eve/work.zip": data, "bob/07_vae.ipynb": BOB}), submitted, SLUGS)
    assert [(each.student, each.problem.split(":")[0]) for each in found.submissions] == [
        ("ada", "07_vae.zip is damaged"),
        ("bob", ""),
    ]
    assert len(found.unclear) == 1 and "eve/work.zip is damaged" in found.unclear[0]


def test_zips_are_limited_in_size_in_files_and_in_what_they_unpack_to(tmp_path, submitted, monkeypatch):
    monkeypatch.setattr(intake.files, "MAX_ENTRIES", 3)
    monkeypatch.setattr(intake.files, "MAX_STUDENTS_ZIP", 2 * intake.files.MB)
    many, large = packed({f"{n}": b"" for n in range(4)}), packed({"x": bytes(3 * intake.files.MB)}, zipfile.ZIP_STORED)
    source = folder(tmp_path / "source", {"ada/07_vae.zip": many, "bob/07_vae.zip": large})
    ada, bob = collect(source, submitted, SLUGS).submissions
    assert ada.problem == "07_vae.zip holds more than 3 files: hand in the notebook alone."
    assert bob.problem == "07_vae.zip is larger than 2 MB: hand in the notebook alone."
    (tmp_path / "class.zip").write_bytes(many)
    with pytest.raises(ValueError, match="holds more than 3 files"):
        collect(tmp_path / "class.zip", submitted, SLUGS)
    monkeypatch.setattr(intake.files, "MAX_ZIP", intake.files.MB)
    (tmp_path / "class.zip").write_bytes(packed({f"{who}/07_vae.ipynb": bytes(intake.files.MB + 1) for who in "abc"}))
    problems = [each.problem for each in collect(tmp_path / "class.zip", submitted, SLUGS).submissions]
    assert problems[0] == "" and all("holds more than 1 MB: unpack it" in problem for problem in problems[1:])


ODD = [
    "..",
    ".",
    "",
    "/",
    "C:",
    "\\",
    "ada",
    "07_vae",
    "07_vae.ipynb",
    "x.zip",
    "~",
    "ada_1_2_07_vae.ipynb",
    "a\nb",
    "\x00",
    "+",
]
ODD += ["Ada_1_assignsubmission_file_", "Ada_1_assignsubmission_file_07_vae.ipynb", "__MACOSX", "\u202e", "x" * 300]
NAMES = st.one_of(st.lists(st.sampled_from(ODD), min_size=1, max_size=5).map("/".join), st.text(min_size=1, max_size=20))


@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(NAMES, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_in_a_zip_makes_a_file_outside_of_the_folder_for_submissions(tmp_path_factory, names, inner):
    root = tmp_path_factory.mktemp("class")
    names = [name.encode(errors="replace").decode() for name in names]
    students = packed([(odd(name.encode(errors="replace").decode()), ADA) for name in inner])
    entries = [(odd(name), students if name.endswith("zip") else ADA) for name in names]
    (root / "source.zip").write_bytes(packed([*entries, ("bob/07_vae.ipynb", BOB), ("eve/work.zip", students)]))
    found = collect(root / "source.zip", root / "course" / "submitted", SLUGS)
    written = {path for path in root.rglob("*") if not path.is_dir()}
    assert written == {root / "source.zip", *(each.notebook for each in found.submissions if each.notebook)}
    for path in written - {root / "source.zip"}:
        assert len(path.relative_to(root / "course" / "submitted").parts) == 3
    bob = [each for each in found.submissions if each.student.startswith("bob")]
    assert len(bob) == 1


def test_a_link_under_the_copies_is_not_written_through(tmp_path, submitted):
    source = folder(tmp_path / "source", {"ada/07_vae.ipynb": ADA})
    elsewhere = folder(tmp_path / "elsewhere", {"07_vae.ipynb": ADA})
    mine = folder(tmp_path / "mine", {"partial": b"mine"}) / "partial"
    submitted.mkdir(parents=True)
    (submitted / "ada").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="leads out of"):
        collect(source, submitted, SLUGS)
    (submitted / "ada").unlink()
    (submitted / "ada" / "07_vae").mkdir(parents=True)
    (submitted / "ada" / "07_vae" / "07_vae.ipynb").symlink_to(elsewhere / "07_vae.ipynb")
    (submitted / "ada" / "07_vae" / ".07_vae.ipynb.partial").symlink_to(mine)
    submission, _ = only(source, submitted)
    assert submission.notebook.read_bytes() == ADA and not submission.notebook.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["07_vae.ipynb"] and mine.read_bytes() == b"mine"


# Nothing to take


@pytest.mark.parametrize(
    "make, found",
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"text"), "is neither a folder nor a zip"),
        (lambda path: path.mkdir(), "is empty"),
        (lambda path: folder(path, {"ada/.DS_Store": b"", "bob/.ipynb_checkpoints/07_vae.ipynb": b""}), "is empty"),
        (lambda path: path.write_bytes(packed({})), "is empty"),
        (lambda path: path.write_bytes(packed({"ada/": b""})), "is empty"),
        (lambda path: folder(path, {"07_vae.ipynb": ADA}), "has no submission in it.\n07_vae.ipynb belongs to no student"),
        (lambda path: os.mkfifo(path), "is neither a folder nor a zip"),
    ],
)
def test_a_source_with_nothing_to_take_is_refused_with_what_was_found_and_expected(make, found, tmp_path, submitted):
    make(tmp_path / "source")
    with pytest.raises(ValueError) as caught:
        collect(tmp_path / "source", submitted, SLUGS)
    assert f"source {found}" in str(caught.value)
    for expected in [
        "student/07_vae.ipynb",
        "_assignsubmission_file_/07_vae.ipynb",
        "lastfirst_12345_678910_07_vae.ipynb",
        "08_flow",
    ]:
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    "right, wrong",
    [(b"PK\x01\x02", b"PK\x01\x03"), (b"\xc3\xab/", b"\xff\xff/"), (b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xff")],
)
def test_a_damaged_source_is_refused(right, wrong, tmp_path, submitted):
    data = packed({"Zoë/07_vae.ipynb": ADA})
    assert right in data
    (tmp_path / "source.zip").write_bytes(data.replace(right, wrong))
    with pytest.raises(ValueError, match="is a damaged zip"):
        collect(tmp_path / "source.zip", submitted, SLUGS)


def test_the_copies_must_not_lie_among_the_submissions(tmp_path):
    source = folder(tmp_path / "source", {"ada/07_vae.ipynb": ADA})
    with pytest.raises(ValueError, match="must not be mixed"):
        collect(source, source / "course" / "submitted", SLUGS)
