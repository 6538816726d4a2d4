"""What all tests share: shapes enforced while they run, one thread, no windows, and the report of stale results."""

import jaxtyping
import matplotlib
import pytest

jaxtyping.install_import_hook("vaecourse", "beartype.beartype")  # before anything imports the package

import torch  # noqa: E402

torch.set_num_threads(1)  # the tests' tensors are tiny
matplotlib.use("agg")  # here only: the labs run in kernels of their own


@pytest.fixture
def no_shape_checks():
    """Call the package as a reader does, without the checks of shapes, to see its own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_terminal_summary(terminalreporter):
    from vaecourse import results

    if lines := results.stale():
        terminalreporter.section("stale results: python -m vaecourse.experiments NAME computes one again")
        for line in lines:
            terminalreporter.write_line(line)
