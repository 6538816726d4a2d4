"""The built book asks nothing of the network: MathJax comes from a wheel, and scripts from elsewhere are dropped.

So is the state of controls: without a kernel they would move nothing, and figures carry controls of their own.
"""

import importlib.util
import shutil
from pathlib import Path

# Of the wheel's 24 MB, what typesetting TeX as HTML needs.
MATHJAX_PARTS = ["tex-chtml.js", "input/tex/extensions", "output/chtml/fonts"]


def use_local_mathjax(app, config):
    config.mathjax_path = "mathjax/tex-chtml.js"


def copy_mathjax(app, exception):
    """Copy MathJax into the built pages, once."""
    target = Path(app.outdir, "_static", "mathjax")
    if exception or app.builder.format != "html" or target.exists():
        return
    (wheel,) = importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations
    for part in MATHJAX_PARTS:
        source, copy = Path(wheel, "static", "mathjax", part), target / part
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copyfile(source, copy)


def drop_foreign_scripts(app, pagename, templatename, context, doctree):
    """Remove scripts and style sheets that are not the book's own, thebe, which would load itself, and states of controls."""
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if not foreign(file)]


def foreign(file) -> bool:
    name = getattr(file, "filename", None) or ""
    attributes = getattr(file, "attributes", {})
    of_controls = "jupyter.widget" in (attributes.get("type") or "")
    return "://" in str(name) or of_controls or "thebe" in f"{name}{attributes.get('body') or ''}"


def setup(app):
    app.connect("config-inited", use_local_mathjax)
    app.connect("html-page-context", drop_foreign_scripts, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
