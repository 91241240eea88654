"""Data sets and policies on S3-like storage, against a local server of that protocol."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_s3 import CREDENTIALS, s3_server

from rllib_wireless import data, storage
from rllib_wireless.cli import run
from rllib_wireless.data import Behaviour, collect, load_dataset
from rllib_wireless.data.format import CARD
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.envs import make_env
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies import NetworkPolicy, StackedMLP, load_policy, save_policy

ENV = {"num_stations": 2}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """What a URI needs to find the server, after its question mark."""
    with pytest.MonkeyPatch.context() as patch, s3_server() as query:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield query


@pytest.fixture(scope="module")
def joint(server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """One collection twice: on the server, and in a folder."""
    uri, folder = f"s3://bucket/joint{server}", tmp_path_factory.mktemp("joint") / "joint"
    for out in (uri, folder):
        collect("channel_access", ENV, [Behaviour("csma_ca")], 2000, out, num_envs=4, rows="all")
    return uri, folder


def test_a_path_that_pathlib_has_shortened_is_the_same_uri() -> None:
    uri = "s3://bucket/key?region=x"
    assert storage.name(Path(uri)) == storage.absolute(Path(uri)) == uri
    assert str(storage.join(uri, "child")) == "s3:/bucket/key/child?region=x"
    assert storage.name(Path("file:///tmp/x")) == "file:///tmp/x"
    assert not storage.is_remote("data/set") and not storage.is_remote("c:1") and not storage.is_remote("/a:/b")


def test_a_collection_on_the_server_is_the_one_in_a_folder(joint: tuple[str, Path], tmp_path: Path) -> None:
    uri, folder = joint
    remote, here = load_dataset(uri), load_dataset(folder)
    assert remote.card.files == here.card.files
    for agent, rows in here.rows.items():
        for name, column in rows.items():
            np.testing.assert_array_equal(remote.rows[agent][name], column)
    assert data.check(uri).transitions == data.check(folder).transitions
    assert data.info(uri)["agents"] == data.info(folder)["agents"]
    data.export(uri, tmp_path / "a.parquet", agent="station_0")
    data.export(folder, tmp_path / "b.parquet", agent="station_0")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_it_is_fetched_once_and_anew_when_it_changes(
    joint: tuple[str, Path], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import fs  # type: ignore[import-untyped]

    monkeypatch.setenv("RLLIB_WIRELESS_CACHE", str(tmp_path))
    uri = f"s3://bucket/changing{server}"
    system, _ = fs.FileSystem.from_uri(uri)
    for number in (1, 2):
        with system.open_output_stream("bucket/changing/a.json") as file:
            file.write(b"0" * number)
        first = storage.local(uri)
        mark = first / "mark"
        mark.touch()
        assert storage.local(uri) == first and mark.exists()
        assert (first / "a.json").read_bytes() == b"0" * number
    assert len(list((tmp_path / "fetched").iterdir())) == 2


def test_what_was_changed_on_the_server_is_noticed(joint: tuple[str, Path], server: str) -> None:
    from pyarrow import fs

    uri, folder = joint
    system, _ = fs.FileSystem.from_uri(uri)
    for file in folder.iterdir():
        content = file.read_bytes()
        with system.open_output_stream(f"bucket/damaged/{file.name}") as sink:
            sink.write(content if file.name == CARD else content.replace(b":[", b": [", 1))
    with pytest.raises(DataError, match="sha256"):
        load_dataset(f"s3://bucket/damaged{server}")


def test_the_card_goes_last(
    joint: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """A collection whose last file cannot be uploaded has no card on the server, so it is no data set."""
    uri = f"s3://bucket/half{server}"
    with pytest.raises(RuntimeError), storage.uploaded(uri, last=CARD) as folder:
        folder.mkdir()
        raise RuntimeError
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(uri)

    sent: list[str] = []
    copy = shutil.copyfileobj

    def watched(source: Any, *rest: Any) -> None:
        sent.append(Path(source.name).name)
        copy(source, *rest)

    monkeypatch.setattr(shutil, "copyfileobj", watched)
    with storage.uploaded(uri, last=CARD) as folder:
        (folder / "agent").mkdir(parents=True)
        for name in (CARD, "part.json", f"agent/{CARD}", "agent/part.json"):
            (folder / name).write_text(name)
    assert sent == ["part.json", "part.json", CARD, CARD]
    with pytest.raises(UserError, match="not empty"):
        collect("channel_access", ENV, [Behaviour("csma_ca")], 100, uri)


def test_clients_of_a_federation_are_found_by_their_cards_alone(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"s3://bucket/cells/a{server}"
    collect("channel_access", ENV, [Behaviour("csma_ca")], 1000, uri, num_envs=4, split="agents")
    monkeypatch.setenv("RLLIB_WIRELESS_CACHE", str(tmp_path))
    folders = data.client_folders(uri)
    assert list(folders) == ["station_0", "station_1"]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {CARD}
    assert data.cell_folders(f"s3://bucket/cells{server}") == {"a": folders}
    assert len(load_dataset(folders["station_1"]).rows["station_1"]["t"]) > 0
    assert data.check(uri).kind == "clients"


def test_learners_draw_the_same_batches_from_either(joint: tuple[str, Path]) -> None:
    batches = [next(TensorIterator([path], seed=1).iter_torch_batches(batch_size=8)) for path in joint]
    for name, values in batches[0].items():
        np.testing.assert_array_equal(values, batches[1][name])


def test_a_policy_is_evaluated_from_the_server(server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    env = make_env("channel_access", num_stations=2)
    policy = NetworkPolicy(StackedMLP(len(env.agents), [env.observation_space.shape[0], 4, 2]), env.agents)
    save_policy(policy, tmp_path / "run" / "policy", env="channel_access", env_config=ENV)
    uri = f"s3://bucket/run{server}"
    with storage.uploaded(uri, last="policy.json") as folder:
        shutil.copytree(tmp_path / "run", folder)
    assert load_policy(uri).agents == load_policy(f"s3://bucket/run/policy{server}").agents == env.agents
    assert run(["evaluate", uri, "--env", "channel_access", "-c", "num_stations=2", "--steps", "50", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["policy"] == uri


def test_collect_says_where_it_wrote(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    uri = f"s3://bucket/said{server}"
    given = ["collect", "channel_access", "-c", "num_stations=2", "--policy", "csma_ca", "--steps", "100", "--out", uri]
    assert run([*given, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["out"] == uri
    assert run(["data", "check", uri]) == 0


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://nobucket/data{server}", "NO_SUCH_BUCKET"),
        ("s3://bucket/nothing{server}", "there is no such folder"),
        ("s3://bucket/joint?endpoint_override=127.0.0.1:1&scheme=http&region=x", "NETWORK_CONNECTION"),
        ("s3://bucket/joint?endpiont=x", "endpiont"),
        ("s4://bucket/joint", "Unrecognized filesystem type"),
        ("s3://key:secret@bucket/joint", "environment variables"),
    ],
)
def test_mistakes_are_one_line(
    uri: str, says: str, server: str, joint: tuple[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "check", uri.format(server=server)]) == 2
    error = capfd.readouterr().err
    assert says in error and error.count("\n") == 1 and "secret" not in error


def test_only_collect_writes_to_a_uri(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = list(Path().iterdir())
    assert run(["train", "bc", "--env", "channel_access", "--data", str(tmp_path), "--out", "s3://bucket/run"]) == 2
    assert "only `collect` writes to a URI" in capfd.readouterr().err
    assert list(Path().iterdir()) == before
