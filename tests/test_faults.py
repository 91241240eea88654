"""Crashes: of the driver at any moment, of evaluation runners; and what a training folder holds."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_tracking import records

from rllib_wireless.algorithms.actors import ActorPool, ManagedActor
from rllib_wireless.algorithms.baselines.bc import BCConfig
from rllib_wireless.algorithms.run import plain
from rllib_wireless.algorithms.training import resume_run, train
from rllib_wireless.envs import EnvStep, StepRandom, make_env
from rllib_wireless.envs.base import IntArray
from rllib_wireless.errors import ConfigError, DataError, UserError
from rllib_wireless.policies import NetworkPolicy, StackedMLP, load_policy

SETTINGS = {
    "dataset_num_iters_per_learner": 30,
    "fcnet_hiddens": [16],
    "evaluation_interval": 2,
    "evaluation_duration": 800,
    "num_envs_per_env_runner": 8,
}


def run_bc(data: Path, out: Path, **arguments: Any) -> dict[str, Any]:
    given = {"data": data, "env_config": {"num_stations": 3}, "settings": SETTINGS, "iterations": 6, **arguments}
    return train("bc", "channel_access", out=out, **given)


def content(out: Path) -> dict[str, bytes]:
    """All that two equal runs must have in common."""
    files = [out / "run.yaml", out / "progress.jsonl", *sorted((out / "policy").iterdir())]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


# ------------------------------------------------------------------------------------------------ the folder


@pytest.fixture(scope="module")
def finished(csma_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    run_bc(csma_data, out)
    return out


def test_a_run_that_cannot_begin_leaves_nothing(csma_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its agents are"):
        run_bc(csma_data, tmp_path / "run", env_config={"num_stations": 5})
    assert list(tmp_path.iterdir()) == []
    run_bc(csma_data, tmp_path / "run", iterations=1)


def test_a_new_run_wants_an_empty_folder(csma_data: Path) -> None:
    before = sorted(csma_data.iterdir())
    with pytest.raises(UserError, match="exists and is not empty"):
        run_bc(csma_data, csma_data)
    assert sorted(csma_data.iterdir()) == before


def test_a_training_folder_holds_the_run_its_progress_and_its_policy(finished: Path) -> None:
    run = yaml.safe_load((finished / "run.yaml").read_text())
    assert run["algorithm"] == "bc" and run["settings"]["dataset_num_iters_per_learner"] == 30
    rows = [json.loads(line) for line in (finished / "progress.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert ["evaluation" in row for row in rows] == [False, True] * 3
    assert rows[-1]["learners"]["agents"]["loss"] < rows[0]["learners"]["agents"]["loss"]
    assert [p.name for p in (finished / "checkpoint").iterdir()] == ["6"]
    assert load_policy(finished).agents == ("station_0", "station_1", "station_2")


def test_equal_runs_have_equal_folders(csma_data: Path, finished: Path, tmp_path: Path) -> None:
    run_bc(csma_data, tmp_path / "again")
    assert content(tmp_path / "again") == content(finished)


def test_a_run_can_be_prolonged_from_its_folder_alone(csma_data: Path, finished: Path, tmp_path: Path) -> None:
    run_bc(csma_data, tmp_path / "short", iterations=3)
    last = resume_run(tmp_path / "short", iterations=6)
    assert last["iteration"] == 6
    assert content(tmp_path / "short") == content(finished)


def test_a_folder_with_a_run_is_not_written_over(csma_data: Path, finished: Path) -> None:
    before = content(finished)
    with pytest.raises(UserError, match="holds a run already: give --resume"):
        run_bc(csma_data, finished)
    with pytest.raises(UserError, match="holds a run with seed = 0, not 1"):
        run_bc(csma_data, finished, resume=True, seed=1)
    assert content(finished) == before


def test_nothing_is_written_at_a_wrong_configuration(csma_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bc: lrr = 1"):
        run_bc(csma_data, tmp_path / "run", settings={"lrr": 1})
    with pytest.raises(ConfigError, match="bc: iterations = 0"):
        run_bc(csma_data, tmp_path / "run", iterations=0)
    assert not (tmp_path / "run").exists()


def test_progress_is_told_line_by_line(csma_data: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, float | None]] = []
    run_bc(csma_data, tmp_path / "run", iterations=2, progress=lambda row, done: seen.append((row["iteration"], done)))
    assert seen == [(1, 0.5), (2, 1.0)]


def test_wandb_offline_writes_a_run_with_the_real_client(
    csma_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_bc(csma_data, tmp_path / "run", iterations=2, wandb="offline")
    assert any("learners/agents/loss" in str(record) for record in records(tmp_path / "run"))


# ------------------------------------------------------------------------------------------------ a killed driver


def killed_and_resumed(call: str, out: Path, kill_at: list[int], finished_at: int) -> int:
    """Run `call` in a process that is killed when so many lines of progress are there, and again until it ends.

    Returns:
        How often it was killed.
    """
    kills = 0
    script = f"from pathlib import Path; from test_faults import *; {call}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    while True:
        process = subprocess.Popen([sys.executable, "-c", script], env=environment, start_new_session=True)
        wanted = kill_at[kills] if kills < len(kill_at) else finished_at + 1
        while process.poll() is None:
            path = out / "progress.jsonl"
            if path.exists() and path.read_bytes().count(b"\n") >= wanted:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                break
            time.sleep(0.005)
        else:
            assert process.returncode == 0
            return kills


def test_a_killed_run_goes_on_as_if_it_had_not_been(csma_data: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call = f"run_bc(Path({str(csma_data)!r}), Path({str(out)!r}), resume=True)"
    assert killed_and_resumed(call, out, [2, 4], finished_at=6) >= 1
    assert content(out) == content(finished)
    assert [*out.glob(".policy*"), *out.glob("checkpoint/.*")] == []


@pytest.mark.parametrize("damage", ["line without checkpoint", "half a line", "half a checkpoint", "no policy"])
def test_a_crash_between_two_writes_leaves_a_run_that_goes_on(
    csma_data: Path, finished: Path, tmp_path: Path, damage: str
) -> None:
    """The states that a crash can leave, each made on purpose."""
    out = tmp_path / "run"
    run_bc(csma_data, out, iterations=4)
    progress = out / "progress.jsonl"
    if damage == "line without checkpoint":
        progress.write_bytes(progress.read_bytes() + b'{"iteration": 5, "learners": {}}\n')
    elif damage == "half a line":
        progress.write_bytes(progress.read_bytes() + b'{"iterat')
    elif damage == "half a checkpoint":
        (out / "checkpoint" / ".5" / "learner_group").mkdir(parents=True)
    else:
        (out / "policy").rename(out / ".policy.old-1")
    run_bc(csma_data, out, resume=True)
    assert content(out) == content(finished)


# ------------------------------------------------------------------------------------------------ killed actors


class Mortal(ManagedActor):
    """Dies at a piece of work that nobody has begun before."""

    def work(self, number: int, marks: str) -> int:
        mark = Path(marks) / str(number)
        if number % 3 == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    def fail(self) -> None:
        raise ConfigError("test", "field", 1, "it should be 2")


def test_work_of_a_killed_actor_is_done_by_others(tmp_path: Path, ray_session: None) -> None:
    pool = ActorPool(Mortal, [{}] * 2)
    answers = pool.map("work", [{"number": k, "marks": str(tmp_path)} for k in range(6)], timeout_s=60)
    assert answers == [0, 1, 4, 9, 16, 25]
    pool.restore(30)
    assert pool.num_healthy == 2
    pool.stop()


def test_a_users_mistake_in_an_actor_is_told_as_it_is(ray_session: None) -> None:
    pool = ActorPool(Mortal, [{}])
    with pytest.raises(ConfigError, match="test: field = 1, but it should be 2"):
        pool.call("fail", {0: {}})
    pool.stop()


class KillsOnce(NetworkPolicy):
    """Kills the first process that acts with it."""

    mark: Path

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(step, random)


def test_evaluation_with_a_killed_runner_gives_the_full_result(
    csma_data: Path, tmp_path: Path, ray_session: None
) -> None:
    config = BCConfig().environment("channel_access", env_config={"num_stations": 3, "episode_slots": 4000})
    config.offline_data(input_=csma_data).training(fcnet_hiddens=(16,), dataset_num_iters_per_learner=20)
    config.evaluation(evaluation_num_env_runners=2, evaluation_duration=32, evaluation_duration_unit="episodes")
    config.num_envs_per_env_runner = 8
    remote, local = (
        config.build_algo(),
        config.copy(copy_frozen=False).evaluation(evaluation_num_env_runners=0).build_algo(),
    )
    expected = plain(local.evaluate()["env_runners"])
    assert plain(remote.evaluate()["env_runners"]) == expected

    killer = KillsOnce(remote.network(), remote.agents)
    killer.mark = tmp_path / "mark"
    measured = plain(remote._evaluation_runners.evaluate(killer))
    assert killer.mark.exists() and measured == expected

    # The next policy's result is its own, from all runners, and not the last one again.
    local.train()
    remote.train()
    result = remote.evaluate()
    assert plain(result["env_runners"]) == plain(local.evaluate()["env_runners"]) != expected
    assert result["num_healthy_workers"] == 2
    remote.stop()
    local.stop()


def test_an_evaluation_that_nobody_can_do_is_an_error(ray_session: None) -> None:
    env = make_env("channel_access", num_stations=3)
    policy = NetworkPolicy(StackedMLP(3, (env.observation_space.shape[0], 2)), env.agents)
    pool = ActorPool(Silent, [{}])
    with pytest.raises(TimeoutError, match="none of 1 actors answered"):
        pool.map("sample", [{"policy": policy}], timeout_s=0.5)
    pool.stop()


class Silent(ManagedActor):
    """Never answers."""

    def sample(self, policy: NetworkPolicy) -> None:
        time.sleep(60)
