"""What a page or a lab asserts of its runs: each sentence that says what a run showed stands beside its assertion.

The sentence is marked in the text, `[The error falls.]{#claim-errors-fall}`, and a cell with the tag `claims` asserts it on
the data that the cells above left: `claim("errors-fall", errors[-1] < errors[0], first=errors[0], last=errors[-1])`. The
build (book/_ext/claims.py) takes the cell off the page, puts sentence and assertion together, and fails where it is false.
"""

import json
import re

import numpy as np
import torch

MOST_NUMBERS = 12
CLAIM = re.compile(r"\]\{#claim-([\w-]+)\}")


def claim(name: str, holds, **numbers) -> None:
    """Say whether the sentence marked `#claim-name` holds, and the numbers that show it.

    holds: a truth value, or any array of them, of which all must be true. numbers: at least one, each a number, a short
    text, or up to 12 numbers in a list or an array; the page writes one of them by {number}`name.key`.
    A false claim raises nothing here: the build and the tests of the labs list all that are false.
    Raises ValueError where nothing is compared, or where there is nothing to show; TypeError for what is no number.
    """
    truths = np.asarray(torch.as_tensor(holds).cpu() if isinstance(holds, torch.Tensor) else holds)
    if truths.dtype != bool:
        raise TypeError(f"claim {name!r}: a comparison is true or false, got {truths.dtype}; compare with == or <")
    if truths.size == 0:
        raise ValueError(f"claim {name!r}: nothing was compared, the array of truth values is empty")
    if not numbers:
        raise ValueError(f"claim {name!r}: give the numbers that show it, by name: claim({name!r}, a < b, a=a, b=b)")
    shown = {key: _plain(value, f"claim {name!r}: {key}") for key, value in numbers.items()}
    print(json.dumps({"claim": name, "holds": bool(truths.all()), "numbers": shown}, ensure_ascii=False))


def answers(name: str, right: float, **wrong: float) -> None:
    """Give a question of the page (`{question} name`) its right answer and those of mistakes, by the keys of their messages.

    Raises ValueError where a wrong answer is the right one, or another wrong one's: no message could tell them apart.
    """
    found = {key: float(value) for key, value in {"right": right, **wrong}.items()}
    for key, value in wrong.items():
        twins = [other for other, theirs in found.items() if other != key and abs(theirs - value) <= 0.01 * abs(value)]
        if twins:
            raise ValueError(f"question {name!r}: the answer of {key!r}, {float(value):g}, is that of {twins[0]!r}, too")
    print(json.dumps({"question": name, "answers": found}))


def _plain(value, what: str):
    """A number, a text, or a short list of numbers, as JSON has them."""
    if isinstance(value, str):
        return value
    array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} is no number: {value!r}")
    if array.size > MOST_NUMBERS:
        raise ValueError(f"{what} has {array.size} numbers, more than a reader looks at ({MOST_NUMBERS}): give their extremes")
    return array.tolist()


def sentences(text: str) -> dict[str, str]:
    """The claimed sentences of a text, `[...]{#claim-name}`, by name. Raises ValueError for a mark that nothing opens."""
    found = {}
    for mark in CLAIM.finditer(text):
        depth, start = 1, mark.start()
        while depth:
            start -= 1
            if start < 0:
                raise ValueError(f"no bracket opens the sentence of {mark[0]}")
            depth += {"]": 1, "[": -1}.get(text[start], 0)
        found[mark[1]] = text[start + 1 : mark.start()]
    return found


def unmarked(text: str) -> str:
    """A text without the marks of its claims."""
    for name, sentence in sentences(text).items():
        text = text.replace(f"[{sentence}]{{#claim-{name}}}", sentence)
    return text
