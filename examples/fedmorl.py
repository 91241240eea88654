"""FedMORL through its Python interface, then a search over `beta` with Ray Tune, each trial measured in both targets.

python examples/fedmorl.py
"""

import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import tune

from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL, FedMORLConfig
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.policies import evaluate, paired_difference

ENV = {"num_stations": 5}
TARGETS = ("throughput_ratio", "short_term_fairness")


def main(out: Path, steps: int = 20_000, rounds: int = 10, **settings: Any) -> None:
    collect("channel_access", ENV, [Behaviour("csma_ca")], steps, out / "data", split="agents")
    config = FedMORLConfig().environment("channel_access", env_config=ENV).offline_data(input_=out / "data")
    config.federation(rounds=rounds, policy_iterations=1).training(**settings).debugging(seed=1)
    train_one(config.copy(copy_frozen=False), out)
    search(config.copy(copy_frozen=False), out)


def train_one(config: FedMORLConfig, out: Path) -> None:
    """Train, export, and compare with AC_BE on common seeds."""
    algorithm = config.build_algo()
    while not algorithm.finished:
        result = algorithm.train()
        figures = {name: value for name, value in result["federation"].items() if name in ("round", "validation_loss")}
        print(result["phase"], figures)
    algorithm.export_policy(out / "policy")
    algorithm.stop()
    ours, best_effort = (
        evaluate(policy, "channel_access", ENV, steps=4000, warmup_steps=500, seed=7)
        for policy in (out / "policy", "ac_be")
    )
    for target in TARGETS:
        difference = paired_difference(ours, best_effort, target)
        print(f"{target}: {ours.metrics()[target]['mean']:.3f}, above AC_BE by {difference.mean:.3f} {difference[1:]}")


def search(config: FedMORLConfig, out: Path) -> None:
    """Three trials, each until the end of its policy iteration, however many rounds the model takes."""
    config.training(beta=tune.grid_search([0.1, 0.3, 0.6]))
    config.evaluation(evaluation_interval=1, evaluation_duration=64 * 1000)
    storage = str(out.absolute() / "tune")
    run_config = tune.RunConfig(storage_path=storage, stop=lambda trial, result: result["phase"] == "policy", verbose=0)
    results = tune.Tuner(FedMORL, param_space=config, run_config=run_config).fit()
    for result in results:
        measured = result.metrics["evaluation"]["env_runners"]
        print(f"beta {result.config['beta']}: " + "  ".join(f"{t} {measured[t]:.3f}" for t in TARGETS))


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
    ray.shutdown()
