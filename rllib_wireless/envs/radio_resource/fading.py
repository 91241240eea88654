"""Fast fading of every link: its power gain |h|^2, block after block of slots."""

import math
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.radio_resource.config import RadioResourceConfig
from rllib_wireless.envs.radio_resource.draws import Draws, Floats, Purpose
from rllib_wireless.envs.random import jit

BLOCK_SLOTS = 20
"""Fading is computed for so many slots at once, and moving users are at a new place after so many."""


class Fading(ABC):
    """Fading of L links in B copies, E|h|^2 = 1."""

    @abstractmethod
    def begin(self, draws: Draws, links: int) -> None:
        """Draw it anew for a drop in each copy."""

    @abstractmethod
    def advance(self) -> Floats:
        """Power gains of the next slots, [B, BLOCK_SLOTS, L]; a buffer that the next call overwrites."""


class NoFading(Fading):
    """|h| = 1 always."""

    def begin(self, draws: Draws, links: int) -> None:
        self._power = np.ones((len(draws.counter), BLOCK_SLOTS, links))

    def advance(self) -> Floats:
        return self._power


class RayleighFading(Fading):
    """Clarke's model as a sum of M sinusoids.

        h(t) = M^(-1/2) sum_m exp(j (2 pi f_d t cos((2 pi m + theta) / M) + phi_m))

    with theta and phi_m uniform over the circle and independent for each link (Zheng & Xiao 2003 give the angles so). The
    power of the ensemble is 1 and its autocorrelation J0(2 pi f_d t), both exactly, for any M; h is Gaussian only in the
    limit. Sinusoids are phasors turned from slot to slot, so a slot costs no trigonometric function.

    Args:
        doppler_hz: Largest Doppler shift f_d.
        slot_s: Length of a slot in seconds.
    """

    num_sinusoids = 16

    def __init__(self, doppler_hz: float, slot_s: float) -> None:
        self._radians_per_slot = 2 * np.pi * doppler_hz * slot_s

    def begin(self, draws: Draws, links: int) -> None:
        m = self.num_sinusoids
        theta = 2 * np.pi * draws.uniform(Purpose.FADING_ANGLE, 1, links)
        angle = (2 * np.pi * np.arange(m)[:, None] + theta) / m
        phase = 2 * np.pi * draws.uniform(Purpose.FADING_PHASE, m, links)
        turn = self._radians_per_slot * np.cos(angle)
        # Rows: real and imaginary part of the phasor and of what turns it by a slot.
        self._phasors = np.stack((np.cos(phase), np.sin(phase), np.cos(turn), np.sin(turn)), axis=2)
        self._power = np.empty((len(draws.counter), BLOCK_SLOTS, links))

    @property
    def coefficients(self) -> npt.NDArray[np.complex128]:
        """h of every link at the beginning of the next block, [B, L]."""
        h: npt.NDArray[np.complex128] = (self._phasors[:, :, 0] + 1j * self._phasors[:, :, 1]).sum(1)
        return h / math.sqrt(self.num_sinusoids)

    def advance(self) -> Floats:
        _turn(self._phasors, self._power)
        return self._power


def make_fading(config: RadioResourceConfig) -> Fading:
    """The fading that a configuration names."""
    return NoFading() if config.fading == "none" else RayleighFading(config.doppler_hz, config.slot_ms / 1000)


@jit
def _turn(phasors: Floats, power: Floats) -> None:
    """Fill power [B, slots, L] and turn the phasors [B, M, 4, L] past these slots."""
    num_envs, sinusoids, _, links = phasors.shape
    slots = power.shape[1]
    real = np.empty((slots, links))
    imaginary = np.empty((slots, links))
    for b in range(num_envs):
        real[:] = 0.0
        imaginary[:] = 0.0
        for m in range(sinusoids):
            re, im, cos, sin = phasors[b, m]
            for t in range(slots):
                for k in range(links):
                    real[t, k] += re[k]
                    imaginary[t, k] += im[k]
                    turned = re[k] * cos[k] - im[k] * sin[k]
                    im[k] = re[k] * sin[k] + im[k] * cos[k]
                    re[k] = turned
        for t in range(slots):
            for k in range(links):
                power[b, t, k] = (real[t, k] ** 2 + imaginary[t, k] ** 2) / sinusoids
