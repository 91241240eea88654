"""The recorder agrees with a recorder written with plain loops, on environments whose every step is random."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest

from rllib_wireless.configuration import Configuration
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.data.recorder import Recorder, Rows
from rllib_wireless.envs.base import BatchedEnv, EnvStep, FinalStep, FloatArray, ObsField, Statistics

WIDTH, ACTIONS = 3, 4


class ScriptedEnv(BatchedEnv):
    """Steps at random and pays no attention to actions; its arrays are buffers that every step overwrites."""

    name, duration_unit, gamma, has_cost = "scripted", "ticks", 0.9, True

    def __init__(self, copies: int, agents: int, streams: int, seed: int, acting: float, ends: float) -> None:
        super().__init__(Configuration(), copies)
        self.agents = tuple(f"agent_{i}" for i in range(agents))
        self.num_streams = streams
        self.obs_fields = (ObsField("x", "continuous", WIDTH),)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (WIDTH,))
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)
        self._random = np.random.default_rng(seed)
        self._acting, self._ends = acting, ends
        self._state: FloatArray = np.zeros((copies, 2), np.float32)
        self._buffer: EnvStep | None = None

    def reset(self, seed: int = 0) -> EnvStep:
        return self.step(np.zeros((self.num_envs, len(self.agents)), np.int64), can_end=False)

    def step(self, actions: npt.NDArray[Any], can_end: bool = True) -> EnvStep:
        r, b, n, k = self._random, self.num_envs, len(self.agents), self.num_streams
        ended = (r.random(b) < self._ends) & can_end
        terminated = ended & (r.random(b) < 0.5)
        final = None
        if ended.any():
            final_look = self._look(r)
            copies = np.flatnonzero(ended)
            state = r.random((b, 2), np.float32)
            final = FinalStep(
                copies=copies,
                obs=final_look[0][copies],
                action_mask=final_look[1][copies],
                acting=final_look[2][copies],
                local_state=np.zeros((len(copies), n, 1), np.float32),
                state=state[copies],
                statistics={},
                stream=final_look[3][copies] if k > 1 else None,
            )
        obs, mask, acting, stream = self._look(r)
        self._state[:] = r.random((b, 2))
        new = EnvStep(
            obs=obs,
            action_mask=mask,
            acting=acting,
            reward=r.normal(size=(b, n)).astype(np.float32),
            cost=r.random((b, n), np.float32),
            terminated=terminated,
            truncated=ended & ~terminated,
            duration=r.integers(1, 9, b).astype(np.float32),
            final=final,
            stream=stream if k > 1 else None,
            stream_reward=r.normal(size=(b, n, k)).astype(np.float32) if k > 1 else None,
            stream_done=r.random((b, n, k)) < 0.1 if k > 1 else None,
        )
        if self._buffer is None:
            self._buffer = new
        for name in ("obs", "action_mask", "acting", "reward", "cost", "terminated", "truncated", "duration", "stream"):
            if getattr(new, name) is not None:
                getattr(self._buffer, name)[:] = getattr(new, name)
        self._buffer.final, self._buffer.stream_reward, self._buffer.stream_done = (
            final,
            new.stream_reward,
            new.stream_done,
        )
        return self._buffer

    def _look(self, r: np.random.Generator) -> tuple[npt.NDArray[Any], ...]:
        b, n = self.num_envs, len(self.agents)
        acting = r.random((b, n)) < self._acting
        mask = r.random((b, n, ACTIONS)) < 0.6
        mask[:, :, 0] = True
        mask[~acting] = np.arange(ACTIONS) == 0
        return r.random((b, n, WIDTH), np.float32), mask, acting, r.integers(0, self.num_streams, (b, n))

    def local_state(self) -> FloatArray:
        return np.zeros((self.num_envs, len(self.agents), 1), np.float32)

    def state(self) -> FloatArray:
        return self._state

    def statistics(self) -> Statistics:
        return {}


class SlowRecorder:
    """The definition of a transition, one copy, agent and stream at a time."""

    def __init__(self, copies: int, agents: int, rows: Rows, streams: int) -> None:
        self.copies, self.agents, self.all = range(copies), range(agents), rows == "all"
        self.streams = streams
        self.rows: list[dict[str, Any]] = []
        self.states: dict[tuple[int, int], list[float]] = {}
        self.open: dict[tuple[int, int, int], dict[str, Any]] = {}
        self.episode, self.next = list(self.copies), copies
        self.t = [0] * copies
        self.dropped = [0] * agents

    def begin(self, step: EnvStep) -> None:
        for b in self.copies:
            self._open(b, step)

    def record(self, state: FloatArray, actions: npt.NDArray[Any], prob: FloatArray, step: EnvStep) -> None:
        for b in self.copies:
            self.states[self.episode[b], self.t[b]] = state[b].tolist()
            for (c, i, k), row in self.open.items():
                if c != b:
                    continue
                if "actions" not in row:
                    action = int(actions[b, i])
                    row["actions"] = action if 0 <= action < ACTIONS and row["action_mask"][action] else 0
                    row["action_prob"] = prob[b, i] if row["acting"] else 1.0
                by_stream = None if self.all else step.stream_reward
                row["rewards"] += float(step.reward[b, i] if by_stream is None else by_stream[b, i, k])
                row["costs"] += float(step.cost[b, i])
                row["duration"] += float(step.duration[b])
            self.t[b] += 1
            self._after(b, step)

    def _after(self, b: int, step: EnvStep) -> None:
        ended = bool(step.terminated[b] or step.truncated[b])
        obs, mask, acting, stream = step.obs[b], step.action_mask[b], step.acting[b], step.stream
        look_stream = None if stream is None else stream[b]
        if ended:
            assert step.final is not None
            f = step.final.copies.tolist().index(b)
            obs, mask, acting = step.final.obs[f], step.final.action_mask[f], step.final.acting[f]
            look_stream = None if step.final.stream is None else step.final.stream[f]
            self.states[self.episode[b], self.t[b]] = step.final.state[f].tolist()
        for b_, i, k in sorted(self.open):
            if b_ != b:
                continue
            done = bool(step.terminated[b])
            if step.stream_done is not None and not self.all:
                done = done or bool(step.stream_done[b, i, k])
            decides = self.all or (bool(acting[i]) and (look_stream is None or look_stream[i] == k))
            if done or decides:
                row = self.open.pop((b, i, k))
                row |= {"new_obs": obs[i].tolist(), "new_action_mask": mask[i].tolist(), "new_t": self.t[b]}
                row |= {"terminateds": done, "truncateds": bool(step.truncated[b]) and not done}
                self.rows.append(row)
            elif ended:
                self.dropped[i] += 1
                del self.open[b, i, k]
        if ended:
            self.t[b], self.episode[b], self.next = 0, self.next, self.next + 1
        self._open(b, step)

    def _open(self, b: int, step: EnvStep) -> None:
        for i in self.agents:
            if not (self.all or step.acting[b, i]):
                continue
            stream = int(step.stream[b, i]) if step.stream is not None and step.acting[b, i] else 0
            self.open[b, i, 0 if self.all else stream] = {
                "eps_id": self.episode[b],
                "agent": i,
                "t": self.t[b],
                "obs": step.obs[b, i].tolist(),
                "action_mask": step.action_mask[b, i].tolist(),
                "acting": bool(step.acting[b, i]),
                "stream": stream,
                "rewards": 0.0,
                "costs": 0.0,
                "duration": 0.0,
            }

    def end(self) -> None:
        for (_, i, _), row in self.open.items():
            self.dropped[i] += "actions" in row


def play(
    env: ScriptedEnv, recorder: Recorder, slow: SlowRecorder, steps: int, drain_every: int, seed: int
) -> list[Fragment]:
    random = np.random.default_rng(seed)
    fragments: list[Fragment] = []
    step = env.reset()
    recorder.begin(step)
    slow.begin(step)
    for number in range(1, steps + 1):
        actions = random.integers(-1, ACTIONS + 1, (env.num_envs, len(env.agents)))
        prob = random.random(actions.shape, np.float32)
        state = env.state().copy()
        step = env.step(actions)
        recorder.record(actions, prob, step)
        slow.record(state, actions, prob, step)
        if number % drain_every == 0:
            fragments += recorder.drain()
    recorder.stop()
    slow.end()
    return fragments + recorder.drain()


@pytest.mark.parametrize("rows", ["decisions", "all"])
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("acting", [0.35, 1.0])
@pytest.mark.parametrize("drain_every", [1, 7, 1000])
def test_recorder_agrees_with_plain_loops(rows: Rows, streams: int, acting: float, drain_every: int) -> None:
    copies, agents, steps = 4, 3, 60
    env = ScriptedEnv(copies, agents, streams, seed=streams, acting=acting, ends=0.08)
    recorder = Recorder(env, rows=rows, action_prob=True)
    slow = SlowRecorder(copies, agents, rows, streams)
    fragments = play(env, recorder, slow, steps, drain_every, seed=5)

    key = ("eps_id", "agent", "t", "stream")
    expected = sorted(slow.rows, key=lambda row: tuple(row[k] for k in key))
    actual = []
    for fragment in fragments:
        for agent, columns in fragment.rows.items():
            for at in range(len(columns["t"])):
                row = {name: values[at].tolist() for name, values in columns.items()}
                actual.append(row | {"agent": env.agents.index(agent)})
    actual.sort(key=lambda row: tuple(row.get(k, 0) for k in key))
    assert len(actual) == len(expected) > 50
    for got, want in zip(actual, expected, strict=True):
        assert got.keys() == want.keys() - ({"acting"} if rows == "decisions" else set()) - (
            {"stream"} if streams == 1 else set()
        )
        for name, value in got.items():
            if name in ("rewards", "costs", "duration", "action_prob"):
                assert value == np.float32(want[name]), name
            else:
                assert value == want[name], name
    assert recorder.dropped.tolist() == slow.dropped
    assert sum(fragment.steps for fragment in fragments) == copies * steps


def test_state_is_recorded_at_every_step_and_final_step() -> None:
    env = ScriptedEnv(3, 2, 1, seed=1, acting=0.5, ends=0.1)
    recorder, slow = Recorder(env), SlowRecorder(3, 2, "decisions", 1)
    fragments = play(env, recorder, slow, 50, 9, seed=2)
    recorded: dict[tuple[int, int], list[float]] = {}
    for fragment in fragments:
        if fragment.state is not None:
            for episode, t, state in zip(
                *(fragment.state[name].tolist() for name in ("eps_id", "t", "obs")), strict=True
            ):
                assert recorded.setdefault((episode, t), state) == state
    for place, state in slow.states.items():
        assert recorded[place] == state
    for row in slow.rows:
        assert {(row["eps_id"], row["t"]), (row["eps_id"], row["new_t"])} <= recorded.keys()


def test_every_prefix_of_fragments_holds_the_state_its_rows_point_to() -> None:
    env = ScriptedEnv(3, 2, 2, seed=3, acting=0.5, ends=0.1)
    seen: set[tuple[int, int]] = set()
    for fragment in play(env, Recorder(env), SlowRecorder(3, 2, "decisions", 2), 40, 5, seed=2):
        if fragment.state is not None:
            seen |= set(zip(fragment.state["eps_id"].tolist(), fragment.state["t"].tolist(), strict=True))
        for columns in fragment.rows.values():
            for name in ("t", "new_t"):
                assert set(zip(columns["eps_id"].tolist(), columns[name].tolist(), strict=True)) <= seen


def test_a_stopped_copy_records_nothing_more() -> None:
    env = ScriptedEnv(4, 2, 1, seed=4, acting=0.7, ends=0.0)  # no episode ends, so episode b is copy b
    recorder = Recorder(env)
    recorder.begin(env.reset())
    actions = np.zeros((4, 2), np.int64)
    for number in range(30):
        if number == 10:
            recorder.stop(np.array([2, 3]))
        recorder.record(actions, None, env.step(actions))
    fragments = recorder.drain()
    assert [fragment.steps for fragment in fragments] == [30, 30, 10, 10]
    last = [max(columns["new_t"].max() for columns in fragment.rows.values()) for fragment in fragments]
    assert last[0] > 25 and last[1] > 25 and last[2] <= 10 and last[3] <= 10
