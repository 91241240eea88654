"""`rllib-wireless data convert`: RLlib's own offline JSON, SampleBatch or MultiAgentBatch, becomes a data set.

RLlib's writer packs columns by default, and unpacking them runs whatever code they carry; that happens here alone, and
only with `trust_pickle=True`.
"""

import base64
import binascii
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rllib_wireless.data.assemble import cast, foreign_environment, known_environment, write_dataset
from rllib_wireless.data.card import Card
from rllib_wireless.data.format import COLUMNS, STATE, Array
from rllib_wireless.errors import DataError

_RENAMED = {"dones": "terminateds", "next_obs": "new_obs"}
_NEEDED = ("obs", "actions", "rewards")
_KEPT = (*COLUMNS, "agent_index", "action_logp")


def convert(
    source: Path | str,
    out: Path | str,
    *,
    environment: str = "imported",
    env_config: Mapping[str, Any] | None = None,
    agents: Mapping[str, str] | None = None,
    num_actions: int | None = None,
    trust_pickle: bool = False,
) -> Card:
    """Turn RLlib's offline JSON into a data set.

    What it lacks is filled in: see `assemble.fill`. Columns that have no meaning here (`infos`, `vf_preds`, ...) are left
    out. Where several agents share a policy, agents are called `<policy>_<agent_index>`.

    Args:
        source: A `.json` file, or a folder of them.
        out: Folder to write; it must not exist, or be empty.
        environment: Name of the environment that the data comes from, ours or any other.
        env_config: Its configuration, where it is one of ours.
        agents: What the agents of the source are called here.
        num_actions: Number of actions; None for the largest in the data, plus one.
        trust_pickle: Unpickle packed columns, which **runs any code they carry**.

    Raises:
        DataError: At wrong data, naming file, line and column.
        UserError: Where `out` holds something already.
    """
    source, names = Path(source), agents or {}
    known = known_environment(environment, env_config or {})
    only_agent = known.agents[0] if known else "agent_0"
    parts: dict[str, list[dict[str, Array]]] = {}
    for path in _files(source):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if line.strip():
                for policy, batch in _batches(line, path, number, only_agent):
                    columns = _columns(batch, policy, path, number, trust_pickle)
                    for agent, part in _by_agent(policy, columns):
                        parts.setdefault(names.get(agent, agent), []).append(part)
    if not parts:
        raise DataError("it holds no transitions", source)
    rows = {agent: _join(agent, chunks, source) for agent, chunks in parts.items()}
    if known is None:
        width = next(iter(rows.values()))["obs"].shape[1]
        known = foreign_environment(environment, rows, tuple(f"obs_{i}" for i in range(width)), num_actions)
    return write_dataset(Path(out), rows, known, source, lambda _, episode, t: f"episode {episode}, t {t}")


def _files(source: Path) -> list[Path]:
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not paths or not all(path.is_file() for path in paths):
        raise DataError("there is no such file, or no .json file in the folder", source)
    return paths


def _batches(line: bytes, path: Path, number: int, only_agent: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        content = orjson.loads(line)
        kind = content["type"]
        batches = content["policy_batches"] if kind == "MultiAgentBatch" else {only_agent: content}
        pairs = [(str(policy), dict(batch)) for policy, batch in batches.items() if policy != STATE]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        raise DataError("it should be a SampleBatch or MultiAgentBatch of RLlib in JSON", path, number) from None
    if kind not in ("SampleBatch", "MultiAgentBatch"):
        raise DataError(f"type is {kind!r}, but it should be SampleBatch or MultiAgentBatch", path, number)
    yield from pairs


def _columns(batch: dict[str, Any], policy: str, path: Path, number: int, trust: bool) -> dict[str, Array]:
    columns: dict[str, Array] = {}
    for given, values in batch.items():
        name = _RENAMED.get(given, given)
        if name not in _KEPT:
            continue
        where = f"{policy}/{given}"
        if isinstance(values, str):
            if not trust:
                problem = "the column is packed; --trust-pickle unpacks it, which runs any code it carries"
                raise DataError(problem, path, number, where)
            values = _unpack(values, path, number, where)
        like = {"agent_index": "actions", "action_logp": "rewards"}.get(name, name)
        try:
            columns[name] = cast(like, values, where, path)
        except DataError as error:
            raise DataError(error.problem, path, number, where) from None
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise DataError("the column is missing", path, number, f"{policy}/{missing[0]}")
    for name, values in columns.items():
        if len(values) != len(columns["obs"]):
            problem = f"it has {len(values)} rows, but obs has {len(columns['obs'])}"
            raise DataError(problem, path, number, f"{policy}/{name}")
    if "action_logp" in columns:
        logp = columns.pop("action_logp")
        columns.setdefault("action_prob", np.exp(logp))
    # Without an episode's number, a line is an episode.
    columns.setdefault("eps_id", np.full(len(columns["obs"]), number))
    columns.setdefault("t", _count_within(columns["eps_id"]))
    return columns


def _unpack(text: str, path: Path, number: int, where: str) -> object:
    """What RLlib's `compression.pack` made: base64 of LZ4 of a pickle."""
    import lz4.frame  # type: ignore[import-untyped]  # comes with RLlib

    try:
        return pickle.loads(lz4.frame.decompress(base64.b64decode(text, validate=True)))
    except (binascii.Error, RuntimeError, pickle.UnpicklingError, EOFError, ImportError, AttributeError) as error:
        raise DataError(f"it cannot be unpacked: {error}", path, number, where) from None


def _by_agent(policy: str, columns: dict[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    index = columns.pop("agent_index", None)
    if index is None or len(np.unique(index)) < 2:
        yield policy, columns
        return
    for agent in np.unique(index):
        yield f"{policy}_{agent}", {name: values[index == agent] for name, values in columns.items()}


def _join(agent: str, chunks: list[dict[str, Array]], source: Path) -> dict[str, Array]:
    names = set(chunks[0])
    for chunk in chunks:
        if set(chunk) != names:
            raise DataError(f"only some lines have {', '.join(sorted(set(chunk) ^ names))}", source, column=agent)
        for name in ("obs", "new_obs"):
            if name in names and chunk[name].shape[1] != chunks[0]["obs"].shape[1]:
                raise DataError("the width of the observation changes between lines", source, column=f"{agent}/{name}")
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _count_within(episodes: Array) -> Array:
    """0, 1, ... within each run of equal numbers."""
    starts = np.flatnonzero(np.append(True, episodes[1:] != episodes[:-1]))
    counts = np.diff(np.append(starts, len(episodes)))
    ranks: Array = np.arange(len(episodes)) - np.repeat(starts, counts)
    return ranks
