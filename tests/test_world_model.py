"""The world model against processes whose distribution is known."""

import math

import numpy as np
import pytest
import torch

from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows
from rllib_wireless.algorithms.fedmorl.statistics import MIN_ROWS, client_statistics, merge_statistics
from rllib_wireless.algorithms.fedmorl.world_model import SAMPLED_OUTCOMES, WorldModel
from rllib_wireless.envs import BatchedEnv, ObsField, StepRandom, make_env, make_policy

HIDDENS = (32, 32)

# A process with one categorical field of three values, one continuous field and two actions.
FIELDS = (ObsField("phase", "categorical", 3), ObsField("level", "continuous", low=-10.0, high=10.0))
LAYOUT = Layout.from_fields(FIELDS, num_actions=2)
NEXT_PHASE = torch.tensor(  # [action, phase, next phase]
    [[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], [[0.1, 0.1, 0.8], [0.5, 0.25, 0.25], [0.05, 0.9, 0.05]]]
)
END = 0.05  # probability that next phase 2 ends the episode
DRIFT = torch.tensor([0.5, 0.0, -0.5])  # of the level, by next phase
SPREAD = 0.4
DURATION = torch.tensor([1.0, 124.0, 10.0])


def draw(rows: int, seed: int) -> Rows:
    """Transitions of the process."""
    g = torch.Generator().manual_seed(seed)
    phase, actions = torch.randint(3, (rows,), generator=g), torch.randint(2, (rows,), generator=g)
    level = torch.randn(rows, generator=g)
    following = torch.multinomial(NEXT_PHASE[actions, phase], 1, generator=g)[:, 0]
    ended = (following == 2) & (torch.rand(rows, generator=g) < END)
    new_level = 0.5 * level + DRIFT[following] + SPREAD * torch.randn(rows, generator=g)
    one_hot = torch.eye(3)
    return Rows(
        obs=torch.cat([one_hot[phase], level[:, None]], 1),
        actions=actions,
        rewards=following.float() - 0.1 * level,
        costs=torch.zeros(rows),
        new_obs=torch.cat([one_hot[following], new_level[:, None]], 1),
        duration=DURATION[following],
        terminateds=ended,
        action_mask=torch.ones(rows, 2, dtype=torch.bool),
    )


def stack(clients: list[Rows]) -> Rows:
    return Rows(*(torch.stack(columns) for columns in zip(*clients, strict=True)))


def train(clients: list[Rows], steps: int, lr: float = 3e-3, batch_size: int = 256, seed: int = 0) -> WorldModel:
    """The stacked models of these clients, each trained on its own rows."""
    statistics = merge_statistics([client_statistics(rows, LAYOUT) for rows in clients])
    model = WorldModel(LAYOUT, statistics, HIDDENS)
    weights = WorldModel(LAYOUT, statistics, HIDDENS, generator=torch.Generator().manual_seed(seed)).weights()
    model = WorldModel(LAYOUT, statistics, HIDDENS, len(clients))
    model.load_weights(weights)
    descend(model, stack(clients), steps, lr, batch_size)
    return model


def descend(model: WorldModel, rows: Rows, steps: int, lr: float, batch_size: int) -> None:
    g = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        index = torch.randint(rows.actions.shape[1], (batch_size,), generator=g).expand(len(rows.actions), -1)
        loss = torch.stack(list(model.loss(rows.take(index)).values())).sum(0)
        optimizer.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.fixture(scope="module")
def trained() -> WorldModel:
    return train([draw(20_000, seed=0)], steps=600)


def test_held_out_likelihood_reaches_the_entropy_of_the_process(trained: WorldModel) -> None:
    with torch.no_grad():
        loss = trained.negative_log_likelihood(stack([draw(20_000, seed=9)]))
    log = torch.log(NEXT_PHASE)
    ends = -(END * math.log(END) + (1 - END) * math.log(1 - END))
    outcome = -(NEXT_PHASE * log).sum(-1).mean() + NEXT_PHASE[..., 2].mean() * ends
    level = 0.5 + 0.5 * math.log(2 * math.pi) + math.log(SPREAD / trained.target_std[0].item())
    # Nothing can be below the entropy but by sampling: 20,000 rows, standard error about .006.
    assert loss["outcome"].item() == pytest.approx(outcome.item(), abs=0.02)
    assert loss["continuous"].item() == pytest.approx(level, abs=0.05)


def test_outcomes_have_the_probabilities_and_effects_of_the_process(trained: WorldModel) -> None:
    level = 1.0
    o = trained.outcomes(torch.cat([torch.eye(3), torch.full((3, 1), level)], 1))
    following, ended = o.obs[..., :3].argmax(-1), o.terminated > 0.5
    for phase in range(3):
        for action in range(2):
            for value in range(3):
                same = following[phase, action] == value
                probability = o.prob[phase, action][same].sum().item()
                assert probability == pytest.approx(NEXT_PHASE[action, phase, value].item(), abs=0.05)
                going_on = same & ~ended[phase, action]
                assert o.reward[phase, action][going_on].item() == pytest.approx(value - 0.1 * level, abs=0.05)
                assert o.duration[phase, action][going_on].item() == pytest.approx(DURATION[value].item(), abs=2.0)
                mean, spread = o.obs[phase, action, going_on, 3].item(), o.std[phase, action, going_on, 3].item()
                assert mean == pytest.approx(0.5 * level + DRIFT[value].item(), abs=0.1)
                assert spread == pytest.approx(SPREAD, rel=0.2)
    assert (o.std[..., :3] == 0).all()  # categorical columns have no spread


def test_probabilities_sum_to_one_and_only_outcomes_that_were_seen_have_any(trained: WorldModel) -> None:
    o = trained.outcomes(draw(100, seed=3).obs)
    torch.testing.assert_close(o.prob.sum(-1), torch.ones(100, 2))
    pairs = {
        (int(p), bool(e)) for p, e in zip(o.obs[..., :3].argmax(-1).flatten(), o.terminated.flatten(), strict=True)
    }
    assert pairs == {(0, False), (1, False), (2, False), (2, True)}


def test_expectation_over_outcomes_is_that_of_drawn_next_observations(trained: WorldModel) -> None:
    o = trained.outcomes(torch.tensor([[1.0, 0.0, 0.0, 0.3]]))
    exact = (o.prob * o.obs[..., 3]).sum(-1)[0, 1]
    g = torch.Generator().manual_seed(0)
    k = torch.multinomial(o.prob[0, 1], 40_000, replacement=True, generator=g)
    drawn = trained.sample(o.obs[0, 1, k], o.std[0, 1, k], torch.randn(40_000, 4, generator=g))
    assert drawn[:, 3].mean().item() == pytest.approx(exact.item(), abs=4 * drawn[:, 3].std().item() / 200)
    assert ((drawn[:, :3] == 0) | (drawn[:, :3] == 1)).all()


def test_statistics_alone_give_effects_that_are_affine_given_outcome_and_action() -> None:
    """A reset that happens in one row of two hundred is exact before any training."""
    g = torch.Generator().manual_seed(0)
    level, reset = 5 * torch.rand(8000, generator=g), torch.rand(8000, generator=g) < 0.005
    phase = torch.eye(3)[reset.long()]
    rows = draw(8000, seed=1)._replace(
        obs=torch.cat([torch.eye(3)[[0]].expand(8000, -1), level[:, None]], 1),
        new_obs=torch.cat([phase, (level * ~reset)[:, None]], 1),
        terminateds=torch.zeros(8000, dtype=torch.bool),
        rewards=torch.where(reset, 1.0, -0.2 * level),
        duration=torch.where(reset, 124.0, 1.0),
    )
    model = WorldModel(LAYOUT, client_statistics(rows, LAYOUT), HIDDENS, generator=torch.Generator().manual_seed(0))
    o = model.outcomes(torch.tensor([[1.0, 0.0, 0.0, 4.0]]))
    after_reset = o.obs[0, 0, :, 1] == 1
    assert o.obs[0, 0, after_reset, 3].item() == pytest.approx(0.0, abs=0.3)
    assert o.obs[0, 0, ~after_reset, 3].item() == pytest.approx(4.0, abs=0.01)
    assert o.reward[0, 0, ~after_reset].item() == pytest.approx(-0.8, abs=0.01)
    assert o.duration[0, 0, ~after_reset].item() == pytest.approx(1.0, abs=0.1)


def test_statistics_of_clients_add_up_to_those_of_their_rows_together() -> None:
    rows = draw(30_000, seed=0)
    whole = client_statistics(rows, LAYOUT)
    parts = [client_statistics(rows.slice(a, b), LAYOUT) for a, b in ((0, 10_000), (10_000, 30_000))]
    merged = merge_statistics(parts)
    assert whole.keys() == merged.keys()
    for name in whole:
        np.testing.assert_allclose(merged[name], whole[name], rtol=1e-9, atol=1e-9)


def test_no_sum_of_products_is_sent_of_a_group_small_enough_to_be_told_apart() -> None:
    rows = draw(400, seed=0)
    alone = torch.arange(400) == 7  # the only row that takes this action with this outcome
    rows = rows._replace(
        terminateds=alone, new_obs=torch.where(alone[:, None], torch.tensor([0.0, 0.0, 1.0, 0.123]), rows.new_obs)
    )
    counts = client_statistics(rows, LAYOUT)["gram"][:, 0, 0]
    assert (counts == 0).any() and (counts > 0).any()
    assert counts[counts > 0].min() >= MIN_ROWS


def test_statistics_are_sums_whose_size_does_not_depend_on_the_number_of_rows() -> None:
    few, many = (client_statistics(draw(rows, seed=0), LAYOUT) for rows in (10, 1000))
    assert {name: value.shape for name, value in few.items()} == {name: value.shape for name, value in many.items()}


def test_an_outcome_that_only_other_clients_saw_is_known_and_a_new_one_is_merely_unlikely() -> None:
    rows = draw(2000, seed=0)
    calm = rows._replace(terminateds=torch.zeros(2000, dtype=torch.bool))
    both = merge_statistics([client_statistics(calm, LAYOUT), client_statistics(rows, LAYOUT)])
    assert len(WorldModel(LAYOUT, both, HIDDENS).classes) == 4  # type: ignore[arg-type]
    narrow = WorldModel(LAYOUT, client_statistics(calm, LAYOUT), HIDDENS)
    assert len(narrow.classes) == 3  # type: ignore[arg-type]
    loss = narrow.negative_log_likelihood(stack([rows]))
    assert all(torch.isfinite(term).all() for term in loss.values())


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_client_learns_the_same_bits_whoever_shares_its_process(others: int) -> None:
    clients = [draw(500, seed) for seed in range(4)]
    statistics = merge_statistics([client_statistics(rows, LAYOUT) for rows in clients])
    first = WorldModel(LAYOUT, statistics, HIDDENS, generator=torch.Generator().manual_seed(0)).weights()
    found = []
    for members in ([0, 1, 2, 3], [0, *range(4 - others, 4)]):
        model = WorldModel(LAYOUT, statistics, HIDDENS, len(members))
        model.load_weights(first)
        descend(model, stack([clients[m] for m in members]), steps=20, lr=1e-2, batch_size=64)
        found.append(model.weights(0))
    for name in first:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_weights_make_the_trip_through_the_server() -> None:
    model = train([draw(500, seed=s) for s in (0, 1)], steps=5)
    other = train([draw(500, seed=s) for s in (0, 1)], steps=0)
    other.load_weights(model.weights(1))
    for client in (0, 1):
        for name, value in other.weights(client).items():
            np.testing.assert_array_equal(value, model.weights(1)[name])


def test_many_categorical_fields_are_modelled_one_by_one() -> None:
    fields = (*(ObsField(f"f{i}", "categorical", 6) for i in range(4)), ObsField("x", "continuous"))
    layout = Layout.from_fields(fields, num_actions=2)
    g = torch.Generator().manual_seed(0)
    prob = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    values = torch.multinomial(prob.expand(2, -1), 4 * 6000, replacement=True, generator=g).reshape(2, 6000, 4)
    obs, new_obs = (torch.cat([torch.eye(6)[v].flatten(1), torch.rand(6000, 1, generator=g)], 1) for v in values)
    rows = draw(6000, seed=0)._replace(obs=obs, new_obs=new_obs, terminateds=torch.zeros(6000, dtype=torch.bool))
    model = WorldModel(layout, client_statistics(rows, layout), HIDDENS, generator=torch.Generator().manual_seed(0))
    assert model.classes is None
    descend(model, stack([rows]), steps=200, lr=3e-3, batch_size=256)
    o = model.outcomes(obs[:50])
    assert o.prob.shape == (50, 2, SAMPLED_OUTCOMES)
    for i in range(4):
        share = o.obs[..., 6 * i : 6 * i + 6].mean((0, 1, 2))
        torch.testing.assert_close(share, prob, atol=0.05, rtol=0.0)
    assert ((o.obs[..., :24] == 0) | (o.obs[..., :24] == 1)).all()


def test_channel_access_is_learned_within_a_slot_and_a_few_hundredths_of_reward() -> None:
    rows, env = _csma_rows(stations=4, copies=8, steps=1500, station=0)
    layout = Layout.of(env)
    model = WorldModel(layout, client_statistics(rows, layout), HIDDENS, generator=torch.Generator().manual_seed(0))
    descend(model, stack([rows]), steps=300, lr=3e-3, batch_size=256)
    idle = torch.tensor([[1, 0, 0, 0, 1, 0, d, 1.0] for d in (0.1, 0.5)])
    o = model.outcomes(idle)
    state, sent = o.obs[..., :4].argmax(-1), o.obs[..., 5] == 1
    deferred, transmitted = ~sent[0, 0], sent[0, 0]
    # Who transmits is seen to have transmitted, who defers is not.
    assert (o.prob[:, 0][:, transmitted].sum(-1) < 0.05).all() and (o.prob[:, 1][:, deferred].sum(-1) < 0.05).all()
    own_success = transmitted & (state[0, 0] == 2)
    assert (o.obs[:, 1][:, own_success, 6].abs() < 0.02).all()  # the delay starts anew
    quiet, busy = deferred & (state[0, 0] == 0), state[0, 0] != 0
    assert ((o.duration[:, 0][:, quiet] - 1).abs() < 1).all()
    assert ((o.duration[:, 1][:, busy & transmitted] - 124).abs() < 1).all()
    # Reward is +-1 less alpha times the share of the delay, summed over the 124 slots, in which the share hardly moves.
    penalty = 0.01 * 124 * idle[:, 6]
    assert ((o.reward[:, 1][:, own_success][:, 0] - (1 - penalty)).abs() < 0.1).all()


def _csma_rows(stations: int, copies: int, steps: int, station: int) -> tuple[Rows, BatchedEnv]:
    env = make_env("channel_access", copies, num_stations=stations, episode_slots=None, alpha=0.01)
    policy, random = make_policy("csma_ca", env), StepRandom(7, copies, stations)
    step = env.reset(7)
    columns: list[list[torch.Tensor]] = [[], [], [], [], []]
    for _ in range(steps):
        obs, actions = torch.tensor(step.obs[:, station]), policy.act(step, random)
        step = env.step(actions)
        random.advance()
        seen = (step.reward[:, station], step.obs[:, station], step.duration)
        for column, value in zip(
            columns, (obs, torch.tensor(actions[:, station]), *map(torch.tensor, seen)), strict=True
        ):
            column.append(value)
    obs, chosen, rewards, new_obs, duration = (torch.cat(column) for column in columns)
    never, mask = torch.zeros(len(obs), dtype=torch.bool), torch.ones(len(obs), 2, dtype=torch.bool)
    return Rows(obs, chosen, rewards, torch.zeros_like(rewards), new_obs, duration, never, mask), env
