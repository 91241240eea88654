"""The command line: what each command does, prints and refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rllib_wireless import benchmarks, cli
from rllib_wireless.algorithms.registry import VARIANTS, algorithm_names
from rllib_wireless.console import key_values, of_rule
from rllib_wireless.envs import env_names, env_spec
from rllib_wireless.errors import UserError

STATIONS = ["-c", "num_stations=3"]
EVALUATE = ["evaluate", "ac_be", "--env", "channel_access", *STATIONS, "--num-envs", "4", "--steps", "50"]
COMMANDS = ["list", "collect", "train", "evaluate", "reproduce", "bench", "data"]
DATA_COMMANDS = ["check", "info", "convert", "import", "export"]

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "joint"
    arguments = ["collect", "channel_access", *STATIONS, "--policy", "csma_ca", "--steps", "2000", "--out", str(out)]
    assert cli.run(arguments) == 0
    return out


def result(captured: Captured, arguments: list[str]) -> Any:
    """What a command prints with `--json`, which is one JSON object and nothing else."""
    captured.readouterr()
    assert cli.run([*arguments, "--json"]) == 0
    lines = captured.readouterr().out.splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


def test_help_names_every_command(capfd: Captured) -> None:
    assert cli.run([]) == 0
    shown = capfd.readouterr().out
    assert all(f"\n  {command} " in shown for command in COMMANDS)
    assert cli.run(["data"]) == 0
    shown = capfd.readouterr().out
    assert all(f"\n  {command} " in shown for command in DATA_COMMANDS)


@pytest.mark.parametrize("command", [*([c] for c in COMMANDS), *(["data", c] for c in DATA_COMMANDS)])
def test_every_command_has_help_and_offers_json(command: list[str], capfd: Captured) -> None:
    assert cli.run([*command, "--help"]) == 0
    shown = capfd.readouterr().out
    assert command == ["data"] or "--json" in shown


def test_list_shows_environments_and_algorithms_with_everything_they_take(capfd: Captured) -> None:
    content = result(capfd, ["list"])
    assert [env["name"] for env in content["environments"]] == env_names()
    assert [algorithm["name"] for algorithm in content["algorithms"]] == [*algorithm_names(), *VARIANTS]
    for env in content["environments"]:
        spec = env_spec(env["name"])
        assert [rule["name"] for rule in env["rules"]] == list(spec.rules)
        assert [metric["name"] for metric in env["metrics"]] == [metric.name for metric in spec.metrics]
        for field in (f for part in [env, *env["rules"]] for f in part.get("config", part.get("parameters"))):
            assert field["description"] and {"name", "default", "type", "unit", "source"} <= field.keys()
    for algorithm in content["algorithms"]:
        assert algorithm["needs"] and (algorithm["settings"] or algorithm["name"] in VARIANTS)
    ac_vi = next(rule for rule in content["environments"][0]["rules"] if rule["name"] == "ac_vi")
    assert [field["default"] for field in ac_vi["parameters"]] == [15, 31]


def test_list_of_one_name_shows_that_alone(capfd: Captured) -> None:
    content = result(capfd, ["list", "channel_access"])
    assert [env["name"] for env in content["environments"]] == ["channel_access"] and not content["algorithms"]
    assert cli.run(["list", "channel_access"]) == 0
    shown = capfd.readouterr().out
    for word in ("packet_slots", "csma_eca", "short_term_fairness", "packets/slot"):
        assert word in shown


def test_help_and_environments_need_neither_ray_nor_torch() -> None:
    code = (
        "import sys; from rllib_wireless import cli; cli.run(['evaluate', '--help']); cli.run(['list', 'channel_access']);"
        "assert not {'ray', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_evaluate_prints_the_contracts_object(capfd: Captured) -> None:
    content = result(capfd, EVALUATE)
    assert content.keys() == {"env", "policy", "metrics"}
    assert (content["env"], content["policy"]) == ("channel_access", "ac_be")
    assert content["metrics"].keys() == {metric.name for metric in env_spec("channel_access").metrics}
    throughput = content["metrics"]["throughput_ratio"]
    assert throughput.keys() == {"mean", "std", "ci95", "n"} and throughput["n"] == 4
    assert throughput["ci95"][0] <= throughput["mean"] <= throughput["ci95"][1]
    assert result(capfd, EVALUATE) == content
    assert result(capfd, [*EVALUATE, "--seed", "1"]) != content
    assert result(capfd, [*EVALUATE, "--warmup", "20"]) != content


def test_settings_reach_the_rule_and_lists_reach_single_stations(capfd: Captured) -> None:
    lone = ["-s", "cw_min=[0, 1000, 1000]", "-s", "cw_max=[0, 1000, 1000]"]
    captured = result(capfd, [*EVALUATE, *lone])["metrics"]
    assert captured["jain_fairness"]["mean"] < 0.5


def test_tables_go_to_standard_output_and_progress_to_standard_error(capfd: Captured) -> None:
    assert cli.run(EVALUATE) == 0
    captured = capfd.readouterr()
    assert "throughput_ratio" in captured.out and "4 copies" in captured.out
    assert captured.err.splitlines()[-1] == "evaluate: 100 %"


def test_collected_data_are_checked_described_and_exported(joint: Path, tmp_path: Path, capfd: Captured) -> None:
    report = result(capfd, ["data", "check", str(joint)])
    assert report["complete"] and report["kind"] == "joint"
    assert set(report["transitions"]) == {"station_0", "station_1", "station_2"}
    info = result(capfd, ["data", "info", str(joint)])
    assert info["card"]["environment"]["config"]["num_stations"] == 3
    assert cli.run(["data", "info", str(joint)]) == 0
    assert "station_2" in capfd.readouterr().out
    out = tmp_path / "rows.json"
    export = ["data", "export", str(joint), "--agent", "station_1", "--out", str(out), "--format", "json"]
    assert result(capfd, export)["out"] == str(out) and out.exists()
    converted = ["data", "convert", str(out), "--env", "other", "--agent", "agent_0=station_1", "--out"]
    card = result(capfd, [*converted, str(tmp_path / "converted")])["card"]
    assert list(card["agents"]) == ["station_1"]
    assert cli.run(["data", "check", str(tmp_path / "converted")]) == 0


def test_clients_data_lie_in_folders_of_their_own(tmp_path: Path, capfd: Captured) -> None:
    out = tmp_path / "clients"
    mixed = ["--policy", "csma_ca:3", "--policy", "ac_vo:1", "-s", "csma_ca.cw_min=15", "-s", "ac_vo.cw_max=7"]
    arguments = ["collect", "channel_access", *STATIONS, *mixed, "--steps", "400", "--out", str(out)]
    card = result(capfd, [*arguments, "--split", "agents"])["card"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["station_0", "station_1", "station_2"]
    behaviours = {p["policy"]: (p["params"], p["steps"]) for p in card["policies"]}
    assert behaviours == {"csma_ca": ({"cw_min": 15}, 300), "ac_vo": ({"cw_max": 7}, 100)}
    assert result(capfd, ["data", "check", str(out)])["kind"] == "clients"


def test_logs_are_imported(tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "logs.csv").write_text("t,x,action,reward\n0,0.5,1,0\n1,0.25,0,1\n2,0.75,1,0\n")
    (tmp_path / "mapping.yaml").write_text("observations: [x]\n")
    arguments = ["data", "import", str(tmp_path / "logs.csv"), "--mapping", str(tmp_path / "mapping.yaml")]
    card = result(capfd, [*arguments, "--out", str(tmp_path / "data")])["card"]
    assert [agent["transitions"] for agent in card["agents"].values()] == [2]  # what the last row led to is not known


def test_train_resume_and_evaluate_the_outcome(joint: Path, tmp_path: Path, capfd: Captured) -> None:
    out = tmp_path / "bc"
    start = ["train", "bc", "--env", "channel_access", *STATIONS, "--data", str(joint), "--out", str(out)]
    start += ["-s", "dataset_num_iters_per_learner=20", "-s", "lr=3e-3", "--iterations", "1"]
    assert result(capfd, start)["result"]["iteration"] == 1
    assert cli.run(start) == 2
    assert "--resume" in capfd.readouterr().err
    assert result(capfd, ["train", "--resume", "--out", str(out), "--iterations", "3"])["result"]["iteration"] == 3
    assert len((out / "progress.jsonl").read_text().splitlines()) == 3
    evaluate = ["evaluate", str(out), "--env", "channel_access", *STATIONS, "--num-envs", "4", "--steps", "200"]
    sampled = result(capfd, evaluate)["metrics"]["throughput_ratio"]["mean"]
    # Stations that act greedily never send: none has learned that sending is likelier than not.
    assert sampled > 0 and result(capfd, [*evaluate, "-s", "mode=greedy"])["metrics"]["throughput_ratio"]["mean"] == 0


def test_bench_writes_rows_and_shows_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Captured) -> None:
    row = {"name": "ours, times theirs", "value": 321.0, "unit": "x", "target": 200.0, "peer": "theirs"}
    monkeypatch.setattr("rllib_wireless.benchmarks.simulator.run", lambda quick: [row])
    assert cli.run(["bench", "simulator", "--out", str(tmp_path)]) == 0
    shown = capfd.readouterr().out
    assert "ours, times theirs" in shown and "321" in shown
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["rows"] == [{"benchmark": "simulator", **row}]
    assert content["machine"]["cores"] >= 1


def test_every_benchmark_of_the_package_is_registered() -> None:
    modules = {path.stem for path in Path(benchmarks.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == set(benchmarks.NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "ac_be", "--env", "chanel"], "environments are channel_access"),
        (["evaluate", "ac_be", "--env", "channel_access", "-c", "stations=3"], "fields are num_stations"),
        (["evaluate", "ac_be", "--env", "channel_access", "-c", "num_stations"], "it should be name=value"),
        (["evaluate", "ac_be", "--env", "channel_access", "-c", "num_stations=[1"], "YAML"),
        (["evaluate", "ac_be", "--env", "channel_access", "-c", "num_stations=0"], "greater than or equal to 1"),
        (["evaluate", "ac_be", "--env", "channel_access", "-s", "cw=3"], "fields are cw_min, cw_max"),
        (["evaluate", "ac_b", "--env", "channel_access"], "ac_vo, ac_vi, ac_be"),
        (["evaluate", "ac_be", "--env", "channel_access", "--steps", "0"], "at least 1"),
        (["evaluate", "ac_be", "--env", "channel_access", "--num-envs", "0"], "at least 1"),
        (["evaluate", "ac_be"], "--env"),
        (["evaluate", "ac_be", "--env", "channel_access", "--speed", "9"], "--speed"),
        (["evaluate", "ac_be", "--env", "channel_access", "--steps", "many"], "valid integer"),
        (["collect", "channel_access", "--policy", "tdm", "--steps", "9", "--out", "OUT"], "ac_vo, ac_vi"),
        (["collect", "channel_access", "--policy", "tdma:0", "--steps", "9", "--out", "OUT"], "positive"),
        (["collect", "channel_access", "--steps", "9", "--out", "OUT"], "--policy"),
        (["collect", "channel_access", "--policy", "tdma", "--steps", "9", "--out", "OUT", "--rows", "x"], "decisions"),
        (["data", "check", "OUT"], "OUT"),
        (["data", "chek", "OUT"], "chek"),
        (["data", "import", "OUT.csv", "--mapping", "OUT.yaml", "--out", "OUT"], "OUT.yaml"),
        (["train", "cb", "--env", "channel_access", "--out", "OUT"], "algorithms are bc"),
        (["train", "bc", "--env", "channel_access", "--out", "OUT"], "data"),
        (["train", "bc", "--out", "OUT"], "--env"),
        (["train", "--resume", "--out", "OUT"], "run.yaml"),
        (["train", "bc", "--env", "channel_access", "--data", "OUT", "--out", "X", "-s", "lr=-1"], "greater than"),
        (["reproduce", "fedmoral", "--out", "OUT"], "fedmorl"),
        (["reproduce", "fedmorl", "--out", "OUT", "--plot-only"], "results.json"),
        (["reproduce", "fedmorl", "--out", "OUT", "--only", "sneeze"], "cells are"),
        (["bench", "speed", "--out", "OUT"], "benchmarks are"),
        (["bench", "simulator", "--out", "/proc/OUT"], "/proc/OUT"),
        (["evaluate", "ac_be", "--env", "channel_access", "--num-envs", "1000000000000"], "memory"),
        (["list", "nothing"], "channel_access"),
        (["teach"], "teach"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 2
    captured = capfd.readouterr()
    *before, last = captured.err.splitlines()
    assert last.startswith("error: ") and message in last
    assert all(line.endswith(" %") for line in before) and not captured.out
    assert not list(tmp_path.glob("**/card.yaml"))


def test_settings_of_several_policies_must_name_theirs(capfd: Captured) -> None:
    arguments = ["collect", "channel_access", "--policy", "csma_ca", "--policy", "ac_be", "--steps", "9", "--out", "x"]
    assert cli.run([*arguments, "-s", "cw_min=3"]) == 2
    assert "csma_ca.cw_min=" in capfd.readouterr().err


def test_values_are_yaml() -> None:
    given = ["a=1", "b=1e-3", "c=[1, 2e3]", "d=true", "e=null", "f=text", "g=a=b", "h=0.5"]
    expected = {"a": 1, "b": 0.001, "c": [1, 2000.0], "d": True, "e": None, "f": "text", "g": "a=b", "h": 0.5}
    assert key_values(given, "-c") == expected
    with pytest.raises(UserError, match=r"-c =3: it should be name=value"):
        key_values(["=3"], "-c")


def test_a_lone_policy_may_be_named_too() -> None:
    assert of_rule({"cw_min": 1, "ac_be.cw_max": 2}, "ac_be", ["ac_be"]) == {"cw_min": 1, "cw_max": 2}
    assert of_rule({"ac_be.cw_max": 2}, "ac_vo", ["ac_be", "ac_vo"]) == {}


def test_ctrl_c_ends_a_command_without_a_traceback() -> None:
    command = [sys.executable, "-m", "rllib_wireless", *EVALUATE[:-1], "3000000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("evaluate")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted" and "Traceback" not in errors


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rllib-wireless tra", {"train"}),
        ("rllib-wireless data shar", {"sharing-graph"}),
        ("rllib-wireless train ctde_cql --env prod", {"production_scheduling"}),
        ("rllib-wireless train --out x map", {"mappo"}),
        ("rllib-wireless list ch", {"channel_access"}),
        ("rllib-wireless collect rad", {"radio_resource"}),
    ],
)
def test_shells_complete_commands_and_names(line: str, expected: set[str]) -> None:
    asked = {
        "_RLLIB_WIRELESS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)
    }  # fmt: skip
    command = [sys.executable, "-c", "from rllib_wireless.cli import main; main()"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected, done.stderr


def test_help_does_not_wait_for_ray_or_torch() -> None:
    code = "import sys; from rllib_wireless import cli; cli.run(['--help']); sys.exit(bool({'ray', 'torch', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
