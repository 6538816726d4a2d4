"""The critic: a classifier of real images against generated ones, and what it can tell of their densities.

Its output is a logit; C(x) = sigmoid(logit) is the probability that x is real. The best critic of a generator has
C = p_data / (p_data + p_G), so that -logit is log p_G(x) / p_data(x), in nats: a density ratio, learned from samples alone.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from vaecourse.inputs import gradients

Logits = Float[Tensor, " batch"]


def critic_loss(real: Logits, fake: Float[Tensor, " others"]) -> Float[Tensor, ""]:
    """-V: the cross-entropy of telling real from generated, E[-log C(x)] + E[-log(1 - C(x_G))], in nats.

    Both kinds weigh the same, however many there are of each. At the best critic V = 2 JS(p_data, p_G) - log 4.
    Raises ValueError where one of the two is empty.
    Equations eq-avae-critic-loss, eq-avae-gan-value; Goodfellow et al. (2014), equation 1 and theorem 1.
    """
    if not len(real) or not len(fake):
        raise ValueError(f"a critic compares real and generated images: it was given {len(real)} and {len(fake)}")
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def optimal_logit(log_p_data: Float[Tensor, "*points"], log_p_G: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
    """log p_data(x) - log p_G(x), the logit of the best critic, C = p_data / (p_data + p_G), where both densities are known.

    Equation eq-avae-optimal-critic; Goodfellow et al. (2014), proposition 1.
    """
    return log_p_data - log_p_G


# What G may minimize: one number per generated image, in nats, from the critic's logit.


def saturating(fake: Logits) -> Logits:
    """log(1 - C(x_G)), the other side of the critic's game; flat where the critic is sure (eq-avae-gan-value)."""
    return -functional.softplus(fake)


def non_saturating(fake: Logits) -> Logits:
    """-log C(x_G): the same fixed point as the game's, and a slope where the critic is sure (eq-avae-non-saturating).

    Goodfellow et al. (2014), section 3.
    """
    return functional.softplus(-fake)


def log_ratio(fake: Logits) -> Logits:
    """-logit C(x_G), which is log p_G / p_data at the best critic, and in the mean KL(p_G || p_data).

    Equation eq-avae-log-ratio; an estimate of the divergence without bias only as far as the critic is at its best.
    """
    return -fake


class Critic(nn.Module):
    """The logit of "real", one per image: `head` of the features that `body` finds.

    body: (batch, pixels) -> (batch, features); head: (batch, features) -> (batch, 1). `penalty` is the weight of the squared
    slope at real images in the loss, `fake_penalty` that at generated ones: they keep the critic from growing steeper than a
    generator can follow, at the price that the best critic, and with it the log-ratio, is a smoothed one. With `deviation` the
    head has one input more, the features' mean standard deviation over the batch, real or generated, by which a critic sees
    that images of a batch are all alike (Karras et al., 2018).
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, *, penalty: float = 0.0, fake_penalty: float = 0.0, deviation: bool = False
    ):
        super().__init__()
        if penalty < 0 or fake_penalty < 0:
            raise ValueError(f"penalties on the critic's slope must not be negative, got {penalty} and {fake_penalty}")
        self.body, self.head, self.penalty, self.fake_penalty, self.deviation = body, head, penalty, fake_penalty, deviation

    def features(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch features"]:
        """What the head is given of each image alone."""
        return self.body(x)

    def forward(self, x: Float[Tensor, "batch pixels"]) -> Logits:
        """logit C(x)."""
        return self.judge(self.features(x))

    def judge(self, features: Float[Tensor, "batch features"]) -> Logits:
        """The logit, from features already at hand, those of one batch."""
        if self.deviation:
            spread = (features.var(0, correction=0) + 1e-8).sqrt().mean()
            features = torch.cat([features, spread.expand(len(features), 1)], -1)
        return self.head(features).squeeze(-1)

    def both(
        self, real: Float[Tensor, "batch pixels"], fake: Float[Tensor, "others pixels"]
    ) -> tuple[Logits, Float[Tensor, " others"]]:
        """The logits of real and generated images, in one pass; each kind is judged apart where its own deviation counts.

        Raises ValueError where the two kinds have not the same number of pixels.
        """
        if real.shape[1:] != fake.shape[1:]:
            pixels = f"real ones have {tuple(real.shape)}, generated ones {tuple(fake.shape)}"
            raise ValueError(f"images are rows of as many pixels, (batch, pixels), real or generated; {pixels}")
        features, sizes = self.features(torch.cat([real, fake])), [len(real), len(fake)]
        if not self.deviation:
            return self.judge(features).split(sizes)
        on_real, on_fake = features.split(sizes)
        return self.judge(on_real), self.judge(on_fake)

    def loss(
        self,
        batch: tuple[Float[Tensor, "batch pixels"], Float[Tensor, "others pixels"]],
        generator: Generator | None = None,
    ) -> dict[str, Tensor]:
        """E[-log C(x)] + E[-log(1 - C(x_G))] and the penalties, for (real, generated) images; nats.

        These are penalty / 2 * E[|grad_x logit(x)|^2] over real images, and the same over generated ones. So a critic may be
        trained alone, too. Raises ValueError where there are none of a kind, or they differ in pixels.
        Equations eq-avae-critic-loss, eq-avae-slope-penalty.
        """
        real, fake = batch
        if not (self.penalty or self.fake_penalty):
            return {"loss": critic_loss(*self.both(real, fake))}
        with gradients():
            found, loss = {}, 0.0
            real, fake = real.detach().requires_grad_(self.penalty > 0), fake.detach().requires_grad_(self.fake_penalty > 0)
            on_real, on_fake = self.both(real, fake)
            for name, weight, logits, x in (
                ("slope", self.penalty, on_real, real),
                ("fake_slope", self.fake_penalty, on_fake, fake),
            ):
                if weight:
                    found[name] = squared_slope(logits, x).mean()
                    loss = loss + 0.5 * weight * found[name]
        return {"loss": critic_loss(on_real, on_fake) + loss, **found}


def squared_slope(logits: Logits, x: Float[Tensor, "batch pixels"]) -> Logits:
    """|grad_x logit(x)|^2, one number per image, itself differentiable. RuntimeError where x requires no gradient.

    Half its mean over real images, times a weight, is the penalty R1 (eq-avae-slope-penalty); Mescheder, Geiger and
    Nowozin (2018), equation 9.
    """
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return (slope**2).sum(-1)


class PairCritic(Critic):
    """The logit of "real, with its own code": a critic of rows that are an image of `pixels` pixels and, behind it, its code.

    body: (batch, pixels) -> (batch, features); head: (batch, features + latents) -> (batch, 1).
    """

    def __init__(self, body: nn.Module, head: nn.Module, pixels: int, **settings: float | bool):
        super().__init__(body, head, **settings)
        self.pixels = pixels

    def features(self, x: Float[Tensor, "batch pixels_and_latents"]) -> Float[Tensor, "batch features_and_latents"]:
        """The image's features, and its code."""
        images, codes = x.tensor_split([self.pixels], -1)
        return torch.cat([self.body(images), codes], -1)
