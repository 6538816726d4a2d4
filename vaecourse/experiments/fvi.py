"""The experiments of the chapter on f-divergences. Divergences and bounds are in nats where they are logarithms.

Fits by draws: Adam at .01 on mu and log sigma, from N(0, I); "variance" is averaged over the second half of the steps, so
that it shows the estimator's bias rather than the last step's noise.
"""

from collections.abc import Callable
from functools import partial
from math import exp, inf, log, log1p, nan, sqrt

import torch
from torch import Generator, Tensor

from vaecourse import fvi, importance, training
from vaecourse.distributions import Normal
from vaecourse.exact_models import TiltedGaussian
from vaecourse.experiments import Experiment
from vaecourse.gradients import BlackBoxVI, Estimate, Estimator, along
from vaecourse.importance import LogJoint
from vaecourse.training import TrainingDiverged

SEEDS = (0, 1, 2)
RHO = 0.9
STEP = 0.02  # of the grid: at 0.05 total variation, which has kinks, is off by 7e-4
ADAM = partial(torch.optim.Adam, lr=0.01)


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _by_name(name: str) -> fvi.Divergence:
    """A divergence by its name, powers as "power 0.5"."""
    known = {f.name: f for f in fvi.ALL}
    return known[name] if name in known else fvi.power(float(name.removeprefix("power ")))


def _fit(
    log_joint: Callable[[Tensor], LogJoint],
    dim: int,
    estimator: Estimator,
    draws: int,
    steps: int,
    seed: int,
    data: Tensor | None = None,
    batch_size: int = 1,
    log_sigma: float = 0.0,
) -> tuple[Tensor, Tensor, Normal]:
    """Train a mean-field Gaussian: mean and variance averaged over the second half of the steps, and the last q.

    log_joint: a batch -> its log p(x, z). All are NaN, and empty in the results, where the run diverged.
    """
    model = BlackBoxVI(Normal(torch.zeros(dim), torch.full((dim,), log_sigma)), log_joint, estimator, draws)
    means, variances = [], []
    data = torch.zeros(1, 1) if data is None else data
    settings = {"batch_size": batch_size, "seed": seed, "optimizer": ADAM, "device": "cpu"}
    try:
        for run in training.train(model, data, steps=steps, **settings):
            if run.step > steps // 2:
                q = model.q.detach()
                means.append(q.mu.clone())
                variances.append((2 * q.log_sigma).exp())
    except TrainingDiverged:
        lost = torch.full((dim,), nan)
        return lost, lost, Normal(lost, lost)
    return torch.stack(means).mean(0), torch.stack(variances).mean(0), model.q.detach()


# Mean field on the tilted Gaussian: the variance, exactly and by draws.


def _tilted(z: Tensor) -> Tensor:
    """log of the tilted density, less a constant."""
    return -0.5 * ((z**2).sum(-1) - 2 * RHO * z[..., 0] * z[..., 1]) / (1 - RHO**2)


def tilted_variance(estimator: str, alpha: float, draws: int, seed: int, steps: int = 2000) -> dict:
    """Mean field's variance under D_alpha by draws, beside the formula's.

    last: the variance after the last step; as variance, a mean over the two coordinates.
    """
    f = fvi.exclusive_kl if alpha == 1 else fvi.power(alpha)
    chosen = partial(fvi.score_function, f) if estimator == "score function" else partial(fvi.renyi_gradient, alpha=alpha)
    _, variance, q = _fit(lambda _: _tilted, 2, chosen, draws, steps, seed)
    return {
        "exact": fvi.mean_field_variance(alpha, RHO),
        "variance": variance.mean().item(),
        "last": (2 * q.log_sigma).exp().mean().item(),
    }


tilted = Experiment(
    tilted_variance,
    cases=[
        {"estimator": estimator, "alpha": alpha, "draws": draws, "seed": seed}
        for estimator in ("reparameterized", "score function")
        for alpha in (2.0, 1.0, 0.5, 0.2, -1.0)
        for draws in (20, 200)
        for seed in range(5)
    ],
    replay={"estimator": "reparameterized", "alpha": 0.5, "draws": 20, "seed": 0, "steps": 100},
)


# Why the estimators take f with its tilt: the same divergence without it shrinks q.


def _without_tilt(f: fvi.Divergence, q: Normal, log_joint: LogJoint, z: Tensor) -> Estimate:
    """-L_f along the draws, its scale the mean weight held fixed, and f as it is."""
    log_p, log_q = importance.log_densities(log_joint, q, z)
    return fvi.reparameterized(f, q, log_joint, z, log_scale=importance.log_mean(log_p - log_q))


def tilt_variance(divergence: str, tilt: bool, seed: int, draws: int = 100, steps: int = 2000) -> dict:
    """Mean field's variance on the tilted Gaussian by draws, with and without the tilt, beside the exact one from a grid."""
    f = _by_name(divergence)
    axis = torch.arange(-5, 5, STEP, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_p = TiltedGaussian(RHO).log_prob(z)
    wide = Normal(torch.zeros(2), torch.full((2,), -0.4))
    exact = fvi.fit_exactly(lambda q: fvi.divergence(f, q.log_prob(z), log_p, STEP**2).log(), wide)
    chosen = partial(fvi.reparameterized if tilt else _without_tilt, f)
    _, variance, q = _fit(lambda _: _tilted, 2, chosen, draws, steps, seed)
    return {
        "exact": (2 * exact.log_sigma).exp().mean().item(),
        "variance": variance.mean().item(),
        "last": (2 * q.log_sigma).exp().mean().item(),
    }


tilt = Experiment(
    tilt_variance,
    cases=[
        {"divergence": name, "tilt": tilt, "seed": seed}
        for name in ("exclusive KL", "Hellinger", "Jensen-Shannon", "total variation")
        for tilt in (True, False)
        for seed in SEEDS
    ],
    replay={"divergence": "Hellinger", "tilt": True, "seed": 0, "draws": 20, "steps": 60},
)


# The evidence from both sides: x | z ~ N(z^2, 1), z ~ N(0, 1), x = 4, whose posterior has two modes.


def _square_log_joint(z: Tensor) -> Tensor:
    return Normal.standard(z).log_prob(z) + Normal(z**2, torch.zeros_like(z)).log_prob(torch.full_like(z, 4.0))


def sandwich_bounds(q: str, seed: int, most: int = 100_000, repeats: int = 200) -> dict:
    """Bounds of log p(x) by draws from a q, beside their exact values and the evidence, by sums over a grid.

    q: "mode", the exclusive KL's, or "wide", the inclusive KL's. For each number of draws, means over the repeats; missed: the
    share of repeats whose upper bound, alpha = -1, lies below log p(x).
    """
    z = torch.arange(-9, 9, 0.005, dtype=torch.float64)[:, None]
    log_p, step = _square_log_joint(z), 0.005
    evidence = log_p.logsumexp(0).item() + log(step)
    f, at, width = (fvi.exclusive_kl, 1.9, -1.0) if q == "mode" else (fvi.inclusive_kl, 0.0, 0.3)
    start = Normal(torch.tensor([at]), torch.tensor([width]))
    best = fvi.fit_exactly(lambda q: fvi.divergence(f, q.log_prob(z), log_p - evidence, step), start)
    log_q = best.log_prob(z)
    alphas = (2.0, 1.0, 0.5, -1.0, -2.0)
    row: dict = {"evidence": evidence, "mu": best.mu.item(), "sigma": best.log_sigma.exp().item(), "draws": []}
    for alpha in alphas:
        if alpha > 1:
            exact = -inf  # the posterior's tails are lighter than any Gaussian's: E_q w^(1 - alpha) is infinite
        elif alpha == 1:
            exact = (log_q.exp() * (log_p - log_q)).sum().item() * step
        else:
            exact = (((1 - alpha) * log_p + alpha * log_q).logsumexp(0).item() + log(step)) / (1 - alpha)
        row |= {f"exact {alpha:g}": exact, f"bound {alpha:g}": []}
    posterior = (log_p - evidence).exp()
    row |= {"exact inclusive": evidence + (posterior * (log_p - evidence - log_q)).sum().item() * step}
    row |= {"bound inclusive": [], "missed": []}
    generator, draws = _generator(seed), 1
    while draws <= most:
        log_w = torch.stack([importance.log_weights(_square_log_joint, best, draws, generator) for _ in range(repeats)], 1)
        row["draws"].append(draws)
        for alpha in alphas:
            row[f"bound {alpha:g}"].append(fvi.renyi_bound(log_w, alpha=alpha).mean().item())
        row["bound inclusive"].append(fvi.inclusive_bound(log_w).mean().item())
        _, above = fvi.sandwich(log_w)
        row["missed"].append((above < evidence).double().mean().item())
        draws *= 10
    return row


sandwich = Experiment(
    sandwich_bounds,
    cases=[{"q": q, "seed": seed} for q in ("mode", "wide") for seed in SEEDS],
    replay={"q": "wide", "seed": 0, "most": 100, "repeats": 20},
)


# f-CAVI on random tables, beside a numeric minimization, and the update as it is printed for F0.


def _fixed_point(log_joint: Tensor, exponent: float, sweeps: int) -> list[Tensor]:
    """Where updates by the power mean of that exponent come to rest, from the marginals."""
    log_p = log_joint - log_joint.logsumexp((0, 1))
    log_factors = [log_p.logsumexp(1), log_p.logsumexp(0)]
    for _ in range(sweeps):
        for j in range(2):
            log_factors[j] = fvi.power_mean_update(log_joint, log_factors, j, exponent)
    return log_factors


def _minimized(objective: Callable[[Tensor], Tensor], logits: list[Tensor]) -> float:
    """The least of an objective of the table log q, over logits of its two factors, by L-BFGS from those."""
    parameters = [part.clone().requires_grad_() for part in logits]
    optimizer = torch.optim.LBFGS(parameters, max_iter=500, tolerance_grad=1e-11, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(fvi.product([part.log_softmax(0) for part in parameters]))
        value.backward()
        return value

    optimizer.step(closure)
    return closure().item()


def coordinate_descent(divergence: str, seed: int, side: int = 6, starts: int = 20, sweeps: int = 1000) -> dict:
    """D_f(q || p) reached on a random table of side x side, and by what.

    f_cavi; numeric: L-BFGS from the same start, and best_of: from that many random starts; printed_f0: the fixed point of the
    report's line for class F0, a mean by f.
    """
    f, generator = _by_name(divergence), _generator(seed)
    log_joint = 1.5 * torch.randn(side, side, generator=generator, dtype=torch.float64) - 3
    log_p = (log_joint - log_joint.logsumexp((0, 1))).flatten()

    def objective(log_q: Tensor) -> Tensor:
        return fvi.divergence(f, log_q.flatten(), log_p)

    table = log_p.reshape(side, side)
    marginals = [table.logsumexp(1), table.logsumexp(0)]
    found = fvi.f_cavi(f, log_joint, sweeps=sweeps)
    others = [torch.randn(2, side, generator=generator, dtype=torch.float64) for _ in range(starts)]
    best = min(_minimized(objective, [2 * a, 2 * b]) for a, b in others)
    return {
        "f_cavi": found.trace[-1],
        "sweeps": len(found.trace) - 1,
        "numeric": _minimized(objective, marginals),
        "best_of": best,
        "printed_f0": objective(fvi.product(_fixed_point(log_joint, f.alpha, sweeps))).item(),
        "trace": found.trace[:30],
    }


coordinate = Experiment(
    coordinate_descent,
    cases=[
        {"divergence": name, "seed": seed}
        for name in ("exclusive KL", "chi-square", "Hellinger", "power 0.3", "inclusive KL", "chi-square dual")
        for seed in range(5)
    ],
    replay={"divergence": "Hellinger", "seed": 0, "side": 3, "starts": 2, "sweeps": 100},
)


# Minibatches: the posterior of a mean from 100 points, x_n ~ N(z, 1), z ~ N(0, 100).

POINTS, PRIOR_VARIANCE = 100, 100.0


def _points(seed: int) -> Tensor:
    return 1 + torch.randn(POINTS, 1, generator=_generator(100 + seed))


def _log_prior(z: Tensor) -> Tensor:
    return -0.5 * (z**2).sum(-1) / PRIOR_VARIANCE - 0.5 * log(2 * torch.pi * PRIOR_VARIANCE)


def _log_likelihood(z: Tensor, batch: Tensor) -> Tensor:
    return -0.5 * (z - batch[:, 0]) ** 2 - 0.5 * log(2 * torch.pi)


def _factors(q: Normal, batch: Tensor, z: Tensor, *, alpha: float) -> Estimate:
    """The bound of each factor, along the draws: an estimator that is given the batch in place of its log_joint."""

    def bound(q: Normal, z: Tensor) -> Tensor:
        return fvi.factor_bound(_log_prior(z) - q.log_prob(z), _log_likelihood(z, batch), POINTS, alpha=alpha)

    return along(q, bound, z)


def _scaled_ratio(alpha: float, batch_size: int) -> float:
    """The variance, over the posterior's v, of the Gaussian that minimizes the mean of D_alpha(q || N(m, v)) over batches.

    The batches' posteriors have means m of variance (N / M - 1) v about the whole's.
    """
    spread = (POINTS / batch_size - 1) * POINTS / (POINTS - 1)
    if alpha == 1:
        return 1.0  # KL is linear in log p, so that its mean over batches is that of the whole

    def mean_divergence(q: Normal) -> Tensor:
        s = (2 * q.log_sigma[0]).exp()
        mixed = alpha + (1 - alpha) * s  # in units of v
        return 0.5 * alpha * spread / mixed + 0.5 / (1 - alpha) * (mixed.log() - (1 - alpha) * s.log())

    return fvi.fit_exactly(mean_divergence, Normal(torch.zeros(1), torch.full((1,), -0.1))).log_sigma.mul(2).exp().item()


def _factors_ratio(alpha: float, data: Tensor, variance: float) -> float:
    """The same for the bound of each factor, from all of the data, its expectations by sums over a grid of z."""
    mean, deviation = data.sum().item() * variance, sqrt(variance)
    z = mean + deviation * torch.linspace(-9, 9, 1801, dtype=torch.float64)[:, None]
    log_likelihood, log_step = _log_likelihood(z, data.double()), log(0.01 * deviation)

    def objective(q: Normal) -> Tensor:
        log_q = q.log_prob(z)
        factors = log_likelihood + (_log_prior(z) - log_q)[:, None] / POINTS
        if alpha == 1:
            return -(log_q.exp() @ factors.sum(-1)) * exp(log_step)
        return -(log_q[:, None] + (1 - alpha) * factors + log_step).logsumexp(0).sum() / (1 - alpha)

    best = fvi.fit_exactly(objective, Normal(torch.tensor([mean]), torch.tensor([log(deviation)])))
    return (2 * best.log_sigma).exp().item() / variance


def minibatch_variance(kind: str, alpha: float, batch_size: int, seed: int, draws: int = 50, steps: int = 3000) -> dict:
    """The fitted variance over the posterior's, from minibatches.

    kind: "scaled", N / M times the batch's log-likelihood in Renyi's bound, or "factors", a bound for each factor. predicted:
    without draws, where D_alpha to the batches' posteriors is least on average, or where the bounds of the factors are
    largest. shift: of the mean, in posterior standard deviations.
    """
    data, own_variance = _points(seed), 1 / (POINTS + 1 / PRIOR_VARIANCE)

    def scaled(batch: Tensor) -> LogJoint:
        return lambda z: fvi.scaled_log_joint(_log_prior(z), _log_likelihood(z, batch), POINTS)

    if kind == "scaled":
        log_joint, estimator = scaled, partial(fvi.renyi_gradient, alpha=alpha)
    else:
        log_joint, estimator = (lambda batch: batch), partial(_factors, alpha=alpha)
    mean, variance, _ = _fit(log_joint, 1, estimator, draws, steps, seed, data, batch_size, log_sigma=-2.0)
    exact = data.sum().item() * own_variance
    return {
        "variance_ratio": variance.item() / own_variance,
        "predicted": _scaled_ratio(alpha, batch_size) if kind == "scaled" else _factors_ratio(alpha, data, own_variance),
        "shift": (mean.item() - exact) / sqrt(own_variance),
    }


minibatch = Experiment(
    minibatch_variance,
    cases=[
        {"kind": kind, "alpha": alpha, "batch_size": batch_size, "seed": seed}
        for kind in ("scaled", "factors")
        for alpha in (2.0, 1.0, 0.5)
        for batch_size in (100, 50, 20)
        for seed in SEEDS
    ],
    replay={"kind": "scaled", "alpha": 0.5, "batch_size": 20, "seed": 0, "draws": 20, "steps": 80},
)


# Tail-adaptive weights beside fixed divergences, on mixtures of ten Gaussians, by dimension.

MIXTURES: dict[str, Estimator] = {
    "exclusive KL": partial(fvi.reparameterized, fvi.exclusive_kl),
    "Renyi 0.5": partial(fvi.renyi_gradient, alpha=0.5),
    "Renyi -1": partial(fvi.renyi_gradient, alpha=-1.0),
    "inclusive KL": partial(fvi.score_function, fvi.inclusive_kl),
    "tail-adaptive -1": partial(fvi.tail_adaptive_gradient, beta=-1.0),
    "tail-adaptive -0.5": partial(fvi.tail_adaptive_gradient, beta=-0.5),
}


def tail_fit(method: str, dim: int, seed: int, draws: int = 256, steps: int = 3000) -> dict:
    """A Gaussian fitted to ten equal Gaussians of sigma 1 with centers uniform in [-3, 3]^dim: its moments against theirs.

    mean_error, variance_error: root mean squares over coordinates. largest_weight: the greatest normalized importance weight
    of 10,000 draws at the end.
    """
    generator = _generator(1000 + seed)
    centers = 6 * torch.rand(10, dim, generator=generator) - 3

    def log_joint(z: Tensor) -> Tensor:
        distances = (z**2).sum(-1, keepdim=True) - 2 * z @ centers.T + (centers**2).sum(-1)
        return (-0.5 * distances).logsumexp(-1) - 0.5 * dim * log(2 * torch.pi) - log(10)

    mean, variance, q = _fit(lambda _: log_joint, dim, MIXTURES[method], draws, steps, seed, log_sigma=log1p(1.0))
    with torch.no_grad():
        log_w = importance.log_weights(log_joint, q, 10_000, generator)
    return {
        "mean_error": (mean - centers.mean(0)).square().mean().sqrt().item(),
        "variance_error": (variance - 1 - centers.var(0, correction=0)).square().mean().sqrt().item(),
        "mean_variance": variance.mean().item(),
        "exact_variance": 1 + centers.var(0, correction=0).mean().item(),
        "largest_weight": log_w.softmax(0).max().item(),
    }


tails = Experiment(
    tail_fit,
    cases=[{"method": method, "dim": dim, "seed": seed} for method in MIXTURES for dim in (2, 10, 50) for seed in SEEDS],
    replay={"method": "tail-adaptive -1", "dim": 2, "seed": 0, "draws": 50, "steps": 60},
)


# The alpha-beta divergence on a regression y = 2 x + noise with outliers.

DIALS = ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.5, 1.5), (1.0, 1.0), (2.0, -0.5), (2.0, 0.0))
SLOPE = 2.0


def _regression(seed: int, outliers: int, points: int) -> tuple[Tensor, Tensor]:
    """Points of the line with noise of sigma .3, the last few on the line of slope -1 instead."""
    generator = _generator(seed)
    x = 2 * torch.rand(points, generator=generator, dtype=torch.float64) - 1
    slope = torch.full((points,), SLOPE, dtype=torch.float64)
    slope[points - outliers :] = -1
    return x, slope * x + 0.3 * torch.randn(points, generator=generator, dtype=torch.float64)


def outlier_fit(likelihood: str, alpha: float, beta: float, seed: int, outliers: int = 8, points: int = 20) -> dict:
    """The slope's posterior N(mu, sigma^2) by the alpha-beta divergence, on a grid and by draws.

    likelihood: "normal", noise of sigma .3, or "Cauchy", of scale .3; the prior is N(0, 9). posterior: the exact posterior's
    mean and standard deviation. far: the share of the posterior's mass nearer to the outliers' slope than to the line's.
    """
    x, y = _regression(seed, outliers, points)

    def log_joint(z: Tensor) -> Tensor:
        error = (y - z * x) / 0.3
        terms = -0.5 * error**2 if likelihood == "normal" else -(error**2).log1p()
        return terms.sum(-1) - 0.5 * z[..., 0] ** 2 / 9

    z = torch.arange(-6, 8, 0.002, dtype=torch.float64)[:, None]
    log_p, step = log_joint(z), log(0.002)
    posterior = log_p.softmax(0)
    mean = (posterior * z[:, 0]).sum()
    deviation = (posterior * (z[:, 0] - mean) ** 2).sum().sqrt()
    start = Normal(mean[None], deviation.log()[None])
    q = fvi.fit_exactly(lambda q: fvi.alpha_beta_divergence(q.log_prob(z), log_p, step, alpha=alpha, beta=beta), start)
    estimator = partial(fvi.alpha_beta_gradient, alpha=alpha, beta=beta)
    by_draws, _, _ = _fit(lambda _: lambda z: log_joint(z.double()).float(), 1, estimator, 100, 1500, seed)
    return {
        "mu": q.mu.item(),
        "sigma": q.log_sigma.exp().item(),
        "slope_error": abs(q.mu.item() - SLOPE),
        "posterior": [mean.item(), deviation.item()],
        "far": posterior[z[:, 0] < 0.5].sum().item(),
        "mu_by_draws": by_draws.item(),
    }


outliers = Experiment(
    outlier_fit,
    cases=[
        {"likelihood": likelihood, "alpha": alpha, "beta": beta, "seed": seed}
        for likelihood in ("normal", "Cauchy")
        for alpha, beta in DIALS
        for seed in range(5)
    ],
    replay={"likelihood": "Cauchy", "alpha": 0.5, "beta": 1.5, "seed": 0, "points": 12},
)
