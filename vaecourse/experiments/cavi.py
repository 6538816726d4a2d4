"""The experiments of the chapter on coordinate ascent. Bounds are nats for the whole data, predictive scores nats a point."""

import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from torch import Generator, Tensor

from vaecourse import cavi, datasets, samplers
from vaecourse.exact_models import TiltedGaussian
from vaecourse.experiments import Experiment

SEEDS = (0, 1, 2)


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def clusters(n: int, dim: int, k: int, seed: int, distance: float = 3.0) -> Tensor:
    """n points of k Gaussians, each with its own covariance; `distance` is the standard deviation of a center's coordinates."""
    generator = _generator(seed)
    centers = distance * torch.randn(k, dim, generator=generator, dtype=torch.float64)
    shapes = torch.randn(k, dim, dim, generator=generator, dtype=torch.float64) / dim**0.5
    label = torch.randint(k, (n,), generator=generator)
    noise = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    points = torch.empty_like(noise)
    for j in range(k):
        points[label == j] = centers[j] + noise[label == j] @ (shapes[j] + torch.eye(dim, dtype=torch.float64))
    return points


# The tilted Gaussian: what mean field gets right, what it misses, and how fast.


def meet_tilted(rho: float) -> dict:
    """Mean field on the Gaussian of correlation rho, started at (3, -2): the variance found (exact: 1), and the way there."""
    target = cavi.GaussianTarget(torch.zeros(2, dtype=torch.float64), TiltedGaussian(rho).precision)
    steps = list(cavi.ascend(target, target.start(torch.tensor([3.0, -2.0], dtype=torch.float64)), tolerance=1e-12))
    q = steps[-1].q
    return {
        "variance": q.covariance[0, 0].item(),
        "gap": abs(steps[-1].elbo),
        "sweeps": steps[-1].sweep,
        "elbos": [step.elbo for step in steps[:40]],
        "first_means": [step.q.mean[0].item() for step in steps[:40]],
        "second_means": [step.q.mean[1].item() for step in steps[:40]],
    }


tilted = Experiment(meet_tilted, cases=[{"rho": rho} for rho in (0.0, 0.5, 0.9, 0.99)], replay={"rho": 0.9})


# Mixtures, beside scikit-learn's from the same start.


class _FromResponsibilities(BayesianGaussianMixture):
    """Scikit-learn's mixture, started from given responsibilities."""

    def _initialize_parameters(self, X, random_state, xp=None):
        self._initialize(X, self.responsibilities)


def scikit_learn(x: Tensor, responsibilities: Tensor, sweeps: int, tolerance: float) -> BayesianGaussianMixture:
    """Scikit-learn's Bayesian mixture of full covariances under the book's default prior, from those responsibilities."""
    model = _FromResponsibilities(
        n_components=responsibilities.shape[1],
        weight_concentration_prior_type="dirichlet_distribution",
        reg_covar=0.0,
        tol=tolerance,
        max_iter=sweeps,
    )
    model.responsibilities = responsibilities.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x.numpy())


def _data(name: str, seed: int) -> tuple[Tensor, Tensor]:
    """Points to fit and held-out points: generated clusters, or the 8 x 8 digits in their first 8 principal coordinates."""
    if name == "clusters":
        return clusters(4000, 4, 6, seed).split([3000, 1000])
    digits = datasets.load("digits")
    train, test = digits.train.double(), digits.test.double()
    directions = torch.linalg.svd(train - train.mean(0), full_matrices=False).Vh[:8]
    return (train - train.mean(0)) @ directions.T, (test - train.mean(0)) @ directions.T


def meet_scikit_learn(data: str, seed: int, sweeps: int = 1000) -> dict:
    """A mixture of 10 from the same random responsibilities as scikit-learn's, both to a gain of 1e-6 nats a sweep."""
    x, held_out = _data(data, seed)
    noise = torch.rand(len(x), 10, generator=_generator(seed), dtype=torch.float64) ** 8
    responsibilities = noise / noise.sum(1, keepdim=True)
    model = cavi.GaussianMixture(x, 10)
    fit = cavi.fit(model, model.start_from(responsibilities), sweeps=sweeps, tolerance=1e-6, progress=False)
    theirs = scikit_learn(x, responsibilities, sweeps, 1e-6)
    constant = fit.elbos[1 : 1 + theirs.n_iter_] - torch.tensor(theirs.lower_bounds_[: fit.sweeps])
    c = fit.q.components

    def differ(mine: Tensor, other: np.ndarray) -> float:
        """The largest difference, to nine places: what is beyond is rounding."""
        return round((mine - torch.from_numpy(other)).abs().max().item(), 9)

    return {
        "elbo": fit.elbo,
        "sweeps": fit.sweeps,
        "sweeps_of_theirs": int(theirs.n_iter_),
        "means_differ": differ(c.m, theirs.means_),
        "covariances_differ": differ(c.covariances, theirs.covariances_),
        "weights_differ": differ(fit.q.weights, theirs.weights_),
        "constant": constant[0].item(),
        "constant_varies": round((constant.max() - constant.min()).item(), 6),
        "least_gain": fit.elbos.diff().min().item(),
        "in_use": int((fit.q.counts > 1).sum()),
        "predictive": fit.q.log_predictive(held_out).mean().item(),
        "elbos": fit.elbos[:: max(1, len(fit.elbos) // 60)].tolist(),
    }


mixture = Experiment(
    meet_scikit_learn,
    cases=[{"data": data, "seed": seed} for data in ("clusters", "digits") for seed in SEEDS],
    replay={"data": "clusters", "seed": 0, "sweeps": 10},
)


# Where it ends depends on where it starts.


def end_from(start: str, starts: int = 40) -> dict:
    """The ELBOs and held-out scores at which many starts end, on clusters of two dimensions fitted with as many components."""
    x, held_out = clusters(2000, 2, 6, seed=3).split([1500, 500])
    model = cavi.GaussianMixture(x, 6)
    elbos, scores, sweeps = [], [], []
    for seed in range(starts):
        generator = _generator(seed)
        if start == "spread points":
            q = model.start(generator)
        elif start == "random points":
            q = model.start_at(cavi.random_points(x, 6, generator))
        else:
            noise = torch.rand(len(x), 6, generator=generator, dtype=torch.float64)
            q = model.start_from(noise / noise.sum(1, keepdim=True))
        fit = cavi.fit(model, q, sweeps=2000, tolerance=1e-4, progress=False)
        elbos.append(fit.elbo)
        scores.append(fit.q.log_predictive(held_out).mean().item())
        sweeps.append(fit.sweeps)
    return {"best": max(elbos), "worst": min(elbos), "elbos": elbos, "predictive": scores, "sweeps": sweeps}


starts = Experiment(
    end_from,
    cases=[{"start": start} for start in ("spread points", "random points", "random responsibilities")],
    replay={"start": "spread points", "starts": 3},
)


# Against a sampler, where the posterior is known: how many draws, and how long, until it is as accurate as mean field.


def _moments_of_unknown(n: int, seed: int) -> tuple[cavi.MeanAndPrecision, Tensor]:
    """n draws of N(1, 4) under the standard prior, and the exact means and deviations of (mu, log tau)."""
    x = 1 + 2 * torch.randn(n, generator=_generator(seed), dtype=torch.float64)
    model = cavi.MeanAndPrecision(x)
    p = model.posterior
    deviation = (p.b / (p.precision_scale * (p.a - 1))).sqrt()
    log_tau = torch.digamma(p.a) - p.b.log(), torch.polygamma(1, p.a).sqrt()
    return model, torch.stack([p.m, log_tau[0], deviation, log_tau[1]])


def _error(moments: Tensor, exact: Tensor) -> Tensor:
    """The largest error of two means and two deviations, in exact deviations."""
    scale = exact[2:].repeat(2)
    return ((moments - exact) / scale).abs().max(-1).values


def race(target: str, seed: int, moves: int = 4000, warmup: int = 300, chains: int = 16) -> dict:
    """Mean field and HMC (16 chains, 5 leaps a move, step tuned) on a posterior in two dimensions that is known.

    `target`: "tilted", the Gaussian of correlation .9, or the number of points from a Gaussian of unknown mean and precision,
    in (mu, log tau). `error`: the largest error of the two means and the two deviations, in exact deviations; HMC's is that
    of all draws so far. `draws_to_equal`: after how many draws of all chains HMC's error stays below mean field's, null where
    it does not within the run.
    """
    if target == "tilted":
        tilted_gaussian = TiltedGaussian(0.9)
        exact = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
        model = cavi.GaussianTarget(exact[:2], tilted_gaussian.precision)
        fit = cavi.fit(model, model.start(torch.tensor([3.0, -2.0], dtype=torch.float64)), tolerance=1e-9, progress=False)
        found = torch.cat([fit.q.mean, fit.q.covariance.diagonal().sqrt()])

        def potential(z: Tensor) -> Tensor:
            return -tilted_gaussian.log_prob(z)
    else:
        unknown, exact = _moments_of_unknown(int(target), seed)
        fit = cavi.fit(unknown, unknown.start(), tolerance=1e-9, progress=False)
        q = fit.q
        found = torch.stack([q.m, torch.digamma(q.a) - q.b.log(), q.l**-0.5, torch.polygamma(1, q.a).sqrt()])

        def potential(z: Tensor) -> Tensor:
            return -unknown.log_joint(z[:, 0], z[:, 1].exp()) - z[:, 1]

    generator = _generator(seed + 100)
    start = exact[:2] + 2 * exact[2:] * torch.randn(chains, 2, generator=generator, dtype=torch.float64)
    began = time.perf_counter()
    _, trace = samplers.hmc(potential, start, 0.5 * exact[2:].min().item(), moves, generator, leaps=5, warmup=warmup)
    a_move = (time.perf_counter() - began) / (warmup + moves)
    draws = torch.arange(1, moves + 1, dtype=torch.float64)[:, None]
    means, squares = (values.mean(1).cumsum(0) / draws for values in (trace.z - exact[:2], (trace.z - exact[:2]) ** 2))
    errors = _error(torch.cat([means + exact[:2], (squares - means**2).sqrt()], 1), exact)
    error = _error(found, exact).item()
    above = (errors >= error).nonzero()
    first = int(above[-1]) + 2 if len(above) else 1
    marks = sorted({round(1.3**power) for power in range(40) if 1.3**power <= moves} | {moves})
    return {
        "error": error,
        "error_of_means": _error(torch.cat([found[:2], exact[2:]]), exact).item(),
        "sweeps": fit.sweeps,
        "sampler_error": errors[-1].item(),
        "effective_share": trace.ess.min().item() / (moves * chains),
        "draws_to_equal": first * chains if first <= moves else None,
        "draws": [mark * chains for mark in marks],
        "errors": [errors[mark - 1].item() for mark in marks],
        "cavi_seconds": fit.seconds,
        "seconds_a_move": a_move,
        "seconds_to_equal": a_move * (warmup + first) if first <= moves else None,
    }


sampler = Experiment(
    race,
    cases=[{"target": target, "seed": seed} for target in ("tilted", "10", "100", "1000") for seed in SEEDS],
    replay={"target": "10", "seed": 0, "moves": 40, "warmup": 20},
)


# Minibatches: a large mixture before the first sweep would be done.


def run_minibatches(n: int, kappa: float, seed: int, passes: int = 5, batch_size: int = 1000) -> dict:
    """Stochastic and whole-data ascent from one start on n points of 10 clusters in 8 dimensions, `passes` over the data each.

    ELBOs are exact, nats a point, read outside the time that is kept; `best` is where sweeps to 1e-6 n nats a sweep end.
    """
    x = clusters(n, 8, 10, seed, distance=1.5)
    model = cavi.GaussianMixture(x, 10)
    generator = _generator(seed)
    start = model.start_at(cavi.spread_points(x[:2000], 10, generator))
    steps = passes * n // batch_size
    marks = sorted({max(1, round(steps * share)) for share in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)})
    elbos, seconds, spent, began = [], [], 0.0, time.perf_counter()
    for step in cavi.stochastic(model, start, steps, batch_size, generator, tau=1.0, kappa=kappa):
        if step.step in marks:
            spent += time.perf_counter() - began
            elbos.append(model.elbo(model.assign(step.q)).item() / n)
            seconds.append(spent)
            began = time.perf_counter()
    whole, whole_seconds, began = [], [], time.perf_counter()
    for step in cavi.ascend(model, start, sweeps=300, tolerance=1e-6 * n):
        whole.append(step.elbo / n)
        whole_seconds.append(time.perf_counter() - began)
    return {
        "start": whole[0],
        "stochastic": elbos[-1],
        "best": whole[-1],
        "sweeps": len(whole) - 1,
        "passes": [mark * batch_size / n for mark in marks],
        "stochastic_elbos": elbos,
        "sweep_elbos": whole,
        "stochastic_seconds": seconds,
        "sweep_seconds": whole_seconds,
    }


minibatches = Experiment(
    run_minibatches,
    cases=[{"n": n, "kappa": kappa, "seed": seed} for n in (100_000, 1_000_000) for kappa in (0.6, 0.9) for seed in SEEDS],
    replay={"n": 3000, "kappa": 0.6, "seed": 0, "passes": 2, "batch_size": 200},
)
