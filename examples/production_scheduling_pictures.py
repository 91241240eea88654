"""Draw the 4x5 plant, and an episode in it as an animation: the pictures on the page of `production_scheduling`.

python examples/production_scheduling_pictures.py
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from rllib_wireless.envs import StepRandom, make_env, make_policy
from rllib_wireless.envs.production_scheduling import ProductionScheduling

matplotlib.use("Agg")
from matplotlib import animation
from matplotlib import pyplot as plt  # the backend without a screen must be chosen first
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

ROOT = Path(__file__).parents[1]
ENV = "production_scheduling"
RULE = "congestion_aware"
SUPPLY, WORK, REMOVAL, PASS = "#cfe8cf", "#d6e4f5", "#f8dcc4", "#f2f2f2"

Points = npt.NDArray[np.float64]


@dataclass
class Frame:
    """A tick: where the products are, and what is to be said."""

    points: Points  # [P, 2] column and row; NaN for products that are not in the plant
    remaining: list[str]
    title: str


def main(
    out: Path = ROOT / "docs/environments", config: Mapping[str, Any] | None = None, seed: int = 0, ticks: int = 10_000
) -> list[Frame]:
    """Write `production_scheduling.png` and `.gif` into a folder; returns the frames of the animation."""
    out.mkdir(parents=True, exist_ok=True)
    env = make_env(ENV, **dict(config or {}))
    assert isinstance(env, ProductionScheduling)
    figure, axes = plt.subplots(figsize=(8.2, 6.0), layout="constrained")
    draw_plant(axes, env, labels=True)
    figure.savefig(out / "production_scheduling.png", dpi=110)
    plt.close(figure)
    frames = record(env, seed, ticks)
    animate(env, frames, out / "production_scheduling.gif")
    return frames


def draw_plant(axes: Axes, env: ProductionScheduling, labels: bool) -> None:
    """Units as boxes with what they can do, links as lines."""
    plant, points = env.plant, positions(env)
    for a, b in plant.links:
        axes.plot(*points[[a, b]].T, color="0.55", linewidth=2.5, zorder=1)
    for i, (x, y) in enumerate(points):
        abilities = plant.abilities.get(i, {})
        color = WORK if abilities else PASS
        color = SUPPLY if plant.supply in abilities else REMOVAL if plant.removal in abilities else color
        box = Rectangle((x - 0.36, y - 0.36), 0.72, 0.72, facecolor=color, edgecolor="0.35", zorder=2)
        axes.add_patch(box)
        axes.text(x - 0.33, y - 0.2, str(i), fontsize=8, color="0.35", zorder=4)
        if labels:
            shown = "\n".join(f"{name_of(env, op)}: {ticks}" for op, ticks in sorted(abilities.items()))
            axes.text(x, y + 0.06, shown, fontsize=9, ha="center", va="center", zorder=4)
        else:
            names = " ".join(name_of(env, op) for op in sorted(abilities))
            axes.text(x + 0.33, y - 0.2, names, fontsize=8, ha="right", color="0.35", zorder=4)
    low, high = points.min(0) - 0.55, points.max(0) + 0.55
    axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    axes.axis("off")
    if labels:
        kinds = [
            f"{kind}: " + " ".join(name_of(env, op) for op in sequence) for kind, sequence in plant.products.items()
        ]
        axes.set_title("Operations of each unit and their ticks.   " + "   ".join(kinds[:3]), fontsize=9)


def name_of(env: ProductionScheduling, operation: int) -> str:
    """`in` for the supply, `out` for the removal, else the number."""
    return {env.plant.supply: "in", env.plant.removal: "out"}.get(operation, str(operation))


def positions(env: ProductionScheduling) -> Points:
    """Column and row of each unit, [N, 2]."""
    return np.array(env.plant.positions)[:, ::-1]


def record(env: ProductionScheduling, seed: int, ticks: int) -> list[Frame]:
    """Run an episode under a rule, and look at it tick by tick; a product that moves is between two units for a while."""
    policy, draws, step = make_policy(RULE, env), StepRandom(seed, 1, len(env.agents)), env.reset(seed)
    points, frames = positions(env), list[Frame]()
    while step.final is None and len(frames) < ticks:
        begin, where, done = int(env.time[0]), env.where[0].copy(), env.done[0].copy()
        actions = policy.act(step, draws)
        draws.advance()
        goal = where.copy()
        for i in np.flatnonzero(step.acting[0]):
            if actions[0, i]:
                goal[env.holds[0, i]] = env.rules.neighbours[i, actions[0, i]]
        step = env.step(actions)
        for tick in range(int(step.duration[0])):
            way = min(tick / env.plant.move_ticks, 1.0)
            spots = np.full((len(env.kinds), 2), np.nan)
            inside = where >= 0
            spots[inside] = (1.0 - way) * points[where[inside]] + way * points[goal[inside]]
            left = [
                " ".join(name_of(env, op) for op in env.plant.products[kind][done[p] :])
                for p, kind in enumerate(env.kinds)
            ]
            finished = int((where == -2).sum())
            frames.append(Frame(spots, left, f"tick {begin + tick}, {finished} of {len(where)} finished"))
    return frames[:ticks]


def animate(env: ProductionScheduling, frames: list[Frame], path: Path) -> None:
    """Products as coloured discs over the plant."""
    figure, axes = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    draw_plant(axes, env, labels=False)
    colors = [f"C{p}" for p in range(len(env.kinds))]
    nowhere = np.zeros(len(env.kinds))
    discs = axes.scatter(nowhere, nowhere, s=260, c=colors, edgecolor="black", zorder=5)
    names = [axes.text(0, 0, kind, color="white", ha="center", va="center", zorder=6) for kind in env.kinds]
    title = axes.set_title("", fontsize=9)

    def show(frame: Frame) -> list[Any]:
        spots = frame.points + np.array([0.0, 0.1])
        discs.set_offsets(spots)
        for name, spot in zip(names, spots, strict=True):
            name.set_visible(bool(np.isfinite(spot).all()))
            name.set_position(np.nan_to_num(spot))
        left = "   ".join(f"{kind}: {text or 'done'}" for kind, text in zip(env.kinds, frame.remaining, strict=True))
        title.set_text(f"{frame.title}\nto do: {left}")
        return [discs, title, *names]

    film = animation.FuncAnimation(figure, show, frames=frames)
    film.save(path, animation.PillowWriter(fps=8), dpi=75)
    plt.close(figure)


if __name__ == "__main__":
    main()
