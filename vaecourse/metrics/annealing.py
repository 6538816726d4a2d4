"""log p(x) of a model with latents, by annealed importance sampling (AIS; Neal, 2001; for decoders, Wu et al., 2017).

Chains start at draws from a Gaussian that is known, `start`, and end near the posterior p(z | x), through laws that lead from
the one to the other: q_beta(z) proportional to start(z)^(1 - beta) p(x, z)^beta, beta rising from 0 to 1. What each chain
collects on the way is a weight whose expectation is p(x), for any number of temperatures, however badly the chains mix: so
the log of the mean weight is below log p(x) on average (Jensen), and above it by b nats with probability e^-b at most
(Markov). More temperatures and more chains bring it closer. Its error bar is honest as far as the chains have seen the
posterior: a mode that none of them found is missing from the estimate and from the bar.

With `start` the prior, beta tempers the likelihood, p(z) p(x | z)^beta, and no encoder is involved. With `start` q(z | x) the
way is shorter, and what the encoder never draws may never be found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import log, pi

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse import importance
from vaecourse.distributions import Normal, refusing
from vaecourse.importance import LogJoint
from vaecourse.inputs import tensor, whole
from vaecourse.randomness import normal
from vaecourse.samplers import State, at, hmc_step

LEAPS = 10  # leapfrog steps in a transition
TARGET = 0.65  # the acceptance that steps are tuned to (Neal, 2011)
FIRST_STEP = 0.5  # in units of the start's standard deviations
RATE = 0.5  # how fast the log of a step follows the acceptance
PILOT = 8  # chains that find the steps


@dataclass(frozen=True)
class Evidence:
    """Estimates of log p(x) by weights whose expectation is p(x): one number a data point, in nats."""

    log_weights: Float[Tensor, "chains batch"]

    acceptance: Float[Tensor, " batch"]
    """Mean probability of acceptance of the transitions: near the target, unless the step could not be tuned in time."""

    @property
    def value(self) -> Float[Tensor, " batch"]:
        """log((w_1 + ... + w_m) / m), m chains: log p(x), from below on average (eq-metrics-ais)."""
        return importance.log_mean(self.log_weights)

    @property
    def ess(self) -> Float[Tensor, " batch"]:
        """The effective sample size, (sum w)^2 / sum w^2: between 1 and the number of chains (eq-metrics-ess)."""
        return importance.effective_sample_size(self.log_weights)

    @property
    def error(self) -> Float[Tensor, " batch"]:
        """The standard error of `value`, from the spread of the weights (eq-metrics-ais-error).

        sd(w) / (mean(w) sqrt(chains)), to first order; not to be trusted where `ess` is a few. NaN for one chain.
        """
        chains = len(self.log_weights)
        if chains == 1:
            return torch.full_like(self.log_weights[0], torch.nan)
        shares = self.log_weights.softmax(0)
        return ((shares - 1 / chains).square().sum(0) * chains / (chains - 1)).sqrt()


@dataclass(frozen=True)
class Sandwich:
    """log p(x) between two estimates, from below and from above on average: one number a data point, in nats."""

    forward: Evidence

    reverse: Evidence
    """Its weights have the expectation 1 / p(x)."""

    @property
    def lower(self) -> Float[Tensor, " batch"]:
        """From below: the log of the mean weight, by AIS."""
        return self.forward.value

    @property
    def upper(self) -> Float[Tensor, " batch"]:
        """From above: minus the log of the mean weight, by AIS the other way."""
        return -self.reverse.value


def schedule(temperatures: int) -> Float[Tensor, " betas"]:
    """beta from 0 to 1 in that many steps, small ones at both ends (eq-metrics-ais-schedule).

    beta_t = (s_t - s_0) / (s_T - s_0), s_t a sigmoid at T + 1 even places from -4 to 4 (Wu et al., 2017). Raises ValueError
    for temperatures < 1.
    """
    if temperatures < 1:
        raise ValueError(f"annealing needs at least 1 temperature, got {temperatures}")
    sigmoid = torch.linspace(-4, 4, temperatures + 1, dtype=torch.float64).sigmoid()
    return (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])


@torch.no_grad()
def ais(
    log_joint: LogJoint,
    start: Normal,
    generator: Generator | None = None,
    *,
    chains: int = 16,
    temperatures: int = 200,
) -> Evidence:
    """Estimate log p(x) of each data point by `chains` annealed chains (eq-metrics-ais; Neal, 2001).

    A chain's weight: log w = sum over t of (beta_t - beta_(t-1)) (log p(x, z) - log start(z)), at the z from which it moves
    to beta_t. `log_joint` gives log p(x, z) of z (chains, batch, latents), by operations that carry gradients; `start` is over
    (batch, latents). With one temperature no chain moves, and the estimate is the importance-weighted bound.
    The steps of the Hamiltonian transitions are found for each data point and temperature by chains that are then thrown
    away: so the steps do not depend on the chains that count, whose weights are unbiased exactly. Costs 11 gradients of
    log_joint a temperature, for each chain, and 8 chains more. Raises ValueError where log_joint is not finite at a draw,
    ArithmeticError where it grows infinite on the way.
    """
    path = _Path(log_joint, start)
    betas = schedule(temperatures).tolist()
    _, steps = path.anneal(path.draw(PILOT, generator), betas, generator)
    return path.anneal(path.draw(chains, generator), betas, generator, steps)[0]


@torch.no_grad()
def bdmc(
    log_joint: LogJoint,
    start: Normal,
    z: Float[Tensor, "batch latents"],
    generator: Generator | None = None,
    *,
    chains: int = 16,
    temperatures: int = 200,
) -> Sandwich:
    """AIS there and back, for data that the model made itself, x_i from z_i: log p(x) from both sides (eq-metrics-bdmc).

    z_i is then an exact draw from p(z | x_i). Chains that start there and are annealed back to `start` have weights of
    expectation 1 / p(x) (Grosse, Ghahramani and Adams, 2015). The distance of the two estimates bounds the error of each on
    average: on data like the model's, where AIS cannot be checked otherwise. Raises ValueError where z is not one code a data
    point, and where log_joint is not finite at a draw; ArithmeticError where it grows infinite on the way.
    """
    path = _Path(log_joint, start)
    betas = schedule(temperatures).tolist()
    _, steps = path.anneal(path.draw(PILOT, generator), betas, generator)
    forward, _ = path.anneal(path.draw(chains, generator), betas, generator, steps)
    ends = path.standardized(z).expand(chains, -1, -1)
    return Sandwich(forward, path.anneal(ends, betas[::-1], generator, steps[::-1])[0])


@refusing
def model_evidence(
    model,
    x: Float[Tensor, "n pixels"],
    generator: Generator | None = None,
    *,
    start: Callable[[Tensor], Normal] | None = None,
    chains: int = 16,
    temperatures: int = 200,
    decodes: int = 20_000,
) -> Evidence:
    """`ais` for a model with `prior(n)` and `decode(z)`, a VAE for instance, on images x.

    `start`: where chains begin, x -> Normal: `model.encode`; by default the prior. `decodes` bounds the codes decoded at
    once, and so the memory. Raises ValueError for no images, chains, temperatures or decodes < 1, and where log p(x, z) is not
    finite at a draw, and for pixels outside [0, 1] where they are coin flips; ArithmeticError where it grows infinite.
    Gradients are taken: not inside torch.inference_mode().
    """
    x, chains, decodes = tensor(x, "x"), whole(chains), whole(decodes)
    if decodes < 1 or chains < 1 or len(x) == 0:
        raise ValueError(f"needs images, chains and decodes, at least 1 of each; got {len(x)}, {chains} and {decodes}")
    parts = []
    for batch in x.split(max(1, decodes // chains)):
        prior = model.prior(len(batch))
        batch = batch.to(prior.mu)

        def log_joint(z: Tensor, batch: Tensor = batch, prior: Normal = prior) -> Tensor:
            return model.decode(z).log_prob(batch) + prior.log_prob(z)

        begin = start(batch) if start else prior
        parts.append(ais(log_joint, begin, generator, chains=chains, temperatures=temperatures))
    return Evidence(torch.cat([part.log_weights for part in parts], 1), torch.cat([part.acceptance for part in parts]))


class _Path:
    """The laws between start and posterior, in the coordinates u = (z - mu) / sigma in which start is N(0, I).

    There q_beta(u) is proportional to N(u; 0, I) exp(beta gap(u)), gap = log p(x, z) - log start(z): its potential is
    |u|^2 / 2 - beta gap(u), and from one beta to the next a chain collects the difference times its gap. The chains of all
    data points are rows, (chains * batch, latents).
    """

    def __init__(self, log_joint: LogJoint, start: Normal):
        if start.mu.ndim != 2 or 0 in start.mu.shape:
            raise ValueError(f"start must be a Normal over (batch, latents), one a data point; got {tuple(start.mu.shape)}")
        self.log_joint = log_joint
        start = start.detach()
        self.mu, self.sigma = start.mu, start.log_sigma.exp()
        self.volume = start.log_sigma.sum(-1) + 0.5 * log(2 * pi) * start.mu.shape[-1]

    def draw(self, chains: int, generator: Generator | None) -> Float[Tensor, "chains batch latents"]:
        """Draws from start, standardized."""
        if chains < 1:
            raise ValueError(f"annealing needs at least 1 chain, got {chains}")
        return normal((chains, *self.mu.shape), self.mu, generator, batch_axis=1)

    def standardized(self, z: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        if z.shape != self.mu.shape:
            raise ValueError(f"z must hold one code a data point, {tuple(self.mu.shape)}; got {tuple(z.shape)}")
        return (z.to(self.mu) - self.mu) / self.sigma

    def gap(self, u: Float[Tensor, "rows latents"]) -> Float[Tensor, " rows"]:
        """log p(x, z) - log start(z) in nats at z = mu + sigma u, where log start(z) = -|u|^2 / 2 - volume."""
        u = u.reshape(-1, *self.mu.shape)
        log_joint = self.log_joint(self.mu + self.sigma * u)
        if log_joint.shape != u.shape[:2]:
            wanted, got = tuple(u.shape[:2]), tuple(log_joint.shape)
            raise ValueError(f"log_joint must give one number a chain and data point, {wanted}; got {got}")
        return (log_joint + self.volume + 0.5 * (u**2).sum(-1)).flatten()

    def potential(self, beta: float, u: Float[Tensor, "rows latents"]) -> Float[Tensor, " rows"]:
        """|u|^2 / 2 - beta gap(u): minus log q_beta(u), up to a constant."""
        return 0.5 * (u**2).sum(-1) - beta * self.gap(u)

    def anneal(
        self,
        u: Float[Tensor, "chains batch latents"],
        betas: list[float],
        generator: Generator | None,
        steps: list[Tensor] | None = None,
    ) -> tuple[Evidence, list[Tensor]]:
        """Walk from u along the betas, with the steps given for each transition, (batch,) each, or with steps tuned on the way.

        Returns what the chains collected, and the steps.
        """
        chains, batch, latents = u.shape
        u, log_weights, found = u.reshape(-1, latents), u.new_zeros(chains * batch), []
        acceptance, step = u.new_zeros(batch), u.new_full((batch,), FIRST_STEP)
        for number, (before, beta) in enumerate(pairwise(betas)):
            _, gap, slope = at(self.gap, u)
            if number == 0:
                _check(gap.reshape(chains, batch))
            log_weights += (beta - before) * gap
            if number == len(betas) - 2:
                break  # the last weight is collected: nobody asks where the chains would go
            step = steps[number] if steps else step
            state = State(u, 0.5 * (u**2).sum(-1) - beta * gap, u - beta * slope)  # the potential at beta, and its gradient
            state, probability = hmc_step(
                partial(self.potential, beta), state, step.repeat(chains)[:, None], generator, leaps=LEAPS
            )
            u, accepted = state.z, probability.reshape(chains, batch).mean(0)
            acceptance += accepted / max(1, len(betas) - 2)
            found.append(step)
            step = step * (RATE * (accepted - TARGET)).exp()
        if not log_weights.isfinite().all():
            raise ArithmeticError("annealing met a point where log p(x, z) is infinite: bound the model's density there")
        return Evidence(log_weights.reshape(chains, batch), acceptance), found


def _check(gap: Float[Tensor, "chains batch"]) -> None:
    finite = gap.isfinite().all(0)
    if not finite.all():
        bad = int(finite.logical_not().nonzero()[0])
        raise ValueError(
            f"log p(x, z) is not finite at a draw from start, for data point {bad}: look for NaN in x or in the model, and for "
            "a start that reaches where the model has no density"
        )
