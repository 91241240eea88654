"""How much a link loses with distance, and whether it has a line of sight."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BoolArray
from rllib_wireless.envs.radio_resource.config import RadioResourceConfig

Floats = npt.NDArray[np.float64]


class PathLoss(ABC):
    """Loss as a function of distance.

    Attributes:
        shadowing_db: Standard deviation of the shadowing that belongs to it, without and with a line of sight, in dB.
    """

    shadowing_db: ClassVar[tuple[float, float]]

    @abstractmethod
    def loss_db(self, distance_m: Floats, line_of_sight: BoolArray) -> Floats:
        """Loss in dB of links of this length, heights included."""

    def line_of_sight_probability(self, horizontal_m: Floats) -> Floats:
        """Probability of a line of sight at this horizontal distance; 1 where a model knows only one kind of link."""
        return np.ones_like(horizontal_m)


class DualSlope(PathLoss):
    """39 + 20 log10(d) up to 100 m, 40 log10(d) - 1 beyond: exponent 2, then 4 (code of Naderializadeh et al.)."""

    shadowing_db = (7.0, 7.0)

    def loss_db(self, distance_m: Floats, line_of_sight: BoolArray) -> Floats:
        slope = 10 * np.log10(distance_m)
        return np.where(distance_m <= 100.0, 39.0 + 2 * slope, -1.0 + 4 * slope)


class IndoorOpenOffice(PathLoss):
    """Indoor hotspot, open office (TR 38.901, tables 7.4.1-1 and 7.4.2-1).

    Args:
        carrier_hz: Carrier frequency in Hz.
    """

    shadowing_db = (8.03, 3.0)

    def __init__(self, carrier_hz: float) -> None:
        self._log_ghz = math.log10(carrier_hz / 1e9)

    def loss_db(self, distance_m: Floats, line_of_sight: BoolArray) -> Floats:
        log_distance = np.log10(np.maximum(distance_m, 1.0))  # the model begins at 1 m
        clear = 32.4 + 17.3 * log_distance + 20 * self._log_ghz
        blocked = np.maximum(clear, 17.3 + 38.3 * log_distance + 24.9 * self._log_ghz)
        loss: Floats = np.where(line_of_sight, clear, blocked)
        return loss

    def line_of_sight_probability(self, horizontal_m: Floats) -> Floats:
        near, far = np.exp(-(horizontal_m - 5) / 70.8), 0.54 * np.exp(-(horizontal_m - 49) / 211.7)
        return np.where(horizontal_m <= 5, 1.0, np.where(horizontal_m <= 49, near, far))


class IndoorMixedOffice(IndoorOpenOffice):
    """Indoor hotspot, mixed office: as the open one, but with fewer lines of sight."""

    def line_of_sight_probability(self, horizontal_m: Floats) -> Floats:
        near, far = np.exp(-(horizontal_m - 1.2) / 4.7), 0.32 * np.exp(-(horizontal_m - 6.5) / 32.6)
        return np.where(horizontal_m <= 1.2, 1.0, np.where(horizontal_m < 6.5, near, far))


def make_path_loss(config: RadioResourceConfig) -> PathLoss:
    """The path loss that a configuration names."""
    if config.path_loss == "dual_slope":
        return DualSlope()
    return (IndoorOpenOffice if config.path_loss == "indoor_open_office" else IndoorMixedOffice)(config.carrier_hz)
