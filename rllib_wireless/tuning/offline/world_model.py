"""The world model of a trained FedMORL run."""

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml

from rllib_wireless.algorithms.fedmorl.federated_settings import FederatedSettings
from rllib_wireless.algorithms.fedmorl.layout import Layout
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.algorithms.run import Run
from rllib_wireless.data.card import EnvironmentCard, environment_card
from rllib_wireless.envs import make_env
from rllib_wireless.errors import UserError

_ALLOWED = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        *((core, name) for core in ("numpy.core.numeric", "numpy._core.numeric") for name in ("_frombuffer",)),
        *(
            (core, name)
            for core in ("numpy.core.multiarray", "numpy._core.multiarray")
            for name in ("_reconstruct", "scalar")
        ),
    }
)


class _Arrays(pickle.Unpickler):
    """Reads plain values and arrays, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def load_world_model(path: Path | str, environment: EnvironmentCard) -> WorldModel:
    """The global world model in the output folder of `train fedmorl`.

    Args:
        path: The folder.
        environment: The environment of the log that it is to be used with.

    Raises:
        UserError: Where the folder holds no such run, or its model is of another environment or not one for all clients.
    """
    out = Path(path)
    run = _read_run(out)
    trained = make_env(run.env, **run.env_config)
    has = environment_card(trained)
    if (has.name, has.obs_names, has.num_actions) != (environment.name, environment.obs_names, environment.num_actions):
        raise UserError(
            f"the model in {out} is of {has.name} with other observations or actions than the log's {environment.name}"
        )
    settings = FederatedSettings.parse(run.settings)
    if settings.apart:
        raise UserError(f"the clients in {out} share no model (federate = {settings.federate})")
    state = _newest_state(out)
    if state["weights"] is None:
        raise UserError(f"the run in {out} has no model yet")
    model = WorldModel(
        Layout.of(trained),
        state["statistics"],
        settings.model_hiddens,
        generator=torch.Generator().manual_seed(run.seed),
        ensemble_size=settings.ensemble_size,
    )
    model.load_weights(state["weights"])
    return model


def _read_run(out: Path) -> Run:
    if not (out / "run.yaml").is_file():
        raise UserError(f"{out} is no training run; model takes the output folder of `train fedmorl`")
    content = yaml.safe_load((out / "run.yaml").read_text())
    try:
        run = Run(**content)
    except TypeError:
        raise UserError(f"{out / 'run.yaml'} is not what this version writes") from None
    if run.algorithm != "fedmorl":
        raise UserError(f"{out} is a run of {run.algorithm}, which learns no world model; model takes one of fedmorl")
    return run


def _newest_state(out: Path) -> dict[str, Any]:
    """What the newest checkpoint says of the federation."""
    numbers = sorted((int(p.name) for p in (out / "checkpoint").glob("[0-9]*")), reverse=True)
    if not numbers:
        raise UserError(f"the run in {out} has no checkpoint")
    path = out / "checkpoint" / str(numbers[0]) / "algorithm_state.pkl"
    try:
        with path.open("rb") as file:
            state: dict[str, Any] = _Arrays(file).load()["fedmorl"]
    except (OSError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is no checkpoint of FedMORL: {error}") from None
    return state
