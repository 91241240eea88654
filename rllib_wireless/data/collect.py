"""Collecting: policies act in an environment, and what they did becomes a data set."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from rllib_wireless import storage
from rllib_wireless.data.card import AgentCard, BehaviourCard, Card, environment_card, versions, write_card
from rllib_wireless.data.format import CARD, COLUMNS, REQUIRED
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.data.recorder import Recorder, Rows
from rllib_wireless.data.tally import Tally
from rllib_wireless.data.writer import DatasetWriter, make_empty_folder
from rllib_wireless.envs import Policy, env_spec, make_env
from rllib_wireless.errors import UserError

Progress = Callable[[int, int], None]
"""Called now and then with joint steps done and joint steps wanted."""

# Rows in memory at which fragments are written early.
_MANY_ROWS = 1_000_000


@dataclass(frozen=True)
class Behaviour:
    """A policy that is to act.

    Args:
        policy: A rule's name, the path of a portable policy, or a Policy bound to `num_envs` copies of the environment.
        share: Its share of the joint steps, relative to the other policies' shares.
        params: Parameters of the rule, or `mode` and `epsilon` of a learned policy.
    """

    policy: str | Path | Policy
    share: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the card calls it."""
        return type(self.policy).__name__ if isinstance(self.policy, Policy) else str(self.policy)


def collect(
    env: str,
    env_config: Mapping[str, Any],
    policies: Sequence[Behaviour],
    steps: int,
    out: Path | str,
    *,
    seed: int = 0,
    num_envs: int = 16,
    split: Literal["none", "agents"] = "none",
    rows: Rows = "decisions",
    state: bool = True,
    fragment_steps: int = 200,
    progress: Progress | None = None,
) -> Card:
    """Collect a data set.

    Each policy runs its share of the steps in copies of its own, so that mixed data is made of episodes of either.

    Args:
        env: Name of the environment.
        env_config: Its configuration.
        policies: What acts.
        steps: Joint steps in total, over all copies and policies.
        out: Folder to write, or its URI; it must not exist, or be empty.
        seed: Seed; equal seeds give equal files.
        num_envs: Copies that each policy runs.
        split: `agents` writes one folder per agent, which holds what that agent may know.
        rows: `decisions`, or `all` for a row per agent and step with `acting`.
        state: Whether joint data holds the joint state.
        fragment_steps: Environment steps of one line at most.
        progress: Called now and then.

    Returns:
        The card of `out`.

    Raises:
        UserError: At an unknown environment, policy, field or value, or where `out` holds something already.
    """
    _check_arguments(policies, steps, fragment_steps, split, rows)
    shares = _split_steps(steps, [behaviour.share for behaviour in policies])
    runs = [
        _Run(env, env_config, behaviour, share, num_envs, seed + (number << 32))
        for number, (behaviour, share) in enumerate(zip(policies, shares, strict=True))
    ]
    exact = all(run.knows_action_prob() for run in runs)
    card = _first_card(runs, seed, num_envs, rows, split == "none" and state, exact)
    tally = Tally(env_spec(env).metrics, runs[0].env.agents)
    with storage.uploaded(out, last=CARD) as folder, _Output(folder, card, split) as output:
        first_episode, done, behaviours = 0, 0, []
        for run in runs:
            recorder = Recorder(
                run.env,
                rows=rows,
                state=card.state_size is not None and split == "none",
                action_prob=exact,
                first_episode=first_episode,
            )
            for fragments in run.record(recorder, tally, fragment_steps):
                for fragment in fragments:
                    output.write(fragment)
                    tally.count_rows(fragment)
                    done += fragment.steps
                if progress is not None:
                    progress(done, steps)
            tally.count_dropped(recorder.dropped)
            behaviours.append(run.card(first_episode, recorder.next_episode - 1))
            first_episode = recorder.next_episode
        return output.close(tally, steps=steps, policies=tuple(behaviours))


class _Run:
    """One policy in its own copies of the environment."""

    def __init__(
        self, env: str, env_config: Mapping[str, Any], behaviour: Behaviour, steps: int, num_envs: int, seed: int
    ) -> None:
        from rllib_wireless.policies.evaluation import Rollout, resolve_policy  # brings torch along

        self.env = make_env(env, num_envs, **env_config)
        self.behaviour, self.steps, self.seed = behaviour, steps, seed
        policy = resolve_policy(behaviour.policy, self.env, behaviour.params)
        self._rollout = Rollout(self.env, policy, seed)

    def knows_action_prob(self) -> bool:
        """Whether the policy says with which probability it acts; it forgets that it was asked."""
        policy = self._rollout.policy
        policy.act(self._rollout.step, self._rollout.random)
        policy.reset(np.arange(self.env.num_envs))
        return policy.action_prob is not None

    def record(self, recorder: Recorder, tally: Tally, fragment_steps: int) -> Iterator[list[Fragment]]:
        """Run the policy for its steps; yields what is ready to be written."""
        copies = np.arange(self.env.num_envs)
        full, rest = divmod(self.steps, self.env.num_envs)
        recorder.begin(self._rollout.step)
        tally.begin(self.env.num_envs)
        for number in range(1, full + (rest > 0) + 1):
            if number > full:  # the steps left over go to the first copies
                recorder.stop(copies[rest:])
                tally.stop(copies[rest:], self.env.statistics())
            step = self._rollout.advance()
            recorder.record(self._rollout.actions, self._rollout.policy.action_prob, step)
            tally.add(step)
            if number % fragment_steps == 0 or recorder.pending_rows > _MANY_ROWS:
                yield recorder.drain()
        recorder.stop()
        tally.stop(copies, self.env.statistics())
        yield recorder.drain()

    def card(self, first_episode: int = 0, last_episode: int = -1) -> BehaviourCard:
        policy = self._rollout.policy
        episodes = (first_episode, last_episode) if last_episode >= first_episode else None
        return BehaviourCard(
            policy=self.behaviour.name,
            share=self.behaviour.share,
            params=dict(self.behaviour.params),
            privileged=policy.privileged,
            seed=self.seed,
            steps=self.steps,
            episodes=episodes,
        )


class _Output:
    """The data sets that a collection writes: one, or one per agent and a card that sums them up."""

    def __init__(self, out: Path, card: Card, split: Literal["none", "agents"]) -> None:
        self._out, self._card, self._stack = out, card, ExitStack()
        self._joint: DatasetWriter | None = None
        self._clients: dict[str, DatasetWriter] = {}
        if split == "none":
            self._joint = self._stack.enter_context(DatasetWriter(out, card))
            return
        make_empty_folder(out)
        self._card = dataclasses.replace(card, kind="clients")
        write_card(self._card, out)
        for agent in card.agents:
            own = dataclasses.replace(card, kind="client", agents={agent: AgentCard()})
            self._clients[agent] = self._stack.enter_context(DatasetWriter(out / agent, own))

    def write(self, fragment: Fragment) -> None:
        if self._joint is not None:
            self._joint.write(fragment.line())
        for agent, writer in self._clients.items():
            if agent in fragment.rows:
                writer.write(fragment.line_of(agent))

    def close(self, tally: Tally, **result: Any) -> Card:
        result |= {"episodes": tally.num_episodes}
        agents = tally.agent_cards()
        for agent, writer in self._clients.items():
            writer.close(agents={agent: agents[agent]}, **result)
        result |= {"agents": agents, "metrics": tally.metrics()}
        if self._joint is not None:
            return self._joint.close(**result)
        self._card = dataclasses.replace(self._card, complete=True, **result)
        write_card(self._card, self._out)
        return self._card

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _check_arguments(policies: Sequence[Behaviour], steps: int, fragment_steps: int, split: str, rows: str) -> None:
    if not policies:
        raise UserError("no policy was given; give at least one")
    if steps < len(policies):
        raise UserError(f"steps = {steps}, but each of the {len(policies)} policies needs at least one")
    if fragment_steps < 1:
        raise UserError(f"fragment_steps = {fragment_steps}, but it should be at least 1")
    if split not in ("none", "agents"):
        raise UserError(f"split = {split!r}, but it should be none or agents")
    if rows not in ("decisions", "all"):
        raise UserError(f"rows = {rows!r}, but it should be decisions or all")
    for behaviour in policies:
        if not (math.isfinite(behaviour.share) and behaviour.share > 0):
            raise UserError(f"the share of {behaviour.name} is {behaviour.share}, but it should be positive")


def _split_steps(steps: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the shares, each at least 1, that sum to `steps`."""
    bounds = np.round(np.cumsum(shares) / sum(shares) * steps).astype(int)
    counts = np.diff(bounds, prepend=0)
    while counts.min() < 1:
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return [int(count) for count in counts]


def _first_card(runs: list[_Run], seed: int, num_envs: int, rows: Rows, state: bool, exact: bool) -> Card:
    env = runs[0].env
    optional = {
        "costs": env.has_cost,
        "action_prob": exact,
        "acting": rows == "all",
        "stream": env.num_streams > 1,
    }
    return Card(
        complete=False,
        kind="joint",
        environment=environment_card(env),
        rows=rows,
        columns=tuple(name for name in COLUMNS if name in REQUIRED or optional[name]),
        agents={agent: AgentCard() for agent in env.agents},
        state_size=env.state().shape[1] if state else None,
        action_prob="exact" if exact else "absent",
        policies=tuple(run.card() for run in runs),
        seed=seed,
        num_envs=num_envs,
        versions=versions(),
    )
