"""Pictures in pages: figures that move are drawn for a page, with no kernel, and no picture is without words.

A picture without alternative text is a warning, and so an error of the build.
"""

import os

from docutils import nodes
from sphinx.util import logging

from vaecourse.explorable.figure import IN_PAGE

logger = logging.getLogger(__name__)


def ask_for_words(app, doctree, docname):
    """Warn of each picture of a page that a reader who cannot see it would learn nothing of."""
    for picture in doctree.findall(nodes.image):
        if not (picture.get("alt") or "").strip():
            logger.warning(
                "a picture has no alternative text: give the cell `mystnb: image: alt:`, or the image `:alt:`, and say what "
                "there is to see (%s)",
                picture["uri"],
                location=picture,
            )


def setup(app):
    os.environ[IN_PAGE] = "1"  # the kernels inherit it
    app.connect("doctree-resolved", ask_for_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
