"""Commands on a Ray cluster of two nodes, separate processes with a token; run with `pytest -m cluster`."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_s3 import CREDENTIALS, free_port, s3_server

from rllib_wireless.papers.experiment import Cell, Json, Progress
from rllib_wireless.papers.pool import run_side_by_side

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LOGS = "node,run,slot,level,send,gain,over\n" + "".join(f"x,0,{t},0.5,1,2.0,{t == 9}\n" for t in range(10))
MAPPING = """
{environment: mine, agent: node, agents: {x: left}, episode: run, time: slot, observations: [level], actions: send,
 rewards: gain, terminateds: over}
"""


class Cluster:
    """A head and workers, each with processes and a cache of its own; all on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "token").write_text(secrets.token_hex(32))
        self.jobs, self.gcs = f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.env = {
            **os.environ,
            **CREDENTIALS,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_scheduler_spread_threshold": "0.0",  # actors go to the node with most room, not to the head first
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
        }
        self.env.pop("RAY_ADDRESS", None)
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start_head(self) -> None:
        """With the servers of the cluster and of jobs."""
        gcs, jobs = self.gcs.rpartition(":")[2], self.jobs.rpartition(":")[2]
        temporary = f"--temp-dir={self.folder / 'ray'}"
        self._start(
            "head", "--head", f"--port={gcs}", f"--dashboard-port={jobs}", "--include-dashboard=true", temporary
        )

    def start_worker(self, name: str) -> None:
        """One more node."""
        self._start(name, f"--address={self.gcs}")

    def kill(self, name: str) -> None:
        """Let a node die: all its processes at once."""
        node = self.nodes.pop(name)
        for pid in [*_descendants(node.pid), node.pid]:
            with suppress(ProcessLookupError):  # it may end by itself meanwhile
                os.kill(pid, signal.SIGKILL)
        node.wait()

    def stop(self) -> None:
        for name in list(self.nodes):
            self.kill(name)

    def begin(
        self, *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Begin a command as a user does who has the cluster's token."""
        command = [sys.executable, "-m", "rllib_wireless", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=cwd, env={**self.env, **(env or {})}, text=True, stdout=pipe, stderr=pipe)

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.begin(*arguments, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess([], process.returncode, out, err)

    def _start(self, name: str, *arguments: str) -> None:
        # On one machine, each node's agent, which starts jobs, needs a port of its own.
        agent = f"--dashboard-agent-listen-port={free_port()}"
        command = [str(BIN / "ray"), "start", "--block", "--num-cpus=2", agent, *arguments]
        env = {**self.env, "RLLIB_WIRELESS_CACHE": str(self.folder / f"cache-{name}")}
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            self.nodes[name] = subprocess.Popen(
                command, cwd=self.folder, env=env, stdout=file, stderr=file, start_new_session=True
            )
        while "Ray runtime started" not in log.read_text():
            assert self.nodes[name].poll() is None, log.read_text()
            time.sleep(0.2)


def _descendants(pid: int) -> list[int]:
    """Children of a process, their children and so on."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [*_descendants(child), child]
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Below /tmp, as paths of Ray's sockets must be short.
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/rw-XXXXXX"], text=True).strip())
    made = Cluster(folder)
    try:
        made.start_head()
        made.start_worker("first")
        while "No available agent" in made.run("list", "bc", "--address", made.jobs).stderr:
            time.sleep(1.0)  # the jobs server is up before what starts its jobs
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def query() -> Iterator[str]:
    with s3_server() as found:
        yield found


def test_a_job_prints_what_the_command_prints_here(cluster: Cluster) -> None:
    given = ("list", "channel_access", "--json")
    here, there = cluster.run(*given), cluster.run(*given, "--address", cluster.jobs)
    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout and json.loads(there.stdout)
    assert "python -m rllib_wireless.cluster list channel_access --json" in there.stderr


def test_a_mistake_has_its_line_and_its_exit_code(cluster: Cluster) -> None:
    done = cluster.run("list", "nothing", "--address", cluster.jobs)
    assert done.returncode == 2 and done.stdout == ""
    assert "\nerror: there is no environment or algorithm 'nothing'" in done.stderr


def test_the_token_is_needed(cluster: Cluster) -> None:
    for env in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "wrong"}):
        done = cluster.run("list", "--address", cluster.jobs, env=env)
        assert done.returncode == 2 and "did not take the job: Authentication" in done.stderr, done.stderr


def test_a_wheel_and_variables_travel_with_a_job(cluster: Cluster, tmp_path: Path) -> None:
    """The job runs the wheel's code, not what is installed on the nodes."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "rllib_wireless", tmp_path / "rllib_wireless")
    for name in ("pyproject.toml", "rllib_wireless/__init__.py"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace('"0.1.0"', '"0.1.0+wheel"'))
    build = [sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(build, cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent/logs.csv").write_text(LOGS)
    (tmp_path / "sent/mapping.yaml").write_text(MAPPING)
    environment = {
        "py_modules": [str(wheel)],
        "working_dir": str(tmp_path / "sent"),
        "env_vars": {"RLLIB_WIRELESS_CACHE": str(tmp_path / "cache")},
    }
    (tmp_path / "environment.yaml").write_text(yaml.safe_dump(environment))

    to = ("--address", cluster.jobs, "--runtime-env", tmp_path / "environment.yaml")
    given = ("data", "import", "logs.csv", "--mapping", "mapping.yaml", "--out", tmp_path / "data", "--json")
    done = cluster.run(*given, *to, cwd=tmp_path / "sent")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["card"]["versions"]["rllib_wireless"] == "0.1.0+wheel"
    done = cluster.run("data", "info", tmp_path / "data", *to)
    assert done.returncode == 0 and [*(tmp_path / "cache").iterdir()], done.stderr


def test_training_survives_the_death_of_a_node(cluster: Cluster, query: str, tmp_path: Path) -> None:
    """Data on S3, a learner on each node; the folder is that of a run that nothing interrupted, bit for bit."""
    data = f"s3://bucket/csma{query}"
    env = ("-c", "num_stations=3")
    done = cluster.run("collect", "channel_access", *env, "--policy", "csma_ca", "--steps", "4000", "--out", data)
    assert done.returncode == 0, done.stderr
    given = ["train", "bc", "--env", "channel_access", *env, "--data", data, "--iterations", "8"]
    for setting in ("num_learners=2", "fcnet_hiddens=[16]", "dataset_num_iters_per_learner=300"):
        given += ["-s", setting]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = cluster.run(*given, "--out", whole)
    assert done.returncode == 0, done.stderr

    job = cluster.begin(*given, "--out", killed, "--max-failures", "2", "--address", cluster.jobs)
    progress = killed / "progress.jsonl"
    _wait_for(lambda: progress.exists() and progress.read_bytes().count(b"\n") >= 2, job)
    for node in ("head", "first"):
        assert list((cluster.folder / f"cache-{node}/fetched").glob("*/csma/*.json")), "each node fetches for itself"
    cluster.kill("first")
    _, err = job.communicate()
    assert job.returncode == 0, err
    assert "failure 1 of 2 allowed" in err
    assert progress.read_bytes() == (whole / "progress.jsonl").read_bytes()
    for file in (whole / "policy").iterdir():
        assert (killed / "policy" / file.name).read_bytes() == file.read_bytes()


def test_a_sweep_survives_the_death_of_a_node(cluster: Cluster, csma_data: Path, tmp_path: Path) -> None:
    cluster.start_worker("third")
    out = tmp_path / "sweep"
    given: list[str | Path] = [
        "tune",
        "bc",
        "--env",
        "channel_access",
        "-c",
        "num_stations=3",
        "--data",
        csma_data,
        "--out",
        out,
    ]
    given += ["--trials", "4", "--iterations", "4", "--metric", "throughput_ratio", "--scheduler", "none"]
    for setting in ("fcnet_hiddens=[16]", "dataset_num_iters_per_learner=300", "evaluation_duration=800"):
        given += ["-s", setting]
    job = cluster.begin(*given, "--address", cluster.jobs)
    _wait_for(lambda: len(list(out.glob("trials/*/*/progress.jsonl"))) >= 3, job)
    cluster.kill("third")
    _, err = job.communicate()
    assert job.returncode == 0, err
    trials = json.loads((out / "results.json").read_text())["trials"]
    assert len(trials) == 4 and all(trial["state"] == "done" for trial in trials)


def _wait_for(condition: Any, job: subprocess.Popen[str]) -> None:
    while not condition():
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)


def wait_for_go(name: str, out: Path, progress: Progress) -> Json:
    """A cell that says that it was begun, and ends when there is a file `go`."""
    with (out / f"{name}.runs").open("a") as file:
        file.write("run\n")
    while not (out / "go").exists():
        time.sleep(0.1)
    return {"value": len(name)}


def run_waiting_cells(out: Path) -> None:
    """What a driver on the cluster does."""
    run_side_by_side([Cell(name, partial(wait_for_go, name)) for name in ("a", "b", "c", "d")], out, 1, print)


def test_a_node_that_dies_loses_only_the_cells_it_is_running(cluster: Cluster, tmp_path: Path) -> None:
    """Four cells on two nodes with two CPUs each; a third one takes those of the node that dies."""
    cluster.start_worker("second")
    call = f"from pathlib import Path; import test_jobs; test_jobs.run_waiting_cells(Path({str(tmp_path)!r}))"
    env = {**cluster.env, "RAY_ADDRESS": cluster.gcs}
    driver = subprocess.Popen([sys.executable, "-c", call], env=env, stdout=subprocess.PIPE, text=True)
    _wait_for(lambda: len(list(tmp_path.glob("*.runs"))) == 4, driver)
    cluster.kill("second")
    cluster.start_worker("spare")
    _wait_for(lambda: sum(len(file.read_text().splitlines()) for file in tmp_path.glob("*.runs")) > 4, driver)
    (tmp_path / "go").touch()
    said, _ = driver.communicate()
    assert driver.returncode == 0 and "4 of 4" in said
    assert len(list((tmp_path / "cells").glob("*.json"))) == 4
