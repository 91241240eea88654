"""Production scheduling: the floor, rewards, rules and metrics against plain Python, shortest paths and published dynamics."""

from functools import partial
from typing import Any

import networkx  # type: ignore[import-untyped]
import numpy as np
import pytest
from small_plants import GENERATED, NAME, SMALL, build

from rllib_wireless.benchmarks.production import PlainPlant
from rllib_wireless.envs import StepRandom, make_env, make_policy, random
from rllib_wireless.envs.production_scheduling import ProductionScheduling
from rllib_wireless.envs.production_scheduling.routes import shortest_times
from rllib_wireless.envs.registry import env_spec
from rllib_wireless.policies import evaluate
from rllib_wireless.testing import check_env, check_policy

SUPPLY, CONFLICT = range(2)  # purposes of the simulator's random numbers


class KeyedDraws:
    """The random choices of copy b, taken from the counter-based numbers that the simulator uses."""

    def __init__(self, seed: int, copy: int) -> None:
        self.seed, self.copy, self.steps, self.supplies = seed, copy, 0, 0

    def supply(self, unit: int, number: int) -> int:
        self.supplies += 1
        return random.randint(number, self.seed, self.copy, unit, SUPPLY, self.supplies - 1)

    def contest(self, products: list[int]) -> int:
        return max(products, key=lambda p: random.uniform(self.seed, self.copy, p, CONFLICT, self.steps))


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        {**SMALL, "clock": "serial", "products": "A*4", "observation": "full", "sharing_radius": 2},
        {**GENERATED, "products": "A", "max_decisions": 30, "defer": "forced"},
        {**SMALL, "products": "A,B,C,D,E", "operation_bonus": 25.0, "defer_penalty": 5.0, "reward_until": "episode"},
    ],
)
def test_it_keeps_the_promises_of_an_environment(config: dict[str, Any]) -> None:
    assert check_env(partial(make_env, NAME, **config)) == []


@pytest.mark.parametrize("config", [SMALL, {**SMALL, "products": "A", "clock": "serial"}])
@pytest.mark.parametrize("rule", sorted(env_spec(NAME).rules))
def test_its_rules_keep_the_promises_of_a_policy(rule: str, config: dict[str, Any]) -> None:
    check_policy(partial(make_policy, rule), partial(make_env, NAME, **config))


@pytest.mark.parametrize("clock", ["parallel", "serial"])
@pytest.mark.parametrize("form", ["full", "compressed"])
def test_every_event_is_that_of_plain_python(clock: str, form: str) -> None:
    """Observations, masks, times, ends, and rewards by their definition, in drawn plants with several products at once."""
    contests = 0
    for plant_seed, products in enumerate(("A,B,C,A,B", "A*2", "C*6", "B,A")):
        config = {**GENERATED, "products": products, "clock": clock, "plant_seed": plant_seed}
        env = build(3, **config, observation=form, sharing_radius=plant_seed, max_decisions=10**6)
        contests += follow_plain_python(env, serial=clock == "serial", radius=plant_seed, full=form == "full")
    assert (contests > 0) == (clock == "parallel")


def follow_plain_python(env: ProductionScheduling, serial: bool, radius: int, full: bool) -> int:
    """Compare every step of a run; returns the number of conflicts."""
    seed, copies = 7, range(env.num_envs)
    draws = [KeyedDraws(seed, b) for b in copies]
    plain = [PlainPlant(env.plant, env.kinds, draws[b], serial, radius, full) for b in copies]
    chooser, step = np.random.default_rng(radius), env.reset(seed)
    rewards = np.zeros((env.num_envs, len(env.agents), env.num_streams))
    episodes = contests = 0
    for _ in range(600):
        actions = np.zeros(step.acting.shape, np.int64)
        assert step.stream is not None
        for b in copies:
            deciding = plain[b].deciding()
            assert {int(i): int(step.stream[b, i]) for i in np.flatnonzero(step.acting[b])} == deciding
            np.testing.assert_allclose(step.obs[b], plain[b].observations(), rtol=1e-6)
            for i in deciding:
                assert np.flatnonzero(step.action_mask[b, i]).tolist() == plain[b].legal(i)
                actions[b, i] = chooser.choice(plain[b].legal(i))
        before = env.time.copy()
        step = env.step(actions)
        assert step.stream_reward is not None
        rewards += step.stream_reward
        np.testing.assert_array_equal(step.reward, np.sum(step.stream_reward, -1))
        for b in copies:
            assert plain[b].time == before[b]
            plain[b].step({i: int(actions[b, i]) for i in plain[b].deciding()})
            draws[b].steps += 1
            assert step.duration[b] == plain[b].time - before[b]
            assert step.terminated[b] == plain[b].ended
            if plain[b].ended:
                np.testing.assert_array_equal(rewards[b], rewards_by_definition(plain[b], rewards[b].shape))
                assert step.final is not None
                statistics = {name: v[step.final.copies == b][0] for name, v in step.final.statistics.items()}
                assert statistics["end_ticks"] == plain[b].time
                assert statistics["finish_ticks"] == sum(p.finished_at or 0 for p in plain[b].products)
                contests += int(statistics["conflicts"].sum())
                rewards[b] = 0.0
                plain[b].begin()
                episodes += 1
    assert episodes >= 3
    return contests


def rewards_by_definition(plain: PlainPlant, shape: tuple[int, ...]) -> Any:
    """A decision about a product costs the time until the unit sees it again, else until it is finished."""
    found = np.zeros(shape)
    for time, i, p in plain.decided:
        again = [t for t, unit, product in plain.seen if (unit, product) == (i, p) and t > time]
        end = min(again) if again else plain.products[p].finished_at
        assert end is not None
        found[i, p] -= end - time
    return found


def test_a_product_alone_takes_its_shortest_time() -> None:
    env = build(products="A,B,C")
    assert shortest_times(env.rules).tolist() == [71, 68, 71]
    for kind, ticks in zip("ABC", (71, 68, 71), strict=True):
        for clock in ("parallel", "serial"):
            run = evaluate(
                "shortest_path", NAME, {"products": kind, "clock": clock}, episodes=3, params={"epsilon": 0.0}
            )
            assert run.statistics["end_ticks"].tolist() == [ticks] * len(run.statistics["end_ticks"])


@pytest.mark.parametrize("plant_seed", range(3))
def test_shortest_times_are_those_of_a_graph_of_units_and_progress(plant_seed: int) -> None:
    env = build(**{**GENERATED, "plant_seed": plant_seed})
    plant = env.plant
    (supplier,) = [unit for unit, able in plant.abilities.items() if plant.supply in able]
    for p, kind in enumerate(env.kinds):
        sequence, graph = plant.products[kind], networkx.DiGraph()
        for k, operation in enumerate(sequence):
            for i in range(plant.num_units):
                if operation in plant.abilities.get(i, {}):
                    graph.add_edge((i, k), (i, k + 1), weight=plant.abilities[i][operation])
                else:
                    for a, b in plant.links:
                        if i in (a, b):
                            graph.add_edge((i, k), (a + b - i, k), weight=plant.move_ticks)
        for i in range(plant.num_units):
            graph.add_edge((i, len(sequence)), "finished", weight=0)
        expected = networkx.shortest_path_length(graph, (supplier, 0), "finished", weight="weight")
        assert shortest_times(env.rules)[p] == expected


@pytest.mark.parametrize(
    ("rule", "products", "mean", "deviation", "episodes"),
    [
        ("uniform", "A*3", 634, 171, 25),
        ("uniform", "A,B,C", 677, 141, 20),
        ("uniform", "A*5", 964, 171, 20),
        ("uniform", "A,B,C,D,E", 1090, 210, 25),
        ("uniform_no_defer", "A,B,C", 531, 135, 20),
        ("uniform_no_defer", "A*5", 731, 148, 20),
    ],
)
def test_random_routing_takes_as_long_as_published_dynamics(
    rule: str, products: str, mean: float, deviation: float, episodes: int
) -> None:
    """On the serial clock, against means of 20 to 25 episodes of the published dynamics: within 2.5 standard errors."""
    ours = evaluate(rule, NAME, {"products": products, "clock": "serial"}, episodes=128, num_envs=128)
    found = ours.statistics["end_ticks"]
    error = np.hypot(deviation / episodes**0.5, found.std() / len(found) ** 0.5)
    assert abs(found.mean() - mean) < 2.5 * error


def test_metrics_are_those_of_a_plain_count() -> None:
    env = build(**{**SMALL, "products": "A*4", "max_decisions": 60})
    policy = make_policy("uniform", env)
    step, draws, finished, moves = env.reset(3), StepRandom(3, 1, 9), 0, 0
    while step.final is None:
        actions = policy.act(step, draws)
        acting = step.acting.copy()
        moves += int((actions[acting] > 0).sum())
        draws.advance()
        step = env.step(actions)
    statistics = step.final.statistics
    found = {m.name: m.reduce(statistics) for m in env_spec(NAME).metrics}
    finished = int(statistics["finished"][0])
    assert step.truncated[0] and found["livelock"] == 1.0 and 60 <= found["decisions"] <= 63
    assert found["completed"] == finished / 4 and found["makespan"] == statistics["ticks"][0]
    assert found["deferral_rate"] == pytest.approx(1.0 - moves / found["decisions"])
    assert found["conflict_rate"] == pytest.approx(statistics["conflicts"].sum() / moves)
    whole = evaluate("uniform", NAME, SMALL | {"max_decisions": 10**6}, episodes=20, num_envs=20)
    assert whole.metrics()["completed"]["mean"] == 1.0 and whole.metrics()["livelock"]["mean"] == 0.0
    assert whole.metrics()["mean_completion_time"]["mean"] < whole.metrics()["makespan"]["mean"]


def test_shaping_and_the_episodes_end_change_rewards_as_they_say() -> None:
    """The same decisions, rewarded in four ways."""

    def returns(**config: Any) -> tuple[Any, Any]:
        env = build(**{**SMALL, "max_decisions": 10**6}, **config)
        policy, step, draws = make_policy("uniform", env), env.reset(1), StepRandom(1, 1, 9)
        total = np.zeros(step.reward.shape)
        while step.final is None:
            actions = policy.act(step, draws)
            draws.advance()
            step = env.step(actions)
            total += step.reward
        return total, step.final.statistics

    plain, statistics = returns()
    penalised, _ = returns(defer_penalty=7.0)
    np.testing.assert_array_equal(penalised, plain - 7.0 * statistics["defers"])
    longer, _ = returns(reward_until="episode")
    assert (longer <= plain).all() and (longer < plain).any()
    bonus, _ = returns(operation_bonus=3.0)
    operations = (bonus - plain) / 3.0
    assert (operations == np.rint(operations)).all() and operations.min() >= 0 and operations.max() > 0


def test_rules_that_know_more_are_faster() -> None:
    """Order only; the numbers are on the environment's page."""
    makespans = [
        evaluate(rule, NAME, {"products": "A,B,C"}, episodes=64).metrics()["makespan"]["mean"]
        for rule in ("uniform", "uniform_no_defer", "shortest_path", "congestion_aware")
    ]
    assert makespans == sorted(makespans, reverse=True)
