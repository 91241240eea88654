"""Writes ap_log.csv: what an access point's controller might have recorded of three stations on one channel.

What the stations do is simulated in channel_access: one that has waited longer than all others together is eager to send, the
others seldom do. The file has what such files have: columns that nobody needs, empty cells, times that jitter, lines that come twice or late or are
broken, and gaps in which the collector was down.

    python examples/own_logs/make_log.py ap_log.csv
"""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless.envs import make_env
from rllib_wireless.envs.base import FloatArray, IntArray

STATIONS = ("a4:5e:60:1b:7c:01", "a4:5e:60:1b:7c:02", "00:1a:11:f3:9d:4e")
PACKET_SLOTS = 10
CONFIG: dict[str, Any] = {
    "num_stations": len(STATIONS),
    "packet_slots": PACKET_SLOTS,
    "difs_slots": 2,
    "episode_slots": None,
}
HEARD = ("idle", "busy", "ok", "collision")
COLUMNS = "time,ap,station,rssi_dbm,heard,sent,wait_pct,queue,action,acked,collided,airtime_ms,firmware,note"
SLOT = timedelta(milliseconds=5)
START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


def simulate(steps: int, seed: int) -> list[tuple[int, str]]:
    """Lines of the log, each with the slot in which it was written."""
    env = make_env("channel_access", **CONFIG)
    random, step, slot, lines = np.random.default_rng(seed), env.reset(seed), 0, []
    down = {steps // 3: 400, 2 * steps // 3: 4000}  # after so many steps the collector misses so many more
    for number in range(steps):
        obs = step.obs[0].copy()
        actions = _act(obs, random)
        before = obs, actions, slot
        step = env.step(actions[None])
        slot += int(step.duration[0])
        heard = int(step.obs[0, 0, :4].argmax())
        lines += [(before[2], _line(i, before, heard, random)) for i in range(len(STATIONS))]
        for _ in range(down.get(number, 0)):
            step = env.step(_act(step.obs[0], random)[None])
            slot += int(step.duration[0])
    return lines


def _act(obs: FloatArray, random: np.random.Generator) -> IntArray:
    """The stations' decisions: 1 sends."""
    return (random.random(len(STATIONS)) < np.where(obs[:, 6] > 0.5, 0.6, 0.06)).astype(np.int64)


def _line(i: int, before: tuple[FloatArray, IntArray, int], heard: int, random: np.random.Generator) -> str:
    obs, actions, slot = before
    time = START + slot * SLOT + timedelta(microseconds=int(random.integers(-1000, 1000)))
    return ",".join(
        (
            time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "ap-3",
            STATIONS[i],
            f"{random.normal(-58 - 4 * i, 2):.0f}" if random.random() < 0.8 else "",
            HEARD[int(obs[i, :4].argmax())],
            str(int(obs[i, 5])),
            f"{100 * obs[i, 6]:.2f}",
            f"{10 * obs[i, 7]:.0f}",
            ("defer", "send")[actions[i]],
            str(int(actions[i] and HEARD[heard] == "ok")),
            str(int(actions[i] and HEARD[heard] == "collision")),
            str(PACKET_SLOTS * 5 * actions[i]),
            "" if random.random() < 0.9 else "7.1.4",
            '"roamed in, was on ap-2"' if random.random() < 0.002 else "",
        )
    )


def damage(lines: list[tuple[int, str]], seed: int) -> list[str]:
    """The lines as a collector leaves them: some twice, some late, a few broken."""
    random = np.random.default_rng([seed, 1])
    places = np.arange(len(lines), dtype=np.float64)
    late = random.random(len(lines)) < 0.01
    places[late] += random.integers(2, 30, late.sum())
    twice = np.flatnonzero(random.random(len(lines)) < 0.005)
    order = np.argsort(np.append(places, places[twice] + random.integers(1, 60, len(twice))), kind="stable")
    text = [line for _, line in lines]
    written = [[*text, *(text[i] for i in twice)][i] for i in order]
    broken: dict[int, Callable[[str], str]] = {
        150: lambda line: line[:37],
        700: lambda line: line.replace("defer", "").replace("send", ""),
        1400: lambda line: line + ",,retry",
        2100: lambda line: "2026-03-02T06:00:77" + line[19:],
        2900: lambda line: line.replace("ap-3", '"ap-3', 1),
        3700: lambda line: "-- collector restarted, queue full --",
        4400: lambda line: line.replace("idle", "n/a").replace(",ok,", ",n/a,").replace("collision", "n/a"),
        5000: lambda line: line.rsplit(",", 5)[0] + ",overflow,0,,,",
    }
    return [broken[i](line) if i in broken else line for i, line in enumerate(written)]


def main(path: Path, steps: int = 2000, seed: int = 7) -> None:
    path.write_text("\n".join([COLUMNS, *damage(simulate(steps, seed), seed)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
