"""Features to judge images by: a small classifier of our own, and distances between images by its layers."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from vaecourse import training
from vaecourse.networks import initial_weights

BATCH = 1000  # images that pass a feature network at once


class Classifier(nn.Module):
    """A small convolutional network that tells images apart; what it computes on the way serves as features.

    Two rectified convolutions that halve the sides, a hidden layer of `features` tanh units, a linear layer of logits. The
    features lie in (-1, 1), so that distances do not grow with the length of the training. `shape` is an image's, (height,
    width) or (channels, height, width); images are rows of pixels. `seed` sets the initial weights and touches no other
    randomness. Train it by `training.fit(classifier, (images, labels), ...)`, or build and train by `Classifier.fit`. Raises
    ValueError for another shape, fewer than 2 classes, features < 1.
    """

    def __init__(self, shape: Sequence[int], classes: int, *, features: int = 32, width: int = 16, seed: int = 0):
        super().__init__()
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"shape must be (height, width) or (channels, height, width), got {tuple(shape)}")
        if classes < 2 or features < 1:
            raise ValueError(f"a classifier needs at least 2 classes and 1 feature, got {classes} and {features}")
        self.shape = (1, *shape) if len(shape) == 2 else tuple(shape)
        self.classes = classes
        channels, height, breadth = self.shape
        positions = -(-height // 4) * -(-breadth // 4)
        with initial_weights(seed):
            fine = nn.Sequential(nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU())
            coarse = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())
            whole = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * positions, features), nn.Tanh())
            self.blocks = nn.ModuleList([fine, coarse, whole])
            self.head = nn.Linear(features, classes)

    @classmethod
    def fit(
        cls,
        images: Float[Tensor, "n pixels"],
        labels: Int[Tensor, " n"],
        shape: Sequence[int],
        *,
        features: int = 32,
        steps: int = 1500,
        seed: int = 0,
        progress: bool = False,
        device: torch.device | str | None = None,
    ) -> "Classifier":
        """A classifier trained on images and labels 0, 1, ..., by Adam on batches of 100.

        Raises ValueError for other labels.
        """
        if len(labels) == 0 or labels.min() < 0:
            raise ValueError("labels must be 0, 1, ..., one an image")
        model = cls(shape, int(labels.max()) + 1, features=features, seed=seed)
        training.fit(model, (images, labels), steps=steps, seed=seed, progress=progress, device=device)
        return model

    def layers(self, x: Float[Tensor, "n pixels"]) -> list[Float[Tensor, "n channels *positions"]]:
        """The activations of each hidden layer: (n, channels, height, width) twice, then (n, features).

        Raises ValueError where x is not (n, pixels).
        """
        pixels = prod(self.shape)
        if x.ndim != 2 or x.shape[1] != pixels:
            raise ValueError(f"images must be rows, (n, {pixels}), for images {self.shape}; got {tuple(x.shape)}")
        h, found = x.to(self.head.weight).reshape(-1, *self.shape), []
        for block in self.blocks:
            h = block(h)
            found.append(h)
        return found

    def forward(self, x: Float[Tensor, "n pixels"]) -> Float[Tensor, "n classes"]:
        """The logits of the classes."""
        return self.head(self.layers(x)[-1])

    def loss(self, batch: tuple[Tensor, Tensor], generator: Generator | None = None) -> dict[str, Tensor]:
        """The cross-entropy of (images, labels), nats an image, averaged over the batch, and the accuracy."""
        images, labels = batch
        logits = self(images)
        accuracy = (logits.argmax(-1) == labels).to(logits.dtype).mean()
        return {"loss": functional.cross_entropy(logits, labels), "accuracy": accuracy}

    def features(self, x: Float[Tensor, "n pixels"]) -> Float[Tensor, "n features"]:
        """The activations of the last hidden layer, without gradients: what distances between samples are taken of."""
        return extract(lambda images: self.layers(images)[-1], x)

    def predict(self, x: Float[Tensor, "n pixels"]) -> Int[Tensor, " n"]:
        """The likeliest class of each image."""
        return extract(self, x).argmax(-1)

    def predict_stacked(self, x: Float[Tensor, "n stacked"]) -> Int[Tensor, " n"]:
        """The classes of the images that are the channels of one, as one number in base `classes`, the first leading.

        For digits in three channels: 100 a + 10 b + c, one of 1,000 modes. Raises ValueError where x is no stack of images.
        """
        pixels = prod(self.shape)
        if x.ndim != 2 or x.shape[1] % pixels or x.shape[1] == 0:
            raise ValueError(f"stacked images must be rows of a multiple of {pixels} pixels; got shape {tuple(x.shape)}")
        labels = self.predict(x.reshape(-1, pixels)).reshape(len(x), -1)
        return (labels * self.classes ** torch.arange(labels.shape[1] - 1, -1, -1, device=labels.device)).sum(1)

    def accuracy(self, x: Float[Tensor, "n pixels"], labels: Int[Tensor, " n"]) -> float:
        """The share of images whose likeliest class is their label."""
        predicted = self.predict(x)
        return (predicted == labels.to(predicted.device)).double().mean().item()


@torch.no_grad()
def extract(features: Callable[[Tensor], Tensor], images: Float[Tensor, "n pixels"]) -> Float[Tensor, "n dim"]:
    """The features of many images, a batch at a time, without gradients.

    `features` is any function of a batch of images: a Classifier's, or Inception's for whoever has its weights. Raises
    ValueError where there are no images.
    """
    if len(images) == 0:
        raise ValueError("there are no images to take features of")
    return torch.cat([features(batch).flatten(1) for batch in images.split(BATCH)])


def perceptual_distance(
    layers: Callable[[Tensor], Sequence[Tensor]], a: Float[Tensor, "n pixels"], b: Float[Tensor, "n pixels"]
) -> Float[Tensor, " n"]:
    """How far image a_i looks from image b_i: one number a pair, differentiable (eq-metrics-perceptual).

    At each position of each layer the activations are scaled to unit length across channels; squared distances are averaged
    over positions and summed over layers: LPIPS (Zhang et al., 2018) with all its channel weights one. `layers`
    gives a list of activations, (n, channels, *positions): `classifier.layers`, or those of a larger network. Raises ValueError
    where the two are not of one shape.
    """
    if a.shape != b.shape:
        raise ValueError(f"images are compared in pairs, so both need one shape; got {tuple(a.shape)} and {tuple(b.shape)}")
    pairs = zip(layers(a), layers(b), strict=True)
    return torch.stack([(_unit(in_a) - _unit(in_b)).pow(2).sum(1).mean(1) for in_a, in_b in pairs]).sum(0)


def _unit(h: Float[Tensor, "n channels *positions"]) -> Float[Tensor, "n channels positions"]:
    """Activations scaled to unit length across channels; where all are zero, they stay zero."""
    return functional.normalize(h.reshape(*h.shape[:2], -1), dim=1, eps=1e-10)
