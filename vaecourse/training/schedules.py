"""How learning rates fall in a run: factors of what the optimizer began with, by the share of the steps that is done."""

from math import cos, pi


def cosine(share: float) -> float:
    """From 1 down to 0 along half a cosine. Loshchilov and Hutter (2017), without restarts."""
    return (1 + cos(pi * share)) / 2
