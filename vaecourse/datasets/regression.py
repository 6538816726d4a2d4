"""Small tables of the UCI repository, on which regressions are compared: inputs, and a number to be told from them."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from vaecourse.datasets.files import read
from vaecourse.datasets.sources import SOURCES
from vaecourse.randomness import own_generator


@dataclass(frozen=True, eq=False)
class Split:
    """A task's data in two random parts, in the units of the training part: less its mean, over its standard deviation.

    scale: the targets' standard deviation there. An error in the targets' own unit is `scale` times one in these; a
    log-likelihood, in nats, is log `scale` less.
    """

    train: Float32[Tensor, "train dim"]
    train_targets: Float32[Tensor, " train"]
    test: Float32[Tensor, "test dim"]
    test_targets: Float32[Tensor, " test"]
    scale: float


@dataclass(frozen=True, eq=False)
class RegressionTask:
    """Inputs, (n, dim), and a target each, (n,), in their own units, on the CPU."""

    name: str
    inputs: Float32[Tensor, "n dim"]
    targets: Float32[Tensor, " n"]

    def __repr__(self) -> str:
        return f"RegressionTask({self.name!r}: {len(self.inputs):,} rows of {self.inputs.shape[1]} inputs and a target)"

    def split(self, seed: int, share: float = 0.9) -> Split:
        """That share of the rows to train, drawn by the seed, and the others to test. Raises ValueError where a part is empty.

        A column that does not vary among the training rows is left as it is, but for its mean.
        """
        order = torch.randperm(len(self.inputs), generator=own_generator(seed))
        count = round(share * len(order))
        if not 2 <= count < len(order):
            raise ValueError(f"share must leave 2 of {len(order)} rows to train and 1 to test, at least; got {share}")
        first, rest = order[:count], order[count:]
        x, y = self.inputs.double(), self.targets.double()
        deviation, scale = x[first].std(0), y[first].std()
        x = (x - x[first].mean(0)) / torch.where(deviation > 0, deviation, 1.0)
        y = (y - y[first].mean()) / scale
        return Split(x[first].float(), y[first].float(), x[rest].float(), y[rest].float(), scale.item())


def uci(name: str) -> RegressionTask:
    """A table of the UCI repository: its last column is the target.

    - concrete: the strength of concrete, from what is in it and its age; 1,030 x 8. Yeh (1998).
    - energy: the heat that a building needs, from its shape; 768 x 8. Tsanas and Xifara (2012).
    - yacht: a hull's resistance, from its shape and speed; 308 x 6. Gerritsma, Onnink and Versluis (1981).

    Raises ValueError for an unknown name, DataError where the file can be neither found nor downloaded.
    """
    known = [file.removesuffix(".txt") for file in SOURCES["uci"].hashes]
    if name not in known:
        raise ValueError(f"no table is named {name!r}: choose from {', '.join(known)}")
    table = torch.from_numpy(np.loadtxt(BytesIO(read("uci", f"{name}.txt")), dtype=np.float32))
    return RegressionTask(name, table[:, :-1], table[:, -1])
