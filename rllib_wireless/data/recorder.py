"""The recorder: turns the steps of any BatchedEnv into transitions, for all copies and agents at once.

A transition runs from an agent's decision to its next decision in the same stream. Rewards and costs are undiscounted sums
over the interval, credited at its start, and `duration` is the interval's length in the environment's unit of time.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from rllib_wireless.data.format import Columns
from rllib_wireless.data.fragments import AGENT, Fragment, cut
from rllib_wireless.envs.base import BatchedEnv, BoolArray, EnvStep, FloatArray, IntArray

Rows = Literal["decisions", "all"]


class Recorder:
    """Records B copies of an environment.

    Call `begin` after a reset, `record` after each step, `drain` now and then, `stop` at the end.

    Args:
        env: The environment.
        rows: `decisions` records an agent's decisions; `all` a row per agent and step, with `acting`, so that rows align.
        state: Whether to record the joint state.
        action_prob: Whether to record the probabilities given to `record`.
        first_episode: Number of the first episode; others follow in the order in which they begin.

    Attributes:
        dropped: Transitions left out per agent, [N], because they were open when the episode was truncated without their
            agent acting, or when collecting ended.
        next_episode: Number of the next episode.
        pending_rows: Rows waiting to be drained.
    """

    def __init__(
        self,
        env: BatchedEnv,
        *,
        rows: Rows = "decisions",
        state: bool = True,
        action_prob: bool = False,
        first_episode: int = 0,
    ) -> None:
        self._env, self._all, self._with_state, self._with_prob = env, rows == "all", state, action_prob
        self._num_streams = 1 if self._all else env.num_streams
        self._streams = np.arange(self._num_streams)
        b, n, k, d = env.num_envs, len(env.agents), self._num_streams, env.observation_space.shape[0]
        self.dropped: IntArray = np.zeros(n, np.int64)
        self.next_episode = first_episode + b
        self.pending_rows = 0
        self._episode: IntArray = first_episode + np.arange(b)
        self._t: IntArray = np.zeros(b, np.int64)
        self._live: BoolArray = np.ones(b, np.bool_)
        self._is_open: BoolArray = np.zeros((b, n, k), np.bool_)
        # What is known of the open transition of each agent and stream; sums in double precision, as intervals may be long.
        self._open: Columns = {
            "obs": np.zeros((b, n, k, d), np.float32),
            "action_mask": np.zeros((b, n, k, int(env.action_space.n)), np.bool_),
            "acting": np.zeros((b, n, k), np.bool_),
            "stream": np.zeros((b, n, k), np.int64),
            "t": np.zeros((b, n, k), np.int64),
            "actions": np.zeros((b, n, k), np.int64),
            "action_prob": np.zeros((b, n, k), np.float32),
            "rewards": np.zeros((b, n, k)),
            "costs": np.zeros((b, n, k)),
            "duration": np.zeros((b, n, k)),
        }
        self._decided: BoolArray = np.zeros((b, n, k), np.bool_)
        self._state_now: FloatArray | None = None
        self._state_written: BoolArray = np.zeros(b, np.bool_)
        self._chunks: list[Columns] = []
        self._state_chunks: list[Columns] = []
        self._step_chunks: list[IntArray] = []
        absent = {"acting": not self._all, "stream": env.num_streams == 1}
        absent |= {"costs": not env.has_cost, "action_prob": not action_prob}
        self._columns = [name for name in self._open if not absent.get(name, False)]

    def begin(self, step: EnvStep) -> None:
        """Begin with what `env.reset` returned."""
        self._open_transitions(step)
        self._look_at_state()

    def record(self, actions: npt.NDArray[np.integer], action_prob: FloatArray | None, step: EnvStep) -> None:
        """Take in one step.

        Args:
            actions: What was given to `env.step`, [B, N]; illegal ones are recorded as 0, as they are executed.
            action_prob: Their probabilities given the observations, [B, N]; used where the recorder was told to.
            step: What `env.step` returned.
        """
        self._record_state(np.flatnonzero(self._live))
        self._step_chunks.append(self._episode[self._live])
        self._decide(actions, action_prob)
        self._accumulate(step)
        self._t += 1
        self._close_transitions(step)
        self._begin_episodes(step)
        self._open_transitions(step)
        self._look_at_state()

    def stop(self, copies: IntArray | None = None) -> None:
        """End the recording of these copies, or of all; transitions still open are dropped."""
        chosen = np.arange(self._env.num_envs) if copies is None else copies
        self._record_state(chosen[self._live[chosen] & (self._t[chosen] > 0)])
        # Those opened just now are no loss: nothing was chosen yet.
        self.dropped += (self._is_open & ~self._decided)[chosen].sum((0, 2))
        self._is_open[chosen] = False
        self._decided[chosen] = False
        self._live[chosen] = False

    def drain(self) -> list[Fragment]:
        """The rows closed since the last call, one fragment per episode."""
        # Written now and not with the next step, so that rows point to states of their own or earlier lines.
        self._record_state(np.flatnonzero(self._live & (self._t > 0)))
        steps = np.concatenate([np.zeros(0, np.int64), *self._step_chunks])
        counts = {int(e): int(c) for e, c in zip(*np.unique(steps, return_counts=True), strict=True)}
        fragments = cut(self._env.agents, _concatenate(self._chunks), counts, _concatenate(self._state_chunks))
        self._chunks, self._state_chunks, self._step_chunks, self.pending_rows = [], [], [], 0
        return fragments

    def _decide(self, actions: npt.NDArray[np.integer], action_prob: FloatArray | None) -> None:
        """Fill in the actions of the transitions that have just been opened."""
        b, i, k = np.nonzero(self._decided)
        chosen = actions[b, i].astype(np.int64)
        legal = (chosen >= 0) & (chosen < int(self._env.action_space.n))
        chosen[~legal] = 0
        self._open["actions"][b, i, k] = np.where(self._open["action_mask"][b, i, k, chosen], chosen, 0)
        if self._with_prob:
            assert action_prob is not None, "the recorder was told that action probabilities are known"
            # An agent that does not act does nothing for certain.
            self._open["action_prob"][b, i, k] = np.where(self._open["acting"][b, i, k], action_prob[b, i], 1.0)

    def _accumulate(self, step: EnvStep) -> None:
        # Closed transitions accumulate too: opening one sets the sums to zero.
        by_stream = self._num_streams > 1 and step.stream_reward is not None
        self._open["rewards"] += step.stream_reward if by_stream else step.reward[:, :, None]
        self._open["costs"] += step.cost[:, :, None]
        self._open["duration"] += step.duration[:, None, None]

    def _close_transitions(self, step: EnvStep) -> None:
        obs, mask, acts = step.obs, step.action_mask, self._acts(step.acting, step.stream)
        if step.final is not None:
            obs, mask, final = obs.copy(), mask.copy(), step.final
            obs[final.copies], mask[final.copies] = final.obs, final.action_mask
            acts[final.copies] = self._acts(final.acting, final.stream)
        ends = step.terminated[:, None, None]
        if self._num_streams > 1 and step.stream_done is not None:
            ends = ends | step.stream_done
        terminated = self._is_open & ends
        closed = terminated | (self._is_open & acts)
        truncated = step.truncated[:, None, None] & ~terminated

        where = np.nonzero(closed)
        if len(where[0]):
            b, i, _ = where
            after = {"new_obs": obs[b, i], "new_action_mask": mask[b, i], "new_t": self._t[b]}
            after |= {"terminateds": terminated[where], "truncateds": np.broadcast_to(truncated, closed.shape)[where]}
            self._chunks.append(self._rows(where, after))
            self.pending_rows += len(b)
        self._is_open &= ~closed

    def _begin_episodes(self, step: EnvStep) -> None:
        if step.final is None:
            return
        copies = step.final.copies
        self.dropped += self._is_open[copies].sum((0, 2))
        self._is_open[copies] = False
        live = self._live[copies]
        if self._with_state:
            self._append_state(copies[live], step.final.state[live])
        self._t[copies] = 0
        self._episode[copies] = self.next_episode + np.arange(len(copies))
        self.next_episode += len(copies)

    def _open_transitions(self, step: EnvStep) -> None:
        self._decided = self._acts(step.acting, step.stream) & self._live[:, None, None]
        self._is_open |= self._decided
        now: Columns = {
            "obs": step.obs[:, :, None],
            "action_mask": step.action_mask[:, :, None],
            "acting": step.acting[:, :, None],
            "t": self._t[:, None, None],
            "rewards": np.zeros(1),
            "costs": np.zeros(1),
            "duration": np.zeros(1),
        }
        if step.stream is not None:
            now["stream"] = np.where(step.acting, step.stream, 0)[:, :, None]
        for name, values in now.items():
            wide = self._decided[..., None] if self._open[name].ndim == 4 else self._decided
            np.copyto(self._open[name], values, where=wide)

    def _acts(self, acting: BoolArray, stream: IntArray | None) -> BoolArray:
        """Which transitions a decision here closes and opens, [copies, N, K]."""
        if self._all:
            return np.ones((*acting.shape, 1), np.bool_)
        if self._num_streams == 1:
            return acting[:, :, None].copy()
        assert stream is not None, "an environment with several streams says which one each decision belongs to"
        in_stream: BoolArray = stream[:, :, None] == self._streams
        return acting[:, :, None] & in_stream

    def _rows(self, where: tuple[IntArray, ...], after: Columns) -> Columns:
        """Rows made of the open transitions at these places, and what came after them."""
        rows = {name: self._open[name][where] for name in self._columns}
        rows |= {name: rows[name].astype(np.float32) for name in ("rewards", "costs", "duration") if name in rows}
        return {AGENT: where[1], **rows, **after, "eps_id": self._episode[where[0]]}

    def _look_at_state(self) -> None:
        if self._with_state:
            self._state_now = self._env.state().copy()
            self._state_written[:] = False

    def _record_state(self, copies: IntArray) -> None:
        if self._state_now is not None:
            copies = copies[~self._state_written[copies]]
            self._append_state(copies, self._state_now[copies])
            self._state_written[copies] = True

    def _append_state(self, copies: IntArray, state: FloatArray) -> None:
        self._state_chunks.append({"eps_id": self._episode[copies], "t": self._t[copies], "obs": state})


def _concatenate(chunks: list[Columns]) -> Columns | None:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]} if chunks else None
