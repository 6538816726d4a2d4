"""Tables for regression: read as published, split at random and standardized by the training part alone."""

import hashlib

import pytest
import torch

from helpers import REAL_DATA
from vaecourse import datasets
from vaecourse.datasets import RegressionTask


@pytest.fixture
def task():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 0.0]) + 4
    return RegressionTask("made", x, x @ torch.tensor([1.0, 2.0, 3.0]) + 100)


def test_the_training_part_has_mean_zero_and_deviation_one_and_the_test_part_its_units(task):
    split = task.split(seed=0)
    assert (len(split.train), len(split.test)) == (45, 5)
    assert torch.allclose(split.train.mean(0), torch.zeros(3), atol=1e-6)
    assert torch.allclose(split.train.std(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5), "the last column does not vary"
    rows = torch.cat([split.train_targets, split.test_targets]) * split.scale
    assert torch.allclose((rows - rows.mean()).sort().values, (task.targets - task.targets.mean()).sort().values, atol=1e-3)


def test_a_split_is_the_seed_s_and_no_row_is_in_both_parts(task):
    one, same, other = task.split(seed=1), task.split(seed=1), task.split(seed=2)
    assert torch.equal(one.train, same.train) and not torch.equal(one.train, other.train)
    rows = torch.cat([one.train, one.test])
    assert len(rows.unique(dim=0)) == len(task.inputs)


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_a_part_without_rows_is_refused(task, share):
    with pytest.raises(ValueError, match=r"share must leave 2 of 50 rows to train and 1 to test, at least"):
        task.split(seed=0, share=share)


def test_an_unknown_table_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no table is named 'boston': choose from concrete, energy, yacht"):
        datasets.uci("boston")


def test_a_table_is_read_from_the_data_folder_and_its_last_column_is_the_target(tmp_path, monkeypatch):
    content = b"1.5 2 3\n4 5.25 6\n"
    (tmp_path / "uci").mkdir()
    (tmp_path / "uci" / "yacht.txt").write_bytes(content)
    source = datasets.Source((), {"yacht.txt": f"sha256:{hashlib.sha256(content).hexdigest()}"})
    monkeypatch.setitem(datasets.SOURCES, "uci", source)
    monkeypatch.setenv(datasets.DATA_FOLDER, str(tmp_path))
    task = datasets.uci("yacht")
    assert torch.equal(task.inputs, torch.tensor([[1.5, 2.0], [4.0, 5.25]])) and torch.equal(
        task.targets, torch.tensor([3.0, 6.0])
    )
    assert repr(task) == "RegressionTask('yacht': 2 rows of 2 inputs and a target)"


@pytest.mark.parametrize(
    "name, shape, mean", [("concrete", (1030, 8), 35.818), ("energy", (768, 8), 22.307), ("yacht", (308, 6), 10.495)]
)
def test_the_real_tables_have_their_well_known_sizes_and_means(monkeypatch, name, shape, mean):
    if not (REAL_DATA / "uci" / f"{name}.txt").is_file():
        pytest.skip(f"uci/{name}.txt is not in {REAL_DATA}: set VAECOURSE_DATA to a folder that holds it")
    monkeypatch.setenv(datasets.DATA_FOLDER, str(REAL_DATA))
    task = datasets.uci(name)
    assert task.inputs.shape == shape and task.targets.mean().item() == pytest.approx(mean, abs=1e-3)
