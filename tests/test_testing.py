"""The checkers pass what keeps the promises, and name what does not."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from toy_env import SPEC, LastLegal, Toy, ToyConfig, make_toy

from rllib_wireless.envs import BatchedEnv, EnvStep, Policy, StepRandom, make_env, make_policy, registry
from rllib_wireless.envs.base import IntArray, ObsField, Statistics
from rllib_wireless.policies import NetworkPolicy, StackedMLP
from rllib_wireless.testing import CheckFailed, check_env, check_policy

SHORT: dict[str, Any] = {"num_stations": 3, "episode_slots": 3000}


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "toy", SPEC)


def test_a_correct_environment_passes_and_everything_was_checked() -> None:
    assert check_env(make_toy) == []


def test_what_a_run_did_not_show_is_told() -> None:
    assert check_env(partial(make_toy, endless=True)) == [
        "no episode ended within 300 steps, so that ends were not checked: make episodes shorter"
    ]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"saturated": False},
        {"saturated": False, "arrival_rate": (0.0, 0.0005, 0.02), "queue_capacity": 2},
        {"d2lt": "local", "history": 3, "rank": True, "saturated": False},
        {"channel_state": "slot", "time_step": "slot", "episode_slots": 140, "saturated": False, "arrival_rate": 0.02},
        {"countdown": "bianchi", "lowest_backoff": 1, "difs_slots": 0, "collision_slots": 10, "retry_limit": 1},
        {"num_stations": 1},
    ],
)
def test_channel_access_keeps_its_promises(config: dict[str, Any]) -> None:
    notes = check_env(partial(make_env, "channel_access", **{**SHORT, **config}))
    assert not any("episode" in note for note in notes)


class TestBrokenEnvironments:
    """Each breaks one promise; the message says which."""

    @staticmethod
    def fails(broken: type[Toy], message: str) -> None:
        def make(num_envs: int, strict: bool) -> Toy:
            return broken(ToyConfig(), num_envs, strict)

        with pytest.raises(CheckFailed, match=message):
            check_env(make)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"obs": lambda s: s.obs.astype(np.float64)}, r"step.obs is float64\[5, 2, 4\]. Return float32\[5, 2, 4\]"),
            ({"obs": lambda s: s.obs * np.float32(3)}, "field parity is .*outside"),
            ({"obs": lambda s: s.obs * np.float32(np.nan)}, "step.obs is not finite"),
            ({"obs": lambda s: s.obs * np.float32(0.5)}, "categorical field parity is not one-hot"),
            ({"action_mask": lambda s: s.action_mask | True}, r"a mask other than \[1, 0, ...\]"),
            ({"action_mask": lambda s: s.action_mask & ~s.acting[..., None]}, "an acting agent has no legal action"),
            ({"acting": lambda s: s.acting[:1]}, r"step.acting is bool\[1, 2\]"),
            ({"reward": lambda s: s.reward.tolist()}, "step.reward is list. Return an array float32"),
            ({"truncated": lambda s: s.truncated | True}, "5 copies ended, but final is None"),
            ({"final": lambda s: None}, "copies ended, but final is None"),
            ({"duration": lambda s: s.duration * 0}, "a step has duration 0. Time must pass"),
            ({"stream": lambda s: np.zeros((5, 2), np.int64)}, r"num_streams is 1, but step.stream is \(5, 2\)"),
        ],
    )
    def test_steps(self, changes: dict[str, Callable[[EnvStep], Any]], message: str) -> None:
        class Broken(Toy):
            def step(self, actions: npt.NDArray[Any]) -> EnvStep:
                return self._break(super().step(actions))

            def reset(self, seed: int = 0) -> EnvStep:
                return (
                    super().reset(seed)
                    if "final" in changes or "duration" in changes
                    else self._break(super().reset(seed))
                )

            def _break(self, step: EnvStep) -> EnvStep:
                return replace(step, **{name: change(step) for name, change in changes.items()})

        self.fails(Broken, message)

    def test_declarations(self) -> None:
        class Twins(Toy):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                self.agents = ("agent", "agent")

        class Undeclared(Toy):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                self.obs_fields = (*self.obs_fields, ObsField("more", "continuous"))

        class Undiscounted(Toy):
            gamma = 1.5

        class Free(Toy):
            has_cost = False

        self.fails(Twins, "Set self.agents to a tuple of distinct names")
        self.fails(Undeclared, "Set self.observation_space = observation_space")
        self.fails(Undiscounted, "gamma is 1.5")
        self.fails(Free, "there are costs. Set the class attribute has_cost = True")

    def test_randomness_that_is_not_seeded(self) -> None:
        random = np.random.default_rng(0)

        class Unseeded(Toy):
            def reset(self, seed: int = 0) -> EnvStep:
                return super().reset(int(random.integers(100)))

        self.fails(Unseeded, r"equal seeds and actions give another .* at step \d+ after another reset. Derive all")

    def test_what_is_left_over_from_before_a_reset(self) -> None:
        class Leftover(Toy):
            steps_ever = 0

            def step(self, actions: npt.NDArray[Any]) -> EnvStep:
                step = super().step(actions)
                self.steps_ever += 1
                step.reward += np.float32(self.steps_ever)
                return step

        self.fails(Leftover, "another reward at step 1 after another reset")

    def test_copies_that_depend_on_the_batch(self) -> None:
        class Average(Toy):
            def step(self, actions: npt.NDArray[Any]) -> EnvStep:
                step = super().step(actions)
                step.reward -= step.reward.mean()
                return step

        self.fails(Average, "reward at step .* of the first 1 copies depends on how many others run")

    def test_illegal_actions(self) -> None:
        class Uncounted(Toy):
            def statistics(self) -> Statistics:
                return {**super().statistics(), "illegal_actions": np.zeros((self.num_envs, 2), np.int64)}

        class Overcounted(Toy):
            def step(self, actions: npt.NDArray[Any]) -> EnvStep:
                self.counts["illegal_actions"] += 1
                return super().step(actions)

        class Executed(Toy):
            def step(self, actions: npt.NDArray[Any]) -> EnvStep:
                step = super().step(actions)
                step.reward += np.float32(0.5) * (actions < 0)
                return step

        class Lenient(Toy):
            def __init__(self, config: ToyConfig, num_envs: int, strict: bool) -> None:
                super().__init__(config, num_envs, strict=False)

        self.fails(Uncounted, "illegal actions are not counted one by one")
        self.fails(Overcounted, "legal actions are counted in illegal_actions")
        self.fails(Executed, "an illegal action changes reward. Execute it as action 0")
        self.fails(Lenient, "strict=True lets an illegal action pass. Raise UserError")

    def test_state_and_statistics(self) -> None:
        class Reversed(Toy):
            def state(self) -> npt.NDArray[np.float32]:
                return super().state()[:, ::-1]

        class Views(Toy):
            def statistics(self) -> Statistics:
                return self.counts

        class Uncountable(Toy):
            def statistics(self) -> Statistics:
                return {name: v for name, v in super().statistics().items() if name != "illegal_actions"}

        class Careless(Toy):
            def step(self, actions: npt.NDArray[Any]) -> EnvStep:
                step = super().step(actions)
                actions[:] = 0
                return step

        self.fails(Reversed, "does not begin with the agents' local states")
        self.fails(Views, "statistics.. returns the environment's own buffers. Return copies")
        self.fails(Uncountable, "statistics.. lacks illegal_actions")
        self.fails(Careless, "step.. changes the caller's actions")


@pytest.mark.parametrize("rule", sorted(registry.env_spec("channel_access").rules))
@pytest.mark.parametrize("config", [{}, {"saturated": False, "arrival_rate": 0.002}, {"countdown": "bianchi"}])
def test_the_rules_of_channel_access_keep_their_promises(rule: str, config: dict[str, Any]) -> None:
    check_policy(partial(make_policy, rule), partial(make_env, "channel_access", **{**SHORT, **config}))


@pytest.mark.parametrize("mode", ["sample", "greedy"])
def test_network_policies_keep_their_promises(mode: Any) -> None:
    def bind(env: BatchedEnv) -> Policy:
        sizes = (env.observation_space.shape[0], 16, int(env.action_space.n))
        return NetworkPolicy(StackedMLP(len(env.agents), sizes, torch.Generator().manual_seed(0)), env.agents, mode)

    check_policy(bind, make_toy)
    check_policy(bind, partial(make_env, "channel_access", **SHORT, saturated=False))


class TestBrokenPolicies:
    @staticmethod
    def fails(policy: Callable[[], Policy], message: str) -> None:
        with pytest.raises(CheckFailed, match=message):
            check_policy(lambda env: policy(), make_toy)

    def test_rules(self) -> None:
        random = np.random.default_rng(0)

        class Unseeded(Policy):
            def act(self, step: EnvStep, random_: StepRandom) -> IntArray:
                return np.where(step.acting, random.integers(2, size=step.acting.shape), 0)

        class Flat(LastLegal):
            def act(self, step: EnvStep, random: StepRandom) -> IntArray:
                return super().act(step, random)[:, 0]

        class Improbable(LastLegal):
            def act(self, step: EnvStep, random: StepRandom) -> IntArray:
                self.action_prob = np.zeros(step.acting.shape, np.float32)
                return super().act(step, random)

        class Majority(LastLegal):
            def act(self, step: EnvStep, random: StepRandom) -> IntArray:
                return super().act(step, random) * (len(step.acting) > 4)

        class Reckless(LastLegal):
            def act(self, step: EnvStep, random: StepRandom) -> IntArray:
                return np.full(step.acting.shape, 2)

        self.fails(Reckless, r"act\(\) returns illegal actions. Choose where step.action_mask is True")
        self.fails(Unseeded, "equal seeds give other actions. Draw all random numbers from `random`")
        self.fails(Flat, r"act\(\) returns int64\[5\]. Return integers \[5, 2\]")
        self.fails(Improbable, "action_prob is not a probability")
        self.fails(Majority, "depend on how many others run")

    def test_learned_policies(self) -> None:
        def whole() -> NetworkPolicy:
            return NetworkPolicy(StackedMLP(2, (4, 16, 3), torch.Generator().manual_seed(0)), ("agent_0", "agent_1"))

        class Forgetful(NetworkPolicy):
            def to_portable(self) -> Any:
                extra, tensors = super().to_portable()
                return extra, {name: array * 0 for name, array in tensors.items()}

        class Swapped(NetworkPolicy):
            def slice(self, agent_index: int) -> NetworkPolicy:
                part = super().slice(1 - agent_index)
                part.agents = (self.agents[agent_index],)
                return part

        self.fails(lambda: Forgetful(whole().network, whole().agents), "acts otherwise after saving and loading")
        self.fails(lambda: Swapped(whole().network, whole().agents), r"in \d+ of \d+ decisions")
