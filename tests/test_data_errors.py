"""Whatever is wrong with a data set: one clear error that names file, line and column, and nothing is executed."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from data_sets import CONFIG, open_card, replace_lines, small

from rllib_wireless.data import DataWarning, check, client_folders, load_dataset, read_card
from rllib_wireless.data.card import write_card
from rllib_wireless.data.format import CARD
from rllib_wireless.envs import make_env
from rllib_wireless.errors import DataError

FILE = "part-00000.json"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small(tmp_path / "d")
    return tmp_path / "d"


def edit_line(folder: Path, edit: Edit, number: int = 3) -> None:
    """Change the columns of station_1 in one line, and the checksum with them."""
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    content = orjson.loads(lines[number - 1])
    edit(content["policy_batches"]["station_1"])
    lines[number - 1] = json.dumps(content).encode() + b"\n"
    replace_lines(folder, lines)


def error_of(folder: Path) -> DataError:
    """The error, which loading and checking agree on, and which leaves the folder as it was."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError) as loaded:
        load_dataset(folder)
    with pytest.raises(DataError) as checked:
        check(folder)
    assert str(loaded.value) == str(checked.value)
    assert "\n" not in str(loaded.value)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    return loaded.value


def set_value(column: str, row: int, value: object) -> Edit:
    return lambda batch: batch[column].__setitem__(row, value)


def set_column(column: str, value: object) -> Edit:
    return lambda batch: batch.__setitem__(column, value)


@pytest.mark.parametrize(
    ("edit", "column", "message"),
    [
        (set_value("rewards", 0, "1.5"), "rewards", "it holds a string, but it should hold numbers"),
        (set_value("rewards", 0, None), "rewards", "it holds null, but it should hold numbers"),
        (set_value("rewards", 0, True), "rewards", "it holds true or false, but it should hold numbers"),
        (set_value("actions", 0, 1.0), "actions", "it holds a number, but it should hold integers"),
        (set_value("actions", 0, 2**63), "actions", "it holds an integer beyond 64 bits"),
        (set_value("terminateds", 0, 0), "terminateds", "it holds an integer, but it should hold true or false"),
        (set_value("obs", 2, 1.0), "obs", "row 2 is a number, but it should be an array"),
        (set_value("obs", 2, [1.0]), "obs", "row 2 has 1 values, row 0 has 8; they should be equal"),
        (set_column("obs", {"a": 1}), "obs", "it is an object, but it should be an array"),
        (set_column("t", []), "t", "it is empty; an agent without rows is left out of the line"),
        (set_value("rewards", 0, float("nan")), "rewards", "it holds a number that is not finite"),
        (set_value("new_obs", 4, [float("inf")] * 8), "new_obs", "it holds a number that is not finite"),
        (set_value("duration", 0, 1e300), "duration", "it holds a number that is not finite"),
        (set_value("obs", 1, [0.0] * 7 + [1.5]), "obs", r"1.5 is out of range: queue lies in \[0, 1\]"),
        (set_value("actions", 1, 2), "actions", "2 is wrong: actions are 0 to 1"),
        (set_value("action_mask", 0, [False, False]), "action_mask", "a mask allows at least one action"),
        (set_value("duration", 0, -1.0), "duration", "-1.0 is wrong: it is at least 0"),
        (set_value("new_t", 0, 0), "new_t", "it is after t"),
        (lambda batch: batch["t"].pop(), "", "rows, but t has"),
        (lambda batch: batch["rewards"].pop(), "rewards", "it has 19 rows, but t has 20"),
        (lambda batch: batch.pop("duration"), "duration", "the column is missing"),
        (set_column("infos", [{}]), "infos", "unknown column; columns are obs, new_obs"),
        (set_column("stream", [0] * 20), "stream", "the card has no such column"),
    ],
)
def test_wrong_values_are_named_by_file_line_and_column(folder: Path, edit: Edit, column: str, message: str) -> None:
    edit_line(folder, edit)
    with pytest.raises(DataError, match=message):
        load_dataset(folder)
    error = error_of(folder)
    assert (error.path, error.line) == (folder / FILE, 3)
    assert str(error).startswith(f"{folder / FILE}, line 3, column station_1/{column}")


def test_an_action_that_the_mask_forbids(folder: Path) -> None:
    def forbid(batch: dict[str, Any]) -> None:
        row = batch["actions"].index(1)
        batch["action_mask"][row] = [True, False]

    edit_line(folder, forbid)
    assert "line 3, column station_1/actions: 1 is wrong: the action mask of the row forbids it" in str(
        error_of(folder)
    )


def test_a_packed_column_is_named_and_never_unpickled(folder: Path, tmp_path: Path) -> None:
    from ray.rllib.utils.compression import pack

    marker = tmp_path / "executed"
    text = pack(Marker(marker))
    for column in ("obs", "rewards", "infos"):
        copy = tmp_path / column
        small(copy)
        edit_line(copy, set_column(column, text))
        error = error_of(copy)
        assert (error.path, error.line, error.column) == (copy / FILE, 3, f"station_1/{column}")
        assert "packed" in error.problem and "--trust-pickle" in error.problem
    edit_line(folder, set_value("obs", 0, text))
    assert error_of(folder).column == "station_1/obs"
    assert not marker.exists()


class Marker:
    """Unpickling it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_an_unknown_agent(folder: Path) -> None:
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"station_2"', b'"station_9"')
    replace_lines(folder, lines)
    error = error_of(folder)
    assert error.line == 2 and error.problem.startswith("unknown agent 'station_9'; agents are station_0, station_1")


def test_a_truncated_line_in_a_complete_data_set(folder: Path) -> None:
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    for seal in (False, True):
        replace_lines(folder, [*lines[:-1], lines[-1][:100]], seal)
        error = error_of(folder)
        assert error.line == len(lines) and error.problem.startswith("the line is broken, as it is not JSON")


def test_a_broken_last_line_of_an_incomplete_data_set_is_skipped_with_a_warning(folder: Path) -> None:
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    open_card(folder)
    replace_lines(folder, [*lines[:-1], lines[-1][:100]])
    with pytest.warns(DataWarning, match=f"line {len(lines)}: skipped"):
        dataset = load_dataset(folder)
    rows = sum(len(orjson.loads(line)["policy_batches"]["station_0"]["t"]) for line in lines[:-1])
    assert len(dataset.rows["station_0"]["t"]) == rows
    replace_lines(folder, [lines[0], lines[1][:100] + b"\n", lines[2]])
    assert error_of(folder).line == 2


def test_a_changed_file_is_known_by_its_sha256(folder: Path) -> None:
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    replace_lines(folder, [lines[0].replace(b'"count":20', b'"count":21'), *lines[1:]], seal=False)
    error = error_of(folder)
    assert error.path == folder / FILE and "the file was changed after it was written" in error.problem


def test_a_changed_file_is_found_even_when_an_earlier_state_is_cached(folder: Path) -> None:
    load_dataset(folder)
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    replace_lines(folder, [lines[0].replace(b'"count":20', b'"count":21'), *lines[1:]], seal=False)
    assert "sha256" in str(error_of(folder))


def test_files_and_card_belong_together(folder: Path) -> None:
    (folder / "more.json").write_bytes(b"")
    assert "the card does not list this file" in str(error_of(folder))
    (folder / "more.json").unlink()
    (folder / FILE).rename(folder / "other.json")
    assert "it is not there" in str(error_of(folder))
    open_card(folder)
    (folder / "other.json").write_bytes(b"")
    assert "it holds no transitions" in str(error_of(folder))


def test_folders_that_hold_no_data_set(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "there is no such folder"), (tmp_path, "the folder is empty")):
        with pytest.raises(DataError, match=message):
            load_dataset(path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"it holds no card.yaml; `rllib-wireless data convert`"):
        load_dataset(tmp_path)


def test_another_environments_data(folder: Path) -> None:
    load_dataset(folder, environment=make_env("channel_access", **CONFIG))
    load_dataset(folder, environment=make_env("channel_access", **CONFIG, packet_slots=60))
    with pytest.raises(
        DataError, match="its agents are station_0, station_1, station_2, but those of the channel_access"
    ):
        load_dataset(folder, environment=make_env("channel_access", num_stations=4))
    with pytest.raises(DataError, match="its observation columns are"):
        load_dataset(folder, environment=make_env("channel_access", num_stations=3, history=2))
    card = read_card(folder)
    open_card(folder, environment=dataclasses.replace(card.environment, name="radio"))
    with pytest.raises(DataError, match="it holds data of radio, not of channel_access"):
        load_dataset(folder, environment=make_env("channel_access", **CONFIG))
    open_card(folder, environment=dataclasses.replace(card.environment, num_actions=3))
    with pytest.raises(DataError, match="its rows have 2 values, but the card says 3"):
        check(folder)


def test_a_clients_folder_with_joint_state_or_other_agents(folder: Path, tmp_path: Path) -> None:
    small(tmp_path / "split", split="agents")
    client = tmp_path / "split" / "station_1"
    (client / FILE).write_bytes((folder / FILE).read_bytes())
    open_card(client)
    error = error_of(client)
    assert error.line == 1 and "this client's folder may only hold station_1" in error.problem
    state_only = [
        orjson.dumps(content | {"policy_batches": {k: v for k, v in content["policy_batches"].items() if k in keep}})
        + b"\n"
        for content in map(orjson.loads, (folder / FILE).read_bytes().splitlines())
        for keep in [("station_1", "__state__")]
    ]
    replace_lines(client, state_only)
    error = error_of(client)
    assert (error.line, error.column) == (1, "__state__")
    assert error.problem == "a client's folder must not hold the joint state"
    with pytest.raises(DataError, match="must not hold the joint state"):
        check(tmp_path / "split")


def test_client_folders_refuse_joint_data(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is not a folder of clients' data; collect with `--split agents`"):
        client_folders(folder)
    with pytest.raises(DataError, match="this is joint data"):
        client_folders(tmp_path)
    small(tmp_path / "split", split="agents")
    with pytest.raises(DataError, match=r"open one of them, for example .*split/station_0"):
        load_dataset(tmp_path / "split")
    (tmp_path / "split" / "station_1" / CARD).unlink()
    with pytest.raises(DataError, match=r"it holds no card.yaml"):
        client_folders(tmp_path / "split")


def test_copied_lines_are_found_by_check(folder: Path) -> None:
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    open_card(folder)
    replace_lines(folder, [*lines, lines[2]])
    with pytest.raises(DataError, match="station_0 has two rows of episode 2, step 0; a line seems to be copied"):
        check(folder)


def test_rows_whose_state_is_missing_are_found_by_check(folder: Path) -> None:
    content = orjson.loads((folder / FILE).read_bytes().splitlines()[0])
    state = content["policy_batches"]["__state__"]
    content["policy_batches"]["__state__"] = {name: values[:-1] for name, values in state.items()}
    open_card(folder)
    replace_lines(folder, [orjson.dumps(content) + b"\n"])
    with pytest.raises(DataError, match="the joint state lacks step 20 of episode 0, which rows point to"):
        check(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("complete: true", "complete: maybe", "complete: input should be a valid boolean"),
        ("format: 1", "format: 7", "format 7, but this version reads format 1"),
        ("kind: joint", "kind: joint\nextra: 1", "extra: unexpected keyword argument"),
        ("rows: decisions", "rows: [a", "it cannot be read as YAML"),
        ("rows: decisions", "x: &a [1]\nrows: *a", "YAML aliases are not allowed in a card"),
        ("rows: decisions", "rows: !!python/object/apply:os.getcwd []", "it cannot be read as YAML"),
        ("rows: decisions", "rows: all", "columns should be obs, new_obs"),
        ("num_actions: 2", "num_actions: 0", "num_actions and num_streams should be at least 1"),
        ("name: part-00000.json", "name: ../part-00000.json", "files should be names of .json files"),
        ("transitions: 4", "transitions: 9", "the card says that station_0 has"),
        ("agents:\n  station_0", "agents:\n  station_7", "agents should be agents of the environment"),
    ],
)
def test_wrong_cards(folder: Path, old: str, new: str, message: str) -> None:
    text = (folder / CARD).read_text()
    assert old in text
    (folder / CARD).write_text(text.replace(old, new, 1))
    assert message in str(error_of(folder))


def test_a_card_written_is_a_card_read(folder: Path) -> None:
    card = read_card(folder)
    infinite = dataclasses.replace(card.environment, obs_high=(float("inf"), *card.environment.obs_high[1:]))
    wide = dataclasses.replace(card, environment=infinite, source="a: b #c\n'")
    write_card(wide, folder)
    assert read_card(folder) == wide
    assert np.isinf(read_card(folder).environment.obs_high[0])
