"""Size and speed of one exported policy of each environment, beside `DeployedAgent`: the table of docs/deployment.md.

python examples/deployment_sizes.py OUT
"""

import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rllib_wireless.algorithms.training import train
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.policies import DeployedAgent, load_policy
from rllib_wireless.policies.onnx import export_onnx


class Case(NamedTuple):
    """A short training with default sizes: how large a policy is does not depend on how good it is, but for trees."""

    algorithm: str
    env: str
    config: dict[str, Any]
    settings: dict[str, Any]
    rule: str | None = None
    split: Any = "none"


SHORT = {"dataset_num_iters_per_learner": 20}
CASES = (
    Case("bc", "channel_access", {"num_stations": 8}, SHORT, "csma_ca"),
    Case("dcc", "task_offloading", {}, {"steps": 2000}),
    Case("ctde_cql", "radio_resource", {}, SHORT, "random"),
    Case("scam_fqi", "production_scheduling", {}, {"fqi_iterations": 2}, "uniform", "agents"),
)


def main(out: Path, steps: int = 20_000) -> list[dict[str, Any]]:
    torch.set_num_threads(1)  # as the files have
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measure(case, Path(scratch) / case.env, steps) for case in CASES]
    with (out / "deployment.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def measure(case: Case, scratch: Path, steps: int) -> dict[str, Any]:
    data = scratch / "data" if case.rule else None
    if case.rule and data:
        rows: Any = "all" if case.split == "none" else "decisions"
        collect(case.env, case.config, [Behaviour(case.rule)], steps, data, split=case.split, rows=rows)
    train(
        *(case.algorithm, case.env),
        out=scratch / "run",
        data=data,
        env_config=case.config,
        settings=case.settings,
        iterations=case.settings.get("fqi_iterations", 1),
    )
    files = export_onnx(scratch / "run", scratch / "out")
    policy = load_policy(scratch / "run", agent=files[0].agent)
    agent = DeployedAgent(policy)
    times = []
    for obs in np.random.default_rng(0).random((500, policy.obs_size), np.float32):
        start = time.perf_counter()
        agent.act(obs)
        times.append(time.perf_counter() - start)
    return {
        "environment": case.env,
        "algorithm": case.algorithm,
        "kind": policy.kind,
        "files": len(files),
        "kB a file": _rounded([f.kilobytes for f in files]),
        "us a decision": _rounded([f.microseconds for f in files]),
        "us in a batch of 256": _rounded([f.microseconds_batched for f in files]),
        "us of DeployedAgent": _rounded([1e6 * t for t in times]),
        "largest difference": f"{max(f.largest_difference for f in files):.1g}",
    }


def _rounded(values: list[float]) -> str:
    """The median, with three digits."""
    return f"{float(f'{np.median(values):.3g}'):g}"


if __name__ == "__main__":
    for line in main(Path(sys.argv[1])):
        print(line)
