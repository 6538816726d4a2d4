"""The published sets, from their original file formats."""

import math

import numpy as np

from vaecourse.datasets.files import DataError, read
from vaecourse.datasets.images import Dataset, as_labels, as_pixels
from vaecourse.datasets.sources import SOURCES


def idx_set(name: str) -> Dataset:
    train, train_labels, test, test_labels = (_idx(name, file) for file in SOURCES[name].sha256)
    return Dataset(
        name, as_pixels(train, 255), as_pixels(test, 255), as_labels(train_labels), as_labels(test_labels), train.shape[1:]
    )


def amat_set(name: str) -> Dataset:
    train, valid, test = (as_pixels(_amat(name, file), 1) for file in SOURCES[name].sha256)
    return Dataset(name, train, test, None, None, (28, 28), valid)


def _idx(name: str, file: str) -> np.ndarray:
    """Parse an IDX file: 0, 0, 8 for unsigned bytes, the number of axes, their lengths in four bytes each, the bytes."""
    content = read(name, file)
    header = 4 + 4 * int.from_bytes(content[3:4], "big")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    if content[:3] != b"\0\0\x08" or len(content) != header + math.prod(shape):
        raise DataError(f"{name}/{file} is not an IDX file of unsigned bytes: correct its entry in datasets.SOURCES")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _amat(name: str, file: str, pixels: int = 784) -> np.ndarray:
    """Parse text of one image a line, "0 1 ... 0": one character a pixel, one space or line end after each."""
    content = read(name, file)
    separators = np.frombuffer(b" " * (pixels - 1) + b"\n", np.uint8)
    lines = len(content) // (2 * pixels)
    characters = np.frombuffer(content, np.uint8, count=lines * 2 * pixels).reshape(lines, pixels, 2)
    values = characters[:, :, 0] - ord("0")
    if characters.size != len(content) or (values > 1).any() or (characters[:, :, 1] != separators).any():
        raise DataError(f"{name}/{file} is not {pixels} zeros and ones a line: correct its entry in datasets.SOURCES")
    return values
