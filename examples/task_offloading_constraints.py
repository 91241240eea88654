"""What the devices of an edge server cost as a function of how often each may offload, by linear programs: the docs' picture."""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rllib_wireless.envs import make_env
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp, solve

SIZES = (3, 10, 30, 100)
LIMITS = np.concatenate([[0.0, 0.005, 0.01, 0.02, 0.03, 0.04], np.arange(0.06, 0.42, 0.02)])


def main(out: Path, limits: np.ndarray = LIMITS) -> dict[int, list[float]]:
    """Draw `task_offloading.png` into a folder; returns V per device for each number of alike devices and each limit."""
    alike: dict[str, Any] = {
        "harvest_probability": (0.5, 0.5),
        "processing_energy_jitter": 0.0,
        "battery_penalty": (7.0,),
    }
    env = make_env("task_offloading", num_devices=1, **alike)
    assert isinstance(env, TaskOffloading)
    mdp = device_cmdp(env.devices, 0, env.gamma)
    values = {n: [solve(mdp, limit, price=(n - 1) * limit).value for limit in limits] for n in SIZES}
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for n, curve in values.items():
        (line,) = axes.plot(limits, curve, label=f"N = {n}")
        best = int(np.argmin(curve))
        axes.plot(limits[best], curve[best], "o", color=line.get_color())
    axes.set(xlabel="offload frequency K allowed to each device", ylabel="cost per device and slot")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(out / "task_offloading.png", dpi=110)
    plt.close(figure)
    return values


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/environments"))
