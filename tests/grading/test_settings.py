"""A course's settings: a new course gets its own, and whoever changes them is told what is wrong, and where."""

from dataclasses import fields
from pathlib import Path

import pytest

from vaecourse.grading.course.settings import FILE, Settings, load
from vaecourse.grading.marking.task import Limits


@pytest.fixture
def course(tmp_path):
    """A course whose settings are this text."""

    def write(text: str | bytes) -> Path:
        (tmp_path / FILE).write_bytes(text.encode() if isinstance(text, str) else text)
        return tmp_path

    return write


def test_a_new_course_gets_a_seed_of_its_own_and_the_usual_limits(tmp_path):
    found = [load(tmp_path / "years" / year) for year in ("spring", "fall")]
    assert [each.limits for each in found] == [Limits(), Limits()] and [each.sources for each in found] == [None, None]
    seeds = [each.seed for each in found]
    assert seeds[0] != seeds[1] and all(len(bytes.fromhex(seed)) == 8 for seed in seeds)


def test_the_settings_are_written_once_and_then_left_alone(tmp_path):
    first = load(tmp_path)
    text = (tmp_path / FILE).read_text("utf-8")
    assert all(f"{limit.name} = {limit.default}" in text for limit in fields(Limits))
    (tmp_path / FILE).write_text(text.replace("seconds = 300", "seconds = 30"), "utf-8")
    changed = (tmp_path / FILE).read_bytes()
    assert load(tmp_path) == Settings(first.seed, Limits(seconds=30))
    assert (tmp_path / FILE).read_bytes() == changed


def test_what_is_not_said_is_as_usual(course):
    assert load(course('seed = "spring"')) == Settings("spring", Limits())
    assert load(course('seed = "spring"\n[limits]\nmemory_mb = 1')) == Settings("spring", Limits(memory_mb=1))


def test_sources_are_a_folder_named_from_the_course_or_in_full_or_from_home(course, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for named, folder in (("mine/exercises", "mine/exercises"), ("../outside", "../outside"), ("~/mine", "home/mine")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        assert load(course(f'seed = "s"\nsources = "{named}"')).sources.samefile(tmp_path / folder)
    (tmp_path / "full").mkdir()
    assert load(course(f'seed = "s"\nsources = "{tmp_path / "full"}"')).sources == tmp_path / "full"


def test_the_template_shows_how_to_name_sources(tmp_path):
    load(tmp_path / "course")
    text = (tmp_path / "course" / FILE).read_text("utf-8")
    (tmp_path / "my-assignments").mkdir()
    (tmp_path / "course" / FILE).write_text(text.replace("# sources", "sources"), "utf-8")
    assert load(tmp_path / "course").sources.samefile(tmp_path / "my-assignments")


@pytest.mark.parametrize(
    "text, message",
    [
        ("seed = spring", "Invalid value (at line 1, column 8)"),
        (b'seed = "\xff"', "'utf-8' codec can't decode byte 0xff"),
        ("", 'expected seed = "...", sources = "..." (or nothing) and the table [limits]'),
        ("seed = 7", 'expected seed = "...", '),
        ('seed = "s"\nsources = 7', 'expected seed = "...", sources = "..."'),
        ('seed = "s"\nsources = ["a"]', 'expected seed = "...", sources = "..."'),
        ('seed = "s"\nlimits = 7', "and the table [limits]"),
        ('sed = "s"\ncolor = 1', "unknown: color, sed; there are seed, sources and the table [limits]"),
        ('seed = "s"\nmemory_mb = 1', "unknown: memory_mb; there are"),
        ('seed = "s"\n[limits]\nmemory = 1', "unknown limit 'memory'; there are seconds_a_cell, seconds, memory_mb, "),
        ('seed = "s"\n[limits]\nseconds = 0', "the limit seconds must be a positive whole number, got 0"),
        ('seed = "s"\n[limits]\nseconds = -1', "the limit seconds must be a positive whole number, got -1"),
        ('seed = "s"\n[limits]\nseconds = 1.5', "the limit seconds must be a positive whole number, got 1.5"),
        ('seed = "s"\n[limits]\nseconds = true', "the limit seconds must be a positive whole number, got True"),
        ('seed = "s"\n[limits]\nseconds = "9"', "the limit seconds must be a positive whole number, got '9'"),
        ('seed = "s"\nsources = "nowhere"', "sources names no folder: {course}/nowhere"),
        ('seed = "s"\nsources = "~nobody-of-this-name/x"', "sources names no folder: {course}/~nobody-of-this-name/x"),
        ('seed = "s"\nsources = "course.toml"', "sources names no folder: {course}/course.toml"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_file_and_reason(text, message, course, tmp_path):
    with pytest.raises(ValueError) as caught:
        load(course(text))
    assert str(caught.value).startswith(f"{tmp_path / FILE}: ") and message.format(course=tmp_path) in str(caught.value)


def test_settings_cannot_be_changed_on_the_way(tmp_path):
    with pytest.raises(AttributeError):
        load(tmp_path).limits.seconds = 10**6
