"""Executed pages are never stale: a page runs again when code of the package that it imports, or its stored results, change.

The execution cache knows the cells of a page and nothing else. So each page has a fingerprint, of the modules that its
cells import (`vaecourse.provenance`), of the scripts and styles that figures carry, and of the stored results that the
cells name, kept beside the cache. Where it differs, what the cache holds for the page is removed and the page is read
again, and therefore executed.
"""

import hashlib
import json
import re
from pathlib import Path

import jupytext
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_cache import get_cache

from vaecourse import provenance


def fingerprint(page: Path) -> str:
    """SHA-256 of what the outputs of a page depend on besides its cells: code of the package, stored results."""
    notebook = jupytext.read(page, fmt="md:myst" if page.suffix == ".md" else None)
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    python = TransformerManager().transform_cell(source)
    digest = hashlib.sha256(provenance.code_hash(provenance.imports(python)).encode())
    for asset in sorted(file for kind in ("*.css", "*.js") for file in provenance.ROOT.rglob(kind)):  # written into figures
        digest.update(asset.read_bytes())
    for name in sorted(set(re.findall(r"""["'](\w+\.\w+)(?:\.json)?["']""", source))):  # as in results.load("vae.digits")
        for file in sorted(Path(page.parents[0], "results").glob(f"{name}.*")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def execute_stale_pages_again(app, env, added, changed, removed):
    """Remove what the cache holds for pages whose fingerprint changed; return these pages."""
    cache = Path(env.mystnb_config.execution_cache_path)
    store = cache / "fingerprints.json"
    before = json.loads(store.read_text()) if store.exists() else {}
    now = {name: fingerprint(Path(env.doc2path(name))) for name in sorted(env.found_docs)}
    stale = {name for name in now if now[name] != before.get(name)}
    if stale:
        fresh = {str(env.doc2path(name)) for name in env.found_docs - stale}
        records = get_cache(cache)
        for record in records.list_cache_records():
            if record.uri not in fresh:
                records.remove_cache(record.pk)
        store.write_text(json.dumps(now, indent=1))
    return sorted(stale)


def forget_failed_build(app, exception):
    """Make the build that follows one with warnings read every page again, or it would find nothing to warn of."""
    if exception or app._warncount:
        Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)


def setup(app):
    app.connect("env-get-outdated", execute_stale_pages_again)
    app.connect("build-finished", forget_failed_build)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
