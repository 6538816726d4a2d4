"""Coordinate ascent variational inference for any model (Bishop, 2006, section 10.1; Blei, Kucukelbir and McAuliffe, 2017)."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

Q = TypeVar("Q")


@runtime_checkable
class Model(Protocol[Q]):
    """What coordinate ascent needs to know. q, whatever holds all factors, is never changed: an update returns a new one."""

    def updates(self) -> Sequence[Callable[[Q], Q]]:
        """One update a factor, in the order of their turns: q_j proportional to exp E_-j[log p(z, x)] (eq-cavi-update)."""
        ...

    def elbo(self, q: Q) -> Float[Tensor, ""]:
        """E_q[log p(z, x)] - E_q[log q(z)] in nats (eq-cavi-elbo). The entropy's sign is a minus before E[log q]."""
        ...


class BoundFell(ArithmeticError):
    """A sweep lowered the ELBO, which coordinate ascent cannot do. `factor` is the update that did it, counted from 0."""

    def __init__(self, sweep: int, factor: int, before: float, after: float):
        self.sweep, self.factor = sweep, factor
        super().__init__(
            f"in sweep {sweep} the update of factor {factor} lowered the ELBO from {before:.10g} to {after:.10g} nats. No "
            "right update can: either it does not set q_j proportional to exp E_-j[log p(z, x)], or the ELBO is not "
            "E[log p(z, x)] - E[log q(z)] (is the entropy's sign right?). Or the numbers are so far apart that rounding did "
            "it: then standardize the data, or take a wider prior."
        )


@dataclass(frozen=True)
class Step(Generic[Q]):
    """Where the ascent stands after a sweep; sweep 0 is the start. elbo: nats, for the whole data set."""

    sweep: int
    q: Q
    elbo: float


@dataclass(frozen=True)
class Fit(Generic[Q]):
    """The end of an ascent. `elbos` holds the ELBO at the start and after each sweep, in nats.

    `converged`: the last sweep gained the tolerance or less, and it was not creeping: as gains fall from sweep to sweep, those
    to come are less than 1,000 times the tolerance, all together.
    """

    q: Q
    elbos: Float[Tensor, " sweeps_and_start"]
    converged: bool
    seconds: float

    @property
    def elbo(self) -> float:
        """The last ELBO, in nats."""
        return self.elbos[-1].item()

    @property
    def sweeps(self) -> int:
        """How many sweeps it took."""
        return len(self.elbos) - 1


def _fell(before: float, after: float) -> bool:
    """Whether the bound fell by more than rounding explains: in a mixture of far and narrow clusters, a 10^-7th of it."""
    return after < before - 1e-7 * (1 + abs(before))


def _culprit(model: Model[Q], q: Q, number: int) -> BoundFell:
    """The error for a sweep from q that lowered the bound: the sweep again, with the bound read after each factor."""
    start = after = model.elbo(q).item()
    for factor, update in enumerate(model.updates()):
        q = update(q)
        before, after = after, model.elbo(q).item()
        if _fell(before, after):
            return BoundFell(number, factor, before, after)
    return BoundFell(number, factor, start, after)


def ascend(model: Model[Q], q: Q, *, sweeps: int = 1000, tolerance: float = 1e-6) -> Iterator[Step[Q]]:
    """Coordinate ascent from q: yields the start and the state after each sweep.

    It ends when a sweep gains `tolerance` nats or less, or after `sweeps` of them. At its end no factor gained more when its
    turn came. That is near a local optimum, or a saddle, which a change of several factors at once leaves; or the factors hold
    one another, and each sweep gains little of the much that is left, which `fit` tells. Raises BoundFell where the ELBO falls,
    ValueError where it is not a number, and for negative sweeps or tolerance.
    """
    if sweeps < 0 or tolerance < 0:
        raise ValueError(f"sweeps and tolerance must not be negative, got {sweeps} and {tolerance}")
    elbo = model.elbo(q).item()
    yield Step(0, q, elbo)
    for number in range(1, sweeps + 1):
        start, before = q, elbo
        for update in model.updates():
            q = update(q)
        elbo = model.elbo(q).item()
        if isnan(elbo):
            raise ValueError(
                f"the ELBO is not a number after sweep {number}: look for NaN in the data or in the start. Where there is "
                "none, numbers are too far apart for double precision, as of clusters narrow beside their distance: "
                "standardize the data, or take a prior that does not let a component be so narrow"
            )
        if _fell(before, elbo):
            raise _culprit(model, start, number)
        yield Step(number, q, elbo)
        if elbo - before <= tolerance:
            return


def fit(model: Model[Q], q: Q, *, sweeps: int = 1000, tolerance: float = 1e-6, progress: bool = True) -> Fit[Q]:
    """Coordinate ascent from q to its end (see `ascend`), with a progress bar that shows the ELBO.

    Raises BoundFell where the ELBO falls, ValueError where it is not a number, and for negative sweeps or tolerance.
    """
    started, elbos = time.perf_counter(), []
    with tqdm(total=sweeps, disable=not progress, unit="sweep", mininterval=0.5) as bar:
        for step in ascend(model, q, sweeps=sweeps, tolerance=tolerance):
            elbos.append(step.elbo)
            bar.set_postfix_str(f"ELBO {step.elbo:.6g} nats", refresh=False)
            bar.update(int(step.sweep > 0))
    seconds = time.perf_counter() - started
    converged = len(elbos) > 1 and elbos[-1] - elbos[-2] <= tolerance and not _creeps(model, step.q, elbos, tolerance)
    return Fit(step.q, torch.tensor(elbos, dtype=torch.float64), converged, seconds)


def _creeps(model: Model[Q], q: Q, elbos: list[float], tolerance: float) -> bool:
    """Whether far more than the tolerance is left to gain, if each gain is the same share of the one before.

    After fewer than three sweeps a gain may be the first of its kind: two more sweeps show how they go on.
    """
    ahead = elbos[-3:]
    while len(elbos) < 4 and len(ahead) < len(elbos[-3:]) + 2:
        for update in model.updates():
            q = update(q)
        ahead.append(model.elbo(q).item())
    (before, now), rounding = (ahead[-2] - ahead[-3], ahead[-1] - ahead[-2]), 1e-12 * (1 + abs(ahead[-1]))
    return now > rounding and now / max(before - now, rounding) * now > 1000 * tolerance
