"""The experiments of the chapter on the evidence and its bound. All figures are nats, a data point unless said otherwise."""

from math import log

import torch
from torch import Generator, Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vaecourse import datasets, elbo
from vaecourse.distributions import Categorical, Normal
from vaecourse.exact_models import ConjugateGaussian, DiscreteJoint, ProbabilisticPCA
from vaecourse.experiments import Experiment
from vaecourse.importance import log_mean, log_weights

SEEDS = (0, 1, 2)


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _double(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# log p(x) = ELBO + KL, for every q on a grid, in every model whose evidence is known.

MEANS = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)
SIGMAS = (0.1, 0.3, 0.6, 1.0, 1.5)


def _torch_normal(q: Normal) -> MultivariateNormal:
    return MultivariateNormal(q.mu, torch.diag_embed((2 * q.log_sigma).exp()))


def _conjugate_gaussian(q: Normal) -> tuple[Tensor, Tensor, Tensor]:
    model, x = ConjugateGaussian(0.5), _double([0.8])
    return model.evidence(x), model.elbo(x, q), q.kl(model.posterior(x))


def _probabilistic_pca(q: Normal) -> tuple[Tensor, Tensor, Tensor]:
    model = ProbabilisticPCA(_double([1, 1], [1, 0], [0, 1], [0, 0]), _double(0.1, 0.2, 0.3, 0.4), 0.7)
    x, q = _double([1.2, -0.3, 0.9, 0.1]), Normal(q.mu.expand(-1, 2), q.log_sigma.expand(-1, 2))
    return model.evidence(x), model.elbo(x, q), kl_divergence(_torch_normal(q), model.posterior(x))


def _regression(q: Normal) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.linspace(-1, 1, 8, dtype=torch.float64)
    model = elbo.BayesianRegression(elbo.polynomial(t, 1), 0.5 + t, sigma=0.8)
    qs = [Normal(mu.expand(2), log_sigma.expand(2)) for mu, log_sigma in zip(q.mu, q.log_sigma, strict=True)]
    gaps = torch.stack([kl_divergence(_torch_normal(one), model.posterior) for one in qs])
    return model.evidence, torch.stack([model.elbo(one) for one in qs]), gaps


def _parabola(q: Normal) -> tuple[Tensor, Tensor, Tensor]:
    model, x = elbo.parabola(), _double([0.3, 1.5]).expand(len(q.mu), 2)
    log_q = model.log_q(q)
    return model.evidence(x), model.elbo(x, log_q), model.gap(x, log_q)


def _table(q: Normal) -> tuple[Tensor, Tensor, Tensor]:
    model, x = DiscreteJoint(_double([0.1, 0.25], [0.3, 0.05], [0.2, 0.1])), torch.zeros(len(q.mu), dtype=torch.long)
    categorical = Categorical(torch.cat([q.mu, q.log_sigma, torch.zeros_like(q.mu)], 1))
    return model.evidence(x), model.elbo(x, categorical), categorical.kl(model.posterior(x))


def _digits(q: Normal) -> tuple[Tensor, Tensor, Tensor]:
    digits = datasets.load("digits")
    model = elbo.digits(digits.train, digits.train_labels)
    x = datasets.binarize(digits.test[:1], _generator(0)).double().expand(len(q.mu), -1)
    slope = torch.arange(10, dtype=torch.float64) / 3
    log_q = model.log_q(Categorical(-((slope - q.mu) ** 2) * (-q.log_sigma).exp()))
    return model.evidence(x), model.elbo(x, log_q), model.gap(x, log_q)


MODELS = {
    "conjugate Gaussian": _conjugate_gaussian,
    "probabilistic PCA": _probabilistic_pca,
    "regression": _regression,
    "parabola": _parabola,
    "table": _table,
    "digits": _digits,
}


# The bound, and importance sampling with k draws.

WIDTHS = {"near the posterior": (1.15, 0.25), "the prior": (0.0, 1.0), "too narrow": (1.15, 0.08), "far": (0.0, 0.3)}


def estimate(q: str, seed: int, repeats: int = 2000) -> dict:
    """The parabola at x = (.3, 1.5): log p(x), the ELBO, and the estimate of log p(x) by k draws from q, many times over.

    `means` and `deviations` are those of the estimate over the repeats, for each k.
    """
    mu, sigma = WIDTHS[q]
    model, x = elbo.parabola(), _double([0.3, 1.5])
    exact = Normal(_double([mu]), _double([log(sigma)]))
    many = Normal(exact.mu.expand(repeats, 1), exact.log_sigma.expand(repeats, 1))
    ks, generator, means, deviations = (1, 2, 5, 10, 30, 100, 300, 1000), _generator(seed), [], []

    def log_joint(z: Tensor) -> Tensor:
        mean = torch.cat([z, z**2], -1)
        return Normal.standard(z).log_prob(z) + Normal(mean, torch.full_like(mean, log(0.5))).log_prob(x)

    for k in ks:
        estimates = log_mean(log_weights(log_joint, many, k, generator))
        means.append(estimates.mean().item())
        deviations.append(estimates.std().item())
    bound = model.elbo(x, model.log_q(exact)).item()
    return {"evidence": model.evidence(x).item(), "elbo": bound, "draws": list(ks), "means": means, "deviations": deviations}


importance = Experiment(
    estimate,
    cases=[{"q": q, "seed": seed} for q in WIDTHS for seed in SEEDS],
    replay={"q": "the prior", "seed": 0, "repeats": 50},
)


# What looks like the bound, and is none.


def compare_bounds(sigma: float, seed: int, points: int = 200) -> dict:
    """Points drawn from the parabola of that noise, each with the best Gaussian q of a grid: means over the points.

    `at_mean`: log p(x | z = mu) - KL(q || p(z)). `mixed`: log p(x | z) expected over q, less the KL of a q twice as wide.
    `printed`: E_q log p(x | z) - E_q[log q / log p]. Shares are those of points where the value exceeds log p(x).
    """
    model = elbo.parabola(sigma)
    _, x = model.sample(points, _generator(seed))
    evidence, log_joint = model.evidence(x), model.log_joint(x)
    mus = torch.linspace(-3, 3, 121, dtype=torch.float64)
    widths = torch.logspace(-1.5, 0, 31, dtype=torch.float64)
    grid = torch.cartesian_prod(mus, widths.log())
    qs = Normal(grid[:, :1], grid[:, 1:])
    log_q = model.log_q(qs)
    shares = (log_q + model.log_measure).exp()
    bounds = shares @ log_joint.T + qs.entropy()[:, None]
    best = bounds.argmax(0)
    q = qs[best]
    log_likelihood = log_joint - model.log_prior
    reconstruction = (shares[best] * log_likelihood).sum(-1)
    at_mean = Normal(torch.cat([q.mu, q.mu**2], 1), torch.full((points, 2), log(sigma)).double()).log_prob(x)
    ratios = (shares[best] * log_q[best] / model.log_prior).sum(-1)
    values = {
        "elbo": bounds.max(0).values,
        "at_mean": at_mean - q.kl_to_standard(),
        "mixed": reconstruction - Normal(q.mu, q.log_sigma + log(2)).kl_to_standard(),
        "printed": reconstruction - ratios,
    }
    row = {"evidence": evidence.mean().item()}
    for name, value in values.items():
        row |= {name: value.mean().item(), f"{name}_above": (value > evidence + 1e-9).double().mean().item()}
    return row


no_bound = Experiment(
    compare_bounds,
    cases=[{"sigma": sigma, "seed": seed} for sigma in (0.2, 0.5, 1.0) for seed in SEEDS],
    replay={"sigma": 0.5, "seed": 0, "points": 10},
)


# Regression: what an error model adds.


def fit_degrees(seed: int, degrees: int = 10, points: int = 25) -> dict:
    """Polynomials of degree 0, 1, ... on noisy points of a cubic: for each the likelihoods of all values, and the evidence.

    `train` and `test`: the log-likelihood of the fitted points and of as many new ones under the maximum-likelihood fit.
    `evidence`: with the weights integrated out, w ~ N(0, 4), and the noise's .3 known; `bound`: its ELBO at the best diagonal
    q. `predictive`: of the new points under the posterior. `inside`: their share within the fit's 95 % bands.
    """
    generator = _generator(seed)

    def data() -> tuple[Tensor, Tensor]:
        t = 2 * torch.rand(points, generator=generator, dtype=torch.float64) - 1
        noise = torch.randn(points, generator=generator, dtype=torch.float64)
        return t, 1 - 2 * t + 3 * t**3 + 0.3 * noise

    (t, x), (new_t, new_x) = data(), data()
    row: dict[str, list[float]] = {name: [] for name in ("train", "test", "evidence", "bound", "predictive", "inside")}
    for degree in range(degrees):
        features, new_features = elbo.polynomial(t, degree), elbo.polynomial(new_t, degree)
        fit = elbo.Regression.fit(features, x)
        bayes = elbo.BayesianRegression(features, x, sigma=0.3, prior_sigma=2.0)
        low, high = elbo.interval(fit.predict(new_features))
        row["train"].append(fit.log_prob(features, x).sum().item())
        row["test"].append(fit.log_prob(new_features, new_x).sum().item())
        row["evidence"].append(bayes.evidence.item())
        row["bound"].append(bayes.elbo(bayes.best_diagonal).item())
        row["predictive"].append(bayes.predict(new_features).log_prob(new_x[:, None]).sum().item())
        row["inside"].append(((new_x > low) & (new_x < high)).double().mean().item())
    best = {f"best_by_{name}": int(torch.tensor(row[name]).argmax()) for name in ("train", "test", "evidence", "predictive")}
    return {**best, **row}


regression = Experiment(fit_degrees, cases=[{"seed": seed} for seed in range(5)], replay={"seed": 0, "degrees": 4})


# The halves of digits: first choose which one, then draw.


def draw_halves(data: str, seed: int, draws: int = 2000) -> dict:
    """Left and right halves drawn for one z, and drawn apart; a pair matches where p(z | half) is greatest at the same digit.

    `information`: the mean of log p(left, right) - log p(left) - log p(right) over test images, nats an image. Tensors of seed
    0: ten images drawn either way, and each digit's pixel probabilities.
    """
    images = datasets.load(data)
    generator, side = _generator(seed), images.shape[-1]
    model = elbo.digits(images.train, images.train_labels)
    test = datasets.binarize(images.test, generator).double()
    column = torch.arange(side * images.shape[-2]) % side
    left, right = (column < side // 2).nonzero()[:, 0], (column >= side // 2).nonzero()[:, 0]

    def guesses(x: Tensor, half: Tensor) -> Tensor:
        return model.posterior(x, half).argmax(1)

    def match(x: Tensor) -> float:
        return (guesses(x, left) == guesses(x, right)).double().mean().item()

    _, together = model.sample(draws, generator)
    _, other = model.sample(draws, generator)
    apart = torch.where(column < side // 2, together, other)
    information = model.evidence(test) - model.evidence(test, left) - model.evidence(test, right)
    row = {
        "match_together": match(together),
        "match_apart": match(apart),
        "match_test": match(test),
        "accuracy": (model.posterior(test).argmax(1) == images.test_labels).double().mean().item(),
        "accuracy_left": (guesses(test, left) == images.test_labels).double().mean().item(),
        "information": information.mean().item(),
        "evidence": model.evidence(test).mean().item(),
        "evidence_apart": (model.evidence(test, left) + model.evidence(test, right)).mean().item(),
    }
    if seed == 0:
        row |= {"together": together[:10].bool(), "apart": apart[:10].bool(), "probabilities": model.likelihood.mean.float()}
    return row


halves = Experiment(
    draw_halves,
    cases=[{"data": data, "seed": seed} for data in ("digits", "mnist5k") for seed in SEEDS],
    replay={"data": "digits", "seed": 1, "draws": 200},
)
