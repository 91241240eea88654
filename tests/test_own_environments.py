"""Environments of users' own: found by name everywhere, in processes of Ray too, and never through what data say."""

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]

from rllib_wireless.algorithms.training import train
from rllib_wireless.cli import run
from rllib_wireless.data import Behaviour, collect, load_dataset, read_card
from rllib_wireless.envs import env_names, make_env, plugins, registry
from rllib_wireless.envs.parallel import register_parallel
from rllib_wireless.errors import UserError
from rllib_wireless.policies import evaluate
from rllib_wireless.testing import check_env

ROOT = Path(__file__).parents[1]
OWN = {"aloha": ROOT / "examples/own_environment.py", "sensors": ROOT / "examples/own_pettingzoo.py"}


@pytest.mark.parametrize(("name", "config"), [("aloha", {"slots": 30}), ("sensors", {"battery": 4})])
def test_the_examples_keep_the_promises_of_environments(own_modules: None, name: str, config: dict[str, Any]) -> None:
    plugins.import_modules([str(OWN[name])])
    notes = check_env(functools.partial(make_env, name, **config), num_steps=100)
    assert all("no episode" not in note for note in notes)


@pytest.mark.parametrize("name", OWN)
def test_the_examples_train_with_real_workers(own_modules: None, ray_session: None, tmp_path: Path, name: str) -> None:
    """The runners that evaluate are processes of a Ray that was started before the module was named."""
    own = ["--import", str(OWN[name]), "-s", "dataset_num_iters_per_learner=5", "-s", "evaluation_interval=1"]
    own += ["-s", "evaluation_num_env_runners=1", "-s", "num_envs_per_env_runner=4", "-s", "evaluation_duration=400"]
    data = str(tmp_path / "data")
    collected = ["collect", name, "--import", str(OWN[name]), "--policy", "random", "--steps", "400", "--rows", "all"]
    assert run([*collected, "--out", data]) == 0
    train_ = ["train", "ctde_cql", "--env", name, "--data", data, "--out", str(tmp_path / "run"), "--iterations", "1"]
    assert run([*train_, *own]) == 0
    measured = evaluate(tmp_path / "run", name, num_envs=4, steps=50).metrics()
    assert all(np.isfinite(value["mean"]) or name == "sensors" for value in measured.values())


def test_only_what_the_user_names_is_imported(
    own_modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data set and a policy of an unknown environment are read without a word about where its code might be."""
    plugins.import_modules([str(OWN["aloha"])])
    collect("aloha", {}, [Behaviour("random")], 200, tmp_path / "data", num_envs=2)
    train(
        "bc",
        "aloha",
        out=tmp_path / "run",
        data=tmp_path / "data",
        settings={"dataset_num_iters_per_learner": 2},
        iterations=1,
    )
    for path in (tmp_path / "data/card.yaml", tmp_path / "run/policy/policy.json"):
        assert "own_environment" not in path.read_text()
    del registry._SPECS["aloha"]
    assert load_dataset(tmp_path / "data").num_transitions == 200 * 4
    assert run(["evaluate", str(tmp_path / "run"), "--env", "aloha"]) == 2
    assert "others are named by --import MODULE" in capsys.readouterr().err
    card = yaml.safe_load((tmp_path / "data/card.yaml").read_text())
    card["environment"]["name"] = f"{OWN['sensors']}"
    (tmp_path / "data/card.yaml").write_text(yaml.safe_dump(card))
    assert read_card(tmp_path / "data").environment.name.endswith(".py") and "sensors" not in env_names()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("no_such_module", "--import no_such_module: it cannot be imported: No module named"),
        ("no_such_file.py", "there is no such file"),
        ("broken.py", "it cannot be imported: invalid syntax"),
        ("json.py", "there is a module 'json' already"),
    ],
)
def test_what_cannot_be_imported_is_named(
    own_modules: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("def :")
    Path("json.py").write_text("")
    assert run(["list", "bc", "--import", module]) == 2
    assert message in capsys.readouterr().err


def test_installed_packages_bring_environments(
    own_modules: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Entry points are loaded once, before the first name is asked for; a broken one is a warning."""
    (tmp_path / "mine.py").write_text(OWN["aloha"].read_text().replace('"aloha"', '"mine"'))
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [importlib.metadata.EntryPoint(name, name, plugins.GROUP) for name in ("absent_module", "mine")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == plugins.GROUP else [])
    monkeypatch.setattr(plugins, "_loaded", set())
    with pytest.warns(UserWarning, match="environments of absent_module cannot be loaded"):
        assert "mine" in env_names()
    assert make_env("mine", num_nodes=2).agents == ("node_0", "node_1")


class Corridor(ParallelEnv):  # type: ignore[misc]
    """Two agents of different kinds: one observes a number and moves 1 or 2 steps, the other sees a box and leaves early."""

    def __init__(self) -> None:
        self.possible_agents = self.agents = ["walker", "watcher"]

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Discrete(5) if agent == "walker" else gymnasium.spaces.Box(-1, 1, (2,), np.float64)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Discrete(2, start=1) if agent == "walker" else gymnasium.spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.place = self.possible_agents[:], 0
        self.taken: list[dict[str, int]] = []
        return self.seen(), {"walker": {}, "watcher": {"action_mask": [0, 1, 1]}}

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        self.taken.append(actions)
        self.place += actions["walker"]
        leaves = "watcher" in actions
        over = self.place >= 4
        self.agents = [] if over else ["walker"]
        ends = {a: over or a == "watcher" for a in actions}
        rewards = {"walker": 1.0} | ({"watcher": -1.0} if leaves else {})
        return self.seen(), rewards, ends, dict.fromkeys(actions, False), {}

    def seen(self) -> dict[str, Any]:
        return {"walker": min(self.place, 4), "watcher": np.array([self.place / 8, -0.5])}


def test_a_parallel_env_is_what_it_was(own_modules: None) -> None:
    """Observations are flat and padded, actions counted from 0, agents that left do not act, masks come from infos too."""
    register_parallel("corridor", lambda config: Corridor(), gamma=0.5)
    env: Any = make_env("corridor", num_envs=2)
    step = env.reset(3)
    assert env.gamma == 0.5 and env.agents == ("walker", "watcher")
    assert step.obs[0].tolist() == [[1, 0, 0, 0, 0], [0, -0.5, 0, 0, 0]]
    assert step.action_mask[0].tolist() == [[True, True, False], [False, True, True]] and step.acting.all()
    assert env.observation_space.low[:2].tolist() == [-1, -1] and env.observation_space.high.tolist() == [1] * 5
    step = env.step(np.array([[1, 2], [0, 0]]))
    assert [game.taken for game in env._games] == [[{"walker": 2, "watcher": 2}], [{"walker": 1, "watcher": 1}]]
    assert step.acting.tolist() == [[True, False]] * 2 and step.reward.tolist() == [[1, -1]] * 2
    assert step.action_mask[0, 1].tolist() == [True, False, False] and step.final is None
    step = env.step(np.array([[1, 2], [0, 0]]))
    assert step.final is not None and step.final.copies.tolist() == [0] and step.terminated.tolist() == [True, False]
    assert step.final.obs[0, 0].tolist() == [0, 0, 0, 0, 1] and step.final.statistics["reward"].tolist() == [[2, -1]]
    assert step.final.acting.tolist() == [[True, False]] and env.statistics()["illegal_actions"].tolist() == [
        [0, 0],
        [0, 0],
    ]
    assert step.final.statistics["illegal_actions"].tolist() == [[0, 1]]  # it had left, and cannot choose 2
    assert step.obs[0, 0].tolist() == [1, 0, 0, 0, 0] and step.acting[0].all()
    strict = make_env("corridor", 2, strict=True)
    strict.reset()
    strict.step(np.array([[0, 1], [0, 1]]))
    with pytest.raises(UserError, match="illegal action 1 of watcher in copy 1; its mask allows only 0"):
        strict.step(np.array([[0, 0], [0, 1]]))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (gymnasium.spaces.MultiDiscrete([2, 2]), "an agent observes MultiDiscrete"),
        (gymnasium.spaces.Dict(x=gymnasium.spaces.Discrete(2)), "an agent observes Dict"),
    ],
)
def test_spaces_that_do_not_fit_are_named(own_modules: None, space: gymnasium.Space[Any], message: str) -> None:
    class Odd(Corridor):
        def observation_space(self, agent: str) -> gymnasium.Space[Any]:
            return space

    register_parallel("odd", lambda config: Odd())
    with pytest.raises(UserError, match=message):
        make_env("odd")


def test_unbounded_observations_survive_a_card(own_modules: None, tmp_path: Path) -> None:
    class Unbounded(Corridor):
        def observation_space(self, agent: str) -> gymnasium.Space[Any]:
            return gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

        def seen(self) -> dict[str, Any]:
            return {agent: np.array([self.place, -3.0], np.float32) for agent in self.possible_agents}

    register_parallel("unbounded", lambda config: Unbounded())
    collect("unbounded", {}, [Behaviour("random")], 60, tmp_path / "d", num_envs=2, rows="all")
    assert read_card(tmp_path / "d").environment.obs_high == (np.inf, np.inf)
    assert load_dataset(tmp_path / "d", environment=make_env("unbounded")).rows["walker"]["obs"].min() == -3.0
