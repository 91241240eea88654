"""DCC (Fox, De Pellegrini & Altman, NeurIPS 2025 workshop AI4NextG): constraints that coordinate devices at an edge server.

Policies that are tables are not sampled: what they cost together is computed from the laws of the devices' states. Intervals are
over environments, each with devices of its own and one learner.
"""

from functools import partial
from typing import Any

from rllib_wireless.papers.dcc import experiment
from rllib_wireless.papers.dcc.figures import draw
from rllib_wireless.papers.dcc.setup import DEMO, PAPER
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.resumable import at_both_scales
from rllib_wireless.papers.studies import every_claim

__all__ = ["draw", "main_claims", "reproduce", "table"]

reproduce = at_both_scales(partial(experiment.experiment, DEMO), partial(experiment.experiment, PAPER))


def table(content: Json) -> list[dict[str, Any]]:
    """The scalability study, a row a policy and number of devices."""
    return experiment.table(content)


main_claims = every_claim
