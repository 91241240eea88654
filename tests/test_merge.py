"""Data sets joined: all rows, episodes apart, and a card that says so."""

from pathlib import Path

import numpy as np
import pytest

from rllib_wireless.cli import run as command
from rllib_wireless.data import Behaviour, check, collect, load_dataset, merge, read_card
from rllib_wireless.errors import DataError, UserError

ENV = {"num_stations": 3}


def log(path: Path, policy: str, seed: int, **options: object) -> Path:
    collect("channel_access", ENV, [Behaviour(policy)], 300, path, seed=seed, num_envs=4, **options)  # type: ignore[arg-type]
    return path


def test_all_rows_are_there_and_episodes_are_apart(tmp_path: Path) -> None:
    parts = [log(tmp_path / name, name, seed) for seed, name in enumerate(("csma_ca", "ac_be", "ac_vo"))]
    card = merge(parts, tmp_path / "all")
    check(tmp_path / "all")
    merged, own = load_dataset(tmp_path / "all"), [load_dataset(part) for part in parts]
    assert card.steps == 900 and [policy.policy for policy in card.policies] == ["csma_ca", "ac_be", "ac_vo"]
    for agent in merged.agents:
        for name, values in merged.rows[agent].items():
            if name != "eps_id":
                np.testing.assert_array_equal(values, np.concatenate([part.rows[agent][name] for part in own]))
    episodes = [
        set(merged.rows[merged.agents[0]]["eps_id"][start : start + len(part.rows[merged.agents[0]]["t"])])
        for start, part in zip(
            np.cumsum([0, *(len(part.rows[merged.agents[0]]["t"]) for part in own[:-1])]), own, strict=True
        )
    ]
    assert not (episodes[0] & episodes[1] or episodes[1] & episodes[2] or episodes[0] & episodes[2])
    for policy, found in zip(card.policies, episodes, strict=True):
        assert policy.episodes is not None and policy.episodes[0] <= min(found) <= max(found) <= policy.episodes[1]
    rows = merged.rows[merged.agents[1]]
    assert merged.state_at(rows["eps_id"], rows["t"]).shape == (len(rows["t"]), merged.card.state_size)


def test_merging_what_was_merged(tmp_path: Path) -> None:
    a, b = log(tmp_path / "a", "csma_ca", 0), log(tmp_path / "b", "csma_ca", 1)
    merge([a, b], tmp_path / "ab")
    card = merge([tmp_path / "ab", a], tmp_path / "aba")
    check(tmp_path / "aba")
    assert card.steps == 900 and len({policy.episodes for policy in card.policies}) == 3


def test_folders_of_agents(tmp_path: Path) -> None:
    parts = [log(tmp_path / name, name, 0, split="agents") for name in ("csma_ca", "ac_be")]
    merge(parts, tmp_path / "all")
    report = check(tmp_path / "all")
    for agent, count in report.transitions.items():
        assert count == sum(read_card(part / agent).agents[agent].transitions for part in parts)
        assert read_card(tmp_path / "all" / agent).kind == "client"


def test_what_only_some_recorded_is_left_out(tmp_path: Path) -> None:
    collect("channel_access", ENV, [Behaviour("csma_ca")], 300, tmp_path / "a", state=False)
    collect("channel_access", ENV, [Behaviour("tdma")], 300, tmp_path / "b")
    card = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    check(tmp_path / "all")
    assert card.state_size is None and load_dataset(tmp_path / "all").joint_state is None


def test_what_does_not_fit_is_refused_and_nothing_written(tmp_path: Path) -> None:
    a = log(tmp_path / "a", "csma_ca", 0)
    rows = log(tmp_path / "rows", "csma_ca", 0, rows="all")
    split = log(tmp_path / "split", "csma_ca", 0, split="agents")
    collect("channel_access", {"num_stations": 2}, [Behaviour("csma_ca")], 300, tmp_path / "two")
    for other, words in (
        (rows, "rows are all, but"),
        (split, "kind are clients"),
        (tmp_path / "two", "its agents are"),
    ):
        with pytest.raises(DataError, match=words):
            merge([a, other], tmp_path / "out")
    with pytest.raises(UserError, match="at least two"):
        merge([a], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_file_is_named_and_nothing_written(tmp_path: Path) -> None:
    a, b = log(tmp_path / "a", "csma_ca", 0), log(tmp_path / "b", "csma_ca", 1)
    (file,) = b.glob("*.json")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match=file.name):
        merge([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = log(tmp_path / "a", "csma_ca", 0), log(tmp_path / "b", "csma_ca", 1)
    assert command(["data", "merge", str(a), str(b), "--out", str(tmp_path / "all")]) == 0
    assert "600 joint steps" in capsys.readouterr().out
