"""What all tests share: shapes enforced while they run, one thread, the built book, and a browser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jaxtyping
import matplotlib
import pytest
from filelock import FileLock

os.environ["OMP_NUM_THREADS"] = "1"  # the tests' tensors are tiny; before PyTorch is imported, and for all that tests start
jaxtyping.install_import_hook("vaecourse", "beartype.beartype")  # before anything imports the package
matplotlib.use("agg")  # here only: the labs run in kernels of their own

pytest_plugins = ["suite"]

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


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, from the first test that wants it on; no test without it comes later (suite.py)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next(filter(None, map(shutil.which, BROWSERS)), own if own.exists() else None)
        if path is None:
            pytest.skip(NO_BROWSER)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def book(tmp_path_factory, worker_id) -> Path:
    """The built pages. The build is the one of `make book`, in `_build`; what has not changed is not built again.

    Of the processes that share a run, the first to come builds, and leaves word for the others, which wait.
    """
    root = Path(__file__).parents[1]
    folder = tmp_path_factory.getbasetemp()
    word = (folder if worker_id == "master" else folder.parent) / "book.txt"
    with FileLock(f"{word}.lock"):
        if not word.exists():
            command = [Path(sys.executable).with_name("jupyter-book"), "build", root, "-W", "-n", "--keep-going", "-q"]
            build = subprocess.run(command, capture_output=True, text=True)
            word.write_text(f"{build.stdout}{build.stderr}\nno book" if build.returncode else "")
    assert not (said := word.read_text()), said
    return root / "_build" / "html"


THEME = """
:root { --pst-color-text-base: rgb(1, 2, 3); --pst-color-background: rgb(255, 255, 255); --pst-color-surface: #f3f4f5; }
:root[data-theme=dark] { --pst-color-text-base: rgb(201, 202, 203); --pst-color-background: rgb(20, 21, 22);
                         --pst-color-surface: #29313d; }
body { margin: 0 auto; padding: 0 16px; max-width: 700px; height: 3000px; background: var(--pst-color-background); }
"""


@pytest.fixture
def open_page(chromium, tmp_path):
    """Opens a page with these figures from a file; at the end, nothing was asked of the network and nothing went wrong."""
    contexts, faults = [], []

    def open_page(*figures, **settings):
        file = tmp_path / "page.html"
        body = "".join(figure if isinstance(figure, str) else figure._repr_html_() for figure in figures)
        file.write_text(
            '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>A test</title><style>{THEME}</style><main>{body}</main></html>",
            "utf-8",
        )
        contexts.append(chromium.new_context(**{"viewport": {"width": 800, "height": 700}, **settings}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: request.url == file.as_uri() or faults.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
