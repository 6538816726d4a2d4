"""Finding a published file: in the folder that VAECOURSE_DATA names, in the cache, at the mirrors; and checking its hash."""

import gzip
import hashlib
import io
import os
import tarfile
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
    """The content of a published file, from the data folder, the cache or a mirror, compared with its hash.

    A lone file under gzip is unpacked; an archive is not.
    """
    import pooch

    expected = SOURCES[name].hashes[file]
    if (own := data_folder(name)) and (path := _find(own, file)):
        return _own(path, expected)
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
    own = data_folder(name)
    if own and not _find(own, archive):
        paths = {part: next(own.rglob(part), None) for part in parts}
        if all(paths.values()):
            return {part: _own(path, parts[part]) for part, path in paths.items()}
    with tarfile.open(fileobj=io.BytesIO(read(name, archive))) as tar:
        members = {Path(member.name).name: member for member in tar if member.isfile()}
        if missing := parts.keys() - members.keys():
            raise DataError(f"{name}/{archive} lacks {', '.join(sorted(missing))}: correct its entry in datasets.SOURCES")
        return {part: tar.extractfile(members[part]).read() for part in parts}


def data_folder(name: str) -> Path | None:
    """Where the user keeps the files of that set; None where VAECOURSE_DATA is not set. It need not exist."""
    if not (folder := os.environ.get(DATA_FOLDER)):
        return None
    own = Path(folder).expanduser()
    if not own.is_dir():
        raise DataError(f"{DATA_FOLDER} names {folder}, which is no folder: correct or unset it.{_by_hand(name)}")
    return own / name


def _own(path: Path, expected: str) -> bytes:
    try:
        return _verified(path, expected)
    except DataError as error:
        raise DataError(f"{error} Put a good copy in its place, or unset {DATA_FOLDER} to download one.") from None


def _is_archive(path: str) -> bool:
    return path.endswith(".tar.gz")


def _find(folder: Path, file: str) -> Path | None:
    stem = file.removesuffix(".gz")
    names = [file] if _is_archive(file) else [f"{stem}.gz", stem]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _verified(path: Path, expected: str) -> bytes:
    """The content of the file if it has that hash; otherwise the file is set aside, and DataError says why."""
    content, archive = path.read_bytes(), _is_archive(path.name)
    try:
        if content.startswith(b"\x1f\x8b") and not archive:
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is truncated or damaged: {error}. {_set_aside(path)}") from None
    algorithm, _, digest = expected.partition(":")
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != digest:
        facts = f"its {len(content):,} bytes{'' if archive else ', unpacked,'} have {algorithm} {found}, not {digest}"
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
    return (
        f"\nWithout a network, set {DATA_FOLDER} to a folder that holds, a lone file with .gz or without,{files}{parts}"
        "\nor use digits or mnist5k, which need no download."
    )
