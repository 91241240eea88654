"""Estimates from logs against games whose values are solved exactly."""

import dataclasses
import importlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import toy_env
import yaml
from table_game import END, GAMES, SPEC, TableConfig, TableGame, play

from rllib_wireless.algorithms.fedmorl.federated_settings import FederatedSettings
from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows
from rllib_wireless.algorithms.fedmorl.statistics import client_statistics
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.cli import run
from rllib_wireless.data import Behaviour, collect, load_dataset
from rllib_wireless.envs import registry
from rllib_wireless.envs.base import FloatArray, ObsField, observation_space
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import UserError
from rllib_wireless.policies import (
    FactoredNetworkPolicy,
    JointNetworkPolicy,
    NetworkPolicy,
    PortablePolicy,
    StackedMLP,
    TablePolicy,
    save_policy,
)
from rllib_wireless.policies.trees import Forests, TreesPolicy
from rllib_wireless.tuning import estimate
from rllib_wireless.tuning.offline.log import as_step, decide, read_logs

Floats = npt.NDArray[np.float64]


class Measured(TableGame):
    """The game with a measured value beside the state, as world models need one."""

    name = "measured_game"

    def __init__(self, config: TableConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        self.obs_fields = (*self.obs_fields, ObsField("level", "continuous"))
        self.observation_space = observation_space(self.obs_fields)

    def _obs(self) -> FloatArray:
        seen = super()._obs()
        return np.concatenate([seen, 0.5 * seen[..., :1]], -1)


@pytest.fixture(scope="module", autouse=True)
def games_by_name() -> Iterator[None]:
    """The environments of these tests, for as long as they run."""
    with pytest.MonkeyPatch.context() as patch:
        for spec in (SPEC, toy_env.SPEC, dataclasses.replace(SPEC, env=Measured)):
            patch.setitem(registry._SPECS, spec.env.name, spec)
        yield


QUICK: dict[str, Any] = {"steps": 200, "hiddens": (32,), "lr": 1e-2}


def some_policy(game: str, seed: int, epsilon: float = 0.0) -> NetworkPolicy:
    """Acts by the state, each agent with probabilities of its own."""
    states, actions, _ = GAMES[game].reward.shape
    network = StackedMLP(2, (states, actions), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
    return NetworkPolicy(network, ("row", "column"), epsilon=epsilon)


def own_laws(game: str, policy: NetworkPolicy) -> Floats:
    """Probabilities of each agent's actions, [2, S, A], by a softmax of our own."""
    table = GAMES[game]
    states = len(table.reward)
    logits = policy.logits(np.repeat(np.eye(states, dtype=np.float32)[:, None], 2, 1)).astype(np.float64)
    weights = np.exp(logits) * table.legal
    own = weights / weights.sum(-1, keepdims=True)
    uniform = table.legal / table.legal.sum(-1, keepdims=True)
    return np.moveaxis((1.0 - policy.epsilon) * own + policy.epsilon * uniform, 1, 0)


def exact_values(game: str, row: Floats, column: Floats, gamma: float) -> Floats:
    """V [S] where both act by such laws [S, A], by solving V = R + P V."""
    table, law = GAMES[game], np.einsum("sa,sb->sab", row, column)
    states = len(table.reward)
    moves, discount = np.zeros((states, states)), law * gamma**table.duration
    for s in range(states):
        for after in range(states):
            moves[s, after] = discount[s][table.successor[s] == after].sum()
    return np.linalg.solve(np.eye(states) - moves, (law * table.reward).sum((1, 2)))


def of_starts(game: str, values: Floats, data: Path, gamma: float) -> float:
    """From the first state; where games never end per unit of time, over the logged states."""
    if (GAMES[game].successor == END).any():
        return float(values[0])
    state = load_dataset(data).rows["row"]["obs"].argmax(-1)
    return float((1.0 - gamma) * values[state].mean())


def truth(game: str, policy: NetworkPolicy, data: Path, gamma: float = 0.9) -> float:
    """What a team's estimate should say."""
    row, column = own_laws(game, policy)
    return of_starts(game, exact_values(game, row, column, gamma), data, gamma)


def truth_alone(game: str, policy: NetworkPolicy, data: Path, gamma: float = 0.9) -> float:
    """What estimates of each agent alone should say: the other one goes on at random, as in the log."""
    legal = np.moveaxis(GAMES[game].legal, 1, 0)
    uniform = legal / legal.sum(-1, keepdims=True)
    row, column = own_laws(game, policy)
    values = [exact_values(game, row, uniform[1], gamma), exact_values(game, uniform[0], column, gamma)]
    return of_starts(game, np.mean(values, axis=0), data, gamma)


Log = Callable[[str], Path]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """6,000 steps of uniform play, collected once a game."""
    made: dict[str, Path] = {}

    def find(game: str) -> Path:
        if game not in made:
            made[game] = tmp_path_factory.mktemp("log") / game
            play(game, 6000, made[game])
        return made[game]

    return find


@pytest.mark.parametrize("game", ["climbing", "two_step", "additive_chain", "slow", "masked", "endless"])
def test_fitted_q_evaluation_finds_the_value_of_a_joint_policy(game: str, log: Log) -> None:
    """Within 2 % of the spread of joint rewards: rewards that do not add up, durations, masks, ends, and time limits."""
    policy = some_policy(game, seed=1)
    found = estimate(policy, log(game), **QUICK)
    assert found.value == pytest.approx(truth(game, policy, log(game)), abs=0.02 * np.ptp(GAMES[game].reward)), found
    assert found.ci95[0] < found.value < found.ci95[1] and found.n == 6000
    assert found.unit == ("reward per step" if game in ("additive_chain", "slow", "endless") else "discounted return")


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.97])
def test_the_discount_is_that_of_time(gamma: float, log: Log) -> None:
    policy = some_policy("slow", seed=2)
    found = estimate(policy, log("slow"), gamma=gamma, **QUICK)
    wanted = truth("slow", policy, log("slow"), gamma)
    without_time = (1.0 - gamma) * np.mean(GAMES["slow"].reward)
    assert found.value == pytest.approx(wanted, abs=0.03)
    assert gamma == 0.0 or abs(found.value - without_time) > 0.03


def test_critics_of_a_sum_and_of_agents_alone_find_what_they_can(log: Log) -> None:
    """A sum fits what adds up; agents alone find what each would earn if the other went on as in the log."""
    policy = some_policy("additive_chain", seed=3)
    found = estimate(policy, log("additive_chain"), critic="sum", **QUICK)
    assert found.value == pytest.approx(truth("additive_chain", policy, log("additive_chain")), abs=0.1)

    best = some_policy("climbing", seed=3)  # both choose 0, which is the worst if one does
    with torch.no_grad():
        best.network.biases[0][..., 0] += 4.0
    alone = estimate(best, log("climbing"), view="agents", **QUICK)
    assert alone.value == pytest.approx(truth_alone("climbing", best, log("climbing")), abs=0.8)
    assert truth("climbing", best, log("climbing")) - alone.value > 5.0
    assert "each agent is judged alone" in alone.notes[-1]


@pytest.mark.parametrize("game", ["climbing", "two_step", "masked"])
def test_importance_sampling_is_right_within_its_interval(game: str, log: Log) -> None:
    policy = some_policy(game, seed=4)
    found = estimate(policy, log(game), method="importance")
    wanted = truth(game, policy, log(game))
    assert found.ci95[0] < wanted < found.ci95[1], (found, wanted)
    assert found.ci95[1] - found.ci95[0] < 0.2 * np.ptp(GAMES[game].reward)
    assert "effective trajectories" in found.notes[0]


def test_importance_sampling_of_what_never_ends_looks_at_windows(log: Log) -> None:
    """With a discount of .3 nothing is left after ten decisions."""
    policy = some_policy("slow", seed=5)
    found = estimate(policy, log("slow"), method="importance", gamma=0.3, horizon=8)
    wanted = truth("slow", policy, log("slow"), 0.3)
    assert found.ci95[0] < wanted < found.ci95[1] and found.ci95[1] - found.ci95[0] < 0.5, (found, wanted)


def test_the_behaviour_itself_has_full_weight_and_a_stranger_is_warned_of(log: Log, tmp_path: Path) -> None:
    play("additive_chain", 2000, tmp_path / "own", some_policy("additive_chain", seed=6))
    same = estimate(some_policy("additive_chain", seed=6), tmp_path / "own", method="importance")
    assert same.notes[0].startswith("200.0 effective trajectories of 200.0")
    stranger = some_policy("additive_chain", seed=7)
    with torch.no_grad():
        stranger.network.biases[0][:] = torch.tensor([-9.0, 0.0, 9.0])
    other = estimate(stranger, tmp_path / "own", method="importance", horizon=20)
    assert any("fewer than 20 effective" in note for note in other.notes), other


def test_a_behaviour_that_was_not_recorded_is_fitted_where_that_is_asked_for(tmp_path: Path) -> None:
    behaviour = some_policy("two_step", seed=8)
    play("two_step", 6000, tmp_path / "exact", behaviour)
    with pytest.MonkeyPatch.context() as patch:
        module = importlib.import_module("rllib_wireless.data.collect")  # of whose name the package has a function
        patch.setattr(module._Run, "knows_action_prob", lambda self: False)
        play("two_step", 6000, tmp_path / "absent", behaviour)
    policy = some_policy("two_step", seed=9)
    with pytest.raises(UserError, match="behaviour=fit"):
        estimate(policy, tmp_path / "absent", method="importance")
    fitted = estimate(policy, tmp_path / "absent", method="importance", behaviour="fit")
    exact = estimate(policy, tmp_path / "exact", method="importance")
    assert fitted.value == pytest.approx(exact.value, abs=0.3)
    assert fitted.ci95[0] < truth("two_step", policy, tmp_path / "exact") < fitted.ci95[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log of the measured additive chain, and a FedMORL run whose world model was fitted here, to both agents' rows."""
    game, data, out = "additive_chain", tmp_path_factory.mktemp("model") / "log", tmp_path_factory.mktemp("run")
    behaviour = Behaviour(NetworkPolicy(StackedMLP(2, (3, 3)), ("row", "column"), epsilon=1.0))
    collect("measured_game", {"game": game}, [behaviour], 6000, data, num_envs=8)
    env = Measured(TableConfig(game=game))
    layout, settings = Layout.of(env), FederatedSettings.parse({"model_hiddens": (32, 32)})
    columns = load_dataset(data).rows.values()
    names = ("obs", "actions", "rewards", "costs", "new_obs", "duration", "terminateds", "action_mask")
    rows = Rows(
        *(
            torch.from_numpy(np.concatenate([own[n] if n in own else np.zeros_like(own["rewards"]) for own in columns]))
            for n in names
        )
    )
    statistics = client_statistics(rows, layout)
    learned = WorldModel(layout, statistics, settings.model_hiddens, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(learned.parameters(), lr=5e-3)
    random = torch.Generator().manual_seed(0)
    for _ in range(300):
        index = torch.randint(len(rows.obs), (1, 512), generator=random)
        loss = sum(term.sum() for term in learned.loss(Rows(*(column[index] for column in rows))).values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    (out / "checkpoint/1").mkdir(parents=True)
    run_file = {"algorithm": "fedmorl", "env": "measured_game", "env_config": {"game": game}, "data": None, "seed": 0}
    (out / "run.yaml").write_text(yaml.safe_dump({**run_file, "settings": {"model_hiddens": [32, 32]}}))
    state = {"fedmorl": {"weights": learned.weights(), "statistics": statistics}}
    (out / "checkpoint/1/algorithm_state.pkl").write_bytes(pickle.dumps(state))
    return data, out


def test_the_world_model_tells_what_each_agent_alone_would_earn(model: tuple[Path, Path]) -> None:
    data, folder = model
    policy = some_policy("additive_chain", seed=10)
    wide = NetworkPolicy(StackedMLP(2, (3, 3)), policy.agents)  # which makes nothing of the measured value
    with torch.no_grad():
        wide.network.weights[0][:] = torch.cat([policy.network.weights[0], torch.zeros(2, 1, 3)], 1)
        wide.network.biases[0][:] = policy.network.biases[0]
    found = estimate(wide, data, method="model", model=str(folder), view="agents", horizon=60)
    row, column = own_laws("additive_chain", policy)
    uniform = np.full((2, 3), 1 / 3)
    values = [exact_values("additive_chain", *laws) for laws in ((row, uniform, 0.9), (uniform, column, 0.9))]
    state = load_dataset(data).rows["row"]["obs"][:, :2].argmax(-1)
    assert found.value == pytest.approx(0.1 * np.mean(values, axis=0)[state].mean(), abs=0.15), found
    with pytest.raises(UserError, match="view=agents"):
        estimate(wide, data, method="model", model=str(folder))
    with pytest.raises(UserError, match="model=FOLDER"):
        estimate(wide, data, method="model")


class Bomb:
    def __reduce__(self) -> Any:
        return print, ("boom",)


def test_a_checkpoint_that_would_run_code_is_refused(
    model: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = model
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run/checkpoint/1/algorithm_state.pkl").write_bytes(pickle.dumps({"fedmorl": Bomb()}))
    policy = NetworkPolicy(StackedMLP(2, (3, 3)), ("row", "column"))
    with pytest.raises(UserError, match="print"):
        estimate(policy, data, method="model", model=str(tmp_path / "run"), view="agents")
    assert "boom" not in capsys.readouterr().out


def kinds() -> list[PortablePolicy]:
    """A policy of each kind that has laws of single agents, for two agents, 3 observed values and 4 actions."""
    agents, generator = ("a", "b"), torch.Generator().manual_seed(0)
    table = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 8))
    forests = Forests(
        np.arange(8).reshape(2, 4, 1),
        np.full(8, -1, np.int32),
        np.zeros(8, np.float32),
        np.full(8, -1, np.int64),
        np.arange(8, dtype=np.float32),
    )
    return [
        NetworkPolicy(StackedMLP(2, (3, 4), generator), agents, epsilon=0.2),
        NetworkPolicy(StackedMLP(2, (3, 4), generator), agents, mode="greedy", epsilon=0.1),
        TablePolicy(table, [np.array([0.0, 1.0])] * 3, agents),
        TreesPolicy(forests, 3, agents, epsilon=0.3),
        FactoredNetworkPolicy(StackedMLP(1, (6, 8), generator), agents, 4),
    ]


@pytest.mark.parametrize("policy", kinds(), ids=lambda p: f"{p.kind}-{type(p).__name__}")
def test_probabilities_are_those_of_what_is_done(policy: PortablePolicy) -> None:
    """They sum to 1 over legal actions, and equal shares of 20,000 draws within four standard errors."""
    random = np.random.default_rng(1)
    obs, mask = random.random((1, 2, 3), np.float32), np.array([[[1, 1, 0, 1], [1, 0, 1, 1]]], np.bool_)
    step = as_step(np.repeat(obs, 20_000, 0), np.repeat(mask, 20_000, 0))
    law = policy.probabilities(step)[0].astype(np.float64)
    np.testing.assert_allclose(law.sum(-1), 1.0, rtol=1e-5)
    assert (law[~mask[0]] == 0.0).all()
    drawn = policy.act(step, StepRandom(0, 20_000, 2))
    shares = np.stack([np.bincount(drawn[:, i], minlength=4) / 20_000 for i in range(2)])
    assert (abs(shares - law) <= 4.0 * np.sqrt(law * (1.0 - law) / 20_000) + 1e-9).all()


def test_a_policy_is_never_taken_to_do_what_is_forbidden(log: Log) -> None:
    rows = read_logs(log("masked"), "auto", None).parts[0]
    for seed in range(3):
        actions = decide(some_policy("masked", seed), rows.obs, rows.action_mask, seed)
        assert np.take_along_axis(rows.action_mask, actions[..., None], -1).all()


def test_a_central_policy_has_a_value_and_no_laws_of_agents(log: Log) -> None:
    """It may act on what others see: in the climbing game both choose 0 for certain."""
    network = StackedMLP(1, (2, 9))
    with torch.no_grad():
        network.weights[0][:] = 0.0
        network.biases[0][:] = 0.0
        network.biases[0][..., 0] = 50.0
    policy = JointNetworkPolicy(network, ("row", "column"), 3)
    assert estimate(policy, log("climbing"), **QUICK).value == pytest.approx(11.0, abs=1.0)
    with pytest.raises(UserError, match="together"):
        estimate(policy, log("climbing"), method="importance")


def test_agents_that_decide_at_different_steps_are_judged_alone_unless_every_step_is_a_row(tmp_path: Path) -> None:
    policy = NetworkPolicy(StackedMLP(2, (4, 3)), ("agent_0", "agent_1"), epsilon=1.0)
    for rows in ("decisions", "all"):
        collect("toy", {}, [Behaviour(policy)], 600, tmp_path / rows, num_envs=4, rows=rows)
    alone = estimate(policy, tmp_path / "decisions", **QUICK)
    assert "judged alone" in alone.notes[-1]
    with pytest.raises(UserError, match="--rows all"):
        estimate(policy, tmp_path / "decisions", view="team")
    assert not any("judged alone" in note for note in estimate(policy, tmp_path / "all", **QUICK).notes)


def test_one_folder_per_agent_is_enough_and_knows_no_team(tmp_path: Path) -> None:
    policy = NetworkPolicy(StackedMLP(2, (4, 3)), ("agent_0", "agent_1"))
    collect("toy", {}, [Behaviour(policy)], 600, tmp_path / "log", num_envs=4, split="agents")
    both = estimate(policy, tmp_path / "log", **QUICK)
    one = estimate(policy, tmp_path / "log/agent_0", **QUICK)
    assert 0 < one.n < both.n
    with pytest.raises(UserError, match="one agent a folder"):
        estimate(policy, tmp_path / "log", view="team")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "csma_ca"}, "clone one with `train bc` first"),
        ({"method": "magic"}, "methods are fqe, importance, model"),
        ({"view": "all"}, "auto, team or agents"),
        ({"gama": 0.9}, "no such field"),
        ({"gamma": 1.0}, "less than 1"),
        ({"critic": "own"}, "view=agents"),
        ({"critic": "sum", "view": "agents"}, "view=team"),
        ({"policy": NetworkPolicy(StackedMLP(2, (1, 3)), ("row", "king"))}, "data are of column"),
        ({"policy": NetworkPolicy(StackedMLP(2, (7, 3)), ("row", "column"))}, "the data have 1 and 3"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str, log: Log) -> None:
    given = {"policy": NetworkPolicy(StackedMLP(2, (1, 3)), ("row", "column")), "data": log("climbing"), **arguments}
    with pytest.raises(UserError, match=message):
        estimate(**given)


def test_equal_seeds_give_equal_estimates_also_on_the_command_line(
    log: Log, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = some_policy("two_step", seed=11)
    save_policy(policy, tmp_path / "policy", env="table_game", env_config={"game": "two_step"})
    found = estimate(tmp_path / "policy", log("two_step"), seed=3, steps=50)
    given = ["estimate", str(tmp_path / "policy"), "--data", str(log("two_step")), "--seed", "3", "-s", "steps=50"]
    capfd.readouterr()
    assert run([*given, "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == found.to_json()
    assert run([*given, "--method", "model"]) == 2
