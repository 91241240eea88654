"""One agent's policy on the device that it was trained for."""

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import EnvStep
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import UserError
from rllib_wireless.policies.portable import PortablePolicy


class DeployedAgent:
    """Acts for one agent, observation by observation.

    Args:
        policy: One agent's policy, as `load_policy(path, agent=...)` gives it.
        seed: Seed of its random actions.

    Raises:
        UserError: At a policy of several agents.
    """

    def __init__(self, policy: PortablePolicy, seed: int = 0) -> None:
        if len(policy.agents) != 1:
            raise UserError(f"the policy acts for {len(policy.agents)} agents: load it with agent=...")
        self.policy = policy
        self._random = StepRandom(seed, 1, 1)
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        self.policy.reset(np.zeros(1, np.int64))

    def act(self, obs: npt.ArrayLike, action_mask: npt.ArrayLike | None = None) -> int:
        """Choose an action.

        Args:
            obs: The observation [D].
            action_mask: Which actions are legal [A]; all if None.
        """
        mask = np.ones(self.policy.num_actions, np.bool_) if action_mask is None else np.asarray(action_mask, np.bool_)
        action = self.policy.act(_single_step(np.asarray(obs, np.float32), mask), self._random)
        self._random.advance()
        return int(action[0, 0])


def _single_step(obs: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> EnvStep:
    """What one agent sees, as the step of one copy of a game with one agent."""
    zero, false = np.zeros((1, 1), np.float32), np.zeros(1, np.bool_)
    return EnvStep(
        obs=obs[None, None],
        action_mask=mask[None, None],
        acting=np.ones((1, 1), np.bool_),
        reward=zero,
        cost=zero,
        terminated=false,
        truncated=false,
        duration=zero[0],
    )
