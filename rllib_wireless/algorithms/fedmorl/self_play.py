"""Self-play in the federated model: one policy plays all agents of the game that the model tells (see game.py).

Planner and rollouts take one step of improvement against others who act as they did in the data; no such step can reward taking
turns. Here all agents improve together, by proximal policy optimisation with shared parameters, each agent for its own return
(Schulman et al. 2017; de Witt et al. 2020). Nothing but the global model, the seed and how agents make observations of
what they hear (`BatchedEnv.hear`) enters, and no row of anybody's data: clients that do it apart come to the same policy.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rllib_wireless.algorithms.fedmorl.game import Game, common_field, read_game
from rllib_wireless.algorithms.fedmorl.rollout import rollout
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.stack import stacked
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.envs.base import EnvStep, FloatArray, IntArray
from rllib_wireless.policies import StackedMLP

_PROBES = 256  # paths in the model along which the game is read
_PROBE_STEPS = 20
_MAX_GRADIENT = 1.0
_SMALLEST_SPREAD = 0.1  # advantages are divided by no less: noise would lead a policy that is nearly certain


class _Batch(NamedTuple):
    """What one policy has met, leaves [T, B, N] or [T, B, N, D]."""

    obs: Tensor  # normalised
    actions: Tensor
    log_prob: Tensor
    advantage: Tensor
    value_target: Tensor


class SelfPlay:
    """Learns one policy for all agents.

    Args:
        model: The global world model.
        env: Whose `hear` makes observations; its copies play side by side.
        settings: Hyper-parameters.
        gamma: Discount per unit of duration.
        seed: Seed of everything that is drawn.

    Raises:
        UserError: Where the environment does not say how observations follow from events.
    """

    def __init__(self, model: WorldModel, env: BatchedEnv, settings: FedMORLSettings, gamma: float, seed: int) -> None:
        self._model, self._env, self._s, self._gamma = model, env, settings, gamma
        self._generator, self._random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        sizes = (model.layout.obs_size, *settings.policy_hiddens)
        self._policy = StackedMLP(1, (*sizes, 2), self._generator)
        self._critic = StackedMLP(1, (*sizes, 1), self._generator)
        with torch.no_grad():  # all agents begin with about the same small probability of acting
            self._policy.weights[-1].mul_(0.1)
            self._policy.biases[-1][..., 0] += float(np.log(len(env.agents) / settings.self_play_start - 1.0))
        self.game = self._read()
        self._borne = np.ones((env.num_envs, len(env.agents)))  # mean cost of each agent per unit of time, fading
        self._events = self.game.events(len(env.agents)).cumsum(1)

    def learn(self) -> tuple[StackedMLP, dict[str, float]]:
        """Play and improve; returns the best policy met, which reads normalised observations, and its figures."""
        s = self._s
        parameters = [*self._policy.parameters(), *self._critic.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=s.self_play_lr)
        best, best_rate = self._policy.slice(0), -np.inf
        step = self._env.reset(int(self._random.integers(2**31)))
        for update in range(s.self_play_updates):
            optimizer.param_groups[0]["lr"] = s.self_play_lr * (1.0 - update / s.self_play_updates)
            batch, step, rate = self._play(step)
            if rate > best_rate:
                best, best_rate = self._policy.slice(0), rate
            for rows in self._minibatches(batch):
                loss = self._loss(rows)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT)
                optimizer.step()
        return best, {"self_play_rate": best_rate}

    @torch.no_grad()
    def _read(self) -> Game:
        """Read the game at observations that random paths in the model come to."""
        start = torch.from_numpy(self._env.reset(0).obs[0, :1].copy()).expand(_PROBES, -1)
        chance = torch.tensor([1.0 - 1.0 / len(self._env.agents), 1.0 / len(self._env.agents)])
        paths = rollout(self._model, lambda obs: chance.expand(len(obs), -1), start, _PROBE_STEPS, self._generator)
        return read_game(self._model, paths.obs, common_field(self._env), self._s.self_play_rare)

    @torch.no_grad()
    def _play(self, step: EnvStep) -> tuple[_Batch, EnvStep, float]:
        """Let the policy play; returns what it met, where it stands, and its mean reward per unit of time."""
        observations, following, columns = [], [], []
        for _ in range(self._s.self_play_steps):
            obs = self._model.normalised(torch.from_numpy(step.obs))
            log_prob = torch.log_softmax(self._apply(self._policy, obs), -1)
            acts = self._random.random(obs.shape[:2]) < log_prob[..., 1].exp().numpy()
            acts &= step.action_mask[..., 1]
            actions = torch.from_numpy(acts.astype(np.int64))
            event = (
                (self._random.random((len(acts), 1)) > self._events[acts.sum(1)])
                .sum(1)
                .clip(max=len(self.game.duration) - 1)
            )
            duration = self.game.duration[event].round().clip(min=1).astype(np.int64)
            step = self._env.hear(actions.numpy(), event, duration)
            cost = torch.from_numpy(self._fair(step, duration))
            cost = torch.lerp(cost, cost.mean(1, keepdim=True), self._s.self_play_team)
            price = (self.game.cost_weight + self._s.cost_weight) * cost
            reward = torch.from_numpy(self.game.reward[event].astype(np.float32))[:, None] - price
            elapsed = torch.from_numpy(duration.astype(np.float32))[:, None].expand_as(reward)
            over = torch.from_numpy(step.truncated.copy())[:, None].expand_as(reward)
            after = torch.from_numpy(step.obs.copy())
            if step.final is not None:
                after[step.final.copies] = torch.from_numpy(step.final.obs)
            observations.append(obs)
            following.append(self._model.normalised(after))
            chosen = log_prob.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
            columns.append((actions, chosen, reward, elapsed, over))
        actions, chosen, reward, elapsed, over = (torch.stack(column) for column in zip(*columns, strict=True))
        obs = torch.stack(observations)
        rate = float(reward.sum() / elapsed.sum())
        value, next_value = (self._apply(self._critic, x)[..., 0] for x in (obs, torch.stack(following)))
        discount = self._gamma**elapsed
        error = reward - rate * (1.0 - discount) / (1.0 - self._gamma) + discount * next_value - value
        # Traces fade with time and not with the number of decisions: an idle slot is short.
        fading = discount**3 * ~over
        advantage, trace = torch.zeros_like(error), torch.zeros_like(error[0])
        for t in reversed(range(len(error))):
            trace = error[t] + fading[t] * trace
            advantage[t] = trace
        return _Batch(obs, actions, chosen, advantage, advantage + value), step, rate

    def _fair(self, step: EnvStep, duration: IntArray) -> FloatArray:
        """Costs [B, N] in proportion to what the agent has borne in the long run, as a share of the mean.

        Shares of a whole, as delays are, sum to the same whoever bears them: nothing else would tell turns from capture.
        """
        keep = (self._gamma ** (duration / len(self._env.agents)))[:, None]
        self._borne = keep * self._borne + (1.0 - keep) * step.cost / duration[:, None]
        standing = self._borne / self._borne.mean(1, keepdims=True).clip(min=1e-9)
        self._borne[step.truncated] = 1.0
        found: FloatArray = (step.cost * standing).astype(np.float32)
        return found

    def _minibatches(self, batch: _Batch) -> Iterator[_Batch]:
        flat = _Batch(batch.obs.flatten(0, 2), *(column.flatten() for column in batch[1:]))
        spread = flat.advantage.std().clamp(min=_SMALLEST_SPREAD)
        flat = flat._replace(advantage=(flat.advantage - flat.advantage.mean()) / spread)
        for _ in range(self._s.self_play_epochs):
            order = torch.randperm(len(flat.actions), generator=self._generator)
            for index in torch.split(order, self._s.self_play_batch_size):
                yield _Batch(*(column[index] for column in flat))

    def _loss(self, rows: _Batch) -> Tensor:
        log_prob = torch.log_softmax(self._apply(self._policy, rows.obs), -1)
        ratio = torch.exp(log_prob.gather(-1, rows.actions.unsqueeze(-1)).squeeze(-1) - rows.log_prob)
        clip = self._s.self_play_clip
        gain = torch.minimum(ratio * rows.advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * rows.advantage)
        value = self._apply(self._critic, rows.obs)[..., 0]
        return 0.5 * functional.mse_loss(value, rows.value_target) - gain.mean()

    def _apply(self, network: StackedMLP, obs: Tensor) -> Tensor:
        return stacked(network, obs.flatten(0, -2)[None])[0].reshape(*obs.shape[:-1], -1)
