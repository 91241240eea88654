"""Clients of several networks train one model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_fedmorl_algorithm import CHEAP, SMALL, assert_equal, built, tensors

from rllib_wireless.algorithms.fedmorl.cells import find_clients
from rllib_wireless.algorithms.fedmorl.client import load_rows
from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORLConfig
from rllib_wireless.data import Behaviour, cell_folders, collect, load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.errors import DataError

CELLS: dict[str, dict[str, Any]] = {
    "loaded": {"num_stations": 2, "alpha": 0.01},
    "busy": {"num_stations": 3, "alpha": 0.01, "saturated": False, "arrival_rate": [0.001, 0.002, 0.01]},
    "calm": {"num_stations": 3, "alpha": 0.01, "saturated": False, "arrival_rate": 0.0005},
}


def write(folder: Path, env: dict[str, Any]) -> None:
    collect("channel_access", env, [Behaviour("csma_ca")], 4_000, folder, num_envs=4, split="agents")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    for name, env in CELLS.items():
        write(folder / name, env)
    return folder


def test_clients_are_named_by_cell_and_agent(cells: Path) -> None:
    clients = find_clients(cells, make_env("channel_access", **CELLS["loaded"]))
    assert list(clients.folders) == [
        *(f"busy/station_{i}" for i in range(3)),
        *(f"calm/station_{i}" for i in range(3)),
        *(f"loaded/station_{i}" for i in range(2)),
    ]
    assert clients.home == ("loaded/station_0", "loaded/station_1")
    assert clients.folders["calm/station_1"] == cells / "calm" / "station_1"


def test_the_home_cell_is_told_by_configuration_where_agents_are_alike(cells: Path) -> None:
    assert find_clients(cells, make_env("channel_access", **CELLS["calm"])).home[0] == "calm/station_0"
    with pytest.raises(DataError, match="none of them is the run's"):
        find_clients(cells, make_env("channel_access", **{**CELLS["calm"], "arrival_rate": 0.1}))
    with pytest.raises(DataError, match="none of them is the run's, which has 5 agents"):
        find_clients(cells, make_env("channel_access", num_stations=5))


def test_a_split_data_set_is_one_cell(csma_clients: Path) -> None:
    assert list(cell_folders(csma_clients)) == [""]
    assert find_clients(csma_clients, make_env("channel_access", num_stations=3)).home == tuple(
        f"station_{i}" for i in range(3)
    )


@pytest.mark.parametrize("definition", [{"d2lt": "local"}, {"channel_state": "slot"}])
def test_columns_of_equal_name_and_other_meaning_are_refused(csma_clients: Path, definition: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="its observations hold"):
        find_clients(csma_clients, make_env("channel_access", num_stations=3, **definition))


def test_cells_that_observe_other_fields_are_refused(cells: Path, tmp_path: Path) -> None:
    write(tmp_path / "paper", {"num_stations": 2})
    write(tmp_path / "rank", {"num_stations": 3, "rank": True})
    with pytest.raises(DataError, match="observation columns"):
        find_clients(tmp_path, make_env("channel_access", num_stations=2))


def test_rows_of_waiting_stations_are_not_learned_from(cells: Path) -> None:
    folder = cells / "busy" / "station_0"
    data = load_dataset(folder)
    rows = data.rows["station_0"]
    acting = rows.get("acting", np.ones(len(rows["t"]), np.bool_))
    assert len(load_rows(folder).actions) == int(acting.sum())
    counts = {s.name: len(load_rows(s).actions) for s in (cells / "busy").glob("station_*")}
    assert len(set(counts.values())) == 3  # every station has packets at other times


@pytest.mark.parametrize("federate", ["models", pytest.param("nothing", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("ray_session")
def test_cells_federate_and_the_home_cell_is_evaluated(cells: Path, tmp_path: Path, federate: str) -> None:
    config = FedMORLConfig().environment("channel_access", env_config=CELLS["loaded"]).offline_data(input_=cells)
    config.federation(**SMALL).training(**CHEAP).evaluation(evaluation_duration=800)
    config.num_envs_per_env_runner = 8
    runs = [built(config, tmp_path / str(n), num_client_actors=n, federate=federate) for n in (0, 2)]
    for algo in runs:
        while not algo.finished:
            result = algo.train()
        assert result["federation"]["clients"] == 8
    policy, every = runs[0].policy(), runs[0].client_policies()
    assert policy is not None and policy.agents == ("station_0", "station_1") and len(every) == 8
    assert_equal(every["loaded/station_1"].to_portable()[1], policy.slice(1).to_portable()[1])
    assert "throughput_ratio" in runs[0].evaluate()["env_runners"]
    assert_equal(runs[0].weights, runs[1].weights)
    assert_equal(tensors(runs[0]), tensors(runs[1]))
    for algo in runs:
        algo.stop()
