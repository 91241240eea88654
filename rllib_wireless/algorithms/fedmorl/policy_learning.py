"""How clients learn policies in the global world model: Q-weighted imitation (algorithm 2) or rollouts (algorithm 3)."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl import planner
from rllib_wireless.algorithms.fedmorl.layout import Model, Rows, inverse
from rllib_wireless.algorithms.fedmorl.mcts import Search
from rllib_wireless.algorithms.fedmorl.policy_state import State, give_all, named_parameters, set_parameters, shifted
from rllib_wireless.algorithms.fedmorl.rollout import Imagined, rollout
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.stack import Stack, stacked, take
from rllib_wireless.algorithms.fedmorl.uncertainty import PenalisedModel
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.algorithms.losses import Loss, cql_dqn, imitation, interval_discount, q_weighted_imitation
from rllib_wireless.policies import StackedMLP

# Observations that differ in a categorical field are not neighbours, however close they are otherwise.
_CATEGORICAL_DISTANCE = 10.0


class PolicyLearner:
    """Learns the policies of K clients, each from its own rows and the global model.

    Networks read normalised observations; `policy_of` folds the normalisation into the first layer.

    Args:
        model: The global world model.
        data: The clients' rows.
        settings: Hyper-parameters.
        gamma: Discount per unit of duration.
        self_play: Plays in the model; gives a stack of one policy for everyone, and figures.
    """

    def __init__(
        self,
        model: WorldModel,
        data: Stack[Rows],
        settings: FedMORLSettings,
        gamma: float,
        self_play: Callable[[], tuple[StackedMLP, dict[str, float]]] | None = None,
    ) -> None:
        self._model, self._data, self._s, self._gamma = model, data, settings, gamma
        self._self_play = self_play
        self._played: tuple[StackedMLP, dict[str, float]] | None = None
        penalty = settings.uncertainty_penalty
        self._dynamics: Model = PenalisedModel(model, penalty) if penalty > 0.0 else model
        own = [data.of(k) for k in range(len(data.sizes))]
        self._rho = [float(rows.rewards.sum() / rows.duration.sum()) for rows in own]
        self._rho_cost = [float(rows.costs.sum() / rows.duration.sum()) for rows in own]
        self._inputs = self._model.normalised(data.rows.obs)
        self._num_clients = len(data.sizes)
        self._advantages: Tensor | None = None

    def improve(
        self,
        states: Sequence[State | None],
        clone: Sequence[torch.Generator],
        plan: Sequence[torch.Generator],
        policy: Sequence[torch.Generator],
    ) -> tuple[list[State], list[dict[str, float]]]:
        """One policy iteration.

        Args:
            states: What each client kept; None for one that begins.
            clone: A generator for each client's cloning of the data's policy,
            plan: for the planner's anchors and noise,
            policy: for this iteration; each a function of the client, so that one restored goes on as one never stopped.

        Returns:
            What each client keeps now, and its losses.
        """
        prior, network, target = self._network(), self._network(), self._network()
        fresh = [state is None for state in states]
        if any(fresh) and self._s.policy_learning != "self_play":
            # All clients are cloned where one begins: generators are their own, so nothing changes for the others.
            self._clone(prior, clone)
            network.load_state_dict(prior.state_dict())
            target.load_state_dict(prior.state_dict())
        for k, state in enumerate(states):
            if state is not None:
                for name, stack in (("clone", prior), ("policy", network), ("target", target)):
                    set_parameters(stack, k, state, name)
        shift = torch.stack([torch.zeros(()) if state is None else state["shift"] for state in states])
        if self._s.policy_learning == "rollout":
            terms = self._learn_q(network, target, prior, shift, policy)
            shift = self._price(network, prior)
        elif self._s.policy_learning == "self_play":
            terms = self._play(network)
        else:
            if self._advantages is None:
                self._advantages = self._plan(prior, plan)
            terms = self._imitate(network, self._advantages, policy)
        named = {"clone": prior, "policy": network, "target": target}
        mean, std = self._model.feature_mean, self._model.feature_std
        new_states = [
            {key: value for name, stack in named.items() for key, value in named_parameters(stack, k, name).items()}
            | {"feature_mean": mean, "feature_std": std, "shift": shift[k].clone()}
            for k in range(self._num_clients)
        ]
        return new_states, [{name: float(term[k]) for name, term in terms.items()} for k in range(self._num_clients)]

    def _clone(self, network: StackedMLP, generators: Sequence[torch.Generator]) -> None:
        """Fit the policy that made the data."""
        rows = self._data.rows

        def loss(index: Tensor) -> Loss:
            batch = rows.take(index)
            logits = _by_client(stacked(network, take(self._inputs, index)))
            return imitation(logits, batch.actions.T, _by_client(batch.action_mask))

        self._descend(network, loss, generators, self._s.clone_steps)

    def _imitate(
        self, network: StackedMLP, advantages: Tensor, generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        """Algorithm 2: imitate logged actions, weighted by exp(advantage / beta)."""
        rows, s = self._data.rows, self._s

        def loss(index: Tensor) -> Loss:
            batch = rows.take(index)
            logits = _by_client(stacked(network, take(self._inputs, index)))
            return q_weighted_imitation(
                logits,
                batch.actions.T,
                take(advantages, index).T,
                beta=s.beta,
                max_weight=s.max_weight,
                action_mask=_by_client(batch.action_mask),
            )

        return self._descend(network, loss, generators, s.policy_steps)

    @torch.no_grad()
    def _plan(self, clone: StackedMLP, generators: Sequence[torch.Generator]) -> Tensor:
        """Advantage Q(o, a) - E[Q(o, a') | a' ~ data policy] of each client's logged rows, [K, T], prices of acting taken off."""
        s, rows = self._s, self._data.rows
        advantages = torch.zeros(rows.actions.shape)
        if s.policy_learning == "clone":  # no action is better than another
            return advantages
        data_policy = torch.softmax(stacked(clone, self._inputs).masked_fill(~rows.action_mask, -torch.inf), -1)
        for k, (size, generator) in enumerate(zip(self._data.sizes.tolist(), generators, strict=True)):
            chosen = torch.randperm(size, generator=generator)[: s.planner_anchors]
            anchors, own = rows.obs[k, chosen], data_policy[k, :size]
            finite = planner.finite_model(
                self._dynamics,
                anchors,
                self._metric,
                gamma=self._gamma,
                rho=self._rho[k],
                rho_cost=self._rho_cost[k],
                neighbours=s.planner_neighbours,
                generator=generator,
            ).priced(s.cost_weight)
            how = own[chosen], s.planner_value, s.planner_horizon, s.planner_support
            if s.planner == "mcts":
                planned = rows.obs[k, torch.randperm(size, generator=generator)[: s.mcts_roots]]
                q = self._search(k, clone, finite, anchors, own[chosen]).plan(planned, generator)
            else:
                planned, q = anchors, planner.solve(finite, *how)
            q_rows = self._interpolated(q, planned, rows.obs[k, :size])
            if s.planner_shift is not None:
                q_rows[:, 1:] -= planner.lead(q_rows, own) - s.beta * s.planner_shift
            logged = q_rows.gather(1, rows.actions[k, :size, None])[:, 0]
            advantages[k, :size] = logged - (own * q_rows).sum(1)
        return advantages

    def _search(
        self,
        client: int,
        clone: StackedMLP,
        finite: planner.FiniteModel,
        anchors: Tensor,
        data_policy: Tensor,
    ) -> Search:
        """A client's tree search, whose leaves are worth what the anchors say."""
        s = self._s
        values = None
        if s.mcts_leaf == "data":
            values = (data_policy * planner.solve(finite, data_policy, "data", s.planner_horizon, 0.0)).sum(-1)
        return Search(
            self._dynamics,
            self._acting(clone, client),
            lambda obs: torch.zeros(len(obs)) if values is None else self._interpolated(values, anchors, obs),
            gamma=self._gamma,
            rho=self._rho[client],
            rho_cost=self._rho_cost[client],
            cost_weight=s.cost_weight,
            value=s.planner_value,
            support=s.planner_support,
            simulations=s.mcts_simulations,
            depth=s.mcts_depth,
            exploration=s.mcts_exploration,
        )

    def _interpolated(self, values: Tensor, anchors: Tensor, obs: Tensor) -> Tensor:
        """Values [M, ...] of anchors at observations [P, D]."""
        index, weight = planner.nearest(obs, anchors, self._metric, self._s.planner_neighbours)
        return (values[index] * weight.reshape(*weight.shape, *[1] * (values.dim() - 1))).sum(1)

    def _play(self, network: StackedMLP) -> dict[str, Tensor]:
        """Give every client the policy of self-play: of one model and one seed it is the same for all."""
        if self._played is None:
            assert self._self_play is not None
            self._played = self._self_play()
        policy, figures = self._played
        give_all(network, policy)
        return {name: torch.full((self._num_clients,), value) for name, value in figures.items()}

    def _learn_q(
        self,
        network: StackedMLP,
        target: StackedMLP,
        clone: StackedMLP,
        shift: Tensor,
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """Algorithm 3: roll the model out with the current policy, then conservative Q-learning on all rows."""
        s, rows = self._s, self._data.rows
        imagined = self._imagine(network, shift, generators)
        real = Imagined(rows.obs, rows.actions, rows.rewards, rows.costs, rows.new_obs, rows.duration, rows.terminateds)
        real_terms, imagined_terms = (self._td_terms(r, clone) for r in (real, imagined.rows))
        drawn = imagined.minibatches(generators, s.policy_steps, s.policy_batch_size)

        def td(terms: "_TdTerms", index: Tensor, cql_alpha: float) -> Loss:
            batch = _TdTerms(*(take(column, index) for column in terms))
            with torch.no_grad():
                after = stacked(target, batch.new_inputs)
                # Q / beta of the policy at the next observation; see rollout.py for what the network stands for.
                followed = {"policy": torch.softmax(after, -1), "data": batch.new_log_prior.exp()}[s.rollout_value]
                value = (followed * (after - batch.new_log_prior)).sum(-1)
                targets = batch.score + batch.discount * value
            prior = batch.log_prior.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
            f = _by_client(stacked(network, batch.inputs))
            return cql_dqn(f, batch.actions.T, (targets + prior).T, cql_alpha=cql_alpha)

        def loss(index: Tensor) -> Loss:
            logged, dreamt = td(real_terms, index, s.cql_alpha), td(imagined_terms, next(drawn), 0.0)
            return Loss(logged.total + dreamt.total, {**logged.terms, "imagined_td": dreamt.terms["td"]})

        def follow() -> None:
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
                    slow.lerp_(fast, s.tau)

        return self._descend(network, loss, generators, s.policy_steps, follow)

    @torch.no_grad()
    def _price(self, network: StackedMLP, clone: StackedMLP) -> Tensor:
        """What to add to the log-odds of acting so that their mean change is `rollout_shift`, [K]."""
        if self._s.rollout_shift is None:
            return torch.zeros(self._num_clients)
        log_prior = torch.log_softmax(
            stacked(clone, self._inputs).masked_fill(~self._data.rows.action_mask, -torch.inf), -1
        )
        change = stacked(network, self._inputs) - log_prior.clamp(min=torch.finfo(log_prior.dtype).min)
        leads = [
            planner.lead(change[k, :size], log_prior[k, :size].exp())
            for k, size in enumerate(self._data.sizes.tolist())
        ]
        return self._s.rollout_shift - torch.tensor(leads)

    @torch.no_grad()
    def _imagine(self, network: StackedMLP, shift: Tensor, generators: Sequence[torch.Generator]) -> Stack[Imagined]:
        s, rows = self._s, self._data.rows
        clients = []
        for k, (size, generator) in enumerate(zip(self._data.sizes.tolist(), generators, strict=True)):
            going_on = torch.nonzero(~rows.terminateds[k, :size])[:, 0]
            starts = going_on[torch.randint(len(going_on), (s.rollout_starts,), generator=generator)]
            act = self._acting(network, k, float(shift[k]))
            clients.append(rollout(self._dynamics, act, rows.new_obs[k, starts], s.rollout_horizon, generator))
        return Stack(clients)

    def _acting(self, network: StackedMLP, client: int, shift: float = 0.0) -> Callable[[Tensor], Tensor]:
        """A client's action probabilities [M, A] as a function of observations [M, D]."""
        own = shifted(network.slice(client), shift)
        return lambda obs: torch.softmax(stacked(own, self._model.normalised(obs)[None])[0], -1)

    @torch.no_grad()
    def _td_terms(self, rows: Imagined, clone: StackedMLP) -> "_TdTerms":
        """What the TD error of each row needs; rewards in units of beta."""
        inputs, new_inputs = self._model.normalised(rows.obs), self._model.normalised(rows.new_obs)
        discount = interval_discount(self._gamma, rows.duration, rows.terminateds)
        time = planner.elapsed(rows.duration, discount, self._gamma)
        rho, rho_cost = (torch.tensor(x)[:, None] for x in (self._rho, self._rho_cost))
        score = rows.rewards - rho * time - self._s.cost_weight * (rows.costs - rho_cost * time)
        return _TdTerms(
            inputs,
            rows.actions,
            torch.log_softmax(stacked(clone, inputs), -1),
            score / self._s.beta,
            discount,
            new_inputs,
            torch.log_softmax(stacked(clone, new_inputs), -1),
        )

    def _descend(
        self,
        network: StackedMLP,
        loss: Callable[[Tensor], Loss],
        generators: Sequence[torch.Generator],
        steps: int,
        after_step: Callable[[], None] = lambda: None,
    ) -> dict[str, Tensor]:
        """Take gradient steps with a step size that falls to zero; returns the losses' means over the steps, [K] each."""
        lr = self._s.policy_lr
        optimizer = torch.optim.Adam(network.parameters(), lr=lr)
        sums: dict[str, Tensor] = {}
        for step, index in enumerate(self._data.minibatches(generators, steps, self._s.policy_batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1.0 - step / steps)
            found = loss(index)
            optimizer.zero_grad()
            found.total.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            after_step()
            for name, term in found.terms.items():
                sums[name] = sums[name] + term if name in sums else term
        return {name: term / steps for name, term in sums.items()}

    def _network(self) -> StackedMLP:
        sizes = (self._model.layout.obs_size, *self._s.policy_hiddens, self._model.layout.num_actions)
        network = StackedMLP(1, sizes, torch.Generator().manual_seed(0))
        stack = StackedMLP(self._num_clients, sizes)
        give_all(stack, network)  # all clients begin alike, whoever shares the process
        return stack

    @cached_property
    def _metric(self) -> Tensor:
        """What a difference in each column of an observation counts between neighbours."""
        metric = torch.full((self._model.layout.obs_size,), _CATEGORICAL_DISTANCE)
        metric[list(self._model.layout.continuous)] = inverse(self._model.feature_std)
        return metric


class _TdTerms(NamedTuple):
    """Leaves [K, T, ...] of logged or imagined rows."""

    inputs: Tensor
    actions: Tensor
    log_prior: Tensor  # of the data's policy
    score: Tensor  # in units of beta
    discount: Tensor
    new_inputs: Tensor
    new_log_prior: Tensor


def _by_client(values: Tensor) -> Tensor:
    """[K, B, ...] as the losses want it, [B, K, ...]."""
    return values.transpose(0, 1)
