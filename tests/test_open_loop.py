"""The k-step error against processes that are known."""

from pathlib import Path

import pytest
import torch

from rllib_wireless.algorithms.fedmorl.client import ClientGroup
from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows
from rllib_wireless.algorithms.fedmorl.open_loop import open_loop_errors
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.statistics import client_statistics, merge_statistics
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.data.store import client_folders, load_dataset
from rllib_wireless.envs import ObsField

LAYOUT = Layout.from_fields(
    (ObsField("kind", "categorical", 1), ObsField("level", "continuous", low=-100.0, high=100.0)), num_actions=2
)
EPISODE, EPISODES = 20, 60
GAMMA = 0.9


def episodes(noise: float = 0.0) -> tuple[Rows, torch.Tensor]:
    """A level from anywhere that action 1 raises by 1 and action 0 leaves as it is; the reward is the level before."""
    g = torch.Generator().manual_seed(0)
    actions = torch.randint(2, (EPISODES, EPISODE), generator=g)
    first = 20 * torch.rand(EPISODES, 1, generator=g)
    change = actions + noise * torch.randn(actions.shape, generator=g)
    after = first + change.cumsum(1)
    before = torch.cat([first, after[:, :-1]], 1)
    rows = EPISODES * EPISODE
    linked = torch.ones(EPISODES, EPISODE, dtype=torch.bool)
    linked[:, -1] = False
    return Rows(
        obs=torch.stack([torch.ones(rows), before.flatten()], 1),
        actions=actions.flatten(),
        rewards=before.flatten(),
        costs=torch.zeros(rows),
        new_obs=torch.stack([torch.ones(rows), after.flatten()], 1),
        duration=torch.full((rows,), 2.0),
        terminateds=torch.zeros(rows, dtype=torch.bool),
        action_mask=torch.ones(rows, 2, dtype=torch.bool),
    ), linked.flatten()


def errors(rows: Rows, linked: torch.Tensor, horizon: int) -> dict[str, float]:
    """Of the model that the sums make: exact but for the noise, since all is affine."""
    model = WorldModel(LAYOUT, client_statistics(rows, LAYOUT), (8,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # the network does not know the noise yet; the floor of its deviation is nearly none
        model.effect_net.biases[-1][..., model.effect_net.sizes[-1] // 2 :] = -50.0
        model.effect_net.weights[-1].zero_()
    generator = torch.Generator().manual_seed(1)
    return open_loop_errors(model, rows, linked, horizon=horizon, gamma=GAMMA, generator=generator)


@pytest.mark.parametrize("horizon", [1, 5])
def test_an_exact_model_has_no_error_and_standing_still_misses_every_step(horizon: int) -> None:
    rows, linked = episodes()
    found = errors(rows, linked, horizon)
    spread = float(rows.obs[:, 1].std())
    assert found["k_step_continuous"] < 0.02
    # A binomial number of steps: variance k / 4, mean k / 2; 64 starts, so within some 12 %.
    expected = (horizon / 4 + horizon**2 / 4) ** 0.5 / spread
    assert found["k_step_continuous_unchanged"] == pytest.approx(expected, rel=0.15)
    # The deviation's floor of e^-4 is what is left of k rewards of some 10 each.
    assert found["k_step_reward"] < 0.05 * found["k_step_reward_mean"]
    assert found["k_step_return"] < 0.05 * found["k_step_return_mean"]


def test_sums_and_returns_are_those_of_the_rows() -> None:
    """One window alone: against the mean of its one sum the error is 0, and a model that predicts nothing misses all."""
    rows, linked = episodes()
    rows, linked = rows.slice(0, 3), torch.tensor([True, True, False])
    found = errors(rows, linked, horizon=3)
    assert found["k_step_reward_mean"] == found["k_step_return_mean"] == 0.0
    broken, _ = episodes()
    idle = broken._replace(rewards=torch.zeros_like(broken.rewards))
    model = WorldModel(LAYOUT, client_statistics(idle, LAYOUT), (8,), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    missed = open_loop_errors(model, rows, linked, horizon=3, gamma=GAMMA, generator=generator)
    r = rows.rewards.tolist()
    assert missed["k_step_reward"] == pytest.approx(sum(r), abs=1e-3)
    assert missed["k_step_return"] == pytest.approx(r[0] + GAMMA**2 * r[1] + GAMMA**4 * r[2], abs=1e-3)


def test_windows_end_with_their_episode_and_few_rows_shorten_them() -> None:
    rows, linked = episodes()
    across = torch.ones_like(linked)
    across[-1] = False
    assert (
        errors(rows, across, horizon=10)["k_step_continuous"]
        > 0.3
        > errors(rows, linked, horizon=10)["k_step_continuous"]
    )
    short = errors(rows.slice(0, 3), torch.tensor([True, False, False]), horizon=10)
    both = errors(rows.slice(0, 3), torch.tensor([True, False, False]), horizon=2)
    assert short == both


def test_noise_that_nobody_can_foresee_is_the_error_that_is_left() -> None:
    rows, linked = episodes(noise=1.0)
    found = errors(rows, linked, horizon=4)
    # Four unit deviates; 64 starts, so within some 12 %.
    assert found["k_step_continuous"] * float(rows.obs[:, 1].std()) == pytest.approx(2.0, rel=0.25)


def test_a_client_reports_it_with_the_loss_of_the_model_that_came_in(tmp_path: Path) -> None:
    out = tmp_path / "data"
    env = {"num_stations": 2, "episode_slots": 3000}
    collect("channel_access", env, [Behaviour("csma_ca")], 1500, out, num_envs=2, split="agents")
    folders = client_folders(out)
    settings = FedMORLSettings.parse({"model_hiddens": (8,), "local_steps": 1, "rollout_horizon": 3})
    group = ClientGroup(folders, settings, tmp_path / "state", seed=0)
    statistics = merge_statistics(list(group.statistics().values()))
    model = WorldModel(group.layout, statistics, (8,), generator=torch.Generator().manual_seed(0))
    metrics = group.train_model(model.weights(), statistics, 0)["station_0"].metrics
    names = {f"k_step_{of}{by}" for of in ("continuous", "reward", "return") for by in ("", "_mean", "_unchanged")}
    assert {n for n in metrics if n.startswith("k_step")} == names - {
        "k_step_continuous_mean",
        "k_step_reward_unchanged",
        "k_step_return_unchanged",
    }
    # Where rows are linked, the next observation of one is the observation of the next; elsewhere an episode ended.
    rows = load_dataset(folders["station_0"]).rows["station_0"]
    linked = group._linked[0].numpy()
    held = {name: rows[name][-len(linked) :] for name in rows}
    assert (held["new_obs"][:-1] == held["obs"][1:]).all(1)[linked[:-1]].all()
    ends = held["truncateds"] | held["terminateds"]
    assert not linked[ends].any() and ends.any()
    assert linked.mean() > 0.8
