"""Check, info, convert, import and export."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from data_sets import CONFIG, open_card, small

from rllib_wireless.data import check, convert, export, import_data, info, load_dataset, read_card
from rllib_wireless.envs import make_env
from rllib_wireless.errors import ConfigError, DataError, UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small(tmp_path / "d")
    return tmp_path / "d"


def test_check_reports_what_is_there(folder: Path, tmp_path: Path) -> None:
    report = check(folder)
    assert report.complete and report.kind == "joint" and report.files == 1 and report.notes == []
    assert report.transitions == {agent: card.transitions for agent, card in read_card(folder).agents.items()}
    small(tmp_path / "split", split="agents")
    assert check(tmp_path / "split").kind == "clients" and check(tmp_path / "split").files == 3
    open_card(folder)
    assert check(folder).notes == ["incomplete: the writer was stopped, or is still at work"]


def test_check_compares_the_card_with_the_environment(folder: Path) -> None:
    environment = read_card(folder).environment
    open_card(folder, environment=dataclasses.replace(environment, config=environment.config | {"num_stations": 4}))
    with pytest.raises(DataError, match="its agents are"):
        check(folder)
    open_card(folder, environment=dataclasses.replace(environment, config=environment.config | {"num_stations": -4}))
    with pytest.raises(DataError, match=r"its environment.config is wrong: channel_access: num_stations = -4"):
        check(folder)


def test_info_sums_up_what_was_recorded(folder: Path, tmp_path: Path) -> None:
    rows = load_dataset(folder).rows["station_0"]
    summary = info(folder)
    assert orjson.loads(orjson.dumps(summary)) == summary
    agent = summary["agents"]["station_0"]
    assert agent["rows"] == len(rows["t"])
    assert agent["action_shares"][1] == pytest.approx(rows["actions"].mean())
    assert agent["obs"]["d2lt"]["max"] == rows["obs"][:, 6].max()
    small(tmp_path / "split", split="agents")
    assert info(tmp_path / "split")["agents"] == summary["agents"]


def test_rllibs_own_writer_converts_back(folder: Path, tmp_path: Path) -> None:
    """A data set written by RLlib's JsonWriter, unpacked, comes back with equal rows."""
    from ray.rllib.offline.json_writer import JsonWriter
    from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

    dataset = load_dataset(folder)
    batches = {
        agent: SampleBatch({k: v for k, v in rows.items() if k != "duration"}) for agent, rows in dataset.rows.items()
    }
    JsonWriter(str(tmp_path / "rllib"), compress_columns=[]).write(MultiAgentBatch(batches, 400))
    card = convert(tmp_path / "rllib", tmp_path / "out", environment="channel_access", env_config=CONFIG)
    back = load_dataset(tmp_path / "out")
    assert card.complete and check(tmp_path / "out").notes == []
    for agent, rows in dataset.rows.items():
        order = np.lexsort((rows["t"], rows["eps_id"]))
        back_order = np.lexsort((back.rows[agent]["t"], back.rows[agent]["eps_id"]))
        for name, values in rows.items():
            expected = (rows["new_t"] - rows["t"]).astype(np.float32) if name == "duration" else values
            assert np.array_equal(back.rows[agent][name][back_order], expected[order]), name


class Marker:
    """Unpickling it touches a file, and gives an array."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return eval, (f"[__import__('pathlib').Path({str(self.path)!r}).touch(), [[0.5], [0.25]]][1]",)


def write_lines(path: Path, *batches: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps({"type": "SampleBatch", **batch}) + b"\n" for batch in batches))
    return path


def test_packed_columns_are_unpickled_on_request_only(tmp_path: Path) -> None:
    from ray.rllib.utils.compression import pack

    marker = tmp_path / "executed"
    batch = {"obs": pack(Marker(marker)), "actions": [0, 1], "rewards": [1.0, 2.0], "dones": [False, True]}
    source = write_lines(tmp_path / "packed.json", batch)
    with pytest.raises(
        DataError, match=r"packed.json, line 1, column agent_0/obs: the column is packed; --trust-pickle"
    ):
        convert(source, tmp_path / "out")
    assert not marker.exists() and not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", trust_pickle=True)
    rows = load_dataset(tmp_path / "out").rows["agent_0"]
    assert marker.exists()
    assert rows["obs"].tolist() == [[0.5], [0.25]] and rows["new_obs"].tolist() == [[0.25], [0.25]]
    assert rows["terminateds"].tolist() == [False, True]


def test_sample_batches_are_filled_in(tmp_path: Path) -> None:
    line = {"obs": [[0.0], [1.0], [2.0]], "actions": [0, 2, 1], "rewards": [1, 2, 3], "action_logp": [-1.0, -2.0, -3.0]}
    source = write_lines(tmp_path / "x.json", line, line | {"dones": [False, False, True]}, line | {"infos": [{}] * 3})
    with pytest.raises(DataError, match="only some lines have terminateds"):
        convert(source, tmp_path / "out")
    source = write_lines(tmp_path / "x.json", line, line)
    card = convert(source, tmp_path / "out", agents={"agent_0": "me"}, num_actions=4)
    rows = load_dataset(tmp_path / "out").rows["me"]
    # Each line is an episode; its last row has no next observation and is dropped.
    assert rows["obs"][:, 0].tolist() == [0, 1, 0, 1] and rows["new_obs"][:, 0].tolist() == [1, 2, 1, 2]
    assert rows["t"].tolist() == [0, 1, 0, 1] and rows["action_mask"].shape == (4, 4) and rows["action_mask"].all()
    assert np.allclose(rows["action_prob"], [math.exp(-1), math.exp(-2)] * 2)
    assert card.agents["me"].dropped == 2 and card.environment.name == "imported"


def test_agents_that_share_a_policy_are_told_apart(tmp_path: Path) -> None:
    batch = {"obs": [[0.0], [1.0], [2.0], [3.0]], "actions": [0, 1, 1, 0], "rewards": [0.0] * 4}
    batch |= {
        "agent_index": [0, 1, 0, 1],
        "eps_id": [7, 7, 7, 7],
        "t": [0, 0, 1, 1],
        "terminateds": [False] * 2 + [True] * 2,
    }
    line = {"type": "MultiAgentBatch", "count": 2, "policy_batches": {"shared": batch}}
    (tmp_path / "x.json").write_bytes(orjson.dumps(line))
    convert(tmp_path / "x.json", tmp_path / "out")
    rows = load_dataset(tmp_path / "out").rows
    assert {agent: r["obs"][:, 0].tolist() for agent, r in rows.items()} == {"shared_0": [0, 2], "shared_1": [1, 3]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": [[0.0], [1.0, 2.0]]}, "line 1, column agent_0/obs: it should hold numbers, equally many in each row"),
        ({"actions": [0.5, 1]}, "line 1, column agent_0/actions: it should hold integers"),
        ({"rewards": [1.0]}, "line 1, column agent_0/rewards: it has 1 rows, but obs has 2"),
        ({"rewards": [1.0, None]}, "column agent_0/rewards"),
        ({"type": "Batch"}, "type is 'Batch', but it should be SampleBatch or MultiAgentBatch"),
        ({"actions": [-1, 0]}, "episode 1, t 0: -1 is wrong: actions are 0 to"),
    ],
)
def test_wrong_sources_are_named_and_nothing_is_written(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    line = {"obs": [[0.0], [1.0]], "actions": [0, 1], "rewards": [0.0, 1.0]}
    source = write_lines(tmp_path / "x.json", line | change)
    with pytest.raises(DataError, match=message):
        convert(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json"]


LOG = pd.DataFrame(
    {
        "run": ["b", "b", "b", "b", "a", "a"],
        "slot": [0, 0, 3, 3, 0, 0],
        "node": ["x", "y", "x", "y", "x", "y"],
        "level": [0.5, 0.25, 0.75, 0.0, 1.0, 0.5],
        "mode": [0, 1, 2, 0, 1, 1],
        "send": [0, 1, 1, 0, 0, 1],
        "gain": [1.0, -1.0, 0.5, 0.0, 2.0, 3.0],
        "over": [False, False, True, True, True, True],
    }
)
MAPPING = {
    "environment": "my network",
    "agent": "node",
    "agents": {"x": "left", "y": "right"},
    "episode": "run",
    "time": "slot",
    "observations": ["level", {"mode": 3}],
    "actions": "send",
    "rewards": "gain",
    "terminateds": "over",
}


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_logs_are_imported(tmp_path: Path, kind: str) -> None:
    source: Path | pd.DataFrame = LOG if kind == "frame" else tmp_path / f"log.{kind}"
    if kind == "csv":
        LOG.to_csv(tmp_path / "log.csv", index=False)
    elif kind == "parquet":
        LOG.to_parquet(tmp_path / "log.parquet")
    (tmp_path / "map.yaml").write_bytes(orjson.dumps(MAPPING))
    card = import_data(source, tmp_path / "out", tmp_path / "map.yaml" if kind == "csv" else MAPPING)
    assert card.environment.name == "my network" and card.environment.obs_names == (
        "level",
        "mode_0",
        "mode_1",
        "mode_2",
    )
    rows = load_dataset(tmp_path / "out").rows["left"]
    order = np.lexsort((rows["t"], rows["eps_id"]))
    left = {name: values[order].tolist() for name, values in rows.items()}
    assert left["obs"] == [[0.5, 1, 0, 0], [0.75, 0, 0, 1], [1.0, 0, 1, 0]]
    assert left["new_obs"][0] == left["obs"][1]
    assert left["t"] == [0, 3, 0] and left["new_t"] == [3, 4, 1] and left["duration"] == [3, 1, 1]
    assert left["eps_id"] == [0, 0, 1] and left["rewards"] == [1.0, 0.5, 2.0]
    assert left["terminateds"] == [False, True, True] and card.episodes == 2 and card.steps == 3
    assert check(tmp_path / "out").notes != []


@pytest.mark.parametrize(
    ("mapping", "change", "message"),
    [
        ({"rewards": "gian"}, {}, "import mapping: rewards = 'gian', but .* has no such column; it has run, slot"),
        ({"reward": "gain"}, {}, "import mapping: reward = 'gain', but there is no such field"),
        ({"observations": []}, {}, "import mapping: observations"),
        ({}, {"send": [0.5] * 6}, "column send: it should hold integers"),
        ({}, {"level": ["high"] * 6}, "column level: it should hold numbers"),
        ({}, {"gain": [float("nan")] * 6}, "6 of 6 rows cannot be used, .* column gain: it is empty"),
        ({}, {"mode": [3] * 6}, "column mode: it should hold 0 to 2, as the mapping says"),
        ({"environment": "channel_access"}, {}, "its rows have 4 values, but channel_access has 8"),
    ],
)
def test_wrong_logs_and_mappings(tmp_path: Path, mapping: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_data(LOG.assign(**change), tmp_path / "out", MAPPING | mapping)
    assert list(tmp_path.iterdir()) == []


def test_an_import_of_our_own_environment_fits_it(tmp_path: Path) -> None:
    log = pd.DataFrame(
        {"heard": [0, 2, 3, 0], "sent": [0, 1, 1, 0], "d": [0.1, 0.5, 0.2, 0.4], "q": [1.0] * 4, "t": range(4)}
    )
    mapping = {
        "environment": "channel_access",
        "env_config": {"num_stations": 2},
        "observations": [{"heard": 4}, {"sent": 2}, "d", "q"],
        "actions": "sent",
        "rewards": "d",
    }
    import_data(log, tmp_path / "out", mapping)
    assert check(tmp_path / "out").transitions == {"station_0": 3} and check(tmp_path / "out").notes == []
    with pytest.raises(DataError, match="its rows have 3 values, but channel_access has 8"):
        import_data(log, tmp_path / "x", mapping | {"observations": ["d", {"sent": 2}]})
    with pytest.raises(ConfigError, match="num_station = 2"):
        import_data(log, tmp_path / "x", mapping | {"env_config": {"num_station": 2}})


def test_exports_are_what_stock_rllib_reads(folder: Path, tmp_path: Path) -> None:
    from ray.rllib.offline.json_reader import JsonReader

    rows = load_dataset(folder).rows["station_2"]
    order = np.lexsort((rows["t"], rows["eps_id"]))
    export(folder, tmp_path / "x.json", agent="station_2", kind="json")
    batches = list(JsonReader([str(tmp_path / "x.json")]).read_all_files())
    assert len(batches) == len(np.unique(rows["eps_id"]))
    frame = pd.read_parquet(export(folder, tmp_path / "x.parquet", agent="station_2"))
    assert all(batch["terminateds"][-1] or batch["truncateds"][-1] for batch in batches)
    for name in ("obs", "new_obs", "actions", "rewards", "terminateds", "eps_id"):
        expected = rows[name][order]
        assert np.array_equal(np.concatenate([batch[name] for batch in batches]).astype(expected.dtype), expected)
        assert np.array_equal(np.stack(frame[name].tolist()).astype(expected.dtype), expected)


def test_an_export_needs_a_free_file_and_a_known_agent(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it has no agent 'ap_0'; agents are station_0"):
        export(folder, tmp_path / "x.parquet", agent="ap_0")
    assert not (tmp_path / "x.parquet").exists()
    (tmp_path / "x.parquet").write_text("mine")
    with pytest.raises(UserError, match="exists; give another file"):
        export(folder, tmp_path / "x.parquet", agent="station_0")


@pytest.mark.slow
def test_stock_behaviour_cloning_trains_on_an_export(folder: Path, tmp_path: Path, ray_session: None) -> None:
    from ray.rllib.algorithms.bc import BCConfig

    path = export(folder, tmp_path / "x.parquet", agent="station_0")
    env = make_env("channel_access", **CONFIG)
    config = (
        BCConfig()
        .environment(observation_space=env.observation_space, action_space=env.action_space)
        .training(train_batch_size_per_learner=64)
        .offline_data(
            input_=[str(path)],
            input_read_method="read_parquet",
            input_compress_columns=[],
            dataset_num_iters_per_learner=2,
        )
    )
    algo = config.build_algo()
    try:
        assert math.isfinite(algo.train()["learners"]["default_policy"]["policy_loss"])
    finally:
        algo.stop()
