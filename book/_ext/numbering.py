"""A chapter's number is its file's: `book/07_vae.md` is chapter 7, whichever chapters exist before it.

So are the numbers of its sections, equations, figures and algorithms. Sphinx counts the pages it finds; its counts are
kept aside, so that it sees which of them change, and the file's number is put in place of the first of each. A page of a
part that is no chapter's, its introduction, has no number.
"""

import re

from docutils import nodes

CHAPTER = re.compile(r"(?:.*/)?(\d\d)_\w+")


def restore_counts(app, env):
    """Give Sphinx its own counts back before it counts again."""
    env.toc_secnumbers, env.toc_fignumbers = getattr(env, "counted", (env.toc_secnumbers, env.toc_fignumbers))
    return []  # no page to write for this alone


def number_chapters(app, env):
    """Put the file's number first in all numbers of a chapter's pages."""
    env.counted = env.toc_secnumbers, env.toc_fignumbers
    env.toc_secnumbers = {
        page: renumber(page, numbers) if CHAPTER.fullmatch(page) else {} for page, numbers in env.toc_secnumbers.items()
    }
    env.toc_fignumbers = {
        page: {kind: renumber(page, numbers) for kind, numbers in kinds.items()} for page, kinds in env.toc_fignumbers.items()
    }
    for page in env.toc_secnumbers:
        for node in [env.titles[page], *env.tocs[page].findall(nodes.reference)]:
            number = node.attributes.pop("secnumber", None)
            if number and CHAPTER.fullmatch(page):
                node["secnumber"] = list(with_chapter(page, number))
    return []


def renumber(page: str, numbers: dict) -> dict:
    return {key: with_chapter(page, number) for key, number in numbers.items()}


def with_chapter(page: str, number: tuple[int, ...]) -> tuple[int, ...]:
    """A number of a page, beginning with that of the page's file if it has one: (1, 2) in 07_vae becomes (7, 2)."""
    chapter = CHAPTER.fullmatch(page)
    return (int(chapter[1]), *number[1:]) if chapter and number else number


def setup(app):
    app.connect("env-get-updated", restore_counts, priority=100)
    app.connect("env-get-updated", number_chapters, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
