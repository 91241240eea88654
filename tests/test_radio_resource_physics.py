"""The physics of radio_resource against closed forms."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import exp1, j0

from rllib_wireless.envs import make_env
from rllib_wireless.envs.radio_resource import RadioResource, RadioResourceConfig
from rllib_wireless.envs.radio_resource.draws import Draws
from rllib_wireless.envs.radio_resource.drop import Drops, grid, reflect
from rllib_wireless.envs.radio_resource.fading import BLOCK_SLOTS, NoFading, RayleighFading
from rllib_wireless.envs.radio_resource.path_loss import DualSlope, IndoorMixedOffice, IndoorOpenOffice
from rllib_wireless.envs.radio_resource.shadowing import CorrelatedShadowing, IndependentShadowing

YES = np.array([True])


def draws(copies: int) -> Draws:
    return Draws(0, 0, np.zeros(copies, np.int64))


def radio(num_envs: int = 1, **config: Any) -> RadioResource:
    env = make_env("radio_resource", num_envs, **config)
    assert isinstance(env, RadioResource)
    return env


def test_dual_slope_is_continuous_and_has_its_two_exponents() -> None:
    below, at, above = DualSlope().loss_db(np.array([100 - 1e-9, 100.0, 100 + 1e-9]), np.ones(3, bool))
    assert at == pytest.approx(79.0) and below == pytest.approx(at) and above == pytest.approx(at)
    near, nearer, far, farther = DualSlope().loss_db(np.array([10.0, 1.0, 1000.0, 10_000.0]), np.ones(4, bool))
    assert (near - nearer, farther - far) == pytest.approx((20.0, 40.0))


def test_indoor_office_has_the_values_of_its_table() -> None:
    # TR 38.901, table 7.4.1-1 at 6 GHz and 20 m, worked out by hand.
    open_office = IndoorOpenOffice(6e9)
    assert open_office.loss_db(np.array([20.0]), YES) == pytest.approx(32.4 + 17.3 * 1.30103 + 20 * 0.778151, abs=1e-3)
    assert open_office.loss_db(np.array([20.0]), ~YES) == pytest.approx(
        17.3 + 38.3 * 1.30103 + 24.9 * 0.778151, abs=1e-3
    )
    # No line of sight is never better than one: near the access point the formulas cross.
    near = np.array([1.0])
    assert open_office.loss_db(near, ~YES) == open_office.loss_db(near, YES)


@pytest.mark.parametrize(
    ("model", "breakpoints", "far"),
    [(IndoorOpenOffice, (5.0, 49.0), 0.54), (IndoorMixedOffice, (1.2, 6.5), 0.32)],
)
def test_line_of_sight_probability(model: type[IndoorOpenOffice], breakpoints: tuple[float, float], far: float) -> None:
    probability = model(6e9).line_of_sight_probability
    for distance in breakpoints:  # the standard's own steps are below .5 %
        below, above = probability(np.array([distance - 1e-6, distance + 1e-6]))
        assert below == pytest.approx(above, abs=0.005)
    assert probability(np.array([0.0])) == 1.0
    assert probability(np.array([breakpoints[1]]))[0] == pytest.approx(far, abs=0.005)
    assert (np.diff(probability(np.linspace(0, 150, 400))) <= 0.005).all()


def test_noise_power() -> None:
    assert RadioResourceConfig().noise_dbm == pytest.approx(-104.0)
    assert RadioResourceConfig(preset="office").noise_dbm == pytest.approx(-174 + 73.0103 + 9, abs=1e-4)


def test_noise_figure_takes_from_the_gain() -> None:
    plain, noisy = radio(2), radio(2, noise_figure_db=9.0)
    plain.reset(3), noisy.reset(3)
    np.testing.assert_allclose(noisy.drops.gain * 10**0.9, plain.drops.gain)


def test_snr_at_100_metres_is_35_db() -> None:
    """10 dBm - 79 dB + 104 dBm."""
    drops = Drops(RadioResourceConfig(num_access_points=1, num_users=400, area_m=300.0, shadowing_db=0.0), 4)
    drops.begin(0, 0)
    distance = np.linalg.norm(drops.users - drops.access_points, axis=-1)
    snr = 10 * np.log10(drops.gain[:, 0])
    expected = np.where(distance <= 100, 75 - 20 * np.log10(distance), 115 - 40 * np.log10(distance))
    np.testing.assert_allclose(snr, expected, atol=1e-9)
    assert snr[np.abs(distance - 100).argmin() // 400, np.abs(distance - 100).argmin() % 400] == pytest.approx(
        35, abs=0.5
    )


@pytest.mark.parametrize("sigma", [None, 4.0])
def test_shadowing_has_its_deviation(sigma: float | None) -> None:
    # With one access point no drop is refused; 10,000 links give a standard error of .05 dB.
    config = RadioResourceConfig(num_access_points=1, num_users=200, shadowing_db=sigma)
    drops = Drops(config, 50)
    drops.begin(0, 0)
    distance = np.linalg.norm(drops.users - drops.access_points, axis=-1)
    loss = DualSlope().loss_db(distance, np.ones(distance.shape, bool))
    shadowing = 10 * np.log10(drops.gain[:, 0]) - (config.power_dbm - loss - config.noise_dbm)
    assert shadowing.std() == pytest.approx(sigma or 7.0, abs=0.2)
    assert shadowing.mean() == pytest.approx(0.0, abs=0.3)


def test_independent_shadowing_is_normal_and_stays_with_the_link() -> None:
    shadowing = IndependentShadowing()
    shadowing.begin(draws(50), 4, 50)
    values = shadowing.at(np.zeros((50, 50, 2)))
    assert (values.mean(), values.std()) == pytest.approx((0, 1), abs=0.03)
    assert (values**4).mean() == pytest.approx(3.0, abs=0.25)
    assert abs(np.corrcoef(values[:, 0, :].ravel(), values[:, 1, :].ravel())[0, 1]) < 0.06
    np.testing.assert_array_equal(values, shadowing.at(np.ones((50, 50, 2))))


def test_correlated_shadowing_falls_off_exponentially() -> None:
    shadowing = CorrelatedShadowing(10.0)
    shadowing.begin(draws(2000), 2, 5)
    distances = np.array([0.0, 2.0, 5.0, 10.0, 25.0])
    direction = np.array([math.cos(0.7), math.sin(0.7)])
    values = shadowing.at(np.tile(100 + distances[:, None] * direction, (2000, 1, 1)))
    assert values.std() == pytest.approx(1.0, abs=0.03)
    for k, distance in enumerate(distances):
        correlation = (values[:, :, 0] * values[:, :, k]).mean()
        assert correlation == pytest.approx(math.exp(-distance / 10), abs=0.05)
    assert abs((values[:, 0] * values[:, 1]).mean()) < 0.05  # access points are independent


def test_rayleigh_fading_has_unit_power_and_clarkes_autocorrelation() -> None:
    # 20,000 links: the standard error of a mean of h h* is .007.
    fading = RayleighFading(doppler_hz=8.0, slot_s=0.001)
    fading.begin(draws(200), 100)
    first = fading.coefficients
    assert (np.abs(first) ** 2).mean() == pytest.approx(1.0, abs=0.03)
    power = fading.advance().copy()
    np.testing.assert_allclose(power[:, 0], np.abs(first) ** 2, rtol=1e-12)
    for k in range(1, 6):
        lag_s = k * BLOCK_SLOTS * 0.001
        correlation = (first.conj() * fading.coefficients).mean()
        assert correlation.real == pytest.approx(j0(2 * np.pi * 8 * lag_s), abs=0.03)
        assert correlation.imag == pytest.approx(0.0, abs=0.03)
        fading.advance()


def test_power_within_a_block_has_the_autocorrelation_of_a_sum_of_sinusoids() -> None:
    """E |h(0)|^2 |h(t)|^2 = 1 + J0^2 - 1 / M; the last term goes with the number of sinusoids."""
    fading = RayleighFading(doppler_hz=30.0, slot_s=0.001)
    fading.begin(draws(300), 100)
    power = fading.advance()
    for lag in (0, 5, 12, 19):
        expected = 1 + j0(2 * np.pi * 30 * lag * 0.001) ** 2 - 1 / fading.num_sinusoids
        assert (power[:, 0] * power[:, lag]).mean() == pytest.approx(expected, abs=0.05)


def test_phasors_keep_their_length() -> None:
    fading = RayleighFading(doppler_hz=100.0, slot_s=0.001)
    fading.begin(draws(1), 3)
    for _ in range(500):  # 10,000 slots
        fading.advance()
    np.testing.assert_allclose(np.hypot(fading._phasors[:, :, 0], fading._phasors[:, :, 1]), 1.0, atol=1e-10)


def test_links_fade_independently() -> None:
    fading = RayleighFading(doppler_hz=8.0, slot_s=0.001)
    fading.begin(draws(5000), 2)
    h = fading.coefficients
    assert abs((h[:, 0].conj() * h[:, 1]).mean()) < 0.05


def test_no_fading_is_one() -> None:
    fading = NoFading()
    fading.begin(draws(2), 3)
    assert (fading.advance() == 1.0).all()


def test_rate_of_a_single_cell_is_shannons() -> None:
    env = radio(3, num_access_points=1, num_users=1, fading="none", episode_slots=50)
    env.reset(0)
    snr = env.drops.gain[:, 0, 0].copy()
    for _ in range(49):
        env.step(np.ones((3, 1)))
    np.testing.assert_allclose(env.statistics()["rate"][:, 0] / 49, np.log2(1 + snr), rtol=1e-12)


def test_rate_of_a_fading_single_cell_is_its_ergodic_capacity() -> None:
    """E log2(1 + SNR |h|^2) = exp(1 / SNR) E1(1 / SNR) / ln 2 for Rayleigh fading."""
    config = {"num_access_points": 1, "num_users": 1, "user_speed_mps": 100.0, "episode_slots": 301, "warmup_slots": 0}
    env = radio(200, **config)
    env.reset(0)
    snr = env.drops.gain[:, 0, 0].copy()
    for _ in range(300):
        env.step(np.ones((200, 1)))
    expected = np.exp(1 / snr) * exp1(1 / snr) / np.log(2)
    rate = env.statistics()["rate"][:, 0] / 300
    # Sixteen sinusoids are Gaussian but for a little; the standard error of the mean is about .01.
    assert (rate - expected).mean() == pytest.approx(0.0, abs=0.04)


def test_grid_is_the_layout_of_the_standard() -> None:
    expected = [(10 + 20 * column, 15 + 20 * row) for row in range(2) for column in range(6)]
    np.testing.assert_allclose(grid(RadioResourceConfig(preset="office")), expected)


def test_reflection_at_the_border() -> None:
    area = np.array([10.0, 4.0])
    positions = np.array([[3.0, 1.0], [12.0, -1.0], [-3.0, 9.0], [23.0, 5.0]])
    np.testing.assert_allclose(reflect(positions, area), [[3, 1], [8, 1], [3, 1], [3, 3]])
