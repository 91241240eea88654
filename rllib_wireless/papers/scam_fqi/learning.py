"""What the cells do: learn from a uniform log along a sharing graph and measure on the way; and measure rules."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rllib_wireless.data import Behaviour
from rllib_wireless.data.sharing_graph import select_sharing_graph
from rllib_wireless.envs import make_env
from rllib_wireless.envs.sharing import SharingGraph
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.learning import Run, Test, collect_log, measure_policy, metrics_of, trained, work_folder
from rllib_wireless.papers.scam_fqi.setup import SELECTED, SHARING, WORLDS, Scale

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm


@dataclass(frozen=True)
class Arm:
    """A way to learn. Equal arms are the same runs, whatever studies they appear in.

    Args:
        world: Of `WORLDS`.
        sharing: Of `SHARING`.
        leaf: Fewest rows of a leaf.
        start: What follows a decision in the first iteration.
    """

    world: str
    sharing: str
    leaf: int
    start: str

    @property
    def name(self) -> str:
        """Unique name, without the seed."""
        return f"{self.world}-{self.sharing}-leaf_{self.leaf}-{self.start}"


class Measured:
    """Measures the policies after some iterations, with a share of random actions as in the paper; the last one greedy, too.

    Args:
        s: The scale.
        run: What is run; its test is the measurement.
        arm: The way to learn.
        folder: Where to keep the newest policy.

    Attributes:
        by_iteration: Metrics by iteration; those of the greedy policy are called `greedy_...`.
    """

    def __init__(self, s: Scale, run: Run, arm: Arm, folder: Path) -> None:
        self._iterations, self._run, self._world, self._folder = s.measured, run, arm.world, folder
        self._greedy = dataclasses.replace(run, test=WORLDS[arm.world].test or Test(s.greedy_episodes, None))
        self.by_iteration: dict[int, dict[str, float]] = {}

    def __call__(self, algorithm: "OfflineMultiAgentAlgorithm") -> None:
        if algorithm.iteration not in self._iterations:
            return
        algorithm.export_policy(self._folder)
        found = _metrics(self._run, self._world, self._folder)
        if algorithm.iteration == self._iterations[-1]:
            greedy = _metrics(self._greedy, self._world, self._folder, {"epsilon": 0.0})
            found |= {f"greedy_{name}": value for name, value in greedy.items()}
            if "livelock" in greedy:
                found["greedy_excess_livelock"] = greedy["livelock"] - found["livelock"]
        self.by_iteration[algorithm.iteration] = found


def learn(s: Scale, arm: Arm, seed: int, out: Path, progress: Progress) -> Json:
    """Collect a log, learn from it, and measure on the way.

    Args:
        s: The scale.
        arm: The way to learn.
        seed: Number of the training seed.
        out: Output folder.
        progress: Not told anything.

    Returns:
        `curve`, metrics by iteration; `metrics`, those of the last one, and `early_...`, the mean of the main one over early
        iterations; where the graph was selected `units_seen`, how many others a unit sees.
    """
    run = _run(s, arm.world, seed, name=f"{arm.name}_{seed}", arm=arm)
    with work_folder(out, run.name) as folder:
        collect_log(run, folder / "data", seed=run.data_seed)  # states are recorded, so it serves whatever is shared
        fields = {**SHARING[arm.sharing].fields}
        shown: dict[str, float] = {}
        if arm.sharing == SELECTED:
            graph = _select(s, run, folder / "data")
            graph.save(folder / "graph.json", make_env(run.env, **run.env_config).agents)
            fields["sharing_graph"] = str(folder / "graph.json")
            shown["units_seen"] = fmean(len(seen) - 1 for seen in graph.neighbours)
        run = dataclasses.replace(run, env_config={**run.env_config, **fields})
        measured = Measured(s, run, arm, folder / "policy")
        with trained(run, folder, watch=measured):
            pass
    curve = measured.by_iteration
    main = WORLDS[arm.world].metrics[0]
    early = fmean(curve[k][main] for k in s.early)
    metrics = {**curve[s.iterations], f"early_{main}": early, **shown}
    return {"curve": {str(k): found for k, found in curve.items()}, "metrics": metrics}


def measure_rules(s: Scale, world: str, seed: int, out: Path, progress: Progress) -> Json:
    """Every rule on the episodes of a training seed's test: by name its `metrics`."""
    run = _run(s, world, seed, name=world)
    return {rule: {"metrics": _metrics(run, world, rule)} for rule in WORLDS[world].rules}


def _run(s: Scale, world: str, seed: int, *, name: str, arm: Arm | None = None) -> Run:
    of = WORLDS[world]
    sharing = SHARING["own" if arm is None else arm.sharing]
    settings = dict(sharing.settings)
    if arm is not None and sharing.algorithm == "scam_fqi":
        settings = {**s.settings, "fqi_iterations": s.iterations, **of.settings}
        settings |= {"min_samples_leaf": arm.leaf, "initial_values": arm.start}
    return Run(
        name=name,
        env=of.env,
        env_config=dict(of.fields),
        steps=of.steps or s.steps,
        data_seed=s.data_seed + seed,
        train_seed=s.train_seed + seed,
        test_seed=s.test_seed + seed,
        test=of.test or Test(s.test_episodes, None),
        behaviours=(Behaviour(next(iter(of.rules))),),
        algorithm=sharing.algorithm,
        settings=settings,
        iterations=s.iterations,
    )


def _select(s: Scale, run: Run, data: Path) -> SharingGraph:
    """The units whose states tell more of a decision's advantage than the unit's own does."""
    return select_sharing_graph(data, rows=s.selection_rows, seed=run.train_seed).graph


def _metrics(run: Run, world: str, policy: Path | str, params: Mapping[str, Any] | None = None) -> dict[str, float]:
    of = WORLDS[world]
    found = metrics_of(of.env, measure_policy(run, policy, params, of.test_fields).statistics)
    return {name: found[name] for name in of.metrics}
