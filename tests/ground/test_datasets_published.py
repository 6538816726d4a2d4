"""CIFAR, SVHN, CelebA and dSprites: small files in the published formats, written here, are read back; bad ones are refused."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from helpers import REAL_DATA
from vaecourse import datasets
from vaecourse.datasets import DataError, Source, load

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, an empty cache, and no network."""
    monkeypatch.setenv("VAECOURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", _refuse)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def _refuse(self, url, output_file, pooch):
    raise OSError("tests download nothing")


def _publish(monkeypatch, name: str, files: dict[str, bytes], parts: dict[str, bytes] | None = None) -> None:
    """Put the stand-in's hashes in the place of the published ones, by the algorithms that the table names."""
    old = datasets.SOURCES[name]
    hashes = {file: _hash(old.hashes[file], content) for file, content in files.items()}
    part_hashes = {part: _hash(old.parts[part], content) for part, content in (parts or {}).items()}
    assert list(hashes) == list(old.hashes) and list(part_hashes) == list(old.parts)
    monkeypatch.setitem(datasets.SOURCES, name, Source(old.mirrors, hashes, part_hashes))


def _hash(published: str, content: bytes) -> str:
    algorithm = published.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


def _tar(folder: str, files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for file, content in {"readme.html": b"<html></html>", **files}.items():
            (member := tarfile.TarInfo(f"{folder}/{file}")).size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


# The table


@pytest.mark.parametrize("name", datasets.SOURCES)
def test_every_file_of_the_table_has_an_address_and_a_hash_of_a_named_algorithm(name):
    source, digits = datasets.SOURCES[name], {"sha256": 64, "md5": 32}
    for file, expected in {**source.hashes, **source.parts}.items():
        algorithm, _, digest = expected.partition(":")
        assert len(digest) == digits[algorithm] and int(digest, 16)
        assert file in source.parts or datasets.files._addresses(name, file)


def test_a_mirror_of_one_file_is_asked_for_that_file_alone():
    partition, archive = datasets.SOURCES["celeba"].hashes
    assert [address.split("/")[2] for address in datasets.files._addresses("celeba", archive)] == ["s3.amazonaws.com"]
    asked = datasets.files._addresses("celeba", partition)
    assert asked[-1] == "https://drive.google.com/uc?export=download&id=0B7EVK8r0v71pY0NSMzRuSXJEVkk"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "celeba", "dsprites"])
def test_without_a_network_the_error_names_the_files_to_put_into_the_data_folder(folder, name):
    with pytest.raises(DataError) as failure:
        datasets.dsprites() if name == "dsprites" else load(name)
    message = str(failure.value)
    assert (
        "could not be downloaded" in message
        and f"VAECOURSE_DATA is {folder.parent if folder.name == name else folder}" in message
    )
    assert all(f"\n  {name}/{file}\n" in message for file in list(datasets.SOURCES[name].hashes)[:-1])
    assert all(part in message for part in datasets.SOURCES[name].parts)


# CIFAR


CIFAR = {"cifar10": (1, 10, "cifar-10-batches-bin"), "cifar100": (2, 100, "cifar-100-binary")}


def _cifar(
    name: str, monkeypatch, images_a_file: int = 3, images=None, labels=None
) -> tuple[dict, dict, np.ndarray, np.ndarray]:
    """The archive, its files, images and labels: each record the labels (coarse before fine), then red, green, blue planes."""
    label_bytes, classes, inside = CIFAR[name]
    parts = list(datasets.SOURCES[name].parts)
    n = images_a_file * len(parts)
    images = RNG.integers(0, 256, (n, 3, 32, 32), np.uint8) if images is None else images
    labels = RNG.integers(0, classes, n).astype(np.uint8)
    coarse = np.full((n, label_bytes - 1), 19, np.uint8)
    records = np.concatenate([coarse, labels[:, None], images.reshape(n, -1)], 1)
    files = {part: rows.tobytes() for part, rows in zip(parts, np.split(records, len(parts)), strict=True)}
    (archive,) = datasets.SOURCES[name].hashes
    packed = {archive: _tar(inside, files)}
    _publish(monkeypatch, name, packed, files)
    return packed, files, images, labels


@pytest.mark.parametrize("lie", ["packed", "unpacked", "unpacked in its folder"])
@pytest.mark.parametrize("name", CIFAR)
def test_cifar_is_read_packed_or_unpacked(folder, monkeypatch, name, lie):
    packed, files, images, labels = _cifar(name, monkeypatch)
    inside = CIFAR[name][2] if lie == "unpacked in its folder" else "."
    _write(folder / name / inside, packed if lie == "packed" else files)
    data = load(name)
    tests = 3  # the last file's
    assert data.shape == (3, 32, 32) and data.valid is None
    assert torch.equal(data.train, torch.from_numpy(images[:-tests].reshape(-1, 3072) / np.float32(255)))
    assert torch.equal(data.test, torch.from_numpy(images[-tests:].reshape(-1, 3072) / np.float32(255)))
    assert data.train_labels.tolist() == labels[:-tests].tolist() and data.test_labels.tolist() == labels[-tests:].tolist()


def test_a_cifar_image_keeps_its_rows_columns_and_colors(folder, monkeypatch):
    images = np.zeros((18, 3, 32, 32), np.uint8)
    images[0, 1, 5, 30] = 255  # one green pixel, in row 5, column 30
    packed, *_ = _cifar("cifar10", monkeypatch, images=images)
    _write(folder / "cifar10", packed)
    assert load("cifar10").train[0].reshape(3, 32, 32).nonzero().tolist() == [[1, 5, 30]]


def test_a_cifar_archive_in_the_cache_does_as_well(folder, monkeypatch):
    packed, _, _, labels = _cifar("cifar10", monkeypatch)
    _write(folder.parent / "cache" / "vaecourse" / "cifar10", packed)
    assert load("cifar10").test_labels.tolist() == labels[-3:].tolist()


@pytest.mark.parametrize("lie", ["packed", "unpacked"])
def test_an_altered_cifar_file_is_named_and_set_aside(folder, monkeypatch, lie):
    packed, files, *_ = _cifar("cifar10", monkeypatch)
    there = packed if lie == "packed" else files
    first = next(iter(there))
    _write(folder / "cifar10", there | {first: there[first][:-1] + b"!"})
    algorithm = "sha256" if lie == "packed" else "md5"
    with pytest.raises(DataError, match=rf"{first} is not the published file: its [\d,]+ bytes.* have {algorithm}"):
        load("cifar10")
    assert (folder / "cifar10" / f"{first}.bad").is_file() and not (folder / "cifar10" / first).exists()


def test_half_an_unpacked_cifar_is_not_used(folder, monkeypatch):
    _, files, *_ = _cifar("cifar10", monkeypatch)
    _write(folder / "cifar10", dict(list(files.items())[:3]))
    with pytest.raises(DataError, match=r"or, out of that archive, data_batch_1\.bin, .*test_batch\.bin"):
        load("cifar10")


def test_what_has_its_hash_but_is_not_in_cifars_format_is_refused(folder, monkeypatch):
    _, files, *_ = _cifar("cifar10", monkeypatch)
    (archive,) = datasets.SOURCES["cifar10"].hashes
    for bad, problem in [
        (files["test_batch.bin"][:-1], r"test_batch\.bin is not records of 3073 bytes"),
        (b"", r"test_batch\.bin is not records of 3073 bytes"),
        (b"\x0a" + files["test_batch.bin"][1:], r"test_batch\.bin is not records that begin with a label below 10"),
        (None, r"cifar-10-binary\.tar\.gz lacks test_batch\.bin"),
    ]:
        wrong = {part: bad if part == "test_batch.bin" else content for part, content in files.items()}
        packed = {archive: _tar("cifar-10-batches-bin", {p: c for p, c in wrong.items() if c is not None})}
        _publish(monkeypatch, "cifar10", packed, files)
        _write(folder / "cifar10", packed)
        with pytest.raises(DataError, match=problem):
            load("cifar10")


def test_real_cifar_images_survive_the_binary_format(folder, monkeypatch):
    sample = REAL_DATA / "cifar10_sample"
    if not sample.is_dir():
        pytest.skip(f"{sample} is not there: it holds CIFAR-10 images as PNG, an image a row of 1,024 RGB pixels")
    rows = np.concatenate([np.asarray(Image.open(sample / f"cifar10_batch_{n}.png").convert("RGB")) for n in range(4)])
    images = np.ascontiguousarray(rows.reshape(4000, 32, 32, 3).transpose(0, 3, 1, 2))[: 6 * 666]
    packed, *_ = _cifar("cifar10", monkeypatch, images_a_file=666, images=images)
    _write(folder / "cifar10", packed)
    data = load("cifar10")
    back = torch.cat([data.train, data.test]).reshape(-1, 3, 32, 32)
    assert torch.equal((back * 255).round().to(torch.uint8), torch.from_numpy(images))
    # The constants everyone normalizes CIFAR-10 by are means over 50,000 images. An image's mean color has a standard
    # deviation of about .12, so that of 3,996 lies within five standard errors, .01, of them.
    torch.testing.assert_close(back.mean((0, 2, 3)), torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.01, rtol=0)
    # Neighbors are alike only if rows and columns were not scrambled.
    assert (back[..., 1:] - back[..., :-1]).abs().mean() < 0.06 < (back[..., 16:] - back[..., :16]).abs().mean()


# SVHN


def _mat(X: np.ndarray, y: np.ndarray) -> bytes:
    stream = io.BytesIO()
    savemat(stream, {"X": X, "y": y}, format="5", do_compression=True)
    return stream.getvalue()


def _svhn(monkeypatch, folder: Path, **changed: bytes) -> tuple[np.ndarray, np.ndarray]:
    X, y = RNG.integers(0, 256, (32, 32, 3, 12), np.uint8), np.array([*range(1, 11), 10, 3], np.uint8)[:, None]
    files = {"train_32x32.mat": _mat(X[..., :8], y[:8]), "test_32x32.mat": _mat(X[..., 8:], y[8:])} | changed
    _publish(monkeypatch, "svhn", files)
    _write(folder / "svhn", files)
    return X, y


def test_svhn_is_read_from_matlab_files_and_its_ten_is_a_zero(folder, monkeypatch):
    X, _ = _svhn(monkeypatch, folder)
    data = load("svhn")
    assert data.train_labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8] and data.test_labels.tolist() == [9, 0, 0, 3]
    assert data.shape == (3, 32, 32) and data.train.shape == (8, 3072)
    images = torch.cat([data.train, data.test]).reshape(12, 3, 32, 32)
    for n, channel, row, column in [(0, 0, 0, 0), (3, 1, 5, 30), (11, 2, 31, 4)]:
        assert images[n, channel, row, column].item() == pytest.approx(X[row, column, channel, n] / 255)
    assert images.sum().item() == pytest.approx(X.sum() / 255, rel=1e-5)


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"no matlab file", "a MATLAB file with X and y"),
        (b"", "a MATLAB file with X and y"),
        (_mat(np.zeros((3, 32, 32, 4), np.uint8), np.ones((4, 1))), r"X of shape \(32, 32, 3, n\)"),
        (_mat(np.zeros((32, 32, 3, 4), np.uint8), np.zeros((4, 1))), "labels y from 1 to 10"),
    ],
)
def test_a_file_that_has_its_hash_but_is_not_svhn_is_refused(folder, monkeypatch, content, problem):
    _svhn(monkeypatch, folder, **{"test_32x32.mat": content})
    with pytest.raises(DataError, match=rf"svhn/test_32x32\.mat is not .*{problem}"):
        load("svhn")


# CelebA


def _jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _faces() -> dict[str, bytes]:
    """Seven faces, 218 x 178: face n is gray, 20 n + 60 left of the middle and 20 n right of it."""
    faces = {}
    for n in range(1, 8):
        face = np.full((218, 178, 3), 20 * n, np.uint8)
        face[:, :89] += 60
        faces[f"{n:06}.jpg"] = _jpeg(face)
    return faces


def _celeba(monkeypatch, faces: dict[str, bytes], partition: str | None = None) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The partition file and the archive: 1 to 4 to train, 5 to validate, 6 and 7 to test."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for file, content in faces.items():
            archive.writestr(f"img_align_celeba/{file}", content)
    lines = "".join(f"{n:06}.jpg {0 if n < 5 else 1 if n == 5 else 2}\n" for n in range(1, 8))
    text = {"list_eval_partition.txt": (lines if partition is None else partition).encode()}
    packed = {"img_align_celeba.zip": stream.getvalue()}
    _publish(monkeypatch, "celeba", text | packed)
    return text, packed


@pytest.mark.parametrize("lie", ["packed", "unpacked"])
def test_celeba_is_read_packed_or_unpacked_in_its_three_parts(folder, monkeypatch, lie):
    text, packed = _celeba(monkeypatch, _faces())
    _write(folder / "celeba", text | (packed if lie == "packed" else {}))
    if lie == "unpacked":
        _write(folder / "celeba" / "img_align_celeba", _faces())
    data = load("celeba")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [4, 1, 2]
    assert data.shape == (3, 64, 64) and data.train_labels is None
    images = torch.cat([data.train, data.valid, data.test]).reshape(7, 3, 64, 64)
    # The middle of a face, column 89, is column (89 - 15) 64 / 148 = 32 of the cut: each half keeps its gray.
    for n, image in enumerate(images, 1):
        torch.testing.assert_close(image[:, :, :30], torch.full((3, 64, 30), (20 * n + 60) / 255), atol=0.02, rtol=0)
        torch.testing.assert_close(image[:, :, 34:], torch.full((3, 64, 30), 20 * n / 255), atol=0.02, rtol=0)


def test_celeba_can_be_cut_to_the_first_faces_of_each_part(folder, monkeypatch):
    text, packed = _celeba(monkeypatch, _faces())
    _write(folder / "celeba", text | packed)
    whole, some = load("celeba"), datasets.celeba(limit=2)
    assert torch.equal(some.train, whole.train[:2]) and torch.equal(some.test, whole.test) and len(some.valid) == 1
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        datasets.celeba(limit=0)


def test_a_face_is_cut_where_the_field_cuts_it(folder, monkeypatch):
    """White outside of 148 x 148 pixels from (15, 40), black inside: nothing white is left."""
    face = np.full((218, 178, 3), 255, np.uint8)
    face[40:188, 15:163] = 0
    stream = io.BytesIO()
    Image.fromarray(face).save(stream, "PNG")  # JPEG would blur the edge
    text, packed = _celeba(monkeypatch, {f"{n:06}.jpg": stream.getvalue() for n in range(1, 8)})
    _write(folder / "celeba", text | packed)
    assert load("celeba").train.max() == 0


def test_missing_or_broken_faces_and_partitions_are_refused(folder, monkeypatch):
    good = _faces()
    for faces, partition, problem in [
        ({f: c for f, c in good.items() if f != "000006.jpg"}, None, r"img_align_celeba/000006\.jpg is missing or no image"),
        (good | {"000002.jpg": b"<html></html>"}, None, r"000002\.jpg is missing or no image"),
        (good | {"000002.jpg": good["000002.jpg"][:400]}, None, r"000002\.jpg is missing or no image"),
        (good | {"000002.jpg": _jpeg(np.zeros((64, 64, 3), np.uint8))}, None, r"000002\.jpg is no aligned face.*\(64, 64\)"),
        (good, "000001.jpg 3\n", r"list_eval_partition\.txt is not a file name and 0, 1 or 2 a line"),
        (good, "", r"list_eval_partition\.txt is not a file name and 0, 1 or 2 a line"),
    ]:
        text, packed = _celeba(monkeypatch, faces, partition)
        _write(folder / "celeba", text | packed)
        with pytest.raises(DataError, match=problem):
            load("celeba")


# dSprites


WHOLE = (3, 2, 8, 4, 4)
NPZ = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"


def _npz(**arrays: np.ndarray) -> dict[str, bytes]:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return {NPZ: stream.getvalue()}


def _small_dsprites() -> dict[str, np.ndarray]:
    """Arrays as published, metadata pickled, of a smaller grid: image i says i, as bits in its first row."""
    grid = np.indices(WHOLE).reshape(5, -1).T
    imgs = np.zeros((len(grid), 64, 64), np.uint8)
    imgs[:, 0, :16] = np.arange(len(grid))[:, None] >> np.arange(16) & 1
    classes = np.concatenate([np.zeros((len(grid), 1), int), grid], 1)
    return {
        "metadata": np.array({"title": "dSprites"}, dtype=object),
        "imgs": imgs,
        "latents_classes": classes,
        "latents_values": classes.astype(float),
    }


def _number(images: torch.Tensor) -> list[int]:
    return (images[:, :16] * 2 ** torch.arange(16)).sum(1).long().tolist()


def test_dsprites_are_read_whole_without_unpickling_anything(folder, monkeypatch):
    files = _npz(**_small_dsprites())
    _publish(monkeypatch, "dsprites", files)
    _write(folder / "dsprites", files)
    data = datasets.dsprites(scales=2, orientations=8, positions=4)
    assert data.names == ("shape", "scale", "orientation", "x", "y") and data.sizes == WHOLE and data.shape == (64, 64)
    assert _number(data.images) == list(range(np.prod(WHOLE)))
    assert torch.equal(data.factors, torch.from_numpy(np.indices(WHOLE).reshape(5, -1).T))


def test_fewer_dsprites_are_evenly_spaced_among_all(folder, monkeypatch):
    files = _npz(**_small_dsprites())
    _publish(monkeypatch, "dsprites", files)
    _write(folder / "dsprites", files)
    data = datasets.dsprites(scales=1, orientations=4, positions=2)
    assert data.sizes == (3, 1, 4, 2, 2) and data.images.shape == (48, 4096)
    original = data.factors * torch.tensor([1, 1, 2, 3, 3])  # every second of 8 orientations, first and last of 4 places
    assert _number(data.images) == np.ravel_multi_index(tuple(original.T.numpy()), WHOLE).tolist()
    with pytest.raises(ValueError, match=r"there are \(3, 2, 8, 4, 4\); got \(3, 6, 10, 16, 16\)"):
        datasets.dsprites()


def test_an_archive_that_has_its_hash_but_is_not_dsprites_is_refused(folder, monkeypatch):
    arrays = _small_dsprites()
    for files, problem in [
        ({NPZ: b"no archive"}, "a NumPy archive with imgs and latents_classes"),
        (_npz(imgs=arrays["imgs"]), "a NumPy archive with imgs and latents_classes"),
        (_npz(imgs=arrays["imgs"], latents_classes=arrays["metadata"]), "a NumPy archive with imgs and latents_classes"),
        (_npz(imgs=arrays["imgs"][:, :32], latents_classes=arrays["latents_classes"]), "bytes of 64 x 64 images"),
        (_npz(imgs=arrays["imgs"].astype(float), latents_classes=arrays["latents_classes"]), "bytes of 64 x 64 images"),
        (_npz(imgs=arrays["imgs"], latents_classes=arrays["latents_classes"][::-1]), "a full grid of five factors"),
    ]:
        _publish(monkeypatch, "dsprites", files)
        _write(folder / "dsprites", files)
        with pytest.raises(DataError, match=rf"dsprites/{NPZ} is not .*{problem}"):
            datasets.dsprites(scales=2, orientations=8, positions=4)
