"""Environments as RLlib's MultiAgentEnv, known to Ray by name, and what stock algorithms need to respect action masks.

from rllib_wireless.envs.rllib import with_action_masks
config = with_action_masks(PPOConfig().environment("channel_access", env_config={"num_stations": 4}))
config.build_algo().train()
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn.dqn import DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.algorithms.ppo.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.utils.torch_utils import FLOAT_MIN
from ray.tune.registry import register_env

from rllib_wireless.envs.base import EnvStep
from rllib_wireless.envs.registry import env_names, make_env
from rllib_wireless.errors import UserError

OBSERVATIONS, ACTION_MASK = "observations", "action_mask"

MODULE_ID = "shared"
"""The one RLModule that all agents act with under `with_action_masks`."""

PerAgent = dict[str, Any]


class MultiAgentView(MultiAgentEnv):  # type: ignore[misc]
    """One copy of an environment, agent by agent.

    An observation is `{"observations": [D], "action_mask": [A]}`, the latter 1.0 where an action is legal. Only agents
    that take a decision are present. A reward is the sum since the agent's previous decision, and infos hold `duration`
    and `cost` of the same interval. At the end of an episode every agent gets its final observation.

    Args:
        name: Name of the environment.
        config: Its configuration.
    """

    def __init__(self, name: str, config: Mapping[str, Any] | None = None) -> None:
        self._env = make_env(name, num_envs=1, **dict(config or {}))
        self.agents = list(self._env.agents)
        self.possible_agents = list(self._env.agents)
        self._agent_ids = set(self._env.agents)
        mask = gymnasium.spaces.Box(0.0, 1.0, (int(self._env.action_space.n),), np.float32)
        self.observation_space = gymnasium.spaces.Dict({ACTION_MASK: mask, OBSERVATIONS: self._env.observation_space})
        self.action_space = self._env.action_space
        self.observation_spaces = dict.fromkeys(self.agents, self.observation_space)
        self.action_spaces = dict.fromkeys(self.agents, self.action_space)
        super().__init__()
        self._seeds = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[PerAgent, PerAgent]:
        """Begin an episode; episodes after a seeded one follow from its seed."""
        if seed is not None:
            self._seeds = np.random.default_rng(seed)
        step = self._env.reset(int(self._seeds.integers(2**31)))
        self._since_decision = np.zeros((3, len(self.agents)))  # reward, cost and duration of every agent
        while not step.acting.any():
            step = self._advance({})
        observations, _, _, _, infos = self._show(step)
        return observations, infos

    def step(self, action_dict: Mapping[str, int]) -> tuple[PerAgent, PerAgent, PerAgent, PerAgent, PerAgent]:
        """Execute the actions of the agents that decide, and go on until an agent decides or the episode ends."""
        step = self._advance(action_dict)
        while step.final is None and not step.acting.any():
            step = self._advance({})
        return self._show(step)

    def _advance(self, actions: Mapping[str, int]) -> EnvStep:
        step = self._env.step(np.array([[actions.get(agent, 0) for agent in self.agents]], np.int64))
        self._since_decision += np.stack([step.reward[0], step.cost[0], np.full(len(self.agents), step.duration[0])])
        return step

    def _show(self, step: EnvStep) -> tuple[PerAgent, PerAgent, PerAgent, PerAgent, PerAgent]:
        """What the present agents see: those that decide, at the end of an episode all."""
        ended = step.final is not None
        shown = step if step.final is None else step.final
        present = [(i, agent) for i, agent in enumerate(self.agents) if ended or step.acting[0, i]]
        observations, rewards, infos = {}, {}, {}
        for i, agent in present:
            mask = shown.action_mask[0, i].astype(np.float32)
            observations[agent] = {ACTION_MASK: mask, OBSERVATIONS: shown.obs[0, i].copy()}
            reward, cost, duration = self._since_decision[:, i].tolist()
            rewards[agent], infos[agent] = reward, {"cost": cost, "duration": duration}
            self._since_decision[:, i] = 0.0
        terminated = bool(step.terminated[0])
        truncated = ended and not terminated
        terminateds = dict.fromkeys([*observations, "__all__"], terminated)
        truncateds = dict.fromkeys([*observations, "__all__"], truncated)
        return observations, rewards, terminateds, truncateds, infos


def register_all() -> None:
    """Make every environment known to Ray by its name; importing this module does it, for the first Ray session."""
    for name in env_names():
        register_env(name, partial(MultiAgentView, name))


def with_action_masks(config: AlgorithmConfig) -> AlgorithmConfig:
    """Let RLlib's PPO or DQN choose legal actions only, with one module for all agents.

    DQN gets a replay buffer for several agents. Where agents act at different times it also needs
    `.env_runners(batch_mode="complete_episodes")`: the replay buffers of RLlib 2.60 cannot join two pieces of an episode
    if an agent had not finished its step in between.

    Args:
        config: A PPOConfig or DQNConfig; its `model_config` is kept.

    Returns:
        The same object.

    Raises:
        UserError: At another algorithm.
    """
    if isinstance(config, PPOConfig):
        module: type[RLModule] = MaskedPPOModule
    elif isinstance(config, DQNConfig):
        module = MaskedDQNModule
        buffer = {**config.replay_buffer_config, "type": "MultiAgentPrioritizedEpisodeReplayBuffer"}
        config.training(replay_buffer_config=buffer)
    else:
        raise UserError(f"with_action_masks knows PPOConfig and DQNConfig, not {type(config).__name__}")
    register_all()  # a Ray session that came after another knows no names
    config.multi_agent(policies={MODULE_ID}, policy_mapping_fn=_shared_module)
    return config.rl_module(rl_module_spec=RLModuleSpec(module_class=module))


class MaskedPPOModule(DefaultPPOTorchRLModule):  # type: ignore[misc]
    """PPO's network over the observation alone; illegal actions get the lowest logit."""

    def __init__(self, *, observation_space: gymnasium.spaces.Dict, **kwargs: Any) -> None:
        super().__init__(observation_space=observation_space[OBSERVATIONS], **kwargs)
        self.observation_space = observation_space

    def _forward(self, batch: PerAgent, **kwargs: Any) -> PerAgent:
        return _mask_logits(super()._forward(_bare(batch), **kwargs), batch)

    def _forward_train(self, batch: PerAgent, **kwargs: Any) -> PerAgent:
        return _mask_logits(super()._forward_train(_bare(batch), **kwargs), batch)

    def compute_values(self, batch: PerAgent, embeddings: Any | None = None) -> torch.Tensor:
        """Values of the observations, whatever is legal in them."""
        values: torch.Tensor = super().compute_values(_bare(batch), embeddings)
        return values


class MaskedDQNModule(DefaultDQNTorchRLModule):  # type: ignore[misc]
    """DQN's network over the observation alone; illegal actions have Q = -inf, when acting and in targets."""

    def __init__(self, *, observation_space: gymnasium.spaces.Dict, **kwargs: Any) -> None:
        super().__init__(observation_space=observation_space[OBSERVATIONS], **kwargs)
        self.observation_space = observation_space

    def _qf_forward_helper(self, batch: PerAgent, encoder: Any, head: Any) -> PerAgent:
        out: PerAgent = super()._qf_forward_helper(_bare(batch), encoder, head)
        out["qf_preds"] = out["qf_preds"].masked_fill(batch[Columns.OBS][ACTION_MASK] == 0.0, -torch.inf)
        return out


def _shared_module(agent: str, episode: Any, **_: Any) -> str:
    return MODULE_ID


def _bare(batch: PerAgent) -> PerAgent:
    return {**batch, Columns.OBS: batch[Columns.OBS][OBSERVATIONS]}


def _mask_logits(out: PerAgent, batch: PerAgent) -> PerAgent:
    illegal = batch[Columns.OBS][ACTION_MASK] == 0.0
    out[Columns.ACTION_DIST_INPUTS] = out[Columns.ACTION_DIST_INPUTS].masked_fill(illegal, FLOAT_MIN)
    return out


register_all()
