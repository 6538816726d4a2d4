"""Where the sources err: for each number of the appendix, the printed form is wrong, and the right form is right.

The answers that both are held against are independent: enumeration, quadrature, finite differences, SciPy. With them, the
list of references: each entry leads somewhere, and each citation has its entry.
"""

import re
from collections import Counter
from functools import partial
from itertools import permutations
from math import e, exp, isclose, log, pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from pybtex.database import parse_file
from scipy import integrate, optimize, spatial, special, stats

from helpers import ROOT, generator
from vaecourse import avae, beta_vae, cavi, datasets, elbo, fvi, pca, regularizers, results, samplers, vae, vq_vae
from vaecourse.distributions import Bernoulli, Normal
from vaecourse.exact_models import ConjugateGaussian, ProbabilisticPCA

BOOK = ROOT / "book"
PAGE = (BOOK / "errata.md").read_text("utf-8")
C, X = 0.25, 1.5  # the smallest world: z ~ N(0, 1), x | z ~ N(z, C), seen X
WORLD = ConjugateGaussian(C)
EVIDENCE = stats.norm.logpdf(X, 0, sqrt(1 + C))


def one(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def normal(mu: float, sigma: float) -> Normal:
    return Normal(one(mu), one(log(sigma)))


def expect(law, values, reach: float = 12.0) -> float:
    return integrate.quad(lambda z: law.pdf(z) * values(z), -reach, reach, points=[0], limit=200)[0]


def elbo_of(mu: float, sigma: float) -> float:
    """The ELBO of N(mu, sigma^2) in the smallest world, by quadrature."""
    q = stats.norm(mu, sigma)
    log_joint = lambda z: stats.norm.logpdf(z) + stats.norm.logpdf(X, z, sqrt(C))  # noqa: E731
    return expect(q, lambda z: log_joint(z) - q.logpdf(z))


def law(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1] or None)


def kl(p, q) -> float:
    return float(special.rel_entr(p, q).sum())


def js(p, q) -> float:
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


# H


def test_no_1_the_log_of_a_sum_of_densities_is_no_log_likelihood_and_bounds_no_sum_of_elbos():
    W = np.array([[0.3], [-0.2], [0.1]])
    model = ProbabilisticPCA(torch.from_numpy(W), torch.zeros(3, dtype=torch.float64), 0.01)
    x = np.random.default_rng(0).normal(size=(20, 1)) @ W.T
    exact = stats.multivariate_normal.logpdf(x, np.zeros(3), W @ W.T + 0.01 * np.eye(3))
    assert model.evidence(torch.from_numpy(x)).numpy() == pytest.approx(exact)
    bounds = model.elbo(torch.from_numpy(x), model.best_diagonal(torch.from_numpy(x)))
    likelihood = np.log(np.prod(np.exp(exact)))  # independent data: the product of densities
    assert exact.sum() == pytest.approx(likelihood)
    assert bounds.sum().item() <= exact.sum() + 1e-9
    assert bounds.sum().item() > special.logsumexp(exact) + 5  # the printed inequality fails


def test_no_2a_a_quotient_of_logarithms_is_no_divergence():
    p = law(0, 4)
    assert elbo.kl(torch.from_numpy(p).log(), torch.from_numpy(p).log()).item() == kl(p, p) == 0
    assert (p * np.log(p) / np.log(p)).sum() == pytest.approx(1)


def test_no_2c_a_sum_without_the_spacing_is_no_integral():
    line, finer = (elbo.LatentModel.on_line(WORLD.likelihood, points=n) for n in (2001, 4001))
    without = [elbo.log_evidence(grid.log_joint(one(X))).item() for grid in (line, finer)]
    assert line.evidence(one(X)).item() == pytest.approx(EVIDENCE)
    assert without[1] - without[0] == pytest.approx(log(2), abs=1e-6) and abs(without[0] - EVIDENCE) > 4


def test_no_2d_one_draw_of_the_log_likelihood_scatters_ten_times_as_widely_as_the_mean_of_a_hundred():
    mu, sigma = X / (1 + C), sqrt(C / (1 + C))
    log_likelihood = lambda z: stats.norm.logpdf(X, z, sqrt(C))  # noqa: E731
    mean = expect(stats.norm(mu, sigma), log_likelihood)
    spread = sqrt(expect(stats.norm(mu, sigma), lambda z: (log_likelihood(z) - mean) ** 2))
    z = WORLD.posterior(one(X)).sample(generator(), shape=(100_000,))
    draws = WORLD.likelihood(z).log_prob(one(X))[:, 0]
    assert draws.std().item() == pytest.approx(spread, rel=0.03) and spread > 0.5
    assert draws.view(-1, 100).mean(1).std().item() == pytest.approx(spread / 10, rel=0.12)  # of 1,000 means


@pytest.mark.parametrize("mu, sigma", [(0.0, 1.0), (1.0, 0.3)])
def test_no_3_the_rate_without_its_minus_one_charges_half_a_nat_too_much(mu, sigma):
    q, p = stats.norm(mu, sigma), stats.norm()
    exact = expect(q, lambda z: q.logpdf(z) - p.logpdf(z))
    assert normal(mu, sigma).kl_to_standard().item() == pytest.approx(exact, abs=1e-8)
    assert 0.5 * (mu**2 + sigma**2 - log(sigma**2)) == pytest.approx(exact + 0.5)


def test_no_15a_the_rate_falls_with_the_variance_above_one_and_rises_below():
    rate = lambda sigma: expect(stats.norm(0, sigma), lambda z: stats.norm.logpdf(z, 0, sigma) - stats.norm.logpdf(z))  # noqa: E731
    assert rate(0.1) > rate(0.5) > rate(1.0) + 0.1 and rate(2.0) > rate(1.0)
    assert normal(0, 0.1).kl_to_standard().item() == pytest.approx(rate(0.1))


def test_no_15b_coordinates_of_pca_are_uncorrelated_and_not_independent():
    angle = 2 * pi * np.arange(400) / 400
    ellipse = torch.from_numpy(np.stack([2 * np.cos(angle), np.sin(angle)], 1))
    codes = pca.eigen(ellipse, 2).encode(ellipse).numpy()
    assert stats.pearsonr(*codes.T)[0] == pytest.approx(0, abs=1e-12)
    assert stats.pearsonr(*(codes**2).T)[0] == pytest.approx(-1)


def test_no_21_a_continuous_encoder_of_a_circle_loses_at_least_its_radius_and_a_finite_set_loses_nothing():
    rng = np.random.default_rng(0)
    for a, b in rng.normal(size=(50, 2, 6)):
        code = lambda t, a=a, b=b: a @ np.cos(np.arange(6) * t) + b @ np.sin(np.arange(6) * t)  # noqa: E731
        t = optimize.brentq(lambda t, code=code: code(t) - code(t + pi), 0, pi)
        x = np.array([np.cos(t), np.sin(t)])
        assert code(t) == pytest.approx(code(t + pi), abs=1e-9)
        worst = lambda y, x=x: max(np.linalg.norm(x - y), np.linalg.norm(-x - y))  # noqa: E731
        assert min(worst(y) for y in rng.uniform(-1, 1, (200, 2))) >= 1
    points = rng.normal(size=(30, 5))
    shelf = dict(enumerate(points))  # a code of one dimension, and its decoder
    assert all((shelf[number] == point).all() for number, point in enumerate(points))


def test_no_27_the_best_pair_for_one_point_is_not_the_best_for_all():
    x = np.random.default_rng(0).normal(size=(40, 3)) * [3, 1, 0.5]
    answers = [lambda _, y=y: y for y in x]  # decoders that always draw one point
    assert min(((x[0] - d(0)) ** 2).sum() for d in answers) == 0
    over_all = min(((x - d(0)) ** 2).sum(1).mean() for d in answers)
    by_rank = pca.eigen(torch.from_numpy(x), 1).error_by_rank.numpy()
    assert by_rank[0] == pytest.approx(x.var(0).sum())  # the mean, the best of all single answers
    assert over_all > by_rank[0] > by_rank[1]


def test_no_28_one_number_tells_four_kinds_apart_and_cannot_have_a_cut_for_the_living_and_one_for_what_flies():
    stored = results.load("autoencoders.toy")
    assert stored.values("kind", latents=1).min() > 0.95 and stored.values("flies", latents=1).max() < 0.8
    assert stored.values("kind", latents=2).min() > 0.95 and stored.values("flies", latents=2).min() > 0.95
    alive, flies = {"dog", "bird"}, {"bird", "plane"}
    for order in permutations(["dog", "bird", "car", "plane"]):  # all ways to put four heaps in a row, cut in the middle
        assert not (set(order[:2]) in (alive, {"car", "plane"}) and set(order[:2]) in (flies, {"dog", "car"}))


def test_no_29_a_random_point_of_a_narrow_autoencoder_is_near_the_data_and_of_a_wide_one_is_not():
    digits = datasets.load("digits")
    train, test = digits.train.numpy(), digits.test.numpy()
    real = np.mean([((train - image) ** 2).sum(1).min() for image in test])
    stored = results.load("autoencoders.width")
    narrow, wide = (stored.values("random", latents=k).mean() for k in (2, 16))
    assert narrow < real < wide and wide > 2 * narrow


def test_no_30_gradient_descent_ends_in_an_optimum_that_depends_on_the_start():
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def negative(parameters):  # of the ELBO of N(mu, sigma^2) where x | z ~ N(z^2 + z/2, 1), seen 4
        z = parameters[0] + exp(parameters[1]) * nodes
        rate = 0.5 * (parameters[0] ** 2 + exp(2 * parameters[1]) - 1) - parameters[1]
        return rate - weights @ stats.norm.logpdf(4, z**2 + z / 2)

    ends = [optimize.minimize(negative, [mean, -1.0], tol=1e-10) for mean in (1.0, -1.0)]
    assert all(np.abs(end.jac).max() < 1e-4 for end in ends)  # no small step leads on
    assert ends[0].x[0] > 1 > -1 > ends[1].x[0] and ends[1].fun > ends[0].fun + 0.5


def test_no_31_pca_is_nearest_to_its_reconstructions_and_a_code_filled_up_with_zeros_depends_on_the_axes_sign():
    angle = 2 * pi * np.arange(500) / 500
    x = np.stack([2 * np.cos(angle), np.sin(angle)], 1) @ np.array([[1, 1], [-1, 1]]) / sqrt(2)
    fit = pca.eigen(torch.from_numpy(x), 1)
    error = ((x - fit.decode(fit.encode(torch.from_numpy(x))).numpy()) ** 2).sum(1).mean()
    assert error == pytest.approx(0.5)  # the variance of the short axis
    axis = np.array([1, 1]) / sqrt(2)
    filled = [((x - np.stack([sign * x @ axis, 0 * angle], 1)) ** 2).sum(1).mean() for sign in (1, -1)]
    assert filled[1] > 3 * filled[0] > 6 * error
    assert np.abs(fit.encode(torch.from_numpy(x)).numpy()[:, 0]) == pytest.approx(np.abs(x @ axis))


# U


def test_no_4_the_decoder_is_a_law_over_pictures_and_none_over_codes():
    table = elbo.cats().table.numpy()
    decoder = table / table.sum(1, keepdims=True)
    assert decoder.sum(1) == pytest.approx([1, 1])
    assert np.abs(decoder.sum(0) - 1).min() > 0.05


def test_no_5_a_density_met_exactly_has_no_bound_and_a_coin_has():
    for log_sigma in (-3, -9):
        exact = stats.norm.logpdf(0, 0, exp(log_sigma))
        assert normal(0, exp(log_sigma)).log_prob(one(0)).item() == pytest.approx(exact)
        assert exact > -log_sigma - 1
    assert Bernoulli(one(50.0)).log_prob(one(1)).item() == pytest.approx(0, abs=1e-12)


def test_no_6_the_gaussian_term_without_its_constant_is_no_log_density():
    x, mu, sigma = np.random.default_rng(0).uniform(0.1, 1, (3, 64))
    exact = stats.norm.logpdf(x, mu, sigma).sum()
    q = Normal(torch.from_numpy(mu), torch.from_numpy(np.log(sigma)))
    printed = -(0.5 * np.log(sigma**2) + (x - mu) ** 2 / (2 * sigma**2)).sum()
    assert q.log_prob(torch.from_numpy(x)).item() == pytest.approx(exact)
    assert printed - exact == pytest.approx(64 / 2 * log(2 * pi))


def test_no_14a_the_divergence_to_the_posterior_can_be_zero_where_that_to_the_prior_is_not():
    mu, sigma = X / (1 + C), sqrt(C / (1 + C))
    q = stats.norm(mu, sigma)
    posterior = WORLD.posterior(one(X))
    assert posterior.kl(normal(mu, sigma)).item() == pytest.approx(0, abs=1e-12)
    to_prior = expect(q, lambda z: q.logpdf(z) - stats.norm.logpdf(z))
    assert posterior.kl_to_standard().item() == pytest.approx(to_prior)
    assert to_prior > 1


def test_no_14b_a_deviation_taken_for_a_variance_is_another_law():
    q, p = stats.norm(0, 0.1), stats.norm(0, sqrt(0.1))
    exact = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -1, 1)[0]
    assert normal(0, 0.1).kl(normal(0, sqrt(0.1))).item() == pytest.approx(exact, abs=1e-6)
    assert exact > 0.7


def test_no_14c_the_elbo_bounds_the_marginal_likelihood_and_not_the_conditional_one():
    best = WORLD.elbo(one(X), WORLD.posterior(one(X))).item()
    assert best == pytest.approx(EVIDENCE)
    assert best > stats.norm.logpdf(X, 0, sqrt(C)) + 2


def test_no_14d_a_tenth_is_what_the_picture_says_and_a_third_what_is_known_before():
    table = elbo.cats().table
    assert table[1].sum().item() == pytest.approx(1 / 3)
    assert (table[1, 2] / table[:, 2].sum()).item() == pytest.approx(0.1)
    assert elbo.cats().posterior(torch.tensor([2])).probabilities[0, 1].item() == pytest.approx(0.1)


def test_no_14f_what_a_gradient_step_does_to_a_code_is_overwritten_by_its_averages():
    ends = []
    for step in (0.0, 0.5):
        codebook = vq_vae.EMACodebook(torch.zeros(1, 1), decay=0.99)
        for _ in range(100):
            codebook.vectors += step * (1 - codebook.vectors)
            codebook.update(torch.ones(1, 1), torch.zeros(1, dtype=torch.long))
        ends.append(codebook.vectors.item())
    assert ends == pytest.approx([1 - 0.99**100] * 2, abs=1e-4)


def test_no_14g_the_stronger_the_commitment_the_more_codes_a_step_changes():
    x = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    share = {}
    for beta in (0.25, 4.0):
        w = 1 / sqrt(beta)  # where the chapter's smallest case is at rest
        words = torch.tensor([[-w * sqrt(2 / pi)], [w * sqrt(2 / pi)]], dtype=torch.float64)
        before, after = (vq_vae.nearest(torch.from_numpy(w * x + shift)[:, None], words) for shift in (0.0, 0.1))
        share[beta] = (before != after).double().mean().item()
        assert share[beta] == pytest.approx(stats.norm.cdf(0.1 * sqrt(beta)) - 0.5, abs=1e-4)
    assert share[4.0] > 3.5 * share[0.25]
    stored = results.load("vq_vae.commitment")
    changed = [stored.values("changed", beta=beta) for beta in (0.0, 0.1, 0.25, 1.0, 2.0)]
    assert (np.diff([each.mean() for each in changed]) > 0).all()
    assert all((changed[0] < each).all() for each in changed[1:])


def test_no_14h_the_frequencies_of_words_draw_what_does_not_exist_and_cost_more_than_a_law_of_grids():
    joint = np.array([[1, 1, 1, 1], [1, 1, 1, 0]]) / 7
    by_word = np.outer(joint.sum(1), joint.sum(0))
    assert by_word[1, 3] == pytest.approx(3 / 49) and joint[1, 3] == 0
    bits = -special.xlogy(joint, by_word).sum() / log(2)
    assert bits == pytest.approx(stats.entropy(joint.ravel(), base=2) + kl(joint, by_word) / log(2)) and bits > np.log2(7) + 0.1
    stored = results.load("vq_vae2.levels")
    assert (stored.values("top_bits") < stored.values("top_frequency_bits") - 1.5).all()


def test_no_22_a_multiplier_rests_where_the_limit_is_met_only_if_the_limit_stands_in_the_lagrangian():
    variances, c, delta = [1.0, 0.5, 0.2], 0.1, 1.2

    def curve(beta):  # the best code of a Gaussian, by hand
        coded = [v for v in variances if v > beta * c]
        rate = sum(0.5 * log(v / (beta * c)) for v in coded)
        error = sum(min(v, beta * c) for v in variances)
        return rate, error / (2 * c) + 1.5 * log(2 * pi * c)

    betas = np.linspace(0.1, 9, 400)
    found = np.array([beta_vae.gaussian_rate_distortion(torch.tensor(variances), c, beta) for beta in betas])
    rate, distortion = np.array([curve(beta) for beta in betas]).T
    assert found == pytest.approx(np.stack([rate, distortion], 1), abs=1e-5)
    best = np.argmax(distortion + betas * (rate - delta))
    assert rate[best] == pytest.approx(delta, abs=0.01)
    without = distortion + betas * rate
    assert np.argmax(without[betas < 4]) == (betas < 4).sum() - 1  # at any end it is the largest there
    assert np.argmax(without) == len(betas) - 1
    level = max(variances) / c  # from there on there is no code, and the printed function is flat
    beyond = [beta_vae.gaussian_rate_distortion(torch.tensor(variances), c, beta) for beta in (level, 2 * level)]
    assert [r for r, _ in beyond] == pytest.approx([0, 0], abs=1e-5)
    assert beyond[0][1] == pytest.approx(beyond[1][1], abs=1e-5)


def test_no_23_a_larger_beta_lowers_the_rate_each_time_and_does_not_raise_the_gap_each_time():
    stored = results.load("beta_vae.sprites")
    betas = [1.0, 4.0, 8.0, 16.0, 32.0]
    of = {key: [stored.values(key, kind="beta", strength=beta) for beta in betas] for key in ("rate", "mig", "squared_error")}
    assert (np.diff([values.mean() for values in of["rate"]]) < 0).all()
    assert (np.diff([values.mean() for values in of["squared_error"]]) > 0).all()
    assert of["mig"][4].mean() < of["mig"][3].mean()
    assert stats.ttest_ind(of["mig"][0], of["mig"][2]).pvalue > 0.1  # from 1 to 8: nothing beyond the seeds
    assert stats.ttest_ind(of["mig"][2], of["mig"][3]).pvalue < 0.01  # at 16: something


def test_no_33_a_model_that_knows_its_examples_by_heart_gives_nothing_else_a_probability():
    digits = datasets.load("digits")
    train, test = digits.train.double().numpy()[:300], digits.test.double().numpy()

    def by_heart(images, sigma):  # the mean log density of a mixture of Gaussians, one on each training digit
        exponent = -spatial.distance.cdist(images, train, "sqeuclidean") / (2 * sigma**2)
        return special.logsumexp(exponent, axis=1).mean() - log(len(train)) - 32 * log(2 * pi * sigma**2)

    one_digit = stats.norm.logpdf(train[0], train[0], 0.2).sum()
    assert by_heart(train[:1], 0.2) >= one_digit - log(len(train))
    wide, narrow = ([by_heart(images, sigma) for images in (train, test)] for sigma in (0.2, 0.02))
    assert narrow[0] > wide[0] + 100 and narrow[1] < wide[1] - 1000


# A


def test_no_7_with_the_entropys_sign_wrong_the_bound_falls_under_right_updates():
    noise = generator(15)
    log_p = 2 * torch.randn(3, 3, generator=noise, dtype=torch.float64)
    table = cavi.Table(log_p)
    right, printed = [], []
    for step in cavi.ascend(table, table.start(noise)):
        q = np.outer(*(factor.numpy() for factor in step.q))
        expected, entropy = (q * log_p.numpy()).sum(), stats.entropy(q.ravel())
        right.append(expected + entropy)
        printed.append(expected - entropy)
        assert step.elbo == pytest.approx(right[-1])
    evidence = special.logsumexp(log_p.numpy())
    assert (np.diff(right) > -1e-12).all() and right[-1] < evidence
    assert np.diff(printed).min() < -0.01 and printed[-1] < right[-1] - 1


def test_no_8_the_score_functions_form_along_the_path_never_moves_a_mean():
    mu, log_sigma, step = 0.5, -0.5, 1e-5
    exact = [
        (elbo_of(mu + step, exp(log_sigma)) - elbo_of(mu - step, exp(log_sigma))) / (2 * step),
        (elbo_of(mu, exp(log_sigma + step)) - elbo_of(mu, exp(log_sigma - step))) / (2 * step),
    ]
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    eps, weights = torch.from_numpy(nodes)[:, None], torch.from_numpy(weights / weights.sum())
    parameters = torch.tensor([mu, log_sigma], dtype=torch.float64, requires_grad=True)
    q = Normal(parameters[:1], parameters[1:])
    z = q.mu + q.log_sigma.exp() * eps
    prior = Normal(torch.zeros_like(z), torch.zeros_like(z))
    difference = prior.log_prob(z) + WORLD.likelihood(z).log_prob(one(X)[0]) - q.log_prob(z)
    (right,) = torch.autograd.grad(weights @ difference, parameters, retain_graph=True)
    (printed,) = torch.autograd.grad(weights @ (difference.detach() * q.log_prob(z)), parameters)
    assert right.numpy() == pytest.approx(exact, abs=1e-4)
    assert printed.numpy() == pytest.approx([0, -elbo_of(mu, exp(log_sigma))], abs=1e-6)


def test_no_9_the_dual_of_t_log_t_turns_the_divergence_round_and_t_log_t_does_not():
    p, q = law(1, 4), law(2, 4)
    f = lambda t: t * np.log(t)  # noqa: E731
    right = fvi.exclusive_kl.star.value(torch.from_numpy(np.log(p / q))).numpy()
    assert right == pytest.approx(p / q * f(q / p))
    assert q @ right == pytest.approx(kl(q, p))
    assert abs(q @ f(p / q) - kl(q, p)) > 0.05


def test_no_10_the_line_for_f0_minimizes_the_opposite_direction():
    rng = np.random.default_rng(4)
    p = rng.dirichlet(np.ones(6)).reshape(2, 3)
    q_1 = np.array([0.3, 0.7])
    rest = p / q_1[:, None]
    f, f_inverse, star = lambda t: t**2 - 1, lambda y: np.sqrt(y + 1), lambda t: 1 / t - t

    def best(divergence):
        objective = lambda logits: divergence(q_1[:, None] * special.softmax(logits))  # noqa: E731
        return special.softmax(optimize.minimize(objective, np.zeros(3), tol=1e-12).x)

    right = best(lambda q: (q * star(p / q)).sum())  # D_f(q || p)
    opposite = best(lambda q: (p * star(q / p)).sum())  # D_f(p || q)
    printed = f_inverse(q_1 @ f(rest))
    printed /= printed.sum()
    assert printed == pytest.approx(opposite, abs=1e-4) and np.abs(printed - right).max() > 0.02
    factors = [torch.from_numpy(q_1).log(), torch.zeros(3, dtype=torch.float64)]
    update = fvi.power_mean_update(torch.from_numpy(p).log(), factors, 1, 1 - fvi.chi_square.alpha)
    assert update.exp().numpy() == pytest.approx(right, abs=1e-4)


P, Q = stats.norm(0, 1), stats.norm(2, 0.5)


def skewed(alpha: float, weight: float, dual: bool = False) -> float:
    """The geometric divergence of P and Q by quadrature, with P^(1 - weight) Q^weight, normalized."""
    log_g = lambda z: (1 - weight) * P.logpdf(z) + weight * Q.logpdf(z)  # noqa: E731
    log_Z = log(integrate.quad(lambda z: exp(log_g(z)), -12, 12, points=[0, 2])[0])
    terms = []
    for part in (P, Q):
        values = lambda z, part=part: part.logpdf(z) - log_g(z) + log_Z  # noqa: E731
        density = (lambda z: exp(log_g(z) - log_Z)) if dual else part.pdf
        sign = -1 if dual else 1
        terms.append(integrate.quad(lambda z: sign * density(z) * values(z), -12, 12, points=[0, 2])[0])  # noqa: B023
    return (1 - alpha) * terms[0] + alpha * terms[1]


def test_no_11a_with_the_printed_weights_both_ends_are_zero_and_swapped_they_are_the_two_kls():
    p, q = normal(0, 1), normal(2, 0.5)
    kl_pq = expect(P, lambda z: P.logpdf(z) - Q.logpdf(z))
    kl_qp = integrate.quad(lambda z: Q.pdf(z) * (Q.logpdf(z) - P.logpdf(z)), -3, 7)[0]
    for alpha, swapped in ((0.0, kl_pq), (1.0, kl_qp)):
        assert skewed(alpha, alpha) == pytest.approx(0, abs=1e-8)
        assert regularizers.geometric_js(p, q, alpha).item() == pytest.approx(0, abs=1e-12)
        assert skewed(alpha, 1 - alpha) == pytest.approx(swapped)
        assert regularizers.geometric_js(p, q, alpha, swapped=True).item() == pytest.approx(swapped)


def test_no_11b_the_dual_is_another_divergence_than_the_swap():
    p, q = normal(0, 1), normal(2, 0.5)
    assert regularizers.geometric_js(p, q, 0.5).item() == pytest.approx(skewed(0.5, 0.5))
    assert regularizers.dual_geometric_js(p, q, 0.5).item() == pytest.approx(skewed(0.5, 0.5, dual=True))
    assert skewed(0.5, 0.5) > skewed(0.5, 0.5, dual=True) + 0.5


def test_no_11c_without_its_normalizer_the_mean_gives_too_much():
    log_g = lambda z: 0.5 * (P.logpdf(z) + Q.logpdf(z))  # noqa: E731
    Z = integrate.quad(lambda z: exp(log_g(z)), -12, 12, points=[0, 2])[0]
    printed = 0.5 * (
        expect(P, lambda z: P.logpdf(z) - log_g(z)) + integrate.quad(lambda z: Q.pdf(z) * (Q.logpdf(z) - log_g(z)), -3, 7)[0]
    )
    right = regularizers.geometric_js(normal(0, 1), normal(2, 0.5), 0.5).item()
    assert printed - log(1 / Z) == pytest.approx(right) and printed > right + 0.5


def test_no_11d_side_by_side_f_divergences_average_and_the_geometric_one_does_not():
    def geometric(p, q):
        g = np.sqrt(p * q)
        return (kl(p, g / g.sum()) + kl(q, g / g.sum())) / 2

    p, q, r = np.array([0.9, 0.1]), np.array([0.1, 0.9]), np.array([0.5, 0.5])
    together = np.concatenate([p, r]) / 2, np.concatenate([q, r]) / 2
    for divergence in (kl, js, lambda p, q: (p * ((q / p) ** 2 - 1)).sum()):
        assert divergence(*together) == pytest.approx(divergence(p, q) / 2)
    assert abs(geometric(*together) - geometric(p, q) / 2) > 0.02


def test_no_11e_with_the_weights_swapped_the_best_circle_leaves_the_strip_between_the_two_kls():
    def js(log_v, alpha, weight):  # along each axis of the ellipse, variances 1.9 and .1; g has that weight on p
        v, total = exp(log_v), 0.0
        for axis in (1.9, 0.1):
            g = 1 / ((1 - weight) / v + weight / axis)
            total += (1 - alpha) * (v / g - 1 - log(v / g)) / 2 + alpha * (axis / g - 1 - log(axis / g)) / 2
        return total

    def best(alpha, swapped):
        weight = 1 - alpha if swapped else alpha
        found = optimize.minimize_scalar(js, bounds=(-4, 1.5), args=(alpha, weight), method="bounded", options={"xatol": 1e-9})
        return exp(found.x)

    assert best(0.0, True) == pytest.approx(1 - 0.81, abs=1e-5) and best(1.0, True) == pytest.approx(1, abs=1e-5)
    assert best(0.1, True) < 0.9 * best(0.0, True) and best(0.9, True) > 1.2 * best(1.0, True)
    narrow = regularizers.FullNormal(torch.zeros(2).double(), torch.tensor([[1, 0.9], [0.9, 1]]).double())
    for swapped in (False, True):
        for alpha in (0.1, 0.9):
            v = best(alpha, swapped)
            circle = regularizers.FullNormal(torch.zeros(2).double(), v * torch.eye(2).double())
            ours = regularizers.geometric_js(circle, narrow, alpha, swapped=swapped).item()
            assert ours == pytest.approx(js(log(v), alpha, 1 - alpha if swapped else alpha))
    printed = [best(alpha, False) for alpha in np.linspace(0.01, 0.99, 25)]
    assert (np.diff(printed) < 0).all() and printed[-1] > 0.19 and printed[0] < 1


def test_no_16a_kl_to_the_posterior_plus_elbo_is_constant_and_kl_to_the_prior_plus_elbo_rises():
    posterior = X / (1 + C), sqrt(C / (1 + C))
    sums = []
    for mu, sigma in ((0.0, 1.0), posterior):
        q = normal(mu, sigma)
        bound = elbo_of(mu, sigma)
        assert WORLD.elbo(one(X), q).item() == pytest.approx(bound, abs=1e-6)
        assert bound + q.kl(normal(*posterior)).item() == pytest.approx(EVIDENCE, abs=1e-6)
        likelihood = expect(stats.norm(mu, sigma), lambda z: stats.norm.logpdf(X, z, sqrt(C)))
        sums.append(bound + q.kl_to_standard().item())
        assert sums[-1] == pytest.approx(likelihood, abs=1e-6)
    assert sums[1] > sums[0] + 5


def test_no_16b_ascent_of_what_is_to_be_minimized_lowers_the_elbo():
    mu, step = 0.3, 1e-5
    slope = -(elbo_of(mu + step, 1) - elbo_of(mu - step, 1)) / (2 * step)  # of L_f = -ELBO
    assert elbo_of(mu + 0.05 * slope, 1) < elbo_of(mu, 1) - 0.1
    assert elbo_of(mu - 0.05 * slope, 1) > elbo_of(mu, 1) + 0.1


def test_no_16c_a_scaled_minibatch_estimates_the_bound_of_all_data_and_not_its_own():
    bounds = np.random.default_rng(0).normal(-20, 3, 600)
    batches = bounds.reshape(-1, 50).sum(1)
    assert (600 / 50 * batches).mean() == pytest.approx(bounds.sum())
    assert np.abs(600 / 50 * batches - batches).min() > 1000


def test_no_16d_mean_field_takes_an_independent_q_for_a_posterior_that_is_not():
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    precision = np.linalg.inv(covariance)
    target = cavi.GaussianTarget(torch.zeros(2, dtype=torch.float64), torch.from_numpy(precision))
    field = cavi.fit(target, target.start(), progress=False)

    def divergence(log_v):  # of a factorized Gaussian to the posterior, by its textbook formula
        v = np.exp(log_v)
        return 0.5 * (np.trace(precision @ np.diag(v)) - 2 + np.linalg.slogdet(covariance)[1] - log_v.sum())

    best = optimize.minimize(divergence, np.zeros(2), tol=1e-10)
    assert field.q.covariance.diagonal().numpy() == pytest.approx(np.exp(best.x), abs=1e-4)
    assert -field.elbo == pytest.approx(best.fun, abs=1e-6) and best.fun > 0.8


def test_no_16e_coordinate_ascent_ends_in_a_local_optimum():
    p = np.array([[0.45, 0.02], [0.02, 0.51]])
    table = cavi.Table(torch.from_numpy(p).log())
    starts = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    ends = [cavi.fit(table, (start, start), progress=False) for start in starts]
    grid = np.linspace(0.001, 0.999, 400)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    q = np.stack([a * b, a * (1 - b), (1 - a) * b, (1 - a) * (1 - b)])
    highest = (q * (np.log(p).reshape(4, 1, 1) - np.log(q))).sum(0).max()
    assert max(end.elbo for end in ends) == pytest.approx(highest, abs=1e-3)
    assert min(end.elbo for end in ends) < highest - 0.1


def test_no_16f_two_encoders_that_match_the_prior_may_differ_in_information():
    z, x = np.meshgrid(np.linspace(-7, 7, 400), np.linspace(-8, 8, 400), indexing="ij")
    joint = stats.norm.pdf(z) * stats.norm.pdf(x, z, sqrt(C)) * (14 / 399) * (16 / 399)
    information = kl(joint, joint.sum(1, keepdims=True) * joint.sum(0))
    assert information == pytest.approx(0.5 * log((1 + C) / C), abs=1e-6)
    assert joint.sum(1) == pytest.approx(stats.norm.pdf(z[:, 0]) * 14 / 399, abs=1e-9)  # q(z) = p(z), exact posteriors
    p_x, points = joint.sum(0)[:, None], torch.from_numpy(x[0])[:, None]
    exact, collapsed = WORLD.posterior(points), Normal(0 * points, 0 * points)  # the collapsed one matches, too
    mean = [(torch.from_numpy(p_x[:, 0]) @ WORLD.elbo(points, q)).item() for q in (exact, collapsed)]
    assert mean[0] == pytest.approx(-0.5 * log(2 * pi * e * (1 + C)), abs=1e-5)
    assert mean[1] < mean[0] - information


def test_no_16g_du_vae_adds_no_term_and_normalizes_its_means():
    du_vae = vae.bernoulli_vae(6, latents=2, hidden=(8,), seed=0, kind=regularizers.DUVAE)
    x = torch.rand(50, 6, generator=generator())
    parts = du_vae.loss(x, generator())
    assert parts.keys() == {"loss", "distortion", "rate"}
    assert parts["loss"].item() == pytest.approx((parts["distortion"] + parts["rate"]).item())
    q = du_vae.encode(x)
    assert q.mu.detach().numpy().var(0) == pytest.approx([1, 1], abs=1e-2)
    assert q.kl_to_standard().mean() >= 0.5 * 2 * 0.99  # so the rate cannot vanish


@pytest.mark.parametrize("f", [lambda t: abs(t - 1) / 2, lambda t: t * np.log(t), lambda t: (t**0.5 - 1) ** 2])
def test_no_16i_every_convex_generator_has_a_surrogate_and_its_bound_splits(f):
    joint, q = law(5, 6) * 0.3, law(6, 6)
    evidence = joint.sum()
    posterior = joint / evidence
    surrogate = lambda t: f(t / evidence) - f(1 / evidence)  # noqa: E731
    star = lambda t: t * f(1 / t)  # noqa: E731
    assert surrogate(1.0) == 0
    t = np.linspace(0.05, 8, 400)
    assert (np.diff(surrogate(t), 2) > -1e-9).all()  # convex
    far = (posterior * surrogate(q / posterior)).sum()
    assert far > 0
    assert (q * star(joint / q)).sum() == pytest.approx(star(evidence) + evidence * far)


def test_no_16j_a_diagonal_covariance_costs_what_independence_costs():
    rng = np.random.default_rng(0)
    W, c = rng.normal(size=(6, 3)), 0.5
    P = np.eye(3) + W.T @ W / c  # the posterior's inverse covariance
    price = 0.5 * (np.log(np.diag(P)).sum() - np.linalg.slogdet(P)[1])
    model = ProbabilisticPCA(torch.from_numpy(W), torch.zeros(6, dtype=torch.float64), c)
    x = torch.from_numpy(rng.normal(size=(5, 6)))
    gap = model.evidence(x) - model.elbo(x, model.best_diagonal(x))
    assert gap.numpy() == pytest.approx(np.full(5, price)) and price > 0.1
    axes = np.linalg.eigh(P)[1]  # turned along the posterior's axes independence costs nothing
    turned = ProbabilisticPCA(torch.from_numpy(W @ axes), model.m, c)
    assert (turned.evidence(x) - turned.elbo(x, turned.best_diagonal(x))).numpy() == pytest.approx(np.zeros(5), abs=1e-9)


def test_no_16k_kl_is_neither_symmetric_nor_obeys_the_triangle_inequality():
    there, back = normal(0, 1).kl(normal(2, 0.5)).item(), normal(2, 0.5).kl(normal(0, 1)).item()
    assert there == pytest.approx(expect(P, lambda z: P.logpdf(z) - Q.logpdf(z))) and there > back + 5
    straight = expect(stats.norm(0, 1), lambda z: stats.norm.logpdf(z) - stats.norm.logpdf(z, 2))
    step = expect(stats.norm(0, 1), lambda z: stats.norm.logpdf(z) - stats.norm.logpdf(z, 1))
    assert normal(0, 1).kl(normal(2, 1)).item() == pytest.approx(straight) and straight > 2 * step + 0.5


def test_no_17_where_the_posterior_is_gaussian_no_dial_moves_its_gaussian_fit():
    z = torch.arange(-4, 4, 0.01, dtype=torch.float64)[:, None]
    log_p = torch.from_numpy(stats.norm.logpdf(z[:, 0].numpy(), 0.8, 0.3))
    start = Normal(torch.tensor([0.5]), torch.tensor([-0.8]))
    for alpha, beta in ((1.0, 0.0), (0.5, 1.5), (2.0, -0.5)):
        by_dials = partial(fvi.alpha_beta_divergence, log_p=log_p, log_measure=log(0.01), alpha=alpha, beta=beta)
        q = fvi.fit_exactly(lambda q, far=by_dials: far(q.log_prob(z)), start)
        assert (q.mu.item(), q.log_sigma.exp().item()) == pytest.approx((0.8, 0.3), abs=1e-4)
    stored = results.load("fvi.outliers")
    for seed in range(5):
        assert np.ptp(stored.values("mu", likelihood="normal", seed=seed)) < 1e-4
        assert stored.values("slope_error", likelihood="normal", seed=seed).min() > 0.5
    spread = [np.ptp(stored.values("mu", likelihood="Cauchy", seed=seed)) for seed in range(5)]
    assert max(spread) > 0.3
    errors = [stored.values("slope_error", likelihood="Cauchy", seed=seed) for seed in range(5)]
    alpha_2 = np.array([row["alpha"] == 2 for row in stored.rows if row["likelihood"] == "Cauchy" and row["seed"] == 1])
    assert errors[1][alpha_2].max() < 0.2 and errors[1][~alpha_2].min() > 0.9  # one data set of five, and alpha = 2 only
    assert max(np.ptp(errors[seed]) for seed in (0, 2, 3, 4)) < 0.15


@pytest.mark.parametrize("omega, reparameterization_wins", [(1.0, True), (10.0, False)])
def test_no_18a_reparameterization_varies_less_or_more_as_the_integrand_is_smooth_or_not(omega, reparameterization_wins):
    law_ = stats.norm()
    moments = {
        "score": lambda z: np.sin(omega * z) * z,
        "path": lambda z: omega * np.cos(omega * z),
    }
    line = np.linspace(-10, 10, 200_001)
    weight = law_.pdf(line) * (line[1] - line[0])
    variance = {name: weight @ f(line) ** 2 - (weight @ f(line)) ** 2 for name, f in moments.items()}
    assert weight @ moments["score"](line) == pytest.approx(weight @ moments["path"](line), abs=1e-9)
    assert (variance["path"] < variance["score"]) == reparameterization_wins
    stored = results.load("gradients.sine").values("reparameterized", frequency=omega).mean()
    assert stored == pytest.approx(variance["path"], rel=0.02)


def test_no_18b_at_the_posterior_the_value_of_estimator_a_has_no_variance_and_that_of_b_has():
    q = WORLD.posterior(one(X))
    z = q.sample(generator(), shape=(1000,))
    likelihood = WORLD.likelihood(z).log_prob(one(X))
    a = likelihood + Normal(0 * z, 0 * z).log_prob(z) - q.log_prob(z)
    b = likelihood - q.kl_to_standard()
    assert a.numpy() == pytest.approx(np.full((1000, 1), EVIDENCE))
    assert b.std().item() > 0.5


def test_no_18c_reinforce_climbs_and_with_a_baseline_as_high_as_reparameterization():
    stored = results.load("gradients.ascent")
    of = {name: stored.values("elbo", estimator=name) for name in ("score", "score, leave one out", "reparameterized")}
    start = stored.values("elbos", estimator="score")[:, 0]
    assert len(start) == 3 and (of["score"] > start + 15).all()
    assert (of["score"] < of["reparameterized"] - 0.5).all()
    assert np.abs(of["score, leave one out"] - of["reparameterized"]).max() < 0.1


def test_no_19_a_gaussian_fit_of_exclusive_kl_can_have_too_large_a_variance():
    line = np.arange(-6, 6, 0.002)
    needles = stats.norm.pdf(line[:, None], np.linspace(-0.6, 0.6, 13), 0.01).mean(1)
    p = 0.5 * needles + 0.5 * stats.norm.pdf(line)

    def divergence(log_sigma):
        q = stats.norm.pdf(line, 0, exp(log_sigma))
        return kl(q, p) * 0.002

    grid = np.linspace(-5, 1, 200)
    best = grid[np.argmin([divergence(log_sigma) for log_sigma in grid])]
    exact = (line**2 * p).sum() * 0.002
    assert exact == pytest.approx(0.5 + 0.5 * (np.linspace(-0.6, 0.6, 13) ** 2).mean() + 0.5e-4, abs=1e-4)
    assert exp(2 * best) > exact + 0.05


def test_no_20_an_encoder_that_sits_where_the_posterior_is_largest_is_no_good_encoder():
    mu, sigma = X / (1 + C), sqrt(C / (1 + C))
    values = [WORLD.elbo(one(X), normal(mu, sigma / by)).item() for by in (1, 100, 1000)]
    assert values[0] == pytest.approx(EVIDENCE)
    assert values[1] == pytest.approx(elbo_of(mu, sigma) - log(100) + 0.5, abs=1e-3)  # its entropy is what it lacks
    assert values[1] - values[2] == pytest.approx(log(10), abs=1e-3)


# E

DATA, FAKE = stats.norm(0, 1), stats.norm(1, 0.7)


def critic(z):
    """The best critic's logit, by the package."""
    z = torch.as_tensor(np.asarray(z))
    return avae.optimal_logit(torch.as_tensor(DATA.logpdf(z)), torch.as_tensor(FAKE.logpdf(z))).numpy()


def critic_loss(logit) -> float:
    real = expect(DATA, lambda z: -special.log_expit(logit(z)))
    return real + integrate.quad(lambda z: -FAKE.pdf(z) * special.log_expit(-logit(z)), -5, 7)[0]


def fake_mean(values) -> float:
    return integrate.quad(lambda z: FAKE.pdf(z) * values(z), -5, 7)[0]


KL_FAKE = fake_mean(lambda z: FAKE.logpdf(z) - DATA.logpdf(z))


class Tables:
    """Five images, three codes: p_data(x), p(z), q(z | x), p_G(x | z), and what follows from them."""

    data, prior, q, G = law(0, 5), law(1, 3), law(2, 5, 3), law(3, 3, 5)
    aggregate, p_G = data @ q, prior @ G
    p_enc = (q * data[:, None] / aggregate).T
    generated = prior[:, None] * G


def test_no_12a_the_best_critic_is_the_datas_share():
    for x in (-1.0, 0.5, 2.0):
        cost = lambda a, x=x: -DATA.pdf(x) * special.log_expit(a) - FAKE.pdf(x) * special.log_expit(-a)  # noqa: E731
        best = optimize.minimize_scalar(cost, bounds=(-20, 20), method="bounded").x
        assert critic(x) == pytest.approx(best, abs=1e-4)
    assert critic_loss(critic) < log(4) < critic_loss(lambda z: -critic(z))


def test_no_12b_the_generators_loss_needs_the_minus_sign_and_the_last_term():
    t = Tables
    loss = -(t.generated * np.log(t.p_enc)).sum()
    code_cost = -(t.generated * np.log(t.q.T)).sum()
    rest = kl(t.p_G, t.data) + stats.entropy(t.p_G)
    constant = t.prior @ np.log(t.aggregate)
    assert code_cost + rest + constant == pytest.approx(loss)
    assert abs(-code_cost + rest + constant - loss) > 1 and abs(-code_cost + rest - loss) > 0.1


def test_no_12c_without_log_sigma_the_cost_of_a_code_falls_as_sigma_grows():
    model = normal(0, 10)
    assert -model.log_prob(one(1)).item() == pytest.approx(0.5 / 10**2 + log(10) + 0.5 * log(2 * pi))
    assert -model.log_prob(one(1)).item() > -normal(0, 1).log_prob(one(1)).item() + 1
    assert 1 / 10**2 < 1 / 1**2  # as printed
    stored = results.load("avae.log_sigma")
    with_it, without = (stored.values("log_sigma", with_log_sigma=kept) for kept in (True, False))
    assert without.min() > with_it.max()


def test_no_12d_the_rate_splits_by_the_aggregate_and_not_by_the_posterior():
    t = Tables
    rate = sum(p * kl(row, t.prior) for p, row in zip(t.data, t.q, strict=True))
    information = kl(t.data[:, None] * t.q, t.data[:, None] * t.aggregate)
    assert information + kl(t.aggregate, t.prior) == pytest.approx(rate)
    assert information + rate > rate + 0.05


def test_no_12e_the_games_value_at_its_optimum_is_a_jensen_shannon_divergence():
    middle = lambda z: np.log((DATA.pdf(z) + FAKE.pdf(z)) / 2)  # noqa: E731
    value = (expect(DATA, lambda z: DATA.logpdf(z) - middle(z)) + fake_mean(lambda z: FAKE.logpdf(z) - middle(z))) / 2
    assert -critic_loss(critic) == pytest.approx(2 * value - log(4))
    assert abs(-critic_loss(critic) - KL_FAKE) > 0.5
    assert fake_mean(lambda z: -critic(z)) == pytest.approx(KL_FAKE)


def test_no_12f_a_critic_that_is_nearly_best_is_biased():
    shy = lambda z: 0.75 * critic(z)  # noqa: E731
    assert 0 < critic_loss(shy) - critic_loss(critic) < 0.02
    assert fake_mean(lambda z: -shy(z)) == pytest.approx(0.75 * KL_FAKE)


def test_no_12g_the_elbo_lies_below_the_evidence():
    rng = np.random.default_rng(0)
    values = [elbo_of(mu, sigma) for mu, sigma in zip(rng.normal(size=10), rng.uniform(0.2, 2, 10), strict=True)]
    assert max(values) <= EVIDENCE and min(values) < EVIDENCE - 1


def test_no_12h_the_divergence_of_single_codes_exceeds_that_of_all_images_by_what_a_code_tells():
    t = Tables
    each = sum(p * kl(row, t.data) for p, row in zip(t.prior, t.G, strict=True))
    information = kl(t.generated, t.prior[:, None] * t.p_G)
    assert each == pytest.approx(kl(t.p_G, t.data) + information) and information > 0.05


def test_no_24a_reconstructions_of_vae_gan_resemble_their_originals_more_than_bigans():
    stored = results.load("avae.compare")
    error = {m: stored.values("squared_error", model=m, texture="wood") for m in ("VAE", "VAE/GAN", "BiGAN")}
    assert error["VAE"].max() < error["VAE/GAN"].min() and error["VAE/GAN"].max() < error["BiGAN"].min()
    for name in ("VAE/GAN", "BiGAN"):  # and neither has learned to draw
        assert stored.values("frechet", model=name).min() > 100 * stored.values("data_frechet").max()


def test_no_24b_pairs_can_be_told_apart_where_images_and_codes_cannot():
    encoded, decoded = np.array([[0.45, 0.05], [0.05, 0.45]]), np.full((2, 2), 0.25)
    assert encoded.sum(0) == pytest.approx(decoded.sum(0)) and encoded.sum(1) == pytest.approx(decoded.sum(1))
    best, critic_value = 0.0, 0.0
    for p, q in zip(encoded.ravel(), decoded.ravel(), strict=True):
        logit = avae.optimal_logit(torch.tensor([p]).log(), torch.tensor([q]).log()).item()
        critic_value += p * special.log_expit(logit) + q * special.log_expit(-logit)
        best += p * log(p / (p + q)) + q * log(q / (p + q))
    assert critic_value == pytest.approx(best, abs=1e-6)
    assert best == pytest.approx(2 * js(encoded, decoded) - log(4))
    assert js(encoded, decoded) > 0.1


def test_no_25_avaes_decoder_ties_with_the_vae_in_squared_error_and_its_generator_does_not_come_near():
    stored = results.load("avae.compare")
    vae_error = stored.values("squared_error", model="VAE", texture="wood")
    decoder = np.array([row["decoder_squared_error"] for row in stored.rows if row["model"] == "AVAE"])
    assert abs(decoder.mean() - vae_error.mean()) < 0.1 and stored.values("squared_error", model="AVAE").min() > 8
    assert stored.values("frechet", model="AVAE").min() > 100 * stored.values("data_frechet").max()  # it cannot draw
    images, share = np.random.default_rng(0).random((5, 8)), law(0, 5)  # images that share a code
    mean = share @ images
    error = share @ ((images - mean) ** 2).sum(-1)
    drawn = share @ ((images[:, None] - images) ** 2).sum(-1) @ share  # a generator that draws one of them, as it should
    assert drawn == pytest.approx(2 * error)


# V


def test_no_13a_a_product_of_densities_needs_its_normalizer():
    Z = expect(stats.norm(), lambda x: exp(-(x**2) / 2))
    assert pytest.approx(sqrt(0.5)) == Z
    assert expect(stats.norm(), stats.norm.pdf) == pytest.approx(stats.norm.pdf(0, 0, sqrt(2)))  # and not 1
    corrected = lambda x: stats.norm.logpdf(x) - x**2 / 2 - log(Z)  # noqa: E731
    assert isclose(corrected(0.7), stats.norm.logpdf(0.7, 0, sqrt(0.5)))  # N(0, 1/2)


def test_no_13b_without_noise_langevin_chains_end_at_one_point():
    noise = generator()
    chains = descent = 3 * torch.randn(4000, 1, generator=noise, dtype=torch.float64)
    for _ in range(200):
        chains = samplers.langevin_step(lambda z: 0.5 * (z**2).sum(-1), chains, 0.1, noise)
        descent = descent - 0.05 * descent
    assert descent.var().item() < 1e-6
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], 3999) / 3999  # of 4,000 independent chains at variance 1 / (1 - h/4)
    assert low < chains.var().item() * (1 - 0.1 / 4) < high


def test_no_13c_two_models_have_a_lower_fid_and_several_a_higher_score():
    fid, score = (
        [float(number) for part in re.findall(rf"^{name} \+?= \[(.*)\]", PAGE, re.M) for number in part.split(",")]
        for name in ("FID", "IS")
    )
    assert sorted(value for value in fid if value < 12.19) == [3.17, 9.9]
    assert len(fid) == 21 and sum(value > 8.43 for value in score) > 3


def test_no_13e_the_log_likelihood_is_bounded_by_the_sum_and_is_not_the_sum():
    Z = expect(stats.norm(0, sqrt(1 + C)), lambda x: exp(-(x**2) / 2))
    assert pytest.approx(1 / sqrt(1 + 1 + C)) == Z
    right = EVIDENCE - X**2 / 2 - log(Z)
    of_prior, of_posterior = (WORLD.elbo(one(X), q).item() - X**2 / 2 - log(Z) for q in (normal(0, 1), WORLD.posterior(one(X))))
    assert of_posterior == pytest.approx(right) and of_prior < right - 1
    assert of_prior == pytest.approx(elbo_of(0, 1) - X**2 / 2 - log(Z), abs=1e-6)


def test_no_26_on_25_gaussians_scores_are_as_good_for_as_many_passes_and_better_for_more():
    rows = results.load("vaebm.grid").rows
    near, scores = ([row for row in rows if row["model"] == name] for name in ("near VAE, short", "scores"))
    share = {"near": np.mean([row["share"] for row in near], 0), "scores": np.mean([row["share"] for row in scores], 0)}
    passes = np.sum([np.array(near[0][f"{net}_{way}"]) for net in ("energy", "decoder") for way in ("calls", "gradients")], 0)
    calls = np.array(scores[0]["score_calls"])
    assert passes[1] >= calls[3] and passes[3] >= calls[5] - 1
    assert abs(share["near"][1] - share["scores"][3]) < 0.02
    assert share["scores"][5] > share["near"][3] + 0.01


# The page, the references

WITHOUT_A_NUMBER = {"2b", "13d", "14e", "16h", "32"}


def test_each_entry_has_a_test_and_each_test_an_entry():
    entries = set(re.findall(r"^\(erratum-(\w+)\)=$", PAGE, re.M))
    whole = {entry[:-1] for entry in entries if entry[-1].isalpha()}  # of these the parts are tested
    tested = set(re.findall(r"^def test_no_(\d+[a-z]?)_", Path(__file__).read_text("utf-8"), re.M))
    assert tested == entries - whole - WITHOUT_A_NUMBER


def test_each_entry_is_listed_under_a_chapter_or_within_a_number_that_is():
    entries = re.findall(r"^\(erratum-(\w+)\)=$", PAGE, re.M)
    listed = set(re.findall(r"\]\(#erratum-(\w+)\)", PAGE))
    assert listed <= set(entries)
    numbers = {re.match(r"\d+", entry)[0] for entry in entries}
    assert numbers == {re.match(r"\d+", entry)[0] for entry in listed}
    assert numbers == {str(n) for n in range(1, len(numbers) + 1)}


@pytest.mark.parametrize("page", sorted(BOOK.glob("[01]*.md")), ids=lambda page: page.stem)
def test_the_index_lists_for_each_chapter_what_its_page_cites_and_its_entries_say(page):
    row = re.search(rf"^\| \{{chapter\}}`{page.stem}` \| (.*) \|$", PAGE, re.M)[1]
    listed = set(re.findall(r"#erratum-(\w+)", row))
    cited = set(re.findall(r"erratum-(\w+)", page.read_text("utf-8")))
    within = lambda entry: {entry, re.match(r"\d+", entry)[0]}  # noqa: E731, 2a stands under 2
    assert all(within(entry) & listed for entry in cited)
    assert listed <= set().union(*map(within, cited))
    says = re.findall(r"^\(erratum-(\w+)\)=\n#+ .*\n\n(\{chapter\}.*)$", PAGE, re.M)
    named = {entry for entry, chapters in says if f"`{page.stem}`" in chapters}
    assert all(within(entry) & listed for entry in named)
    assert listed <= set().union(*map(within, named))


REFERENCES = parse_file(BOOK / "references.bib").entries
UNPUBLISHED = {"ajorlou2022"}  # a report that has no address


def test_each_reference_leads_somewhere():
    assert [key for key, entry in REFERENCES.items() if not {"doi", "eprint", "url"} & entry.fields.keys()] == [*UNPUBLISHED]
    for key, entry in REFERENCES.items():
        fields = entry.fields
        assert re.fullmatch(r"10\.\d{4,}/\S+", fields.get("doi", "10.1000/x")), f"{key}: no doi"
        assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z]+/\d{7}", fields.get("eprint", "0000.0000")), f"{key}: no arXiv number"
        assert fields.get("url", "http").startswith("http"), f"{key}: no address"


def test_no_two_references_are_the_same_work():
    for field in ("doi", "eprint"):
        twice = [value for value, n in Counter(entry.fields.get(field) for entry in REFERENCES.values()).items() if n > 1]
        assert twice in ([], [None])


@pytest.mark.parametrize("page", sorted(BOOK.glob("**/*.md")), ids=lambda page: page.stem)
def test_each_citation_of_a_page_has_its_reference(page):
    cited = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text("utf-8"))
    keys = {key.strip() for keys in cited for key in keys.split(",")}
    assert not keys - REFERENCES.keys(), "no such entry in book/references.bib"
