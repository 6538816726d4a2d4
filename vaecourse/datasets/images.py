"""What a data set is: images as rows of pixels in [0, 1]; and how gray ones are made binary."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Generator, Tensor

from vaecourse.distributions import in_support
from vaecourse.randomness import uniform


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as rows of pixels in [0, 1], in the split the field uses, on the CPU; labels and `valid` where there are any.

    `shape` is an image's own, a color's channels first: `dataset.train[0].reshape(dataset.shape)`.
    """

    name: str
    train: Float32[Tensor, "train pixels"]
    test: Float32[Tensor, "test pixels"]
    train_labels: Int64[Tensor, "train"] | None
    test_labels: Int64[Tensor, "test"] | None
    shape: tuple[int, ...]
    valid: Float32[Tensor, "valid pixels"] | None = None

    def __repr__(self) -> str:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        sizes = " + ".join(f"{len(part):,} {split}" for split, part in parts.items() if part is not None)
        labels = "no labels" if self.train_labels is None else "labels"
        return f"Dataset({self.name!r}: {sizes}, {' x '.join(map(str, self.shape))} pixels, {labels})"


def binarize(pixels: Float[Tensor, "*shape"], generator: Generator | None = None) -> Float[Tensor, "*shape"]:
    """Draw zeros and ones, each pixel's value being its probability of a one (dynamic binarization).

    A generator on another device than the pixels' will do: the noise is drawn there and moved. Pixels outside [0, 1] are no
    probabilities: `training` refuses them.
    """
    return (uniform(pixels.shape, pixels, generator) < in_support(pixels)).to(pixels.dtype)


def as_pixels(values: np.ndarray, white: int) -> Float32[Tensor, "images pixels"]:
    """Rows of pixels in [0, 1] from numbers between 0 and `white`."""
    return torch.from_numpy(np.divide(values.reshape(len(values), -1), white, dtype=np.float32))


def as_labels(values: np.ndarray) -> Int64[Tensor, "images"]:
    """Labels as PyTorch wants them."""
    return torch.from_numpy(values.astype(np.int64))
