"""Critics of a policy that nobody ran: networks fitted to its Q-values on a log, one for each game, side by side."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from rllib_wireless.envs.base import IntArray
from rllib_wireless.policies.network import StackedMLP
from rllib_wireless.policies.portable import PortablePolicy
from rllib_wireless.tuning.offline.log import Floats, Log, decide
from rllib_wireless.tuning.offline.result import Progress

_MOST = 3
"""So many agents or more that choose the same action count alike."""

_SMALLEST_SPREAD = 1e-8
_LEAST_SHARE = 0.05  # of the step size, at the end
_CHUNK = 8192


class Game(NamedTuple):
    """What a critic sees of a log: the team's observations and actions, or one agent's; T rows of n agents.

    Values are relative to a constant, the one that fits the log's rewards best, and in units of what is left.
    """

    obs: Tensor  # [T, n * D] normalised
    actions: Tensor  # [T, n]
    new_obs: Tensor
    next_actions: Tensor  # [T, M, n] the policy's at new_obs
    own_actions: Tensor  # [T, M, n] the policy's at obs
    rewards: Tensor  # [T]
    discount: Tensor  # [T]
    bounds: tuple[float, float]  # of all values
    offset: float
    scale: float
    log: Log

    def inputs(self, obs: Tensor, actions: Tensor) -> Tensor:
        """What the critic reads, [..., F]: observations, actions, and how many agents chose each action.

        What joint actions bring often depends on numbers alone: two that send collide, whoever they are. Networks do not learn
        to count as exactly as a small mean error over a thousand decisions demands.
        """
        one_hot = functional.one_hot(actions, self.log.action_mask.shape[-1])
        return torch.cat([obs, one_hot.flatten(-2).float(), self.numbers(actions)], -1)

    def numbers(self, actions: Tensor) -> Tensor:
        """How many chose each action, one-hot, [..., A * 4]; nothing for one agent alone."""
        if actions.shape[-1] == 1:
            return torch.zeros(*actions.shape[:-1], 0)
        count = functional.one_hot(actions, self.log.action_mask.shape[-1]).sum(-2).clamp(max=_MOST)
        return functional.one_hot(count, _MOST + 1).flatten(-2).float()


def games_of(log: Log, policy: PortablePolicy, *, apart: bool, draws: int, seed: int) -> list[Game]:
    """The game of the log's team, or `apart` one that each agent sees a part of, in the order of the agents."""
    after, here = (
        torch.from_numpy(np.stack([decide(policy, obs, mask, seed + 2 * k + w) for k in range(draws)], 1))
        for w, (obs, mask) in enumerate(((log.new_obs, log.new_action_mask), (log.obs, log.action_mask)))
    )
    mean, std = log.obs.mean(0, dtype=np.float64), log.obs.std(0, dtype=np.float64)
    inverse = np.where(std > 1e-6, 1.0 / np.maximum(std, 1e-6), 0.0)
    obs, new_obs = (
        torch.from_numpy(((x - mean) * inverse).clip(-10.0, 10.0).astype(np.float32)) for x in (log.obs, log.new_obs)
    )
    actions = torch.from_numpy(log.actions)
    brought = 1.0 - log.discount
    offset = float(log.rewards.sum() / max(brought.sum(), 1e-12))
    relative = log.rewards - brought * offset
    scale = max(float(relative.std()), _SMALLEST_SPREAD)
    # Every value is a mean of R / (1 - discount) over rows that follow, weighted by what each adds to the whole.
    rates = relative / np.maximum(brought, 1e-12) / scale
    every = range(len(log.agents))
    return [
        Game(
            obs=obs[:, i].flatten(1),
            actions=actions[:, i],
            new_obs=new_obs[:, i].flatten(1),
            next_actions=after[:, :, i],
            own_actions=here[:, :, i],
            rewards=torch.from_numpy((relative / scale).astype(np.float32)),
            discount=torch.from_numpy(log.discount.astype(np.float32)),
            bounds=(float(rates.min()), float(rates.max())),
            offset=offset,
            scale=scale,
            log=log,
        )
        for i in ([[i] for i in every] if apart else [list(every)])
    ]


class Critics:
    """G networks, trained by gradient steps towards moving targets.

    Args:
        games: The games.
        together: Whether the mean of the critics is fitted to the team's reward, or each to its game's.
        hiddens: Widths of the hidden layers.
        seed: Seed of networks and minibatches.
    """

    def __init__(self, games: list[Game], *, together: bool, hiddens: tuple[int, ...], seed: int) -> None:
        self._games, self._together = games, together
        self._random = np.random.default_rng(seed)
        width = games[0].inputs(games[0].obs[:1], games[0].actions[:1]).shape[-1]
        sizes, generator = (width, *hiddens, 1), torch.Generator().manual_seed(seed)
        self._critic, self._target = (StackedMLP(len(games), sizes, generator) for _ in range(2))
        self._target.load_state_dict(self._critic.state_dict())
        self._columns = {
            "now": pad_sequence([g.inputs(g.obs, g.actions) for g in games], batch_first=True),
            "new_obs": pad_sequence([g.new_obs for g in games], batch_first=True),
            "next_actions": pad_sequence([g.next_actions for g in games], batch_first=True),
            "rewards": pad_sequence([g.rewards for g in games], batch_first=True),
            "discount": pad_sequence([g.discount for g in games], batch_first=True),
        }
        self._low, self._high = torch.tensor([game.bounds for game in games]).T[:, None]  # [1, G] each

    def fit(self, *, steps: int, batch_size: int, lr: float, tau: float, progress: Progress) -> None:
        """Take gradient steps."""
        optimizer = torch.optim.Adam(self._critic.parameters(), lr=lr, fused=True)
        mine, target = ([*network.parameters()] for network in (self._critic, self._target))
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * max(1.0 - step / steps, _LEAST_SHARE)
            error = self._error(self._draw(batch_size))
            optimizer.zero_grad()
            error.square().mean(0).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for follower, leader in zip(target, mine, strict=True):
                    follower.lerp_(leader, tau)
            if (step + 1) % 100 == 0:
                progress((step + 1) / steps)

    @torch.no_grad()
    def features(self, number: int, obs: Tensor, actions: Tensor) -> Floats:
        """What a game's critic is linear in, a mean over draws of actions [T, M, n] at observations [T, n * D]: [T, P]."""
        game, network = self._games[number], self._critic
        trunk = StackedMLP.from_layers(
            [w[number : number + 1] for w in network.weights[:-1]],
            [b[number : number + 1] for b in network.biases[:-1]],
        )
        pieces = []
        for start in range(0, len(obs), _CHUNK):
            here, total = obs[start : start + _CHUNK], torch.zeros(())
            for chosen in actions[start : start + _CHUNK].unbind(1):
                hidden = torch.relu(trunk(game.inputs(here, chosen)[:, None]))[:, 0]
                ones = torch.ones(len(here), 1)
                total = total + torch.cat([hidden, ones, game.numbers(chosen)], -1)
            pieces.append(total / actions.shape[1])
        return torch.cat(pieces).double().numpy()

    def weights(self, number: int) -> Floats:
        """The critic as a combination of its features, [P]."""
        last, bias = self._critic.weights[-1][number, :, 0], self._critic.biases[-1][number, 0]
        numbers = self._games[number].numbers(self._games[number].actions[:1]).shape[-1]
        return torch.cat([last, bias, torch.zeros(numbers)]).detach().double().numpy()

    def _draw(self, size: int) -> IntArray:
        """Rows of a minibatch, [B, G]; critics that are fitted together have the same."""
        lengths = np.array([len(game.log) for game in self._games])
        if self._together:
            return np.repeat(self._random.integers(lengths[0], size=(size, 1)), len(lengths), 1)
        return self._random.integers(lengths, size=(size, len(lengths)))

    def _error(self, rows: IntArray) -> Tensor:
        """Errors of the critics' values [B, G], or of their mean [B, 1]."""
        at, each = torch.from_numpy(rows), torch.arange(len(self._games))
        batch = {name: column[each, at] for name, column in self._columns.items()}
        draw = int(self._random.integers(batch["next_actions"].shape[2]))
        with torch.no_grad():
            after = self._target(self._games[0].inputs(batch["new_obs"], batch["next_actions"][:, :, draw]))[..., 0]
            after = torch.clamp(after.mean(1, keepdim=True) if self._together else after, self._low, self._high)
            wanted = batch["rewards"] + batch["discount"] * after
        value: Tensor = self._critic(batch["now"])[..., 0]
        return value.mean(1, keepdim=True) - wanted[:, :1] if self._together else value - wanted
