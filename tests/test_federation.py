"""Federated rounds with clients that are wrong, late, dead or not asked, and all that clients send in a run."""

import dataclasses
import os
import pickle
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from test_fedmorl_algorithm import CHEAP, ENV, assert_equal, built, config

from rllib_wireless.algorithms.fedmorl import federation
from rllib_wireless.algorithms.fedmorl.client import ClientGroup, ClientUpdate
from rllib_wireless.algorithms.fedmorl.federation import ClientHost
from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL, FedMORLConfig
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.statistics import Statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights
from rllib_wireless.algorithms.training import _row
from rllib_wireless.data import load_dataset
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.data.store import client_folders
from rllib_wireless.errors import ConfigError, UserError

__all__ = ["config"]  # a fixture of theirs

T = TypeVar("T")
EIGHT = {"num_stations": 8}


class Faulty(ClientHost):
    """A host whose answers go through `change`; without an answer, the client is as good as dead."""

    change: Callable[[str, str, Any, Any], Any]

    def statistics(self) -> dict[str, Statistics]:
        return self._changed("statistics", super().statistics(), None)

    def train_model(
        self, weights: Weights, statistics: Statistics, round: int, clients: Sequence[str] | None = None
    ) -> dict[str, ClientUpdate]:
        return self._changed("train_model", super().train_model(weights, statistics, round, clients), weights)

    def improve_policies(self, weights: Weights, statistics: Statistics, iteration: int) -> dict[str, dict[str, float]]:
        return self._changed("improve_policies", super().improve_policies(weights, statistics, iteration), None)

    def _changed(self, method: str, answers: dict[str, T], given: Any) -> dict[str, T]:
        changed = {client: type(self).change(method, client, answer, given) for client, answer in answers.items()}
        return {client: answer for client, answer in changed.items() if answer is not None}


Faults = Callable[[Callable[[str, str, Any, Any], Any]], None]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Sets what becomes of every answer: a function of method, client, answer and the model that came in."""

    def set_faults(change: Callable[[str, str, Any, Any], Any]) -> None:
        monkeypatch.setattr(Faulty, "change", staticmethod(change), raising=False)
        monkeypatch.setattr(federation, "ClientHost", Faulty)

    return set_faults


def only(method: str, clients: Sequence[str], wrong: Callable[[Any], Any]) -> Callable[[str, str, Any, Any], Any]:
    """The fault of some clients at one method."""
    return lambda m, c, answer, given: wrong(answer) if m == method and c in clients else answer


def with_nan(update: ClientUpdate) -> ClientUpdate:
    name = next(iter(update.weights))
    return dataclasses.replace(update, weights={**update.weights, name: np.full_like(update.weights[name], np.nan)})


# ------------------------------------------------------------------------------------------------ five cases

STATIONS = ("station_0", "station_1", "station_2")


@pytest.mark.parametrize(
    ("wrong", "lost", "fails"),
    [
        ((), STATIONS, True),  # no results
        (STATIONS, (), True),  # only failures
        (STATIONS[:1], STATIONS[1:2], True),  # too few
        (STATIONS[:1], (), False),  # just enough
        ((), (), False),  # no failures
    ],
)
def test_a_round_needs_enough_valid_answers(
    config: FedMORLConfig, tmp_path: Path, faults: Faults, wrong: Sequence[str], lost: Sequence[str], fails: bool
) -> None:
    def change(method: str, client: str, answer: Any, given: Any) -> Any:
        if method != "train_model" or (client not in wrong and client not in lost):
            return answer
        return None if client in lost else with_nan(answer)

    faults(change)
    algo = built(config, tmp_path / "a", rounds=5, min_clients=2)
    first = algo.train()["federation"]
    before = algo.weights
    second = algo.train()["federation"]
    for number, report in enumerate((first, second), 1):
        assert report["round"] == number and report["asked"] == list(STATIONS)
        assert report["lost"] == list(lost) and sorted(report["refused"]) == sorted(wrong)
        assert all("is not finite" in why for why in report["refused"].values())
        assert ("failed" in report) == fails and report["clients"] == 3 - len(wrong) - len(lost)
    assert before is not None and algo.weights is not None
    model = sum(values.nbytes for values in before.values())
    assert second["bytes_up"] == (3 - len(lost)) * model and second["bytes_down"] > 3 * model  # statistics, too
    if fails:
        assert_equal(algo.weights, before)
        assert algo.losses == [] and algo.phase == "model"
        with pytest.raises(UserError, match=r"3 rounds in a row failed; in the last one . valid answers came, and 2"):
            algo.train()
    else:
        assert any((algo.weights[name] != before[name]).any() for name in before)
        assert np.isfinite(second["validation_loss"])
    algo.stop()


def test_a_refused_client_changes_nothing_for_the_others(config: FedMORLConfig, tmp_path: Path, faults: Faults) -> None:
    algos, reports = [], []
    for name, wrong in (("nan", with_nan), ("none", lambda update: None)):
        faults(only("train_model", ["station_1"], wrong))
        algos.append(built(config, tmp_path / name))
        reports.append(algos[-1].train()["federation"])
    assert list(reports[0]["refused"]) == reports[1]["lost"] == ["station_1"]
    assert_equal(algos[0].weights, algos[1].weights)


def test_wrong_statistics_are_refused_and_the_run_goes_on(
    config: FedMORLConfig, tmp_path: Path, faults: Faults
) -> None:
    faults(only("statistics", ["station_1"], lambda s: {**s, "rows": -s["rows"]}))
    algo = built(config, tmp_path / "a")
    algo.train()
    assert algo.statistics is not None
    everyone = [len(d) for d in client_rows(Path(algo.config.input_)).values()]
    assert 0 < algo.statistics["rows"][0] < sum(everyone) * 0.7
    faults(only("statistics", STATIONS, lambda s: {**s, "rows": s["rows"] * np.nan}))
    algo = built(config, tmp_path / "b", max_failed_rounds=2)
    report = algo.train()["federation"]
    assert report["failed"] == "only 0 clients' statistics are valid" and set(report["refused"]) == set(STATIONS)
    with pytest.raises(UserError, match=r"2 rounds in a row failed.*station_0: rows is not finite"):
        algo.train()


def test_figures_that_are_not_numbers_are_left_out(config: FedMORLConfig, tmp_path: Path, faults: Faults) -> None:
    nan = {"validation_loss": float("nan")}
    faults(only("train_model", ["station_1"], lambda u: dataclasses.replace(u, metrics={**u.metrics, **nan})))
    algo, clean = built(config, tmp_path / "a"), None
    report = algo.train()["federation"]
    assert np.isfinite(report["validation_loss"]) and report["clients"] == 3
    faults(lambda method, client, answer, given: answer)
    clean = built(config, tmp_path / "b")
    clean.train()
    assert_equal(algo.weights, clean.weights)


def test_a_policy_iteration_without_answers_is_done_again(
    config: FedMORLConfig, tmp_path: Path, faults: Faults
) -> None:
    algo = built(config, tmp_path / "a", rounds=1, policy_iterations=1)
    algo.train()
    host = algo.federation._local
    assert host is not None
    algo.federation._local = _Silenced(host)
    assert algo.train()["federation"]["failed"] == "no client answered"
    assert algo.policy_iteration == 0 and not algo.finished
    algo.federation._local = host
    assert algo.train()["federation"]["clients"] == 3
    assert algo.finished and algo.policy() is not None


class _Silenced(ClientHost):
    """A host that answers nothing."""

    def __init__(self, host: ClientHost) -> None:
        super().__init__(*host._arguments)

    def improve_policies(self, weights: Weights, statistics: Statistics, iteration: int) -> dict[str, dict[str, float]]:
        return {}


# ------------------------------------------------------------------------------------------------ participation


def test_as_many_as_said_are_asked_and_all_come_to_their_turn(config: FedMORLConfig, tmp_path: Path) -> None:
    algo = built(config, tmp_path, client_share=0.67)
    drawn = [algo.server.draw(number) for number in range(300)]
    assert {len(clients) for clients in drawn} == {2}
    counts = [sum(client in clients for clients in drawn) for client in STATIONS]
    assert sum(counts) == 600
    # Binomial(300, 2/3) has mean 200 and deviation 8.2.
    assert all(abs(count - 200) < 4 * 8.2 for count in counts)
    assert drawn == [algo.server.draw(number) for number in range(300)]


@pytest.mark.slow
def test_partial_participation_gives_equal_bits_for_any_number_of_actors(
    config: FedMORLConfig, tmp_path: Path, ray_session: None
) -> None:
    algos = [built(config, tmp_path / str(n), num_client_actors=n, client_share=0.67, rounds=3) for n in (0, 1, 2)]
    rows = [[_row(algo.train()) for _ in range(3)] for algo in algos]
    assert rows[0] == rows[1] == rows[2]
    assert [row["federation"]["clients"] for row in rows[0]] == [2, 2, 2]
    for algo in algos[1:]:
        assert_equal(algo.weights, algos[0].weights)
    for algo in algos:
        algo.stop()


def test_partial_participation_resumes_bit_for_bit(config: FedMORLConfig, tmp_path: Path) -> None:
    algo = built(config, tmp_path / "a", client_share=0.67, rounds=4)
    algo.train(), algo.train()
    algo.save_to_path(tmp_path / "checkpoint")
    again = FedMORL.from_checkpoint(tmp_path / "checkpoint")
    for _ in range(2):
        assert _row(algo.train()) == _row(again.train())
    assert_equal(algo.weights, again.weights)


def test_a_rule_that_needs_more_clients_than_are_asked_is_refused(config: FedMORLConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="n > 2 f \\+ 2, that is 5 clients, but there are 3"):
        built(config, tmp_path, aggregation="krum", num_byzantine=1)
    with pytest.raises(UserError, match="min_clients = 4, but there are 3 clients"):
        built(config, tmp_path, min_clients=4)


# ------------------------------------------------------------------------------------------------ FedProx, privacy


def test_fedprox_adds_the_gradient_of_the_squared_distance(csma_clients: Path, tmp_path: Path) -> None:
    mu, steps = 0.5, 5
    folder = {"station_0": csma_clients / "station_0"}
    small = {**CHEAP, "local_steps": steps, "proximal": mu}
    group = ClientGroup(folder, FedMORLSettings.parse(small), tmp_path, seed=0)
    statistics = group.statistics()["station_0"]
    start = _fresh(group, statistics)
    sent = group.train_model(start, statistics, 0)["station_0"].weights
    # The same with the term in the loss, differentiated by torch.
    model = group._model(start, statistics)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), lr=group.settings.model_lr)
    for index in group._minibatches("model", 0, steps, group.settings.model_batch_size):
        loss = torch.stack(list(model.loss(group._training.rows.take(index)).values())).sum()
        loss = loss + mu / 2 * sum((p - b).square().sum() for p, b in zip(model.parameters(), before, strict=True))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    for name, value in model.weights().items():
        np.testing.assert_allclose(sent[name], value, atol=2e-5)


def _fresh(group: ClientGroup, statistics: Statistics) -> Weights:
    from rllib_wireless.algorithms.fedmorl.world_model import WorldModel

    generator = torch.Generator().manual_seed(0)
    return WorldModel(group.layout, statistics, group.settings.model_hiddens, generator=generator).weights()


def test_fedprox_keeps_clients_near_the_global_model(config: FedMORLConfig, tmp_path: Path) -> None:
    drifts = [
        built(config, tmp_path / str(mu), proximal=mu).train()["federation"]["drift_mean"] for mu in (0.0, 1.0, 100.0)
    ]
    assert drifts[0] > drifts[1] > drifts[2]


def test_noise_is_repeatable_and_epsilon_counts_the_rounds_of_a_client(config: FedMORLConfig, tmp_path: Path) -> None:
    accounting = pytest.importorskip("dp_accounting")
    private = {"aggregation": "mean", "clip_norm": 1.0, "noise_multiplier": 2.0, "rounds": 4, "client_share": 0.67}
    a, b = built(config, tmp_path / "a", **private), built(config, tmp_path / "b", **private)
    reports = [a.train()["federation"] for _ in range(4)]
    assert [b.train()["federation"] for _ in range(4)] == reports
    assert_equal(a.weights, b.weights)
    taken = dict.fromkeys(STATIONS, 0)
    for report in reports:
        for client in report["asked"]:
            taken[client] += 1
        most = max(taken.values())
        assert report["epsilon"] == pytest.approx(accounting.get_epsilon_gaussian(2.0 / most**0.5, 1e-3))
    a.save_to_path(tmp_path / "checkpoint")
    assert FedMORL.from_checkpoint(tmp_path / "checkpoint").server.rounds_of == taken


@pytest.mark.parametrize("wrong", [{"aggregation": "fedavg", "clip_norm": 1.0}, {"aggregation": "mean"}])
def test_noise_needs_equal_weights_and_a_clip_norm(
    config: FedMORLConfig, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="needs a clip_norm and aggregation = 'mean'"):
        built(config, tmp_path, noise_multiplier=1.0, **wrong)


# ------------------------------------------------------------------------------------------------ a poisoned client


@pytest.fixture(scope="module")
def eight_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "eight"
    collect("channel_access", EIGHT, [Behaviour("csma_ca")], 6_000, out, num_envs=8, split="agents")
    return out


def poisoned(method: str, client: str, update: Any, given: Any) -> Any:
    """Ten times the step of an honest client, the wrong way."""
    if method != "train_model" or client != "station_3":
        return update
    turned = {
        name: (given[name] - 10 * (value - given[name])).astype(np.float32) for name, value in update.weights.items()
    }
    return dataclasses.replace(update, weights=turned)


def test_one_poisoned_client_in_eight_breaks_fedavg_and_no_robust_rule(
    eight_clients: Path, tmp_path: Path, faults: Faults
) -> None:
    config = FedMORLConfig().environment("channel_access", env_config=EIGHT).offline_data(input_=eight_clients)
    config.federation(rounds=6, tolerance=0.0, policy_iterations=1).training(**CHEAP)

    def held_out(how: str, attack: bool, **settings: Any) -> tuple[float, list[Any]]:
        faults(poisoned if attack else lambda method, client, answer, given: answer)
        algo = built(config, tmp_path / f"{how}{attack}", aggregation=how, **settings)
        reports = [algo.train()["federation"] for _ in range(6)]
        return reports[-1]["validation_loss"], [report["outvoted"] for report in reports]

    clean, _ = held_out("fedavg", False)
    broken, _ = held_out("fedavg", True)
    assert broken > clean + 2.0
    for how in ("median", "trimmed_mean", "krum"):
        loss, named = held_out(how, True, num_byzantine=1)
        assert loss < clean + 0.3 * (broken - clean)
        assert all("station_3" in clients for clients in named)


# ------------------------------------------------------------------------------------------------ actors


class Hanging(ClientHost):
    """A host in which station_1 hangs in round 1 until a file is there."""

    def train_model(
        self, weights: Weights, statistics: Statistics, round: int, clients: Sequence[str] | None = None
    ) -> dict[str, ClientUpdate]:
        folders, _, state_dir, _ = self._arguments
        if "station_1" in folders and round == 1:
            while not (state_dir.parent / "go on").exists():
                time.sleep(0.1)
        return super().train_model(weights, statistics, round, clients)


@pytest.mark.slow
def test_a_hanging_client_is_not_asked_until_it_has_answered(
    config: FedMORLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    monkeypatch.setattr(federation, "ClientHost", Hanging)
    out = tmp_path / "run"
    algo = built(config, out, rounds=30, num_client_actors=2)
    out.mkdir(exist_ok=True)
    assert algo.train()["federation"]["lost"] == []
    algo.federation._timeout_s = 5.0
    assert algo.train()["federation"]["lost"] == ["station_0", "station_1"]  # they share a process; the round waited
    algo.federation._timeout_s = 600.0  # a round that asked it again would end the test by its time limit
    for _ in range(2):
        assert algo.train()["federation"]["lost"] == ["station_0", "station_1"]
    (out / "go on").touch()
    for _ in range(26):
        if algo.train()["federation"]["clients"] == 3:
            break
        time.sleep(0.2)
    else:
        pytest.fail("the client never came back")
    algo.stop()


class Tells(ClientHost):
    """A host that writes down its process."""

    @property
    def group(self) -> Any:
        folders, _, state_dir, _ = self._arguments
        state_dir.parent.mkdir(exist_ok=True)
        (state_dir.parent / f"pid of {next(iter(folders))}").write_text(str(os.getpid()))
        return super().group


@pytest.mark.slow
def test_all_clients_dead_at_once_come_back(
    config: FedMORLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    monkeypatch.setattr(federation, "ClientHost", Tells)
    algo = built(config, tmp_path / "run", rounds=10, num_client_actors=2, client_restore_s=0.0, max_failed_rounds=1000)
    algo.train()
    before = algo.weights
    pids = [int(path.read_text()) for path in (tmp_path / "run").glob("pid of *")]
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    report = algo.train()["federation"]
    assert report["failed"] == "0 valid answers came, and 1 are needed" and report["lost"] == list(STATIONS)
    assert_equal(algo.weights, before)
    algo.federation._restore_s = 200.0  # on a busy machine processes take long to start
    report = algo.train()["federation"]
    assert report["clients"] == 3 and report["round"] == 3 and algo.server.failed == 0
    algo.stop()


# ------------------------------------------------------------------------------------------------ messages


class Recorded(ClientHost):
    """A host that writes down all it answers, in its own process."""

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer = super().apply(func, *args, **kwargs)
        folder = self._arguments[2].parent / "messages"
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / f"{number:03}-{os.getpid()}").write_bytes(pickle.dumps((sorted(kwargs), answer)))
        return answer


def client_rows(path: Path) -> dict[str, np.ndarray]:
    """Each client's observations, [T, D]."""
    return {client: load_dataset(folder).rows[client]["obs"] for client, folder in client_folders(path).items()}


def contents(value: Any) -> list[Any]:
    """Every leaf of a message."""
    if isinstance(value, ClientUpdate):
        return contents(vars(value))
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in contents(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in contents(item)]
    return [value]


def messages_of(config: FedMORLConfig, out: Path) -> list[Any]:
    algo = built(config, out, num_client_actors=1, gather_policies=False)
    while not algo.finished:
        algo.train()
    algo.stop()
    return [pickle.loads(path.read_bytes())[1] for path in sorted((out / "messages").iterdir())]


@pytest.mark.slow
def test_all_that_actors_send_in_a_run_is_parameters_sums_and_figures(
    config: FedMORLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    """`apply` is the one method that the pool calls, so nothing reaches the server beside it."""
    monkeypatch.setattr(federation, "ClientHost", Recorded)
    sizes = {}
    for steps in (4_000, 12_000):
        data = tmp_path / f"data_{steps}"
        collect("channel_access", ENV, [Behaviour("csma_ca")], steps, data, num_envs=4, split="agents")
        messages = messages_of(config.copy(copy_frozen=False).offline_data(input_=data), tmp_path / f"run_{steps}")
        rows = {row.tobytes() for obs in client_rows(data).values() for row in obs if np.unique(row).size > 2}
        width = next(iter(client_rows(data).values())).shape[1]
        assert len(rows) > 100
        updates = [m for m in messages if isinstance(m, dict) and any(isinstance(a, ClientUpdate) for a in m.values())]
        assert len(updates) == 2  # rounds
        for message in messages:
            for leaf in contents(message):
                assert isinstance(leaf, np.ndarray | float | int | str)
                if not isinstance(leaf, np.ndarray):
                    assert not isinstance(leaf, str) or leaf == "pong"
                    continue
                assert leaf.dtype in (np.float32, np.float64)
                for dtype in (np.float32,):
                    values = leaf.ravel().astype(dtype)
                    windows = (values[i : i + width].tobytes() for i in range(len(values) - width + 1))
                    assert rows.isdisjoint(windows)
        sizes[steps] = sorted(
            sum(leaf.nbytes for leaf in contents(message) if isinstance(leaf, np.ndarray)) for message in messages
        )
    # Outcomes that only the larger data hold would widen the model; here both see the same ones.
    assert [s for s in sizes[4_000] if s] == [s for s in sizes[12_000] if s]
