"""The published sets, from their original file formats."""

import io
import math
import zipfile
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor

from vaecourse.datasets.files import DataError, places, read, read_parts
from vaecourse.datasets.images import Dataset, as_labels, as_pixels
from vaecourse.datasets.shapes import Sprites
from vaecourse.datasets.sources import SOURCES


def idx_set(name: str) -> Dataset:
    """MNIST and what comes in its format."""
    train, train_labels, test, test_labels = (_idx(name, file) for file in SOURCES[name].hashes)
    return Dataset(
        name, as_pixels(train, 255), as_pixels(test, 255), as_labels(train_labels), as_labels(test_labels), train.shape[1:]
    )


def amat_set(name: str) -> Dataset:
    """Binarized MNIST."""
    train, valid, test = (as_pixels(_amat(name, file), 1) for file in SOURCES[name].hashes)
    return Dataset(name, train, test, None, None, (28, 28), valid)


def cifar(name: str) -> Dataset:
    """CIFAR-10 and CIFAR-100, binary version; the label is the last byte before the pixels: CIFAR-100's fine one."""
    label_bytes, classes = {"cifar10": (1, 10), "cifar100": (2, 100)}[name]
    pixels, labels = {"train": [], "test": []}, {"train": [], "test": []}
    for part, content in read_parts(name).items():
        records = np.frombuffer(content, np.uint8)
        if records.size == 0 or records.size % (label_bytes + 3072):
            raise _not_as_published(name, part, f"records of {label_bytes + 3072} bytes")
        records = records.reshape(-1, label_bytes + 3072)
        if (records[:, label_bytes - 1] >= classes).any():
            raise _not_as_published(name, part, f"records that begin with a label below {classes}")
        split = "test" if part.startswith("test") else "train"
        pixels[split].append(as_pixels(records[:, label_bytes:], 255))
        labels[split].append(as_labels(records[:, label_bytes - 1]))
    train, test, train_labels, test_labels = (torch.cat(p[s]) for p in (pixels, labels) for s in ("train", "test"))
    return Dataset(name, train, test, train_labels, test_labels, (3, 32, 32))


def svhn(name: str) -> Dataset:
    """Street View House Numbers, cropped: MATLAB files with X (32, 32, 3, n) and y (n, 1), in which 10 is a zero."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    splits = []
    for file in SOURCES[name].hashes:
        try:
            variables = loadmat(io.BytesIO(read(name, file)), variable_names=("X", "y"))
            X, y = variables["X"], variables["y"].ravel()
        except (MatReadError, ValueError, TypeError, KeyError, NotImplementedError):
            raise _not_as_published(name, file, "a MATLAB file with X and y") from None
        if X.shape != (32, 32, 3, len(y)) or not np.isin(y, np.arange(1, 11)).all():
            raise _not_as_published(name, file, "X of shape (32, 32, 3, n) with n labels y from 1 to 10")
        splits.append((as_pixels(np.ascontiguousarray(X.transpose(3, 2, 0, 1)), 255), as_labels(y % 10)))
    (train, train_labels), (test, test_labels) = splits
    return Dataset(name, train, test, train_labels, test_labels, (3, 32, 32))


def celeba(limit: int | None = None) -> Dataset:
    """CelebA's aligned faces at 64 x 64, in color, without labels; 162,770 to train, 19,867 to validate, 19,962 to test.

    limit: take the first of each part only, since the whole is 10 GB in memory. The face is cut out as for VAE/GAN, 148 x 148
    from (15, 40) (Larsen et al. 2016), and resized bilinearly. Where the archive lies unpacked in the data folder, as
    celeba/img_align_celeba/000001.jpg and so on, no hash is compared: none is published for single faces.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    partition, archive = SOURCES["celeba"].hashes
    lines = [line.split() for line in read("celeba", partition).decode("ascii", "replace").splitlines()]
    if not lines or any(len(line) != 2 or line[1] not in ("0", "1", "2") for line in lines):
        raise _not_as_published("celeba", partition, "a file name and 0, 1 or 2 a line")
    train, valid, test = ([file for file, part in lines if part == wanted][:limit] for wanted in "012")
    unpacked = ("img_align_celeba/img_align_celeba", "img_align_celeba")  # Kaggle's archive holds a folder in a folder
    folder = next((own / name for own in places("celeba") for name in unpacked if (own / name).is_dir()), None)
    if folder and not any((own / archive).is_file() for own in places("celeba")):
        train, valid, test = (_faces(files, lambda file: (folder / file).read_bytes()) for files in (train, valid, test))
    else:
        with zipfile.ZipFile(io.BytesIO(read("celeba", archive))) as faces:
            member = "img_align_celeba/{}".format
            train, valid, test = (_faces(files, lambda file: faces.read(member(file))) for files in (train, valid, test))
    return Dataset("celeba", train, test, None, None, (3, 64, 64), valid)


def _faces(files: list[str], content: Callable[[str], bytes]) -> Tensor:
    from PIL import Image

    rows = torch.empty(len(files), 3 * 64 * 64)
    for row, file in zip(rows, files, strict=True):
        try:
            face = Image.open(io.BytesIO(content(file))).convert("RGB")
        except (KeyError, OSError) as error:
            raise DataError(f"celeba/img_align_celeba/{file} is missing or no image: {error}") from None
        if face.size != (178, 218):
            raise DataError(f"celeba/img_align_celeba/{file} is no aligned face: it has {face.size} pixels, not (178, 218)")
        face = face.crop((15, 40, 163, 188)).resize((64, 64), Image.Resampling.BILINEAR)
        row.copy_(torch.from_numpy(np.asarray(face).transpose(2, 0, 1).reshape(-1) / np.float32(255)))
    return rows


def dsprites(*, scales: int = 6, orientations: int = 10, positions: int = 16) -> Sprites:
    """Matthey et al.'s dSprites, 64 x 64, black and white: that many evenly spaced values of each factor, and three shapes.

    46,080 images, .75 GB, unless told otherwise; all 6, 40 and 32 make 737,280 and 12 GB. Orientations go once around, so that
    squares and ellipses repeat themselves; the 40th is the first again.
    """
    (file,) = SOURCES["dsprites"].hashes
    try:
        archive = zipfile.ZipFile(io.BytesIO(read("dsprites", file)))
        classes = np.load(archive.open("latents_classes.npy"), allow_pickle=False)[:, 1:]  # without the one color
        stream = archive.open("imgs.npy")
        version, _ = np.lib.format.read_magic(stream)
        shape, fortran, kind = getattr(np.lib.format, f"read_array_header_{version}_0")(stream)
    except (zipfile.BadZipFile, KeyError, ValueError, IndexError):
        raise _not_as_published("dsprites", file, "a NumPy archive with imgs and latents_classes") from None
    whole = tuple(map(int, classes.max(0) + 1))
    if (shape, fortran, kind) != ((len(classes), 64, 64), False, np.uint8) or not (
        len(whole) == 5 and np.array_equal(classes, np.indices(whole).reshape(5, -1).T)
    ):
        raise _not_as_published("dsprites", file, "bytes of 64 x 64 images of a full grid of five factors")
    counts = (whole[0], scales, orientations, positions, positions)
    if not all(1 <= count <= there for count, there in zip(counts, whole, strict=True)):
        raise ValueError(f"of shapes, scales, orientations, x and y there are {whole}; got {counts}")
    values = [np.linspace(0, there - 1, count).round().astype(int) for count, there in zip(counts, whole, strict=True)]
    values[2] = np.arange(orientations) * whole[2] // orientations
    images = torch.empty(counts[0] * scales * orientations, positions**2, 64 * 64)
    blocks = iter(images)
    for block in product(*map(range, whole[:3])):  # three gigabytes in all, never held together
        content = stream.read(whole[3] * whole[4] * 64 * 64)
        if all(value in kept for value, kept in zip(block, values[:3], strict=True)):
            places = np.frombuffer(content, np.uint8).reshape(whole[3], whole[4], 64 * 64)[np.ix_(*values[3:])]
            next(blocks).copy_(torch.from_numpy(places.reshape(-1, 64 * 64)))
    factors = torch.cartesian_prod(*map(torch.arange, counts))
    return Sprites(images.flatten(0, 1), factors, ("shape", "scale", "orientation", "x", "y"), counts, (64, 64))


def _not_as_published(name: str, file: str, expected: str) -> DataError:
    return DataError(f"{name}/{file} is not {expected}: correct its entry in datasets.SOURCES")


def _idx(name: str, file: str) -> np.ndarray:
    """Parse an IDX file: 0, 0, 8 for unsigned bytes, the number of axes, their lengths in four bytes each, the bytes."""
    content = read(name, file)
    header = 4 + 4 * int.from_bytes(content[3:4], "big")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    if content[:3] != b"\0\0\x08" or len(content) != header + math.prod(shape):
        raise _not_as_published(name, file, "an IDX file of unsigned bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _amat(name: str, file: str, pixels: int = 784) -> np.ndarray:
    """Parse text of one image a line, "0 1 ... 0": one character a pixel, one space or line end after each."""
    content = read(name, file)
    separators = np.frombuffer(b" " * (pixels - 1) + b"\n", np.uint8)
    lines = len(content) // (2 * pixels)
    characters = np.frombuffer(content, np.uint8, count=lines * 2 * pixels).reshape(lines, pixels, 2)
    values = characters[:, :, 0] - ord("0")
    if characters.size != len(content) or (values > 1).any() or (characters[:, :, 1] != separators).any():
        raise _not_as_published(name, file, f"{pixels} zeros and ones a line")
    return values
