"""What all tests share: shapes enforced while they run, one thread, a browser, and the report of stale results."""

import shutil
from pathlib import Path

import jaxtyping
import matplotlib
import pytest

jaxtyping.install_import_hook("vaecourse", "beartype.beartype")  # before anything imports the package

import torch  # noqa: E402

torch.set_num_threads(1)  # the tests' tensors are tiny
matplotlib.use("agg")  # here only: the labs run in kernels of their own

BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
NO_BROWSER = "no Chromium: install it (Debian: `apt-get install chromium`; elsewhere: `.venv/bin/playwright install chromium`)"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def no_shape_checks():
    """Call the package as a reader does, without the checks of shapes, to see its own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; stopped with this module, since its event loop would be in the way of others."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next(filter(None, map(shutil.which, BROWSERS)), own if own.exists() else None)
        if path is None:
            pytest.skip(NO_BROWSER)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def pytest_terminal_summary(terminalreporter):
    from vaecourse import results

    if lines := results.stale():
        terminalreporter.section("stale results: python -m vaecourse.experiments NAME computes one again")
        for line in lines:
            terminalreporter.write_line(line)
