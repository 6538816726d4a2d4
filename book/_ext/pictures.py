"""No picture in a page is without words: one without alternative text is a warning, and so an error of the build."""

from docutils import nodes
from sphinx.util import logging

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
    app.connect("doctree-resolved", ask_for_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
