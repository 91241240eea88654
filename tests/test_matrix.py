"""Every algorithm in every environment: it trains as declared, or refuses as declared."""

from pathlib import Path
from typing import Any

import pytest

from rllib_wireless.algorithms import algorithm_names, algorithm_spec
from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.envs import env_names
from rllib_wireless.errors import ConfigError
from rllib_wireless.testing import CheckFailed
from rllib_wireless.testing.algorithm import Pairing, check_algorithm, matrix

SMALL_ENVS: dict[str, dict[str, Any]] = {
    "channel_access": {"num_stations": 3},
    "radio_resource": {"num_access_points": 2, "num_users": 6, "episode_slots": 50, "warmup_slots": 10},
    "task_offloading": {"num_devices": 3},
    "production_scheduling": {"plant": "grid_3x3", "products": "A,B", "defer": "forced", "sharing_radius": 1},
}
SMALL_ALGORITHMS: dict[str, dict[str, Any]] = {
    "bc": {"dataset_num_iters_per_learner": 3, "fcnet_hiddens": (8,)},
    "ctde_cql": {"dataset_num_iters_per_learner": 3, "fcnet_hiddens": (8,)},
    "dcc": {"steps": 500, "multiplier_updates": 2, "rollouts": 5},
    "fedmorl": {
        "rounds": 1,
        "local_steps": 3,
        "policy_iterations": 1,
        "policy_steps": 3,
        "planner_anchors": 16,
        "model_hiddens": (8,),
        "policy_hiddens": (8,),
    },
    "independent_q": {"steps": 200, "learning_iterations": 2},
    "scam_fqi": {"n_estimators": 2, "fqi_iterations": 2},
    "ppo": {"rollout_length": 4, "rollout_fragment_length": 2, "fcnet_hiddens": (8,)},
}
OPTIONAL_DATA = {"ctde_cql": True}


def test_the_matrix_is_all_with_all() -> None:
    pairs = {(p.algorithm, p.env) for p in matrix()}
    assert pairs == {(a, e) for a in algorithm_names() for e in env_names()}
    assert {p.env for p in matrix() if p.algorithm == "dcc" and not p.refused} == {"task_offloading"}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("pair", matrix(), ids=lambda p: f"{p.algorithm}-{p.env}{'-refused' * p.refused}")
def test_it_trains_or_refuses_as_declared(pair: Pairing, tmp_path: Path) -> None:
    check_algorithm(
        pair.algorithm,
        pair.env,
        tmp_path,
        env_config=SMALL_ENVS[pair.env],
        settings=SMALL_ALGORITHMS[pair.algorithm],
        data=OPTIONAL_DATA.get(pair.algorithm),
    )


def check_bc(out: Path) -> None:
    env_config, settings = SMALL_ENVS["channel_access"], SMALL_ALGORITHMS["bc"]
    check_algorithm("bc", "channel_access", out, env_config=env_config, settings=settings)


def test_a_refusal_that_is_declared_and_not_made_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Requirements(aligned=True, environments=("radio_resource",))
    monkeypatch.setattr(algorithm_spec("bc").config, "requirements", needs)
    monkeypatch.setattr(Requirements, "check_environment", lambda *_: None)
    with pytest.raises(CheckFailed, match="training in channel_access is not refused"):
        check_bc(tmp_path)


def test_a_checkpoint_that_lacks_something_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = algorithm_spec("bc").algorithm
    monkeypatch.setattr(algorithm, "get_checkpointable_components", lambda self: [])
    monkeypatch.setattr(algorithm, "set_state", OfflineMultiAgentAlgorithm.set_state)  # leaves the learner as it is
    with pytest.raises(CheckFailed, match="a resumed run"):
        check_bc(tmp_path)


def test_an_algorithm_says_which_environments_it_is_made_for() -> None:
    needs = algorithm_spec("dcc").requirements
    assert str(needs).endswith("; task_offloading only")
    with pytest.raises(ConfigError, match="dcc: env = 'radio_resource', but it should be task_offloading"):
        needs.check_environment("dcc", "radio_resource")
