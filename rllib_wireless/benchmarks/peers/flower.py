"""FedMORL's federated phase in Flower's simulation, run by the Python of an environment that has `flwr[simulation]`.

Flower brings the messages, the processes and FedAvg; what a client does in a round is `ClientGroup.train_model`, as in this
package. Only that and NumPy is imported here at the top, so that Flower's processes start no slower than they have to.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless.algorithms.fedmorl.client import ClientGroup
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.statistics import Statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights
from rllib_wireless.benchmarks.peers.python import PeerPython, find_python
from rllib_wireless.benchmarks.peers.record import Record
from rllib_wireless.data.store import client_folders

VARIABLE = "RLLIB_WIRELESS_FLOWER"
"""Environment variable with the Python of an environment that has Flower; docs/benchmarks.md says how to make one."""

NUM_CPUS = 2
_START = "start.npz"


def write_start(folder: Path, weights: Weights, statistics: Statistics) -> None:
    """Keep the model that all runs begin with, and the sums that fix its form."""
    arrays: dict[str, Any] = {f"weights/{name}": value for name, value in weights.items()}
    arrays |= {f"statistics/{name}": value for name, value in statistics.items()}
    np.savez(folder / _START, **arrays)


def read_start(folder: Path | str) -> tuple[Weights, Statistics]:
    """The arrays of `write_start`."""
    with np.load(Path(folder) / _START) as file:
        weights, statistics = (
            {name.removeprefix(f"{kind}/"): file[name] for name in file.files if name.startswith(f"{kind}/")}
            for kind in ("weights", "statistics")
        )
    return weights, statistics


def find_flower() -> PeerPython | None:
    """The Python that `RLLIB_WIRELESS_FLOWER` names; None where it is not set.

    Raises:
        UserError: Where it cannot run Flower's simulation.
    """
    return find_python(VARIABLE, ("flwr", "ray"))


def simulate(folder: str, out: str, rounds: int, local_steps: int) -> None:
    """Run FedAvg in Flower's simulation; called in Flower's Python.

    Args:
        folder: Clients' data in `clients`, and the file of `write_start`.
        out: File for the `Record`.
        rounds: Federated rounds.
        local_steps: Gradient steps of a client in a round.
    """
    from flwr.app import Array, ArrayRecord, ConfigRecord  # type: ignore[import-not-found,unused-ignore]
    from flwr.clientapp import ClientApp  # type: ignore[import-not-found,unused-ignore]
    from flwr.serverapp import ServerApp  # type: ignore[import-not-found,unused-ignore]
    from flwr.serverapp.strategy import FedAvg  # type: ignore[import-not-found,unused-ignore]
    from flwr.simulation import run_simulation  # type: ignore[import-not-found,unused-ignore]

    clients = len(client_folders(Path(folder) / "clients"))
    record = Record()

    def serve(grid: Any, context: Any) -> None:
        weights, _ = read_start(folder)
        # Evaluation is left out: the held-out loss comes with the training replies, as it does with ours.
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
        result = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord({name: Array(value) for name, value in weights.items()}),
            num_rounds=rounds,
            train_config=ConfigRecord({"folder": folder, "local-steps": local_steps}),
            evaluate_fn=lambda *_: record.stamp(),
        )
        record.losses = [float(metrics["validation_loss"]) for metrics in result.train_metrics_clientapp.values()]

    client_app, server_app = ClientApp(), ServerApp()
    client_app.train()(_train)
    server_app.main()(serve)
    run_simulation(
        server_app,
        client_app,
        num_supernodes=clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": NUM_CPUS, "log_to_driver": False},
        },
    )
    if len(record.losses) < rounds:
        raise RuntimeError(f"clients failed in {rounds - len(record.losses)} of {rounds} rounds; Flower's log says why")
    record.write(out)


def _train(message: Any, context: Any) -> Any:
    """A client's part of a round."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

    config = message.content["config"]
    folder = str(config["folder"])
    client, group = _client(folder, int(context.node_config["partition-id"]), int(config["local-steps"]))
    weights = {name: array.numpy() for name, array in message.content["arrays"].items()}
    update = group.train_model(weights, read_start(folder)[1], int(config["server-round"]) - 1)[client]
    arrays = ArrayRecord({name: Array(value) for name, value in update.weights.items()})
    metrics = MetricRecord({"num-examples": update.num_samples, **update.metrics})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@cache
def _client(folder: str, number: int, local_steps: int) -> tuple[str, ClientGroup]:
    """A client's name, and the client; it stays in the process that first needed it, so its rows are read once there."""
    name, data = list(client_folders(Path(folder) / "clients").items())[number]
    return name, ClientGroup({name: data}, FedMORLSettings(local_steps=local_steps), Path(folder) / "state", seed=0)
