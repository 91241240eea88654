"""`rllib-wireless data info`: a data set at a glance."""

from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless import storage
from rllib_wireless.data.card import as_dict, read_card
from rllib_wireless.data.format import Columns
from rllib_wireless.data.store import Dataset, client_folders, load_dataset


def info(path: Path | str) -> dict[str, Any]:
    """What a data set holds, as plain values that JSON can take.

    Returns:
        `card` (without the list of files), `bytes`, and per agent: rows, episodes, share of each action, mean reward of a
        row, mean duration, and minimum, mean and maximum of each column of the observation.

    Raises:
        DataError: Where it cannot be read.
    """
    card = read_card(path)
    folders = list(client_folders(path).values()) if card.kind == "clients" else [Path(path)]
    agents: dict[str, dict[str, Any]] = {}
    for part in folders:
        dataset = load_dataset(part)
        agents |= {agent: _agent(rows, dataset) for agent, rows in dataset.rows.items()}
    description = as_dict(card)
    description.pop("files")
    size = sum(file.stat().st_size for part in folders for file in storage.local(part).glob("*.json"))
    return {"path": storage.name(path), "bytes": size, "card": description, "agents": agents}


def _agent(rows: Columns, dataset: Dataset) -> dict[str, Any]:
    env, count = dataset.card.environment, len(rows["t"])
    if not count:
        return {"rows": 0}
    acting = rows.get("acting", np.ones(count, np.bool_))
    shares = np.bincount(rows["actions"][acting], minlength=env.num_actions) / max(int(acting.sum()), 1)
    obs = rows["obs"]
    stats = zip(env.obs_names, obs.min(0).tolist(), obs.mean(0, dtype=float).tolist(), obs.max(0).tolist(), strict=True)
    return {
        "rows": count,
        "episodes": len(np.unique(rows["eps_id"])),
        "action_shares": shares.tolist(),
        "mean_reward": float(rows["rewards"].mean(dtype=float)),
        "mean_duration": float(rows["duration"].mean(dtype=float)),
        "terminated": int(rows["terminateds"].sum()),
        "truncated": int(rows["truncateds"].sum()),
        "obs": {name: {"min": low, "mean": mean, "max": high} for name, low, mean, high in stats},
    }
