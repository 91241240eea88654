"""The format of a data set: which columns a row has, and what a line of a file looks like.

One line is one fragment of one joint episode, an RLlib `MultiAgentBatch` in JSON: `type`, `count` = environment steps,
`policy_batches` = {agent: columns}. Joint state is one more batch, `__state__`, to which rows point by t and new_t.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import orjson

from rllib_wireless.errors import DataError

VERSION: Final = 1
"""Version of this format; part of the card and of the cache's key."""

STATE = "__state__"
"""Name of the batch that holds the joint state."""

CARD = "card.yaml"

Array = npt.NDArray[Any]
Columns = dict[str, Array]
"""Columns of one agent, or of the joint state: {name: [T, ...]}."""


@dataclass(frozen=True)
class Column:
    """A column: what its values are, and how many belong to one row.

    Args:
        dtype: float32, int64 or bool.
        width: `obs` = as many as the observation has, `actions` = one per action, None = one number.
        optional: Whether a data set may do without it.
    """

    dtype: npt.DTypeLike
    width: Literal["obs", "actions"] | None = None
    optional: bool = False


COLUMNS: dict[str, Column] = {
    "obs": Column(np.float32, "obs"),
    "new_obs": Column(np.float32, "obs"),
    "actions": Column(np.int64),
    "rewards": Column(np.float32),
    "terminateds": Column(np.bool_),
    "truncateds": Column(np.bool_),
    "eps_id": Column(np.int64),
    "t": Column(np.int64),
    "new_t": Column(np.int64),
    "action_mask": Column(np.bool_, "actions"),
    "new_action_mask": Column(np.bool_, "actions"),
    "duration": Column(np.float32),
    "costs": Column(np.float32, optional=True),
    "action_prob": Column(np.float32, optional=True),
    "acting": Column(np.bool_, optional=True),
    "stream": Column(np.int64, optional=True),
}
"""The columns of an agent's rows. `t` and `new_t` are the environment steps of the decision and of the next one."""

STATE_COLUMNS: dict[str, Column] = {
    "eps_id": Column(np.int64),
    "t": Column(np.int64),
    "obs": Column(np.float32, "obs"),
}

REQUIRED = tuple(name for name, column in COLUMNS.items() if not column.optional)


def columns_of(batch: str) -> dict[str, Column]:
    """The columns that a batch of this name may have."""
    return STATE_COLUMNS if batch == STATE else COLUMNS


def encode(steps: int, batches: Mapping[str, Mapping[str, Array]]) -> bytes:
    """One line of a file, with its newline.

    Float32 numbers are written with the fewest digits that read back as the same float32.

    Args:
        steps: Environment steps of the fragment.
        batches: {agent or `__state__`: columns}, C-contiguous.

    Raises:
        DataError: At a number that is not finite, which JSON cannot hold.
    """
    line = orjson.dumps(
        {"type": "MultiAgentBatch", "count": steps, "policy_batches": batches},
        option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE,
    )
    if b"null" in line:  # what orjson makes of NaN and infinity
        for name, columns in batches.items():
            for column, values in columns.items():
                if not np.isfinite(values).all():
                    raise DataError("holds a number that is not finite", column=f"{name}/{column}")
    return line
