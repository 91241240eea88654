"""Fitted Q evaluation (Le, Voloshin & Yue, "Batch Policy Learning under Constraints", ICML 2019).

A critic is fitted to Q(o, a) = R + gamma ** duration * Q(o', a') with a' drawn from the policy in question, which nobody ever ran.
Three critics differ in what they see and in what they are fitted to:

joint   one network of all agents' observations and actions, fitted to the team's reward;
sum     a network for each agent's own observation and action, whose mean is fitted to the team's reward;
own     a network for each agent, fitted to its own reward, as if the others went on as they did in the log.

Gradient steps make features, and never come to an end: where idle slots discount by .999, what a decision brings takes a thousand
of them to arrive. The last layer is therefore solved for, which is where fitted Q iteration with these features ends (Duan, Jia &
Wang, "Minimax-Optimal Off-Policy Evaluation with Linear Function Approximation", ICML 2020), and solved again on resamples of the
log (Hao et al., "Bootstrapping Fitted Q-Evaluation for Off-Policy Inference", ICML 2021).
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass
from torch import Tensor

from rllib_wireless.configuration import CONFIG, Configuration, Widths, field
from rllib_wireless.errors import UserError
from rllib_wireless.policies.portable import PortablePolicy
from rllib_wireless.tuning.offline.critics import Critics, Game, games_of
from rllib_wireless.tuning.offline.log import Floats, Logs
from rllib_wireless.tuning.offline.result import Found, Progress, bootstrap_counts, of_resamples

_GROUPS = 100
"""Units beyond so many are resampled in groups: each has a matrix of its own."""

_RESAMPLES = 200


@dataclass(frozen=True, config=CONFIG)
class FQESettings(Configuration):
    """How critics are fitted."""

    owner: ClassVar[str] = "FQE"

    critic: Literal["joint", "sum", "own"] | None = field(
        None, "What critics see. `joint` for a team's log and `own` for single agents' if not given."
    )
    gamma: float | None = field(None, "Discount per unit of time; the environment's if not given.", ge=0.0, lt=1.0)
    hiddens: Widths = field((64, 64), "Widths of the hidden layers; the last ones are the features.", min_length=1)
    steps: int = field(600, "Gradient steps.", ge=0)
    batch_size: int = field(256, "Rows of each critic in a step.", ge=1)
    lr: float = field(2e-3, "Step size at the beginning; it falls in a straight line.", gt=0.0)
    tau: float = field(0.02, "How far the target networks follow in a step.", gt=0.0, le=1.0)
    next_actions: int = field(2, "Actions of the policy drawn for each observation.", ge=1, le=64)
    ridge: float = field(
        1e-4, "Pull of the last layer towards that of the gradient steps, as a share of the features' squares.", gt=0.0
    )


def fitted_q_evaluation(
    policies: list[PortablePolicy], logs: Logs, settings: FQESettings, seed: int, progress: Progress
) -> Found:
    """Estimate by critics.

    Args:
        policies: A policy for each log.
        logs: The logs.
        settings: How critics are fitted.
        seed: Seed of networks, minibatches, actions and resamples.
        progress: Told the share that is done.

    Raises:
        UserError: At a critic that the logs are not read for.
    """
    critic = settings.critic or ("joint" if logs.team else "own")
    if (critic == "own") == logs.team and len(logs.card.environment.agents) > 1:
        raise UserError(f"the critic {critic!r} reads the log with view={'agents' if critic == 'own' else 'team'}")
    games = [
        game
        for number, (policy, log) in enumerate(zip(policies, logs.parts, strict=True))
        for game in games_of(
            log, policy, apart=critic == "sum", draws=settings.next_actions, seed=seed + (number << 16)
        )
    ]
    critics = Critics(games, together=critic == "sum", hiddens=settings.hiddens, seed=seed)
    critics.fit(
        steps=settings.steps, batch_size=settings.batch_size, lr=settings.lr, tau=settings.tau, progress=progress
    )
    counts = np.concatenate([np.ones((1, _groups(logs))), bootstrap_counts(_groups(logs), seed)[:_RESAMPLES]])
    each = [list(range(len(games)))] if critic == "sum" else [[number] for number in range(len(games))]
    solved = [_solve(games, critics, together, logs, counts, settings.ridge) for together in each]
    values = np.mean([found for found, _ in solved], axis=0)
    if logs.endless:
        values *= 1.0 - logs.gamma
    notes = [f"{critic} critic"]
    if any(outside for _, outside in solved):
        notes.append("the fitted values left the range of what the log's rewards allow and were cut off there")
    value, ci95 = of_resamples(float(values[0]), values[1:])
    return Found(value, ci95, notes)


def _groups(logs: Logs) -> int:
    return min(logs.num_units, _GROUPS)


def _solve(
    games: list[Game], critics: Critics, together: list[int], logs: Logs, counts: Floats, ridge: float
) -> tuple[Floats, bool]:
    """Values of the starts [R] where groups of rows count so often, [R, U]; and whether they had to be cut off.

    Solves sum_t c_t phi_t (phi_t - discount_t phi'_t)^T w = sum_t c_t phi_t R_t for the last layer w.
    """
    game = games[together[0]]  # all see the same rows
    log, rewards, discount = game.log, game.rewards.double().numpy(), game.discount.double().numpy()
    starts = np.flatnonzero(log.starts)

    def features(of: Callable[[Game], tuple[Tensor, Tensor]]) -> Floats:
        """Features of all critics side by side, whose combination is the mean of their values."""
        return np.concatenate([critics.features(g, *of(games[g])) for g in together], 1) / len(together)

    now = features(lambda game: (game.obs, game.actions[:, None]))
    change = now - discount[:, None] * features(lambda game: (game.new_obs, game.next_actions))
    at_start = features(lambda game: (game.obs[starts], game.own_actions[starts]))
    group = log.unit * _groups(logs) // logs.num_units
    number, width = counts.shape[1], now.shape[1]
    matrix, target, start = np.zeros((number, width, width)), np.zeros((number, width)), np.zeros((number, width))
    for u in range(number):
        rows, begins = group == u, group[starts] == u
        matrix[u], target[u] = now[rows].T @ change[rows], now[rows].T @ rewards[rows]
        start[u] = at_start[begins].sum(0)
    pull = ridge * np.diag(np.maximum((now**2).sum(0), 1e-9 * len(now)))
    wanted = pull @ np.concatenate([critics.weights(g) for g in together])
    begun = np.bincount(group[starts], minlength=number).astype(np.float64)
    found = np.empty(len(counts))
    for r, count in enumerate(counts):
        w = np.linalg.solve(np.tensordot(count, matrix, 1) + pull, count @ target + wanted)
        # A resample without the start of any episode says what all of them say.
        weight = count if count @ begun > 0 else np.ones(number)
        found[r] = (weight @ start @ w) / (weight @ begun)
    low, high = game.bounds
    outside = not low <= found[0] <= high
    return np.clip(found, low, high) * game.scale + game.offset, outside
