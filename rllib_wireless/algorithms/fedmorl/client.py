"""FedMORL's clients: each trains the world model on its own rows and learns its own policy in the global model.

The clients of one process are trained as one stack. What a client computes does not depend on who shares its process, and is
a function of its data, of what it is sent and of the policy it had: it draws from generators of its own, keyed by (seed,
client, purpose, number of the round), so that no random state needs to be saved.
"""

import copy
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows
from rllib_wireless.algorithms.fedmorl.open_loop import open_loop_errors
from rllib_wireless.algorithms.fedmorl.policy_learning import PolicyLearner
from rllib_wireless.algorithms.fedmorl.policy_state import policy_of, with_policy
from rllib_wireless.algorithms.fedmorl.self_play import SelfPlay
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.stack import Stack
from rllib_wireless.algorithms.fedmorl.statistics import Statistics, client_statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights, WorldModel
from rllib_wireless.data.store import Dataset, load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.errors import DataError
from rllib_wireless.policies import NetworkPolicy, StackedMLP

_STATE = "policy.safetensors"
_KEPT_STATES = 2  # the newest, and the one before, which a driver that was killed may ask to start from again


@dataclass(frozen=True)
class ClientUpdate:
    """What a client sends after a round: nothing else leaves it.

    Args:
        weights: Parameters of its world model.
        num_samples: Transitions that it was trained on.
        metrics: Losses of the round; `validation_loss` is that of the global model that came in, on held-out rows.
    """

    weights: Weights
    num_samples: int
    metrics: dict[str, float]


class ClientGroup:
    """Clients that share a process.

    Args:
        folders: Each client's own data.
        settings: Hyper-parameters.
        state_dir: Where each client keeps its policies, in `<client>/<iteration>/`.
        seed: Seed of the run.

    Raises:
        DataError: Where a client's data cannot be used.
    """

    def __init__(self, folders: Mapping[str, Path], settings: FedMORLSettings, state_dir: Path, seed: int) -> None:
        self.clients = tuple(folders)
        self.settings, self._state_dir, self._seed = settings, state_dir, seed
        datasets = [load_dataset(folder) for folder in folders.values()]
        self._environment = environment = datasets[0].card.environment
        self.layout = Layout.of(make_env(environment.name, **environment.config))
        self.gamma = environment.gamma if settings.gamma is None else settings.gamma
        rows = [_rows(data, settings.rows_of(client)) for client, data in zip(self.clients, datasets, strict=True)]
        if settings.discount == "decision":
            rows = [r._replace(duration=torch.ones_like(r.duration)) for r in rows]
        held_out = [
            _held_out(len(r.actions), settings.validation_share, data) for r, data in zip(rows, datasets, strict=True)
        ]
        self._training = Stack([r.slice(0, len(r.actions) - h) for r, h in zip(rows, held_out, strict=True)])
        self._validation = [r.slice(len(r.actions) - h, len(r.actions)) for r, h in zip(rows, held_out, strict=True)]
        self._linked = [
            _linked(data, settings.rows_of(client))[-h:]
            for client, data, h in zip(self.clients, datasets, held_out, strict=True)
        ]
        self._learner: tuple[int, PolicyLearner] | None = None

    def statistics(self) -> dict[str, Statistics]:
        """Counts, sums and sums of squares of each client's training rows."""
        return {client: client_statistics(self._training.of(k), self.layout) for k, client in enumerate(self.clients)}

    def train_model(
        self, weights: Weights, statistics: Statistics, round: int, clients: Sequence[str] | None = None
    ) -> dict[str, ClientUpdate]:
        """Train the global model on the rows of each of some clients.

        Args:
            weights: The global model.
            statistics: Of all clients' rows together.
            round: Number of the round, from 0.
            clients: Which of them; all if None.
        """
        if clients is not None and tuple(clients) != self.clients:
            chosen = self._only(clients)
            return chosen.train_model(weights, statistics, round) if chosen.clients else {}
        s = self.settings
        validation = self._validate(weights, statistics)
        model = self._model(weights, statistics, len(self.clients))
        start = [parameter.detach().clone() for parameter in model.parameters()] if s.proximal > 0.0 else []
        optimizer = torch.optim.Adam(model.parameters(), lr=s.model_lr * s.model_lr_decay**round)
        total = torch.zeros(len(self.clients))
        for index in self._minibatches("model", round, s.local_steps, s.model_batch_size * s.ensemble_size):
            loss = torch.stack(list(model.loss(self._training.rows.take(index)).values())).sum(0)
            optimizer.zero_grad()
            loss.sum().backward()  # type: ignore[no-untyped-call]
            if s.proximal > 0.0:
                for parameter, before in zip(model.parameters(), start, strict=True):
                    assert parameter.grad is not None
                    parameter.grad.add_(parameter.detach() - before, alpha=s.proximal)
            optimizer.step()
            total += loss.detach().reshape(len(total), -1).mean(1)
        return {
            client: ClientUpdate(
                model.weights(k),
                int(self._training.sizes[k]),
                {"training_loss": float(total[k] / s.local_steps), **validation[client]},
            )
            for k, client in enumerate(self.clients)
        }

    def improve_policies(self, weights: Weights, statistics: Statistics, iteration: int) -> dict[str, dict[str, float]]:
        """One policy iteration of each client in the global model.

        Each client goes on from its newest policy before `iteration`, and writes its new one as a whole or not at all.

        Args:
            weights: The global model.
            statistics: Of all clients' rows together.
            iteration: Number of the iteration, from 1.

        Returns:
            Losses by client.
        """
        learner = self._policy_learner(weights, statistics)
        states = [self._load(client, iteration - 1) for client in self.clients]
        generators = {
            purpose: [self._generator(client, purpose, number) for client in self.clients]
            for purpose, number in (("clone", 0), ("plan", 0), ("policy", iteration))
        }
        new_states, metrics = learner.improve(states, **generators)
        for client, state in zip(self.clients, new_states, strict=True):
            self._save(client, iteration, state)
        return dict(zip(self.clients, metrics, strict=True))

    def policies(self, iteration: int) -> dict[str, NetworkPolicy]:
        """A copy of each client's newest policy up to an iteration; for evaluation and export in a simulation.

        Raises:
            DataError: Where a client has none.
        """
        found = {}
        for client in self.clients:
            state = self._load(client, iteration)
            if state is None:
                raise DataError("the client has learned no policy yet", self._state_dir / client)
            found[client] = policy_of(state, client.split("/")[-1], self.layout)
        return found

    def adopt_policy(self, policy: NetworkPolicy, iteration: int) -> dict[str, bool]:
        """Give each client that took part in an iteration this policy in place of its own; whether it did, by client."""
        states = {client: self._load(client, iteration) for client in self.clients if iteration in self._saved(client)}
        for client, state in states.items():
            assert state is not None
            self._save(client, iteration, with_policy(state, policy, self.layout))
        return {client: client in states for client in self.clients}

    def _only(self, clients: Sequence[str]) -> "ClientGroup":
        """A view of some of the clients, in the order of all."""
        chosen = [k for k, client in enumerate(self.clients) if client in clients]
        part = copy.copy(self)
        part.clients = tuple(self.clients[k] for k in chosen)
        if chosen:
            part._training = Stack([self._training.of(k) for k in chosen])
        part._validation = [self._validation[k] for k in chosen]
        part._linked = [self._linked[k] for k in chosen]
        return part

    def _validate(self, weights: Weights, statistics: Statistics) -> dict[str, dict[str, float]]:
        """Losses of the global model on each client's held-out rows, and its errors after several decisions."""
        model = self._model(weights, statistics)
        metrics = {}
        for client, rows, linked in zip(self.clients, self._validation, self._linked, strict=True):
            with torch.no_grad():
                terms = model.negative_log_likelihood(Rows(*(column[None] for column in rows)))
            named = {f"validation_{name}": float(term) for name, term in terms.items()}
            errors = open_loop_errors(
                model,
                rows,
                linked,
                horizon=self.settings.rollout_horizon,
                gamma=self.gamma,
                generator=self._generator(client, "open loop", 0),  # the same in each round, so that rounds compare
            )
            metrics[client] = {**named, "validation_loss": sum(named.values()), **errors}
        return metrics

    def _model(self, weights: Weights, statistics: Statistics, num_clients: int = 1) -> WorldModel:
        """The global model, once for each of some clients."""
        s = self.settings
        model = WorldModel(self.layout, statistics, s.model_hiddens, num_clients, ensemble_size=s.ensemble_size)
        model.load_weights(weights)
        return model

    def _policy_learner(self, weights: Weights, statistics: Statistics) -> PolicyLearner:
        """The learner in this global model; it is kept, since what it computes from the model is the same every time."""
        key = zlib.crc32(b"".join(w.tobytes() for w in weights.values()))
        if self._learner is None or self._learner[0] != key:
            model = self._model(weights, statistics)
            self._learner = (
                key,
                PolicyLearner(model, self._training, self.settings, self.gamma, partial(self._self_play, model)),
            )
        return self._learner[1]

    def _self_play(self, model: WorldModel) -> tuple[StackedMLP, dict[str, float]]:
        s, environment = self.settings, self._environment
        config = {**environment.config, "episode_slots": s.self_play_episode}
        games = make_env(environment.name, s.self_play_copies, **config)
        return SelfPlay(model, games, s, self.gamma, self._seed).learn()

    def _minibatches(self, purpose: str, number: int, steps: int, batch_size: int) -> Iterator[Tensor]:
        """Indices of random rows, `steps` times [K, batch_size]."""
        generators = [self._generator(client, purpose, number) for client in self.clients]
        return self._training.minibatches(generators, steps, batch_size)

    def _generator(self, client: str, purpose: str, number: int) -> torch.Generator:
        key = f"{self._seed}/{client}/{purpose}/{number}".encode()
        return torch.Generator().manual_seed(zlib.crc32(key) + (zlib.crc32(key[::-1]) << 32 >> 1))

    def _load(self, client: str, newest: int) -> dict[str, Tensor] | None:
        """A client's newest state up to an iteration."""
        numbers = [n for n in self._saved(client) if n <= newest]
        return load_file(self._state_dir / client / str(max(numbers)) / _STATE) if numbers else None

    def _save(self, client: str, iteration: int, state: dict[str, Tensor]) -> None:
        folder = self._state_dir / client
        unfinished = folder / f".{iteration}.{os.getpid()}"
        unfinished.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, unfinished / _STATE)
        shutil.rmtree(folder / str(iteration), ignore_errors=True)
        unfinished.rename(folder / str(iteration))
        for number in self._saved(client):
            if number <= iteration - _KEPT_STATES or number > iteration:
                shutil.rmtree(folder / str(number), ignore_errors=True)

    def _saved(self, client: str) -> list[int]:
        return [int(p.name) for p in (self._state_dir / client).glob("[0-9]*")]


def load_rows(folder: Path) -> Rows:
    """The decisions [T, ...] in a client's folder."""
    return _rows(load_dataset(folder), None)


def _rows(data: Dataset, most: int | None) -> Rows:
    """A client's decisions as tensors [T, ...], the first `most` of them."""
    columns = data.rows[data.agents[0]]
    taken = columns["acting"] if "acting" in columns else slice(None)
    known = {"costs": np.zeros_like(columns["rewards"]), **columns}
    return Rows(*(torch.tensor(known[name][taken][:most]) for name in Rows._fields))


def _linked(data: Dataset, most: int | None) -> Tensor:
    """Whether the row after each of a client's first `most` decisions is its next one, [T] bool; the last has none after it."""
    columns = data.rows[data.agents[0]]
    taken = np.flatnonzero(columns["acting"])[:most] if "acting" in columns else slice(most)
    same = [columns[name][taken] for name in ("eps_id", "stream") if name in columns]
    linked = ~columns["terminateds"][taken] & ~columns["truncateds"][taken]
    linked[:-1] &= columns["new_t"][taken][:-1] == columns["t"][taken][1:]
    for values in same:
        linked[:-1] &= values[:-1] == values[1:]
    linked[-1:] = False
    return torch.from_numpy(linked)


def _held_out(rows: int, share: float, data: Dataset) -> int:
    """Rows at the end on which the model is judged."""
    if rows < 2:
        raise DataError(f"it holds {rows} transitions, too few to train and judge a model", data.path)
    return min(max(round(rows * share), 1), rows - 1)
