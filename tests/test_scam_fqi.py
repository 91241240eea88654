"""SCAM-FQI against tabular iteration, scikit-learn's own predictions, and itself under faults."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from rllib_wireless.algorithms.scam_fqi import fqi
from rllib_wireless.algorithms.scam_fqi.regressors import ForestFit, fit_function
from rllib_wireless.algorithms.scam_fqi.scam_fqi import SCAMFQI, SCAMFQIConfig
from rllib_wireless.algorithms.scam_fqi.settings import SCAMFQISettings
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.returns import later_returns
from rllib_wireless.data.sharing import agent_rows
from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies import load_policy, save_policy
from rllib_wireless.policies.trees import Forests, TreesPolicy

ENV = "production_scheduling"
PLANT: dict[str, Any] = {"plant": "grid_3x3", "products": "A,B"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A joint log of uniform decisions, with states."""
    out = tmp_path_factory.mktemp("scam") / "joint"
    collect(ENV, PLANT, [Behaviour("uniform")], 4_000, out, num_envs=8, seed=3)
    return out


def config(log: Path, radius: int = 1, **settings: Any) -> SCAMFQIConfig:
    config = SCAMFQIConfig().environment(ENV, env_config=PLANT).sharing(radius=radius).offline_data(input_=log)
    return config.training(**{"n_estimators": 3, "fqi_iterations": 3, **settings})


def trained(config: SCAMFQIConfig, iterations: int = 3) -> SCAMFQI:
    algorithm: SCAMFQI = config.build_algo()
    for _ in range(iterations):
        algorithm.train()
    return algorithm


# ------------------------------------------------------------------------------------------------ ground truth


def tabular(rows: fqi.AgentRows, iterations: int) -> np.ndarray:
    """max_a q(s', a) after some iterations, by means over rows with equal observation and action."""
    q: dict[tuple[bytes, int], float] = {}
    follows = [np.flatnonzero(mask) for mask in rows.new_mask]
    values = rows.initial_values
    for _ in range(iterations):
        targets: dict[tuple[bytes, int], list[float]] = {}
        for k, (obs, action) in enumerate(zip(rows.obs, rows.actions, strict=True)):
            targets.setdefault((obs.tobytes(), int(action)), []).append(rows.rewards[k] + rows.discount[k] * values[k])
        q = {key: float(np.mean(found)) for key, found in targets.items()}
        values = np.array(
            [
                max((q.get((obs.tobytes(), int(a)), -np.inf) for a in legal), default=-np.inf)
                for obs, legal in zip(rows.new_obs, follows, strict=True)
            ]
        )
        # What is known of no action of a state counts as the lowest of all.
        values = np.where(np.isfinite(values), values, values[np.isfinite(values)].min(initial=0.0))
    return values


@pytest.mark.parametrize("regressor", ["ExtraTreesRegressor", "DecisionTreeRegressor"])
@pytest.mark.parametrize("initial_values", ["zero", "monte_carlo"])
def test_trees_grown_to_the_end_are_tables(log: Path, regressor: str, initial_values: str) -> None:
    """A tree without limits has a leaf for each observation that occurs; others are answered by a neighbour's."""
    algorithm = trained(
        config(log, 0, regressor=regressor, min_samples_split=2, initial_values=initial_values, actions="separate")
    )
    assert algorithm._fitter is not None
    compared = 0
    for agent, values in algorithm._after.items():
        rows = algorithm._fitter._open(agent)
        # Only agents whose every legal action was tried wherever they came; elsewhere a table knows nothing.
        seen = {(o.tobytes(), int(a)) for o, a in zip(rows.obs, rows.actions, strict=True)}
        ends = rows.discount == 0
        complete = all(
            (o.tobytes(), int(a)) in seen
            for o, m, end in zip(rows.new_obs, rows.new_mask, ends, strict=True)
            if not end
            for a in np.flatnonzero(m)
        )
        if complete:
            np.testing.assert_allclose(values[~ends], tabular(rows, 3)[~ends], rtol=2e-5)
            compared += 1
    assert compared >= 3
    algorithm.stop()


def random_rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(400, 5)).astype(np.float32)
    actions = rng.integers(0, 3, 400)
    return obs, actions, obs[:, 0] * (1 + actions) + rng.normal(size=400)


@pytest.mark.parametrize(
    "cls", [ExtraTreesRegressor, RandomForestRegressor, DecisionTreeRegressor, GradientBoostingRegressor]
)
@pytest.mark.parametrize("actions", ["separate", "input"])
def test_arrays_predict_what_scikit_learn_predicts(cls: Any, actions: Any) -> None:
    obs, chosen, targets = random_rows()
    s = SCAMFQISettings(regressor=cls.__name__, n_estimators=7, actions=actions)
    fit = fit_function(s, 4)(obs, chosen, targets, 5)
    fresh = np.random.default_rng(1).normal(size=(300, 5)).astype(np.float32)
    values = fit.values(fresh, np.ones((300, 4), bool))
    assert np.isneginf(values[:, 3]).all()  # an action that was never taken
    for a in range(3):
        number = 0 if actions == "input" else a
        params = {"min_samples_split": 3, "min_samples_leaf": 1, "random_state": _seed_of(5, number)}
        if "n_estimators" in cls().get_params():
            params["n_estimators"] = 7
        one_hot = np.eye(4, dtype=np.float32)
        if actions == "input":
            own = cls(**params).fit(np.hstack([obs, one_hot[chosen]]), targets)
            expected = own.predict(np.hstack([fresh, np.tile(one_hot[a], (300, 1))]))
        else:
            expected = cls(**params).fit(obs[chosen == a], targets[chosen == a]).predict(fresh)
        np.testing.assert_allclose(values[:, a], expected, rtol=1e-5, atol=1e-5)


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def test_linear_fits_are_least_squares() -> None:
    obs, chosen, targets = random_rows()
    fit = fit_function(SCAMFQISettings(regressor="LinearRegression"), 3)(obs, chosen, targets, 0)
    for a in range(3):
        own = LinearRegression().fit(obs[chosen == a], targets[chosen == a])
        np.testing.assert_allclose(
            fit.values(obs, np.ones((400, 3), bool))[:, a], own.predict(obs), rtol=1e-4, atol=1e-4
        )


def test_a_network_learns_what_is_linear() -> None:
    obs, chosen, _ = random_rows()
    targets = 100.0 + 30.0 * obs[:, 0] * (chosen == 1)
    s = SCAMFQISettings(regressor="torch", regressor_params={"steps": 1500, "lr": 3e-3})
    values = fit_function(s, 3)(obs, chosen, targets, 0).values(obs, np.ones((400, 3), bool))
    error = values[np.arange(400), chosen] - targets
    assert np.sqrt((error**2).mean()) < 0.2 * targets.std()


def test_returns_of_the_data_are_sums_within_a_stream() -> None:
    rows = {
        "eps_id": np.array([1, 0, 0, 0, 1]),
        "stream": np.array([0, 1, 0, 0, 0]),
        "t": np.array([7, 3, 1, 5, 2]),
    }
    rewards, discount = np.array([-8.0, -3.0, -2.0, -5.0, -4.0]), np.array([0.0, 0.0, 0.5, 0.0, 0.5])
    later = later_returns(rows, rewards, discount)
    np.testing.assert_allclose((rewards + discount * later), [-8.0, -3.0, -2.0 + 0.5 * -5.0, -5.0, -4.0 + 0.5 * -8.0])


# ------------------------------------------------------------------------------------------------ data


def test_one_joint_data_set_serves_every_graph(log: Path, tmp_path: Path) -> None:
    """Observations built from recorded states are those that the agents would have seen."""
    wider = {**PLANT, "sharing_radius": 2, "observation": "full"}
    collect(ENV, wider, [Behaviour("uniform")], 4_000, tmp_path / "wider", num_envs=8, seed=3, split="agents")
    env = make_env(ENV, **wider)
    for agent in env.agents:
        own, built = (agent_rows(load_dataset(path), agent, env) for path in (tmp_path / "wider" / agent, log))
        assert len(own["t"]) > 100
        for name in own:
            np.testing.assert_array_equal(own[name], built[name], err_msg=name)


def test_another_graph_without_states_is_refused(tmp_path: Path) -> None:
    collect(ENV, PLANT, [Behaviour("uniform")], 500, tmp_path / "data", num_envs=2, split="agents")
    algorithm = config(tmp_path / "data", radius=2).build_algo()
    with pytest.raises(DataError, match="observation columns"):
        algorithm.train()
    algorithm.stop()
    with pytest.raises(DataError, match="data of production_scheduling, not of"):
        agent_rows(load_dataset(tmp_path / "data" / "unit_0"), "unit_0", _renamed())


def _renamed() -> Any:
    env = make_env(ENV, **PLANT)
    env.name = "another"  # type: ignore[misc]
    return env


# ------------------------------------------------------------------------------------------------ actors


def forests_of(algorithm: SCAMFQI) -> Forests:
    policy = algorithm.policy()
    assert isinstance(policy, TreesPolicy)
    return policy.forests


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_any_number_of_actors_gives_equal_trees_also_when_one_is_killed(log: Path) -> None:
    alone = trained(config(log))
    for count in (1, 2):
        algorithm: SCAMFQI = config(log, num_fitter_actors=count).build_algo()
        assert algorithm._pool is not None
        for lost in range(3):
            if count == 2 and lost < 2:  # before each iteration another one of the two
                ray.kill(algorithm._pool._manager.actors()[lost], no_restart=False)
            algorithm.train()
        for mine, other in zip(forests_of(alone), forests_of(algorithm), strict=True):
            np.testing.assert_array_equal(mine, other)
        algorithm.stop()
    alone.stop()


def test_actors_are_asked_for(log: Path) -> None:
    bundles = SCAMFQI.default_resource_request(config(log, num_fitter_actors=3)).bundles
    assert bundles == [{"CPU": 1.0}] * 4


# ------------------------------------------------------------------------------------------------ policies


def test_trees_survive_saving_and_cutting(log: Path, tmp_path: Path) -> None:
    algorithm = trained(config(log), 1)
    policy = algorithm.policy()
    assert isinstance(policy, TreesPolicy)
    algorithm.export_policy(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy", epsilon=0.0)
    assert isinstance(loaded, TreesPolicy) and loaded.choose.epsilon == 0.0
    obs = np.random.default_rng(0).random((50, policy.obs_size), np.float32)
    wanted = np.ones((50, policy.num_actions), bool)
    for i in range(len(policy.agents)):
        whole = policy.forests.predict(obs, np.full(50, i), wanted)
        part = loaded.slice(i).forests.predict(obs, np.zeros(50, np.int64), wanted)
        np.testing.assert_array_equal(whole, part)
    algorithm.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": 0}, "children do not follow"),
        ({"right": 10**6}, "children do not follow"),
        ({"feature": 99}, "splits by a column"),
        ({"roots": 10**6}, "none of the nodes"),
    ],
)
def test_arrays_that_are_no_trees_are_refused(change: dict[str, int], message: str) -> None:
    """A walk through them would not end, or leave the arrays."""
    obs, chosen, targets = random_rows()
    fit = fit_function(SCAMFQISettings(n_estimators=2), 3)(obs, chosen, targets, 0)
    assert isinstance(fit, ForestFit)
    arrays = {name: array.copy() for name, array in fit.forests._asdict().items()}
    for name, value in change.items():
        arrays[name].flat[0] = value
    with pytest.raises(DataError, match=message):
        TreesPolicy(Forests(**arrays), 5, ["a"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regressor": "ExtraTrees"}, "should be torch or one of .*ExtraTreesRegressor"),
        ({"regressor": "KNeighborsRegressor"}, "cannot be kept as arrays"),
        ({"regressor_params": {"depth": 3}}, "ExtraTreesRegressor has no depth"),
        ({"regressor_params": {"max_depth": "deep"}}, "max_depth"),
        ({"regressor": "torch", "regressor_params": {"width": 3}}, "torch has no width"),
        ({"min_samples_leaf": 0}, "min_samples_leaf = 0"),
    ],
)
def test_a_wrong_regressor_is_told(log: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(log, **settings).validate()


def test_a_policy_is_saved_for_the_environment_it_was_trained_in(log: Path, tmp_path: Path) -> None:
    algorithm = trained(config(log, radius=1), 1)
    policy = algorithm.policy()
    assert policy is not None
    with pytest.raises(UserError, match="observe"):
        save_policy(policy, tmp_path / "p", env=ENV, env_config={**PLANT, "sharing_radius": 2})
    algorithm.stop()
