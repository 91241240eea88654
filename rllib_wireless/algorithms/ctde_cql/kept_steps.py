"""What an online run did in some of its iterations, as a data set for offline training."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from rllib_wireless.data import read_card
from rllib_wireless.data.card import AgentCard, BehaviourCard, Card, FileCard, environment_card, versions, write_card
from rllib_wireless.data.format import CARD, COLUMNS, REQUIRED
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.envs import BatchedEnv


class KeptSteps:
    """A data set with a file for each iteration, complete after each; an iteration that is done again replaces its file.

    Args:
        folder: Where to.
        env: The environment, whose every step was recorded with a row for every agent.
        policy: What the card calls what acted.
        seed: Seed of the run.
    """

    def __init__(self, folder: Path, env: BatchedEnv, policy: str, seed: int) -> None:
        self._folder = folder
        optional = {"acting": True, "costs": env.has_cost, "stream": env.num_streams > 1}
        self._new = Card(
            complete=True,
            kind="joint",
            environment=environment_card(env),
            rows="all",
            columns=tuple(name for name in COLUMNS if name in REQUIRED or optional.get(name, False)),
            agents={agent: AgentCard() for agent in env.agents},
            state_size=env.state().shape[1],
            policies=(BehaviourCard(policy=policy, share=1.0, params={}, privileged=False, seed=seed),),
            seed=seed,
            num_envs=env.num_envs,
            versions=versions(),
        )

    def write(self, iteration: int, fragments: Sequence[Fragment]) -> None:
        """Add the steps of an iteration; files of later ones, of a run that was cut off, are removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"part-{iteration:05d}.json"
        lines = [fragment.line() for fragment in fragments]
        content = b"".join(lines)
        temporary = self._folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(content)
        before = read_card(self._folder) if (self._folder / CARD).exists() else self._new
        earlier = tuple(file for file in before.files if file.name < name)
        for file in before.files[len(earlier) :]:
            (self._folder / file.name).unlink(missing_ok=True)
        temporary.replace(self._folder / name)
        steps = (len(earlier) + 1) * sum(fragment.steps for fragment in fragments)
        card = dataclasses.replace(
            self._new,
            files=(*earlier, FileCard(name, len(content), len(lines), hashlib.sha256(content).hexdigest())),
            steps=steps,
            agents={agent: AgentCard(transitions=steps) for agent in self._new.agents},
        )
        write_card(card, self._folder)
