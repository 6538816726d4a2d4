"""f-divergences: a convex f and its dual f*, as functions of logarithms.

D_f(q || p) = E_p f(q / p) for a convex f with f(1) = 0, the divergence's generator. The dual f*(t) = t f(1 / t) turns the
divergence round, D_f*(p || q) = D_f(q || p); it is not the convex conjugate that is written by the same sign. f and
f + c (t - 1) have the same divergence. All functions take log t, since the ratios of variational inference are known by their
logarithms; beside each stands what it is of t.
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
    """A convex function g of t >= 0, given in log t."""

    inside: Function
    """log t -> g(t), t > 0."""

    slope: Function
    """log t -> g'(t)."""

    lowest: float
    """log t where g is least: inf where g falls everywhere, -inf where it rises everywhere."""

    at_zero: float
    """The limit of g at t = 0; it may be infinite."""

    scaled: Callable[[Tensor, Tensor], Tensor] | None = None
    """(log s, log t) -> s g(t), by logarithms alone, where g is made of powers: for an s too small and a g(t) too large."""

    def value(self, log_t: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        """g(t); at t = 0, where log t is -inf, its limit."""
        zero = log_t == -inf
        return self.inside(log_t.masked_fill(zero, 0.0)).masked_fill(zero, self.at_zero)

    def times(self, log_s: Float[Tensor, "*points"], log_t: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        """s g(t)."""
        return self.scaled(log_s, log_t) if self.scaled else log_s.exp() * self.value(log_t)


@dataclass(frozen=True)
class Divergence:
    """D_f, by f and its dual f*(t) = t f(1 / t) (eq-fvi-dual; Wan, Li and Hovakimyan, 2020).

    `alpha`: where D_f(q || p) is an increasing function of Renyi's D_alpha(q || p), that alpha; None elsewhere.
    """

    name: str
    f: Curve
    star: Curve
    alpha: float | None = None

    @property
    def dual(self) -> "Divergence":
        """D_f*(q || p) = D_f(p || q), the other way round (eq-fvi-reversed); its alpha is 1 - alpha."""
        name = self.name.removesuffix(" dual") if self.name.endswith(" dual") else f"{self.name} dual"
        return Divergence(name, self.star, self.f, None if self.alpha is None else 1 - self.alpha)

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


exclusive_kl = Divergence(
    "exclusive KL",
    f=Curve(
        inside=lambda log_t: log_t.exp() * log_t,  # t log t
        slope=lambda log_t: log_t + 1,  # log t + 1
        lowest=-1.0,
        at_zero=0.0,
    ),
    star=Curve(
        inside=lambda log_t: -log_t,  # -log t
        slope=lambda log_t: -(-log_t).exp(),  # -1 / t
        lowest=inf,
        at_zero=inf,
    ),
    alpha=1.0,
)
"""KL(q || p): f(t) = t log t, f*(t) = -log t; L_f is minus the ELBO. It seeks a mode."""

inclusive_kl = Divergence("inclusive KL", f=exclusive_kl.star, star=exclusive_kl.f, alpha=0.0)
"""KL(p || q): f(t) = -log t, f*(t) = t log t. It covers the mass."""

chi_square = Divergence(
    "chi-square",
    f=Curve(
        inside=lambda log_t: (2 * log_t).expm1(),  # t^2 - 1
        slope=lambda log_t: 2 * log_t.exp(),  # 2 t
        lowest=-inf,
        at_zero=-1.0,
        scaled=lambda log_s, log_t: (log_s + 2 * log_t).exp() - log_s.exp(),
    ),
    star=Curve(
        inside=lambda log_t: -2 * log_t.sinh(),  # 1 / t - t
        slope=lambda log_t: -1 - (-2 * log_t).exp(),  # -1 - 1 / t^2
        lowest=inf,
        at_zero=inf,
        scaled=lambda log_s, log_t: (log_s - log_t).exp() - (log_s + log_t).exp(),
    ),
    alpha=2.0,
)
"""E_p (q / p)^2 - 1: f(t) = t^2 - 1, f*(t) = 1 / t - t. Its dual, with f*(t) = t^2 - 1, bounds the evidence from above."""

_hellinger = Curve(
    inside=lambda log_t: (0.5 * log_t).expm1() ** 2,  # (sqrt t - 1)^2
    slope=lambda log_t: -(-0.5 * log_t).expm1(),  # 1 - 1 / sqrt t
    lowest=0.0,
    at_zero=1.0,
)

hellinger = Divergence("Hellinger", f=_hellinger, star=_hellinger, alpha=0.5)
"""Integral of (sqrt q - sqrt p)^2, between 0 and 2: f(t) = f*(t) = (sqrt t - 1)^2."""


def _log_two_shares(log_t: Tensor) -> Tensor:
    """log(2 t / (1 + t))."""
    return log(2) + functional.logsigmoid(log_t)


_jensen_shannon = Curve(
    inside=lambda log_t: 0.5 * (log_t.exp() * _log_two_shares(log_t) + log(2) - functional.softplus(log_t)),
    # (t log(2 t / (1 + t)) + log(2 / (1 + t))) / 2
    slope=lambda log_t: 0.5 * _log_two_shares(log_t),  # log(2 t / (1 + t)) / 2
    lowest=0.0,
    at_zero=0.5 * log(2),
)

jensen_shannon = Divergence("Jensen-Shannon", f=_jensen_shannon, star=_jensen_shannon)
"""Mean of the KLs of q and of p to (p + q) / 2, between 0 and log 2 nats.

f(t) = f*(t) = (t log t - (1 + t) log((1 + t) / 2)) / 2.
"""

_total_variation = Curve(
    inside=lambda log_t: 0.5 * log_t.expm1().abs(),  # |t - 1| / 2
    slope=lambda log_t: 0.5 * log_t.sign(),  # sign(t - 1) / 2
    lowest=0.0,
    at_zero=0.5,
)

total_variation = Divergence("total variation", f=_total_variation, star=_total_variation)
"""Half the integral of |q - p|, between 0 and 1: f(t) = f*(t) = |t - 1| / 2."""


def power(alpha: float) -> Divergence:
    """f(t) = (t^alpha - t) / (alpha (alpha - 1)), f*(t) = (t^(1 - alpha) - 1) / (alpha (alpha - 1)); class F1 (eq-fvi-power).

    D_f = (exp((alpha - 1) D_alpha(q || p)) - 1) / (alpha (alpha - 1)) with Renyi's D_alpha: positive alpha seek a mode the
    more the larger they are, negative ones overcover. Class F0 has f(t) = (t^alpha - 1) / (alpha (alpha - 1)): it is
    power(1 - alpha).dual, and differs by a multiple of t - 1.

    Raises ValueError at 0 and 1, whose limits are `inclusive_kl` and `exclusive_kl`, and for an alpha that is not finite.
    """
    if not isfinite(alpha):
        raise ValueError(f"alpha must be a finite number, got {alpha}")
    if alpha in (0, 1):
        limit = {0: "inclusive_kl, KL(p || q)", 1: "exclusive_kl, KL(q || p)"}[int(alpha)]
        raise ValueError(f"alpha = {alpha:g} is the limit {limit}: use that divergence")
    c = 1 / (alpha * (alpha - 1))
    return Divergence(
        f"power {alpha:g}",
        f=Curve(
            inside=lambda log_t: c * log_t.exp() * ((alpha - 1) * log_t).expm1(),  # c (t^alpha - t)
            slope=lambda log_t: c * (alpha * ((alpha - 1) * log_t).exp() - 1),  # c (alpha t^(alpha - 1) - 1)
            lowest=-log(alpha) / (alpha - 1) if alpha > 0 else inf,
            at_zero=0.0 if alpha > 0 else inf,
            scaled=lambda log_s, log_t: c * ((log_s + alpha * log_t).exp() - (log_s + log_t).exp()),
        ),
        star=Curve(
            inside=lambda log_t: c * ((1 - alpha) * log_t).expm1(),  # c (t^(1 - alpha) - 1)
            slope=lambda log_t: -(-alpha * log_t).exp() / alpha,  # -t^-alpha / alpha
            lowest=inf if alpha > 0 else -inf,
            at_zero=inf if alpha > 1 else -c,
            scaled=lambda log_s, log_t: c * ((log_s + (1 - alpha) * log_t).exp() - log_s.exp()),
        ),
        alpha=alpha,
    )


ALL = (exclusive_kl, inclusive_kl, chi_square, chi_square.dual, hellinger, jensen_shannon, total_variation)
"""The divergences without a parameter."""


LARGE_SLOPE = 100  # of f* at 1, `power` near 0: from here on the divergence is a small difference of large sums


def divergence(
    f: Divergence, log_q: Float[Tensor, "*batch points"], log_p: Float[Tensor, "*#batch points"], measure: float = 1.0
) -> Float[Tensor, "*batch"]:
    """D_f(q || p) = sum of q f*(p / q), over finitely many points or a grid, differentiable (eq-fvi-divergence).

    `measure`: what each point stands for, 1 in a discrete space, the area of a cell on a grid. Both densities are to be
    normalized. A log-density may be -inf. Sums are in double precision.

    Raises ValueError for NaN, for no points, and where the divergence is infinite, with the point to blame.
    """
    if log_q.shape[-1] == 0:
        raise ValueError("a divergence needs at least one point, got none")
    if log_q.isnan().any() or log_p.isnan().any():
        raise ValueError("log-densities must not be NaN; log 0 is -inf")
    kind, (log_q, log_p) = (log_q + log_p).dtype, (log_q.double(), log_p.double())
    q_only, p_only = (log_q > -inf) & (log_p == -inf), (log_p > -inf) & (log_q == -inf)
    if f.f.at_zero == inf and p_only.any():
        where = p_only.nonzero()[0].tolist()
        raise ValueError(f"q's support is too small: at point {where} p > 0 and q = 0, so D_f by {f.name} is infinite")
    if f.star.at_zero == inf and q_only.any():
        where = q_only.nonzero()[0].tolist()
        raise ValueError(f"q's support is too large: at point {where} q > 0 and p = 0, so D_f by {f.name} is infinite")
    both = (log_q > -inf) & (log_p > -inf)
    terms = _terms(f, log_q.masked_fill(~both, 0.0), log_p.masked_fill(~both, 0.0)).masked_fill(~both, 0.0)
    zero = terms.new_zeros(())
    if f.star.at_zero != inf:
        terms = terms + f.star.at_zero * torch.where(q_only, log_q.exp(), zero)
    if f.f.at_zero != inf:
        terms = terms + f.f.at_zero * torch.where(p_only, log_p.exp(), zero)
    slope = float(f.star.slope(torch.zeros(())))
    if abs(slope) > LARGE_SLOPE:  # f* + slope (1 - t) has the same sum, by smaller terms
        terms = terms + slope * (log_q.exp() - log_p.exp())
    return (measure * terms.sum(-1)).to(kind)


def _terms(f: Divergence, log_q: Tensor, log_p: Tensor) -> Tensor:
    """q f*(p / q) at each point, finite log-densities.

    Where q is too small for a number, or f* too large for one, it is p f(q / p) if p is the larger.
    """
    q, log_t = log_q.exp(), log_p - log_q
    star = f.star.value(log_t)
    extreme = (q < torch.finfo(q.dtype).tiny) | ~star.isfinite()
    if not extreme.any():
        return q * star
    larger, smaller = extreme & (log_t > 0), extreme & (log_t <= 0)
    star = f.star.value(log_t.masked_fill(extreme, 0.0))
    by_p = f.f.times(log_p.masked_fill(~larger, 0.0), -log_t.masked_fill(~larger, 0.0))
    by_q = f.star.times(log_q.masked_fill(~smaller, 0.0), log_t.masked_fill(~smaller, 0.0))
    return torch.where(larger, by_p, torch.where(smaller, by_q, q * star))
