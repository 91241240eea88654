"""Run one station's exported policy with NumPy and ONNX Runtime alone: observations come in as lines, actions go out.

python examples/deploy_station.py exported/station_0.onnx < observations.txt
"""

import sys

import numpy as np
import onnxruntime


class Station:
    """Draws actions from what the file says, observation by observation."""

    def __init__(self, file: str, seed: int = 0) -> None:
        self.session = onnxruntime.InferenceSession(file)
        self.random = np.random.default_rng(seed)

    def act(self, obs: list[float], action_mask: list[bool] | None = None) -> int:
        mask = action_mask or [True] * self.session.get_inputs()[1].shape[1]
        inputs = {"obs": np.array([obs], np.float32), "action_mask": np.array([mask])}
        (law,) = self.session.run(["probabilities"], inputs)[0].astype(np.float64)
        return int(self.random.choice(len(law), p=law / law.sum()))


if __name__ == "__main__":
    station = Station(sys.argv[1])
    for line in sys.stdin:
        print(station.act([float(value) for value in line.split()]))
