"""Log-normal shadowing in units of its standard deviation: independent per link, or correlated in space."""

import math
from abc import ABC, abstractmethod

import numpy as np
from scipy.special import ndtri

from rllib_wireless.envs.radio_resource.config import RadioResourceConfig
from rllib_wireless.envs.radio_resource.draws import Draws, Floats, Purpose


class Shadowing(ABC):
    """Shadowing of the links of I access points and J users: standard normal, fixed but for movement."""

    @abstractmethod
    def begin(self, draws: Draws, access_points: int, users: int) -> None:
        """Draw it anew for a drop in each copy."""

    @abstractmethod
    def at(self, positions: Floats) -> Floats:
        """Its values [B, I, J] for users at positions [B, J, 2] in metres."""


class IndependentShadowing(Shadowing):
    """A value per link, which a user keeps wherever it goes."""

    def begin(self, draws: Draws, access_points: int, users: int) -> None:
        self._values: Floats = ndtri(draws.uniform(Purpose.SHADOWING, access_points, users) + 2.0**-54)  # never at 0

    def at(self, positions: Floats) -> Floats:
        return self._values


class CorrelatedShadowing(Shadowing):
    """A field over space for each access point, correlated by exp(-distance / `correlation_m`) (TR 38.901, 7.4.4).

    The field is a sum of plane waves. Their wave vectors k are drawn from the Fourier transform of the correlation in the
    plane, whose radius has the distribution P(|k| < r) = 1 - 1 / sqrt(1 + (r d)^2). The correlation is exact for any
    number of waves; the values are normal only in the limit.

    Args:
        correlation_m: Correlation distance d in metres.
    """

    num_waves = 128

    def __init__(self, correlation_m: float) -> None:
        self._correlation_m = correlation_m

    def begin(self, draws: Draws, access_points: int, users: int) -> None:
        shape = (access_points, self.num_waves)
        radius = np.sqrt((1 - draws.uniform(Purpose.WAVE_LENGTH, *shape)) ** -2 - 1) / self._correlation_m
        direction = 2 * np.pi * draws.uniform(Purpose.WAVE_DIRECTION, *shape)
        self._waves = np.stack((radius * np.cos(direction), radius * np.sin(direction)), axis=-1)
        self._phase = 2 * np.pi * draws.uniform(Purpose.WAVE_PHASE, *shape)

    def at(self, positions: Floats) -> Floats:
        # One wave after the other: the array over all waves would be large, and a matrix product depends on B.
        total = np.zeros((*self._phase.shape[:2], positions.shape[1]))
        for m in range(self.num_waves):
            wave = self._waves[:, :, m, None]
            total += np.cos(
                wave[..., 0] * positions[:, None, :, 0]
                + wave[..., 1] * positions[:, None, :, 1]
                + self._phase[:, :, m, None]
            )
        return total * math.sqrt(2 / self.num_waves)


def make_shadowing(config: RadioResourceConfig) -> Shadowing:
    """The shadowing that a configuration asks for."""
    if config.shadowing_correlation_m is None:
        return IndependentShadowing()
    return CorrelatedShadowing(config.shadowing_correlation_m)
