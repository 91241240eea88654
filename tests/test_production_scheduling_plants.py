"""Plants and sharing graphs: files, generator, neighbourhoods, recorded data and the views for RLlib and PettingZoo."""

from pathlib import Path
from typing import Any

import networkx  # type: ignore[import-untyped]
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test  # type: ignore[import-untyped]
from ray.rllib.utils.pre_checks.env import check_multiagent_environments
from small_plants import NAME, SMALL, build

from rllib_wireless.data import Behaviour, check, client_folders, collect, load_dataset
from rllib_wireless.envs.pettingzoo import ParallelView
from rllib_wireless.envs.production_scheduling import plants
from rllib_wireless.envs.rllib import MultiAgentView
from rllib_wireless.envs.sharing import Form, SharingGraph, SharingView, hop_distances
from rllib_wireless.errors import UserError

# The 4x5 plant as published: [up, right, down, left] of each unit.
ADJACENCY = """- 1 5 -|- 2 6 0|- 3 - 1|- 4 8 2|- - 9 3|0 6 10 -|1 7 - 5|- - 12 6|3 9 13 -|4 - 14 8|5 11 15 -|- 12 16 10|7 13 - 11
|8 14 18 12|9 - 19 13|10 16 - -|11 17 - 15|- 18 - 16|13 19 - 17|14 - - 18"""


def test_the_4x5_plant_is_the_published_one() -> None:
    plant = build().plant
    rows = [[-1 if cell == "-" else int(cell) for cell in row.split()] for row in ADJACENCY.split("|")]
    assert plant.neighbours()[:, 1:].tolist() == rows
    assert hop_distances(20, plant.links).max() == 7
    sizes = [np.mean([len(b) for b in SharingGraph.ball(20, plant.links, h).neighbours]) for h in range(5)]
    np.testing.assert_allclose(sizes, [1, 3.7, 7.6, 12.0, 16.0], atol=0.05)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, None])
def test_a_neighbourhood_is_that_of_breadth_first_search(radius: int | None) -> None:
    for plant_seed in range(3):
        plant = build(plant="generated", rows=4, columns=5, dropped_links=0.3, plant_seed=plant_seed).plant
        graph = networkx.Graph(plant.links)
        for i, ball in enumerate(SharingGraph.ball(plant.num_units, plant.links, radius).neighbours):
            distance = networkx.single_source_shortest_path_length(graph, i, cutoff=radius)
            assert list(ball) == sorted(distance, key=lambda j: (distance[j], j))


def test_one_data_set_gives_the_observations_of_every_graph(tmp_path: Path) -> None:
    """Observations built from the joint states of one recording are those that a simulator with that graph shows live."""
    collect(NAME, SMALL, [Behaviour("uniform")], 400, tmp_path / "base", num_envs=2)
    base, env = load_dataset(tmp_path / "base"), build(**SMALL)
    forms: tuple[tuple[int | None, Form], ...] = ((0, "full"), (1, "full"), (2, "compressed"), (None, "full"))
    for radius, form in forms:
        shared = {**SMALL, "sharing_radius": radius, "observation": form}
        folder = tmp_path / f"{radius}-{form}"
        collect(NAME, shared, [Behaviour("uniform")], 400, folder, num_envs=2)
        view = SharingView(env.local_fields, SharingGraph.ball(9, env.plant.links, radius), form)
        assert (*env.local_fields, *view.fields) == build(**shared).obs_fields
        live, own = load_dataset(folder), sum(f.size for f in env.local_fields)
        assert live.num_transitions > 400
        for i, rows in enumerate(live.rows.values()):
            for obs, t in (("obs", "t"), ("new_obs", "new_t")):
                built = view.observe(base.state_at(rows["eps_id"], rows[t]), i)
                np.testing.assert_array_equal(built, rows[obs][:, own:])


def test_each_client_gets_its_own_decisions_by_product(tmp_path: Path) -> None:
    config = {**SMALL, "max_decisions": 2000}
    collect(NAME, config, [Behaviour("uniform")], 600, tmp_path / "joint", num_envs=2)
    collect(NAME, config, [Behaviour("uniform")], 600, tmp_path / "clients", num_envs=2, split="agents")
    collect(NAME, config, [Behaviour("uniform")], 600, tmp_path / "all", num_envs=2, rows="all")
    assert check(tmp_path / "joint").notes == check(tmp_path / "clients").notes
    assert load_dataset(tmp_path / "all").aligned()["obs"].shape[1] == 9
    joint = load_dataset(tmp_path / "joint")
    for agent, folder in client_folders(tmp_path / "clients").items():
        client, rows = load_dataset(folder), joint.rows[agent]
        for name, values in client.rows[agent].items():
            np.testing.assert_array_equal(values, rows[name])
        for stream in range(3):
            chain = np.flatnonzero(rows["stream"] == stream)
            same = rows["eps_id"][chain][1:] == rows["eps_id"][chain][:-1]
            # A decision is followed by the next one about the same product, or by that product's end.
            np.testing.assert_array_equal(rows["new_t"][chain][:-1][same], rows["t"][chain][1:][same])
            assert not rows["terminateds"][chain][:-1][same].any()
            waited = -rows["rewards"][chain]
            assert (waited > 0).all() and (waited <= rows["duration"][chain]).all()


def test_a_graph_file_replaces_the_radius(tmp_path: Path) -> None:
    path, agents = tmp_path / "graph.json", tuple(f"unit_{i}" for i in range(9))
    path.write_text('{"unit_0": ["unit_8", "unit_3"], "unit_4": ["unit_4"]}')
    graph = SharingGraph.load(path, agents)
    assert graph.neighbours == ((0, 8, 3), (1,), (2,), (3,), (4,), (5,), (6,), (7,), (8,))
    graph.save(tmp_path / "again.json", agents)
    assert SharingGraph.load(tmp_path / "again.json", agents) == graph
    env = build(**SMALL, sharing_graph=str(path), observation="compressed")
    assert [f.name for f in env.obs_fields][3:] == [
        *("neighbour_1_there", "neighbour_1_busy", "neighbour_2_there", "neighbour_2_busy")
    ]
    path.write_text('{"unit_0": ["unit_9"]}')
    with pytest.raises(UserError, match="there is no agent 'unit_9'"):
        build(**SMALL, sharing_graph=str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("links = [", "links = [[0, 9],"), "links name unit 9, but units are 0 to 8"),
        (("[0, 1], [1, 2],", ""), "cannot be reached"),
        (("move_ticks = 2", "move_ticks = 0"), "move_ticks: Input should be greater than or equal to 1, but it is 0"),
        (("8 = {2 = 5, 4 = 5}", "8 = {2 = 5}"), "needs operation 4, which no unit can do"),
        (("0 = {0 = 5}", "0 = {0 = 5, 1 = 3}"), "unit 0 supplies, and so can do nothing else"),
        (("A = [0, 1,", "A = [1, 0,"), "product A should begin with supply = 0"),
        (("[products]", "[wares]"), "products: Field required"),
        (("links = [", "links = ["[:-1]), "is no TOML"),
    ],
)
def test_a_plant_that_cannot_work_is_refused(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    text = (Path(plants.__file__).parent / "layouts/grid_3x3.toml").read_text()
    path = tmp_path / "plant.toml"
    path.write_text(text)
    assert build(plant=str(path)).plant == build(plant="grid_3x3").plant
    if change[0].startswith("8 = "):
        text = text.replace("1 = {3 = 6, 4 = 5, 5 = 5}", "1 = {3 = 6, 5 = 5}")
    if change[0].startswith("[0, 1]"):
        text = text.replace("[0, 3], ", "")
    path.write_text(text.replace(*change))
    with pytest.raises(UserError, match=message):
        build(plant=str(path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"plant": "grid_5x5"}, "it should be grid_3x3, grid_4x5, generated or the path"),
        ({"plant": "missing.toml"}, "No such file"),
        ({"products": "A,Z"}, "this plant makes A, B, C, D, E"),
        ({"products": "A;B"}, "products must be kinds as in A,B,C"),
        ({"products": "A*65"}, "1 to 64 products"),
        ({"rows": 5}, "rows is for plant=generated, but plant is grid_4x5"),
        ({"operation_ticks": (9, 3), "plant": "generated"}, "must be an interval"),
    ],
)
def test_a_wrong_configuration_says_what_is_allowed(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**config)


def test_a_plant_off_the_grid_numbers_its_links() -> None:
    text = """
    supply = 0
    removal = 1
    positions = [[0, 0], [0.5, 2], [3, 1]]
    links = [[0, 2], [1, 2]]
    [abilities]
    0 = {0 = 1}
    1 = {1 = 4}
    [products]
    X = [0, 1]
    """
    assert plants.parse_plant(text, "here").neighbours().tolist() == [[-1, 2, -1], [-1, 2, -1], [-1, 0, 1]]


def test_generated_plants_make_their_products_and_follow_their_seed() -> None:
    seen = set()
    for seed in range(10):
        config: dict[str, Any] = {
            "plant": "generated",
            "rows": 3,
            "columns": 5,
            "dropped_links": 0.2,
            "plant_seed": seed,
        }
        plant, again = build(**config).plant, build(**config).plant
        assert plant == again and len(plant.links) == 22 - round(0.2 * 22)
        assert networkx.is_connected(networkx.Graph(plant.links))
        assert plants._problem(plant) is None
        seen.add(plant.links)
    assert len(seen) > 5


@pytest.mark.parametrize("config", [SMALL, {**SMALL, "clock": "serial", "products": "A"}])
def test_rllib_and_pettingzoo_accept_the_views(config: dict[str, Any]) -> None:
    check_multiagent_environments(MultiAgentView(NAME, config))
    parallel_api_test(ParallelView(NAME, config), num_cycles=200)
    parallel_seed_test(lambda: ParallelView(NAME, config), num_cycles=50)


def test_the_rllib_view_shows_units_that_decide_and_what_they_waited_for() -> None:
    view, env = MultiAgentView(NAME, SMALL), build(**SMALL)
    observations, _ = view.reset(seed=2)
    env.reset(int(np.random.default_rng(2).integers(2**31)))
    owed, chooser = dict.fromkeys(env.agents, 0.0), np.random.default_rng(0)
    for _ in range(100):
        actions = {a: int(chooser.choice(np.flatnonzero(o["action_mask"]))) for a, o in observations.items()}
        step = env.step(np.array([[actions.get(agent, 0) for agent in env.agents]]))
        owed = {agent: owed[agent] + float(step.reward[0, i]) for i, agent in enumerate(env.agents)}
        observations, rewards, terminateds, truncateds, _ = view.step(actions)
        if step.final is not None:
            assert terminateds["__all__"] != truncateds["__all__"]
            return
        assert set(observations) == {agent for i, agent in enumerate(env.agents) if step.acting[0, i]}
        for agent in observations:
            assert rewards[agent] == owed[agent]
            owed[agent] = 0.0
    raise AssertionError("no episode ended")
