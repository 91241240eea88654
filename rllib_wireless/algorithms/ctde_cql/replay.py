"""The newest steps of an online run, from which Learners draw as they do from recorded data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rllib_wireless.data.format import Columns
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.envs.base import FloatArray


class Replay(TensorIterator):
    """A ring of joint rows; the oldest ones make room.

    Args:
        capacity: Joint rows that it holds.
        columns: The columns of a row, `state` and `new_state` among them where the joint state was recorded.
        seed: Seed of the drawing.

    Attributes:
        total: Joint rows added so far.
    """

    def __init__(self, capacity: int, columns: Sequence[str], seed: int) -> None:
        super().__init__([], columns=columns, seed=seed)
        self._capacity = capacity
        self._ring: dict[str, torch.Tensor] = {}
        self._last_state: dict[int, FloatArray] = {}
        self.total = 0

    def add(self, fragments: Sequence[Fragment]) -> None:
        """Take in pieces of episodes that were recorded with a row for every agent and step."""
        for fragment in fragments:
            if fragment.rows:
                self._add_rows(self._aligned(fragment))

    def content(self) -> dict[str, Any]:
        """All that it holds, for `restore`; what is drawn of it is a function of the seed and the update."""
        return {"total": self.total, "rows": {name: rows.numpy().copy() for name, rows in self.rows().items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `content` gave."""
        self._ring, self.total = {}, 0
        self._add_rows(state["rows"])
        self.total = state["total"]

    def _load(self, device: torch.device | str | None) -> dict[str, torch.Tensor]:
        return {name: rows[: self.total] for name, rows in self._ring.items()}

    def _add_rows(self, rows: Mapping[str, Any]) -> None:
        rows = {name: values[-self._capacity :] for name, values in rows.items()}
        count = len(rows["actions"])
        if not self._ring:
            self._ring = {
                name: torch.zeros((self._capacity, *values.shape[1:]), dtype=torch.from_numpy(values).dtype)
                for name, values in rows.items()
            }
        places = torch.arange(self.total, self.total + count) % self._capacity
        for name, values in rows.items():
            self._ring[name][places] = torch.from_numpy(values)
        self.total += count

    def _aligned(self, fragment: Fragment) -> Columns:
        """The rows of a fragment, all agents side by side."""
        assert self.columns is not None
        agents = list(fragment.rows.values())
        rows = {name: np.stack([own[name] for own in agents], axis=1) for name in self.columns if name in agents[0]}
        if "state" in self.columns and fragment.state is not None:
            episode, states = int(agents[0]["eps_id"][0]), fragment.state["obs"]
            if fragment.state["t"][0] > agents[0]["t"][0]:  # the first row's state stands in the fragment before
                states = np.concatenate([self._last_state.pop(episode), states])
            self._last_state[episode] = states[-1:]
            rows |= {"state": states[:-1], "new_state": states[1:]}
        return rows
