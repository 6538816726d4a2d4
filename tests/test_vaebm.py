"""Energy-based models where Z is known, by quadrature in one and two dimensions; chains, spectral norms, scores.

An estimator is held unbiased if its mean lies within 3.9 standard errors of the exact value: a right one fails for one seed
in 10,000, and the seeds are fixed. This file is also the script that two processes run.
"""

import subprocess
import sys
from functools import partial
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.integrate import trapezoid
from torch import Tensor, nn

from helpers import assert_mean_is, double, generator, needs_cuda
from vaecourse import processes, samplers, training
from vaecourse.distributions import Normal
from vaecourse.networks import GaussianNetwork
from vaecourse.samplers import SamplerDiverged
from vaecourse.training import TrainingDiverged
from vaecourse.vae import VAE, bernoulli_vae, gaussian_vae
from vaecourse.vaebm import (
    EBM,
    NCSN,
    VAEBM,
    Chains,
    EnergyNetwork,
    GeneratorStep,
    count_calls,
    energy_conv,
    energy_mlp,
    geometric_levels,
    score_mlp,
)

fit = partial(training.fit, progress=False, device="cpu")


# A VAE of one pixel and one latent, x | z ~ N(sin z + z, exp(z - 1)), and an energy a x^2 + b x


class Bent(nn.Module):
    """mu = z + sin z, sigma = exp((z - 1) / 2): neither is the same for all z."""

    def __init__(self, slope: float = 0.5, flat: float = 1.0):
        super().__init__()
        self.slope, self.flat = nn.Parameter(double(slope)[0]), nn.Parameter(double(flat)[0])

    def forward(self, z: Tensor) -> Normal:
        return Normal(self.flat * (z + z.sin()), self.slope * (z - 1))


class Square(nn.Module):
    """a x^2 + b x, as a network with one output."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = nn.Parameter(double(a)), nn.Parameter(double(b))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x**2 + self.b * x


def square(a: float, b: float) -> EnergyNetwork:
    return EnergyNetwork(nn.Sequential(Square(a, b)))


def bent_vae(slope: float = 0.5, flat: float = 1.0) -> VAE:
    encoder = GaussianNetwork(nn.Linear(1, 2)).double()
    with torch.no_grad():  # q(z | x) = N(x / 2, exp(-.6)^2)
        encoder.net.weight.copy_(double([0.5], [0.0]))
        encoder.net.bias.copy_(double(0.0, -0.6))
    return VAE(encoder, Bent(slope, flat), pixels=1, latents=1)


def bent(a: float = 0.3, b: float = -0.4, slope: float = 0.5, flat: float = 1.0, **settings) -> VAEBM:
    return VAEBM(bent_vae(slope, flat), square(a, b), Chains(64, 2, 0.05).double(), **settings).eval()


class World:
    """The same model in numpy: h(x, z) on a grid in x and z, normalized."""

    def __init__(self, a: float = 0.3, b: float = -0.4, slope: float = 0.5):
        self.z, self.x = np.linspace(-6, 6, 241), np.linspace(-30, 50, 8001)
        z = self.z[:, None]
        vae = stats.norm.pdf(z) * stats.norm.pdf(self.x, z + np.sin(z), np.exp(slope * (z - 1)))
        unnormalized = vae * np.exp(-(a * self.x**2 + b * self.x))
        self.log_Z = np.log(self.integral(unnormalized))
        self.h = unnormalized / np.exp(self.log_Z)

    def integral(self, f: np.ndarray) -> float:
        return trapezoid(trapezoid(f, self.x, axis=1), self.z)

    def mean(self, f) -> float:
        return self.integral(self.h * f(self.x, self.z[:, None]))


MOMENTS = {
    "x": lambda x, z: x + 0 * z,
    "z": lambda x, z: z + 0 * x,
    "xx": lambda x, z: x**2 + 0 * z,
    "zz": lambda x, z: z**2 + 0 * x,
    "xz": lambda x, z: x * z,
}


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def grid(first: np.ndarray, second: np.ndarray) -> Tensor:
    return torch.cartesian_prod(torch.from_numpy(first), torch.from_numpy(second))


def expectations(potential, points: Tensor, to_xz) -> dict[str, float]:
    """Means under exp(-potential), by sums over an even grid."""
    with torch.no_grad():
        weights = (-potential(points)).softmax(0)
        x, z = to_xz(points)
    return {name: (weights * f(x, z)).sum().item() for name, f in MOMENTS.items()}


@pytest.mark.equation("eq-vaebm-eps-potential", oracle="quadrature in x and z")
@pytest.mark.equation("eq-vaebm-transform", oracle="quadrature in x and z")
def test_the_potential_in_the_noise_is_the_joint_density_of_vae_and_energy(world):
    model = bent()
    eps = grid(np.linspace(-6, 6, 401), np.linspace(-6, 6, 401))
    ours = expectations(model.potential, eps, lambda e: (model.transform(e)[:, 0], e[:, 1]))
    assert ours == pytest.approx({name: world.mean(f) for name, f in MOMENTS.items()}, abs=1e-4)


@pytest.mark.equation("eq-vaebm-data-potential", oracle="quadrature, and scipy")
@pytest.mark.equation("eq-vaebm-joint", oracle="quadrature, and scipy")
def test_the_potential_in_data_space_is_minus_the_log_of_the_joint_density(world):
    model, xz = bent(), double([0.3, -1.2], [2.0, 0.4], [-1.0, 1.5])
    x, z = xz.numpy().T
    exact = 0.3 * x**2 - 0.4 * x - stats.norm.logpdf(z) - stats.norm.logpdf(x, z + np.sin(z), np.exp((z - 1) / 2))
    assert np.allclose(model.data_potential(xz).detach(), exact, atol=1e-12)
    rows = grid(np.linspace(-12, 20, 1601), np.linspace(-6, 6, 301))
    ours = expectations(model.data_potential, rows, lambda r: (r[:, 0], r[:, 1]))
    assert ours == pytest.approx({name: world.mean(f) for name, f in MOMENTS.items()}, abs=1e-4)


@pytest.mark.equation("eq-vaebm-joint", oracle="quadrature")
def test_vae_times_energy_is_no_density_until_it_is_divided_by_its_integral(world):
    assert abs(world.log_Z) > 0.2, "the source leaves the normalizer out"
    assert world.integral(world.h) == pytest.approx(1, abs=1e-9)
    assert world.log_Z == pytest.approx(np.log(world.integral(World(0, 0).h * np.exp(-0.3 * world.x**2 + 0.4 * world.x))))


@pytest.mark.equation("eq-vaebm-normalizer", oracle="quadrature")
def test_the_normalizer_is_the_mean_of_the_vaes_exponentiated_energies(world):
    model = bent()
    ratios = torch.stack([model.log_normalizer(1000, generator(seed)) for seed in range(100)]).exp()
    assert_mean_is(ratios, np.exp(world.log_Z))
    assert model.log_normalizer(100_000, generator(1)).item() == pytest.approx(world.log_Z, abs=0.02)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        model.log_normalizer(0)


@pytest.mark.equation("eq-vaebm-normalizer", oracle="independent code: scipy's logsumexp, under a replayed seed")
@pytest.mark.parametrize("draws", [1, 6])
@pytest.mark.parametrize("training, a", [(True, 0.3), (False, 1.1)])
def test_the_normalizer_is_that_of_the_energy_in_training_and_of_its_average_after_it(draws, training, a):
    model = EBM(square(0.3, -0.4), 1, Chains(8, 1, 0.0).double(), spread=2.0).train(training)
    model.average.net[0].a.fill_(1.1)
    x = 2 * torch.randn(draws, 1, generator=generator(3), dtype=torch.float64).numpy()
    exact = special.logsumexp(-(a * x**2 - 0.4 * x)) - np.log(draws)
    assert model.log_normalizer(draws, generator(3)).item() == pytest.approx(exact, abs=1e-12)


@pytest.mark.equation("eq-vaebm-bound", oracle="derivation by hand: all but the energy is the same")
@pytest.mark.equation("eq-vaebm-data-potential", oracle="derivation by hand: all but the energy is the same")
def test_the_joint_density_and_its_bound_are_those_of_the_energy_in_training_and_of_its_average_after_it():
    model, xz, log_Z = bent(0.3), double([0.3, -1.2], [2.0, 0.4], [-1.0, 1.5]), double(0.2)[0]
    model.average.net[0].a.fill_(1.1)
    x = xz[:, :1]
    state = torch.random.get_rng_state()
    bounds = [model.train(mode).bound(x, log_Z, generator(1)) for mode in (True, False)]
    potentials = [model.train(mode).data_potential(xz) for mode in (True, False)]
    assert torch.allclose(bounds[0] - bounds[1], 0.8 * x[:, 0] ** 2, atol=1e-12), "the same draw of z, and another energy"
    assert torch.allclose(potentials[1] - potentials[0], 0.8 * x[:, 0] ** 2, atol=1e-12)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.equation("eq-vaebm-bound", oracle="quadrature")
@pytest.mark.parametrize("x", [-1.0, 0.5, 2.0])
def test_the_bound_misses_the_log_likelihood_by_the_kl_from_q_to_the_vaes_posterior(world, x):
    def joint(z):
        return stats.norm.logpdf(z) + stats.norm.logpdf(x, z + np.sin(z), np.exp((z - 1) / 2))

    vae = trapezoid(np.exp(joint(world.z)), world.z)
    q = stats.norm(x / 2, np.exp(-0.6))
    gap = trapezoid(q.pdf(world.z) * (q.logpdf(world.z) - joint(world.z) + np.log(vae)), world.z)
    exact = np.log(trapezoid(world.h[:, np.searchsorted(world.x, x)], world.z))
    bounds = bent().bound(double(x).expand(100_000, 1), double(world.log_Z)[0], generator(1))
    assert gap > 0.01 and np.log(vae) - (0.3 * x**2 - 0.4 * x) - world.log_Z == pytest.approx(exact, abs=1e-6)
    assert_mean_is(bounds, exact - gap)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4))
def test_the_inverse_finds_the_noise_that_made_a_point(seed, pixels, latents):
    vae = gaussian_vae(pixels, latents, hidden=(5,), log_sigma=None, seed=seed).double()
    model = VAEBM(vae, energy_mlp(pixels, (4,)).double(), Chains(8, pixels + latents, 0.0).double())
    eps = model.noise(8, generator(seed))
    assert torch.allclose(model.inverse(model.transform(eps), model.split(eps)[1]), eps, atol=1e-10)


@pytest.mark.equation("eq-vaebm-eps-potential", oracle="quadrature in x and z")
@pytest.mark.slow
def test_chains_in_the_noise_and_in_data_space_both_find_the_joint_density(world):
    model = bent()
    mean, square = (world.mean(MOMENTS[name]) for name in ("x", "xx"))
    joint = model.sample(20_000, generator(1), steps=300, step=0.03)
    assert_mean_is(joint, mean, bias=0.01)
    assert_mean_is(joint**2, square, bias=0.02)
    even = World(slope=0.1)  # where sigma(z) is small, steps in data space have to be, too
    data = bent(slope=0.1).sample_in_data_space(5000, generator(2), steps=300, step=0.06)
    assert_mean_is(data, even.mean(MOMENTS["x"]), bias=0.01)
    assert_mean_is(data**2, even.mean(MOMENTS["xx"]), bias=0.02)


# Mistakes with Langevin dynamics


@pytest.mark.equation("eq-vaebm-eps-potential", oracle="closed form of a Gaussian")
@pytest.mark.slow
def test_the_data_space_energy_used_for_the_noise_shifts_its_mean_by_half_a_deviation():
    """log sigma(z) = z / 2 + const. and no energy: eps_z is N(0, 1), and log sigma taken once too often makes it N(-.5, 1)."""
    model = bent(0.0, 0.0)

    def wrong(eps: Tensor) -> Tensor:
        return model.data_potential(torch.cat([model.transform(eps), eps[:, 1:]], dim=1))

    eps = grid(np.linspace(-8, 8, 401), np.linspace(-8, 8, 401))
    means = [expectations(u, eps, lambda e: (e[:, 0], e[:, 1]))["z"] for u in (model.potential, wrong)]
    assert means == pytest.approx([0, -0.5], abs=1e-9)
    for potential, exact in ((model.potential, 0.0), (wrong, -0.5)):
        chains, _ = samplers.langevin(
            potential, model.noise(20_000, generator(1)), step=0.1, steps=150, every=150, generator=generator(2)
        )
        assert_mean_is(chains[:, 1], exact)


def stationary_variance(move, steps: int) -> float:
    """Of 4,160 chains that start at the variance found there (a start of 1 would take long to grow to 65)."""
    z = sqrt(65.0) * torch.randn(4160, 1, generator=generator(3), dtype=torch.float64)
    noise = generator(4)
    for _ in range(steps):
        z = move(z, torch.randn(z.shape, generator=noise, dtype=torch.float64))
    return z.var().item()


@pytest.mark.equation("eq-vaebm-eps-potential", oracle="closed form of the recursion's variance")
@pytest.mark.slow
def test_langevin_has_variance_one_only_with_half_the_step_and_the_root_of_it_and_an_energy_for_each_chain():
    model, h = EBM(energy_mlp(1, (4,)).double(), 1, Chains(8, 1, 0.0).double()).eval(), 0.1

    def gradient(z: Tensor, reduce=torch.sum) -> Tensor:
        z = z.requires_grad_()
        return torch.autograd.grad(reduce(model.potential(z)), z)[0].detach()

    def averaged(z: Tensor, noise: Tensor) -> Tensor:  # batches of 65 chains, each with the mean of its energies
        slopes = torch.cat([gradient(part.detach(), torch.mean) for part in z.split(65)])
        return z - h / 2 * slopes + sqrt(h) * noise

    spread = 3.9 * sqrt(2 / 4160)
    moves = {
        "right": (lambda z, noise: z - h / 2 * gradient(z.detach()) + sqrt(h) * noise, 1 / (1 - h / 4), 150),
        "whole step": (lambda z, noise: z - h * gradient(z.detach()) + sqrt(h) * noise, 1 / (2 - h), 150),
        "step for its root": (lambda z, noise: z - h / 2 * gradient(z.detach()) + h * noise, h / (1 - h / 4), 150),
        "no noise": (lambda z, noise: z - h / 2 * gradient(z.detach()), 0.0, 300),
        "averaged energies": (averaged, 65 / (1 - h / 4 / 65), 50),
    }
    for move, variance, steps in moves.values():
        assert stationary_variance(move, steps) == pytest.approx(variance, rel=spread, abs=1e-4)
    right = model.sample(4160, generator(5), steps=150, step=h)
    assert right.var().item() == pytest.approx(1 / (1 - h / 4), rel=spread)


# Training: the gradient in two phases


def quantiles(density: np.ndarray, x: np.ndarray, n: int) -> Tensor:
    """n points with equal shares of the density between them: means over them are integrals, nearly."""
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(x)
    below = np.concatenate([[0], steps.cumsum()])
    return torch.from_numpy(np.interp((np.arange(n) + 0.5) / n * below[-1], below, x))[:, None]


@pytest.mark.equation("eq-vaebm-phases", oracle="finite differences of the exact log-likelihood")
@pytest.mark.parametrize("kind", ["plain", "vae"])
def test_data_less_model_is_the_gradient_of_the_exact_likelihood(kind, world):
    energy = energy_mlp(1, (5,), seed=3).double()
    with torch.no_grad():
        energy.net[-1].weight.copy_(double([0.8, -0.5, 0.3, 1.0, -0.7]))
    if kind == "plain":
        model = EBM(energy, 1, Chains(4, 1, 0.0).double(), spread=2.0)
        x = np.linspace(-16, 16, 8001)
        base = stats.norm.pdf(x, scale=2.0)
    else:
        model = VAEBM(bent_vae(), energy, Chains(4, 2, 0.0).double())
        x = world.x
        base = trapezoid(World(0, 0).h, world.z, axis=0)
    data = double([-1.0], [0.5], [2.0])

    def exact() -> tuple[float, np.ndarray]:
        """-log p(data), and the model's density on the grid."""
        with torch.no_grad():
            tilted = base * np.exp(-model.energy(torch.from_numpy(x)[:, None]).numpy())
            at_data = model.energy(data).mean().item()
        return at_data + np.log(trapezoid(tilted, x)), tilted

    negatives = quantiles(exact()[1], x, 40_000)
    gap = model.contrast(data, negatives)["gap"]
    weights = list(energy.net.parameters())
    for weight, ours in zip(weights, torch.autograd.grad(gap, weights), strict=True):
        for index in np.ndindex(*weight.shape):
            values = []
            for shift in (1e-4, -1e-4):
                with torch.no_grad():
                    weight[index] += shift
                values.append(exact()[0])
                with torch.no_grad():
                    weight[index] -= shift
            assert ours[index].item() == pytest.approx((values[0] - values[1]) / 2e-4, abs=2e-4)


@pytest.mark.equation("eq-vaebm-loss", oracle="independent code: numpy, at given points")
def test_the_loss_is_the_gap_and_the_two_penalties():
    model = EBM(energy_mlp(2, (6,), seed=1), 2, Chains(8, 2, 0.0), magnitude=0.3, spectral=0.05)
    with torch.no_grad():
        model.energy.net[-1].weight.normal_(generator=generator(1))
        model.energy.spectral_norms(200)
    x, negatives = torch.randn(5, 2, generator=generator(2)), torch.randn(7, 2, generator=generator(3))
    parts = {name: value.item() for name, value in model.contrast(x, negatives).items()}
    positive, negative = (model.energy(points).detach().numpy() for points in (x, negatives))
    norms = sum(np.linalg.svd(weight.detach().numpy())[1][0] for weight in model.energy.weights)
    gap, size = positive.mean() - negative.mean(), (positive**2).mean() + (negative**2).mean()
    assert parts == pytest.approx({"loss": gap + 0.3 * size + 0.05 * norms, "gap": gap, "size": size, "norms": norms}, rel=1e-4)


@pytest.mark.equation("eq-vaebm-ebm", oracle="closed form for Gaussians")
@pytest.mark.equation("eq-vaebm-phases", oracle="closed form for Gaussians")
@pytest.mark.slow
def test_training_finds_the_energy_that_turns_one_gaussian_into_another():
    """N(0, 2^2) exp(-a x^2 - b x) is N(m, v) for 1/v = 1/4 + 2a and m = -b v: here a = 3/8 and b = -1 for N(1, 1)."""
    x = stats.norm(1, 1).ppf((np.arange(2000) + 0.5) / 2000)
    model = EBM(square(0.0, 0.0), 1, Chains(256, 1, 0.05).double(), steps=8, step=0.1, spread=2.0, decay=0.98)
    optimizer = partial(torch.optim.Adam, lr=0.01, betas=(0.5, 0.99))
    fit(model, torch.from_numpy(x)[:, None], steps=400, batch_size=128, optimizer=optimizer)
    learned = model.average.net[0]
    assert learned.a.item() == pytest.approx(3 / 8, abs=0.06)
    assert learned.b.item() == pytest.approx(-1, abs=0.12)
    samples = model.sample(10_000, generator(1), steps=200)
    assert samples.mean().item() == pytest.approx(1, abs=0.1) and samples.std().item() == pytest.approx(1, abs=0.1)


def test_training_leaves_the_vae_as_it_was_and_moves_the_energy():
    vae = gaussian_vae(2, 2, hidden=(8,))
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    model = VAEBM(vae, energy_mlp(2, (8,)), Chains(16, 4, 0.1), steps=3)
    fit(model, torch.randn(50, 2, generator=generator(1)), steps=5, batch_size=8)
    for state in (vae.state_dict(), model.vae.state_dict()):
        assert all(torch.equal(state[name], value) for name, value in before.items())
    assert model.energy.net[-1].weight.abs().sum() > 0
    assert not any(weight.requires_grad for weight in (*model.vae.parameters(), *model.average.parameters()))


def test_the_frozen_vaes_batch_statistics_do_not_move():
    vae = gaussian_vae(2, 2, hidden=(8,))
    vae.decoder.net.insert(1, nn.BatchNorm1d(8))
    model = VAEBM(vae, energy_mlp(2, (8,)), Chains(16, 4, 0.1), steps=3)
    fit(model, POINTS, steps=3, batch_size=8)
    fit(stage := GeneratorStep(model), POINTS, steps=3, batch_size=8)
    for frozen in (model.vae, stage.model.vae):
        assert frozen.decoder.net[1].num_batches_tracked == 0
    assert not model.training and model.train().energy.training


@pytest.mark.equation("eq-vaebm-average", oracle="independent code: a weighted sum of the weights' history")
def test_the_averaged_energy_weighs_past_weights_by_powers_of_the_decay():
    model = EBM(energy_mlp(1, (3,)), 1, Chains(8, 1, 0.0), steps=1, decay=0.8)
    history = [model.energy.net[0].weight.detach().clone()]
    for _ in training.train(model, torch.randn(20, 1, generator=generator(1)), steps=6, batch_size=4, device="cpu"):
        history.append(model.energy.net[0].weight.detach().clone())
    weighted = 0.8**6 * history[0] + sum(0.2 * 0.8 ** (6 - t) * history[t] for t in range(1, 7))
    assert torch.allclose(model.average.net[0].weight, weighted, atol=1e-7)


def test_chains_follow_the_energy_in_training_and_its_average_after_it():
    model = EBM(energy_mlp(1, (3,)), 1, Chains(8, 1, 0.0))
    with torch.no_grad():
        model.energy.net[-1].bias.fill_(2.0)
    zero = torch.zeros(4, 1)
    assert torch.equal(model.train().potential(zero), torch.full((4,), 2.0))
    assert torch.equal(model.eval().potential(zero), torch.zeros(4))


# Spectral norms


@pytest.mark.equation("eq-vaebm-power-iteration", oracle="another library: torch.linalg")
def test_power_iteration_finds_each_layers_largest_singular_value_and_its_gradient():
    net = nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 1)
    )
    energy = EnergyNetwork(net).double()
    norms = energy.spectral_norms(500)
    exact = torch.stack([torch.linalg.matrix_norm(weight.flatten(1), 2) for weight in energy.weights])
    assert len(norms) == 3 and torch.allclose(norms, exact, atol=1e-8)
    for ours, theirs in zip(
        torch.autograd.grad(norms.sum(), energy.weights), torch.autograd.grad(exact.sum(), energy.weights), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.equation("eq-vaebm-power-iteration", oracle="another library: torch.linalg")
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 8))
def test_power_iteration_never_overstates_and_goes_on_where_it_stopped(seed, inputs, outputs):
    energy = EnergyNetwork(nn.Sequential(nn.Linear(inputs, outputs), nn.Linear(outputs, 1))).double()
    with torch.no_grad():
        energy.weights[0].normal_(generator=generator(seed))
    exact, estimates = torch.linalg.matrix_norm(energy.weights[0], 2), []
    for _ in range(4):
        estimates.append(energy.spectral_norms()[0].item())
    assert all(low <= high + 1e-9 for low, high in zip(estimates, [*estimates[1:], exact.item()], strict=True))


def test_singular_vectors_are_kept_in_checkpoints_and_weights_are_not_kept_twice():
    energy = energy_mlp(2, (4, 3))
    assert [name for name in energy.state_dict() if "singular" in name] == [f"singular_{i}" for i in range(3)]
    assert len(list(energy.parameters())) == 6


def test_an_energy_of_images_starts_at_zero_and_adds_what_places_say_to_what_the_whole_says():
    energy, x = energy_conv((1, 12, 8), width=4, seed=3), torch.rand(5, 96, generator=generator(1))
    assert energy(x).tolist() == [0.0] * 5 and len(energy.spectral_norms()) == 7
    net = energy.net
    with torch.no_grad():
        for last in (net.places[-1], net.whole[-1]):
            last.weight.normal_(generator=generator(2))
    seen = net.first((2 * x - 1).unflatten(-1, (1, 12, 8)))
    assert seen.shape == (5, 4, 6, 4)
    places = sum(net.places(seen)[:, 0, row, column] for row in range(6) for column in range(4))
    assert torch.allclose(energy(x), places + net.whole(seen)[:, 0], atol=1e-5)
    again = energy_conv((1, 12, 8), width=4, seed=3)
    assert torch.equal(again.net.first[0].weight, net.first[0].weight)
    with pytest.raises(ValueError, match="multiples of 4, to be halved twice; images are 12 x 10"):
        energy_conv((1, 12, 10))


@pytest.mark.slow
def test_the_spectral_penalty_keeps_the_layers_small():
    x = torch.randn(200, 2, generator=generator(1)) * 0.3
    norms = []
    for spectral in (0.0, 0.3):
        model = EBM(energy_mlp(2, (16,)), 2, Chains(64, 2, 0.05), steps=5, spectral=spectral)
        norms.append(fit(model, x, steps=100, batch_size=32, optimizer=partial(torch.optim.Adam, lr=5e-3))["norms"][-1])
    assert norms[1] < 0.6 * norms[0]


# Chains


def test_chains_are_a_queue_whose_front_moves_to_the_end():
    chains = Chains(6, 1, restart=0.0)
    start = chains.states.clone()
    taken = chains.take(2, generator())
    assert torch.equal(taken, start[:2])
    chains.put(taken + 10)
    assert torch.equal(chains.states, torch.cat([start[2:], start[:2] + 10]))
    for _ in range(2):
        chains.put(chains.take(2, generator()))
    assert torch.equal(chains.states, torch.cat([start[:2] + 10, start[2:]])), "each chain has had its turn"


@pytest.mark.equation("eq-vaebm-restart", oracle="simulation: a binomial share")
def test_the_stated_share_of_chains_starts_afresh():
    chains = Chains(40_000, 2, restart=0.3)
    chains.states.fill_(7.0)
    taken = chains.take(40_000, generator(1))
    fresh = (taken != 7.0).all(1)
    assert ((taken != 7.0).any(1) == fresh).all(), "a chain starts afresh as a whole"
    assert_mean_is(fresh.double(), 0.3)
    assert_mean_is(taken[fresh], 0.0)
    assert_mean_is(taken[fresh] ** 2, 1.0)


@pytest.mark.parametrize("restart, same", [(0.0, 1.0), (1.0, 0.0)])
def test_chains_persist_at_restart_zero_and_are_all_short_at_one(restart, same):
    chains = Chains(50, 2, restart)
    assert (chains.take(50, generator(1)) == chains.states).double().mean() == same


def test_at_restart_zero_no_draw_restarts_a_chain():
    chains = Chains(5000, 1, 0.0).bfloat16()  # in which one draw in 256 is exactly zero
    assert torch.rand(5000, generator=generator(1), dtype=torch.bfloat16).min() == 0
    assert torch.equal(chains.take(5000, generator(1)), chains.states)


def test_negatives_are_langevin_steps_from_the_chains_and_go_back_to_them():
    model = bent(steps=3, step=0.02).train()
    start = model.chains.states.clone()
    model.chains.restart = 0.0
    noise = generator(5)
    torch.rand(8, 1, generator=noise, dtype=torch.float64)
    torch.randn(8, 2, generator=noise, dtype=torch.float64)
    eps = start[:8].numpy()
    for _ in range(3):
        x = eps[:, 1] + np.sin(eps[:, 1]) + np.exp((eps[:, 1] - 1) / 2) * eps[:, 0]
        slope = 0.6 * x - 0.4
        sigma = np.exp((eps[:, 1] - 1) / 2)
        gradient = np.stack([slope * sigma, slope * (1 + np.cos(eps[:, 1]) + 0.5 * sigma * eps[:, 0])], 1) + eps
        eps = eps - 0.01 * gradient + sqrt(0.02) * torch.randn(8, 2, generator=noise, dtype=torch.float64).numpy()
    negatives = model.negatives(8, generator(5))
    assert np.allclose(model.chains.states[-8:], eps, atol=1e-12)
    assert torch.equal(negatives, model.transform(model.chains.states[-8:])) and not negatives.requires_grad


def small(restart: float = 0.2) -> VAEBM:
    vae = gaussian_vae(2, 2, hidden=(8,), log_sigma=-1.0)
    return VAEBM(vae, energy_mlp(2, (8,), features=4, seed=1), Chains(32, 4, restart), steps=3, magnitude=0.1, spectral=0.01)


POINTS = torch.randn(60, 2, generator=torch.Generator().manual_seed(8))


def test_a_stopped_training_with_its_chains_goes_on_to_the_bit(tmp_path):
    whole, stopped = small(), small()
    fit(whole, POINTS, steps=12, batch_size=8)
    fit(small(), POINTS, steps=5, batch_size=8, checkpoint=tmp_path / "run")
    fit(stopped, POINTS, steps=12, batch_size=8, checkpoint=tmp_path / "run")
    assert all(torch.equal(value, stopped.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.slow
def test_two_processes_end_with_the_energy_and_the_chains_of_one(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, __file__, str(tmp_path)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    model = small()
    fit(model, POINTS, steps=6, batch_size=8)
    for rank in range(2):
        theirs = torch.load(tmp_path / f"{rank}.pt")
        for name, value in model.state_dict().items():
            assert torch.allclose(theirs[name], value, atol=1e-5), name


# Samples


def test_samples_take_the_trainings_steps_and_step_unless_others_are_given():
    model, noise = tilted().eval(), partial(generator, 1)
    samples = model.sample(4, noise())
    assert torch.equal(samples, model.sample(4, noise(), steps=3, step=0.01))
    assert not torch.allclose(samples, model.sample(4, noise(), steps=2))
    assert not torch.allclose(samples, model.sample(4, noise(), step=0.02))


def test_blocks_of_eps_have_steps_of_their_own_in_training_and_sampling():
    vae = gaussian_vae(3, 2, hidden=(4,))
    step = VAEBM.blocks(vae, 0.1, 0.01)
    assert step.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])
    model = VAEBM(vae, energy_mlp(3, (4,)), Chains(8, 5, 0.0), steps=3, step=step)

    def by_hand(eps: Tensor, noise: torch.Generator) -> Tensor:
        for _ in range(3):
            eps = samplers.langevin_step(model.potential, eps, step, noise)
        return eps

    noise = generator(1)
    moved = by_hand(model.chains.take(8, noise), noise)
    model.negatives(8, generator(1))
    assert torch.allclose(model.chains.states, moved, atol=1e-6)
    walked = model.walk(8, generator(2), start=moved)
    assert torch.allclose(walked, by_hand(moved, generator(2)), atol=1e-6)
    assert model.to("meta").step.is_meta and "step" not in model.state_dict()
    still = model.to_empty(device="cpu").blocks(vae, 1e-12, 0.01)
    assert still.tolist() == pytest.approx([1e-12] * 3 + [0.01] * 2)


@pytest.mark.equation("eq-vaebm-denoised", oracle="closed form: the conditional mean of a Gaussian under Gaussian noise")
@pytest.mark.parametrize("a", [0.0, 0.3])
def test_the_last_move_goes_to_the_mean_of_the_points_that_noise_was_added_to(a):
    s, b = 0.2, -0.4 if a else 0.0
    model, eps = bent(a, b), double([0.3, 1.2], [-1.0, 0.5])
    x, z = model.transform(eps)[:, 0].detach().numpy(), eps[:, 1].numpy()
    precision = np.exp(1 - z) + 2 * a  # of h(x | z), a Gaussian: that of noisy points
    mean, variance = (np.exp(1 - z) * (z + np.sin(z)) - b) / precision, 1 / precision
    clean = variance - s**2
    assert np.allclose(model.denoised(eps, s)[:, 0], (mean * s**2 + x * clean) / variance)


@pytest.mark.equation("eq-vaebm-eps-potential", oracle="derivation by hand: one step, under a replayed seed")
@pytest.mark.parametrize("n", [1, 4])
def test_samples_begin_where_they_are_told_to(n):
    """E = .3 x^2 - .4 x with x = 2 eps: grad U = 2 (.6 x - .4) + eps."""
    model = EBM(square(0.3, -0.4), 1, Chains(8, 1, 0.0).double(), spread=2.0).eval()
    start = torch.linspace(-1, 2, n)[:, None].float()  # of another type than the energy
    moves = [torch.randn(n, 1, generator=generator(7), dtype=torch.float64), start.double()]
    eps = moves[1] - 0.05 * (2 * (1.2 * moves[1] - 0.4) + moves[1]) + sqrt(0.1) * moves[0]
    assert torch.allclose(model.sample(n, generator(7), steps=1, step=0.1, start=start), 2 * eps, atol=1e-12)
    assert torch.equal(model.sample(n, steps=0, start=start), 2 * start.double())


# What sampling costs


@pytest.mark.equation("eq-vaebm-cost", oracle="enumeration of the calls, by hooks")
@settings(deadline=None, max_examples=10)
@given(st.integers(1, 5), st.integers(0, 6))
def test_a_sample_costs_one_gradient_more_than_its_steps_and_one_decoding_more(n, steps):
    model = small().eval()
    with count_calls(energy=model.average.net, decoder=model.vae.decoder.net) as calls:
        model.sample(n, generator(1), steps=steps)
    gradients = steps + 1 if steps else 0
    assert (calls["energy"].forward, calls["energy"].gradient) == (n * gradients, n * gradients)
    assert (calls["decoder"].forward, calls["decoder"].gradient) == (n * (gradients + 1), n * gradients)
    with count_calls(energy=model.average.net) as after:
        pass
    assert after["energy"].forward == 0 and not model.average.net._forward_hooks


@pytest.mark.equation("eq-vaebm-cost", oracle="enumeration of the calls, by hooks")
def test_annealed_langevin_costs_a_call_a_step_and_one_for_the_last_denoising():
    model = NCSN(score_mlp(2, (8,)), 2, geometric_levels(1.0, 0.1, 4))
    with count_calls(score=model.net) as calls:
        model.sample(3, generator(1), steps=5, step=0.1)
    assert (calls["score"].forward, calls["score"].gradient) == (3 * (4 * 5 + 1), 0)


# The generator's step


@pytest.mark.equation("eq-vaebm-generator-kl", oracle="quadrature")
@pytest.mark.parametrize("slope, flat", [(0.5, 1.0), (0.3, 0.8)])
def test_the_generators_loss_is_its_kl_to_the_vaebm_less_the_constant(world, slope, flat):
    step = GeneratorStep(bent())
    with torch.no_grad():
        step.G.slope.fill_(slope)
        step.G.flat.fill_(flat)
    z = world.z[:, None]
    p = stats.norm.pdf(z) * stats.norm.pdf(world.x, flat * (z + np.sin(z)), np.exp(slope * (z - 1)))
    log_ratio = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(world.h, 1e-300))
    kl = world.integral(np.where(p > 1e-200, p * log_ratio, 0))
    rounds = [step.loss(torch.zeros(50, 1, dtype=torch.float64), noise)["loss"] for noise in map(generator, range(800))]
    assert_mean_is(torch.stack(rounds) + world.log_Z, kl)


@pytest.mark.equation("eq-vaebm-generator-kl", oracle="independent code: autograd of the energy alone, under the same noise")
def test_the_generators_first_step_follows_the_energy_alone():
    step = GeneratorStep(bent())
    x = torch.zeros(30, 1, dtype=torch.float64)
    parts = step.loss(x, generator(1))
    ours = torch.autograd.grad(parts["loss"], list(step.G.parameters()))
    z = torch.randn(30, 1, generator=(noise := generator(1)), dtype=torch.float64)
    moved = step.G(z).sample(noise)
    alone = torch.autograd.grad((0.3 * moved**2 - 0.4 * moved).sum(-1).mean(), list(step.G.parameters()))
    assert parts["kl"].item() == 0
    assert torch.allclose(torch.stack(ours), torch.stack(alone), atol=1e-12)


def test_the_generator_learns_to_draw_nearer_to_the_vaebm_which_stays_as_it_is(world):
    model = bent()
    step = GeneratorStep(model)
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    noise = torch.zeros(200, 1, dtype=torch.float64)
    with torch.no_grad():
        first = step.loss(noise.repeat(100, 1), generator(1))["loss"].item()
    fit(step, noise, steps=300, batch_size=200, optimizer=partial(torch.optim.Adam, lr=0.01))
    with torch.no_grad():
        last = step.loss(noise.repeat(100, 1), generator(1))["loss"].item()
    assert -world.log_Z - 0.02 < last < first - 0.05, "the KL falls, and stays above zero"
    assert all(torch.equal(value, step.model.state_dict()[name]) for name, value in before.items())
    eps = step.start(5, generator(2))
    z = torch.randn(5, 1, generator=(draws := generator(2)), dtype=torch.float64)
    assert torch.allclose(step.model.transform(eps), step.G(z).sample(draws), atol=1e-12)


# Scores


class LinearScore(nn.Module):
    """sigma times the score of N(0, c + sigma^2), from (x, log sigma)."""

    def __init__(self, c: float):
        super().__init__()
        self.c = nn.Parameter(double(c)[0])

    def forward(self, x: Tensor) -> Tensor:
        sigma = x[:, -1:].exp()
        return -sigma * x[:, :-1] / (self.c + sigma**2)


@pytest.mark.equation("eq-vaebm-denoising", oracle="closed form for Gaussian data")
def test_the_denoising_loss_at_the_exact_score_is_what_noise_hides():
    """x + sigma eps tells eps up to a variance c / (c + sigma^2), a coordinate."""
    c, levels = 0.7, double(1.0, 0.5, 0.2)
    model = NCSN(LinearScore(c), 2, levels)
    x = sqrt(c) * torch.randn(400, 500, 2, generator=generator(1), dtype=torch.float64)
    losses = torch.stack([model.loss(rows, generator(seed))["loss"] for seed, rows in enumerate(x)])
    assert_mean_is(losses, 0.5 * 2 * (c / (c + levels**2)).mean().item())


@pytest.mark.equation("eq-vaebm-denoising", oracle="quadrature of the distance to the noisy data's score")
def test_denoising_has_the_gradient_of_the_distance_to_the_noisy_datas_own_score():
    """Data at -1 and 1, one level: E |s - grad log p_sigma|^2 by quadrature against the loss, as functions of the network."""
    sigma, y = 0.6, np.linspace(-8, 8, 16_001)
    p = 0.5 * (stats.norm.pdf(y, -1, sigma) + stats.norm.pdf(y, 1, sigma))
    score = 0.5 * (stats.norm.pdf(y, -1, sigma) * (-1 - y) + stats.norm.pdf(y, 1, sigma) * (1 - y)) / sigma**2 / p

    def explicit(c: float) -> float:
        return 0.5 * sigma**2 * trapezoid(p * (-y / (c + sigma**2) - score) ** 2, y)

    model = NCSN(LinearScore(0.5), 1, double(sigma))
    x = torch.where(torch.arange(1000) % 2 == 0, -1.0, 1.0).double()[:, None]
    slopes = []
    for seed in range(300):
        model.loss(x, generator(seed))["loss"].backward()
        slopes.append(model.net.c.grad.clone())
        model.net.c.grad = None
    assert_mean_is(torch.stack(slopes), (explicit(0.5 + 1e-5) - explicit(0.5 - 1e-5)) / 2e-5)


@pytest.mark.equation("eq-vaebm-annealed", oracle="closed form of the recursion's variance")
def test_annealed_langevin_with_the_exact_score_has_the_variance_of_its_recursion():
    c, step, steps = 0.7, 0.3, 7
    levels = geometric_levels(2.0, 0.1, 5).double()
    model = NCSN(LinearScore(c), 1, levels)
    variance = levels[0].item() ** 2
    for sigma in levels.tolist():
        for _ in range(steps):
            h = step * sigma**2
            variance = (1 - h / 2 / (c + sigma**2)) ** 2 * variance + h
    variance *= (1 - sigma**2 / (c + sigma**2)) ** 2
    samples = model.sample(40_000, generator(1), steps=steps, step=step)
    assert_mean_is(samples, 0.0)
    assert_mean_is(samples**2, variance)


class Affine(nn.Module):
    """(x, log sigma) -> 2 x - x' + log sigma / 2 + 1, x' the coordinates in turned order; NaN in the rows that are named."""

    def __init__(self, *broken: int):
        super().__init__()
        self.broken = list(broken)

    def forward(self, x: Tensor) -> Tensor:
        out = 2 * x[:, :-1] - x[:, :-1].flip(1) + x[:, -1:] / 2 + 1
        out[self.broken] = torch.nan
        return out

    @staticmethod
    def score(x: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
        return (2 * x - x[:, ::-1] + np.log(sigma) / 2 + 1) / sigma


@pytest.mark.equation("eq-vaebm-denoising", oracle="independent code: numpy, under a replayed seed")
def test_the_denoising_loss_is_its_formula_at_levels_and_noise_drawn_from_the_generator():
    x, noise = torch.randn(7, 2, generator=generator(1)), generator(2)
    levels = torch.tensor([1.5, 0.7, 0.2])
    sigma = levels.double().numpy()[(torch.rand(7, generator=noise).numpy() * 3).astype(int)][:, None]
    eps = torch.randn(7, 2, generator=noise).double().numpy()
    rows = 0.5 * sigma**2 * (Affine.score(x.double().numpy() + sigma * eps, sigma) + eps / sigma) ** 2
    for points in (x, x.double()):  # points of any type are taken as the levels'
        loss = NCSN(Affine(), 2, levels).loss(points, generator(2))["loss"]
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(rows.sum(1).mean(), rel=1e-5)


@pytest.mark.equation("eq-vaebm-annealed", oracle="independent code: numpy, under a replayed seed")
@pytest.mark.parametrize("n, steps", [(1, 1), (3, 2)])
def test_annealed_langevin_is_its_recursion_with_noise_from_the_generator(n, steps):
    levels, step, noise = (1.5, 0.7, 0.2), 0.3, generator(4)

    def normal() -> np.ndarray:
        return torch.randn(n, 2, generator=noise, dtype=torch.float64).numpy()

    x = 1.5 * normal()
    for sigma in levels:
        for _ in range(steps):
            h = step * sigma**2
            x = x + h / 2 * Affine.score(x, sigma) + sqrt(h) * normal()
    x = x + 0.2**2 * Affine.score(x, 0.2)
    assert np.allclose(NCSN(Affine(), 2, double(*levels)).sample(n, generator(4), steps=steps, step=step), x, atol=1e-10)


def test_annealed_sampling_names_the_chain_that_left_the_finite_numbers():
    with pytest.raises(SamplerDiverged) as caught:
        NCSN(Affine(2, 3), 2, double(1.0, 0.1)).sample(5, generator(1), steps=3)
    assert (caught.value.step, caught.value.chain) == (6, 2)


def test_noise_levels_fall_geometrically():
    assert torch.allclose(geometric_levels(2.0, 0.25, 4), torch.tensor([2.0, 1.0, 0.5, 0.25]))
    with pytest.raises(ValueError, match="largest > smallest > 0 and n >= 2"):
        geometric_levels(0.1, 1.0, 5)


def test_a_trained_score_network_finds_two_clusters():
    x = torch.tensor([[-1.0], [1.0]]).repeat(500, 1) + 0.1 * torch.randn(1000, 1, generator=generator(1))
    model = NCSN(score_mlp(1, (32, 32), seed=1), 1, geometric_levels(1.5, 0.1, 6))
    fit(model, x, steps=600, batch_size=128, optimizer=partial(torch.optim.Adam, lr=5e-3))
    samples = model.sample(2000, generator(2), steps=20, step=0.1)
    assert ((samples.abs() - 1).abs() < 0.35).double().mean() > 0.9
    assert 0.35 < (samples > 0).double().mean() < 0.65


# Features, seeds, precision, devices


@pytest.mark.parametrize(
    "build", [lambda seed: energy_mlp(2, (4,), 3, seed=seed), lambda seed: score_mlp(2, (4,), 3, seed=seed)]
)
def test_a_seed_sets_the_networks_and_touches_no_other_randomness(build):
    state = torch.random.get_rng_state()
    first, again, other = (next(build(seed).parameters()) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_model_starts_as_the_density_that_it_corrects():
    model = small().eval()
    eps = model.noise(9, generator(1))
    assert torch.allclose(model.potential(eps), 0.5 * (eps**2).sum(-1))


def tilted() -> VAEBM:
    """A model whose energy is not flat."""
    model = small()
    with torch.no_grad():
        for energy in (model.energy, model.average):
            energy.net[-1][-1].weight.fill_(0.3)
    return model


DRAWING = {
    "sample": lambda model, noise: model.sample(4, noise, steps=3, step=0.01),
    "data": lambda model, noise: model.sample_in_data_space(4, noise, steps=3, step=0.001),
    "negatives": lambda model, noise: model.negatives(4, noise),
    "generator": lambda model, noise: GeneratorStep(model).loss(POINTS[:4].to(next(model.parameters())), noise)["loss"],
}


@pytest.mark.parametrize("draw", DRAWING.values(), ids=DRAWING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_drawn_depends_on_the_generator_alone(draw, dtype):
    state = torch.random.get_rng_state()
    first, again, other = (draw(tilted().to(dtype), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.dtype == dtype
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("draw", DRAWING.values(), ids=DRAWING)
def test_cpu_and_gpu_agree_under_the_same_noise(draw):
    on_cpu = draw(tilted(), generator(1))
    assert torch.allclose(draw(tilted().cuda(), generator(1)).cpu(), on_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("build", [small, lambda: NCSN(score_mlp(2), 2, geometric_levels(1.0, 0.1, 4))], ids=["vaebm", "ncsn"])
def test_a_step_on_a_gpu_waits_for_nothing(build):
    steps = training.train(build(), POINTS, steps=60, batch_size=8, device="cuda")
    for run in steps:
        if run.step in (5, 49):
            torch.cuda.set_sync_debug_mode("error" if run.step == 5 else "default")


# Bad input


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 0}, "steps, the Langevin steps between two updates of the energy, must be at least 1, got 0"),
        ({"step": 0.0}, "the step and the spread must be positive and finite, got 0.0"),
        ({"step": torch.zeros(1)}, "the step and the spread must be positive and finite, got tensor"),
        ({"step": torch.ones(5)}, r"one for each of the 1 coordinates of eps; got \(5,\)"),
        ({"step": float("nan")}, "must be positive and finite, got nan"),
        ({"spread": -1.0}, "must be positive and finite"),
        ({"spread": 0.0}, "must be positive and finite, got 0.01 and 0.0"),
        ({"decay": 1.0}, "0 <= decay < 1"),
        ({"magnitude": -0.1}, "penalties >= 0"),
    ],
)
def test_settings_that_cannot_be_right_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        EBM(energy_mlp(1, (3,)), 1, Chains(4, 1, 0.0), **settings)


def test_chains_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match="at least one chain"):
        Chains(0, 2, 0.0)
    with pytest.raises(ValueError, match=r"restart is the probability .* in \[0, 1\]; got 1.5"):
        Chains(4, 2, 1.5)
    with pytest.raises(ValueError, match="a step takes 5 chains, and there are 4"):
        Chains(4, 2, 0.0).take(5)
    with pytest.raises(ValueError, match="chains have the width of eps, 3; these have 2"):
        EBM(energy_mlp(3, (3,)), 3, Chains(4, 2, 0.0))


def test_a_decoder_of_coin_flips_is_an_error():
    with pytest.raises(TypeError, match="decoder has to return a Normal"):
        VAEBM(bernoulli_vae(2, 2), energy_mlp(2, (3,)), Chains(4, 4, 0.0))


def test_an_energy_of_two_columns_is_an_error(no_shape_checks):
    with pytest.raises(ValueError, match=r"one output a point, \(3, 1\); this one gives \(3, 2\)"):
        EnergyNetwork(nn.Linear(1, 2))(torch.zeros(3, 1))


@pytest.mark.parametrize("n, steps, step", [(0, 5, 0.1), (3, -1, 0.1), (3, 5, 0.0), (3, 5, -0.1), (3, 5, float("inf"))])
def test_samples_and_steps_that_cannot_be_are_errors(n, steps, step):
    with pytest.raises(ValueError, match=r"needs n >= 1|step must be positive"):
        small().sample(n, steps=steps, step=step)


@pytest.mark.parametrize("n, steps, step", [(0, 5, 0.1), (3, 0, 0.1), (3, 5, 0.0), (3, 5, float("nan")), (3, 5, float("inf"))])
def test_annealed_sampling_refuses_what_cannot_be(n, steps, step):
    with pytest.raises(ValueError, match="needs n >= 1, steps >= 1 and a positive, finite step"):
        NCSN(score_mlp(1, (4,)), 1, geometric_levels(1.0, 0.1, 3)).sample(n, steps=steps, step=step)


@pytest.mark.parametrize("levels", [[0.1, 0.5], [0.5, 0.5], [0.5, 0.0], []])
def test_noise_levels_that_do_not_fall_are_an_error(levels):
    with pytest.raises(ValueError, match="noise levels are positive and fall"):
        NCSN(nn.Linear(2, 1), 1, torch.tensor(levels))


def test_a_chain_that_diverges_says_so_and_names_the_step():
    with pytest.raises(SamplerDiverged, match="a step too large"):
        bent(a=3.0).sample(8, generator(1), steps=4000, step=4.5)
    with pytest.raises(SamplerDiverged):
        model = NCSN(LinearScore(0.5), 1, double(1.0, 0.1))
        model.sample(4, generator(1), steps=500, step=20.0)


def test_an_energy_without_a_floor_stops_the_training_with_the_step():
    model = EBM(square(-2.0, 0.0), 1, Chains(16, 1, 0.0).double(), steps=200, step=1.0)
    with pytest.raises(TrainingDiverged, match="is at step"):
        fit(model, torch.zeros(20, 1, dtype=torch.float64), steps=4, batch_size=8)


def test_data_with_nan_and_no_data_are_errors():
    with pytest.raises(ValueError, match="row 3 is the first with NaN"):
        fit(small(), torch.where(torch.arange(60)[:, None] == 3, torch.nan, POINTS), steps=1)
    with pytest.raises(ValueError, match="data is empty"):
        fit(small(), POINTS[:0], steps=1)


if __name__ == "__main__":
    vaebm = small()
    training.fit(vaebm, POINTS, steps=6, batch_size=4, progress=False, device="cpu")
    torch.save(vaebm.state_dict(), Path(sys.argv[1]) / f"{processes.rank()}.pt")


# Copies, and small numbers


def test_the_average_of_an_energy_has_its_batch_statistics():
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 1))
    model = EBM(EnergyNetwork(net), 2, Chains(40, 2, 0.1), steps=2, decay=0.0)
    x = 2 + 0.3 * torch.randn(60, 2, generator=generator())
    training.fit(model, x, steps=5, batch_size=20, progress=False)
    assert not torch.equal(model.average.net[1].running_mean, torch.zeros(8))
    assert torch.allclose(model.energy(x), model.average(x))  # with decay 0 the average is the energy, buffers and all


def test_power_iteration_takes_an_iteration_and_layers():
    with pytest.raises(ValueError, match="at least 1 iteration, got 0"):
        energy_mlp(2, (4,)).spectral_norms(0)

    class Bowl(nn.Module):
        def forward(self, x):
            return (x**2).sum(-1, keepdim=True)

    assert EnergyNetwork(Bowl()).spectral_norms().shape == (0,)


def test_points_of_any_type_are_taken_as_the_energy_s():
    model, x = EBM(energy_mlp(2, (4,)), 2, Chains(10, 2, 0.1), steps=1), torch.randn(5, 2, generator=generator())
    losses = [model.contrast(points, x)["loss"].item() for points in (x, x.double())]
    assert losses[0] == losses[1]
