"""Collecting: who acts how much, what is recorded, and what a client gets to see."""

from pathlib import Path

import numpy as np
import pytest
from data_sets import CONFIG, lines_of, small

from rllib_wireless.data import Behaviour, check, client_folders, collect, load_dataset, read_card
from rllib_wireless.data.card import Card
from rllib_wireless.envs import BatchedEnv, EnvStep, Policy, StepRandom, make_env
from rllib_wireless.envs.base import IntArray
from rllib_wireless.errors import UserError


class CoinPolicy(Policy):
    """Transmits with a known probability."""

    def __init__(self, probability: float) -> None:
        self._probability = probability

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        transmits = (random.uniform(9) < self._probability) & step.action_mask[:, :, 1]
        self.action_prob = np.where(transmits, self._probability, 1 - self._probability).astype(np.float32)
        return transmits.astype(np.int64)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_steps_are_joint_steps_in_total_whatever_the_copies(tmp_path: Path) -> None:
    for steps in (3, 40, 43):
        card = small(tmp_path / str(steps), steps, {"num_stations": 2, "episode_slots": None}, state=False)
        dataset = load_dataset(tmp_path / str(steps))
        assert sum(line["count"] for line in lines_of(tmp_path / str(steps))) == card.steps == steps
        # Saturated stations all decide in every step, so no step is without a row.
        assert [len(rows["t"]) for rows in dataset.rows.values()] == [steps, steps]


def test_each_policy_runs_its_share_in_its_own_episodes(tmp_path: Path) -> None:
    policies = [Behaviour("ac_vo", 3), Behaviour("tdma", 1), Behaviour(CoinPolicy(0.1), 1)]
    card = collect("channel_access", CONFIG, policies, 1000, tmp_path / "d", num_envs=4)
    assert [p.steps for p in card.policies] == [600, 200, 200]
    assert [p.policy for p in card.policies] == ["ac_vo", "tdma", "CoinPolicy"]
    assert [p.privileged for p in card.policies] == [False, True, False]
    rows = load_dataset(tmp_path / "d").rows["station_0"]
    for behaviour in card.policies:
        assert behaviour.episodes is not None
        first, last = behaviour.episodes
        assert int(((rows["eps_id"] >= first) & (rows["eps_id"] <= last)).sum()) == behaviour.steps
    # The scheduled policy never collides, the others do: rewards tell the episodes apart.
    first, last = card.policies[1].episodes or (0, 0)
    tdma = (rows["eps_id"] >= first) & (rows["eps_id"] <= last)
    assert rows["rewards"][tdma].min() > -1 and rows["rewards"][~tdma].min() <= -1


def test_equal_seeds_give_equal_files_and_others_do_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        small(tmp_path / name, seed=seed)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") != files_of(tmp_path / "c")


def test_action_probabilities_are_recorded_only_where_every_policy_knows_them(tmp_path: Path) -> None:
    coin = Behaviour(CoinPolicy(0.25))
    card = collect("channel_access", CONFIG, [coin], 200, tmp_path / "known", num_envs=4)
    rows = load_dataset(tmp_path / "known").rows["station_1"]
    assert card.action_prob == "exact"
    assert np.array_equal(rows["action_prob"], np.where(rows["actions"] == 1, 0.25, 0.75).astype(np.float32))
    card = collect("channel_access", CONFIG, [coin, Behaviour("csma_ca")], 200, tmp_path / "mixed", num_envs=4)
    assert card.action_prob == "absent" and "action_prob" not in load_dataset(tmp_path / "mixed").rows["station_1"]


def test_what_is_recorded_is_what_happened(tmp_path: Path) -> None:
    """Replaying the recorded actions in the environment gives the recorded observations and rewards."""
    small(tmp_path / "d", 200, CONFIG, rows="all")
    rows = load_dataset(tmp_path / "d").aligned()
    env = make_env("channel_access", 4, **CONFIG)
    step = env.reset(0)
    for t in range(30):
        for copy in range(4):  # the first episode of copy b has number b
            (row,) = np.flatnonzero((rows["eps_id"][:, 0] == copy) & (rows["t"][:, 0] == t))
            assert np.array_equal(rows["obs"][row], step.obs[copy])
            assert np.array_equal(rows["action_mask"][row], step.action_mask[copy])
        actions = np.stack([_row(rows, copy, t)["actions"] for copy in range(4)])
        step = env.step(actions)
        for copy in range(4):
            row_ = _row(rows, copy, t)
            assert np.array_equal(row_["rewards"], step.reward[copy])
            assert np.array_equal(row_["duration"], np.full(3, step.duration[copy]))


def _row(rows: dict[str, np.ndarray], episode: int, t: int) -> dict[str, np.ndarray]:
    (row,) = np.flatnonzero((rows["eps_id"][:, 0] == episode) & (rows["t"][:, 0] == t))
    return {name: values[row] for name, values in rows.items()}


def test_rows_all_align_where_agents_decide_at_different_times(tmp_path: Path) -> None:
    config = {"num_stations": 3, "saturated": False, "arrival_rate": 0.002}
    small(tmp_path / "decisions", 400, config)
    small(tmp_path / "all", 400, config, rows="all")
    with pytest.raises(UserError, match="needs aligned agents; collect with `--rows all`"):
        load_dataset(tmp_path / "decisions").aligned()
    rows = load_dataset(tmp_path / "all").aligned()
    assert rows["obs"].shape[:2] == (400, 3) and 0 < rows["acting"].mean() < 1
    assert not rows["actions"][~rows["acting"]].any()


def test_the_joint_state_is_there_for_every_row(tmp_path: Path) -> None:
    small(tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    for rows in dataset.rows.values():
        before, after = dataset.state_at(rows["eps_id"], rows["t"]), dataset.state_at(rows["eps_id"], rows["new_t"])
        assert before.shape == after.shape == (len(rows["t"]), dataset.card.state_size)
        # The state's last four entries are the last event heard, as are the observation's first four.
        assert np.array_equal(after[:, -4:], rows["new_obs"][:, :4])
    small(tmp_path / "without", state=False)
    assert load_dataset(tmp_path / "without").joint_state is None
    assert read_card(tmp_path / "without").state_size is None


def test_a_client_gets_its_own_rows_and_nothing_else(tmp_path: Path) -> None:
    small(tmp_path / "joint")
    card = small(tmp_path / "split", split="agents")
    joint = load_dataset(tmp_path / "joint")
    folders = client_folders(tmp_path / "split")
    assert list(folders) == ["station_0", "station_1", "station_2"] and card.kind == "clients"
    for agent, folder in folders.items():
        assert {key for line in lines_of(folder) for key in line["policy_batches"]} == {agent}
        own = load_dataset(folder)
        assert own.agents == (agent,) and own.joint_state is None
        assert own.card.metrics == {} and set(own.card.agents) == {agent}
        for name, values in own.rows[agent].items():
            assert np.array_equal(values, joint.rows[agent][name])
    assert card.metrics == joint.card.metrics != {}
    assert check(tmp_path / "split").transitions == check(tmp_path / "joint").transitions


def test_the_card_tells_returns_and_metrics_of_what_was_collected(tmp_path: Path) -> None:
    card = small(tmp_path / "d", 2000)
    rows = load_dataset(tmp_path / "d").rows["station_0"]
    ended = np.unique(rows["eps_id"][rows["truncateds"]])
    returns = [rows["rewards"][rows["eps_id"] == episode].sum(dtype=float) for episode in ended]
    assert card.episodes == len(ended) > 3
    # Float32 rewards, summed in another order.
    assert card.agents["station_0"].return_mean == pytest.approx(np.mean(returns), rel=1e-5)
    assert card.agents["station_0"].return_std == pytest.approx(np.std(returns), rel=1e-4)
    slots = rows["duration"].sum(dtype=float)
    successes = ((rows["duration"] > 1) & (rows["rewards"] > -0.5)).sum()
    assert card.metrics["throughput_ratio"] == pytest.approx(120 * successes / slots, rel=1e-6)
    assert card.environment.config["packet_slots"] == 120 and card.versions["rllib_wireless"]


def test_a_full_output_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty; give another output folder"):
        small(tmp_path)
    assert files_of(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize(
    ("policies", "steps", "message"),
    [
        ([], 100, "no policy was given"),
        ([Behaviour("csma_cd")], 100, "csma_cd is neither a rule of channel_access"),
        ([Behaviour("csma_ca", params={"window": 3})], 100, "window"),
        ([Behaviour("csma_ca", 0.0)], 100, "the share of csma_ca is 0.0, but it should be positive"),
        ([Behaviour("csma_ca"), Behaviour("tdma")], 1, "each of the 2 policies needs at least one"),
    ],
)
def test_wrong_requests_leave_no_folder(tmp_path: Path, policies: list[Behaviour], steps: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        collect("channel_access", CONFIG, policies, steps, tmp_path / "d")
    with pytest.raises(UserError, match="num_station"):
        collect("channel_access", {"num_station": 3}, [Behaviour("csma_ca")], 10, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_progress_is_told_and_an_interrupted_collection_stays_incomplete(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    small(tmp_path / "d", 400, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (400, 400) and seen == sorted(seen) and len(seen) > 3

    def interrupt(done: int, of: int) -> None:
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "e", 400, progress=interrupt)
    report = check(tmp_path / "e")
    assert not report.complete and report.transitions["station_0"] >= 150
    card: Card = read_card(tmp_path / "e")
    assert not card.complete and card.files == ()


def test_a_learned_policy_is_loaded_from_its_path(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from rllib_wireless.policies import NetworkPolicy, StackedMLP, save_policy

    torch.manual_seed(0)
    env: BatchedEnv = make_env("channel_access", 1, **CONFIG)
    network = StackedMLP(3, [env.observation_space.shape[0], 8, 2])
    save_policy(NetworkPolicy(network, env.agents), tmp_path / "p", env="channel_access", env_config=CONFIG)
    card = collect("channel_access", CONFIG, [Behaviour(tmp_path / "p")], 100, tmp_path / "d", num_envs=4)
    assert card.action_prob == "exact" and card.policies[0].policy == str(tmp_path / "p")


def test_logs_of_one_alpha_are_relabelled_for_another(tmp_path: Path) -> None:
    logs = {}
    for alpha in (0.01, 0.04):
        small(tmp_path / str(alpha), config={**CONFIG, "alpha": alpha})
        logs[alpha] = load_dataset(tmp_path / str(alpha)).rows["station_1"]
    np.testing.assert_array_equal(logs[0.01]["costs"], logs[0.04]["costs"])
    relabelled = logs[0.01]["rewards"] - 0.03 * logs[0.01]["costs"]
    np.testing.assert_allclose(relabelled, logs[0.04]["rewards"], atol=1e-5)
    assert logs[0.01]["costs"].max() > 1  # a busy period's sum
