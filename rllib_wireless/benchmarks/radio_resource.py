"""How fast radio resources are simulated: our simulator against mobile-env's multi-agent environment, in CPU time."""

import json
import os
import subprocess
import time
from typing import Any

import numpy as np

from rllib_wireless.benchmarks import row
from rllib_wireless.benchmarks.peers import mobile
from rllib_wireless.benchmarks.peers.python import find_python
from rllib_wireless.envs import make_env, make_policy
from rllib_wireless.policies import Rollout

ACCESS_POINTS, USERS = 4, 24
COPIES = (1, 64, 512)
_TIMEOUT_S = 600


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure user-steps per second of CPU time, one thread.

    A user-step is a step of the whole network divided by its users. Ours is favoured in nothing that it does: episodes
    begin with a new drop and 100 slots of warm-up, which cost time and count for nothing, and every link fades in every slot. mobile-env,
    whose agents are the users, has movement, connections and utilities instead, no fading and no interference.

    Args:
        quick: Shorter runs, and without mobile-env, whose process takes most of the time.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    repeats = 3 if quick else 5
    ours = {copies: _ours(copies, "full_reuse", repeats) for copies in COPIES}
    rows = [row(f"simulator and full reuse, {copies} copies", value, "user-steps/s") for copies, value in ours.items()]
    rows.append(row(f"simulator and genie, {COPIES[-1]} copies", _ours(COPIES[-1], "genie", repeats), "user-steps/s"))
    peer = None if quick else find_python(mobile.VARIABLE, ["mobile_env"], also=())
    if peer is None:
        why = "quick" if quick else f"{mobile.VARIABLE} is not set"
        return [*rows, row(f"mobile-env: not measured, {why}", None, "")]
    name = f"{peer.version}, multi-agent, {ACCESS_POINTS} stations, {USERS} users"
    theirs = _theirs(peer.python, repeats)
    rows.append(row(name, theirs, "user-steps/s"))
    for copies, value in ours.items():
        target = 100.0 if copies == COPIES[-1] else None
        rows.append(row(f"{copies} copies, times mobile-env", value / theirs, "x", target, name))
    return rows


def _ours(copies: int, rule: str, repeats: int) -> float:
    """Whole episodes, so that drops and warm-ups count; the first run, which compiles, does not."""
    env = make_env("radio_resource", copies, num_access_points=ACCESS_POINTS, num_users=USERS)
    rollout = Rollout(env, make_policy(rule, env))
    rates = []
    steps = 1000
    for _ in range(repeats + 1):
        start = time.process_time()
        for _ in range(steps):
            rollout.advance()
        rates.append(steps * copies * USERS / (time.process_time() - start))
    return float(np.max(rates[1:]))


def _theirs(python: str, repeats: int) -> float:
    arguments = [python, mobile.__file__, *map(str, (ACCESS_POINTS, USERS, 1000, repeats))]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=_TIMEOUT_S, env=quiet)
    if done.returncode:
        raise RuntimeError(f"{python} failed:\n{done.stderr[-4000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))
