"""How fast a network acts in many copies: BatchedEnvRunner against RLlib's MultiAgentEnvRunner, in CPU time."""

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.tune.registry import register_env

from rllib_wireless.algorithms.base import map_to_agents
from rllib_wireless.algorithms.baselines.bc import BCConfig
from rllib_wireless.algorithms.env_runner import MODULE_ID, POLICY, BatchedEnvRunner
from rllib_wireless.benchmarks import row
from rllib_wireless.envs import make_env
from rllib_wireless.envs.rllib import with_action_masks
from rllib_wireless.policies import NetworkPolicy, StackedMLP

NUM_AGENTS = 10
HIDDEN = (64, 64)
_ENV = "rllib_wireless_benchmark"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure agent-steps per second of CPU time, one thread.

    The peer is favoured: its environment does nothing, ours is the channel-access simulator; its agents share one network in
    one forward pass, which is its fastest way, ours have a network each.

    Args:
        quick: Shorter runs.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    torch.set_num_threads(1)
    repeats = 3 if quick else 5
    ours = {copies: _best(_batched(copies), repeats) for copies in (64, 256, 1024)}
    peers = {copies: _best(_rllib(copies), repeats) for copies in (1, 8, 32, 64)}
    best = max(peers, key=lambda copies: peers[copies])
    rows: list[dict[str, Any]] = [row(f"BatchedEnvRunner, {b} copies", v, "agent-steps/s") for b, v in ours.items()]
    rows += [row(f"MultiAgentEnvRunner, {b} environments", v, "agent-steps/s") for b, v in peers.items()]
    peer = f"MultiAgentEnvRunner at its best, {best} environments"
    rows.append(row("64 copies, times the peer", ours[64] / peers[best], "x", target=100.0, peer=peer))
    same = _best(_rllib_channel_access(best), repeats)
    rows.append(row(f"MultiAgentEnvRunner in channel_access, {best} environments", same, "agent-steps/s"))
    rows.append(
        row("64 copies, times the peer in the same environment", ours[64] / same, "x", peer=f"{peer}, PPO's module")
    )
    rows.append(
        row(
            "64 copies, times the peer with 1 environment",
            ours[64] / peers[1],
            "x",
            peer="MultiAgentEnvRunner, 1 environment",
        )
    )
    return rows


def _best(sample: Callable[[], int], repeats: int) -> float:
    """Agent-steps per second of CPU time in the fastest of some runs; the first call, which compiles, does not count."""
    sample()
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        rates.append(sample() / (time.process_time() - start))
    return max(rates)


def _batched(copies: int) -> Callable[[], int]:
    config = BCConfig().environment("channel_access", env_config={"num_stations": NUM_AGENTS})
    config.num_envs_per_env_runner = copies
    runner = BatchedEnvRunner(config=config, worker_index=0, num_workers=0)
    env = make_env("channel_access", num_stations=NUM_AGENTS)
    assert env.observation_space.shape is not None
    network = StackedMLP(NUM_AGENTS, (env.observation_space.shape[0], *HIDDEN, int(env.action_space.n)))
    runner.set_state({POLICY: NetworkPolicy(network, env.agents)})
    return lambda: runner.sample(num_timesteps=64 * 1000)[0].agent_steps()


def _rllib(copies: int) -> Callable[[], int]:
    register_env(_ENV, lambda config: _IdleEnv())
    env = _IdleEnv()
    spaces = {"observation_space": env.space, "action_space": env.actions}
    config = (
        PPOConfig()
        .environment(_ENV)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=copies)
        .multi_agent(policies={MODULE_ID}, policy_mapping_fn=map_to_agents)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={MODULE_ID: RLModuleSpec(_SharedMLP, **spaces)}))
    )
    return _rllib_sample(config, copies)


def _rllib_channel_access(copies: int) -> Callable[[], int]:
    """The peer as a user of RLlib meets it: our environment through its view, PPO's own module with action masks."""
    config = PPOConfig().environment("channel_access", env_config={"num_stations": NUM_AGENTS})
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=copies)
    return _rllib_sample(with_action_masks(config), copies)


def _rllib_sample(config: Any, copies: int) -> Callable[[], int]:
    runner = MultiAgentEnvRunner(config=config, worker_index=0, num_workers=0)
    steps = 50 * max(copies, 8)

    def sample() -> int:
        episodes = runner.sample(num_timesteps=steps, explore=False)
        runner.get_metrics()
        return sum(int(episode.agent_steps()) for episode in episodes)

    return sample


class _IdleEnv(MultiAgentEnv):  # type: ignore[misc]
    """Shows the same observation for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.space = gymnasium.spaces.Box(0.0, 1.0, (8,), np.float32)
        self.actions: gymnasium.spaces.Discrete[np.int64] = gymnasium.spaces.Discrete(2)
        self.possible_agents = self.agents = [f"agent_{i}" for i in range(NUM_AGENTS)]
        self.observation_spaces = dict.fromkeys(self.agents, self.space)
        self.action_spaces = dict.fromkeys(self.agents, self.actions)
        self._obs = dict.fromkeys(self.agents, np.zeros(8, np.float32))
        self._reward = dict.fromkeys(self.agents, 0.0)
        self._running = {"__all__": False}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._obs, {}

    def step(self, action_dict: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        return self._obs, self._reward, self._running, self._running, {}


class _SharedMLP(TorchRLModule):  # type: ignore[misc]
    """One 2x64 network for all agents, whose actions need no further connector."""

    def setup(self) -> None:
        sizes = (self.observation_space.shape[0], *HIDDEN)
        layers = [
            layer for i in range(len(sizes) - 1) for layer in (torch.nn.Linear(sizes[i], sizes[i + 1]), torch.nn.ReLU())
        ]
        self.network = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], int(self.action_space.n)))

    def _forward(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return {Columns.ACTIONS: self.network(batch[Columns.OBS]).argmax(-1)}
