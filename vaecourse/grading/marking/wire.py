"""What the judge and the student's kernel say to each other: questions and answers, as plain data (`plain`)."""

import sys

from vaecourse.grading.authoring.plain import decode, encode

WORDS_OF_AN_ERROR = 2_000
CUT = "\n[the rest of the output is cut]\n"

# In the student's kernel


def limit_output(characters: int) -> None:
    """Let each stream take so many characters in a cell, and no more: a loop that prints must not drown the kernel."""
    from ipykernel.iostream import OutStream
    from IPython import get_ipython

    write, left = OutStream.write, {}

    def write_what_fits(stream: OutStream, text: str) -> int:
        room = left.setdefault(stream.name, characters)
        left[stream.name] = room - len(text)
        if room > 0:
            write(stream, text if len(text) < room else text[:room] + CUT)
        return len(text)

    OutStream.write = write_what_fits
    for stream in (sys.stdout, sys.stderr):
        vars(stream).pop("write", None)  # IPython leaves the old method there
    get_ipython().events.register("pre_run_cell", lambda info: left.clear())


class _Reply(str):
    """A text that the kernel shows as it is, without quotes around it."""

    __repr__ = str.__str__


def serve(names: dict, request: str) -> str:
    """Answer a request of the judge from the student's names: {"look": names} or {"call": name, "args": ..., "kwargs": ...}."""
    try:
        request = decode(request)
        if "look" in request:
            seen = {name: names[name] for name in request["look"] if name in names}
            return _Reply(encode({"ok": {name: [callable(v), None if callable(v) else v] for name, v in seen.items()}}))
        return _Reply(encode({"ok": names[request["call"]](*request["args"], **request["kwargs"])}))
    except BaseException as error:
        return _Reply(encode({"error": [type(error).__name__, str(error)[:WORDS_OF_AN_ERROR]]}))


# In the judge


class StudentError(Exception):
    """What the student's code raised, or why there is no answer, in words for the student."""


KNOWN_ERRORS = (
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)
"""Raised in the judge as what they are, so that a test can ask for them; another could change the test's own course."""


def answer(text: str):
    """The value in a reply of `serve`. Raises what the student's code raised; StudentError where the reply is no plain data."""
    try:
        reply = decode(text)
        ((kind, content),) = reply.items()
        if kind == "ok":
            return content
        name, words = content
        name = name if isinstance(name, str) and len(name) < 60 and name.isidentifier() else "Exception"
        words = clean(str(words)[:WORDS_OF_AN_ERROR])
    except (ValueError, AttributeError, TypeError) as error:
        raise StudentError(f"the answer cannot be used: {clean(str(error)[:WORDS_OF_AN_ERROR])}") from None
    for known in KNOWN_ERRORS:
        if known.__name__ == name:
            raise known(words)
    raise StudentError(f"{name}: {words}")


def clean(text: str) -> str:
    """The text without what no file and no page can hold: halves of characters, control characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
