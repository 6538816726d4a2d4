"""Executed pages are never stale: a page runs again when its cells, code that it imports, or its stored results change.

The execution cache knows the cells of a page and nothing else. So each page has a fingerprint, of the modules that its
cells import, with the scripts and styles of their figures (`vaecourse.provenance`), and of the stored results that the
cells name; it is kept with the page in the cache. Where it differs, the page is executed and read again.
"""

import hashlib
import re
from pathlib import Path

from execution import Page, execute, say
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.util import logging

from vaecourse import provenance

SECONDS = 15  # of a page that has never run

logger = logging.getLogger(__name__)


def read(env, path: Path) -> NotebookNode | None:
    """A page as MyST-NB reads it; None where it has no cells to execute."""
    text = path.read_text("utf-8")
    reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
    notebook = reader and reader.read(text)
    return notebook if notebook and any(cell.cell_type == "code" for cell in notebook.cells) else None


def fingerprint(path: Path, notebook: NotebookNode) -> str:
    """SHA-256 of what the outputs of a page depend on besides its cells: code of the package, stored results."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    python = TransformerManager().transform_cell(source)
    digest = hashlib.sha256(provenance.code_hash(provenance.imports(python)).encode())
    for name in sorted(set(re.findall(r"""["'](\w+\.\w+)(?:\.json)?["']""", source))):  # as in results.load("vae.digits")
        for file in sorted(Path(path.parent, "results").glob(f"{name}.*")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def execute_stale_pages(app, env, added, changed, removed) -> list[str]:
    """Execute the pages that the cache does not hold as they are now, and keep them there; these are to be read again."""
    cache = get_cache(env.mystnb_config.execution_cache_path)
    records = {record.hashkey: record for record in cache.list_cache_records()}
    stale, fingerprints = [], {}
    for name in sorted(env.found_docs):
        path = Path(env.doc2path(name))
        if notebook := read(env, path):
            fingerprints[name] = fingerprint(path, notebook)
            record = records.get(cache.create_hashed_notebook(notebook)[1])
            if record is None or record.data.get("fingerprint") != fingerprints[name]:
                before = [record for record in records.values() if record.uri == str(path)]
                seconds = max((record.data["execution_seconds"] for record in before), default=SECONDS)
                stale.append(Page(name, path, notebook, seconds))
    if not stale:
        return []

    for record in records.values():
        if record.uri in {str(page.path) for page in stale}:
            cache.remove_cache(record.pk)
    failed = []
    for outcome in execute(stale, timeout=env.mystnb_config.execution_timeout):
        page = outcome.page
        if outcome.failure:
            failed.append(str(page.path))
            logger.warning("the page could not be executed\n%s", outcome.failure, location=page.name)
        else:
            kept = {"execution_seconds": outcome.seconds, "fingerprint": fingerprints[page.name]}
            cache.cache_notebook_bundle(
                CacheBundleIn(page.notebook, str(page.path), data=kept), check_validity=False, overwrite=True
            )
    if failed:  # MyST-NB would try them again
        env.mystnb_config = env.mystnb_config.copy(
            execution_excludepatterns=[*env.mystnb_config.execution_excludepatterns, *failed]
        )
    return [page.name for page in stale]


def finish(app, exception):
    """Name the file to open. After a build with warnings forget the pages: the next one must read all, to warn again."""
    if exception or app._warncount:
        Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)
    elif app.builder.name == "html":
        say(f"The book is built. Open {Path(app.outdir, 'index.html').as_uri()}")


def setup(app):
    app.connect("env-get-outdated", execute_stale_pages)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
