"""The game that all agents play, read off a model of what one agent sees.

The world model knows one agent's view: the others act in it as they did in the data. What happens when all act otherwise follows
where two things hold. All agents hear the same event (`ObsField.common`), and those who act do so at once, without knowing of
each other. Then an agent that acts turns the event that would have been heard into another one, whoever the others are: the events
it hears after acting are those after not acting, each moved by the same transition T,

    P(event | o, act) = P(event | o, no-op) T        at every observation o,

which is a regression of one side on the other. On a shared channel T turns idle into success and everything else into
collision. The event when n agents act is the first one, of nobody acting, moved n times: e T^n.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional

from rllib_wireless.algorithms.fedmorl.layout import Model
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.envs.base import field_slices
from rllib_wireless.errors import UserError

Array = npt.NDArray[np.float64]

_ROW_WEIGHT = 1e3  # of the condition that the rows of T sum to 1


class Game(NamedTuple):
    """What follows when n agents act at once, for S events.

    Attributes:
        transition: T [S, S].
        first: The event when nobody acts.
        duration: Mean duration of each event, [S].
        reward: Mean reward of each event without what costs take off it, [S].
        cost_weight: What a unit of cost takes off the reward.
    """

    transition: Array
    first: int
    duration: Array
    reward: Array
    cost_weight: float

    def events(self, num_agents: int) -> Array:
        """Probabilities [num_agents + 1, S] of the events when 0, 1, ..., num_agents act."""
        rows = [np.eye(len(self.transition))[self.first]]
        for _ in range(num_agents):
            rows.append(rows[-1] @ self.transition)
        return np.array(rows)


def check_game(env: BatchedEnv) -> None:
    """Refuse an environment whose game cannot be played without a simulator.

    Raises:
        UserError: Saying what it lacks.
    """
    common_field(env)
    env.reset()
    nobody = np.zeros((env.num_envs, len(env.agents)), np.int64)
    env.hear(nobody, np.zeros(env.num_envs, np.int64), np.ones(env.num_envs, np.int64))


def common_field(env: BatchedEnv) -> slice:
    """Columns of the observation field that tells the event that all agents heard.

    Raises:
        UserError: Where there is none, or acting is more than one action.
    """
    names = [f.name for f in env.obs_fields if f.common]
    if len(names) != 1 or env.action_space.n != 2:
        raise UserError(
            f"self-play needs one event that all agents hear and two actions, which {env.name} does not have"
        )
    return field_slices(env.obs_fields)[names[0]]


def read_game(model: Model, obs: Tensor, event: slice, rare: float = 0.0) -> Game:
    """Fit the game to what a model says at observations [M, D].

    Args:
        model: The model of one agent's view.
        obs: Observations that agents may come to; the more they differ in what to expect, the better.
        event: Columns of the common field.
        rare: Probabilities in the transition below this are taken for errors of the model.
    """
    outcomes = model.outcomes(obs)
    number = event.stop - event.start
    heard = functional.one_hot(outcomes.obs[..., event].argmax(-1), number).double()  # [M, 2, K, S]
    weight = heard * outcomes.prob.double().unsqueeze(-1)
    probability = weight.sum(2).numpy()  # [M, 2, S]
    transition = _transition(probability[:, 0], probability[:, 1], rare)

    total = weight.sum((0, 1, 2)).clamp(min=1e-12)

    def mean(signal: Tensor) -> Tensor:
        return (weight * signal.double().unsqueeze(-1)).sum((0, 1, 2)) / total

    idle = probability[:, 0].mean(0)
    reached = np.where(idle > 1e-3, (idle @ transition) / np.maximum(idle, 1e-3), np.inf)
    reward, cost = mean(outcomes.reward), mean(outcomes.cost)
    # Within an event rewards differ by what costs take off them: another regression.
    cost_error = (heard * (outcomes.cost.double().unsqueeze(-1) - cost)).sum(-1)
    reward_error = (heard * (outcomes.reward.double().unsqueeze(-1) - reward)).sum(-1)
    spread = float((outcomes.prob * cost_error.square()).sum())
    cost_weight = -float((outcomes.prob * cost_error * reward_error).sum()) / spread if spread > 1e-9 else 0.0
    return Game(
        transition,
        int(reached.argmin()),
        mean(outcomes.duration).numpy(),
        (reward + cost_weight * cost).numpy(),
        cost_weight,
    )


def _transition(before: Array, after: Array, rare: float) -> Array:
    """The stochastic matrix T [S, S] with before @ T nearest to after, both [M, S], by non-negative least squares.

    Entries below `rare` are taken for errors of the model.
    """
    number = before.shape[1]
    identity = np.eye(number)
    # All columns of T at once, and below them the sums of its rows; Q and R in place of all M rows.
    q, r = np.linalg.qr(before)
    left = np.vstack([np.kron(r, identity), _ROW_WEIGHT * np.kron(identity, np.ones(number))])
    right = np.concatenate([(q.T @ after).ravel(), np.full(number, _ROW_WEIGHT)])
    solution, _ = nnls(left, right)
    matrix: Array = solution.reshape(number, number)
    matrix[matrix < rare] = 0.0
    matrix /= matrix.sum(1, keepdims=True)
    return matrix
