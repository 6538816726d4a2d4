"""Finding a published file: in the folder that VAECOURSE_DATA names, in the cache, at the mirrors; and checking its hash."""

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from itertools import count
from pathlib import Path

import numpy as np

from vaecourse.datasets.sources import SOURCES

DATA_FOLDER = "VAECOURSE_DATA"
"""The environment variable that names a folder of published files, as in `mnist/train-images-idx3-ubyte.gz`."""


LAYOUTS = {
    "mnist": ("MNIST/raw", "MNIST"),
    "fashion_mnist": ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist"),
    "binarized_mnist": ("BinarizedMNIST",),
    "cifar10": ("cifar-10-batches-bin",),
    "cifar100": ("cifar-100-binary",),
    "svhn": ("SVHN",),
    "celeba": ("CelebA",),
    "dsprites": ("dSprites", "dsprites-dataset"),
}
"""Where torchvision, Keras and Kaggle keep the same files, below the folder that VAECOURSE_DATA names."""

LISTED = 12  # names that an error shows of what lies in the data folder


class DataError(RuntimeError):
    """A data file is missing, damaged, or cannot be downloaded; the message names the file and the remedy."""


def read(name: str, file: str) -> bytes:
    """The content of a published file, from the data folder, the cache or a mirror, compared with its hash.

    A lone file under gzip is unpacked; an archive is not.
    """
    import pooch

    expected = SOURCES[name].hashes[file]
    if path := next((path for folder in places(name) if (path := _find(folder, file))), None):
        return _own(path, expected)
    if (folder := _folder()) and (content := _among_others(folder, file, expected)):
        return content
    cache = Path(pooch.os_cache("vaecourse")) / name
    if path := _find(cache, file):
        try:
            return _verified(path, expected)
        except DataError as error:
            warnings.warn(f"{error} It is downloaded again.", stacklevel=2)
    return download(name, file, cache)


def read_parts(name: str) -> dict[str, bytes]:
    """The files of a published tar archive by their names: out of the archive, or as they lie unpacked in the data folder."""
    (archive,), parts = SOURCES[name].hashes, SOURCES[name].parts
    folders = places(name)
    if not any(_find(folder, archive) for folder in folders):
        paths = {part: next((path for folder in folders for path in folder.rglob(part)), None) for part in parts}
        if all(paths.values()):
            return {part: _own(path, parts[part]) for part, path in paths.items()}
    with tarfile.open(fileobj=io.BytesIO(read(name, archive))) as tar:
        members = {Path(member.name).name: member for member in tar if member.isfile()}
        if missing := parts.keys() - members.keys():
            raise DataError(f"{name}/{archive} lacks {', '.join(sorted(missing))}: correct its entry in datasets.SOURCES")
        return {part: tar.extractfile(members[part]).read() for part in parts}


def _folder() -> Path | None:
    """The folder that VAECOURSE_DATA names; None where it is not set. It need not exist."""
    folder = os.environ.get(DATA_FOLDER)
    return Path(folder).expanduser() if folder else None


def places(name: str) -> list[Path]:
    """The folders in which the user may keep the files of that set; none where VAECOURSE_DATA is not set.

    NAME, as this book has it, or one of `LAYOUTS`. Raises DataError where VAECOURSE_DATA names no folder.
    """
    folder = _folder()
    if folder is None:
        return []
    if not folder.is_dir():
        raise DataError(f"{DATA_FOLDER} names {folder}, which is no folder: correct or unset it.{_by_hand(name)}")
    return [folder / own for own in (name, *LAYOUTS.get(name, ()))]


def _among_others(folder: Path, file: str, expected: str) -> bytes | None:
    """The content of a file that lies in the data folder itself, or in Keras' archive of MNIST, if it has that hash.

    There it may be another set's, of the same name: one with another hash is none of ours, and left alone.
    """
    candidates = [path.read_bytes() for path in [_find(folder, file)] if path]
    for archive in (path for path in (folder / "mnist.npz", folder / "mnist" / "mnist.npz") if path.is_file()):
        candidates += _idx_of(archive, file)
    for content in candidates:
        try:
            return _checked(content, file, expected)
        except ValueError:
            continue
    return None


def _idx_of(archive: Path, file: str) -> list[bytes]:
    """The IDX file whose numbers Keras keeps in an archive as x_train, y_train, x_test, y_test."""
    split, kind = ("train" if file.startswith("train") else "test"), ("x" if "-images-" in file else "y")
    try:
        with np.load(archive, allow_pickle=False) as arrays:
            values = arrays[f"{kind}_{split}"].astype(np.uint8)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return []
    return [bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()]


def _own(path: Path, expected: str) -> bytes:
    try:
        return _verified(path, expected)
    except DataError as error:
        raise DataError(f"{error} Put a good copy in its place, or unset {DATA_FOLDER} to download one.") from None


def _is_archive(path: str) -> bool:
    return path.endswith(".tar.gz")


def _find(folder: Path, file: str) -> Path | None:
    stem = file.removesuffix(".gz")
    dotted = stem.replace("-idx", ".idx")  # what the file is called inside the .gz, and so where Windows unpacked it
    own = [f"{stem}.gz", stem, f"{dotted}.gz", dotted, f"{stem}/{stem}", f"{dotted}/{dotted}"]  # the last two are Kaggle's
    names = [file] if _is_archive(file) else own
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _verified(path: Path, expected: str) -> bytes:
    """The content of the file if it has that hash; otherwise the file is set aside, and DataError says why."""
    try:
        return _checked(path.read_bytes(), path.name, expected)
    except ValueError as error:
        raise DataError(f"{path} is {error}. {_set_aside(path)}") from None


def _checked(content: bytes, file: str, expected: str) -> bytes:
    """The content, unpacked unless it is an archive, if it has that hash; ValueError says what it is otherwise."""
    archive = _is_archive(file)
    try:
        if content.startswith(b"\x1f\x8b") and not archive:
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"truncated or damaged: {error}") from None
    algorithm, _, digest = expected.partition(":")
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != digest:
        facts = f"its {len(content):,} bytes{'' if archive else ', unpacked,'} have {algorithm} {found}, not {digest}"
        raise ValueError(f"not the published file: {facts}")
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


def download(name: str, file: str, cache: Path) -> bytes:
    """Fetch the file into the cache from the first mirror that has it whole, and return its content, as `read` does."""
    import pooch
    from tqdm import tqdm

    failures = []
    for address in _addresses(name, file):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            bar = tqdm(desc=file, total=1, unit="B", unit_scale=True, leave=False)  # pooch sets the total
            with bar, tempfile.TemporaryDirectory(dir=cache) as scratch:
                part = Path(scratch) / file
                fetch = pooch.HTTPDownloader(progressbar=bar, timeout=(10, 60), chunk_size=2**16)
                fetch(address, str(part), None)
                part.replace(cache / file)
            return _verified(cache / file, SOURCES[name].hashes[file])
        except (OSError, DataError) as error:  # requests' errors are OSErrors; the short reason may be inside the first
            reason = getattr(next(iter(error.args), None), "reason", error)
            failures.append(f"\n  {address}\n    {reason}")
    raise DataError(f"{name}/{file} could not be downloaded:{''.join(failures)}{_by_hand(name)}")


def _addresses(name: str, file: str) -> list[str]:
    mirrors = SOURCES[name].mirrors
    return [m.partition("#")[0] if "#" in m else m + file for m in mirrors if m.endswith(("/", f"#{file}"))]


def _by_hand(name: str) -> str:
    files = "".join(f"\n  {name}/{file}" for file in SOURCES[name].hashes)
    parts = f"\nor, out of that archive, {', '.join(SOURCES[name].parts)}," if SOURCES[name].parts else ""
    wanted = f"a lone file with .gz or without,{files}{parts}"
    other = "\nor use digits or mnist5k, which need no download."
    folder = _folder()
    if folder is None or not folder.is_dir():
        return f"\nWithout a network, set {DATA_FOLDER} to a folder that holds, {wanted}{other}"
    layouts = "".join(f", {layout}" for layout in LAYOUTS.get(name, ()))
    found = sorted(str(path.relative_to(folder)) for pattern in ("*", "*/*") for path in folder.glob(pattern))
    there = ", ".join(found[:LISTED]) + (f" and {len(found) - LISTED} more" if len(found) > LISTED else "") or "nothing"
    return (
        f"\n{DATA_FOLDER} is {folder}. Looked for there (in {name}{layouts}, or in the folder itself), {wanted}"
        f"\nWhat is there: {there}.{other}"
    )
