"""Three digits as the three channels of one image: a thousand modes, and each can be told apart."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vaecourse.datasets.embedded import digits, mnist5k
from vaecourse.datasets.published import idx_set
from vaecourse.randomness import indices, own_generator

_SOURCES = {"digits": digits, "mnist5k": mnist5k, "mnist": idx_set}


def stacked_digits(
    n: int, *, seed: int = 0, source: str = "digits", split: str = "train"
) -> tuple[Float[Tensor, "n pixels"], Int64[Tensor, "n"]]:
    """n images of three digits, drawn independently and evenly from the source: (n, 3 h w), channels first, and labels.

    The label of the digits a, b, c is 100 a + 10 b + c. source: digits (8 x 8), mnist5k or mnist (28 x 28). split: train or
    test, whose digits are those of `datasets.load(source)`, so that no digit is in both. Raises ValueError for another source
    or split, and for n < 1.
    """
    if source not in _SOURCES or split not in ("train", "test"):
        raise ValueError(f"source must be one of {', '.join(_SOURCES)} and split train or test; got {source!r} and {split!r}")
    if n < 1:
        raise ValueError(f"at least one image is to be made, got n = {n}")
    data = _SOURCES[source](source)
    images, labels = (data.train, data.train_labels) if split == "train" else (data.test, data.test_labels)
    rows = indices(len(images), (n, 3), torch.empty(0, dtype=torch.float64), own_generator(seed))
    return images[rows].flatten(1), labels[rows] @ torch.tensor([100, 10, 1])
