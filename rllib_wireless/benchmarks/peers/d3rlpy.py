"""d3rlpy's DiscreteCQL, run beside CTDE-CQL by the Python of an environment that has both."""

from pathlib import Path

import numpy as np
import orjson

from rllib_wireless.benchmarks.peers.python import PeerPython, find_python
from rllib_wireless.data import load_dataset

VARIABLE = "RLLIB_WIRELESS_D3RLPY"
"""Environment variable with the Python of an environment that has d3rlpy; docs/benchmarks.md says how to make one."""


def find_d3rlpy() -> PeerPython | None:
    """The Python that `RLLIB_WIRELESS_D3RLPY` names; None where it is not set.

    Raises:
        UserError: Where it cannot import d3rlpy.
    """
    return find_python(VARIABLE, ("d3rlpy",))


def compare(data: str, out: str, steps: int) -> None:
    """Measure gradient steps of both in one process; called in d3rlpy's Python.

    Args:
        data: A data set whose rows align.
        out: JSON file for CPU seconds: `d3rlpy` for steps of one agent, `dqn` and `sac` for joint steps of all.
        steps: Gradient steps of a turn.
    """
    import torch
    from d3rlpy.algos import DiscreteCQLConfig  # type: ignore[import-not-found,unused-ignore]
    from d3rlpy.dataset import MDPDataset  # type: ignore[import-not-found,unused-ignore]
    from d3rlpy.models.encoders import VectorEncoderFactory  # type: ignore[import-not-found,unused-ignore]

    from rllib_wireless.benchmarks.ctde_cql import BATCH_SIZE, HIDDENS, learner, take_turns

    torch.set_num_threads(1)
    rows = next(iter(load_dataset(data).rows.values()))
    ends = np.flatnonzero(np.append(np.diff(rows["eps_id"]) != 0, True))
    timeouts = np.isin(np.arange(len(rows["t"])), ends)
    dataset = MDPDataset(rows["obs"], rows["actions"], rows["rewards"], np.zeros(len(timeouts)), timeouts)
    config = DiscreteCQLConfig(batch_size=BATCH_SIZE, encoder_factory=VectorEncoderFactory(list(HIDDENS)))
    algo = config.create()
    algo.build_with_dataset(dataset)

    def theirs() -> None:
        for _ in range(steps):
            algo.update(dataset.sample_transition_batch(BATCH_SIZE))

    dqn = learner(Path(data), steps, paradigm="independent", backbone="dqn")
    seconds = take_turns({"d3rlpy": theirs, "dqn": dqn, "sac": learner(Path(data), steps)}, 7)
    Path(out).write_bytes(orjson.dumps(seconds))
