"""What the checks below an exercise say: the shape first, then the value, then the likely cause.

A check compares plain data: what the student's function returned, what it should have returned, and what the known wrong
answers return on the same input. Where the student's value is that of a wrong answer, its message is printed.
"""

import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Size, Tensor

COURSE_SEED = "VAECOURSE_SEED"
"""The environment variable with the course's own seed for the inputs of hidden tests; unset, it is 0."""


STUDENT = "VAECOURSE_STUDENT"
"""The environment variable with the student's name, while a submission is graded."""


class Mistake(AssertionError):
    """A wrong answer, with a message for the student. A notebook shows the message without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


@dataclass(frozen=True)
class Check:
    """Compare named results with an assignment's known answers, right and wrong.

    `known` maps a result's name to {"expected": value, "wrong": {message: value}}; values are numbers, nested lists,
    dictionaries of these, or None.
    """

    known: Mapping[str, Mapping]

    @classmethod
    def loads(cls, text: str) -> "Check":
        """Read the known answers from JSON."""
        return cls(json.loads(text))

    def __call__(self, name: str, value, unit: str = "") -> None:
        """Print that the result of that name is correct, or raise Mistake."""
        answers = self.known[name]
        compare(name, value, answers["expected"], unit, answers["wrong"])
        print(f"{name}: correct.")


def compare(name: str, value, expected, unit: str = "", wrong: Mapping | None = None) -> None:
    """Raise Mistake unless value and expected agree in shape and, to four digits, in every entry.

    Both are tensors, numbers, nested lists, or dictionaries of these; `wrong` maps messages to known wrong values.
    """
    wrong = wrong or {}
    if isinstance(expected, Mapping):
        parts = ", ".join(map(repr, expected))
        if not isinstance(value, Mapping) or set(value) != set(expected):
            got = f"the keys {', '.join(map(repr, value))}" if isinstance(value, Mapping) else kind(value)
            raise Mistake(f"{name} must be a dictionary with the keys {parts}; got {got}.")
        for part in expected:
            of_part = {message: other[part] for message, other in wrong.items() if part in other}
            compare(f"{name}[{part!r}]", value[part], expected[part], unit, of_part)
        return

    if agree(value, expected):
        return
    cause = next((message for message, other in wrong.items() if agree(value, other)), "")
    got, right = tensor(value), tensor(expected)
    if got is None:
        forgotten = "is a `return` missing?" if value is None else ""
        raise Mistake(sentence(f"{name} must be a tensor or a number, got {kind(value)}", cause or forgotten))
    if got.shape != right.shape:
        fact = f"{name} must have shape {tuple(right.shape)}, got {tuple(got.shape)}"
        raise Mistake(sentence(fact, cause or guess_axis(got.shape, right.shape)))
    where = (~close(got, right)).nonzero()[0].tolist()
    entry = f"{name}[{', '.join(map(str, where))}]" if where else name
    found, due = got[tuple(where)].item(), right[tuple(where)].item()
    raise Mistake(sentence(f"{entry} is {found:.5g} {unit}".rstrip() + f", expected {due:.5g}", cause or guess(got, right)))


def agree(a, b) -> bool:
    """Whether two values are the same data, to four digits."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return set(a) == set(b) and all(agree(a[part], b[part]) for part in a)
    if a is None or b is None:
        return a is b
    a, b = tensor(a), tensor(b)
    return a is not None and b is not None and a.shape == b.shape and bool(close(a, b).all())


def close(a: Tensor, b: Tensor) -> Tensor:
    """Entry by entry: equal to four digits; NaN equals NaN."""
    return torch.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def tensor(value) -> Tensor | None:
    """The value as numbers in double precision; None where it is not real numbers."""
    try:
        numbers = torch.as_tensor(value).detach().cpu()
        return None if numbers.is_complex() else numbers.double()
    except (TypeError, ValueError, RuntimeError):
        return None


def kind(value) -> str:
    """What the value is, in words."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def sentence(fact: str, cause: str) -> str:
    return f"{fact}: {cause}" if cause else f"{fact}."


def guess_axis(got: Size, right: Size) -> str:
    """The likely cause of a wrong shape; empty where nothing stands out."""
    if right and got == right[1:]:
        return "the first axis was summed or averaged, too."
    if got and got[:-1] == right:
        return "the last axis is still there."
    return ""


def guess(got: Tensor, right: Tensor) -> str:
    """The likely cause of a wrong value that no known wrong answer explains; empty where nothing stands out."""
    if not got.isfinite().all():
        return "not finite. An exponential overflowed, or the logarithm of zero was taken."
    if close(got, -right).all():
        return "the sign is reversed."
    if got.numel() > 1:
        difference, ratio = (got - right).mean(), got.sum() / right.sum()
        if close(got, right + difference).all():
            return f"every entry is off by the same amount, {difference:.4g}."
        if close(got, right * ratio).all():
            return f"every entry is {ratio:.4g} times what it should be."
    return ""


def own_generator(exercise: str, student: str) -> Generator:
    """The randomness of a student's own data in an exercise: another for each student, the same at home and when it is graded.

    `student` is what the student has entered, a name or a number. Raises Mistake where it is empty or, when a submission is
    graded, not part of the name under which it was handed in: another's data give another's answer.
    """
    known, name = _letters(os.environ.get(STUDENT, student)), _letters(student)
    if len(name) < 2:
        raise Mistake("Enter your name, or the number by which your course knows you: your data depend on it.")
    if name not in known:
        raise Mistake(f"{student!r} is not the name under which this was handed in: the data must be your own.")
    return _generator(f"own:{exercise}:{name}")


def _letters(name) -> str:
    """A name without what systems change in it: case, blanks, signs, accents."""
    parts = unicodedata.normalize("NFKD", str(name)).casefold()
    return "".join(letter for letter in parts if letter.isalnum())


def hidden_generator(exercise: str) -> Generator:
    """The randomness of an exercise's hidden inputs: the same for a whole course, another in each course that sets a seed."""
    return _generator(f"{os.environ.get(COURSE_SEED, '0')}:{exercise}")


def _generator(words: str) -> Generator:
    seed = hashlib.sha256(words.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(seed[:7], "big"))
