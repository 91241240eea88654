"""The benchmark of the federated phase: it runs, and what it compares learns the same. What it measures is no test's matter."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rllib_wireless.benchmarks import federation
from rllib_wireless.benchmarks.peers.flower import VARIABLE, find_flower, read_start
from rllib_wireless.errors import UserError


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_round_is_compared_with_pooled_training_with_and_without_validation() -> None:
    rows = federation.run(quick=True)
    aimed = [row["name"] for row in rows if row["target"] == 1.3]
    assert len(aimed) == 2 and "validation left out" in aimed[1] and "validation" not in aimed[0]
    assert all(row["value"] > 0 for row in rows)


def test_what_the_benchmark_calls_a_round_changes_the_model_and_lowers_its_loss(tmp_path: Path) -> None:
    federation.prepare(tmp_path, 500)
    rounds = federation.Rounds.start(tmp_path, 0, local_steps=20)
    first, second = rounds(), rounds()
    assert second < first and rounds.number == 2
    before, _ = read_start(tmp_path)
    assert all((rounds.weights[name] != before[name]).any() for name in before)


def test_a_python_without_flower_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_flower() is None
    monkeypatch.setenv(VARIABLE, "/nonexistent/python")
    with pytest.raises(UserError, match=f"{VARIABLE}=/nonexistent/python"):
        find_flower()


@pytest.mark.ray
@pytest.mark.slow
def test_without_flower_ours_are_measured_and_a_row_says_what_is_missing(tmp_path: Path) -> None:
    federation.prepare(tmp_path, 500)
    rows = federation.race_rows(tmp_path, None, rounds=3, local_steps=2, repeats=1)
    assert rows[-1]["value"] is None and VARIABLE in rows[-1]["peer"]
    losses = [row["value"] for row in rows if "held-out loss" in row["name"]]
    assert len(losses) == 2 and losses[0] == losses[1]


@pytest.mark.ray
@pytest.mark.slow
def test_flower_and_ours_learn_the_same(tmp_path: Path) -> None:
    flower = find_flower()
    if flower is None:
        pytest.skip(f"{VARIABLE} names no Python that has flwr; docs/benchmarks.md says how to make one")
    federation.prepare(tmp_path, 500)
    rows = {
        row["name"]: row["value"] for row in federation.race_rows(tmp_path, flower, rounds=4, local_steps=10, repeats=1)
    }
    assert rows["held-out loss, actors against one process, largest difference"] == 0.0
    # Flower averages in single precision.
    assert rows["held-out loss after 2 rounds, difference from Flower's"] < 1e-4
