"""What the tests of grading share: a small assignment, and a sandbox where there is one."""

import pytest
from small_assignment import assignment

from vaecourse.grading.authoring import forms
from vaecourse.grading.marking import bubblewrap


@pytest.fixture(scope="session")
def needs_sandbox():
    """Skips where there is no sandbox, and says what is missing."""
    try:
        bubblewrap.require()
    except bubblewrap.SandboxMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The small assignment: three exercises and a sentence."""
    return assignment(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small_source(small):
    """nbgrader's source of it."""
    return forms.source(small)
