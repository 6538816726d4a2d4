"""Generators of f-divergences and their duals, as functions of logarithms.

D_f(q || p) = E_p f(q / p) for a convex f with f(1) = 0. The dual f*(t) = t f(1 / t) turns the divergence round,
D_f*(p || q) = D_f(q || p); it is not the convex conjugate that is written by the same sign. f and f + c (t - 1) have the
same divergence. All functions take log t, since the ratios of variational inference are known by their logarithms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, log

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Curve:
    """A convex function g of t > 0, given in log t."""

    value: Function
    """log t -> g(t)."""

    slope: Function
    """log t -> g'(t)."""

    lowest: float
    """log t where g is least: inf where g falls everywhere, -inf where it rises everywhere."""

    at_zero: float
    """The limit of g at t = 0; it may be infinite."""


@dataclass(frozen=True)
class Generator:
    """A generator f and its dual f*(t) = t f(1 / t) (eq-fvi-dual; Wan, Li and Hovakimyan, 2020).

    `alpha`: where D_f(q || p) is an increasing function of Renyi's D_alpha(q || p), that alpha; None elsewhere.
    """

    name: str
    f: Curve
    star: Curve
    alpha: float | None = None

    @property
    def dual(self) -> "Generator":
        """The generator f*, for the divergence the other way round (eq-fvi-reversed); its alpha is 1 - alpha."""
        name = self.name.removesuffix(" dual") if self.name.endswith(" dual") else f"{self.name} dual"
        return Generator(name, self.star, self.f, None if self.alpha is None else 1 - self.alpha)

    @cached_property
    def tilt(self) -> float:
        """The c for which f + c (t - 1), with the same divergence, has the dual that is easiest to estimate (eq-fvi-tilt).

        f*(t) + c (1 - t) falls everywhere with c = f(0), and grows with t no more; where f(0) is infinite it is level at t = 1.
        """
        return self.f.at_zero if self.f.at_zero < inf else float(self.star.slope(torch.zeros(())))

    @property
    def falls(self) -> bool:
        """Whether f* falls everywhere, so that L_f bounds the evidence from below."""
        return self.star.lowest == inf

    @property
    def rises(self) -> bool:
        """Whether f* rises everywhere, so that L_f bounds the evidence from above."""
        return self.star.lowest == -inf


def _t_log_t(s: Tensor) -> Tensor:
    return s.exp() * s


exclusive_kl = Generator(
    "exclusive KL",
    f=Curve(_t_log_t, lambda s: s + 1, lowest=-1.0, at_zero=0.0),
    star=Curve(lambda s: -s, lambda s: -(-s).exp(), lowest=inf, at_zero=inf),
    alpha=1.0,
)
"""KL(q || p): f(t) = t log t, f*(t) = -log t; L_f is minus the ELBO. It seeks a mode."""

inclusive_kl = Generator("inclusive KL", exclusive_kl.star, exclusive_kl.f, alpha=0.0)
"""KL(p || q): f(t) = -log t, f*(t) = t log t. It covers the mass."""

chi_square = Generator(
    "chi-square",
    f=Curve(lambda s: (2 * s).expm1(), lambda s: 2 * s.exp(), lowest=-inf, at_zero=-1.0),
    star=Curve(lambda s: -2 * s.sinh(), lambda s: -1 - (-2 * s).exp(), lowest=inf, at_zero=inf),
    alpha=2.0,
)
"""E_p (q / p)^2 - 1: f(t) = t^2 - 1, f*(t) = 1 / t - t. Its dual, with f*(t) = t^2 - 1, bounds the evidence from above."""


def _squared_difference_of_roots(s: Tensor) -> Tensor:
    return (0.5 * s).expm1() ** 2


_hellinger = Curve(_squared_difference_of_roots, lambda s: -(-0.5 * s).expm1(), lowest=0.0, at_zero=1.0)

hellinger = Generator("Hellinger", _hellinger, _hellinger, alpha=0.5)
"""Integral of (sqrt q - sqrt p)^2, between 0 and 2: f(t) = f*(t) = (sqrt t - 1)^2."""


def _js_value(s: Tensor) -> Tensor:
    return 0.5 * (s.exp() * (log(2) + functional.logsigmoid(s)) + log(2) - functional.softplus(s))


_js = Curve(_js_value, lambda s: 0.5 * (log(2) + functional.logsigmoid(s)), lowest=0.0, at_zero=0.5 * log(2))

jensen_shannon = Generator("Jensen-Shannon", _js, _js)
"""Mean of the KLs of q and of p to (p + q) / 2, between 0 and log 2 nats.

f(t) = f*(t) = (t log t - (1 + t) log((1 + t) / 2)) / 2.
"""

_tv = Curve(lambda s: 0.5 * s.expm1().abs(), lambda s: 0.5 * s.sign(), lowest=0.0, at_zero=0.5)

total_variation = Generator("total variation", _tv, _tv)
"""Half the integral of |q - p|, between 0 and 1: f(t) = f*(t) = |t - 1| / 2."""


def power(alpha: float) -> Generator:
    """f(t) = (t^alpha - t) / (alpha (alpha - 1)), f*(t) = (t^(1 - alpha) - 1) / (alpha (alpha - 1)); class F1 (eq-fvi-power).

    D_f = (exp((alpha - 1) D_alpha(q || p)) - 1) / (alpha (alpha - 1)) with Renyi's D_alpha: positive alpha seek a mode the
    more the larger they are, negative ones overcover. Class F0 has f(t) = (t^alpha - 1) / (alpha (alpha - 1)): it is
    power(1 - alpha).dual, and differs by a multiple of t - 1.

    Raises ValueError at 0 and 1, whose limits are `inclusive_kl` and `exclusive_kl`.
    """
    if alpha in (0, 1) or not isfinite(alpha):
        limits = {0: "inclusive_kl, KL(p || q)", 1: "exclusive_kl, KL(q || p)"}
        raise ValueError(
            f"alpha = {alpha:g} is the limit {limits[int(alpha)]}: use that generator"
            if isfinite(alpha)
            else f"alpha must be a finite number, got {alpha}"
        )
    c = 1 / (alpha * (alpha - 1))
    return Generator(
        f"power {alpha:g}",
        f=Curve(
            lambda s: c * s.exp() * ((alpha - 1) * s).expm1(),
            lambda s: c * (alpha * ((alpha - 1) * s).exp() - 1),
            lowest=-log(alpha) / (alpha - 1) if alpha > 0 else inf,
            at_zero=0.0 if alpha > 0 else inf,
        ),
        star=Curve(
            lambda s: c * ((1 - alpha) * s).expm1(),
            lambda s: -(-alpha * s).exp() / alpha,
            lowest=inf if alpha > 0 else -inf,
            at_zero=inf if alpha > 1 else -c,
        ),
        alpha=alpha,
    )


ALL = (exclusive_kl, inclusive_kl, chi_square, chi_square.dual, hellinger, jensen_shannon, total_variation)
"""The generators without a parameter."""


def divergence(
    f: Generator, log_q: Float[Tensor, "*batch points"], log_p: Float[Tensor, "*#batch points"], measure: float = 1.0
) -> Float[Tensor, "*batch"]:
    """D_f(q || p) = sum of q f*(p / q), over finitely many points or a grid, differentiable (eq-fvi-divergence).

    `measure`: what each point stands for, 1 in a discrete space, the area of a cell on a grid. Both densities are to be
    normalized. A log-density may be -inf.

    Raises ValueError for NaN, for no points, and where the divergence is infinite, with the point to blame.
    """
    if log_q.shape[-1] == 0:
        raise ValueError("a divergence needs at least one point, got none")
    if log_q.isnan().any() or log_p.isnan().any():
        raise ValueError("log-densities must not be NaN; log 0 is -inf")
    q_only, p_only = (log_q > -inf) & (log_p == -inf), (log_p > -inf) & (log_q == -inf)
    if f.f.at_zero == inf and p_only.any():
        where = p_only.nonzero()[0].tolist()
        raise ValueError(f"q's support is too small: at point {where} p > 0 and q = 0, so D_f by {f.name} is infinite")
    if f.star.at_zero == inf and q_only.any():
        where = q_only.nonzero()[0].tolist()
        raise ValueError(f"q's support is too large: at point {where} q > 0 and p = 0, so D_f by {f.name} is infinite")
    both = (log_q > -inf) & (log_p > -inf)
    common = log_q.masked_fill(~both, 0.0)
    terms = (common.exp() * f.star.value(log_p.masked_fill(~both, 0.0) - common)).masked_fill(~both, 0.0)
    zero = terms.new_zeros(())
    if f.star.at_zero != inf:
        terms = terms + f.star.at_zero * torch.where(q_only, log_q.exp(), zero)
    if f.f.at_zero != inf:
        terms = terms + f.f.at_zero * torch.where(p_only, log_p.exp(), zero)
    return measure * terms.sum(-1)
