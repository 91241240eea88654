"""Tracking: what Weights & Biases' own client and TensorBoard's format hold of a run, read back from their files."""

import importlib
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rllib_wireless.algorithms.training import repeat_run, resume_run, train
from rllib_wireless.cli import run as command
from rllib_wireless.errors import UserError
from rllib_wireless.tracking import card_hash, flat, numbers, tracking_id

ENV = {"num_stations": 3}
SMALL = {
    "dataset_num_iters_per_learner": 10,
    "evaluation_interval": 1,
    "evaluation_duration": 800,
    "num_envs_per_env_runner": 8,
}


def records(folder: Path) -> list[Any]:
    """All records that the client wrote offline, oldest file first, once the last one of each run is there.

    The client's own process may still be writing when `finish` has returned.
    """
    protocol: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    paths = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    found: list[Any] = []
    for path in paths:
        for _ in range(100):
            own = [protocol.Record.FromString(data) for data in entries(path.read_bytes())]
            if any(record.HasField("exit") for record in own):
                break
            time.sleep(0.1)
        found += own
    return found


def entries(content: bytes) -> Iterator[bytes]:
    """Entries of a file in LevelDB's log format: pieces with checksum, length and kind, which do not cross blocks of 32 KiB."""
    entry, at = b"", 7  # after Weights & Biases' own header
    while at + 7 <= len(content):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        entry += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole entry, or its last piece
            yield entry
            entry = b""


def history(folder: Path) -> list[dict[str, Any]]:
    """The logged rows."""
    rows = []
    for record in records(folder):
        if record.HasField("history"):
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's scalars by name and step, read from the records of the files without TensorBoard."""
    event_type: Any = importlib.import_module("tensorboardX.proto.event_pb2").Event

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = event_type.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


@pytest.fixture(scope="module")
def tracked_run(csma_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two iterations of behaviour cloning, and a third one after an interruption."""
    out = tmp_path_factory.mktemp("runs") / "bc"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        given: dict[str, Any] = {"wandb": "offline", "tensorboard": True}
        train("bc", "channel_access", out=out, data=csma_data, env_config=ENV, settings=SMALL, iterations=2, **given)
        resume_run(out, iterations=3, **given)
    return out


def test_wandb_holds_config_rows_figure_and_policy(tracked_run: Path, csma_data: Path) -> None:
    runs = [record.run for record in records(tracked_run) if record.HasField("run")]
    assert {run.run_id for run in runs} == {tracking_id(tracked_run)}
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["algorithm"] == "bc" and config["env_config"] == ENV
    assert config["data_sha256"] == card_hash(csma_data)
    written = [json.loads(line) for line in (tracked_run / "progress.jsonl").read_text().splitlines()]
    logged = {row["_step"]: row for row in history(tracked_run) if "learners/agents/loss" in row}
    assert set(logged) == {1, 2, 3}
    for row in written:
        for name, value in numbers(row).items():
            assert logged[row["iteration"]][name] == pytest.approx(value), name
    assert any(name.startswith("figures/curves") for row in history(tracked_run) for name in row)
    artifacts = [
        record.request.log_artifact.artifact
        for record in records(tracked_run)
        if record.request.HasField("log_artifact")
    ]
    artifacts += [record.artifact for record in records(tracked_run) if record.HasField("artifact")]
    assert {(a.name, a.type) for a in artifacts} >= {("policy-bc", "policy")}
    assert "policy.json" in {entry.path for artifact in artifacts for entry in artifact.manifest.contents}


def test_tensorboard_holds_the_rows_of_a_resumed_run(tracked_run: Path) -> None:
    found = scalars(tracked_run / "tensorboard")
    written = [json.loads(line) for line in (tracked_run / "progress.jsonl").read_text().splitlines()]
    for row in written:
        for name, value in numbers(row).items():
            assert found[name][row["iteration"]] == pytest.approx(value), name
    assert (tracked_run / "curves.png").stat().st_size > 10_000


def test_a_run_that_nobody_follows_writes_neither(csma_data: Path, tmp_path: Path) -> None:
    train("bc", "channel_access", out=tmp_path / "bc", data=csma_data, env_config=ENV, settings=SMALL, iterations=1)
    assert {p.name for p in (tmp_path / "bc").iterdir()} == {"run.yaml", "progress.jsonl", "checkpoint", "policy"}


def test_what_is_not_a_finite_number_is_left_out() -> None:
    row = {
        "iteration": 1,
        "phase": "model",
        "learners": {"loss": float("nan"), "entropy": 0.5, "ok": True, "none": None},
    }
    assert numbers(row) == {"iteration": 1.0, "learners/entropy": 0.5}
    assert flat({"a": {"b": {"c": 1}}, "d": 2}) == {"a/b/c": 1, "d": 2}


def test_the_hash_of_a_data_set_is_that_of_its_card(csma_data: Path, csma_clients: Path, tmp_path: Path) -> None:
    known = card_hash(csma_data)
    assert known is not None and card_hash(csma_clients) not in (None, known)
    assert card_hash(None) is None and card_hash(tmp_path) is None
    (tmp_path / "card.yaml").write_bytes((csma_data / "card.yaml").read_bytes() + b"\n")
    assert card_hash(tmp_path) != known


def test_a_run_yaml_is_repeated_bit_for_bit(tracked_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert command(["train", "--run", str(tracked_run / "run.yaml"), "--out", str(again), "--iterations", "3"]) == 0
    assert (again / "progress.jsonl").read_bytes() == (tracked_run / "progress.jsonl").read_bytes()
    assert command(["train", "bc", "--run", str(tracked_run / "run.yaml"), "--out", str(tmp_path / "x")]) == 2


def test_iterations_of_a_run_yaml_hold_unless_others_are_given(tracked_run: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((tracked_run / "run.yaml").read_text())
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({**content, "iterations": 1}))
    assert repeat_run(tmp_path / "one.yaml", tmp_path / "one")["iteration"] == 1
    (tmp_path / "wrong.yaml").write_text("lr: 1")
    with pytest.raises(UserError, match="is not what this version writes"):
        repeat_run(tmp_path / "wrong.yaml", tmp_path / "wrong")


def test_wandb_online_without_an_account_is_told_in_one_line(
    csma_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"Weights & Biases: .*; --wandb offline needs no account"):
        train(
            "bc", "channel_access", out=tmp_path / "bc", data=csma_data, env_config=ENV, settings=SMALL, wandb="online"
        )
    assert not (tmp_path / "bc").exists()
