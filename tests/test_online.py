"""Policies that go on learning online: nothing gets worse, and a run that was killed goes on as if it had not been."""

import json
from pathlib import Path
from typing import Any

import pytest

from rllib_wireless.algorithms.online import FineTuning, OnlineSettings
from rllib_wireless.algorithms.training import resume_run, train
from rllib_wireless.cli import run as command
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.errors import ConfigError, DataError, UserError
from rllib_wireless.policies import load_policy

ENV = {"split": "train", "num_access_points": 2, "num_users": 6, "top_users": 2}
LEARN = {
    "gamma": 0.0, "lr": 3e-3, "reward_scale": 1.0, "num_critics": 1, "fcnet_hiddens": [16],
    "dataset_num_iters_per_learner": 200,
}  # fmt: skip
SHORT = {"deployments": 2, "steps": 1000, "test_copies": 16}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("online") / "log"
    collect("radio_resource", ENV, [Behaviour("random")], 300, path, seed=1, rows="all")
    return path


@pytest.fixture(scope="module")
def offline(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is learned from few rows in hardly any steps."""
    out = tmp_path_factory.mktemp("online") / "offline"
    few = {**LEARN, "dataset_num_iters_per_learner": 1}
    train("ctde_cql", "radio_resource", out=out, data=log, env_config=ENV, settings=few, iterations=1)
    return out


def go_on(policy: Path, out: Path, online: dict[str, Any], **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"env_config": ENV, "settings": LEARN, "iterations": 2, **changes}
    return train("ctde_cql", "radio_resource", out=out, online={"policy": policy, **online}, **given)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "progress.jsonl").read_bytes().splitlines()]


def weights(policy: Path) -> bytes:
    return (policy / "tensors.safetensors").read_bytes()


@pytest.fixture(scope="module")
def tuned(log: Path, offline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("online") / "tuned"
    go_on(offline, out, SHORT, data=log)
    return out


def test_what_is_better_comes_into_use(tuned: Path, offline: Path) -> None:
    first, second = lines(tuned)
    assert first["accepted"] and first["difference"]["score"]["ci95"][0] > 0.0
    assert first["candidate"]["score"] - first["in_use"]["score"] == pytest.approx(first["difference"]["score"]["mean"])
    assert (first["steps"], second["steps"]) == (1000, 2000)
    assert (first["pessimism"], second["pessimism"]) == (1.0, pytest.approx(0.7))
    newest = max(row["iteration"] for row in (first, second) if row["accepted"])
    assert weights(tuned / "policy") == weights(tuned / f"deployments/{newest}/run/policy")
    assert weights(tuned / "deployments/0/policy") == weights(offline / "policy")
    assert load_policy(tuned).agents == ("ap_0", "ap_1")


def test_candidates_learn_from_all_logs_so_far(tuned: Path, log: Path) -> None:
    steps = [
        json.loads(line)["count"] for part in (tuned / "deployments/2/data").glob("*.json") for line in part.open()
    ]
    assert sum(steps) == 300 + 1000 + 1000


def test_what_is_not_better_stays_out_and_acts_beside(tuned: Path, tmp_path: Path) -> None:
    """A candidate that hardly learned anything, against a good policy."""
    lazy = {**LEARN, "dataset_num_iters_per_learner": 1, "lr": 1e-6}
    go_on(tuned, tmp_path / "out", {**SHORT, "rejected_share": 0.25}, settings=lazy, iterations=1)
    rows = lines(tmp_path / "out")
    assert [row["accepted"] for row in rows] == [False, False]
    assert all(row["difference"]["score"]["mean"] < 0.0 for row in rows)
    assert weights(tmp_path / "out/policy") == weights(tuned / "policy")
    card = (tmp_path / "out/deployments/2/log/card.yaml").read_text()
    assert "deployments/1/run/policy" in card and "share: 0.25" in card and "share: 0.75" in card


def test_a_run_that_was_interrupted_anywhere_goes_on_as_one_that_was_not(
    tuned: Path, log: Path, offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tuned"
    for moment in ("_log", "_learn", "_try", "_publish"):
        method = getattr(FineTuning, moment)

        def once(self: FineTuning, *arguments: Any, method: Any = method) -> None:
            if self.rows or arguments:  # not the publishing of the first policy
                method(self, *arguments)
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(FineTuning, moment, once)
            go_on(offline, out, SHORT, data=log, resume=True)
    resume_run(out, iterations=2)
    # A candidate's log names the folder of the policy that acted, which is another one here.
    assert lines(out) == lines(tuned)
    assert weights(out / "policy") == weights(tuned / "policy")


def test_wrong_questions_are_told(tuned: Path, log: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bc with these settings has nothing that holds its policies to the data"):
        train("bc", "radio_resource", out=tmp_path / "a", env_config=ENV, online={"policy": tuned})
    with pytest.raises(UserError, match="fedmorl with these settings"):
        train(
            "fedmorl", "radio_resource", out=tmp_path / "a", env_config=ENV, online={"policy": tuned},
            settings={"policy_learning": "clone"},
        )  # fmt: skip
    with pytest.raises(ConfigError, match="metrics = 'speed', but metrics are"):
        go_on(tuned, tmp_path / "b", {"metrics": ["speed"]})
    with pytest.raises(ConfigError, match="online: deployments = 0"):
        go_on(tuned, tmp_path / "c", {"deployments": 0})
    with pytest.raises(DataError, match="there is no policy here"):
        go_on(tmp_path / "nothing", tmp_path / "d", {})
    assert not any(tmp_path.iterdir())


def test_fedmorl_goes_on_too(tmp_path: Path) -> None:
    env = {"num_stations": 2}
    small = {
        "policy_learning": "rollout", "rounds": 2, "local_steps": 20, "clone_steps": 60, "policy_steps": 40,
        "policy_iterations": 1, "rollout_starts": 256,
    }  # fmt: skip
    collect("channel_access", env, [Behaviour("csma_ca")], 400, tmp_path / "log", split="agents")
    train("fedmorl", "channel_access", out=tmp_path / "roll", data=tmp_path / "log", env_config=env, settings=small)
    online = {"policy": tmp_path / "roll", "deployments": 2, "steps": 400, "test_copies": 4, "test_steps": 300}
    row = train("fedmorl", "channel_access", out=tmp_path / "on", env_config=env, settings=small, online=online)
    assert row["difference"].keys() == {"throughput_ratio", "short_term_fairness"}
    assert row["pessimism"] == pytest.approx(0.3 * 0.7)
    assert (tmp_path / "on/deployments/2/data/station_1/card.yaml").exists()


def test_on_the_command_line(tuned: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    env = [part for name, value in ENV.items() for part in ("-c", f"{name}={value}")]
    settings = [part for name, value in LEARN.items() for part in ("-s", f"{name}={json.dumps(value)}")]
    train_ = ["train", "ctde_cql", "--env", "radio_resource", *env, *settings, "--iterations", "1", "--json"]
    small = ["-s", "online.deployments=1", "-s", "online.steps=500", "-s", "online.test_copies=8"]
    assert command([*train_, "--online", str(tuned), *small, "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capfd.readouterr().out)["result"]["steps"] == 500
    assert command(["evaluate", str(tmp_path / "out"), "--env", "radio_resource", *env, "--episodes", "4"]) == 0
    assert command([*train_, *small, "--out", str(tmp_path / "other")]) == 2
    assert "-s online.deployments goes with --online POLICY" in capfd.readouterr().err


def test_settings_are_documented() -> None:
    assert all(f.description for f in OnlineSettings.documentation())
