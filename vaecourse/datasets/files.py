"""Finding a published file: in the folder that VAECOURSE_DATA names, in the cache, at the mirrors; and checking its hash."""

import gzip
import hashlib
import os
import tempfile
import warnings
import zlib
from itertools import count
from pathlib import Path

from vaecourse.datasets.sources import SOURCES

DATA_FOLDER = "VAECOURSE_DATA"
"""The environment variable that names a folder of published files, as in `mnist/train-images-idx3-ubyte.gz`."""


class DataError(RuntimeError):
    """A data file is missing, damaged, or cannot be downloaded; the message names the file and the remedy."""


def read(name: str, file: str) -> bytes:
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
    return download(name, file, cache)


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


def download(name: str, file: str, cache: Path) -> bytes:
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
