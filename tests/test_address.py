"""`--address` without a cluster: what is told before anything is submitted; and a run that goes on after a loss."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rllib_wireless import cluster
from rllib_wireless.algorithms.gradient import GradientAlgorithm
from rllib_wireless.algorithms.training import train
from rllib_wireless.cli import app, run
from rllib_wireless.errors import ProcessLost

NOBODY = "http://127.0.0.1:1"


def commands(group: typer.core.TyperGroup) -> list[Any]:
    found: list[Any] = []
    for command in group.commands.values():
        found += commands(command) if isinstance(command, typer.core.TyperGroup) else [command]
    return found


def test_every_command_takes_an_address() -> None:
    entry = typer.main.get_command(app)
    assert isinstance(entry, typer.core.TyperGroup)
    for command in commands(entry):
        assert {"address", "runtime_env"} <= {parameter.name for parameter in command.params}, command.name


def test_a_job_gets_the_arguments_without_its_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    submitted: list[Any] = []

    def submit(*arguments: Any) -> int:
        submitted.append(arguments)
        return 3

    monkeypatch.setattr(cluster, "submit", submit)
    (tmp_path / "env.yaml").write_text("env_vars: {A: b}\n")
    where = ["--address", NOBODY, f"--runtime-env={tmp_path / 'env.yaml'}"]
    assert run(["data", "check", "/data/a", *where, "--json"]) == 3
    assert submitted == [(NOBODY, ["data", "check", "/data/a", "--json"], {"env_vars": {"A": "b"}})]


def test_a_uri_is_the_same_place_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "submit", lambda *_: 0)
    given = [
        "train",
        "bc",
        "--env",
        "channel_access",
        "--data",
        "s3://bucket/a?region=b&scheme=http",
        "--out",
        "/runs/bc",
    ]
    assert run([*given, "--address", NOBODY]) == 0


def test_any_other_address_is_where_actors_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "before")
    assert run(["data", "check", str(tmp_path), "--address", "head:6379"]) == 2  # it runs here, and finds no data
    assert os.environ["RAY_ADDRESS"] == "head:6379"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data", "check", "here"], "path here: a relative path means another place on the cluster"),
        (["bench", "simulator"], "out results/bench: a relative path"),
        (["evaluate", "policy", "--env", "channel_access"], "policy policy: a relative path"),
        (["list", "-x"], "-x"),
        (["list", "--runtime-env", "missing.yaml"], "missing.yaml: No such file"),
        (["list", "--runtime-env", "broken.yaml"], "broken.yaml is not YAML"),
        (["list", "--runtime-env", "list.yaml"], "list.yaml should hold the fields of a runtime environment"),
        (["list"], f"{NOBODY} did not take the job"),
    ],
)
def test_mistakes_are_told_here(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "list.yaml").write_text("[]")
    (tmp_path / "policy").mkdir()
    assert run([*arguments, "--address", NOBODY]) == 2
    error = capfd.readouterr().err
    assert says in error and error.count("\n") == 1


def test_an_environment_belongs_to_a_job(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--runtime-env", "env.yaml"]) == 2
    assert "--runtime-env is for a job" in capfd.readouterr().err


def test_files_may_travel_with_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "submit", lambda *_: 0)
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent/mapping.yaml").touch()
    (tmp_path / "env.yaml").write_text("working_dir: sent\n")
    given = ["data", "import", "/logs.csv", "--mapping", "mapping.yaml", "--out", "/data/a", "--address", NOBODY]
    assert run(given) == 2
    assert run([*given, "--runtime-env", "env.yaml"]) == 0


def test_the_log_of_a_job_is_told_apart(capfd: pytest.CaptureFixture[str]) -> None:
    log = cluster._Log()
    for text in ("not", "e 1\nno line end\x1e{", '"a": 1}\n', "note 2\n\n"):
        log.write(text)
    out, err = capfd.readouterr()
    assert out == '{"a": 1}\n' and err == "note 1\nno line end\nnote 2\n\n"


def test_the_own_wheel_is_sent_without_its_dependencies(tmp_path: Path) -> None:
    wheel = tmp_path / "rllib_wireless-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in ("rllib_wireless/a.py", "rllib_wireless-1.0.dist-info/METADATA"):
            file.writestr(name, "")
    with cluster._own_wheel_unpacked({"py_modules": [str(wheel), "other.whl"]}) as environment:
        *folders, other = environment["py_modules"]
        assert other == "other.whl"
        assert {Path(f).name for f in folders} == {"rllib_wireless", "rllib_wireless-1.0.dist-info"}
        assert any((Path(f) / "a.py").exists() for f in folders)


def test_a_job_marks_what_its_command_prints(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cluster._run_in_job(["list", "bc", "--json"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("\x1e{") and out.count("\n") == 1
    assert cluster._run_in_job(["list", "nothing"]) == 2


def test_a_run_goes_on_from_its_checkpoint_after_a_loss(
    csma_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as allowed, and with the result of a run that lost nothing."""
    settings = {"dataset_num_iters_per_learner": 10, "fcnet_hiddens": [8]}
    given: dict[str, Any] = {
        "data": csma_data,
        "env_config": {"num_stations": 3},
        "settings": settings,
        "iterations": 4,
    }
    train("bc", "channel_access", out=tmp_path / "whole", **given)

    update, calls = GradientAlgorithm.update, []

    def losing(self: GradientAlgorithm, num_iters: int) -> None:
        calls.append(self.iteration)
        if len(calls) in (2, 4):
            raise ProcessLost("a learner's process was lost")
        update(self, num_iters)

    monkeypatch.setattr(GradientAlgorithm, "update", losing)
    with pytest.raises(ProcessLost):
        train("bc", "channel_access", out=tmp_path / "once", max_failures=1, **given)
    calls.clear()
    train("bc", "channel_access", out=tmp_path / "twice", max_failures=2, **given)
    assert calls == [0, 1, 1, 2, 2, 3]
    for file in ("progress.jsonl", *(f"policy/{f.name}" for f in (tmp_path / "whole/policy").iterdir())):
        assert (tmp_path / "twice" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
