"""FedMORL (Kwon et al., NeurIPS 2025 workshop AI4NextG): from CSMA/CA logs to channel access as good as EDCA's best.

The demo takes one network size through the whole chain: logs, federated world model, two policies, comparison. The paper's
scale is figure 1 with intervals over training seeds, and the studies that the paper announces. Throughput never stands alone:
the shared reward is highest when one station captures the channel, so short-term fairness stands beside.
"""

import re
from pathlib import Path
from typing import Any, Literal

from rllib_wireless.papers import resumable
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.fedmorl import demo, paper_scale
from rllib_wireless.papers.fedmorl.setup import PAPER
from rllib_wireless.papers.pool import Note


def reproduce(
    out: Path | str,
    progress: Progress,
    note: Note = print,
    *,
    scale: Literal["demo", "paper"] = "demo",
    only: str | None = None,
    workers: int = 1,
    plot_only: bool = False,
) -> Json:
    """Run the experiment, or what is missing of it, and write `results.json` and the figures.

    Args:
        out: Output folder; cells that it already holds are not computed again.
        progress: Where the demo reports to.
        note: Where the paper's scale reports to, a line a cell.
        scale: How much to compute.
        only: Run only the cells whose name begins with this.
        workers: Processes of the paper's scale.
        plot_only: Draw the figures from `results.json` and compute nothing.

    Returns:
        The content of `results.json`; of a demo with cells missing, the results of those there are, by name.

    Raises:
        UserError: At an unknown cell, or with `plot_only` where there are no results yet.
    """
    if scale == "demo":
        return demo.reproduce(Path(out), progress, only=only, plot_only=plot_only)
    experiment = paper_scale.experiment(PAPER)
    return resumable.reproduce(experiment, Path(out), note, only=only, workers=workers, plot_only=plot_only)


def draw(content: Json, out: Path) -> None:
    """All figures, from `results.json` alone."""
    (demo if content["scale"] == "demo" else paper_scale).draw(content, out)


def table(content: Json) -> list[dict[str, Any]]:
    """The comparison, a row a policy: its label, and each metric's mean and interval."""
    return demo.table(content) if content["scale"] == "demo" else paper_scale.table(content)


def main_claims(content: Json) -> list[Json]:
    """The claims to show: all of the demo's, and of the paper's scale those about a single N left out."""
    if content["scale"] == "demo":
        return list(content["claims"])
    return [c for c in content["claims"] if re.search("^study-|-every$|-probe-", c["id"])]
