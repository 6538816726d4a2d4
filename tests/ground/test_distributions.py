"""Our distributions against torch.distributions, quadrature and enumeration; what the sources misprint, shown wrong."""

from itertools import product
from math import exp, log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import distributions as oracle

from helpers import generator
from vaecourse.distributions import Bernoulli, Categorical, Mixture, Normal, Point, Support, watched

quick = settings(deadline=None, max_examples=40)
numbers = st.floats(-4, 4)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def pair(kind: type, seed: int, *shape: int):
    """A distribution of the book's and the same one of torch's."""
    if kind is Normal:
        mu, log_sigma = random(*shape, seed=seed), random(*shape, seed=seed + 1)
        return Normal(mu, log_sigma), oracle.Independent(oracle.Normal(mu, log_sigma.exp()), 1)
    if kind is Bernoulli:
        logits = 3 * random(*shape, seed=seed)
        return Bernoulli(logits), oracle.Independent(oracle.Bernoulli(logits=logits), 1)
    logits = 3 * random(*shape, seed=seed)
    return Categorical(logits), oracle.Categorical(logits=logits)


@pytest.mark.parametrize("kind", [Normal, Bernoulli, Categorical])
class TestAgainstTorch:
    def test_log_prob_entropy_and_kl_are_one_number_a_data_point_and_torchs(self, kind):
        (p, p_oracle), (q, q_oracle) = pair(kind, 0, 5, 4), pair(kind, 9, 5, 4)
        x = p_oracle.sample((3,))
        assert p.log_prob(x).shape == (3, 5) and p.entropy().shape == p.kl(q).shape == (5,)
        assert torch.allclose(p.log_prob(x), p_oracle.log_prob(x), atol=1e-12)
        assert torch.allclose(p.entropy(), p_oracle.entropy(), atol=1e-12)
        assert torch.allclose(p.kl(q), oracle.kl_divergence(p_oracle, q_oracle), atol=1e-12)
        assert torch.allclose(p.kl(p), torch.zeros(5, dtype=torch.float64), atol=1e-12)

    def test_one_distribution_serves_many_points_and_many_draws_of_it_one_point(self, kind):
        (one, one_oracle), (many, many_oracle) = pair(kind, 0, 4), pair(kind, 1, 6, 5, 4)
        for p, p_oracle, x in ((one, one_oracle, many_oracle.sample()), (many, many_oracle, many_oracle.sample()[0])):
            assert torch.allclose(p.log_prob(x), p_oracle.log_prob(x), atol=1e-12)

    def test_draws_come_from_the_generator_alone_with_the_sample_shape_before_the_batch(self, kind):
        p, p_oracle = pair(kind, 0, 5, 4)
        state = torch.random.get_rng_state()
        first, again, other = (p.sample(generator(seed), shape=(2, 3)) for seed in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert first.shape == p_oracle.sample((2, 3)).shape and p.sample(generator()).shape == p_oracle.sample().shape

    def test_without_a_generator_draws_follow_the_global_seed(self, kind):
        p, _ = pair(kind, 0, 5, 4)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            first = p.sample()
            torch.manual_seed(5)
            assert torch.equal(first, p.sample())

    def test_a_cpu_generator_serves_a_distribution_on_a_gpu(self, kind):
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        p, _ = pair(kind, 0, 5, 4)
        on_gpu = kind(*(value.cuda() for value in vars(p).values()))
        assert torch.allclose(on_gpu.sample(generator(1)).cpu(), p.sample(generator(1)))

    def test_the_batch_is_not_averaged_and_the_event_is_not_kept(self, kind):
        (p, _), (q, _) = pair(kind, 0, 5, 4), pair(kind, 9, 5, 4)
        alone = kind(*(value[2:3] for value in vars(p).values()))
        other = kind(*(value[2:3] for value in vars(q).values()))
        assert torch.allclose(p.kl(q)[2:3], alone.kl(other)) and torch.allclose(p.entropy()[2:3], alone.entropy())


# The normal distribution


@pytest.mark.equation("eq-vae-gaussian-decoder", oracle="another library: scipy")
def test_the_gaussian_log_density_sums_over_coordinates_with_half_the_log_of_2_pi_each():
    mu, log_sigma, x = random(3, 6, seed=1), random(3, 6, seed=2), random(3, 6, seed=3)
    ours = Normal(mu, log_sigma).log_prob(x).numpy()
    assert np.allclose(ours, stats.norm(mu, log_sigma.exp()).logpdf(x).sum(-1), atol=1e-12)


@pytest.mark.equation("eq-vae-gaussian-decoder", oracle="quadrature")
@pytest.mark.parametrize("sigma", [0.1, 1.0, 7.0])
def test_the_gaussian_density_integrates_to_one_and_without_its_constant_does_not(sigma):
    p = Normal(torch.tensor([0.3], dtype=torch.float64), torch.tensor([log(sigma)], dtype=torch.float64))

    def integral(constant: float) -> float:
        def density(x):
            return exp(p.log_prob(torch.tensor([x], dtype=torch.float64)).item() + constant)

        return integrate.quad(density, 0.3 - 12 * sigma, 0.3 + 12 * sigma, points=[0.3])[0]

    assert integral(0.0) == pytest.approx(1, abs=1e-9)
    assert integral(0.5 * log(2 * pi)) == pytest.approx(sqrt(2 * pi), abs=1e-8)  # the source leaves the constant out


def kl_by_quadrature(mu: float, sigma: float, other_mu: float = 0.0, other_sigma: float = 1.0) -> float:
    q, p = stats.norm(mu, sigma), stats.norm(other_mu, other_sigma)
    bounds = mu - 12 * sigma, mu + 12 * sigma
    return integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), *bounds, epsabs=1e-12, limit=200)[0]


@pytest.mark.equation("eq-vae-gaussian-kl", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", [(0.0, 1.0), (1.0, 1.0), (0.0, 0.1), (-2.0, 3.0), (0.7, 0.5)])
def test_the_kl_to_the_standard_normal_is_the_integral_of_q_log_q_over_p(mu, sigma):
    q = Normal(torch.tensor([mu], dtype=torch.float64), torch.tensor([log(sigma)], dtype=torch.float64))
    assert q.kl_to_standard().item() == pytest.approx(kl_by_quadrature(mu, sigma), abs=1e-8)


@pytest.mark.equation("eq-vae-gaussian-kl", oracle="another library: torch.distributions")
def test_the_kl_to_the_standard_normal_sums_over_coordinates():
    q, q_oracle = pair(Normal, 3, 5, 4)
    zeros = torch.zeros(5, 4, dtype=torch.float64)
    standard = oracle.Independent(oracle.Normal(zeros, zeros.exp()), 1)
    assert torch.allclose(q.kl_to_standard(), oracle.kl_divergence(q_oracle, standard), atol=1e-12)
    assert torch.allclose(q.kl_to_standard(), q.kl(Normal(zeros, zeros)), atol=1e-12)


def test_the_kl_printed_without_its_minus_one_is_a_half_where_the_kl_is_zero():
    def printed(mu, sigma):
        return 0.5 * (mu**2 + sigma**2 - log(sigma**2))

    assert printed(0.0, 1.0) == 0.5
    assert kl_by_quadrature(0.0, 1.0) == pytest.approx(0, abs=1e-12)
    zero = torch.zeros(1)
    assert Normal(zero, zero).kl_to_standard().item() == 0


def test_the_kl_is_exact_to_single_precision_even_where_it_almost_vanishes():
    mu, log_sigma = torch.tensor([[1e-5], [0.0]]), torch.tensor([[0.0], [1e-3]])
    kl = Normal(mu, log_sigma).kl_to_standard()
    exact = Normal(mu.double(), log_sigma.double()).kl_to_standard()
    assert kl[0].item() == pytest.approx(exact[0].item(), rel=1e-6)
    assert kl[1].item() == pytest.approx(exact[1].item(), rel=1e-3)


@quick
@given(mu=numbers, log_sigma=numbers, other_mu=numbers, other_log_sigma=numbers)
def test_a_kl_is_never_negative(mu, log_sigma, other_mu, other_log_sigma):
    q, p = (
        Normal(torch.tensor([m], dtype=torch.float64), torch.tensor([s], dtype=torch.float64))
        for m, s in ((mu, log_sigma), (other_mu, other_log_sigma))
    )
    assert q.kl(p).item() >= -1e-9 and q.kl_to_standard().item() >= -1e-9
    flips, others = Bernoulli(torch.tensor([mu, log_sigma])), Bernoulli(torch.tensor([other_mu, other_log_sigma]))
    assert flips.kl(others).item() >= -1e-6
    assert Categorical(flips.logits).kl(Categorical(others.logits)).item() >= -1e-6


@pytest.mark.equation("eq-vae-reparameterization", oracle="simulation: the Kolmogorov-Smirnov test of scipy's normal law")
def test_mu_plus_sigma_times_standard_noise_has_the_law_of_the_gaussian():
    q = Normal(torch.tensor([1.5, -3.0]), torch.tensor([-1.0, 2.0]))
    z = q.sample(generator(3), shape=(20_000,))
    for j in range(2):  # a true law is rejected once in 2e4 seeds
        law = stats.norm(q.mu[j].item(), q.log_sigma[j].exp().item())
        assert stats.kstest(z[:, j].numpy(), law.cdf).pvalue > 5e-5
    assert abs(np.corrcoef(z.T.numpy())[0, 1]) < 4 / sqrt(20_000)


@pytest.mark.equation("eq-vae-reparameterization", oracle="independent code: the same noise, drawn again")
def test_a_draw_is_mu_plus_sigma_times_the_generators_noise_and_differentiable_in_both():
    mu, log_sigma = random(5, 2, seed=1).requires_grad_(), random(5, 2, seed=2).requires_grad_()
    z = Normal(mu, log_sigma).sample(generator(7), shape=(3,))
    eps = torch.randn(3, 5, 2, generator=generator(7), dtype=torch.float64)
    assert torch.equal(z, mu + log_sigma.exp() * eps)
    z.sum().backward()
    assert torch.allclose(mu.grad, torch.full((5, 2), 3.0, dtype=torch.float64))
    assert torch.allclose(log_sigma.grad, (log_sigma.exp() * eps.sum(0)).detach())


def test_noise_that_is_uniform_or_scaled_by_the_variance_has_another_law():
    q = Normal(torch.tensor([0.0]), torch.tensor([log(0.5)]))
    law = stats.norm(0, 0.5)
    uniform = torch.rand(20_000, generator=generator(3)) * 0.5
    variance = torch.randn(20_000, generator=generator(3)) * (2 * q.log_sigma).exp()
    assert all(stats.kstest(wrong.numpy(), law.cdf).pvalue < 1e-10 for wrong in (uniform, variance))


# Coin flips


@pytest.mark.equation("eq-vae-bernoulli-decoder", oracle="enumeration")
def test_the_probabilities_of_all_binary_images_sum_to_one_and_each_is_the_product_of_its_flips():
    logits = 2 * random(5)
    images = torch.tensor(list(product([0.0, 1.0], repeat=5)), dtype=torch.float64)
    probabilities = Bernoulli(logits).log_prob(images).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    p = 1 / (1 + np.exp(-logits.numpy()))
    for image, probability in zip(images.numpy(), probabilities, strict=True):
        assert probability.item() == pytest.approx(
            np.prod([a if x else 1 - a for a, x in zip(p, image, strict=True)]), rel=1e-12
        )


@pytest.mark.equation("eq-vae-bernoulli-decoder", oracle="another library: torch's cross-entropy")
def test_logits_so_large_that_probabilities_round_to_one_keep_finite_values_and_gradients():
    logits = torch.tensor([[200.0, -200.0], [200.0, -200.0]], requires_grad=True)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    value = Bernoulli(logits).log_prob(x)
    value.sum().backward()
    assert value.tolist() == [0, -400]
    assert torch.equal(logits.grad, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    assert torch.allclose(-value, loss)


def test_a_perfect_reconstruction_has_log_probability_zero_for_flips_but_no_bound_for_a_density():
    x = torch.tensor([1.0, 0.0, 1.0])
    assert Bernoulli(1000 * (2 * x - 1)).log_prob(x).item() == 0
    values = [Normal(x, torch.full((3,), log_sigma)).log_prob(x).item() for log_sigma in (0.0, -2.0, -10.0)]
    assert values == pytest.approx([-3 / 2 * log(2 * pi) - 3 * log_sigma for log_sigma in (0.0, -2.0, -10.0)])
    assert values[0] < 0 < values[1] < values[2]


@pytest.mark.parametrize("p", [0.1, 0.6, 0.99])
def test_a_cross_entropy_with_gray_pixels_is_no_likelihood(p):
    flips = Bernoulli(torch.tensor([log(p / (1 - p))], dtype=torch.float64))
    gray = integrate.quad(lambda x: flips.log_prob(torch.tensor([x], dtype=torch.float64)).exp().item(), 0, 1)[0]
    assert gray == pytest.approx((2 * p - 1) / log(p / (1 - p)), abs=1e-9)  # the normalizer of the continuous Bernoulli
    assert gray < 0.6


@pytest.mark.parametrize("kind", [Bernoulli, Categorical])
def test_discrete_draws_come_as_often_as_their_probabilities_say(kind):
    logits = torch.tensor([-2.0, 0.0, 1.0, 0.3])
    p, n = kind(logits), 40_000
    x = p.sample(generator(4), shape=(n,))
    if kind is Bernoulli:  # four binomial counts, each off by 4.3 standard deviations once in 6e4 seeds
        assert set(x.unique().tolist()) == {0, 1} and x.dtype == logits.dtype
        assert ((x.mean(0) - p.mean).abs() < 4.3 * (p.mean * (1 - p.mean) / n).sqrt()).all()
    else:
        counts = torch.bincount(x, minlength=4).numpy()
        assert (
            stats.chisquare(counts, n * p.probabilities.double().numpy() / p.probabilities.double().sum().item()).pvalue > 1e-4
        )


def test_a_class_of_probability_zero_is_never_drawn():
    p = Categorical(torch.tensor([0.0, -torch.inf, 0.0]))
    assert set(p.sample(generator(), shape=(1000,)).tolist()) == {0, 2}


def test_distributions_cannot_be_changed_once_made():
    with pytest.raises(AttributeError):
        Normal(torch.zeros(1), torch.zeros(1)).mu = torch.ones(1)


@pytest.mark.parametrize("kind, names", [(Normal, ("mu", "log_sigma")), (Bernoulli, ("logits",)), (Categorical, ("logits",))])
def test_a_distribution_is_indexed_and_detached_as_its_parameters_are(kind, names):
    parameters = [torch.randn(4, 3, generator=generator(k)).requires_grad_() for k in range(len(names))]
    q = kind(*parameters)
    for name, parameter in zip(names, parameters, strict=True):
        assert torch.equal(getattr(q[1:3], name), parameter[1:3])
        assert getattr(q[:, None], name).shape == (4, 1, 3)
        assert torch.equal(getattr(q.detach(), name), parameter) and not getattr(q.detach(), name).requires_grad
        assert getattr(q, name).requires_grad


def test_the_standard_normal_is_of_the_shape_and_type_asked_for():
    z = torch.randn(5, 2, generator=generator(), dtype=torch.float64)
    p = Normal.standard(z)
    assert p.log_prob(z).dtype == torch.float64
    expected = stats.norm.logpdf(z.numpy()).sum(-1)
    assert p.log_prob(z).numpy() == pytest.approx(expected, abs=1e-12)
    assert (p.kl_to_standard() == 0).all()


def test_a_point_is_its_own_mean_and_every_draw():
    p = Point(torch.tensor([[1.0, 2.0]]))
    assert torch.equal(p.mean, p.value) and torch.equal(p.sample(generator()), p.value)
    assert p.sample(shape=(3,)).shape == (3, 1, 2) and torch.equal(p[0].mean, p.value[0])


def test_a_mixtures_density_is_the_mean_of_its_components():
    mu, sigma = np.array([[0.0, 1.0], [2.0, -1.0], [-3.0, 0.5]]), np.array([[1.0, 0.3], [0.5, 2.0], [0.1, 1.0]])
    mixture = Mixture(Normal(torch.tensor(mu), torch.tensor(sigma).log()))
    x = np.random.default_rng(0).normal(size=(1100, 2))  # more than are weighed at once
    exact = np.log(np.mean([stats.norm(m, s).pdf(x).prod(-1) for m, s in zip(mu, sigma, strict=True)], 0))
    assert mixture.log_prob(torch.tensor(x)).numpy() == pytest.approx(exact, abs=1e-9)
    drawn = mixture.sample(40_000, generator(2))
    assert len(mixture) == 3
    for axis in range(2):
        law = [stats.norm(m[axis], s[axis]) for m, s in zip(mu, sigma, strict=True)]
        assert stats.kstest(drawn[:, axis].numpy(), lambda v, law=law: np.mean([p.cdf(v) for p in law], 0)).pvalue > 5e-5


@pytest.mark.parametrize("shape", [(0, 2), (2,)])
def test_a_mixture_of_nothing_is_refused(no_shape_checks, shape):
    with pytest.raises(ValueError, match="at least one"):
        Mixture(Normal(torch.zeros(shape), torch.zeros(shape)))


# Zero probabilities, and numbers at the ends of their range


def test_a_class_of_probability_zero_costs_nothing_where_it_is_not_chosen():
    """Of the other two it is a fair coin: log 2."""
    logits = torch.tensor([0.3, 0.3, -torch.inf], dtype=torch.float64, requires_grad=True)
    coin, sure = Categorical(logits), Categorical(torch.tensor([0.0, -torch.inf, -torch.inf]).double())
    assert coin.entropy().item() == pytest.approx(log(2)) and coin.kl(coin).item() == 0
    assert sure.kl(coin).item() == pytest.approx(log(2)) and coin.kl(sure).item() == torch.inf
    (slope,) = torch.autograd.grad(coin.entropy() + coin.kl(coin.detach()), logits)
    assert torch.allclose(slope, torch.zeros(3).double(), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_certain_coin_has_no_entropy_and_says_what_is_impossible(dtype):
    certain = Bernoulli(torch.tensor([torch.inf, -torch.inf, 0.0], dtype=dtype))
    third = Bernoulli(torch.full((3,), log(1 / 2), dtype=dtype))  # p = 1/3
    right, wrong = torch.tensor([1.0, 0.0, 1.0], dtype=dtype), torch.tensor([1.0, 1.0, 1.0], dtype=dtype)
    assert certain.log_prob(right).item() == pytest.approx(-log(2)) and certain.log_prob(wrong).item() == -torch.inf
    assert certain.entropy().item() == pytest.approx(log(2)) and certain.kl(certain).item() == 0
    by_hand = log(3) + log(3 / 2) + 0.5 * log((1 / 2) / (1 / 3)) + 0.5 * log((1 / 2) / (2 / 3))
    assert certain.kl(third).item() == pytest.approx(by_hand, rel=1e-6) and third.kl(certain).item() == torch.inf


def test_the_kl_of_two_nearly_equal_gaussians_keeps_its_digits():
    """In single precision against double: a difference of 1e-4 in log sigma costs 1e-8 nats, never less than none."""
    log_sigma = torch.linspace(-3, 3, 200)[:, None]
    p, q = Normal(log_sigma * 0, log_sigma), Normal(log_sigma * 0, log_sigma + 1e-4)
    ratio = 2 * (p.log_sigma.double() - q.log_sigma.double())
    exact = 0.5 * (ratio.expm1() - ratio)[:, 0]
    assert (p.kl(q) >= 0).all() and torch.allclose(p.kl(q).double(), exact, rtol=1e-2)


def test_a_density_at_its_mean_is_finite_however_narrow_it_is():
    p = Normal(torch.ones(2), torch.full((2,), -100.0))
    assert p.log_prob(torch.ones(2)).item() == pytest.approx(200 - log(2 * pi), rel=1e-6)
    assert p.kl(p).item() == 0 and p.log_prob(torch.zeros(2)).item() == -torch.inf


def test_coins_are_asked_about_whole_numbers_too():
    assert Bernoulli(torch.zeros(3)).log_prob(torch.tensor([0, 1, 1])).item() == pytest.approx(-3 * log(2))


def test_what_coins_are_asked_about_is_seen_by_whoever_watches_and_nobody_else():
    coins, support = Bernoulli(torch.zeros(2)), Support()
    coins.log_prob(torch.tensor([3.0, 0.5]))
    with watched(support):
        coins.log_prob(torch.tensor([0.0, 1 + 1e-7]))
        support.check()
        coins.log_prob(torch.tensor([-0.42, 2.8]))
    with pytest.raises(ValueError, match=r"values from -0.42 to 2.8, and take values in \[0, 1\] alone: scale the data"):
        support.check()
    support.check()  # what was said is not said again
