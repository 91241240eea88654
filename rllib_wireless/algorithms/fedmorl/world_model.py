"""The world model p(o'|o, a), r(o, a) and duration (paper, section 3.2), built from an environment's observation fields.

A next observation is drawn in two steps. A categorical head says which *outcome* follows: the next values of all categorical
fields and whether the episode terminates. A Gaussian head, which is told the outcome, then says how the continuous fields
change, what reward the interval brings and how long it lasts. Expectations over outcomes are exact sums.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rllib_wireless.algorithms.fedmorl.layout import (
    Layout,
    Outcomes,
    Rows,
    effect_targets,
    inverse,
    normalise,
    outcome_parts,
)
from rllib_wireless.algorithms.fedmorl.stack import stacked
from rllib_wireless.algorithms.fedmorl.statistics import Statistics, classes, least_squares, moments
from rllib_wireless.policies import StackedMLP

Weights = dict[str, npt.NDArray[np.float32]]
"""Parameters of one client's model by name; what travels between clients and server."""

SAMPLED_OUTCOMES = 16
"""Outcomes sampled for each action where they are too many to be summed over."""

# Outputs are padded to 64 bytes: matrix products round by how their operands lie in memory, and a client's result should
# not depend on its place in a stack.
_ALIGNED = 16

_LOG_STD = (
    -4.0,
    2.0,
)  # in units of the target's standard deviation; the floor keeps deterministic targets' gradients sane


class WorldModel(nn.Module):
    """The models of K clients, or with K = 1 the global one; each is an ensemble of E members.

    Members differ in their initial weights and in the minibatches that they are trained on; what the model predicts is their
    mixture (Chua et al., "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models", NeurIPS
    2018). All K * E networks are one stack, a client's members side by side.

    Args:
        layout: Columns of the observation.
        statistics: Of all clients' rows together; they fix normalisation and the set of outcomes.
        hiddens: Widths of the hidden layers of both heads.
        num_clients: K.
        generator: Source of the initial weights.
        ensemble_size: E.
    """

    def __init__(
        self,
        layout: Layout,
        statistics: Statistics,
        hiddens: Sequence[int],
        num_clients: int = 1,
        generator: torch.Generator | None = None,
        *,
        ensemble_size: int = 1,
    ) -> None:
        super().__init__()
        self.layout, self.num_clients, self.ensemble_size = layout, num_clients, ensemble_size
        self.classes = classes(layout, statistics)
        inputs = layout.obs_size + layout.num_actions
        choices = sum(layout.sizes) if self.classes is None else len(self.classes)
        targets = -(-layout.num_targets // _ALIGNED) * _ALIGNED
        networks = num_clients * ensemble_size
        self.outcome_net = StackedMLP(networks, (inputs, *hiddens, choices), generator)
        self.effect_net = StackedMLP(networks, (inputs + choices, *hiddens, 2 * targets), generator)
        pairs = choices * layout.num_actions
        self.affine = StackedMLP(networks, (pairs * (len(layout.continuous) + 1), targets), generator)
        with torch.no_grad():
            if ensemble_size == 1:
                # The network adds to what is affine given the outcome, and at first nothing. Members that all began with
                # nothing would agree where no data tell otherwise.
                self.effect_net.weights[-1][..., :targets] = 0.0
                self.effect_net.biases[-1][..., :targets] = 0.0
            if self.classes is not None and "gram" in statistics:
                self.affine.weights[0].zero_()
                start = least_squares(statistics, layout, self.classes)
                self.affine.weights[0][..., : layout.num_targets] = start
                self.affine.biases[0].zero_()
        self.feature_mean, self.feature_std = moments(statistics, "feature")
        self.target_mean, self.target_std = moments(statistics, "target")
        self._low, self._high = torch.tensor(layout.low), torch.tensor(layout.high)

    def weights(self, client: int = 0) -> Weights:
        """One client's parameters, copies; each begins with the members, [E, ...]."""
        return {name: self._by_client(p.detach())[client].numpy().copy() for name, p in self.named_parameters()}

    def load_weights(self, weights: Weights) -> None:
        """Give all clients the same parameters."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                # A copy: what comes through Ray is read-only.
                self._by_client(parameter).copy_(torch.tensor(weights[name]))

    def negative_log_likelihood(self, rows: Rows) -> dict[str, Tensor]:
        """-log p of the rows [K, B, ...], a mean over B for each client and term, [K].

        Continuous targets count in units of their standard deviation over the data, so terms compare across fields.
        """
        outcome, error, log_std = self._residuals(Rows(*(c.repeat_interleave(self.ensemble_size, 0) for c in rows)))
        gaussian = 0.5 * error.square() * torch.exp(-2 * log_std) + log_std + 0.5 * np.log(2 * np.pi)
        return {name: term.mean(1) for name, term in self._mixture(self._terms(outcome, gaussian)).items()}

    def loss(self, rows: Rows) -> dict[str, Tensor]:
        """What training minimises on rows [K, E * B, ...], B of them each member's own; by term, [K * E].

        Its optimum is that of the likelihood, its terms are named alike. Under the likelihood alone, targets that are rare
        and badly predicted get a large deviation and with it a vanishing gradient: a station that succeeds after a long wait,
        say. Means are therefore fitted by least squares, and deviations by the likelihood of the errors that are left.
        """
        own = (self.num_clients * self.ensemble_size, -1)
        outcome, error, log_std = self._residuals(Rows(*(c.reshape(*own, *c.shape[2:]) for c in rows)))
        spread = 0.5 * error.detach().square() * torch.exp(-2 * log_std) + log_std
        return {name: term.mean(1) for name, term in self._terms(outcome, 0.5 * error.square() + spread).items()}

    def _terms(self, outcome: Tensor, gaussian: Tensor) -> dict[str, Tensor]:
        """Terms of each row, [K * E, B] each, of the outcome's [K * E, B] and those of the targets [K * E, B, T]."""
        number = len(self.layout.continuous)
        terms = {"outcome": outcome, "continuous": gaussian[..., :number].sum(-1)}
        return terms | {name: gaussian[..., number + i] for i, name in enumerate(self.layout.signals)}

    def _mixture(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """-log density [K, B] of each term under the mixture, given the terms before it, so that they add up to the row's."""
        if self.ensemble_size == 1:
            return terms
        mixed, log_weight = {}, torch.tensor(-np.log(self.ensemble_size), dtype=torch.float32)
        for name, term in terms.items():
            joint = log_weight - self._by_client(term)
            mixed[name] = -torch.logsumexp(joint, 1)
            log_weight = torch.log_softmax(joint, 1)  # how likely each member is after what was seen
        return mixed

    def _by_client(self, values: Tensor) -> Tensor:
        """Values [K * E, ...] of all networks as [K, E, ...]."""
        return values.reshape(self.num_clients, self.ensemble_size, *values.shape[1:])

    @torch.no_grad()
    def outcomes(self, obs: Tensor) -> Outcomes:
        """What the global model (K = 1) expects after each action in observations [M, D].

        The members' outcomes are put side by side, so that sums over outcomes are expectations under the mixture, and an
        outcome drawn is that of a member drawn.
        """
        rows, actions, members = len(obs), self.layout.num_actions, self.ensemble_size
        every = obs[:, None].expand(-1, actions, -1)
        inputs = self._inputs(every, torch.arange(actions).expand(rows, -1)).reshape(1, rows * actions, -1)
        inputs = inputs.expand(members, -1, -1)
        prob, parts = self._expected_outcomes(stacked(self.outcome_net, inputs).flatten(0, 1))
        k = parts.shape[1]
        given = inputs.unsqueeze(2).expand(-1, -1, k, -1).flatten(1, 2)
        code = self._code(parts).reshape(members, rows * actions * k, -1)
        mean, log_std = self._effect(given, code)

        def side_by_side(values: Tensor) -> Tensor:
            """[E, M, A, K, ...] in whatever shape as [M, A, E * K, ...]."""
            shape = (members, rows, actions, k)
            return values.reshape(*shape, values.numel() // math.prod(shape)).movedim(0, 2).flatten(2, 3)

        value = side_by_side(mean * self.target_std + self.target_mean)
        signals = dict(zip(self.layout.signals, value[..., len(self.layout.continuous) :].unbind(-1), strict=True))
        std = side_by_side(log_std.exp() * self.target_std)
        new_obs, spread = self._assemble(every, side_by_side(self._one_hot(parts)), value, std)
        return Outcomes(
            prob=side_by_side(prob / members)[..., 0],
            reward=signals["reward"],
            cost=signals.get("cost", torch.zeros_like(signals["reward"])),
            duration=signals["duration"].clamp(min=0.0),
            terminated=side_by_side(parts[..., -1].float())[..., 0],
            obs=new_obs,
            std=spread,
        )

    def normalised(self, obs: Tensor) -> Tensor:
        """Observations [..., D] as networks read them: continuous fields in units of their deviation over the data."""
        return normalise(obs, self.layout, self.feature_mean, self.feature_std)

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Observations obs + std * noise within the fields' bounds, [..., D]."""
        return torch.clamp(obs + std * noise, self._low, self._high)

    def _inputs(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Normalised observation and one-hot action."""
        x = self.normalised(obs)
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
        target = (effect_targets(rows, self.layout) - self.target_mean) * inverse(self.target_std)
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


def _log_prob(logits: Tensor, value: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, value.unsqueeze(-1)).squeeze(-1)


def _quantiles(logits: Tensor, part: int) -> Tensor:
    """Systematic sample [M, SAMPLED_OUTCOMES] of a categorical head, in an order of each part's own."""
    order = torch.randperm(SAMPLED_OUTCOMES, generator=torch.Generator().manual_seed(part))
    u = ((order + 0.5) / SAMPLED_OUTCOMES).expand(len(logits), -1).contiguous()
    return torch.searchsorted(torch.softmax(logits, -1).cumsum(-1), u).clamp(max=logits.shape[-1] - 1)
