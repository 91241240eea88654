"""Minibatches for Learners: uniform, aligned, sharded, and resumed exactly."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import small

from rllib_wireless.data import load_dataset
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.errors import DataError

Batch = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sampling") / "d"
    small(out, 300, rows="all")
    return out


def take(iterator: TensorIterator, count: int, batch_size: int = 8) -> list[Batch]:
    return list(
        itertools.islice(iterator.iter_torch_batches(batch_size=batch_size, device="cpu", collate_fn=None), count)
    )


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x) for x, y in zip(a, b, strict=True)
    )


def test_rows_of_a_batch_are_rows_of_the_data(folder: Path) -> None:
    rows = load_dataset(folder).aligned()
    place = {(e, t): i for i, (e, t) in enumerate(zip(rows["eps_id"][:, 0], rows["t"][:, 0], strict=True))}
    for batch in take(TensorIterator([folder]), 5):
        assert set(batch) == {f"agents/{name}" for name in rows}
        index = [
            place[int(e), int(t)] for e, t in zip(batch["agents/eps_id"][:, 0], batch["agents/t"][:, 0], strict=True)
        ]
        for name, values in rows.items():
            assert np.array_equal(batch[f"agents/{name}"].numpy(), values[index]), name


def test_drawing_is_uniform(folder: Path) -> None:
    iterator = TensorIterator([folder], columns=["eps_id", "t"])
    (batch,) = take(iterator, 1, batch_size=60_000)
    keys = batch["agents/eps_id"][:, 0] * 1000 + batch["agents/t"][:, 0]
    counts = torch.unique(keys, return_counts=True)[1].numpy()
    assert len(counts) == len(iterator) == 300
    # 200 expected of each row: the chi-square statistic has mean 299 and standard deviation 24.5.
    assert ((counts - 200.0) ** 2 / 200).sum() < 299 + 5 * 24.5


def test_shards_divide_the_rows_and_draw_independently(folder: Path) -> None:
    shards = [TensorIterator([folder], columns=["eps_id", "t"], shard=i, num_shards=3) for i in range(3)]
    seen = []
    for shard in shards:
        (batch,) = take(shard, 1, batch_size=5000)
        seen.append(
            {(int(e), int(t)) for e, t in zip(batch["agents/eps_id"][:, 0], batch["agents/t"][:, 0], strict=True)}
        )
    assert len(set.union(*seen)) == sum(map(len, seen)) == sum(len(shard) for shard in shards) == 300
    assert not equal(take(shards[0], 1), take(TensorIterator([folder], columns=["eps_id", "t"], shard=0, seed=1), 1))


def test_equal_seeds_draw_equally_and_a_saved_state_resumes_exactly(folder: Path) -> None:
    a, b = TensorIterator([folder], seed=3), TensorIterator([folder], seed=3)
    assert equal(take(a, 4), take(b, 4)) and not equal(take(a, 1), take(TensorIterator([folder], seed=4), 1))
    running = a.iter_torch_batches(batch_size=8)
    next(running)
    state = pickle.loads(pickle.dumps(a.get_state()))
    expected = [next(running) for _ in range(3)]
    resumed = TensorIterator([folder], seed=99)
    begun = resumed.iter_torch_batches(batch_size=8)
    next(begun)
    resumed.set_state(state)
    assert equal([next(begun) for _ in range(3)], expected)


def test_it_travels_small_and_loads_where_it_arrives(folder: Path) -> None:
    iterator = TensorIterator([folder])
    take(iterator, 1)
    pickled = pickle.dumps(iterator)
    assert len(pickled) < 2000
    assert equal(take(pickle.loads(pickled), 2), take(iterator, 2))


def test_joint_state_belongs_to_the_row(folder: Path) -> None:
    (batch,) = take(TensorIterator([folder], columns=["new_obs", "new_state"], module_id="m"), 1, batch_size=64)
    assert set(batch) == {"m/new_obs", "m/new_state"}
    assert torch.equal(batch["m/new_state"][:, -4:], batch["m/new_obs"][:, 0, :4])


def test_several_data_sets_are_drawn_from_as_one(folder: Path, tmp_path: Path) -> None:
    small(tmp_path / "more", 100, rows="all", seed=5)
    assert len(TensorIterator([folder, tmp_path / "more"])) == 400
    small(tmp_path / "other", 100, rows="decisions")
    with pytest.raises(DataError, match="its columns differ from those of"):
        take(TensorIterator([folder, tmp_path / "other"]), 1)
    with pytest.raises(DataError, match="it has no column stream; columns are obs"):
        take(TensorIterator([folder], columns=["stream"]), 1)


def test_rllibs_learner_iterates_over_it(folder: Path) -> None:
    from ray.rllib.utils.minibatch_utils import MiniBatchRayDataIterator

    batches = MiniBatchRayDataIterator(iterator=TensorIterator([folder]), device="cpu", minibatch_size=16, num_iters=3)
    for _ in range(2):
        taken = list(batches)
        assert [batch.policy_batches["agents"]["obs"].shape for batch in taken] == [(16, 3, 8)] * 3
