"""One agent's rows along a sharing graph: as they were recorded, or built again from the recorded joint state."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rllib_wireless import storage
from rllib_wireless.data.card import Card, check_environment, environment_card, read_card
from rllib_wireless.data.format import CARD, Columns
from rllib_wireless.data.store import Dataset, client_folders
from rllib_wireless.envs.base import BatchedEnv
from rllib_wireless.envs.sharing import SharingEnv
from rllib_wireless.errors import DataError

SHARING_FIELDS = ("sharing_radius", "sharing_graph", "observation")
"""Fields of an environment that say who sees what of whom, and change nothing else."""


def agent_folders(path: Path | str, env: BatchedEnv) -> Mapping[str, Path]:
    """Where each agent's rows are: in a folder of its own (`--split agents`), or all in one joint data set.

    Raises:
        DataError: Where the folder holds neither.
    """
    folder = Path(path)
    if storage.holds(folder, CARD) and read_card(folder).kind == "joint":
        return dict.fromkeys(env.agents, folder)
    return client_folders(folder)


def agent_rows(dataset: Dataset, agent: str, env: BatchedEnv) -> Columns:
    """One agent's rows with the observations that the environment shows it.

    A joint data set with recorded states serves every sharing graph and form: what neighbours show is then built from those. A folder
    of one agent's own holds what that agent saw, and nothing else can be built from it.

    Args:
        dataset: The agent's own or the joint one.
        agent: The agent.
        env: The environment.

    Raises:
        DataError: Where the data are another environment's, or were recorded along another graph without states.
    """
    rows = dataset.rows.get(agent)
    if rows is None:
        raise DataError(f"it holds no rows of {agent}", dataset.path)
    if (
        not isinstance(env, SharingEnv)
        or dataset.joint_state is None
        or not _differs_in_sharing_alone(dataset.card, env)
    ):
        check_environment(dataset.card, environment_card(env), dataset.path)
        return rows
    i, own = env.agents.index(agent), env.observation_space.shape[0] - env.view.source.shape[1]
    built = {}
    for name, t in (("obs", "t"), ("new_obs", "new_t")):
        shown = env.view.observe(dataset.state_at(rows["eps_id"], rows[t]), i)
        built[name] = np.concatenate([rows[name][:, :own], shown], axis=1)
    return {**rows, **built}


def _differs_in_sharing_alone(card: Card, env: BatchedEnv) -> bool:
    """Whether graph or form are other ones, and all else of the environment is equal."""
    wanted = environment_card(env)
    if card.environment.name != wanted.name or card.environment == wanted:
        return False
    names = card.environment.config.keys() | wanted.config.keys()
    return all(card.environment.config.get(n) == wanted.config.get(n) for n in names if n not in SHARING_FIELDS)
