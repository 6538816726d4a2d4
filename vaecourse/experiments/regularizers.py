"""The experiments of the chapter on other regularizers: skews of the geometric Jensen-Shannon divergence, and collapse.

The digits: scikit-learn's, 8 x 8, 1,500 to train, 297 to test. Encoder and decoder have two hidden layers of 128 tanh units;
Adam at 1e-3, batches of 100. Bounds, rates and informations are nats an image.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import log

import torch
from torch import Generator, Tensor, nn

from vaecourse import autoencoders, datasets, regularizers, training
from vaecourse.beta_vae import BetaVAE
from vaecourse.distributions import Bernoulli, Normal
from vaecourse.experiments import Experiment
from vaecourse.networks import GaussianNetwork, initial_weights, mlp
from vaecourse.regularizers import DUVAE, GeometricVAE
from vaecourse.vae import VAE, evaluate, gaussian_vae

SEEDS = (0, 1, 2)
ALPHAS = (0.0, 0.1, 0.3, 0.5, 1.0)


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _fit(model: VAE, x: Tensor, steps: int, seed: int, **settings) -> None:
    training.fit(model, x, steps=steps, seed=seed, progress=False, device="cpu", **settings)


# The skew


def train_skew(alpha: float | None, dual: bool, seed: int, steps: int = 2500, c: float = 0.02) -> dict:
    """A VAE on gray digits with 8 latents and a decoder of variance c, regularized by the divergence with that skew.

    squared_error: of reconstructions at the mean code, summed over pixels. alpha_end: where a learned skew ended (alpha None).
    """
    model = gaussian_vae(64, 8, log_sigma=0.5 * log(c), seed=seed, kind=GeometricVAE, alpha=alpha, dual=dual)
    return _trained(model, steps, seed) | {"alpha_end": float(model.alpha)}


def _trained(model: VAE, steps: int, seed: int) -> dict:
    """Trained on the gray digits: what it scores."""
    digits = datasets.load("digits")
    _fit(model, digits.train, steps, seed)
    score = evaluate(model, digits.test, 200, _generator(0))
    with torch.no_grad():
        squared_error = ((model.reconstruct(digits.test) - digits.test) ** 2).sum(-1).mean().item()
        sigma = (2 * model.encode(digits.test).log_sigma).exp().mean().sqrt().item()
    return {
        "squared_error": squared_error,
        "negative_elbo": score.negative_elbo,
        "nll": score.nll,
        "rate": score.rate,
        "active_units": score.active_units,
        "sigma": sigma,
    }


skew = Experiment(
    train_skew,
    [{"alpha": alpha, "dual": dual, "seed": seed} for dual in (False, True) for alpha in (*ALPHAS, None) for seed in SEEDS],
    {"alpha": 0.3, "dual": True, "seed": 0, "steps": 60},
)


def train_discount(beta: float, seed: int, steps: int = 2500, c: float = 0.02) -> dict:
    """The same VAE with nothing changed but the price of a nat of KL(q || p)."""
    return _trained(gaussian_vae(64, 8, log_sigma=0.5 * log(c), seed=seed, kind=BetaVAE, beta=beta), steps, seed)


discount = Experiment(
    train_discount,
    [{"beta": beta, "seed": seed} for beta in (0.1, 0.3, 0.5, 0.75) for seed in SEEDS],
    {"beta": 0.5, "seed": 0, "steps": 60},
)


class Priced(VAE):
    """A VAE that pays for its codes by the weights as printed, with which alpha = 0 is worth nothing; or by the reverse KL."""

    price: Callable[[Normal, Normal], Tensor]

    def loss(self, x: Tensor, generator: Generator | None = None) -> dict[str, Tensor]:
        """The mean distortion and price."""
        q = self.encode(x)
        distortion = -self.decode(q.sample(generator)).log_prob(x).mean()
        return {"loss": distortion + self.price(q, self.prior(len(x))).mean()}


def train_printed(price: str, alpha: float, seed: int, steps: int = 2500, c: float = 0.02) -> dict:
    """The same VAE, paying "geometric JS" or "its dual", skew alpha as printed, or alpha times "reverse KL"."""
    prices = {
        "geometric JS": partial(regularizers.geometric_js, alpha=alpha),
        "its dual": partial(regularizers.dual_geometric_js, alpha=alpha),
        "reverse KL": lambda q, p: alpha * p.kl(q),
    }
    model = gaussian_vae(64, 8, log_sigma=0.5 * log(c), seed=seed, kind=Priced)
    model.price = prices[price]
    return _trained(model, steps, seed)


printed = Experiment(
    train_printed,
    [{"price": p, "alpha": 0.1, "seed": seed} for p in ("geometric JS", "its dual", "reverse KL") for seed in SEEDS],
    {"price": "its dual", "alpha": 0.1, "seed": 1, "steps": 60},
)


# Collapse


@dataclass(frozen=True)
class InOrder(Bernoulli):
    """Coin flips in order, each told by those before it: logits + W x, W strictly lower triangular."""

    W: Tensor

    def _each(self, change: Callable[[Tensor], Tensor]) -> "InOrder":
        return replace(self, logits=change(self.logits))  # W is the same for all

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, exact: each pixel given the ones before."""
        return Bernoulli(self.logits + x @ self.W.tril(-1).T).log_prob(x)


class InOrderNetwork(nn.Module):
    """A decoder so strong that it can do without a code: each pixel is told by the code and by the pixels before it."""

    def __init__(self, net: nn.Module, pixels: int):
        super().__init__()
        self.net, self.W = net, nn.Parameter(torch.zeros(pixels, pixels))

    def forward(self, z: Tensor) -> InOrder:
        return InOrder(self.net(z), self.W)


def collapse_model(kind: str, latents: int, seed: int) -> VAE:
    """A VAE with a decoder in order: "VAE"; "batch norm", means normalized alone; "DU-VAE", and dropout on variances."""
    with initial_weights(seed):
        encoder = GaussianNetwork(mlp(64, 128, 128, 2 * latents))
        decoder = InOrderNetwork(mlp(latents, 128, 128, 64), 64)
        if kind == "VAE":
            return VAE(encoder, decoder, 64, latents)
        return DUVAE(encoder, decoder, 64, latents, gamma=0.7, keep=1.0 if kind == "batch norm" else 0.8)


def codes_used(model: VAE, digits: datasets.Dataset, draws: int = 200) -> dict:
    """What a model of binary digits scores on the test images, how many latents it uses, and what they tell of the images.

    information: I(x; z) of the n training images, at most log n. accuracy: of a linear classifier of posterior means.
    """
    train = datasets.binarize(digits.train, _generator(1))
    test = datasets.binarize(digits.test, _generator(0))
    score = evaluate(model, test, draws, _generator(0))
    with torch.no_grad():
        q, q_test = model.encode(train), model.encode(test)
    information, error = regularizers.mutual_information(q, generator=_generator(0))
    return {
        "negative_elbo": score.negative_elbo,
        "nll": score.nll,
        "rate": score.rate,
        "active_units": score.active_units,
        "information": information,
        "information_error": error,
        "accuracy": autoencoders.probe(q.mu, digits.train_labels, q_test.mu, digits.test_labels),
    }


def train_collapse(kind: str, seed: int, steps: int = 4000, latents: int = 16) -> dict:
    """That model on scikit-learn's digits, 1,500 to train: at most log 1,500 = 7.31 nats are there to tell."""
    digits = datasets.load("digits")
    model = collapse_model(kind, latents, seed)
    _fit(model, digits.train, steps, seed, transform=datasets.binarize)
    return codes_used(model, digits)


collapse = Experiment(
    train_collapse,
    [{"kind": kind, "seed": seed} for kind in ("VAE", "batch norm", "DU-VAE") for seed in SEEDS],
    {"kind": "DU-VAE", "seed": 0, "steps": 60},
)
