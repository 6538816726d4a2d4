"""The experiments of the chapter on gradients of the ELBO.

Variances are those of one draw's gradient, `gradients.variance_per_draw`, summed over all components of lambda.
Models: Bayesian logistic regression with 5 data points a weight, inputs and true weights from N(0, I); independent latents,
z_i ~ N(0, 1) and x_i | z_i ~ N(z_i, 1); a chain of coins, log p(x, z) = sum of J_i s_i s_(i+1) + b_i s_i + const, s = 2 z - 1,
J and b from N(0, 1), of which all states can be summed. The data are drawn anew for each seed.
"""

from functools import partial
from math import log

import torch
from torch import Generator, Tensor

from vaecourse import training
from vaecourse.distributions import Bernoulli, Normal
from vaecourse.experiments import Experiment
from vaecourse.gradients import (
    BlackBoxVI,
    Estimator,
    Factors,
    exact,
    logistic_regression,
    parameters,
    path,
    path_only,
    rao_blackwell,
    rao_blackwell_control_variate,
    rao_blackwell_leave_one_out,
    reinforce,
    reinforce_control_variate,
    reinforce_leave_one_out,
    reparameterized,
    variance_per_draw,
    weighted_score,
)

SEEDS = (0, 1, 2)
BY_SCORE: dict[str, Estimator] = {
    "score": reinforce,
    "score, leave one out": reinforce_leave_one_out,
    "score, control variate": reinforce_control_variate,
    "rao-blackwell": rao_blackwell,
    "rao-blackwell, leave one out": rao_blackwell_leave_one_out,
    "rao-blackwell, control variate": rao_blackwell_control_variate,
}
ESTIMATORS: dict[str, Estimator] = {**BY_SCORE, "reparameterized": reparameterized, "path only": path_only}


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def regression_data(latents: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (5 latents, latents) and labels (5 latents,) of the logistic regression."""
    generator = _generator(seed)
    x, weights = _normal(5 * latents, latents, generator=generator), _normal(latents, generator=generator)
    return x, Bernoulli(x @ weights).sample(generator)


def independent(x: Tensor) -> Factors:
    """z_i ~ N(0, 1), x_i | z_i ~ N(z_i, 1): one term a latent."""

    def terms(z: Tensor) -> Tensor:
        each = z[..., None]
        return Normal.standard(each).log_prob(each) + Normal(each, torch.zeros_like(each)).log_prob(x[:, None])

    return Factors(terms, torch.eye(len(x), dtype=torch.bool, device=x.device))


def chain(latents: int, seed: int) -> Factors:
    """Coins in a row, each coupled to its neighbors."""
    generator = _generator(seed)
    J, b = _normal(latents - 1, generator=generator), _normal(latents, generator=generator)

    def terms(z: Tensor) -> Tensor:
        s = 2 * z - 1
        return torch.cat([J * s[..., :-1] * s[..., 1:], b * s], -1)

    one = torch.eye(latents, dtype=torch.bool)
    return Factors(terms, torch.cat([one[:-1] | one[1:], one]))


def _fit(start: Normal, data: tuple[Tensor, ...], estimator: Estimator, seed: int, steps: int) -> Normal:
    model = BlackBoxVI(start, lambda batch: logistic_regression(*batch), estimator)
    optimizer = partial(torch.optim.Adam, lr=0.02)
    training.fit(
        model, data, steps=steps, batch_size=len(data[0]), seed=seed, optimizer=optimizer, device="cpu", progress=False
    )
    return model.q


# Variances, by model, place, number of latents and number of draws.


def measure(model: str, place: str, latents: int, draws: int, seed: int, repeats: int | None = None) -> dict:
    """Variance of one draw's gradient under each estimator, with `draws` draws an estimate.

    Of each estimator: the total, and "NAME, mu" the mean over latents of the variance in mu alone. place "start":
    q = N(0, e^-2 I) for the regression, N(0, I / 2), the posterior's variance, for independent latents; "optimum": the best q.
    """
    log_sigma = -1.0 if model == "regression" else -0.5 * log(2)
    q = Normal(torch.zeros(latents, dtype=torch.float64), torch.full((latents,), log_sigma, dtype=torch.float64))
    if model == "regression":
        data = regression_data(latents, seed)
        log_joint = logistic_regression(*data)
        if place == "optimum":
            q = _fit(q, data, path_only, seed, steps=1500).detach()
    else:
        generator = _generator(seed)
        x = 2**0.5 * _normal(latents, generator=generator)
        log_joint = independent(x)
        if place == "optimum":
            q = Normal(x / 2, q.log_sigma)
    repeats = repeats or max(300, 6000 // draws)
    row = {}
    for name, estimator in ESTIMATORS.items():
        variance = variance_per_draw(estimator, q, log_joint, draws, _generator(seed + 100), repeats=repeats)
        row |= {name: variance.sum().item(), f"{name}, mu": variance[:, 0].mean().item()}
    return row


variances = Experiment(
    measure,
    cases=[
        {"model": model, "place": place, "latents": latents, "draws": draws, "seed": seed}
        for model, latents, draws in (
            *(("regression", latents, 10) for latents in (2, 10, 50)),
            *(("independent", latents, 10) for latents in (10, 100, 1000)),
            *((model, latents, draws) for model, latents in (("regression", 10), ("independent", 100)) for draws in (4, 100)),
        )
        for place in ("start", "optimum")
        for seed in SEEDS
    ],
    replay={"model": "regression", "place": "start", "latents": 5, "draws": 10, "seed": 0, "repeats": 50},
)


# Discrete latents, beside the exact gradient.


def measure_discrete(latents: int, draws: int, seed: int, repeats: int = 3000) -> dict:
    """Total variance of one draw's gradient for the chain of coins, q uniform, and how far means are from the exact gradient.

    Of each estimator: its variance; and the largest error of its mean over components, in standard errors.
    """
    log_joint, q = chain(latents, seed), Bernoulli(torch.zeros(latents, dtype=torch.float64))
    right, row = exact(q, log_joint).gradient, {"squared_gradient": (exact(q, log_joint).gradient ** 2).sum().item()}
    for name, estimator in BY_SCORE.items():
        generator = _generator(seed + 100)
        estimates = estimator(q, log_joint, q.sample(generator, shape=(draws, repeats))).gradient.mean(0)
        error = (estimates.mean(0) - right) / (estimates.std(0) / repeats**0.5)
        row |= {name: draws * estimates.var(0).sum().item(), f"{name}: error": error.abs().max().item()}
    return row


discrete = Experiment(
    measure_discrete,
    cases=[{"latents": n, "draws": k, "seed": seed} for n, k in ((4, 10), (12, 4), (12, 10), (12, 50)) for seed in SEEDS],
    replay={"latents": 5, "draws": 4, "seed": 0, "repeats": 100},
)


# Where reparameterization loses.


def measure_sine(frequency: float, seed: int, draws: int = 200_000) -> dict:
    """Variance of one draw's gradient in mu of E sin(frequency z), z ~ N(mu, 1), at mu = 0 (eq-gradients-sine)."""
    q = Normal(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    z = q.sample(_generator(seed), shape=(draws,))
    value, by_path = path(q, lambda z: torch.sin(frequency * z[..., 0]), z)
    by_score = weighted_score(q, value[:, None], z)
    return {"score": by_score[:, 0, 0].var().item(), "reparameterized": by_path[:, 0, 0].var().item()}


sine = Experiment(
    measure_sine,
    cases=[{"frequency": f, "seed": seed} for f in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0) for seed in SEEDS],
    replay={"frequency": 10.0, "seed": 0, "draws": 2000},
)


# Ascent of the ELBO with each.


def climb(estimator: str, seed: int, lr: float = 0.02, steps: int = 1000, every: int = 20) -> dict:
    """Logistic regression with 10 weights by Adam, 10 draws a step, from q = N(0, e^-2 I): the ELBO after every 20th step.

    The ELBO is that of 4,000 draws, of the same noise each time.
    """
    data = regression_data(10, seed)
    log_joint = logistic_regression(*data)
    eps = _normal(4000, 10, generator=_generator(seed + 100))

    def elbo(q: Normal) -> float:
        return (log_joint(q.mu + q.log_sigma.exp() * eps).mean() + q.entropy()).item()

    start = Normal(torch.zeros(10, dtype=torch.float64), torch.full((10,), -1.0, dtype=torch.float64))
    model = BlackBoxVI(start, lambda batch: log_joint, ESTIMATORS[estimator], draws=10)
    optimizer, elbos = partial(torch.optim.Adam, lr=lr), [elbo(start)]
    settings = {"steps": steps, "batch_size": len(data[0]), "seed": seed, "optimizer": optimizer, "device": "cpu"}
    for run in training.train(model, data, **settings):
        if run.step % every == 0:
            with torch.no_grad():
                elbos.append(elbo(model.q))
    return {"elbo": elbos[-1], "elbos": elbos, "distance": (parameters(model.q) - parameters(start)).norm().item()}


ascent = Experiment(
    climb,
    cases=[{"estimator": name, "seed": seed} for name in ESTIMATORS for seed in SEEDS],
    replay={"estimator": "score, leave one out", "seed": 0, "steps": 60},
)
