"""Samplers where the answer is known: Gaussians in closed form, other densities by quadrature, motion by scipy's integrator.

Chains that start independently give independent draws, so their law is judged by Kolmogorov and Smirnov's test: a right
sampler is refused once in 10,000 seeds, as with means within 3.9 standard errors; the seeds are fixed.
"""

from functools import partial
from itertools import pairwise, product
from math import inf, log, nan, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import generator, needs_cuda
from vaecourse.exact_models import TiltedGaussian
from vaecourse.samplers import (
    DualAveraging,
    SamplerDiverged,
    State,
    at,
    effective_sample_size,
    hmc,
    hmc_step,
    langevin,
    langevin_step,
    leapfrog,
    mala,
    mala_step,
    metropolis,
    metropolis_step,
    split_r_hat,
    ula_step,
)

RUNNERS = {"langevin": langevin, "mala": mala, "hmc": hmc, "metropolis": metropolis}
EXACT_STEPS = {"mala": (mala_step, 0.3), "hmc": (partial(hmc_step, leaps=4), 0.3), "metropolis": (metropolis_step, 0.8)}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def standard(z: Tensor) -> Tensor:
    """The potential of N(0, I)."""
    return 0.5 * (z**2).sum(-1)


def skewed(z: Tensor) -> Tensor:
    """A potential that is no parabola, and not symmetric."""
    return (z**4 / 4 - z).sum(-1)


def tilted(z: Tensor) -> Tensor:
    return -TiltedGaussian(0.9).log_prob(z)


class Skewed:
    """The density of `skewed` in one dimension, by quadrature."""

    points = np.linspace(-6, 6, 20_001)
    density = np.exp(-(points**4) / 4 + points)
    cumulated = integrate.cumulative_simpson(density, x=points, initial=0)

    @classmethod
    def cdf(cls, z):
        return np.interp(z, cls.points, cls.cumulated / cls.cumulated[-1])

    @classmethod
    def sample(cls, n: int, seed: int = 0) -> Tensor:
        u = np.random.default_rng(seed).uniform(size=n)
        return torch.from_numpy(np.interp(u, cls.cumulated / cls.cumulated[-1], cls.points))[:, None]


def walk(transition, potential, z: Tensor, step: float, steps: int, noise: torch.Generator) -> Tensor:
    """Steps by a one-step function, for a potential without or with gradient."""
    state = at(potential, z)
    for _ in range(steps):
        state, _ = transition(potential, state, step, noise)
    return state.z


def coefficients(move) -> tuple[float, float]:
    """A step on N(0, 1) is linear, z' = a z + b eps: its a and b."""
    z = torch.ones(1, 1, dtype=torch.float64)
    eps = torch.randn(1, 1, generator=generator(3), dtype=torch.float64)
    b = move(0 * z, generator(3)) / eps
    return (move(z, generator(3)) - b * eps).item(), b.item()


# Langevin, unadjusted


@pytest.mark.equation("eq-samplers-langevin", oracle="independent code: a step under a replayed seed")
def test_a_langevin_step_goes_down_the_gradient_by_half_the_step_and_adds_noise_of_that_variance():
    z, h = noise(5, 2, seed=1), 0.2
    by_hand = z - h / 2 * (z**3 - 1) + sqrt(h) * noise(5, 2, seed=4)
    assert torch.allclose(langevin_step(skewed, z, h, generator(4)), by_hand, atol=1e-14)


@pytest.mark.equation("eq-samplers-langevin-variance", oracle="closed form")
@pytest.mark.parametrize("h", [0.1, 1.0, 2.0, 3.5])
def test_the_stationary_variance_of_unadjusted_langevin_on_a_standard_normal_is_1_over_1_minus_a_quarter_of_the_step(h):
    # v = a^2 v + b^2 has the solution b^2 / (1 - a^2), with a = 1 - h/2 and b^2 = h: h / (h - h^2 / 4)
    exact = 1 / (1 - h / 4)
    a, b = coefficients(lambda z, noise: langevin_step(standard, z, h, noise))
    assert b**2 / (1 - a**2) == pytest.approx(exact, rel=1e-12)
    z, _ = langevin(
        standard, torch.zeros(20_000, 1, dtype=torch.float64), h, steps=100 if h < 1 else 60, generator=generator(5)
    )
    started = (1 - a ** (200 if h < 1 else 120)) * exact  # what is left of the start at zero
    assert abs(z.var().item() / started - 1) < 3.9 * sqrt(2 / 20_000)


def test_unadjusted_langevin_takes_the_step_that_the_one_step_function_takes():
    z, again = noise(4, 3), generator(2)
    last, trace = langevin(skewed, z, 0.1, 7, generator(2))
    for row in trace.z:
        z = langevin_step(skewed, z, 0.1, again)
        assert torch.equal(z, row)
    assert torch.equal(last, z) and torch.allclose(trace.energy[-1], skewed(z)) and trace.acceptance == 1


def mis_scaled(step_scale: float, noise_scale: float):
    def move(z: Tensor, noise: torch.Generator) -> Tensor:
        return z - step_scale * z + noise_scale * torch.randn(z.shape, generator=noise, dtype=z.dtype)

    return move


@pytest.mark.parametrize(
    "move, published, exact",
    [
        (mis_scaled(0.1, sqrt(0.1)), 0.53, 1 / (2 - 0.1)),  # h grad U in place of h/2
        (mis_scaled(0.05, 0.1), 0.10, 0.1 / (1 - 0.1 / 4)),  # h eps in place of sqrt(h) eps
    ],
    ids=["whole step", "noise by h"],
)
def test_a_mis_scaled_step_or_noise_gives_a_wrong_variance(move, published, exact):
    a, b = coefficients(move)
    assert b**2 / (1 - a**2) == pytest.approx(exact, rel=1e-12) == pytest.approx(published, abs=0.005)
    z, again = torch.zeros(20_000, 1, dtype=torch.float64), generator(1)
    for _ in range(120):
        z = move(z, again)
    assert abs(z.var().item() / exact - 1) < 3.9 * sqrt(2 / 20_000)
    right = coefficients(lambda z, noise: langevin_step(standard, z, 0.1, noise))
    assert right[1] ** 2 / (1 - right[0] ** 2) == pytest.approx(1.0256, abs=1e-4)


@pytest.mark.parametrize("chains", [1, 65])
@pytest.mark.slow
def test_energies_averaged_over_chains_heat_them_up_by_their_number(chains):
    h, z, again = 0.1, noise(chains, 1, seed=6) * sqrt(chains), generator(7)

    def averaged(z: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        return torch.autograd.grad(standard(z).mean(), z)[0]

    exact = chains / (1 - h / (4 * chains))  # b^2 / (1 - a^2) with a = 1 - h / (2 n)
    variances = []
    for _ in range(15_000 // chains):
        for _ in range(chains):  # a tenth of the time in which the chains forget
            z = z - h / 2 * averaged(z) + sqrt(h) * torch.randn(z.shape, generator=again, dtype=z.dtype)
        variances.append((z**2).mean().item())
    assert np.mean(variances) == pytest.approx(exact, rel=0.2)
    a, b = coefficients(lambda z, noise: langevin_step(lambda z: standard(z) / chains, z, h, noise))
    assert b**2 / (1 - a**2) == pytest.approx(exact, rel=1e-9)
    if chains > 1:
        assert np.mean(variances) > 40
        ours = langevin(standard, noise(chains, 1), h, 2000, generator(8))[1]
        assert ours.z.var().item() == pytest.approx(1 / (1 - h / 4), rel=0.05)
        with pytest.raises(ValueError, match=r"one energy a chain, shape \(65,\); got \(\)\. Sum over coordinates"):
            langevin_step(lambda z: standard(z).mean(), z, h)


def test_a_chain_moves_as_it_would_alone():
    h, together = 0.3, noise(6, 2)
    eps = noise(6, 2, seed=9)
    moved = langevin_step(skewed, together, h, generator(9))
    for z, one, e in zip(together, moved, eps, strict=True):
        alone = at(skewed, z[None])
        assert torch.allclose(one, z - h / 2 * alone.gradient[0] + sqrt(h) * e, atol=1e-14)


def test_each_chain_may_have_a_step_of_its_own():
    z, steps = noise(3, 2), torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)
    moved = langevin_step(standard, z, steps, generator(2))
    for row, h in enumerate((0.1, 0.2, 0.3)):
        assert torch.allclose(moved[row], langevin_step(standard, z, h, generator(2))[row])


# Exact samplers: the density stays what it is, and is reached


@pytest.mark.parametrize("transition, step", EXACT_STEPS.values(), ids=EXACT_STEPS)
def test_draws_from_the_density_stay_draws_from_the_density(transition, step):
    z = walk(transition, skewed, Skewed.sample(40_000, seed=1), step, 8, generator(3))
    assert stats.kstest(z[:, 0].numpy(), Skewed.cdf).pvalue > 1e-4


def test_unadjusted_langevin_does_not_keep_the_density_that_it_is_given():
    z = walk(ula_step, skewed, Skewed.sample(40_000, seed=1), 0.3, 8, generator(3))
    assert stats.kstest(z[:, 0].numpy(), Skewed.cdf).pvalue < 1e-8


@pytest.mark.parametrize("transition, step", EXACT_STEPS.values(), ids=EXACT_STEPS)
def test_chains_reach_the_density_from_far_off(transition, step):
    start = torch.full((10_000, 1), -2.5, dtype=torch.float64)
    z = walk(transition, skewed, start, step, 80, generator(4))
    assert stats.kstest(z[:, 0].numpy(), Skewed.cdf).pvalue > 1e-4


@pytest.mark.parametrize("transition, step", [(mala_step, 0.15), (partial(hmc_step, leaps=6), 0.25), (metropolis_step, 0.5)])
@pytest.mark.slow
def test_a_tilted_gaussian_has_its_variances_and_its_correlation(transition, step):
    chains = 10_000
    z = walk(transition, tilted, torch.zeros(chains, 2, dtype=torch.float64), step, 150, generator(5)).numpy()
    error = np.sqrt(np.array([2, 2, 1 + 0.9**2]) / chains)  # of a Gaussian's sample variances and covariance
    found = np.array([z[:, 0].var(), z[:, 1].var(), np.cov(z.T)[0, 1]])
    assert (abs(found - [1, 1, 0.9]) < 3.9 * error).all()


def test_a_density_that_is_zero_on_one_side_is_sampled_on_the_other():
    def half(z: Tensor) -> Tensor:
        return torch.where(z[:, 0] < 0, inf, standard(z))

    z, trace = metropolis(half, torch.ones(8000, 1, dtype=torch.float64), 1.0, 60, generator(1))
    assert (trace.z >= 0).all()
    assert stats.kstest(z[:, 0].numpy(), stats.halfnorm.cdf).pvalue > 1e-4


@pytest.mark.equation("eq-samplers-metropolis", oracle="another library: scipy.stats, under a replayed seed")
def test_metropolis_accepts_by_the_ratio_of_the_densities():
    z, step = noise(300, 2, seed=1), 0.7
    _, probability = metropolis_step(tilted, at(tilted, z), step, generator(2))
    proposed = z + step * noise(300, 2, seed=2)
    p = stats.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]]).logpdf
    assert np.allclose(probability, np.minimum(1, np.exp(p(proposed) - p(z))), atol=1e-12)
    assert 0.1 < probability.mean() < 0.9


@pytest.mark.equation("eq-samplers-mala", oracle="another library: scipy.stats, under a replayed seed")
def test_mala_accepts_by_the_ratio_of_density_times_kernel():
    z, h = noise(300, 1, seed=1).numpy()[:, 0], 0.9

    def kernel(there, here):
        return stats.norm.pdf(there, here - h / 2 * (here**3 - 1), sqrt(h))

    proposed = z - h / 2 * (z**3 - 1) + sqrt(h) * noise(300, 1, seed=2).numpy()[:, 0]
    density = np.exp(-(proposed**4) / 4 + proposed), np.exp(-(z**4) / 4 + z)
    exact = np.minimum(1, density[0] * kernel(z, proposed) / (density[1] * kernel(proposed, z)))
    _, probability = mala_step(skewed, at(skewed, torch.from_numpy(z)[:, None]), h, generator(2))
    assert np.allclose(probability, exact, atol=1e-10) and 0.1 < exact.mean() < 0.95


def test_mala_is_hamiltonian_monte_carlo_with_one_leap_of_the_root_of_its_step():
    state = at(skewed, noise(50, 2))
    one, p = mala_step(skewed, state, 0.49, generator(1))
    other, q = hmc_step(skewed, state, 0.7, generator(1), leaps=1)
    assert torch.allclose(p, q, atol=1e-12) and all(torch.allclose(a, b) for a, b in zip(one, other, strict=True))
    chains = [
        mala(skewed, state.z, 0.49, 6, generator(1))[1],
        hmc(skewed, state.z, 0.7, 6, generator(1), leaps=1)[1],
    ]
    assert torch.allclose(chains[0].z, chains[1].z) and chains[0].calls == chains[1].calls == 7


@pytest.mark.equation("eq-samplers-hmc", oracle="independent code: Störmer's recursion")
def test_hmc_goes_along_newtons_law_and_accepts_by_the_change_of_the_total_energy():
    start, momentum, h = noise(300, 2, seed=1).numpy(), noise(300, 2, seed=2).numpy(), 0.4
    before, z = start, start + h * momentum - h**2 / 2 * (start**3 - 1)
    for _ in range(5):
        before, z = z, 2 * z - before - h**2 * (z**3 - 1)
    after = 2 * z - before - h**2 * (z**3 - 1)

    def total(z, p):
        return (z**4 / 4 - z + p**2 / 2).sum(-1)

    exact = np.minimum(1, np.exp(total(start, momentum) - total(z, (after - before) / (2 * h))))
    moved, probability = hmc_step(skewed, at(skewed, torch.from_numpy(start)), h, generator(2), leaps=6)
    assert np.allclose(probability, exact, atol=1e-9) and 0.1 < exact.mean() < 0.99
    moves = (moved.z.numpy() != start).all(1)
    assert 0 < moves.sum() < 300 and np.allclose(moved.z[moves], z[moves], atol=1e-9)


@pytest.mark.parametrize("transition, step", EXACT_STEPS.values(), ids=EXACT_STEPS)
def test_chains_move_as_often_as_their_probability_says_and_carry_the_energy_of_where_they_are(transition, step):
    state = at(skewed, noise(20_000, 1))
    moved, probability = transition(skewed, state, 2 * step, generator(3))
    stays = (moved.z == state.z).all(1).double()
    error = (probability * (1 - probability)).sum().sqrt().item()
    assert abs((1 - stays).sum().item() - probability.sum().item()) < 3.9 * error
    assert torch.allclose(moved.energy, skewed(moved.z))
    if transition is metropolis_step:
        assert moved.gradient is None
    else:
        assert torch.allclose(moved.gradient, moved.z**3 - 1)


# The leapfrog


@pytest.mark.equation("eq-samplers-leapfrog", oracle="known case: time reversal")
@settings(deadline=None, max_examples=25)
@given(step=st.floats(0.001, 0.5), leaps=st.integers(1, 30), seed=st.integers(0, 1000))
def test_turned_around_the_leapfrog_comes_back_to_where_it_began(step, leaps, seed):
    z, momentum = noise(4, 3, seed=seed).clamp(-2, 2), noise(4, 3, seed=seed + 1).clamp(-2, 2)
    there, p = leapfrog(tilted_and_steep, at(tilted_and_steep, z), momentum, step, leaps)
    back, minus = leapfrog(tilted_and_steep, there, -p, step, leaps)
    assert torch.allclose(back.z, z, atol=1e-8) and torch.allclose(-minus, momentum, atol=1e-8)


def tilted_and_steep(z: Tensor) -> Tensor:
    """A potential whose coordinates are coupled, and whose curvature differs from place to place."""
    return (z**2).sum(-1) / 2 + torch.cos(z).prod(-1)


def jacobian(f, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    return np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))], axis=1)


def test_the_leapfrog_keeps_volume_and_the_symplectic_form_and_a_step_of_euler_does_not():
    def motion(x: np.ndarray, step=0.3, leaps=5) -> np.ndarray:
        z, p = torch.from_numpy(x)[None].split(3, dim=1)
        moved, p = leapfrog(tilted_and_steep, at(tilted_and_steep, z), p, step, leaps)
        return torch.cat([moved.z, p], 1)[0].numpy()

    def euler(x: np.ndarray, step=0.3) -> np.ndarray:
        z, p = torch.from_numpy(x)[None].split(3, dim=1)
        return torch.cat([z + step * p, p - step * at(tilted_and_steep, z).gradient], 1)[0].numpy()

    x = noise(6, seed=3).numpy()
    J = jacobian(motion, x)
    omega = np.block([[np.zeros((3, 3)), np.eye(3)], [-np.eye(3), np.zeros((3, 3))]])
    assert abs(np.linalg.det(J) - 1) < 1e-8 and np.allclose(J.T @ omega @ J, omega, atol=1e-8)
    assert abs(np.linalg.det(jacobian(euler, x)) - 1) > 0.05


def test_the_error_of_the_leapfrog_falls_with_the_square_of_the_step():
    z, momentum, time = noise(1, 3, seed=4), noise(1, 3, seed=5), 2.0

    def hamilton(t, x):
        gradient = x[:3] - np.sin(x[:3]) * np.prod(np.cos(x[:3])) / np.cos(x[:3])
        return np.concatenate([x[3:], -gradient])

    start = torch.cat([z, momentum], 1)[0].numpy()
    exact = integrate.solve_ivp(hamilton, (0, time), start, rtol=1e-12, atol=1e-12).y[:, -1]
    places, energies = [], []
    for leaps in (20, 40, 80, 160):
        moved, p = leapfrog(tilted_and_steep, at(tilted_and_steep, z), momentum, time / leaps, leaps)
        places.append(np.abs(torch.cat([moved.z, p], 1)[0].numpy() - exact).max())
        change = tilted_and_steep(moved.z) + (p**2).sum(-1) / 2 - tilted_and_steep(z) - (momentum**2).sum(-1) / 2
        energies.append(abs(change.item()))
    for errors in (places, energies):
        assert errors[0] > 1e-5
        assert all(coarse / fine == pytest.approx(4, rel=0.1) for coarse, fine in pairwise(errors))


# The runners


class Counted:
    def __init__(self, potential):
        self.potential, self.calls = potential, 0

    def __call__(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.potential(z)


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_calls_of_the_potential_are_counted(run):
    potential = Counted(standard)
    _, trace = run(potential, noise(3, 2), 0.1, 12, generator(), warmup=5)
    assert trace.calls == potential.calls == 1 + 17 * (10 if run is hmc else 1)


def test_a_langevin_step_costs_one_gradient_call():
    potential = Counted(standard)
    langevin_step(potential, noise(3, 2), 0.1)
    assert potential.calls == 1


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_the_trace_keeps_every_nth_step_after_the_warm_up(run):
    z, fixed = noise(3, 2), {"target": None} if run is not langevin else {}
    last, every_step = run(skewed, z, 0.1, 17, generator(1), **fixed)
    _, thinned = run(skewed, z, 0.1, 12, generator(1), warmup=5, every=3, **fixed)
    assert torch.equal(thinned.z, every_step.z[7::3]) and torch.equal(thinned.energy, every_step.energy[7::3])
    assert torch.equal(last, every_step.z[-1]) and torch.allclose(
        every_step.energy, skewed(every_step.z.reshape(-1, 2)).reshape(17, 3)
    )
    assert every_step.step == thinned.step == pytest.approx(0.1)


@pytest.mark.equation("eq-samplers-dual-averaging", oracle="independent code: the sum that the recursion computes")
def test_the_step_is_tuned_by_the_sum_of_misses():
    start, target, rates = 0.3, 0.6, np.random.default_rng(1).uniform(size=30)
    tuner = DualAveraging(torch.tensor(start, dtype=torch.float64), target)
    logs, weighted = [], 0.0
    for t, rate in enumerate(rates, start=1):  # Hoffman and Gelman's section 3.2, as a sum
        logs.append(log(10 * start) - sqrt(t) / 0.05 / (t + 10) * np.sum(target - rates[:t]))
        weighted = t**-0.75 * logs[-1] + (1 - t**-0.75) * weighted
        assert tuner.update(torch.tensor(rate)).log().item() == pytest.approx(logs[-1])
        assert tuner.step.log().item() == pytest.approx(weighted)


@pytest.mark.equation("eq-samplers-dual-averaging", oracle="independent code: a loop over the steps, under a replayed seed")
@pytest.mark.parametrize("name, target", [("mala", 0.7), ("hmc", 0.9), ("metropolis", 0.4)])
def test_the_warm_up_tunes_the_step_by_the_mean_acceptance_of_all_chains(name, target):
    state, again, step = at(skewed, noise(5, 2)), generator(2), torch.tensor(0.4, dtype=torch.float64)
    tuner, transition = DualAveraging(step, target), EXACT_STEPS[name][0]
    for _ in range(9):
        state, probability = transition(skewed, state, step, again)
        step = tuner.update(probability.mean())
    more = {"leaps": 4} if name == "hmc" else {}
    _, trace = RUNNERS[name](skewed, noise(5, 2), 0.4, 3, generator(2), warmup=9, target=target, **more)
    assert trace.step == pytest.approx(tuner.step.item(), rel=1e-9) and abs(trace.step / 0.4 - 1) > 0.01
    for z in trace.z:
        state, _ = transition(skewed, state, tuner.step, again)
        assert torch.allclose(z, state.z)


@pytest.mark.parametrize("start", [1e-3, 30.0])
@pytest.mark.parametrize("run, target", [(mala, 0.574), (hmc, 0.8), (metropolis, 0.234), (mala, 0.9)])
@pytest.mark.slow
def test_the_warm_up_finds_a_step_of_the_target_acceptance(run, target, start):
    scales = torch.linspace(0.5, 2, 10, dtype=torch.float64)  # of one scale alone, trajectories would resonate
    _, trace = run(lambda z: standard(z / scales), noise(20, 10) * scales, start, 150, generator(2), warmup=300, target=target)
    assert trace.acceptance == pytest.approx(target, abs=0.05)


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_what_is_drawn_depends_on_the_generator_alone(run):
    z, state = noise(4, 2), torch.random.get_rng_state()
    first, again, other = (run(standard, z, 0.3, 9, generator(seed), warmup=5)[1].z for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_the_parameters_of_a_potential_get_no_gradient_and_its_chains_no_graph(run):
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()

    def potential(z: Tensor) -> Tensor:
        return net(z)[:, 0] + standard(z)

    z, trace = run(potential, noise(3, 2).requires_grad_(), 0.1, 4, generator())
    assert all(p.grad is None for p in net.parameters())
    assert not z.requires_grad and not trace.z.requires_grad and not trace.energy.requires_grad
    with torch.no_grad():
        assert torch.equal(run(potential, noise(3, 2), 0.1, 4, generator())[0], z)


# Divergence


def test_an_unadjusted_chain_that_explodes_is_an_error_that_names_the_step_and_the_remedy():
    z = torch.tensor([[1e-3], [0.0], [1.0]])
    by_hand, again, first = z, generator(2), 0
    while by_hand.isfinite().all() and standard(by_hand).isfinite().all():
        by_hand, first = langevin_step(standard, by_hand, 5.0, again), first + 1
    assert first > 50
    with pytest.raises(SamplerDiverged, match=rf"at step {first}\.\nLikely causes: a step too large .* use `mala`") as caught:
        langevin(standard, z, 5.0, 1000, generator(2))
    assert caught.value.step == first
    bad = ~(by_hand.isfinite().all(1) & standard(by_hand).isfinite())
    assert bad[caught.value.chain] and not bad[: caught.value.chain].any()
    with pytest.raises(SamplerDiverged, match=rf"at step {first} of the warm-up"):
        langevin(standard, z, 5.0, 10, generator(2), warmup=1000)


def test_at_a_step_where_unadjusted_langevin_explodes_mala_stays():
    z, trace = mala(standard, torch.ones(5, 1), 5.0, 300, generator(2))
    assert z.isfinite().all() and 0 < trace.acceptance < 0.6


@pytest.mark.parametrize("run", [mala, hmc, metropolis])
def test_a_density_without_bound_is_an_error_and_no_chain_that_hangs_in_it(run):
    def pit(z: Tensor) -> Tensor:
        return torch.where(z[:, 0] > 0.5, -inf, 1.0) + 0 * z.sum(-1)

    with pytest.raises(SamplerDiverged, match="falls without bound"):
        run(pit, torch.zeros(5, 1), 0.5, 100, generator(1))


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("bad", [nan, inf])
def test_a_start_that_is_not_finite_is_an_error_before_any_step(run, bad):
    potential = Counted(lambda z: torch.where(z[:, 0] > 1, bad, standard(z)))
    with pytest.raises(SamplerDiverged, match="chain 1 starts where its energy or gradient is not finite") as caught:
        run(potential, torch.tensor([[0.0], [2.0]]), 0.1, 10)
    assert caught.value.step == 0 and potential.calls == 1


def test_a_move_to_where_the_potential_is_nan_is_refused():
    def broken(z: Tensor) -> Tensor:
        return standard(z) + 0 * z[:, 0].sqrt()  # NaN for negative z

    _, trace = metropolis(broken, torch.ones(50, 1), 1.0, 100, generator(1))
    assert (trace.z > 0).all() and trace.z.std() > 0.3


# Diagnostics


def autoregressive(rho: float, draws: int, chains: int, seed: int = 0) -> Tensor:
    """x_t = rho x_(t-1) + sqrt(1 - rho^2) e_t: variance 1, autocorrelations rho^k."""
    eps = np.random.default_rng(seed).standard_normal((draws, chains))
    x = [eps[0]]
    for e in eps[1:]:
        x.append(rho * x[-1] + sqrt(1 - rho**2) * e)
    return torch.from_numpy(np.stack(x))


@pytest.mark.equation("eq-samplers-ess", oracle="closed form")
@pytest.mark.parametrize("rho", [0.95, 0.8, 0.3, 0.0, -0.5])
def test_the_effective_sample_size_of_an_autoregression_is_known(rho):
    x = autoregressive(rho, 20_000, 4)
    assert effective_sample_size(x).item() / x.numel() == pytest.approx((1 - rho) / (1 + rho), rel=0.12)


def test_the_effective_sample_size_says_how_much_means_scatter():
    x = autoregressive(0.7, 400, 4000)
    ess = x.var().item() / x.mean(0).var().item()  # of one chain: the variance of a mean is var / ess
    assert effective_sample_size(x).item() / 4000 == pytest.approx(ess, rel=0.1)


@pytest.mark.parametrize("seed, draws", [(4, 60), (10, 60), (11, 60), (4, 61)])
def test_the_effective_sample_size_is_geyers_sum_written_out(seed, draws):
    x = autoregressive(0.6, draws, 3, seed=seed).numpy()
    n, chains = x.shape
    centered = x - x.mean(0)
    covariance = [np.mean([centered[: n - k, c] @ centered[k:, c] / n for c in range(chains)]) for k in range(n)]
    within = np.mean(x.var(0, ddof=1))
    total = within * (n - 1) / n + x.mean(0).var(ddof=1)
    rho = [1 - (within - c * n / (n - 1)) / total for c in covariance]
    tau, least = -1.0, inf
    for k in range(0, n - 1, 2):
        pair = rho[k] + rho[k + 1]
        if pair <= 0:
            break
        least = min(least, pair)
        tau += 2 * least
    assert effective_sample_size(torch.from_numpy(x)).item() == pytest.approx(n * chains / tau, rel=1e-10)


@pytest.mark.slow
def test_langevins_effective_sample_size_is_that_of_the_autoregression_that_it_is_on_a_gaussian():
    h = 0.5  # z' = (1 - h/2) z + noise
    _, trace = langevin(standard, noise(8, 2), h, 5000, generator(3), warmup=50)
    assert torch.allclose(trace.ess / 40_000, torch.tensor(h / (4 - h), dtype=torch.float64), rtol=0.12)


def test_chains_that_disagree_are_found_out_by_both_diagnostics():
    agree = autoregressive(0.3, 1000, 4)
    assert split_r_hat(agree).item() == pytest.approx(1, abs=0.01)
    apart = agree + torch.tensor([0.0, 0, 0, 3])
    assert split_r_hat(apart).item() > 1.5 and effective_sample_size(apart).item() < 20
    drifts = agree + torch.linspace(0, 3, 1000, dtype=torch.float64)[:, None]  # all alike: only the halves differ
    assert split_r_hat(drifts).item() > 1.2


@pytest.mark.equation("eq-samplers-r-hat", oracle="derivation by hand")
def test_split_r_hat_compares_the_variance_of_the_halves_means_with_that_within_them():
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0]], dtype=torch.float64)  # within 1/2; means 1/2 and 10 1/2, variance 50
    assert split_r_hat(x).item() == pytest.approx(sqrt((0.5 * 1 / 2 + 50) / 0.5))
    odd = torch.cat([x[:2], torch.tensor([[99.0]], dtype=torch.float64), x[2:]])  # the draw in the middle is in neither half
    assert split_r_hat(odd).item() == pytest.approx(split_r_hat(x).item())


def test_diagnostics_have_a_number_for_each_coordinate_and_nan_where_nothing_moves():
    x = torch.stack([autoregressive(0.0, 500, 4, seed=1), autoregressive(0.9, 500, 4, seed=2)], -1)
    joint = effective_sample_size(x)
    assert joint.shape == (2,) and joint[1] < joint[0] / 5
    assert torch.allclose(joint, torch.stack([effective_sample_size(x[..., i]) for i in (0, 1)]))
    assert torch.allclose(split_r_hat(x), torch.stack([split_r_hat(x[..., i]) for i in (0, 1)]))
    still = torch.ones(10, 2, 1)
    assert effective_sample_size(still).isnan().all() and split_r_hat(still).isnan().all()
    assert effective_sample_size(torch.tensor([1.0, -1] * 50)[:, None]).item() == pytest.approx(100 * log(100, 10))


def test_coordinates_with_steps_of_their_own_walk_as_if_alone():
    z, steps = torch.randn(5, 2, generator=generator(1), dtype=torch.float64), torch.tensor([0.3, 0.01], dtype=torch.float64)
    both, trace = langevin(standard, z, steps, 20, generator(2))
    for i, step in enumerate(steps.tolist()):
        alone, _ = langevin(standard, z, step, 20, generator(2))
        assert torch.allclose(both[:, i], alone[:, i])
    assert torch.equal(trace.step, steps)


# What is refused


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(
    "z, arguments, error",
    [
        (torch.zeros(3), {}, r"chains are rows, \(chains, dim\), at least one; got shape \(3,\)"),
        (torch.zeros(0, 2), {}, r"at least one; got shape \(0, 2\)"),
        (torch.zeros(3, 2, dtype=torch.int64), {}, "must be a tensor of floats, got torch.int64"),
        (torch.zeros(3, 2), {"step": 0.0}, "step must be positive and finite, got 0.0"),
        (torch.zeros(3, 2), {"step": nan}, "step must be positive and finite, got nan"),
        (torch.zeros(3, 2), {"step": torch.tensor([0.1, -0.1])}, r"step must be positive and finite, got tensor"),
        (torch.zeros(3, 2), {"step": torch.ones(3)}, r"one for each coordinate, \(2,\); got \(3,\)"),
        (torch.zeros(3, 2), {"steps": 0}, "needs steps >= 1, warmup >= 0, 1 <= every <= steps; got 0, 0, 1"),
        (torch.zeros(3, 2), {"warmup": -1}, "got 5, -1, 1"),
        (torch.zeros(3, 2), {"every": 6}, "got 5, 0, 6"),
    ],
)
def test_chains_and_numbers_that_cannot_be_right_are_refused(run, z, arguments, error, no_shape_checks):
    with pytest.raises((ValueError, TypeError), match=error):
        run(standard, z, **{"step": 0.1, "steps": 5, **arguments})


@pytest.mark.parametrize("potential, shape", [(lambda z: standard(z).sum(), r"\(\)"), (lambda z: z**2, r"\(3, 2\)")])
@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_a_potential_that_does_not_give_one_energy_a_chain_is_refused(run, potential, shape):
    with pytest.raises(ValueError, match=rf"one energy a chain, shape \(3,\); got {shape}"):
        run(potential, torch.zeros(3, 2), 0.1, 5)


def test_other_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="without detach"):
        langevin_step(lambda z: standard(z.detach()), torch.zeros(3, 2), 0.1)
    with pytest.raises(ValueError, match="leaps, the leapfrog steps a move, must be at least 1, got 0"):
        hmc(standard, torch.zeros(3, 2), 0.1, 5, leaps=0)
    for run, target in product((mala, hmc, metropolis), (0.0, 1.0)):
        with pytest.raises(ValueError, match=f"target acceptance must lie strictly between 0 and 1, got {target}"):
            run(standard, torch.zeros(3, 2), 0.1, 5, target=target)
    for diagnostic in (effective_sample_size, split_r_hat):
        with pytest.raises(ValueError, match=r"at least 4 draws; got shape \(3, 2\)"):
            diagnostic(torch.zeros(3, 2))


# Devices

ONE_STEPS = {"ula": ula_step, **{name: transition for name, (transition, _) in EXACT_STEPS.items()}}


class NoReads(TorchDispatchMode):
    """Fails where a number is brought from the device to the host: item(), float(), bool()."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a step waited for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("transition", ONE_STEPS.values(), ids=ONE_STEPS)
def test_a_step_reads_nothing_from_the_device(transition):
    state = at(skewed, noise(4, 2))
    with NoReads():
        moved, _ = transition(skewed, state, 0.1, generator())
        langevin_step(skewed, moved.z, 0.1, generator())
    assert isinstance(moved, State)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_chains_on_a_gpu_go_where_they_go_on_the_cpu(run):
    z = noise(5, 3).float()
    ours, trace = run(skewed, z.cuda(), 0.05, 10, generator(1), warmup=5)
    expected = run(skewed, z, 0.05, 10, generator(1), warmup=5)
    assert trace.z.is_cuda and torch.allclose(ours.cpu(), expected[0], atol=1e-4)
    assert trace.acceptance == pytest.approx(expected[1].acceptance, abs=1e-4)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("transition", ONE_STEPS.values(), ids=ONE_STEPS)
def test_a_step_on_a_gpu_copies_nothing_to_the_host(transition):
    state, noise_there = at(skewed, noise(4, 2).cuda()), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved, _ = transition(skewed, state, 0.1, noise_there)
        langevin_step(skewed, moved.z, 0.1, noise_there)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_constant_of_a_density_does_not_matter():
    z = noise(4, 2)
    shifted = hmc(lambda z: standard(z) + pi, z, 0.3, 20, generator(1))[0]
    assert torch.allclose(shifted, hmc(standard, z, 0.3, 20, generator(1))[0], atol=1e-10)


@pytest.mark.parametrize("walk", [langevin, mala, hmc])
def test_chains_move_inside_no_grad_and_say_what_is_wrong_inside_inference_mode(walk):
    def potential(z: Tensor) -> Tensor:
        return 0.5 * (z**2).sum(-1)

    free = walk(potential, torch.zeros(5, 2), 0.1, 10, generator())[0]
    with torch.no_grad():
        assert torch.equal(walk(potential, torch.zeros(5, 2), 0.1, 10, generator())[0], free)
    with torch.inference_mode(), pytest.raises(ValueError, match=r"torch.inference_mode\(\) rules them out.*no_grad"):
        walk(potential, torch.zeros(5, 2), 0.1, 10, generator())
