"""A drop: where access points and users are, how strong every link is, and who serves whom."""

import numpy as np

from rllib_wireless.envs import random
from rllib_wireless.envs.base import BoolArray, IntArray
from rllib_wireless.envs.radio_resource.config import RadioResourceConfig
from rllib_wireless.envs.radio_resource.draws import MAX_ATTEMPTS, Draws, Floats, Purpose, split_seed
from rllib_wireless.envs.radio_resource.path_loss import make_path_loss
from rllib_wireless.envs.radio_resource.shadowing import make_shadowing
from rllib_wireless.envs.random import jit
from rllib_wireless.errors import UserError

_TRIES = 100  # positions tried for an access point before all are laid out anew
_MAX_TRIES = 2_000_000
_POSITION = int(Purpose.POSITION)


class Drops:
    """Positions, long-term gains and association of B drops.

    Args:
        config: The configuration.
        num_envs: B.

    Attributes:
        access_points: Positions [B, I, 2] in metres.
        users: Positions [B, J, 2] in metres.
        gain: Received power of every link over noise, [B, I, J], without fading: its long-term SNR.
        serving: The access point of each user, [B, J].
    """

    def __init__(self, config: RadioResourceConfig, num_envs: int) -> None:
        self._config = config
        self._path_loss = make_path_loss(config)
        self._shadowing = make_shadowing(config)
        sigma = config.shadowing_db
        self._sigma_db = self._path_loss.shadowing_db if sigma is None else (sigma, sigma)
        shape = (num_envs, config.num_access_points, config.num_users)
        self.access_points = np.empty((num_envs, shape[1], 2))
        self.users = np.empty((num_envs, shape[2], 2))
        self.gain = np.empty(shape)
        self.serving: IntArray = np.zeros((num_envs, shape[2]), np.int64)

    def begin(self, seed: int, episode: int) -> Draws:
        """Draw drops in which every access point has a user; returns where their other random numbers come from.

        Raises:
            UserError: Where positions with the configured distances, or such drops, are too rare to be found.
        """
        attempt = np.zeros(len(self.users), np.int64)
        while True:
            draws = Draws(split_seed(seed, self._config.split), episode, attempt)
            self._draw(draws)
            alone = ~self._all_have_users()
            if not alone.any():
                return draws
            attempt[alone] += 1
            if attempt.max() == MAX_ATTEMPTS:
                raise UserError(f"radio_resource: no drop of {MAX_ATTEMPTS} had a user for every access point; {_MORE}")

    def move(self, seconds: float) -> None:
        """Let users be where they are so many seconds after the beginning; who serves them may change."""
        area = np.array(self._config.area)
        distance = self._config.user_speed_mps * seconds
        self.users = reflect(self._start + distance * self._direction, area)
        self._set_gain()
        own = np.take_along_axis(self.gain, self.serving[:, None], axis=1)[:, 0]
        margin = 10 ** (self._config.handover_margin_db / 10)
        self.serving = np.where(self.gain.max(1) > margin * own, self.gain.argmax(1), self.serving)

    def _draw(self, draws: Draws) -> None:
        config, (_, users) = self._config, self.serving.shape
        access_points = self.access_points.shape[1]
        if config.layout == "grid":
            self.access_points[:] = grid(config)
        placed = _place(
            self.access_points,
            self.users,
            np.array(config.area),
            -1.0 if config.layout == "grid" else config.min_access_point_distance_m,
            config.min_user_distance_m,
            draws.seed,
            draws.counter,
        )
        if not placed:
            raise UserError(
                f"radio_resource: {access_points} access points {config.min_access_point_distance_m:g} m apart and users"
                f" {config.min_user_distance_m:g} m from them were not found in {config.area[0]:g} x {config.area[1]:g} m; {_MORE}"
            )
        angle = 2 * np.pi * draws.uniform(Purpose.DIRECTION, users)
        self._direction = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
        self._start = self.users.copy()
        self._sight = draws.uniform(Purpose.LINE_OF_SIGHT, access_points, users)
        self._shadowing.begin(draws, access_points, users)
        self._set_gain()
        self.serving = self.gain.argmax(1)

    def _set_gain(self) -> None:
        """Long-term SNR of every link from where the users are."""
        config = self._config
        offset = self.users[:, None] - self.access_points[:, :, None]
        horizontal = np.sqrt((offset**2).sum(-1))
        length = np.sqrt(horizontal**2 + config.height_difference_m**2)
        # A link that had a line of sight by a small number keeps it until its user has gone far enough.
        sight = self._sight < self._path_loss.line_of_sight_probability(horizontal)
        sigma = np.where(sight, self._sigma_db[1], self._sigma_db[0])
        loss = self._path_loss.loss_db(np.maximum(length, 1e-3), sight) + sigma * self._shadowing.at(self.users)
        self.gain = 10 ** ((config.power_dbm - loss - config.noise_dbm) / 10)

    def _all_have_users(self) -> BoolArray:
        access_points = np.arange(self.access_points.shape[1])
        has: BoolArray = (self.serving[:, None] == access_points[:, None]).any(-1).all(-1)
        return has


def grid(config: RadioResourceConfig) -> Floats:
    """Positions [I, 2] of access points in rows and columns around the middle of the area."""
    columns, rows = config.grid
    number = np.arange(config.num_access_points)
    row, column = number // columns, number % columns
    in_row = np.minimum(config.num_access_points - row * columns, columns)  # the last row may be shorter
    offset = np.stack((column - (in_row - 1) / 2, row - (rows - 1) / 2), axis=-1)
    positions: Floats = np.array(config.area) / 2 + config.grid_spacing_m * offset
    return positions


def reflect(positions: Floats, area: Floats) -> Floats:
    """Where somebody who walked straight on to these positions is who was reflected at the border."""
    inside: Floats = area - np.abs(np.mod(positions, 2 * area) - area)
    return inside


_MORE = "choose a larger area_m, smaller distances or more users"


@jit
def _place(
    access_points: Floats,
    users: Floats,
    area: Floats,
    access_point_distance: float,
    user_distance: float,
    seed: int,
    counter: IntArray,
) -> bool:
    """Fill positions uniform over the area that keep the distances; a negative one leaves access points as they are."""
    for b in range(users.shape[0]):
        tries = 0
        placed = access_points.shape[1] if access_point_distance < 0.0 else 0
        failures = 0
        while placed < access_points.shape[1]:
            _draw_position(access_points[b, placed], area, seed, b, placed, tries, counter[b])
            tries += 1
            if _is_far(access_points[b, placed], access_points[b, :placed], access_point_distance):
                placed += 1
                failures = 0
            else:
                failures += 1
            if failures == _TRIES:
                placed, failures = 0, 0
            if tries == _MAX_TRIES:
                return False
        for j in range(users.shape[1]):
            tries = 0
            while True:
                _draw_position(users[b, j], area, seed, b, access_points.shape[1] + j, tries, counter[b])
                tries += 1
                if _is_far(users[b, j], access_points[b], user_distance):
                    break
                if tries == _MAX_TRIES:
                    return False
    return True


@jit
def _draw_position(out: Floats, area: Floats, seed: int, b: int, number: int, tries: int, counter: int) -> None:
    for axis in range(2):
        out[axis] = area[axis] * random.uniform(seed, b, number, _POSITION + 2 * tries + axis, counter)


@jit
def _is_far(position: Floats, others: Floats, distance: float) -> bool:
    for k in range(others.shape[0]):
        if (position[0] - others[k, 0]) ** 2 + (position[1] - others[k, 1]) ** 2 < distance**2:
            return False
    return True
