"""The data sets: what is in them, and what happens when a file is missing, damaged, or cannot be downloaded.

No test touches the network: the mirrors are servers on this machine, and a stand-in for MNIST, a few images large, is what
they serve. The published sets themselves are tested where they lie in the folder that VAECOURSE_DATA names, or in
../shared/data beside the checkout.
"""

import gzip
import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from helpers import REAL_DATA
from vaecourse import datasets
from vaecourse.datasets import DataError, Dataset, Source, binarize, load

PUBLISHED_MD5 = {  # of the packed files, as their publishers and torchvision list them
    "mnist/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "mnist/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "mnist/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "mnist/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "fashion_mnist/train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "fashion_mnist/train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "fashion_mnist/t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "fashion_mnist/t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


# The embedded sets


@pytest.mark.parametrize(
    "name, train, test, shape, levels", [("digits", 1500, 297, (8, 8), 16), ("mnist5k", 4000, 1000, (28, 28), 255)]
)
def test_an_embedded_set_has_the_sizes_types_and_gray_levels_it_states(name, train, test, shape, levels):
    data = load(name)
    for images, labels, size in [(data.train, data.train_labels, train), (data.test, data.test_labels, test)]:
        assert images.shape == (size, shape[0] * shape[1]) and labels.shape == (size,)
        assert images.dtype == torch.float32 and labels.dtype == torch.int64 and images.device.type == "cpu"
        assert images.min() == 0 and images.max() == 1
        torch.testing.assert_close(images * levels, (images * levels).round(), atol=2e-5, rtol=0)
        assert labels.unique().tolist() == list(range(10))
    assert data.shape == shape and data.valid is None


def test_digits_are_scikit_learns_each_once_with_its_own_label():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    assert _rows(load("digits"), 16) == sorted(zip(map(bytes, images.astype(np.uint8)), labels.tolist(), strict=True))


def test_mnist5k_holds_mlxtends_digits_each_once_with_its_own_label():
    digits = _rows(load("mnist5k"), 255)
    assert hashlib.sha256(b"".join(image + bytes([label]) for image, label in digits)).hexdigest()[:16] == "f1864be470111ed6"


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_no_test_image_is_also_a_training_image(name):
    data = load(name)
    assert not set(map(bytes, data.train.numpy())) & set(map(bytes, data.test.numpy()))


def test_mnist5k_is_balanced_and_its_classes_come_in_turn():
    data = load("mnist5k")
    assert data.train_labels.bincount().tolist() == [400] * 10 and data.test_labels.bincount().tolist() == [100] * 10
    assert data.test_labels[:20].tolist() == [*range(10), *range(10)]


@pytest.mark.parametrize("name, sha256", [("digits", "5519180adb089858"), ("mnist5k", "0de773533497eaba")])
def test_the_split_is_the_one_the_stored_results_were_measured_on(name, sha256):
    gray = (load(name).train * 255).round().to(torch.uint8).numpy()
    assert hashlib.sha256(gray.tobytes()).hexdigest()[:16] == sha256


def test_an_unknown_name_is_answered_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"'minst'.*digits, mnist5k, mnist, fashion_mnist, binarized_mnist"):
        load("minst")


def test_the_representation_says_what_is_in_the_set():
    assert repr(load("digits")) == "Dataset('digits': 1,500 train + 297 test, 8 x 8 pixels, labels)"
    image = torch.zeros(1, 4)
    assert repr(Dataset("x", image, image, None, None, (2, 2), image)) == (
        "Dataset('x': 1 train + 1 valid + 1 test, 2 x 2 pixels, no labels)"
    )


# Dynamic binarization


def test_binarize_draws_each_pixel_with_its_own_probability():
    probabilities = torch.linspace(0, 1, 17)
    draws = binarize(probabilities.expand(20_000, 17), torch.Generator().manual_seed(0))
    assert draws.dtype == torch.float32 and set(draws.unique().tolist()) == {0.0, 1.0}
    # Hoeffding: each of 17 means is within .019 with probability 1 - 2 exp(-2 * 20,000 * .019^2), all with 1 - 2e-5.
    torch.testing.assert_close(draws.mean(0), probabilities, atol=0.019, rtol=0)


def test_binarize_never_changes_a_pixel_that_is_already_black_or_white():
    binary = torch.tensor([0.0, 1.0]).repeat(50_000)
    assert torch.equal(binarize(binary), binary)


def test_binarize_repeats_itself_from_the_same_seed_and_leaves_the_global_stream_alone():
    pixels, before = torch.full((100, 10), 0.5), torch.get_rng_state()
    first, again, other = (binarize(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_binarize_draws_the_same_on_a_gpu_from_a_cpu_generator():
    pixels = torch.rand(100, 10)
    here, there = (binarize(pixels.to(device), torch.Generator().manual_seed(0)) for device in ("cpu", "cuda"))
    assert there.device.type == "cuda" and torch.equal(here, there.cpu())


# Published sets, by stand-ins


def _rows(data: Dataset, levels: int) -> list[tuple[bytes, int]]:
    """Each image as its gray levels with its label, train and test together, sorted."""
    images = (torch.cat([data.train, data.test]) * levels).round().to(torch.uint8).numpy()
    return sorted(zip(map(bytes, images), torch.cat([data.train_labels, data.test_labels]).tolist(), strict=True))


def _idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}i", 0, 8, values.ndim, *values.shape) + values.tobytes()


IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
TRAIN = "train-images-idx3-ubyte.gz"
CONTENT = {
    TRAIN: _idx(IMAGES),
    "train-labels-idx1-ubyte.gz": _idx(np.array([7, 0, 9], np.uint8)),
    "t10k-images-idx3-ubyte.gz": _idx(IMAGES[:2]),
    "t10k-labels-idx1-ubyte.gz": _idx(np.array([1, 2], np.uint8)),
}
PACKED = {file: gzip.compress(content, mtime=0) for file, content in CONTENT.items()}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no data folder, no proxy, and the stand-in in MNIST's place, at a mirror that refuses to connect."""
    monkeypatch.delenv("VAECOURSE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    _publish(monkeypatch, CONTENT, "http://127.0.0.1:9/")
    return tmp_path / "cache" / "vaecourse" / "mnist"


@pytest.fixture
def folder(tmp_path, monkeypatch, cache):
    """A user's data folder with the whole stand-in, packed."""
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for file, packed in PACKED.items():
        (tmp_path / "data" / "mnist" / file).write_bytes(packed)
    monkeypatch.setenv("VAECOURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "mnist"


@pytest.fixture
def serve():
    """Start a mirror on this machine that serves the given files, and return its address and the list of its requests."""
    servers = []

    def start(files: dict[str, bytes], promised: int = 0):
        requests = []

        class Mirror(BaseHTTPRequestHandler):
            def do_GET(self):
                file = self.path.removeprefix("/")
                requests.append(file)
                if file not in files:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(len(files[file]) + promised))
                self.end_headers()
                self.wfile.write(files[file])

            def log_message(self, *_):
                pass

        servers.append(server := ThreadingHTTPServer(("127.0.0.1", 0), Mirror))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://127.0.0.1:{server.server_port}/", requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _publish(monkeypatch, content: dict[str, bytes], *mirrors: str, name: str = "mnist") -> None:
    hashes = {file: f"sha256:{hashlib.sha256(text).hexdigest()}" for file, text in content.items()}
    monkeypatch.setitem(datasets.SOURCES, name, Source(mirrors, hashes))


def _assert_is_the_stand_in(data: Dataset) -> None:
    assert torch.equal(data.train, torch.from_numpy(IMAGES.reshape(3, 784).astype(np.float64) / 255).float())
    assert torch.equal(data.test, data.train[:2]) and data.shape == (28, 28)
    assert data.train_labels.tolist() == [7, 0, 9] and data.test_labels.tolist() == [1, 2]


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_in_the_data_folder_are_used_and_nothing_is_downloaded(folder, cache):
    _assert_is_the_stand_in(load("mnist"))
    assert not cache.exists()


def test_unpacked_files_in_the_data_folder_do_as_well(folder):
    for file, content in CONTENT.items():
        (folder / file).unlink()
        (folder / file.removesuffix(".gz")).write_bytes(content)
    _assert_is_the_stand_in(load("mnist"))


def test_a_download_is_kept_and_not_repeated(cache, serve, monkeypatch, capsys):
    mirror, requests = serve(PACKED)
    _publish(monkeypatch, CONTENT, mirror)
    _assert_is_the_stand_in(load("mnist"))
    assert _files(cache) == set(PACKED)
    _assert_is_the_stand_in(load("mnist"))
    assert requests == list(PACKED)
    assert TRAIN in capsys.readouterr().err  # the progress bar


def test_what_the_data_folder_lacks_is_downloaded_to_the_cache(folder, cache, serve, monkeypatch):
    mirror, requests = serve(PACKED)
    _publish(monkeypatch, CONTENT, mirror)
    (folder / TRAIN).unlink()
    _assert_is_the_stand_in(load("mnist"))
    assert requests == [TRAIN] and _files(cache) == {TRAIN} and TRAIN not in _files(folder)


def test_the_second_mirror_serves_what_the_first_does_not_have_or_has_wrong_or_breaks_off(cache, serve, monkeypatch):
    mirrors = [
        serve({})[0],
        serve({file: b"<html>Please log in</html>" for file in PACKED})[0],
        serve({file: packed[:-20] for file, packed in PACKED.items()}, promised=20)[0],
        serve(PACKED)[0],
    ]
    _publish(monkeypatch, CONTENT, *mirrors)
    _assert_is_the_stand_in(load("mnist"))
    assert _files(cache) == set(PACKED) | {f"{file}.bad" for file in PACKED}


def test_without_a_network_the_error_names_file_mirrors_variable_and_places(cache):
    with pytest.raises(DataError) as failure:
        load("mnist")
    message = str(failure.value)
    assert message.startswith(f"mnist/{TRAIN} could not be downloaded")
    assert f"http://127.0.0.1:9/{TRAIN}\n" in message and "refused" in message
    assert "set VAECOURSE_DATA to a folder" in message and all(f"\n  mnist/{file}" in message for file in CONTENT)
    assert _files(cache) == set()


def test_a_wrong_file_from_every_mirror_is_kept_aside_under_names_of_its_own_and_never_used(cache, serve, monkeypatch):
    login = {TRAIN: b"<html>Please log in</html>"}
    _publish(monkeypatch, CONTENT, serve(login)[0], serve(login)[0])
    with pytest.raises(DataError, match=rf"26 bytes, unpacked, have sha256 .*{TRAIN}\.bad2\."):
        load("mnist")
    assert _files(cache) == {f"{TRAIN}.bad", f"{TRAIN}.bad2"}


def test_an_interrupted_download_leaves_nothing(cache, monkeypatch):
    def interrupt(self, url, output_file, pooch):
        Path(output_file).write_bytes(PACKED[TRAIN][:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load("mnist")
    assert _files(cache) == set()


@pytest.mark.parametrize(
    "damage, problem",
    [
        (lambda packed: packed[:-30], "is truncated or damaged"),
        (lambda packed: packed[:40] + b"\xff\xff\xff\xff" + packed[44:], "is truncated or damaged"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"!"), "is not the published file"),
        (lambda packed: b"", "is not the published file"),
    ],
    ids=["truncated", "damaged", "altered", "empty"],
)
def test_a_bad_file_in_the_data_folder_is_named_and_moved_aside(folder, damage, problem):
    bad = damage(PACKED[TRAIN])
    (folder / TRAIN).write_bytes(bad)
    with pytest.raises(DataError) as failure:
        load("mnist")
    message = str(failure.value)
    assert message.startswith(f"{folder / TRAIN} {problem}") and f"kept aside as {folder / TRAIN}.bad" in message
    assert "Put a good copy in its place, or unset VAECOURSE_DATA" in message
    assert (folder / f"{TRAIN}.bad").read_bytes() == bad and TRAIN not in _files(folder)


def test_a_bad_file_that_cannot_be_moved_aside_is_still_refused(folder, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    (folder / TRAIN).write_bytes(PACKED[TRAIN][:-30])
    monkeypatch.setattr(Path, "rename", refuse)
    for _ in range(2):
        with pytest.raises(DataError, match=r"not used, and cannot be moved aside \(Permission denied\): remove it"):
            load("mnist")


def test_a_bad_file_in_the_cache_is_moved_aside_with_a_warning_and_downloaded_again(cache, serve, monkeypatch):
    _publish(monkeypatch, CONTENT, serve(PACKED)[0])
    cache.mkdir(parents=True)
    (cache / TRAIN).write_bytes(PACKED[TRAIN][:-30])
    with pytest.warns(UserWarning, match=rf"{TRAIN} is truncated .* It is downloaded again"):
        data = load("mnist")
    _assert_is_the_stand_in(data)
    assert _files(cache) == {*PACKED, f"{TRAIN}.bad"}


def test_a_data_folder_that_does_not_exist_is_an_error_and_not_a_download(cache, serve, monkeypatch, tmp_path):
    mirror, requests = serve(PACKED)
    _publish(monkeypatch, CONTENT, mirror)
    monkeypatch.setenv("VAECOURSE_DATA", str(tmp_path / "dta"))
    with pytest.raises(DataError, match=rf"VAECOURSE_DATA names .*dta, which is no folder[\s\S]*mnist/{TRAIN}"):
        load("mnist")
    assert requests == []


@pytest.mark.parametrize("content", [b"", CONTENT[TRAIN][:-1], b"\0\0\x0d" + CONTENT[TRAIN][3:], b"<html></html>"])
def test_content_that_has_its_hash_but_is_not_idx_is_refused(folder, monkeypatch, content):
    (folder / TRAIN).write_bytes(gzip.compress(content))
    _publish(monkeypatch, CONTENT | {TRAIN: content})
    with pytest.raises(DataError, match=f"mnist/{TRAIN} is not an IDX file"):
        load("mnist")


def _amat(images: np.ndarray) -> bytes:
    return "".join(" ".join(map(str, image)) + "\n" for image in images).encode()


@pytest.fixture
def binary_images(folder, monkeypatch):
    """Write a stand-in for binarized MNIST as text, and return its images by split."""
    images = {split: np.random.default_rng(n).integers(0, 2, (n, 784)) for n, split in enumerate(("train", "valid", "test"), 2)}
    content = {f"binarized_mnist_{split}.amat": _amat(rows) for split, rows in images.items()}
    _publish(monkeypatch, content, name="binarized_mnist")
    (folder.parent / "binarized_mnist").mkdir()
    for file, text in content.items():
        (folder.parent / "binarized_mnist" / f"{file}.gz").write_bytes(gzip.compress(text))
    return images


def test_binarized_mnist_is_what_numpy_reads_from_its_text_with_a_validation_part_and_no_labels(binary_images):
    data = load("binarized_mnist")
    for split, rows in binary_images.items():
        assert torch.equal(getattr(data, split), torch.from_numpy(rows).float())
    assert data.train_labels is None and data.test_labels is None and data.shape == (28, 28)


@pytest.mark.parametrize("old, new", [(b"0", b"2"), (b" ", b","), (b"\n", b" "), (b"0 ", b""), (b"\n", b"")])
def test_text_that_has_its_hash_but_is_not_zeros_and_ones_is_refused(binary_images, folder, monkeypatch, old, new):
    file = "binarized_mnist_train.amat"
    text = _amat(binary_images["train"]).replace(old, new, 1)
    _publish(monkeypatch, {file: text}, name="binarized_mnist")
    (folder.parent / "binarized_mnist" / f"{file}.gz").write_bytes(gzip.compress(text))
    with pytest.raises(DataError, match=f"{file} is not 784 zeros and ones a line"):
        load("binarized_mnist")


# Published sets, where they lie


def _real(monkeypatch, *files: str) -> None:
    """Use the real files, or skip where there are none."""
    for file in files:
        if not (REAL_DATA / file).is_file():
            pytest.skip(f"{file} is not in {REAL_DATA}: set VAECOURSE_DATA to a folder that holds it")
    monkeypatch.setenv("VAECOURSE_DATA", str(REAL_DATA))
    monkeypatch.setattr("vaecourse.datasets.files.download", lambda *_: pytest.fail("a test must not download"))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_hashes_in_the_table_are_those_of_the_published_files(monkeypatch, name):
    for file, sha256 in datasets.SOURCES[name].hashes.items():
        _real(monkeypatch, f"{name}/{file}")
        packed = (REAL_DATA / name / file).read_bytes()
        assert hashlib.md5(packed).hexdigest() == PUBLISHED_MD5[f"{name}/{file}"]
        assert f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}" == sha256


@pytest.mark.parametrize(
    "name, train_counts, mean, first_labels",
    [
        ("mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], 0.1307, [5, 0, 4, 1, 9]),
        ("fashion_mnist", [6000] * 10, 0.2860, [9, 0, 0, 3, 0]),
    ],
)
def test_a_real_set_has_its_well_known_facts(monkeypatch, name, train_counts, mean, first_labels):
    _real(monkeypatch, *(f"{name}/{file}" for file in datasets.SOURCES[name].hashes))
    data = load(name)
    assert data.train.shape == (60_000, 784) and data.test.shape == (10_000, 784) and data.shape == (28, 28)
    assert data.train_labels.bincount().tolist() == train_counts and data.train_labels[:5].tolist() == first_labels
    assert data.train.mean().item() == pytest.approx(mean, abs=5e-5)  # the constant that everyone normalizes by
    assert data.train.min() == 0 and data.train.max() == 1


def test_real_binarized_mnist_is_binary_and_as_bright_as_mnist(monkeypatch):
    _real(monkeypatch, *(f"binarized_mnist/{file}.gz" for file in datasets.SOURCES["binarized_mnist"].hashes))
    data = load("binarized_mnist")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [50_000, 10_000, 10_000]
    for part in (data.train, data.valid, data.test):
        assert torch.equal(part * part, part)
    # Train and valid together are MNIST's training images, each drawn once: 47 million Bernoulli pixels of mean .13066,
    # whose average strays by more than .0004 with probability at most 2 exp(-2 * 47,040,000 * .0004^2) = 6e-7.
    assert (data.train.sum() + data.valid.sum()).item() / (60_000 * 784) == pytest.approx(0.13066, abs=0.0004)


# Other people's names


@pytest.mark.parametrize(
    "name",
    [
        "mnist/{dotted}",  # as Windows unpacks, and as Kaggle has it
        "mnist/{dotted}.gz",
        "mnist/{stem}/{stem}",  # Kaggle's folders
        "MNIST/raw/{stem}",  # torchvision's
        "MNIST/raw/{stem}.gz",
        "{stem}.gz",  # the folder itself
        "{dotted}",
    ],
)
def test_files_under_the_names_that_others_give_them_are_found(folder, cache, name):
    for file, content in CONTENT.items():
        stem = file.removesuffix(".gz")
        path = folder.parent / name.format(stem=stem, dotted=stem.replace("-idx", ".idx"))
        (folder / file).unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    _assert_is_the_stand_in(load("mnist"))
    assert not cache.exists()


def test_keras_archive_of_mnist_is_read(folder, cache):
    labels = {split: np.frombuffer(CONTENT[f"{split}-labels-idx1-ubyte.gz"], np.uint8, offset=8) for split in ("train", "t10k")}
    np.savez(folder.parent / "mnist.npz", x_train=IMAGES, y_train=labels["train"], x_test=IMAGES[:2], y_test=labels["t10k"])
    for file in CONTENT:
        (folder / file).unlink()
    _assert_is_the_stand_in(load("mnist"))
    assert not cache.exists()


def test_another_set_s_file_of_the_same_name_in_the_folder_itself_is_left_alone(folder):
    other = folder.parent / TRAIN
    other.write_bytes(gzip.compress(b"Fashion"))
    (folder / TRAIN).unlink()
    with pytest.raises(DataError):
        load("mnist")
    assert other.exists()


def test_where_nothing_is_found_the_error_names_the_folder_and_what_is_there(folder):
    (folder / TRAIN).rename(folder / "my-images.bin")
    with pytest.raises(DataError) as failure:
        load("mnist")
    message = str(failure.value)
    assert (
        f"VAECOURSE_DATA is {folder.parent}. Looked for there (in mnist, MNIST/raw, MNIST, or in the folder itself)" in message
    )
    assert f"\n  mnist/{TRAIN}" in message and "What is there: mnist, " in message and "mnist/my-images.bin" in message
