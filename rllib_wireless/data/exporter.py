"""`rllib-wireless data export`: one agent's rows for stock RLlib (BC, MARWIL, CQL) and other tools."""

import os
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import orjson

from rllib_wireless.data.format import Columns
from rllib_wireless.data.store import load_dataset
from rllib_wireless.errors import DataError, UserError

# What RLlib's readers know; masks, durations and costs mean nothing to them.
_COLUMNS = ("obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "eps_id", "t", "action_prob")


def export(path: Path | str, out: Path | str, *, agent: str, kind: Literal["json", "parquet"] = "parquet") -> Path:
    """Write one agent's rows as a file of its own.

    In RLlib, read Parquet with `.offline_data(input_=[out], input_read_method="read_parquet", input_compress_columns=[])`,
    and JSON with `input_read_method="read_json", input_read_sample_batches=True, input_compress_columns=[]`. In the JSON a
    line is an episode, and its `t` counts the agent's own rows. RLlib reads whole episodes only, so those that were running
    when collecting ended are marked as truncated there.

    Args:
        path: Folder of the data set.
        out: File to write; it must not exist.
        agent: The agent.
        kind: `json` for RLlib SampleBatch lines, or `parquet` for a row per transition.

    Returns:
        The file written.

    Raises:
        DataError: Where the data set cannot be read or has no such agent.
        UserError: Where the file exists.
    """
    out = Path(out)
    if kind not in ("json", "parquet"):
        raise UserError(f"kind = {kind!r}, but it should be json or parquet")
    if out.exists():
        raise UserError(f"{out} exists; give another file")
    dataset = load_dataset(path)
    if agent not in dataset.rows:
        raise DataError(f"it has no agent {agent!r}; agents are {', '.join(dataset.agents)}", dataset.path)
    rows = dataset.rows[agent]
    if "acting" in rows:
        rows = {name: values[rows["acting"]] for name, values in rows.items()}
    rows = _in_order({name: rows[name] for name in (*_COLUMNS, "stream") if name in rows})
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    os.close(handle)
    try:
        (_write_json if kind == "json" else _write_parquet)(rows, Path(temporary))
        Path(temporary).replace(out)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return out


def _in_order(rows: Columns) -> Columns:
    stream = rows.pop("stream", np.zeros(len(rows["t"]), np.int64))
    order = np.lexsort((rows["t"], stream, rows["eps_id"]))
    return {name: values[order] for name, values in rows.items()}


def _write_json(rows: Columns, path: Path) -> None:
    edges = np.flatnonzero(rows["eps_id"][1:] != rows["eps_id"][:-1]) + 1
    with path.open("wb") as file:
        for part in np.split(np.arange(len(rows["t"])), edges):
            batch = {name: values[part] for name, values in rows.items()} | {"t": np.arange(len(part))}
            batch["truncateds"][-1] |= not batch["terminateds"][-1]
            options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
            file.write(orjson.dumps({"type": "SampleBatch", **batch}, option=options))


def _write_parquet(rows: Columns, path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]  # slow to import, and nothing else needs it
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    columns = {
        name: pa.array(values) if values.ndim == 1 else pa.array(list(values), pa.list_(pa.float32()))
        for name, values in rows.items()
    }
    pq.write_table(pa.table(columns), path)
