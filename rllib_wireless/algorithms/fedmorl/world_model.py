"""The world model p(o'|o, a), r(o, a) and duration (paper, section 3.2), built from an environment's observation fields.

A next observation is drawn in two steps. A categorical head says which *outcome* follows: the next values of all categorical
fields and whether the episode terminates. A Gaussian head, which is told the outcome, then says how the continuous fields
change, what reward the interval brings and how long it lasts. Expectations over outcomes are exact sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rllib_wireless.envs.base import BatchedEnv, ObsField, field_slices
from rllib_wireless.policies import StackedMLP

Weights = dict[str, npt.NDArray[np.float32]]
"""Parameters of one client's model by name; what travels between clients and server."""

Statistics = dict[str, npt.NDArray[np.float64]]
"""Counts and sums over a client's rows, see `client_statistics`; those of several clients are added up."""

MAX_OUTCOMES = 64
"""Above this many outcomes seen, categorical fields are modelled one by one and expectations sampled."""

MIN_ROWS = 10
"""A client sends the sums of products of no smaller group of rows."""

SAMPLED_OUTCOMES = 16
"""Outcomes sampled for each action where they are too many to be summed over."""

# Outputs are padded to 64 bytes: matrix products round by how their operands lie in memory, and a client's result should
# not depend on its place in a stack.
_ALIGNED = 16

_MAX_CODES = 2**16  # numbers in a table of statistics; a larger one is not sent

_LOG_STD = (
    -4.0,
    2.0,
)  # in units of the target's standard deviation; the floor keeps deterministic targets' gradients sane


@dataclass(frozen=True)
class Layout:
    """Which columns of an observation are what.

    Args:
        categorical: Columns of each categorical field.
        continuous: Indices of the continuous columns, C of them.
        low: Smallest value of each column.
        high: Largest value of each column.
        num_actions: A.
        has_cost: Whether costs are modelled beside rewards.
    """

    categorical: tuple[slice, ...]
    continuous: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_actions: int
    has_cost: bool = False

    @classmethod
    def of(cls, env: BatchedEnv) -> "Layout":
        """The layout of an environment's observations."""
        return cls.from_fields(env.obs_fields, int(env.action_space.n), has_cost=env.has_cost)

    @classmethod
    def from_fields(cls, fields: Sequence[ObsField], num_actions: int, *, has_cost: bool = False) -> "Layout":
        """The layout of these fields."""
        slices = field_slices(tuple(fields))
        return cls(
            categorical=tuple(slices[f.name] for f in fields if f.kind == "categorical"),
            continuous=tuple(
                c for f in fields if f.kind == "continuous" for c in range(slices[f.name].start, slices[f.name].stop)
            ),
            low=tuple(0.0 if f.kind == "categorical" else f.low for f in fields for _ in range(f.size)),
            high=tuple(1.0 if f.kind == "categorical" else f.high for f in fields for _ in range(f.size)),
            num_actions=num_actions,
            has_cost=has_cost,
        )

    @property
    def signals(self) -> tuple[str, ...]:
        """What the Gaussian head predicts beside the continuous fields."""
        return ("reward", "duration", "cost") if self.has_cost else ("reward", "duration")

    @property
    def num_targets(self) -> int:
        """Number T of values that the Gaussian head predicts."""
        return len(self.continuous) + len(self.signals)

    @property
    def obs_size(self) -> int:
        """D."""
        return len(self.low)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each categorical part of an outcome; the last says whether the episode terminates."""
        return (*(s.stop - s.start for s in self.categorical), 2)


class Rows(NamedTuple):
    """Transitions of K clients, each leaf [K, B, ...] (or [B, ...] of one client)."""

    obs: Tensor  # [..., D]
    actions: Tensor  # [...]
    rewards: Tensor  # [...] undiscounted sum over the interval
    costs: Tensor  # [...] the same of costs; zero where there are none
    new_obs: Tensor  # [..., D]
    duration: Tensor  # [...]
    terminateds: Tensor  # [...] bool
    action_mask: Tensor  # [..., A]

    def slice(self, start: int, stop: int) -> "Rows":
        """Rows `start` to `stop` of one client."""
        return Rows(*(column[start:stop] for column in self))

    def take(self, index: Tensor) -> "Rows":
        """Rows at `index` [K, b] of each client's [K, B, ...]."""
        clients = torch.arange(len(index))[:, None]
        return Rows(*(column[clients, index] for column in self))


class Outcomes(NamedTuple):
    """What a model expects after each action: K outcomes with their probabilities, leaves [..., A, K]."""

    prob: Tensor
    reward: Tensor  # undiscounted sum over the interval, credited at its start
    cost: Tensor  # the same of costs; zero where there are none
    duration: Tensor
    terminated: Tensor  # 1 where no decision follows, else 0
    obs: Tensor  # [..., A, K, D] mean
    std: Tensor  # [..., A, K, D] of the continuous columns; 0 elsewhere


class Model(Protocol):
    """What the planner needs of a model, learned or exact."""

    def outcomes(self, obs: Tensor) -> Outcomes:
        """What follows each action in observations [..., D]."""

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Observations with mean `obs`, given standard normal noise; all [..., D]."""


def client_statistics(rows: Rows, layout: Layout) -> Statistics:
    """What a client tells of its rows [T, ...] beside parameters; the sizes do not depend on T.

    rows, feature_sum, feature_square, target_sum, target_square: number, sums and sums of squares, for normalisation.
    marginals, outcomes: how often each value, and each combination of values, came next.
    gram, cross: sums of x x^T and x y^T for each pair of outcome and action, x = (1, continuous fields), y = targets; they
    start the model from least squares. Pairs with fewer than MIN_ROWS rows are left out: their sums would tell the rows.
    """
    features, targets = rows.obs[:, list(layout.continuous)].double(), _targets(rows, layout).double()
    sizes = layout.sizes
    parts = outcome_parts(rows.new_obs, rows.terminateds, layout)
    statistics = {
        "rows": torch.tensor([float(len(rows.obs))], dtype=torch.float64),
        "feature_sum": features.sum(0),
        "feature_square": features.square().sum(0),
        "target_sum": targets.sum(0),
        "target_square": targets.square().sum(0),
        "marginals": torch.cat([torch.bincount(parts[:, i], minlength=n) for i, n in enumerate(sizes)]).double(),
    }
    if np.prod(sizes, dtype=float) <= _MAX_CODES:
        number = int(np.prod(sizes))
        code = torch.from_numpy(np.ravel_multi_index(tuple(parts.T.numpy()), sizes))
        statistics["outcomes"] = torch.bincount(code, minlength=number).double()
        pairs = number * layout.num_actions
        if pairs * (len(layout.continuous) + 2) ** 2 <= _MAX_CODES:
            x = torch.cat([torch.ones_like(features[:, :1]), features], dim=1)
            own = functional.one_hot(code * layout.num_actions + rows.actions, pairs).double()
            own *= own.sum(0) >= MIN_ROWS
            statistics["gram"] = torch.einsum("tk,ti,tj->kij", own, x, x)
            statistics["cross"] = torch.einsum("tk,ti,tj->kij", own, x, targets)
    return {name: value.numpy() for name, value in statistics.items()}


def merge_statistics(clients: Sequence[Statistics]) -> Statistics:
    """Statistics of all clients' rows together."""
    return {name: np.sum([c[name] for c in clients], axis=0) for name in clients[0]}


def outcome_parts(new_obs: Tensor, terminated: Tensor, layout: Layout) -> Tensor:
    """The outcome's categorical parts [..., F + 1]: value of each categorical field, and whether the episode terminated."""
    values = [new_obs[..., s].argmax(-1) for s in layout.categorical]
    return torch.stack([*values, terminated.long()], dim=-1)


class WorldModel(nn.Module):
    """The models of K clients, or with K = 1 the global one.

    Args:
        layout: Columns of the observation.
        statistics: Of all clients' rows together; they fix normalisation and the set of outcomes.
        hiddens: Widths of the hidden layers of both heads.
        num_clients: K.
        generator: Source of the initial weights, equal for all K.
    """

    def __init__(
        self,
        layout: Layout,
        statistics: Statistics,
        hiddens: Sequence[int],
        num_clients: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.num_clients = layout, num_clients
        self.classes = _classes(layout, statistics)
        inputs = layout.obs_size + layout.num_actions
        choices = sum(layout.sizes) if self.classes is None else len(self.classes)
        targets = -(-layout.num_targets // _ALIGNED) * _ALIGNED
        self.outcome_net = StackedMLP(num_clients, (inputs, *hiddens, choices), generator)
        self.effect_net = StackedMLP(num_clients, (inputs + choices, *hiddens, 2 * targets), generator)
        self.affine = StackedMLP(
            num_clients, (choices * layout.num_actions * (len(layout.continuous) + 1), targets), generator
        )
        with torch.no_grad():
            # The network adds to what is affine given the outcome, and at first nothing.
            self.effect_net.weights[-1][..., :targets] = 0.0
            self.effect_net.biases[-1][..., :targets] = 0.0
        self.feature_mean, self.feature_std = _moments(statistics, "feature")
        self.target_mean, self.target_std = _moments(statistics, "target")
        if self.classes is not None and "gram" in statistics:
            self._start_from_least_squares(statistics)
        self._low, self._high = torch.tensor(layout.low), torch.tensor(layout.high)

    def _start_from_least_squares(self, statistics: Statistics) -> None:
        """Set the affine part to the regression that the clients' sums determine, with one pseudo-row of ridge."""
        assert self.classes is not None
        seen = np.ravel_multi_index(tuple(self.classes.T.numpy()), self.layout.sizes)
        pairs = (seen[:, None] * self.layout.num_actions + np.arange(self.layout.num_actions)).ravel()
        gram, cross = (torch.from_numpy(statistics[name][pairs]) for name in ("gram", "cross"))
        scale, inverse = _inverse(self.feature_std).double(), _inverse(self.target_std).double()
        change = torch.diag(torch.cat([torch.ones(1, dtype=torch.float64), scale]))  # of raw into normalised features
        change[1:, 0] = -self.feature_mean.double() * scale
        cross = change @ (cross - gram[:, :, :1] * self.target_mean.double()) * inverse
        solution = torch.linalg.solve(change @ gram @ change.T + torch.eye(len(change)), cross)
        with torch.no_grad():
            self.affine.weights[0].zero_()
            self.affine.weights[0][..., : self.layout.num_targets] = solution.flatten(0, 1).float()
            self.affine.biases[0].zero_()

    def weights(self, client: int = 0) -> Weights:
        """One client's parameters, copies."""
        return {name: p.detach()[client].numpy().copy() for name, p in self.named_parameters()}

    def load_weights(self, weights: Weights) -> None:
        """Give all clients the same parameters."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(torch.tensor(weights[name]))  # a copy: what comes through Ray is read-only

    def negative_log_likelihood(self, rows: Rows) -> dict[str, Tensor]:
        """-log p of the rows [K, B, ...], a mean over B for each client and term, [K].

        Continuous targets count in units of their standard deviation over the data, so terms compare across fields.
        """
        outcome, error, log_std = self._residuals(rows)
        return self._terms(outcome, 0.5 * error.square() * torch.exp(-2 * log_std) + log_std + 0.5 * np.log(2 * np.pi))

    def loss(self, rows: Rows) -> dict[str, Tensor]:
        """What training minimises; its optimum is that of the likelihood, its terms are named alike, [K].

        Under the likelihood alone, targets that are rare and badly predicted get a large deviation and with it a vanishing
        gradient: a station that succeeds after a long wait, say. Means are therefore fitted by least squares, and deviations
        by the likelihood of the errors that are left.
        """
        outcome, error, log_std = self._residuals(rows)
        spread = 0.5 * error.detach().square() * torch.exp(-2 * log_std) + log_std
        return self._terms(outcome, 0.5 * error.square() + spread)

    def _terms(self, outcome: Tensor, gaussian: Tensor) -> dict[str, Tensor]:
        """Means over rows, [K] each, given the outcome's term [K, B] and those of the targets [K, B, T]."""
        number = len(self.layout.continuous)
        terms = {"outcome": outcome.mean(1), "continuous": gaussian[..., :number].sum(-1).mean(1)}
        return terms | {name: gaussian[..., number + i].mean(1) for i, name in enumerate(self.layout.signals)}

    @torch.no_grad()
    def outcomes(self, obs: Tensor) -> Outcomes:
        """What the first client's model expects after each action in observations [M, D]."""
        rows, actions = len(obs), self.layout.num_actions
        every = obs[:, None].expand(-1, actions, -1)
        inputs = self._inputs(every, torch.arange(actions).expand(rows, -1)).reshape(1, rows * actions, -1)
        prob, parts = self._expected_outcomes(stacked(self.outcome_net, inputs)[0])
        k = parts.shape[1]
        one_hot = self._one_hot(parts)
        given = inputs[0][:, None].expand(-1, k, -1).flatten(0, 1)
        mean, log_std = self._effect(given[None], self._code(parts).flatten(0, 1)[None])
        value = (mean * self.target_std + self.target_mean).reshape(rows, actions, k, -1)
        std = (log_std.exp() * self.target_std).reshape(rows, actions, k, -1)
        signals = dict(zip(self.layout.signals, value[..., len(self.layout.continuous) :].unbind(-1), strict=True))
        new_obs, spread = self._assemble(every, one_hot.reshape(rows, actions, k, -1), value, std)
        return Outcomes(
            prob=prob.reshape(rows, actions, k),
            reward=signals["reward"],
            cost=signals.get("cost", torch.zeros_like(signals["reward"])),
            duration=signals["duration"].clamp(min=0.0),
            terminated=parts[..., -1].float().reshape(rows, actions, k),
            obs=new_obs,
            std=spread,
        )

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Observations obs + std * noise within the fields' bounds, [..., D]."""
        return torch.clamp(obs + std * noise, self._low, self._high)

    def _inputs(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Normalised observation and one-hot action."""
        x = normalise(obs, self.layout, self.feature_mean, self.feature_std)
        return torch.cat([x, functional.one_hot(actions, self.layout.num_actions).float()], dim=-1)

    def _one_hot(self, parts: Tensor) -> Tensor:
        return torch.cat([functional.one_hot(parts[..., i], n) for i, n in enumerate(self.layout.sizes)], -1).float()

    def _code(self, parts: Tensor) -> Tensor:
        """An outcome as the Gaussian head is told it: one-hot over the outcomes, or over the values of each part."""
        if self.classes is None:
            return self._one_hot(parts)
        return (parts.unsqueeze(-2) == self.classes).all(-1).float()

    def _effect(self, inputs: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the normalised targets, given outcomes; [K, B, T] each.

        The mean is affine in the continuous fields with coefficients of each outcome's and action's own (a reset, a step, a
        price), plus what a network adds.
        """
        x, action = inputs[..., list(self.layout.continuous)], inputs[..., -self.layout.num_actions :]
        pair = (code.unsqueeze(-1) * action.unsqueeze(-2)).flatten(-2)
        per_pair = pair.unsqueeze(-1) * torch.cat([torch.ones_like(x[..., :1]), x], dim=-1).unsqueeze(-2)
        more, log_std = stacked(self.effect_net, torch.cat([inputs, code], dim=-1)).chunk(2, dim=-1)
        mean = stacked(self.affine, per_pair.flatten(-2)) + more
        low, high = _LOG_STD
        used = self.layout.num_targets
        return mean[..., :used], low + (high - low) * torch.sigmoid(log_std[..., :used])

    def _residuals(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy of the outcomes [K, B]; errors of the means and log deviations, normalised, [K, B, T] each."""
        inputs = self._inputs(rows.obs, rows.actions)
        parts = outcome_parts(rows.new_obs, rows.terminateds, self.layout)
        mean, log_std = self._effect(inputs, self._code(parts))
        target = (_targets(rows, self.layout) - self.target_mean) * _inverse(self.target_std)
        return self._cross_entropy(stacked(self.outcome_net, inputs), parts), target - mean, log_std

    def _cross_entropy(self, logits: Tensor, parts: Tensor) -> Tensor:
        if self.classes is None:
            heads = torch.split(logits, list(self.layout.sizes), dim=-1)
            return -torch.stack([_log_prob(head, parts[..., i]) for i, head in enumerate(heads)]).sum(0)
        same = (parts.unsqueeze(-2) == self.classes).all(-1)
        # An outcome that no client reported can only be one of rows that came later; it counts as the least likely one.
        log_prob = torch.log_softmax(logits, -1)
        return -torch.where(same.any(-1), (log_prob * same).sum(-1), log_prob.amin(-1))

    def _expected_outcomes(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities [M, K] and categorical parts [M, K, F + 1] of the outcomes that expectations run over."""
        if self.classes is not None:
            return torch.softmax(logits, -1), self.classes.expand(len(logits), -1, -1)
        heads = torch.split(logits, list(self.layout.sizes), dim=-1)
        parts = torch.stack([_quantiles(head, i) for i, head in enumerate(heads)], dim=-1)
        return torch.full(parts.shape[:2], 1.0 / SAMPLED_OUTCOMES), parts

    def _assemble(self, obs: Tensor, one_hot: Tensor, value: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the next observation, [..., A, K, D]."""
        new_obs = obs.unsqueeze(-2).expand(*value.shape[:-1], -1).clone()
        spread = torch.zeros_like(new_obs)
        start = 0
        for s in self.layout.categorical:
            width = s.stop - s.start
            new_obs[..., s] = one_hot[..., start : start + width]
            start += width
        continuous = list(self.layout.continuous)
        new_obs[..., continuous] += value[..., : len(continuous)]
        spread[..., continuous] = std[..., : len(continuous)]
        return torch.clamp(new_obs, self._low, self._high), spread


def stacked(network: StackedMLP, x: Tensor) -> Tensor:
    """Apply K clients' networks to inputs [K, B, D], giving [K, B, A].

    Results and gradients are laid out alike whatever K is: sums over rows and vectorised functions then run alike, and a
    client's result is the same to the last bit whoever shares the process.
    """
    out: Tensor = network(x.transpose(0, 1)).transpose(0, 1)
    if out.requires_grad:
        out.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
    return out


def normalise(obs: Tensor, layout: Layout, mean: Tensor, std: Tensor) -> Tensor:
    """Observations whose continuous columns have mean 0 and deviation 1 over all clients' data; constant ones become 0."""
    continuous = list(layout.continuous)
    out = obs.clone()
    out[..., continuous] = (obs[..., continuous] - mean) * _inverse(std)
    return out


def _targets(rows: Rows, layout: Layout) -> Tensor:
    """What the Gaussian head predicts: change of the continuous fields, then the signals, [..., T]."""
    continuous = list(layout.continuous)
    change = rows.new_obs[..., continuous] - rows.obs[..., continuous]
    signals = {"reward": rows.rewards, "duration": rows.duration, "cost": rows.costs}
    return torch.cat([change, torch.stack([signals[name] for name in layout.signals], dim=-1)], dim=-1)


def _classes(layout: Layout, statistics: Statistics) -> Tensor | None:
    """The outcomes seen by any client, [K, F + 1]; None where they are too many."""
    if "outcomes" not in statistics:
        return None
    seen = np.flatnonzero(statistics["outcomes"])
    if len(seen) > MAX_OUTCOMES:
        return None
    return torch.from_numpy(np.stack(np.unravel_index(seen, layout.sizes), axis=-1))


def _moments(statistics: Statistics, name: str) -> tuple[Tensor, Tensor]:
    rows = statistics["rows"]
    mean = statistics[f"{name}_sum"] / rows
    variance = (statistics[f"{name}_square"] / rows - mean**2).clip(min=0.0)
    return torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float()


def _inverse(std: Tensor) -> Tensor:
    """1 / std, and 0 for what is constant."""
    return torch.where(std > 1e-6, 1.0 / std.clamp(min=1e-6), 0.0)


def _log_prob(logits: Tensor, value: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, value.unsqueeze(-1)).squeeze(-1)


def _quantiles(logits: Tensor, part: int) -> Tensor:
    """Systematic sample [M, SAMPLED_OUTCOMES] of a categorical head, in an order of each part's own."""
    order = torch.randperm(SAMPLED_OUTCOMES, generator=torch.Generator().manual_seed(part))
    u = ((order + 0.5) / SAMPLED_OUTCOMES).expand(len(logits), -1).contiguous()
    return torch.searchsorted(torch.softmax(logits, -1).cumsum(-1), u).clamp(max=logits.shape[-1] - 1)
