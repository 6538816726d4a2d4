"""The costly experiments of the book, one file a chapter. `python -m vaecourse.experiments` lists and computes them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Experiment:
    """`case(**arguments)` returns a row, a dictionary of numbers, lists and tensors, for each arguments in `cases`.

    `replay`: the arguments of one case small enough for a test to run again. Where `case` takes `checkpoint`, it is given a
    file for its training to resume from.
    """

    case: Callable[..., dict]
    cases: list[dict]
    replay: dict
