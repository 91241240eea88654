"""The derivatives of F(K) = sum_i V_i(K_i, K_-i), where K_-i is the sum of the others' constraints.

    dF/dK_i = dV_i/dK_i + sum_{j != i} dV_j/dK_-j     (proposition 2)

Each device finds its two parts on its own; the second parts are broadcast. Both are per slot, as V and K are.
"""

from collections.abc import Callable

import numpy as np

from rllib_wireless.algorithms.dcc.local_problems import Answers
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs.task_offloading.device import Floats, congestion_slope

Values = Callable[[Floats, Floats], Floats]
"""V_i of some devices as a function of their K_i and K_-i."""


def finite_differences(
    value_of: Values, base: Floats, limits: Floats, others: Floats, differences: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Quotients of differences, two more solutions a device (appendix D).

    Args:
        value_of: Solves the local problems.
        base: V_i at `limits` and `others`, [n].
        limits: K_i, [n].
        others: K_-i, [n].
        differences: By how much to change K_i, and K_-i. One that would leave the domain changes its sign: projected, it would
            be 0.

    Returns:
        dV_i/dK_i and dV_i/dK_-i, [n] each.
    """
    own, coupled = differences
    own = np.where((limits + own < 0.0) | (limits + own > 1.0), -own, own)
    coupled = np.where(others + coupled < 0.0, -coupled, coupled)
    local = (value_of(limits + own, others) - base) / own
    return local, (value_of(limits, others + coupled) - base) / coupled


def lambda_substitution(
    answers: Answers, others: Floats, penalty_exponent: float, penalty_scale: float, overlap: Floats | float = 1.0
) -> tuple[Floats, Floats]:
    """What proposition 3 says, without another solution (appendix E).

        dV_i/dK_i = -lambda_i,    dV_i/dK_-i = r_i f'(1 + r_i K_-i) C_i

    Args:
        answers: Multipliers and frequencies at the present constraints.
        others: K_-i, [n].
        penalty_exponent: alpha of f.
        penalty_scale: Scale of f.
        overlap: r_i, [n]; the paper's is 1.

    Returns:
        dV_i/dK_i and dV_i/dK_-i, [n] each.
    """
    slope = congestion_slope(1.0 + overlap * others, penalty_exponent, penalty_scale)
    return -answers.multipliers, overlap * slope * answers.usages


def draw_differences(settings: DCCSettings, seed: int, update: int, num_devices: int) -> tuple[Floats, Floats]:
    """The differences of K_i and K_-i in an update: independent, of mean 0 and standard deviation a_k, [N] each."""
    generator = np.random.default_rng([seed, update, 0])
    size = settings.perturbation_size / (update + 1) ** settings.perturbation_exponent
    if settings.perturbation == "gaussian":
        own, coupled = size * generator.standard_normal((2, num_devices))
    else:
        own, coupled = size * generator.choice([-1.0, 1.0], (2, num_devices))
    return share_of_ten(num_devices) * own, coupled


def share_of_ten(num_devices: int) -> float:
    """What steps of a constraint are multiplied with: the best constraints of many devices are about as 1 / N."""
    return min(1.0, 10.0 / num_devices)
