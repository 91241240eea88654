"""Collect logs of two behaviours, look into them, and read them as arrays.

python examples/collect_and_inspect.py
"""

import tempfile
from pathlib import Path

import numpy as np

from rllib_wireless.data import Behaviour, check, collect, load_dataset

ENV = {"num_stations": 4, "saturated": False, "arrival_rate": 0.002}


def main(out: Path, steps: int = 40_000) -> None:
    # Three quarters of the steps by CSMA/CA, the rest by EDCA's best effort, in episodes of their own.
    behaviours = [Behaviour("csma_ca", share=3), Behaviour("ac_be", share=1)]
    card = collect("channel_access", ENV, behaviours, steps, out)
    print(f"{card.steps:,} joint decisions, versions {card.versions}")
    for name, value in card.metrics.items():
        # Short data may hold no window of 10 N successes, and then no short-term fairness.
        print(f"  {name:24} {'undefined' if value is None else format(value, '.3f')}")

    report = check(out)
    print(f"checked: {report.files} file(s), rows {report.transitions}")

    rows = load_dataset(out).rows["station_0"]
    packets = rows["duration"] > 1
    print(f"station_0 decided {len(rows['t']):,} times and transmitted in {rows['actions'].mean():.3f} of them")
    print(
        f"time between its decisions: mean {rows['duration'].mean():.1f} slots, {packets.mean():.3f} of them above 1 slot"
    )
    success = rows["new_obs"][:, 2] == 1.0  # third column of channel_state: the last event was a success
    print(
        f"mean reward after a success {rows['rewards'][success].mean():.3f}, otherwise {rows['rewards'][~success].mean():.3f}"
    )
    assert np.isfinite(rows["obs"]).all()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / "data")
