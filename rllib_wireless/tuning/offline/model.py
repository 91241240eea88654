"""Rollouts in FedMORL's world model: what the policy would meet, as clients' rows have taught it.

The model knows one agent's view, in which the others act as they did in the log. Where the environment says how observations
follow from events that all hear (`BatchedEnv.hear`), the game of all agents is read off the model, and the whole team plays it.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from rllib_wireless.algorithms.fedmorl.game import Game, check_game, common_field, read_game
from rllib_wireless.algorithms.fedmorl.rollout import draw_step, outcomes_of, rollout
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs import BatchedEnv, make_env
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import UserError
from rllib_wireless.policies.portable import PortablePolicy
from rllib_wireless.tuning.offline.log import Floats, Log, Logs, decide
from rllib_wireless.tuning.offline.result import Found, Progress, bootstrap_counts, of_resamples
from rllib_wireless.tuning.offline.world_model import load_world_model

_PROBES, _PROBE_STEPS = 256, 20
_COPIES = 32


@dataclass(frozen=True, config=CONFIG)
class ModelSettings(Configuration):
    """How the model is rolled out."""

    owner: ClassVar[str] = "model rollouts"

    model: str | None = field(None, "Output folder of `train fedmorl`, whose world model it is.")
    gamma: float | None = field(None, "Discount per unit of time; the environment's if not given.", ge=0.0, lt=1.0)
    horizon: int = field(50, "Decisions of a path in one agent's view.", ge=1)
    paths: int = field(512, "Paths for each agent, from logged observations.", ge=2)
    game_steps: int = field(2000, "Decisions of the game that all play, in each of 32 copies.", ge=1)
    rare: float = field(0.3, "Probabilities of the game below this are taken for errors of the model.", ge=0.0, lt=1.0)


def model_rollouts(
    policies: list[PortablePolicy], logs: Logs, settings: ModelSettings, seed: int, progress: Progress
) -> Found:
    """Estimate by rollouts.

    Args:
        policies: A policy for each log.
        logs: The logs; a team's is played as the game that the model tells.
        settings: How the model is rolled out.
        seed: Seed of all that is drawn.
        progress: Told the share that is done.

    Raises:
        UserError: Where no model is given, or the team's game cannot be read off it.
    """
    if settings.model is None:
        raise UserError("model rollouts need model=FOLDER, the output of `train fedmorl` on such a log")
    model = load_world_model(Path(settings.model), logs.card.environment)
    if logs.team and len(policies[0].agents) > 1:
        env = make_env(logs.card.environment.name, _COPIES, **logs.card.environment.config)
        try:
            check_game(env)
        except UserError as error:
            raise UserError(f"{error}; estimate with view=agents, each in its own view") from None
        returns = _play(model, env, policies[0], settings, seed, progress)
        notes = [f"all agents play the game that the model tells; the interval is over {_COPIES} copies of it"]
        value, ci95 = _ratio(returns, logs.endless, seed)
        return Found(value, ci95, notes)
    pieces = []
    for number, (policy, log) in enumerate(zip(policies, logs.parts, strict=True)):
        pieces.append(_follow(model, policy, log, logs, settings, seed + number))
        progress((number + 1) / len(policies))
    columns = np.mean(
        pieces, axis=0
    )  # [paths, 2]: paths of all agents that begin alike in number are resampled together
    value, ci95 = _ratio(columns, logs.endless, seed)
    notes = [f"paths of {settings.horizon} decisions; the interval is over paths, the model being taken as it is"]
    return Found(value, ci95, notes)


def _ratio(columns: Floats, endless: bool, seed: int) -> tuple[float, tuple[float, float]]:
    """Rewards over time [paths, 2] as a rate, or mean discounted rewards alone; with a bootstrap over paths."""
    counts = np.concatenate([np.ones((1, len(columns))), bootstrap_counts(len(columns), seed)])
    reward, time = (counts @ columns).T
    values = reward / time if endless else reward / counts.sum(1)
    return of_resamples(float(values[0]), values[1:])


@torch.no_grad()
def _follow(
    model: WorldModel, policy: PortablePolicy, log: Log, logs: Logs, settings: ModelSettings, seed: int
) -> Floats:
    """Discounted reward and discounted time of each path of one agent, [paths, 2]."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    starts = random.choice(np.flatnonzero(log.starts), settings.paths)
    obs, mask = torch.from_numpy(log.obs[starts, 0]), log.action_mask[starts]
    weight, found = np.ones(settings.paths), np.zeros((settings.paths, 2))
    for step in range(settings.horizon):
        # What will be legal the model does not say: what was at the start.
        actions = torch.from_numpy(decide(policy, obs.numpy()[:, None], mask, seed + (step << 8))[:, 0])
        drawn = draw_step(outcomes_of(model, obs, actions), obs, actions, model, generator)
        discount = np.where(drawn.terminateds.numpy(), 0.0, logs.gamma ** drawn.duration.double().numpy())
        found[:, 0] += weight * drawn.rewards.double().numpy()
        found[:, 1] += weight * (1.0 - discount) / (1.0 - logs.gamma)
        weight *= discount
        obs = drawn.new_obs
    return found


@torch.no_grad()
def _play(
    model: WorldModel,
    env: BatchedEnv,
    policy: PortablePolicy,
    settings: ModelSettings,
    seed: int,
    progress: Progress,
) -> Floats:
    """Reward, a mean over agents, and time of each copy of the game, [copies, 2]."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    game = _read(model, env, settings.rare, generator)
    chances = game.events(len(env.agents)).cumsum(1)
    step, own = env.reset(seed), StepRandom(seed, env.num_envs, len(env.agents))
    found = np.zeros((env.num_envs, 2))
    for t in range(settings.game_steps):
        actions = policy.act(step, own)
        own.advance()
        senders = (actions * step.acting).sum(1)
        event = (random.random((len(actions), 1)) > chances[senders]).sum(1).clip(max=len(game.duration) - 1)
        duration = game.duration[event].round().clip(min=1).astype(np.int64)
        step = env.hear(actions, event, duration)
        found[:, 0] += game.reward[event] - game.cost_weight * step.cost.mean(1)
        found[:, 1] += duration
        if (t + 1) % 100 == 0:
            progress((t + 1) / settings.game_steps)
    return found


def _read(model: WorldModel, env: BatchedEnv, rare: float, generator: torch.Generator) -> Game:
    """Read the game at observations that random paths in the model come to, as self-play does."""
    start = torch.from_numpy(env.reset(0).obs[0, :1].copy()).expand(_PROBES, -1)
    chance = torch.tensor([1.0 - 1.0 / len(env.agents), 1.0 / len(env.agents)])
    paths = rollout(model, lambda obs: chance.expand(len(obs), -1), start, _PROBE_STEPS, generator)
    return read_game(model, paths.obs, common_field(env), rare)
