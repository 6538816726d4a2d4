"""How learning rates fall in a run: factors of what the optimizer began with, by the share of the steps that is done."""

from math import cos, log, pi


def cosine(share: float) -> float:
    """From 1 down to 0 along half a cosine. Loshchilov and Hutter (2017), without restarts."""
    return (1 + cos(pi * share)) / 2


def stages(share: float, *, count: int = 8, last: float = 0.1, growth: float = 3.0) -> float:
    """From 1 down to `last` in so many stages, equal steps of the logarithm, each `growth` times as long as the one before.

    With eight stages, a last factor of a tenth and growth 3 as in Burda, Grosse and Salakhutdinov (2016). Raises ValueError for
    fewer than two stages.
    """
    if count < 2:
        raise ValueError(f"a rate that falls in stages needs at least 2 of them, got {count}")
    ends = growth**count - 1  # stage i ends at (growth^(i + 1) - 1) / ends
    stage = min(int(log(share * ends + 1) / log(growth) + 1e-9), count - 1)
    return last ** (stage / (count - 1))
