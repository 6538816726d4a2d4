"""AVAE and its neighbors where their answers are known: by enumeration, by quadrature, and by gradients derived by hand."""

from functools import partial
from math import log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from torch import Tensor, nn
from torch.optim import SGD

from helpers import generator, needs_cuda
from vaecourse import avae, training
from vaecourse.avae import AVAE, GAN, VAEGAN, BiGAN, Convolutions, Critic, Layers, PairCritic, Upsampling
from vaecourse.distributions import Categorical
from vaecourse.networks import GaussianNetwork, initial_weights, mlp
from vaecourse.vae import VAE

# A world of few images and few codes, where every expectation is a sum


class World:
    """Tables drawn at random: p_data(x), q(z | x), p(z), p_G(x | z)."""

    def __init__(self, seed: int, images: int = 5, codes: int = 3):
        draw = np.random.default_rng(seed).dirichlet
        self.images, self.codes = range(images), range(codes)
        self.data, self.prior = draw(np.ones(images)), draw(np.ones(codes))
        self.q = draw(np.ones(codes), images)  # [x, z]
        self.G = draw(np.ones(images), codes)  # [z, x]

    @property
    def aggregate(self) -> np.ndarray:
        """q(z)."""
        return np.array([sum(self.data[x] * self.q[x, z] for x in self.images) for z in self.codes])

    @property
    def p_G(self) -> np.ndarray:
        """p_G(x)."""
        return np.array([sum(self.prior[z] * self.G[z, x] for z in self.codes) for x in self.images])

    @property
    def generator_loss(self) -> float:
        """L_G by its definition: the cross-entropy of p_G(x | z) and of the encoder's own q(x | z), by Bayes' rule."""
        total = 0.0
        for z in self.codes:
            for x in self.images:
                encoders = self.q[x, z] * self.data[x] / self.aggregate[z]
                total -= self.prior[z] * self.G[z, x] * log(encoders)
        return total

    @property
    def code_cost(self) -> float:
        """E[-log q(z | x_G)], by the package's log-probabilities."""
        q = Categorical(torch.from_numpy(self.q).log())
        log_q = torch.stack([q.log_prob(torch.tensor(z)) for z in self.codes])
        return -(torch.from_numpy(self.prior[:, None] * self.G) * log_q).sum().item()

    @property
    def divergence(self) -> float:
        """KL(p_G || p_data), by the package's best critic."""
        p_G, data = torch.from_numpy(self.p_G), torch.from_numpy(self.data)
        return (p_G * avae.log_ratio(avae.optimal_logit(data.log(), p_G.log()))).sum().item()

    @property
    def entropy(self) -> float:
        return stats.entropy(self.p_G)

    @property
    def constant(self) -> float:
        """E_p(z) log q(z)."""
        return float(self.prior @ np.log(self.aggregate))


@pytest.mark.equation("eq-avae-generator-loss", oracle="enumeration")
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_the_generators_loss_is_code_cost_divergence_entropy_and_a_constant(seed):
    w = World(seed)
    assert w.code_cost + w.divergence + w.entropy + w.constant == pytest.approx(w.generator_loss, abs=1e-12)


def test_without_the_minus_sign_of_the_code_cost_the_parts_do_not_add_up():
    w = World(0)
    assert w.code_cost > 0.5
    wrong = -w.code_cost + w.divergence + w.entropy + w.constant
    assert abs(wrong - w.generator_loss) == pytest.approx(2 * w.code_cost)


@pytest.mark.equation("eq-avae-constant", oracle="enumeration")
def test_the_last_term_is_the_priors_entropy_and_its_divergence_from_the_aggregate_and_depends_on_the_encoder_alone():
    w, other = World(0), World(1)
    expected = -stats.entropy(w.prior) - stats.entropy(w.prior, w.aggregate)
    assert w.constant == pytest.approx(expected, abs=1e-12)
    w.G = other.G
    assert w.constant == pytest.approx(expected, abs=1e-12)
    w.q = other.q
    assert abs(w.constant - expected) > 0.1
    fits = World(2)
    fits.q = np.tile(fits.prior, (5, 1))  # q(z) = p(z): the most that the term can be, which E would lower
    assert fits.constant == pytest.approx(-stats.entropy(fits.prior), abs=1e-12)


@pytest.mark.equation("eq-avae-information-split", oracle="enumeration")
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_the_mean_kl_to_the_prior_is_mutual_information_and_the_aggregates_kl(seed):
    w = World(seed)
    q, prior = Categorical(torch.from_numpy(w.q).log()), Categorical(torch.from_numpy(w.prior).log())
    rate = (torch.from_numpy(w.data) * q.kl(prior)).sum().item()
    joint = w.data[:, None] * w.q
    information = stats.entropy(joint.ravel(), np.outer(w.data, w.aggregate).ravel())
    assert rate == pytest.approx(information + stats.entropy(w.aggregate, w.prior), abs=1e-12)
    assert information <= stats.entropy(w.data) + 1e-12
    of_each = sum(p * stats.entropy(row, w.prior) for p, row in zip(w.data, w.q, strict=True))  # "KL of z | x", as printed
    assert information + of_each - rate == pytest.approx(information, abs=1e-12)


@pytest.mark.equation("eq-avae-conditional-mean", oracle="numeric search over images")
def test_the_best_pixels_under_squared_error_are_the_mean_of_the_images_that_share_the_code():
    w, images = World(3), np.random.default_rng(0).random((5, 4))
    posterior = w.data[:, None] * w.q / w.aggregate  # p(x | z) of the encoder
    for z in w.codes:
        error = lambda pixels, z=z: posterior[:, z] @ ((images - pixels) ** 2).sum(-1)  # noqa: E731
        best = optimize.minimize(error, np.zeros(4), tol=1e-10).x
        assert np.allclose(best, posterior[:, z] @ images, atol=1e-6)


# The critic where both densities are known

DATA, FAKE = stats.norm(0, 1), stats.norm(1, 0.7)


def quantiles(law, n: int = 200_000) -> Tensor:
    """Points of equal probability: a mean over them is an integral over the law."""
    return torch.from_numpy(law.ppf((np.arange(n) + 0.5) / n))


def logit(x) -> Tensor:
    x = torch.as_tensor(x, dtype=torch.float64)
    return avae.optimal_logit(torch.as_tensor(DATA.logpdf(x)), torch.as_tensor(FAKE.logpdf(x)))


def kl(p, q) -> float:
    return integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -9, 9, epsabs=1e-11)[0]


def jensen_shannon() -> float:
    def part(x):
        p, q = DATA.pdf(x), FAKE.pdf(x)
        return 0.5 * (special.rel_entr(p, (p + q) / 2) + special.rel_entr(q, (p + q) / 2))

    return integrate.quad(part, -9, 9, epsabs=1e-11)[0]


@pytest.mark.equation("eq-avae-critic-loss", oracle="another library: scipy's cross-entropy")
def test_the_critics_loss_is_the_cross_entropy_of_both_kinds_weighed_alike():
    real, fake = torch.randn(5, dtype=torch.float64, generator=generator(1)), torch.tensor([0.3, -2.0, 40.0]).double()
    expected = -np.log(special.expit(real.numpy())).mean() - special.log_expit(-fake.numpy()).mean()
    assert avae.critic_loss(real, fake).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.equation("eq-avae-optimal-critic", oracle="numeric search at each point")
@pytest.mark.parametrize("x", [-2.0, 0.0, 0.4, 1.5, 3.0])
def test_the_best_critic_is_the_datas_share_of_the_density(x):
    p, q = DATA.pdf(x), FAKE.pdf(x)
    cost = lambda a: -p * special.log_expit(a) - q * special.log_expit(-a)  # noqa: E731
    best = optimize.minimize_scalar(cost, bounds=(-30, 30), method="bounded", options={"xatol": 1e-10}).x
    assert logit(x).item() == pytest.approx(best, abs=1e-5)
    assert logit(x).sigmoid().item() == pytest.approx(p / (p + q), abs=1e-12)


@pytest.mark.equation("eq-avae-gan-value", oracle="quadrature")
def test_the_games_value_at_the_best_critic_is_twice_the_js_divergence_less_log_4_and_no_kl():
    real, fake = logit(quantiles(DATA)), logit(quantiles(FAKE))
    value = -avae.critic_loss(real, fake).item()
    assert value == pytest.approx(2 * jensen_shannon() - log(4), abs=1e-5)
    assert min(abs(value - kl(FAKE, DATA)), abs(value + log(4) - kl(FAKE, DATA))) > 0.1
    by_parts = (torch.nn.functional.logsigmoid(real).mean() + avae.saturating(fake).mean()).item()
    assert by_parts == pytest.approx(value, abs=1e-12)


def test_the_optimum_as_printed_with_the_generators_share_is_a_critic_worse_than_a_coin():
    real, fake = logit(quantiles(DATA)), logit(quantiles(FAKE))
    assert avae.critic_loss(real, fake) < log(4) - 0.3
    assert avae.critic_loss(-real, -fake) > log(4) + 0.3


@pytest.mark.equation("eq-avae-log-ratio", oracle="quadrature")
def test_minus_the_best_logit_is_the_log_ratio_and_its_mean_over_generated_images_the_kl():
    x = quantiles(FAKE)
    ratio = avae.log_ratio(logit(x))
    assert np.allclose(ratio, FAKE.logpdf(x) - DATA.logpdf(x), atol=1e-12)
    assert ratio.mean().item() == pytest.approx(kl(FAKE, DATA), abs=1e-3)
    assert kl(DATA, FAKE) > kl(FAKE, DATA) + 0.5  # the other direction is another number


@pytest.mark.equation("eq-avae-log-ratio", oracle="closed form of the ratio of two Gaussians")
@pytest.mark.slow
def test_a_critic_trained_between_two_gaussians_learns_their_log_ratio_and_one_hardly_trained_is_biased():
    real, fake = (quantiles(law, 4000).float()[:, None] for law in (DATA, FAKE))
    with initial_weights(0):
        critic = Critic(mlp(1, 32, 32, activation=nn.SiLU), nn.Sequential(nn.SiLU(), nn.Linear(32, 1)))
    x = torch.linspace(-1, 2.2, 50)[:, None]  # where both have mass
    exact = FAKE.logpdf(x[:, 0]) - DATA.logpdf(x[:, 0])

    def learned() -> tuple[np.ndarray, float]:
        with torch.no_grad():
            return -critic(x).numpy(), avae.log_ratio(critic(fake)).mean().item()

    settings = {"batch_size": 500, "progress": False, "device": "cpu"}
    training.fit(critic, (real, fake), steps=10, **settings)
    _, early = learned()
    assert abs(early - kl(FAKE, DATA)) > 0.2
    training.fit(critic, (real, fake), steps=1500, **settings)
    training.fit(critic, (real, fake), steps=500, optimizer=partial(torch.optim.Adam, lr=1e-4), seed=1, **settings)
    ratio, late = learned()
    assert np.abs(ratio - exact).max() < 0.12
    assert late == pytest.approx(kl(FAKE, DATA), abs=0.05)


@pytest.mark.equation("eq-avae-non-saturating", oracle="quadrature, and derivatives by hand")
def test_the_generators_three_objectives_have_the_slopes_and_means_that_their_formulas_say():
    fake = torch.tensor([-30.0, -2.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    c = special.expit(fake.detach().numpy())
    for objective, slope in ((avae.saturating, -c), (avae.non_saturating, c - 1), (avae.log_ratio, -np.ones(4))):
        (found,) = torch.autograd.grad(objective(fake).sum(), fake)
        assert np.allclose(found, slope, atol=1e-15)
    assert c[0] < 1e-12  # a sure critic: the game's own objective gives the generator nothing to go by
    mean = integrate.quad(lambda x: FAKE.pdf(x) * np.log1p(FAKE.pdf(x) / DATA.pdf(x)), -9, 9)[0]
    assert avae.non_saturating(logit(quantiles(FAKE))).mean().item() == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize("real, fake", [(0, 3), (3, 0)])
def test_a_critic_with_nothing_to_compare_says_so(real, fake):
    with pytest.raises(ValueError, match=f"real and generated images: it was given {real} and {fake}"):
        avae.critic_loss(torch.zeros(real), torch.zeros(fake))


# The cost of codes


def linear_vae(pixels: int = 3, latents: int = 2, log_sigma: float = -0.4) -> VAE:
    encoder = GaussianNetwork(nn.Linear(pixels, 2 * latents))
    return VAE(encoder, GaussianNetwork(nn.Linear(latents, pixels), log_sigma), pixels, latents)


def linear_avae() -> AVAE:
    with initial_weights(0):
        C = Critic(nn.Linear(3, 4), nn.Linear(4, 1))
        return AVAE(linear_vae(), nn.Linear(4, 3), C, noise=2, weight=0.7).double()


@pytest.mark.equation("eq-avae-code-cost", oracle="another library: scipy")
def test_the_cost_of_a_code_is_minus_its_log_density_under_the_encoder_summed_over_latents():
    model = linear_avae()
    x, z = torch.randn(6, 3, generator=generator(1)).double(), torch.randn(6, 2, generator=generator(2)).double()
    mu, log_sigma = (part.detach().numpy() for part in model.vae.encoder.net(x).chunk(2, -1))
    cost = model.code_cost(x, z)
    assert np.allclose(cost.detach(), -stats.norm.logpdf(z, mu, np.exp(log_sigma)).sum(-1), atol=1e-12)
    terms = (z.numpy() - mu) ** 2 / (2 * np.exp(2 * log_sigma)) + log_sigma + 0.5 * log(2 * pi)
    assert np.allclose(cost.detach(), terms.sum(-1), atol=1e-12)


def test_without_log_sigma_a_larger_sigma_is_always_a_gain_and_with_it_the_best_sigma_is_the_error_made():
    class Dropped(AVAE):
        def code_cost(self, x_G, z):
            q = self.vae.encode(x_G)
            return super().code_cost(x_G, z) - q.log_sigma.sum(-1)

    model, z = linear_avae(), torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    with torch.no_grad():
        model.vae.encoder.net.weight.zero_()
        model.vae.encoder.net.weight[2:, 0] = 1.0  # both log sigma are the image's first pixel, both mu are 0
        model.vae.encoder.net.bias.zero_()

    def slope(log_sigma: float) -> float:
        x_G = torch.tensor([[log_sigma, 0.3, 0.3]], dtype=torch.float64, requires_grad=True)
        model.code_cost(x_G, z).sum().backward()
        return x_G.grad[0, 0].item()

    error = 0.5 * log((0.5**2 + 1.0**2) / 2)  # the root mean square of z - mu
    assert slope(error) == pytest.approx(0, abs=1e-12) and slope(error - 1) < -1 and slope(error + 1) > 1
    model.__class__ = Dropped
    assert all(slope(log_sigma) < 0 for log_sigma in np.linspace(-3, 5, 20))


def test_a_reconstruction_is_g_of_the_codes_mean_and_of_a_z_a_from_the_generator():
    model, x = linear_avae(), torch.randn(6, 3, generator=generator(1), dtype=torch.float64)
    z_a = torch.randn(6, 2, generator=generator(5), dtype=torch.float64)
    expected = model.G(torch.cat([model.vae.encoder.net(x)[:, :2], z_a], 1))
    assert torch.allclose(model.reconstruct(x, generator(5)), expected)


def test_with_no_noise_g_sees_the_code_alone_and_with_no_weight_the_vae_is_all_there_is():
    with initial_weights(0):
        model = AVAE(linear_vae(), nn.Linear(2, 3), Critic(nn.Linear(3, 4), nn.Linear(4, 1)), noise=0, weight=0.0)
    z, x = (torch.randn(5, width, generator=generator(width)) for width in (2, 3))
    assert torch.equal(model.generate(z), model.G(z))
    assert torch.equal(model.EDG_loss(x, generator(1))["loss"], model.vae.loss(x, generator(1))["loss"])


# One step of each model, with linear networks, against gradients derived by hand


def numbers(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


class Noise:
    """The standard normal draws of a run, in order, after the choice of the batch."""

    def __init__(self, seed: int, n: int):
        self.generator = generator(seed)
        self.order = torch.randperm(n, generator=self.generator)

    def __call__(self, *shape: int) -> np.ndarray:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).numpy()


N, LR = 7, 0.05
IMAGES = torch.randn(N, 3, generator=generator(9), dtype=torch.float64)


def step(model: nn.Module) -> tuple[dict, dict, np.ndarray, Noise]:
    """Parameters before and after one step of plain gradient descent; the batch, and the noise that was drawn."""
    before = numbers(model)
    training.fit(model, IMAGES, steps=1, batch_size=N, seed=4, optimizer=partial(SGD, lr=LR), progress=False, device="cpu")
    noise = Noise(4, N)
    return before, numbers(model), IMAGES[noise.order].numpy(), noise


def assert_moved(before: dict, after: dict, prefix: str, gradients: dict) -> None:
    """The parameters under the prefix are those of `gradients`, and have moved against them."""
    names = {name for name in before if name.startswith(prefix)}
    assert names == {prefix + name for name in gradients}
    for name, gradient in gradients.items():
        moved = (before[prefix + name] - after[prefix + name]) / LR
        assert np.abs(gradient).max() > 1e-3, f"{name}: nothing to see"
        assert np.allclose(moved, gradient, atol=1e-9), name


def affine(p: dict, name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def of_affine(out: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient of a loss in weight and bias of x -> W x + b, given that in its output."""
    return {"weight": out.T @ x, "bias": out.sum(0)}


def under(name: str, gradients: dict) -> dict:
    return {f"{name}.{key}": value for key, value in gradients.items()}


def critics_gradients(p: dict, x: np.ndarray, by_logit: np.ndarray, z: np.ndarray | None = None) -> dict:
    """Of body and head, given the loss's derivative in each logit."""
    f = affine(p, "C.body", x)
    joint = f if z is None else np.concatenate([f, z], 1)
    by_f = by_logit[:, None] * p["C.head.weight"][:, : f.shape[1]]
    return under("body", of_affine(by_f, x)) | under("head", of_affine(by_logit[:, None], joint))


def logits(p: dict, x: np.ndarray, z: np.ndarray | None = None) -> np.ndarray:
    f = affine(p, "C.body", x)
    return affine(p, "C.head", f if z is None else np.concatenate([f, z], 1))[:, 0]


def by_logits(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Of the critic's loss in its logits, real ones first."""
    return np.concatenate([-special.expit(-real) / len(real), special.expit(fake) / len(fake)])


def logit_slope(p: dict) -> np.ndarray:
    """The gradient of a linear critic's logit in the image."""
    return (p["C.head.weight"][:, :4] @ p["C.body.weight"])[0]


@pytest.mark.parametrize("objective", [avae.non_saturating, avae.saturating, avae.log_ratio])
def test_a_step_of_the_gan_is_the_one_derived_by_hand(objective):
    with initial_weights(0):
        G, C = nn.Linear(2, 3), Critic(nn.Linear(3, 4), nn.Linear(4, 1))
    model = GAN(G, C, pixels=3, latents=2, objective=objective).double()
    before, after, x, noise = step(model)
    fake = affine(before, "G", noise(N, 2))
    by_logit = by_logits(logits(before, x), logits(before, fake))
    assert_moved(before, after, "C.", critics_gradients(before, np.concatenate([x, fake]), by_logit))

    now = before | {name: value for name, value in after.items() if name.startswith("C.")}
    z = noise(N, 2)
    c = special.expit(logits(now, affine(now, "G", z)))
    slope = {avae.non_saturating: c - 1, avae.saturating: -c, avae.log_ratio: -np.ones(N)}[objective] / N
    assert_moved(before, after, "G.", of_affine(slope[:, None] * logit_slope(now), z))


@pytest.mark.equation("eq-avae-slope-penalty", oracle="finite differences, and gradients derived by hand")
def test_the_penalty_is_the_mean_squared_slope_at_real_images_and_its_gradient_is_the_one_derived_by_hand():
    critic = Critic(mlp(3, 5, activation=nn.Tanh), nn.Sequential(nn.Tanh(), nn.Linear(5, 1)), penalty=0.8).double()
    nudges = 1e-6 * torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        slope = torch.stack([(critic(IMAGES + nudge) - critic(IMAGES - nudge)) / 2e-6 for nudge in nudges], -1)
        plain = avae.critic_loss(critic(IMAGES), critic(-IMAGES))
    losses = critic.loss((IMAGES, -IMAGES))
    assert losses["slope"].item() == pytest.approx((slope**2).sum(-1).mean().item(), rel=1e-7)
    assert losses["loss"].item() == pytest.approx((plain + 0.4 * losses["slope"]).item(), rel=1e-12)

    linear = Critic(nn.Linear(3, 4), nn.Linear(4, 1), penalty=0.8).double()
    F, h = linear.body.weight, linear.head.weight
    with_penalty, without = (
        torch.autograd.grad(loss["loss"], (F, h))
        for loss in (linear.loss((IMAGES, -IMAGES)), Critic(linear.body, linear.head).loss((IMAGES, -IMAGES)))
    )
    by_hand = 0.8 * h.T @ (h @ F), 0.8 * (h @ F) @ F.T  # of .4 |h F|^2
    for ours, plain, gradient in zip(with_penalty, without, by_hand, strict=True):
        assert torch.allclose(ours - plain, gradient, atol=1e-12)


@pytest.mark.equation("eq-avae-total", oracle="derivation by hand: gradients, under the same noise")
def test_a_step_of_avae_is_the_one_derived_by_hand():
    """D learns from L_vae, G from weight * L_G, E from both, C from its own loss; the critic is met as it is by then."""
    model = linear_avae()
    before, after, x, noise = step(model)
    fake = affine(before, "G", np.concatenate([noise(N, 2), noise(N, 2)], 1))
    by_logit = by_logits(logits(before, x), logits(before, fake))
    assert_moved(before, after, "C.", critics_gradients(before, np.concatenate([x, fake]), by_logit))

    p = before | {name: value for name, value in after.items() if name.startswith("C.")}
    A = p["vae.encoder.net.weight"]
    mu, log_sigma = np.split(affine(p, "vae.encoder.net", x), 2, 1)
    sigma, eps = np.exp(log_sigma), noise(1, N, 2)[0]
    z_q = mu + sigma * eps
    by_mean = -(x - affine(p, "vae.decoder.net", z_q)) * np.exp(2 * 0.4) / N
    assert_moved(before, after, "vae.decoder.", under("net", of_affine(by_mean, z_q)))
    by_z = by_mean @ p["vae.decoder.net.weight"]
    by_q = np.concatenate([by_z + mu / N, by_z * sigma * eps + (sigma**2 - 1) / N], 1)

    z = noise(N, 2)
    inputs = np.concatenate([z, noise(N, 2)], 1)
    x_G = affine(p, "G", inputs)
    mu_G, log_sigma_G = np.split(affine(p, "vae.encoder.net", x_G), 2, 1)
    standardized = (z - mu_G) * np.exp(-log_sigma_G)
    by_q_G = 0.7 / N * np.concatenate([-standardized * np.exp(-log_sigma_G), 1 - standardized**2], 1)
    gradients = {key: value + of_affine(by_q_G, x_G)[key] for key, value in of_affine(by_q, x).items()}
    assert_moved(before, after, "vae.encoder.", under("net", gradients))
    by_x_G = by_q_G @ A - 0.7 / N * logit_slope(p)
    assert_moved(before, after, "G.", of_affine(by_x_G, inputs))


@pytest.mark.equation("eq-avae-feature-error", oracle="derivation by hand: gradients, under the same noise")
def test_a_step_of_vae_gan_is_the_one_derived_by_hand():
    """E learns from the features' error and the rate, D from the error and the verdict, C from its own loss."""
    with initial_weights(0):
        E, D, C = GaussianNetwork(nn.Linear(3, 4)), nn.Linear(2, 3), Critic(nn.Linear(3, 4), nn.Linear(4, 1))
    model = VAEGAN(E, D, C, pixels=3, latents=2, weight=0.6).double()
    before, after, x, noise = step(model)

    def codes(p: dict) -> tuple[np.ndarray, ...]:
        mu, log_sigma = np.split(affine(p, "E.net", x), 2, 1)
        eps = noise(N, 2)
        return mu, np.exp(log_sigma), eps, mu + np.exp(log_sigma) * eps

    fake = affine(before, "D", np.concatenate([codes(before)[-1], noise(N, 2)]))
    by_logit = by_logits(logits(before, x), logits(before, fake))
    assert_moved(before, after, "C.", critics_gradients(before, np.concatenate([x, fake]), by_logit))

    p = before | {name: value for name, value in after.items() if name.startswith("C.")}
    metric = p["C.body.weight"].T @ p["C.body.weight"]  # half the squared error is x' metric x / 2
    mu, sigma, eps, z = codes(p)
    by_z = -(x - affine(p, "D", z)) @ metric / N @ p["D.weight"]
    by_q = np.concatenate([by_z + mu / N, by_z * sigma * eps + (sigma**2 - 1) / N], 1)
    assert_moved(before, after, "E.", under("net", of_affine(by_q, x)))

    p |= {name: value for name, value in after.items() if name.startswith("E.")}
    z = np.concatenate([codes(p)[-1], noise(N, 2)])
    made = affine(p, "D", z)
    by_made = -special.expit(-logits(p, made))[:, None] / (2 * N) * logit_slope(p)
    by_made[:N] -= 0.6 * (x - made[:N]) @ metric / N
    assert_moved(before, after, "D.", of_affine(by_made, z))


@pytest.mark.equation("eq-avae-bigan", oracle="derivation by hand: gradients, under the same noise")
def test_a_step_of_bigan_is_the_one_derived_by_hand():
    """C tells (x, E(x)) from (G(z), z); E and G want the answers exchanged, and nothing else."""
    with initial_weights(0):
        E, G = GaussianNetwork(nn.Linear(3, 4)), nn.Linear(2, 3)
        C = PairCritic(nn.Linear(3, 4), nn.Linear(6, 1), pixels=3)
    model = BiGAN(E, G, C, pixels=3, latents=2).double()
    before, after, x, noise = step(model)

    def pairs(p: dict) -> tuple[np.ndarray, ...]:
        mu, log_sigma = np.split(affine(p, "E.net", x), 2, 1)
        eps, z = noise(N, 2), noise(N, 2)
        return np.exp(log_sigma) * eps, mu + np.exp(log_sigma) * eps, z, affine(p, "G", z)

    _, z_q, z, x_G = pairs(before)
    by_logit = by_logits(logits(before, x, z_q), logits(before, x_G, z))
    gradients = critics_gradients(before, np.concatenate([x, x_G]), by_logit, np.concatenate([z_q, z]))
    assert_moved(before, after, "C.", gradients)

    p = before | {name: value for name, value in after.items() if name.startswith("C.")}
    by_log_sigma, z_q, z, x_G = pairs(p)
    by_z_q = special.expit(logits(p, x, z_q))[:, None] / N * p["C.head.weight"][:, 4:]
    by_q = np.concatenate([by_z_q, by_z_q * by_log_sigma], 1)
    assert_moved(before, after, "E.", under("net", of_affine(by_q, x)))
    by_x_G = -special.expit(-logits(p, x_G, z))[:, None] / N * logit_slope(p)
    assert_moved(before, after, "G.", of_affine(by_x_G, z))


NETWORKS = Convolutions((1, 8, 8), width=4)
MODELS = {
    "gan": partial(avae.image_gan, NETWORKS, 3, features=8),
    "vae_gan": partial(avae.image_vae_gan, NETWORKS, 3, features=8),
    "bigan": partial(avae.image_bigan, NETWORKS, 3, features=8),
    "avae": partial(avae.image_avae, NETWORKS, 3, 2, features=8),
    "avae with a penalty": partial(avae.image_avae, NETWORKS, 3, 2, features=8, penalty=0.5),
    "vae_gan of layers": partial(avae.image_vae_gan, Layers((8, 8), (12, 10)), 3, features=8),
    "bigan of layers": partial(avae.image_bigan, Layers((8, 8), (12, 10)), 3, features=8, penalty=0.5),
    "avae, pixels repeated": partial(
        avae.image_avae, Upsampling((1, 8, 8), width=4), 3, 2, features=8, penalty=0.5, fake_penalty=0.5, deviation=True
    ),
    "avae of layers": partial(avae.image_avae, Layers((8, 8), (12, 10)), 3, 2, features=8),
}
SQUARES = torch.rand(20, 64, generator=generator(3))


def test_the_slope_at_generated_images_is_weighed_on_its_own():
    critic = Critic(mlp(3, 5, activation=nn.Tanh), nn.Linear(5, 1), penalty=0.4, fake_penalty=0.6).double()
    real, fake = (torch.randn(n, 3, generator=generator(n)).double() for n in (4, 6))

    def slope(x):
        x = x.clone().requires_grad_()
        return avae.squared_slope(critic(x), x).mean().item()

    found = critic.loss((real, fake))
    plain = avae.critic_loss(critic(real), critic(fake)).item()
    assert found["loss"].item() == pytest.approx(plain + 0.2 * slope(real) + 0.3 * slope(fake))
    assert (found["slope"].item(), found["fake_slope"].item()) == pytest.approx((slope(real), slope(fake)))


def test_a_critic_that_sees_the_deviation_judges_each_kind_by_its_own_batch():
    critic = Critic(nn.Identity(), nn.Linear(3, 1), deviation=True).double()
    with torch.no_grad():
        critic.head.weight.copy_(torch.tensor([[0.0, 0.0, 1.0]]))
        critic.head.bias.zero_()
    real = torch.tensor([[0.0, 1.0], [2.0, 5.0]]).double()  # deviations 1 and 2
    fake = torch.full((3, 2), 7.0).double()
    on_real, on_fake = critic.both(real, fake)
    assert on_real.tolist() == pytest.approx([1.5, 1.5], abs=1e-6) and on_fake.tolist() == pytest.approx([1e-4] * 3)


@pytest.mark.parametrize(
    "build",
    [
        *(partial(build, NETWORKS, 3) for build in (avae.image_gan, avae.image_vae_gan, avae.image_bigan)),
        partial(avae.image_avae, NETWORKS, 3, 2),
    ],
    ids=["GAN", "VAE/GAN", "BiGAN", "AVAE"],
)
def test_images_are_made_after_training_by_the_average_of_what_the_generator_was(build):
    model = build(features=8, decay=0.5)
    made_by = model.D if isinstance(model, avae.VAEGAN) else model.G
    before = [p.detach().clone() for p in made_by.parameters()]
    x = torch.rand(20, 64, generator=generator(0))
    training.fit(model, x, steps=1, batch_size=10, progress=False, device="cpu")
    for first, mean, last in zip(before, model.average.network.parameters(), made_by.parameters(), strict=True):
        assert torch.allclose(mean, (first + last) / 2, atol=1e-6)
    z = torch.randn(4, 3, generator=generator(1))
    by_average = model.generate(z, generator(2))
    model.train()
    assert not torch.equal(by_average, model.generate(z, generator(2)))
    model.average.network.load_state_dict(made_by.state_dict())
    model.eval()
    assert torch.equal(model.generate(z, generator(2)), model.train().generate(z, generator(2)))


def test_codes_have_a_weight_of_their_own_in_the_generator_s_loss():
    x = torch.rand(6, 64, generator=generator(0))
    losses = {
        w: avae.image_avae(NETWORKS, 3, 2, features=8, weight=2.0, code_weight=w).EDG_loss(x, generator(1)) for w in (0.0, 0.5)
    }
    apart = losses[0.5]["loss"] - losses[0.0]["loss"]
    assert apart.item() == pytest.approx(2.0 * 0.5 * losses[0.0]["code"].item(), rel=1e-4)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"the decay of an average must be in \[0, 1\), got"):
        avae.image_gan(NETWORKS, 3, decay=decay)


def graph_reaches(loss: Tensor) -> set[int]:
    """The parameters in the graph of a loss, by identity."""
    found, waiting, seen = set(), [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [other for other, _ in node.next_functions]
    return found


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_every_player_moves_all_its_parameters_by_a_fresh_pass_and_the_critic_looks_into_nobody(build):
    model = build()
    turns = model.turns()
    owned = [id(p) for turn in turns for p in turn.parameters]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())  # each has one owner
    for turn in turns:
        losses = [turn.loss(SQUARES, generator(1))["loss"] for _ in range(2)]  # twice: no graph is kept
        reached = [graph_reaches(loss) & set(owned) for loss in losses]
        own = {id(p) for p in turn.parameters}
        assert own <= reached[0] == reached[1]
        assert turn.name != "C" or reached[0] == own


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_seed_sets_the_weights_and_a_generator_the_draws_and_nothing_else_is_touched(build):
    state = torch.random.get_rng_state()
    models = [build(seed=seed) for seed in (1, 1, 2)]
    weights = [numbers(model) for model in models]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])
    samples = [models[0].sample(4, generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(samples[0], samples[1]) and not torch.equal(samples[0], samples[2])
    for turn in models[0].turns():
        losses = [turn.loss(SQUARES, generator(seed))["loss"] for seed in (1, 1, 2)]
        assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_samples_and_reconstructions_are_rows_of_pixels_between_0_and_1(build):
    model = build()
    images = [model.sample(5, generator())] + ([model.reconstruct(SQUARES)] if hasattr(model, "reconstruct") else [])
    assert [len(rows) for rows in images] == [5, 20][: len(images)]
    assert all(rows.shape[1] == 64 and rows.min() >= 0 and rows.max() <= 1 and not rows.requires_grad for rows in images)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_images_of_another_size_are_an_error_that_names_the_right_one(build, no_shape_checks):
    for turn in build().turns():
        if turn.name != "G":  # a GAN's G looks at no image
            with pytest.raises(ValueError, match="64"):
                turn.loss(torch.rand(20, 63), generator())


def test_widths_and_weights_below_zero_and_codes_of_another_width_are_errors(no_shape_checks):
    model = MODELS["avae"]()
    with pytest.raises(ValueError, match=r"codes must be rows, \(batch, 3\); got \(5, 4\)"):
        model.generate(torch.zeros(5, 4))
    for name in ("gan", "vae_gan", "bigan"):
        with pytest.raises(ValueError, match=r"codes must end in 3 latents; got shape \(5, 4\)"):
            MODELS[name]().generate(torch.zeros(5, 4))
    for name in ("vae_gan", "bigan", "avae"):
        with pytest.raises(ValueError, match=r"images must be rows, \(batch, 64\); got \(5, 63\)"):
            MODELS[name]().reconstruct(torch.zeros(5, 63))
    for wrong in ({"noise": -1}, {"noise": 2, "weight": -0.5}):
        with pytest.raises(ValueError, match=r"must not be negative; got"):
            AVAE(model.vae, model.G, model.C, **wrong)
    with pytest.raises(ValueError, match=r"penalties on the critic's slope must not be negative, got -1 and 0\.0"):
        Critic(nn.Linear(3, 4), nn.Linear(4, 1), penalty=-1)


def test_the_networks_of_all_models_have_one_size():
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    vae, gan = avae.image_vae(NETWORKS, 3), MODELS["gan"]()
    vae_gan, bigan, four = MODELS["vae_gan"](), MODELS["bigan"](), MODELS["avae"]()
    assert count(vae.encoder) == count(vae_gan.E) == count(bigan.E) == count(four.vae.encoder)
    assert count(vae.decoder) == count(gan.G) == count(vae_gan.D) == count(bigan.G)
    assert count(gan.C) == count(vae_gan.C) == count(four.C)
    assert count(four.G) - count(four.vae.decoder) == 2 * 8 * 2 * 2  # z_a's weights in the first layer


def test_avae_reaches_the_same_point_whether_or_not_it_was_cut_off(tmp_path):
    whole, parts = MODELS["avae"](), [MODELS["avae"](), MODELS["avae"]()]
    settings = {"batch_size": 8, "progress": False, "device": "cpu"}
    training.fit(whole, SQUARES, steps=12, **settings)
    for model, steps in zip(parts, (5, 12), strict=True):
        training.fit(model, SQUARES, steps=steps, checkpoint=tmp_path / "run", **settings)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), parts[1].parameters(), strict=True))


# Detail


@pytest.mark.equation("eq-avae-high-frequency", oracle="independent code: a Fourier transform by its definition")
def test_high_frequency_energy_is_the_part_of_the_mean_square_at_short_waves():
    x = torch.rand(3, 6 * 8, generator=generator(1), dtype=torch.float64)
    row, column = np.arange(6), np.arange(8)
    expected = np.zeros(3)
    for down in row:
        for across in column:
            wave = np.exp(-2j * pi * (down * row[:, None] / 6 + across * column / 8))
            amplitude = (x.numpy().reshape(3, 6, 8) * wave).mean((1, 2))
            if sqrt(min(down, 6 - down) ** 2 / 36 + min(across, 8 - across) ** 2 / 64) > 0.25:
                expected += np.abs(amplitude) ** 2
    assert np.allclose(avae.high_frequency_energy(x, (6, 8)), expected, atol=1e-14)
    assert np.allclose(avae.high_frequency_energy(x, (6, 8), above=-1.0), (x**2).mean(1), atol=1e-14)


@pytest.mark.equation("eq-avae-directional-energy", oracle="closed form: cosines along each axis, and along the diagonal")
def test_directional_energy_tells_waves_across_from_waves_down():
    y, x = torch.meshgrid(torch.arange(16.0).double(), torch.arange(12.0).double(), indexing="ij")
    wave = lambda down, across: torch.cos(2 * pi * (down * y / 16 + across * x / 12))  # noqa: E731
    images = torch.stack([wave(5, 0), wave(0, 4), 2 * wave(0, 4) + wave(5, 0), wave(2, 2), wave(8, 6), wave(0, 3)]).flatten(1)
    across, down = avae.directional_energy(images, (16, 12))
    assert across.tolist() == pytest.approx([0, 0.5, 2, 0, 0, 0], abs=1e-12)  # the last are slow, even, and a quarter
    assert down.tolist() == pytest.approx([0.5, 0, 0.5, 0, 0, 0], abs=1e-12)
    across, down = avae.directional_energy(images[3:4], (16, 12), above=0.2)  # 2 / 12 is more than 2 / 16
    assert (across.item(), down.item()) == pytest.approx((0.5, 0), abs=1e-12)


@pytest.mark.equation("eq-avae-spectral-distance", oracle="independent code: NumPy's transform, the mean spectra by a loop")
def test_the_spectral_distance_is_that_of_the_logarithms_of_mean_spectra():
    x, y = (torch.rand(n, 5 * 6, generator=generator(n), dtype=torch.float64) for n in (7, 4))
    means = []
    for images in (x, y):
        powers = np.zeros((5, 6))
        for image in images.numpy():
            powers += np.abs(np.fft.fft2(image.reshape(5, 6))) ** 2 / len(images)
        means.append(powers)
    ratios = [np.log(means[0][k] / means[1][k]) for k in np.ndindex(5, 6) if k != (0, 0)]
    assert avae.spectral_distance(x, y, (5, 6)).item() == pytest.approx(sqrt(np.mean(np.square(ratios))))
    assert avae.spectral_distance(x, 3 * x + 0.2, (5, 6)).item() == pytest.approx(log(9))  # a constant does not count
    assert avae.spectral_distance(x, x, (5, 6)).item() == 0
    turned = x.reshape(7, 5, 6).transpose(1, 2).reshape(7, 30)
    assert avae.spectral_distance(turned[:, :25], x[:, :25], (5, 5)) > 0.1  # the same energies, the other way round
    with pytest.raises(ValueError, match="a mean spectrum needs at least one image, got 7 and 0"):
        avae.spectral_distance(x, y[:0], (5, 6))


def test_a_wave_has_its_energy_at_its_own_frequency():
    y = torch.arange(16)[:, None].expand(16, 16)
    slow, fast = (torch.cos(2 * pi * waves * y / 16).reshape(1, 256) for waves in (3, 5))
    assert avae.high_frequency_energy(slow, (16, 16)).item() == pytest.approx(0, abs=1e-6)
    assert avae.high_frequency_energy(fast, (16, 16)).item() == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(ValueError, match=r"rows must have 256 entries, for images 16 x 16; got \(1, 255\)"):
        avae.high_frequency_energy(fast[:, :255], (16, 16))


def test_a_wave_counts_above_the_bound_to_the_last_digits_of_the_images_type_and_on_their_device():
    y = torch.arange(10, dtype=torch.float64)[:, None].expand(10, 10)
    wave = torch.cos(2 * pi * 3 * y / 10).reshape(1, 100)
    with torch.device("meta"):  # where what names no device goes
        below, above = (avae.high_frequency_energy(wave, (10, 10), above=0.3 + gap) for gap in (-1e-9, 1e-9))
    assert below.item() == pytest.approx(0.5) and above.item() == pytest.approx(0, abs=1e-12)


# What the encoder cannot say


@pytest.mark.slow
def test_in_a_world_of_structure_and_noise_avae_draws_the_noise_that_the_vae_averages_away():
    """x = (2 s, .3 n): one latent says s; n is noise to the decoder, and z_a to the generator."""
    noise = torch.randn(4000, 2, generator=generator(1))
    x = noise * torch.tensor([2.0, 0.3])
    with initial_weights(0):
        encoder = GaussianNetwork(mlp(2, 32, 2))
        vae = VAE(encoder, GaussianNetwork(mlp(1, 32, 2), log(0.3)), pixels=2, latents=1)
        body = mlp(2, 32, 32, activation=nn.SiLU)
        model = AVAE(vae, mlp(2, 32, 2), Critic(body, nn.Sequential(nn.SiLU(), nn.Linear(32, 1)), penalty=1.0), noise=1)
    settings = {"batch_size": 128, "progress": False, "device": "cpu"}
    training.fit(model, x, steps=900, optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.99)), **settings)
    blurred, drawn = model.vae.sample(4000, generator(2)), model.sample(4000, generator(2))
    assert blurred.std(0)[1] < 0.05
    assert 0.09 < drawn.std(0)[1] < 0.4
    assert drawn.std(0)[0].item() == pytest.approx(2.0, abs=0.4)
    z = torch.randn(2000, 1, generator=generator(3))
    found = model.vae.encode(model.generate(z, generator(4))).mean
    assert torch.corrcoef(torch.cat([z, found], 1).T)[0, 1] > 0.95


# Devices


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_gpu_agrees_with_the_cpu_and_a_step_copies_nothing_to_the_host(build):
    ours, theirs = build().double(), build().double()
    x, sgd = SQUARES.double(), partial(SGD, lr=1e-2)
    noise = generator(5)
    for here, there in zip(ours.turns(), theirs.cuda().turns(), strict=True):
        state = noise.get_state()
        on_cpu = here.loss(x, noise)["loss"].item()
        noise.set_state(state)
        assert there.loss(x.cuda(), noise)["loss"].item() == pytest.approx(on_cpu, rel=1e-9)
    for run in training.train(build(), SQUARES, steps=40, batch_size=8, optimizer=sgd, device="cuda"):
        if run.step == 5:
            torch.cuda.set_sync_debug_mode("error")
        if run.step == 39:
            torch.cuda.set_sync_debug_mode("default")
