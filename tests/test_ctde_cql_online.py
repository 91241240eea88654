"""CTDE-CQL without data: acting, exploring, the replay buffer, and what is kept of it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_game import SPEC, play, uniform
from test_faults import content

from rllib_wireless.algorithms.ctde_cql.ctde_cql import CTDECQLConfig
from rllib_wireless.algorithms.ctde_cql.replay import Replay
from rllib_wireless.algorithms.env_runner import BatchedEnvRunner
from rllib_wireless.algorithms.training import resume_run, train
from rllib_wireless.data import check
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.envs import registry

ENV: dict[str, Any] = {"num_stations": 3}
SMALL: dict[str, Any] = {
    "dataset_num_iters_per_learner": 20,
    "train_batch_size_per_learner": 32,
    "fcnet_hiddens": [16],
    "cql_alpha": 0.0,
    "rollout_length": 40,
    "learning_starts": 200,
}
COPIES = {"num_envs_per_env_runner": 8}


@pytest.mark.parametrize(
    "settings", [{}, {"backbone": "dqn", "mixer": "monotonic"}, {"paradigm": "centralized"}], ids=str
)
def test_without_data_it_learns_from_its_own_steps_and_resumes_bit_for_bit(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"env_config": ENV, "settings": {**SMALL, **COPIES, **settings}}
    train("ctde_cql", "channel_access", out=tmp_path / "whole", iterations=3, **given)
    train("ctde_cql", "channel_access", out=tmp_path / "cut", iterations=1, **given)
    last = resume_run(tmp_path / "cut", iterations=3)
    assert last["iteration"] == 3
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


@pytest.mark.parametrize("backbone", ["sac", "dqn"])
def test_online_training_finds_the_best_joint_action(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "table_game", SPEC)
    config = CTDECQLConfig().environment("table_game", env_config={"game": "additive_chain"})
    config.training(cql_alpha=0.0, rollout_length=100, learning_starts=200, dataset_num_iters_per_learner=400)
    config.training(backbone=backbone, lr=5e-3, tau=0.05, fcnet_hiddens=(32,), epsilon_steps=2000)
    config.num_envs_per_env_runner = 8
    config.evaluation_duration = 8 * 40
    algo = config.build_algo()
    for _ in range(2):
        algo.train()
    # Action 2 and 0 pay 3 + 2 in state 0, where an episode begins and then stays.
    assert algo.evaluate()["env_runners"]["reward_per_step"] == 5.0
    algo.stop()


def test_exploration_by_random_actions_falls_to_its_end(tmp_path: Path) -> None:
    config = CTDECQLConfig().environment("channel_access", env_config=ENV)
    config.training(**{**SMALL, "learning_starts": 160}, backbone="dqn", epsilon_steps=640)
    config.num_envs_per_env_runner = 8
    algo = config.training(final_epsilon=0.1).build_algo()
    assert algo._explorer().epsilon == pytest.approx(1.0 - 0.9 * 160 / 640)
    algo.train()
    algo.train()
    assert algo._explorer().epsilon == pytest.approx(0.1)
    assert algo.policy().epsilon == 0.0
    algo.stop()


@pytest.mark.parametrize("steps", [[60, 7, 60], [127]])
def test_replay_holds_what_collecting_the_same_steps_writes(
    steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded piece by piece, with episodes that end within and between the pieces."""
    monkeypatch.setitem(registry._SPECS, "table_game", SPEC)
    play("slow", 8 * 127, tmp_path / "data")
    columns = ("obs", "actions", "action_mask", "rewards", "duration", "terminateds", "new_obs", "state", "new_state")
    recorded = TensorIterator([tmp_path / "data"], columns=columns).rows()
    config = CTDECQLConfig().environment("table_game", env_config={"game": "slow"})
    config.num_envs_per_env_runner = 8
    runner = BatchedEnvRunner(config=config, worker_index=0, num_workers=0)
    replay = Replay(10_000, columns, seed=0)
    for k, count in enumerate(steps):
        replay.add(runner.record(uniform("slow"), 8 * count, seed=0 if k == 0 else None, state=True))
    rows = replay.rows()
    assert rows.keys() == recorded.keys()
    # The order is that of the pieces; sorted by all that a row holds, both are the same.
    kept, wanted = (
        np.concatenate([r[c].reshape(len(r[c]), -1).double().numpy() for c in columns], axis=1)
        for r in (rows, recorded)
    )
    np.testing.assert_array_equal(kept[np.lexsort(kept.T)], wanted[np.lexsort(wanted.T)])


def test_steps_of_some_iterations_are_kept_as_a_data_set_also_by_a_run_that_is_resumed(tmp_path: Path) -> None:
    given: dict[str, Any] = {"env_config": ENV, "settings": {**SMALL, **COPIES, "keep_replay": [2, 3]}}
    train("ctde_cql", "channel_access", out=tmp_path / "whole", iterations=4, **given)
    train("ctde_cql", "channel_access", out=tmp_path / "cut", iterations=2, **given)
    # As a run leaves it that is killed after it has written what it kept, before its checkpoint.
    shutil.copytree(tmp_path / "whole/replay", tmp_path / "cut/replay", dirs_exist_ok=True)
    resume_run(tmp_path / "cut", iterations=4)
    files = [sorted(p.name for p in (tmp_path / run / "replay").iterdir()) for run in ("whole", "cut")]
    assert files[0] == files[1] == ["card.yaml", "part-00002.json", "part-00003.json"]
    for name in files[0]:
        assert (tmp_path / "cut/replay" / name).read_bytes() == (tmp_path / "whole/replay" / name).read_bytes()
    assert check(tmp_path / "whole/replay").transitions["station_0"] == 2 * 8 * 40
    # What is kept is what offline training opens, with the joint state.
    offline = {"settings": {**SMALL, "mixer": "monotonic"}, "data": tmp_path / "whole/replay", "iterations": 1}
    train("ctde_cql", "channel_access", out=tmp_path / "offline", env_config=ENV, **offline)  # type: ignore[arg-type]


def test_a_full_replay_forgets_the_oldest_rows() -> None:
    replay = Replay(5, ("actions",), seed=0)
    for start in range(0, 12, 3):
        replay._add_rows({"actions": np.arange(start, start + 3)})
    assert sorted(replay.rows()["actions"].tolist()) == [7, 8, 9, 10, 11] and replay.total == 12
    again = Replay(5, ("actions",), seed=0)
    again.restore(replay.content())
    for r in (replay, again):
        r._add_rows({"actions": np.arange(12, 14)})
    assert again.rows()["actions"].tolist() == replay.rows()["actions"].tolist()
