"""Networks, portable policies and their deployment."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pytest
import torch
from safetensors.numpy import load_file, save
from torch import nn
from toy_env import SPEC, make_toy

from rllib_wireless.envs import EnvStep, StepRandom, make_env, registry
from rllib_wireless.errors import ConfigError, DataError, UserError
from rllib_wireless.policies import DeployedAgent, NetworkPolicy, StackedMLP, check_fits, load_policy, save_policy
from rllib_wireless.policies.choice import Choice, Mode

TOY_AGENTS = ("agent_0", "agent_1")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "toy", SPEC)


def network(num_agents: int, *sizes: int, seed: int = 0) -> StackedMLP:
    return StackedMLP(num_agents, sizes, torch.Generator().manual_seed(seed))


def toy_policy(mode: Any = "sample", seed: int = 0) -> NetworkPolicy:
    return NetworkPolicy(network(2, 4, 8, 3, seed=seed), TOY_AGENTS, mode)


def plain_networks(stack: StackedMLP) -> list[nn.Sequential]:
    """The same networks as plain modules, one per agent."""
    plain = []
    for i in range(stack.num_agents):
        layers: list[nn.Module] = []
        for weight, bias in zip(stack.weights, stack.biases, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[2])
            linear.weight.data, linear.bias.data = weight[i].detach().T, bias[i, 0].detach()
            layers += [linear, nn.ReLU()]
        plain.append(nn.Sequential(*layers[:-1]))
    return plain


def step_of(logits: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> EnvStep:
    """A step whose observations are the logits, for a policy whose network is the identity."""
    zero, false = np.zeros(mask.shape[:2], np.float32), np.zeros(len(mask), np.bool_)
    return EnvStep(logits, mask, np.ones(mask.shape[:2], np.bool_), zero, zero, false, false, zero[:, 0])


def identity(num_agents: int, num_actions: int, mode: Any = "sample") -> NetworkPolicy:
    stack = network(num_agents, num_actions, num_actions)
    with torch.no_grad():
        stack.weights[0].copy_(torch.eye(num_actions).expand_as(stack.weights[0]))
        stack.biases[0].zero_()
    return NetworkPolicy(stack, [f"agent_{i}" for i in range(num_agents)], mode)


@pytest.mark.parametrize("leading", [(), (7,), (3, 5)])
def test_a_stack_equals_its_networks_one_by_one(leading: tuple[int, ...]) -> None:
    stack = network(3, 5, 16, 8, 4)
    x = torch.randn(*leading, 3, 5, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([plain(x[..., i, :]) for i, plain in enumerate(plain_networks(stack))], dim=-2)
    torch.testing.assert_close(stack(x), expected, rtol=1e-5, atol=1e-6)


def test_gradients_of_a_stack_equal_those_of_its_networks() -> None:
    stack = network(2, 3, 8, 2)
    x = torch.randn(10, 2, 3, generator=torch.Generator().manual_seed(1))
    stack(x).square().sum().backward()
    for i, plain in enumerate(plain_networks(stack)):
        plain(x[:, i]).square().sum().backward()
        torch.testing.assert_close(stack.weights[0].grad[i].T, plain[0].weight.grad, rtol=1e-5, atol=1e-5)


def test_initial_weights_are_seeded_bounded_and_differ_between_agents() -> None:
    stack = network(2, 100, 50)
    assert torch.equal(stack.weights[0], network(2, 100, 50).weights[0])
    assert not torch.equal(stack.weights[0][0], stack.weights[0][1])
    assert 0.095 < stack.weights[0].abs().max() <= 0.1
    assert stack.weights[0].std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("num_agents", "sizes", "field"), [(0, (3, 2), "num_agents"), (2, (3,), "sizes"), (2, (3, 0, 2), "sizes")]
)
def test_a_stack_without_agents_or_widths_is_refused(num_agents: int, sizes: tuple[int, ...], field: str) -> None:
    with pytest.raises(ConfigError, match=f"StackedMLP: {field} = "):
        StackedMLP(num_agents, sizes)


def test_large_batches_are_cut_without_a_seam() -> None:
    policy = NetworkPolicy(network(2, 4, 8, 3), TOY_AGENTS)
    obs = np.random.default_rng(0).random((700, 2, 4), np.float32)
    expected = policy.network(torch.from_numpy(obs)).detach().numpy()
    np.testing.assert_allclose(policy.logits(obs), expected, rtol=1e-5, atol=1e-6)


def test_sampling_inverts_the_masked_softmax() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (400, 3, 5)).astype(np.float32)
    mask = rng.random((400, 3, 5)) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    policy, random = identity(3, 5), StepRandom(0, 400, 3)
    actions = policy.act(step_of(logits, mask), random)
    masked = torch.from_numpy(logits.astype(np.float64)).masked_fill(torch.from_numpy(~mask), -torch.inf)
    prob = masked.softmax(-1).numpy()
    expected = (random.uniform()[..., None] >= prob.cumsum(-1) * (1 - 1e-12)).sum(-1)
    np.testing.assert_array_equal(actions, expected)
    assert policy.action_prob is not None
    np.testing.assert_allclose(policy.action_prob, np.take_along_axis(prob, actions[..., None], -1)[..., 0], rtol=1e-5)


def test_sampled_frequencies_are_the_probabilities() -> None:
    logits = np.broadcast_to(np.log(np.array([0.1, 0.2, 0.7], np.float32)), (20_000, 1, 3)).copy()
    actions = identity(1, 3).act(step_of(logits, np.ones(logits.shape, np.bool_)), StepRandom(3, 20_000, 1))
    frequency = np.bincount(actions[:, 0], minlength=3) / 20_000
    np.testing.assert_allclose(frequency, [0.1, 0.2, 0.7], atol=4 * (0.25 / 20_000) ** 0.5)


@pytest.mark.parametrize("u", [0.0, np.nextafter(1.0, 0.0)])
def test_extreme_logits_and_random_numbers_give_legal_likely_actions(u: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.array([[[0.0, 1e30, -1e30]], [[-1e30, -1e30, 1e30]], [[80.0, -80.0, -80.0]]], np.float32)
    mask = np.array([[[1, 1, 1]], [[1, 1, 0]], [[0, 1, 1]]], np.bool_)
    monkeypatch.setattr(StepRandom, "uniform", lambda self: np.full((3, 1), u))
    policy = identity(1, 3)
    actions = policy.act(step_of(logits, mask), StepRandom(0, 3, 1))
    assert actions[0, 0] == 1 and actions[1, 0] == (u > 0.5) and actions[2, 0] == 1 + (u > 0.5)
    assert policy.action_prob is not None
    np.testing.assert_allclose(policy.action_prob, np.array([[1.0], [0.5], [0.5]]))


def test_greedy_takes_the_best_legal_action_and_the_first_among_equals() -> None:
    logits = np.array([[[1.0, 3.0, 2.0]], [[5.0, 5.0, 5.0]], [[9.0, 1.0, 2.0]]], np.float32)
    mask = np.array([[[1, 0, 1]], [[1, 1, 1]], [[0, 1, 1]]], np.bool_)
    policy = identity(1, 3, "greedy")
    assert policy.act(step_of(logits, mask), StepRandom(0, 3, 1))[:, 0].tolist() == [2, 0, 2]
    assert policy.action_prob is not None and (policy.action_prob == 1).all()


def test_agents_that_do_not_act_get_action_0() -> None:
    mask = np.zeros((50, 1, 3), np.bool_)
    mask[..., 0] = True
    logits = np.tile(np.array([0.0, 5.0, 10.0], np.float32), (50, 1, 1))
    for mode in ("sample", "greedy"):
        assert not identity(1, 3, mode).act(step_of(logits, mask), StepRandom(0, 50, 1)).any()


def test_an_unknown_mode_and_a_wrong_number_of_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="mode = 'argmax', but it should be sample or greedy"):
        toy_policy("argmax")
    with pytest.raises(ConfigError, match="the network has 2 agents"):
        NetworkPolicy(network(2, 4, 3), ["agent_0"])


def test_slices_stack_up_to_the_whole() -> None:
    policy = toy_policy()
    parts = [policy.slice(i) for i in range(2)]
    whole = NetworkPolicy.stack(parts)
    assert whole.agents == policy.agents
    for a, b in zip(whole.network.parameters(), policy.network.parameters(), strict=True):
        assert torch.equal(a, b)
    obs = np.random.default_rng(0).random((9, 2, 4), np.float32)
    np.testing.assert_allclose(parts[1].logits(obs[:, 1:]), policy.logits(obs)[:, 1:], rtol=1e-5, atol=1e-6)


def test_a_slice_is_a_copy() -> None:
    policy = toy_policy()
    part = policy.slice(0)
    with torch.no_grad():
        policy.network.weights[0].zero_()
    assert part.network.weights[0].abs().sum() > 0


def test_policies_of_different_shape_do_not_stack() -> None:
    with pytest.raises(ConfigError, match="should be equal"):
        NetworkPolicy.stack([toy_policy(), NetworkPolicy(network(1, 4, 3), ["agent_2"])])


def test_a_saved_policy_loads_equal(tmp_path: Path) -> None:
    policy = toy_policy("greedy")
    save_policy(policy, tmp_path / "p", env="toy", env_config={"num_agents": 2})
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["p", "policy.json", "tensors.safetensors"]
    loaded = load_policy(tmp_path / "p")
    assert isinstance(loaded, NetworkPolicy)
    assert (loaded.agents, loaded.mode, loaded.network.sizes) == (TOY_AGENTS, "greedy", (4, 8, 3))
    for name, value in policy.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    assert loaded.obs_fields is not None
    assert [f.name for f in loaded.obs_fields] == ["parity", "time", "last"]


def test_the_folder_of_a_training_run_stands_for_its_policy(tmp_path: Path) -> None:
    save_policy(toy_policy(), tmp_path / "policy", env="toy", env_config={})
    assert load_policy(tmp_path).agents == TOY_AGENTS


def test_the_mode_can_be_chosen_at_loading(tmp_path: Path) -> None:
    save_policy(toy_policy(), tmp_path / "p", env="toy", env_config={})
    loaded = load_policy(tmp_path / "p", mode="greedy")
    assert isinstance(loaded, NetworkPolicy) and loaded.mode == "greedy"
    with pytest.raises(ConfigError, match="mode = 'best'"):
        load_policy(tmp_path / "p", mode="best")


def test_saving_again_replaces_the_old_policy(tmp_path: Path) -> None:
    for seed in (0, 1):
        save_policy(toy_policy(seed=seed), tmp_path / "p", env="toy", env_config={})
    loaded = load_policy(tmp_path / "p")
    assert isinstance(loaded, NetworkPolicy)
    assert torch.equal(loaded.network.weights[0], toy_policy(seed=1).network.weights[0])


def test_a_failed_save_leaves_the_old_policy_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_policy(toy_policy(), tmp_path / "p", env="toy", env_config={})
    write = Path.write_bytes

    def fail_at_json(path: Path, content: bytes) -> int:
        if path.suffix == ".json":
            raise OSError("disk full")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail_at_json)
    with pytest.raises(OSError, match="disk full"):
        save_policy(toy_policy(seed=1), tmp_path / "p", env="toy", env_config={})
    loaded = load_policy(tmp_path / "p")
    assert isinstance(loaded, NetworkPolicy)
    assert torch.equal(loaded.network.weights[0], toy_policy().network.weights[0])
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_a_policy_with_nan_is_not_saved(tmp_path: Path) -> None:
    policy = toy_policy()
    with torch.no_grad():
        policy.network.weights[0][0, 0, 0] = torch.nan
    with pytest.raises(DataError, match=r"layer_0\.weight holds values that are not finite"):
        save_policy(policy, tmp_path / "p", env="toy", env_config={})
    assert not (tmp_path / "p").exists()


def test_a_policy_is_saved_only_for_an_environment_it_fits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"acts for 2 agents .*, but toy has 3 agents"):
        save_policy(toy_policy(), tmp_path / "p", env="toy", env_config={"num_agents": 3})


def test_one_agent_is_deployed_alone(tmp_path: Path) -> None:
    policy = toy_policy("greedy")
    save_policy(policy, tmp_path / "p", env="toy", env_config={})
    agent = DeployedAgent(load_policy(tmp_path / "p", agent="agent_1"))
    for obs in np.random.default_rng(0).random((20, 4), np.float32):
        best = policy.logits(np.stack([obs, obs])[None])[0, 1]
        assert agent.act(obs) == best.argmax()
        assert agent.act(obs, [1, 1, 0]) == best[:2].argmax()
    with pytest.raises(UserError, match=r"no agent 'agent_7', it acts for 2 agents \(agent_0, agent_1\)"):
        load_policy(tmp_path / "p", agent="agent_7")
    with pytest.raises(UserError, match="load it with agent="):
        DeployedAgent(policy)


def test_a_deployed_agent_samples_reproducibly(tmp_path: Path) -> None:
    part = toy_policy().slice(0)
    obs = np.zeros(4, np.float32)
    runs = []
    for seed in (5, 5, 6):
        agent = DeployedAgent(part, seed=seed)
        runs.append([agent.act(obs) for _ in range(200)])
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 3


def edit_header(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        header = json.loads((folder / "policy.json").read_text())
        (folder / "policy.json").write_text(json.dumps({**header, **changes}))

    return edit


def edit_tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the tensors, and their checksum with them: a file made with intent."""

    def edit(folder: Path) -> None:
        tensors = load_file(folder / "tensors.safetensors")
        change(tensors)
        blob = save(tensors)
        (folder / "tensors.safetensors").write_bytes(blob)
        edit_header(tensors_sha256=hashlib.sha256(blob).hexdigest())(folder)

    return edit


def truncate(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-7])

    return cut


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "there is no policy here"),
        (lambda p: (p / "policy.json").unlink(), "there is no policy here"),
        (lambda p: (p / "tensors.safetensors").unlink(), "tensors.safetensors: the policy's tensors are missing"),
        (truncate("tensors.safetensors"), "tensors.safetensors: .* truncated or altered"),
        (truncate("policy.json"), "policy.json: Invalid JSON"),
        (edit_header(kind="forest"), "policy.json: its kind is 'forest', but kinds are .*network"),
        (edit_header(format=2), "its format is 2, but this version reads format 1"),
        (edit_header(agents=["a", "a"]), "should be distinct names"),
        (edit_header(agents=["a"]), r"layer_0.weight is float32\[2, 4, 8\], but 1 agents .* need float32\[1, 4, 8\]"),
        (edit_header(agents=2), "agents: Input should be a valid array"),
        (edit_header(surprise=1), "surprise: Unexpected"),
        (edit_header(num_actions=4), "for 4 observed values and 3 actions, but its header announces 4 and 4"),
        (edit_header(obs_fields=[]), "announces 0 and 3"),
        (edit_header(extra={}), "sizes is None"),
        (edit_header(extra={"sizes": [4, "x", 3]}), "list of at least two positive layer widths"),
        (edit_header(extra={"sizes": [4, 9, 3]}), r"need float32\[2, 4, 9\]"),
        (edit_header(extra={"sizes": [4, 3]}), "need .*layer_0.bias.*see layer_1.bias"),
        (edit_header(extra={"sizes": [4, 8, 3], "mode": "x"}), "mode = 'x'"),
        (edit_tensors(lambda t: t["layer_0.bias"].fill(np.inf)), "layer_0.bias holds values that are not finite"),
        (edit_tensors(lambda t: t.pop("layer_1.bias")), "see layer_1.bias"),
        (edit_tensors(lambda t: t.update({"layer_0.bias": t["layer_0.bias"].astype(np.float64)})), "float64"),
    ],
)
def test_a_damaged_policy_is_refused_with_its_fault(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    save_policy(toy_policy(), tmp_path / "p", env="toy", env_config={})
    damage(tmp_path / "p")
    with pytest.raises(UserError, match=message):
        load_policy(tmp_path / "p")


def test_mutated_policies_raise_user_errors_or_load(tmp_path: Path) -> None:
    save_policy(toy_policy(), tmp_path / "p", env="toy", env_config={})
    rng = np.random.default_rng(0)
    refused = 0
    for name in ("policy.json", "tensors.safetensors"):
        whole = (tmp_path / "p" / name).read_bytes()
        for _ in range(300):
            mutated = bytearray(whole)
            for _ in range(rng.integers(1, 4)):
                mutated[rng.integers(len(mutated))] = rng.integers(256)
            (tmp_path / "p" / name).write_bytes(mutated)
            try:
                load_policy(tmp_path / "p")
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
        (tmp_path / "p" / name).write_bytes(whole)
    assert refused > 400


def test_tensor_files_that_are_no_safetensors_are_refused_whatever_their_checksum(tmp_path: Path) -> None:
    save_policy(toy_policy(), tmp_path / "p", env="toy", env_config={})
    whole = (tmp_path / "p" / "tensors.safetensors").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        mutated = bytearray(whole)
        mutated[rng.integers(300)] = rng.integers(256)
        blob = bytes(mutated[: rng.integers(1, len(whole) + 1)])
        (tmp_path / "p" / "tensors.safetensors").write_bytes(blob)
        edit_header(tensors_sha256=hashlib.sha256(blob).hexdigest())(tmp_path / "p")
        with pytest.raises(UserError):
            load_policy(tmp_path / "p")


def test_a_policy_fits_its_environment_alone(tmp_path: Path) -> None:
    config: dict[str, Any] = {"num_stations": 3}
    env = make_env("channel_access", **config)
    stack = network(3, env.observation_space.shape[0], 8, 2)
    save_policy(NetworkPolicy(stack, env.agents), tmp_path / "p", env="channel_access", env_config=config)
    policy = load_policy(tmp_path / "p")
    check_fits(policy, env)
    with pytest.raises(UserError, match=r"acts for 3 agents \(station_0, station_1, station_2\), but .* 4 agents"):
        check_fits(policy, make_env("channel_access", num_stations=4))
    with pytest.raises(
        UserError, match=r"observes no further field, but channel_access shows rank \(continuous, size 1"
    ):
        check_fits(policy, make_env("channel_access", num_stations=3, rank=True))
    with pytest.raises(UserError, match=r"acts for 3 agents .*, but toy has 2 agents"):
        check_fits(policy, make_toy())


def test_the_header_is_plain_json(tmp_path: Path) -> None:
    save_policy(toy_policy(), tmp_path / "p", env="toy", env_config={"num_agents": np.int64(2)})
    header = orjson.loads((tmp_path / "p" / "policy.json").read_bytes())
    assert header["env"] == "toy" and header["env_config"] == {"num_agents": 2} and header["agents"] == list(TOY_AGENTS)


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_where_nothing_is_known_of_legal_actions_one_of_them_is_taken(mode: Mode) -> None:
    values = np.full((1, 1, 4), -np.inf, np.float32)
    mask = np.array([[[False, True, False, True]]])
    choice = Choice("test", mode, 0.0)
    law = choice.probabilities(values, mask)[0, 0]
    np.testing.assert_allclose(law, [0, 1, 0, 0] if mode == "greedy" else [0, 0.5, 0, 0.5])
    for u in (0.1, 0.9):
        actions, prob = choice(values, mask, np.array([[u]]))
        assert mask[0, 0, actions[0, 0]] and prob[0, 0] == pytest.approx(law[actions[0, 0]])
