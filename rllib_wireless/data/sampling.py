"""Minibatches drawn by index from data in memory, for Learners.

RLlib's Learner only calls `iter_torch_batches` of what it is given, so a sampler of tensors takes the place of Ray Data.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rllib_wireless.data.format import Columns
from rllib_wireless.data.store import load_dataset
from rllib_wireless.errors import DataError


class TensorIterator:
    """Draws rows uniformly with replacement from one shard of the rows of data sets, all agents side by side.

    It travels as paths and numbers: each Learner loads its own shard, on its own node, at the first batch. A shard is every
    `num_shards`-th row. Batches are {"<module_id>/<column>": tensor [batch_size, N, ...]}, with `state` and `new_state`
    [batch_size, S] among the columns where they are asked for.

    Args:
        paths: Folders of data sets with the same agents and columns.
        columns: The columns wanted; None for all that the data sets hold.
        module_id: ID of the stacked RLModule.
        shard: Number of this shard.
        num_shards: Number of shards, one per Learner.
        seed: Seed of the drawing; shards draw independently.
        aligned: Whether rows side by side must be of the same steps. If not, agents may have different numbers of rows; those of
            the others are repeated.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        columns: Sequence[str] | None = None,
        module_id: str = "agents",
        shard: int = 0,
        num_shards: int = 1,
        seed: int = 0,
        aligned: bool = True,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        self.columns = None if columns is None else tuple(columns)
        self.module_id, self.shard, self.num_shards, self.seed = module_id, shard, num_shards, seed
        self.aligned = aligned
        self._tensors: dict[str, torch.Tensor] | None = None
        self._random = np.random.default_rng([seed, shard])

    def __len__(self) -> int:
        """Rows of the shard."""
        return len(next(iter(self._load(None).values())))

    def rows(self) -> dict[str, torch.Tensor]:
        """All rows of the shard, {column: [T, N, ...]}."""
        return self._load(None)

    def iter_torch_batches(
        self, *, batch_size: int, device: torch.device | str | None = None, **_: Any
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Minibatches without end.

        Args:
            batch_size: Rows of each.
            device: Where to put them; the whole shard is moved there once.
            **_: What else RLlib passes to Ray Data.
        """
        tensors = self._load(device)
        rows = len(next(iter(tensors.values())))
        while True:
            index = torch.from_numpy(self._random.integers(0, rows, batch_size)).to(device or "cpu")
            yield {f"{self.module_id}/{name}": values.index_select(0, index) for name, values in tensors.items()}

    def get_state(self) -> dict[str, Any]:
        """State of the drawing; with `set_state` it resumes exactly."""
        return {"random": self._random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called; iterators already made follow."""
        self._random.bit_generator.state = state["random"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tensors": None}

    def _load(self, device: torch.device | str | None) -> dict[str, torch.Tensor]:
        if self._tensors is None:
            parts = [self._columns(path) for path in self.paths]
            for path, part in zip(self.paths, parts, strict=True):
                if part.keys() != parts[0].keys():
                    raise DataError(f"its columns differ from those of {self.paths[0]}", path)
            joined = {name: _join([part[name] for part in parts], self.shard, self.num_shards) for name in parts[0]}
            self._tensors = {name: torch.from_numpy(values) for name, values in joined.items()}
        if device is not None:
            self._tensors = {name: values.to(device) for name, values in self._tensors.items()}
        return self._tensors

    def _columns(self, path: Path) -> Columns:
        dataset = load_dataset(path)
        rows = dataset.aligned() if self.aligned else dataset.side_by_side()
        wanted = tuple(rows) if self.columns is None else self.columns
        for name, time in (("state", "t"), ("new_state", "new_t")):
            if name in wanted:
                rows[name] = dataset.state_at(rows["eps_id"][:, 0], rows[time][:, 0])
        missing = [name for name in wanted if name not in rows]
        if missing:
            raise DataError(f"it has no column {missing[0]}; columns are {', '.join(rows)}", path)
        return {name: rows[name] for name in wanted}


def _join(parts: list[npt.NDArray[Any]], shard: int, num_shards: int) -> npt.NDArray[Any]:
    return np.ascontiguousarray(np.concatenate(parts)[shard::num_shards])
