"""check_env: whether a simulator keeps the promises of BatchedEnv."""

from collections.abc import Callable

import gymnasium
import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BatchedEnv, EnvStep, FinalStep, IntArray, field_slices, observation_space
from rllib_wireless.errors import UserError
from rllib_wireless.testing.check import LegalActions, Snapshot, difference, first_copies, require, snapshot

Make = Callable[..., BatchedEnv]


def check_env(make: Make, *, num_envs: int = 5, num_steps: int = 300, seed: int = 0) -> list[str]:
    """Check a simulator with random legal actions, and with illegal ones.

        check_env(functools.partial(make_env, "channel_access", num_stations=4, episode_slots=5000))

    Args:
        make: Called as `make(num_envs=B, strict=...)`; gives the environment.
        num_envs: Copies B, at least 2.
        num_steps: Length of each run; episodes should end within it.
        seed: Seed of all runs.

    Returns:
        What could not be checked, in words; empty where everything was.

    Raises:
        CheckFailed: Naming what is wrong and the remedy.
    """
    _check_declarations(make(num_envs=num_envs, strict=False), num_envs)
    ended, masked = _check_run(make(num_envs=num_envs, strict=True), num_steps, seed)
    _check_determinism(make, num_envs, num_steps, seed)
    _check_copies_are_independent(make, num_envs, num_steps, seed)
    _check_illegal_actions(make, num_envs, num_steps, seed)
    notes = []
    if not ended:
        notes.append(f"no episode ended within {num_steps} steps, so that ends were not checked: make episodes shorter")
    if not masked:
        notes.append(f"no agent was idle and no action masked within {num_steps} steps")
    return notes


def _check_declarations(env: BatchedEnv, num_envs: int) -> None:
    require(env.num_envs == num_envs, f"num_envs is {env.num_envs}, not {num_envs}", "Pass it to super().__init__")
    names = env.agents
    require(
        isinstance(names, tuple) and len(names) > 0 and len(set(names)) == len(names),
        f"agents is {names!r}",
        "Set self.agents to a tuple of distinct names",
    )
    declared = observation_space(env.obs_fields)
    require(
        env.observation_space == declared and len(field_slices(env.obs_fields)) == len(env.obs_fields),
        f"observation_space is {env.observation_space}, but obs_fields make up {declared}",
        "Set self.observation_space = observation_space(self.obs_fields), with distinct field names",
    )
    space = env.action_space
    require(
        isinstance(space, gymnasium.spaces.Discrete) and space.start == 0,
        f"action_space is {space}",
        "Use gymnasium.spaces.Discrete(A), action 0 being the no-op",
    )
    require(0.0 < env.gamma <= 1.0, f"gamma is {env.gamma}", "Set the class attribute gamma to a discount in (0, 1]")
    require(bool(env.duration_unit), "duration_unit is empty", "Say in the class attribute what a duration of 1 is")


def _check_run(env: BatchedEnv, num_steps: int, seed: int) -> tuple[bool, bool]:
    """Check all that a run of legal actions shows; returns whether an episode ended, and an action was masked."""
    step = env.reset(seed)
    _check_step(env, step)
    require(step.final is None, "reset() returns a final", "Only step() ends episodes: set final to None")
    require(not step.duration.any() and not step.reward.any(), "reset() returns a reward or duration", "Set them to 0")
    legal, ended, masked = LegalActions(seed, env.num_envs), False, False
    statistics = env.statistics()
    kept = {name: value.copy() for name, value in statistics.items()}
    for _ in range(num_steps):
        masked |= not step.action_mask.all()
        actions = legal.draw(step.action_mask)
        given = actions.copy()
        step = env.step(actions)
        _check_step(env, step)
        require((actions == given).all(), "step() changes the caller's actions", "Copy them before cleaning them")
        require((step.duration > 0).all(), "a step has duration 0", "Time must pass in every step")
        ended |= step.final is not None
        total = env.statistics()["illegal_actions"].sum()
        require(total == 0, "legal actions are counted in illegal_actions", "Count what action_mask forbade, no more")
    same = difference(statistics, kept) is None
    require(same, "statistics() returns the environment's own buffers", "Return copies")
    return ended, masked


def _check_step(env: BatchedEnv, step: EnvStep) -> None:
    b, n, d, a = env.num_envs, len(env.agents), env.observation_space.shape[0], int(env.action_space.n)
    for name, shape, dtype in (
        ("obs", (b, n, d), np.float32),
        ("action_mask", (b, n, a), np.bool_),
        ("acting", (b, n), np.bool_),
        ("reward", (b, n), np.float32),
        ("cost", (b, n), np.float32),
        ("terminated", (b,), np.bool_),
        ("truncated", (b,), np.bool_),
        ("duration", (b,), np.float32),
    ):
        _check_array(f"step.{name}", getattr(step, name), shape, dtype)
    require(env.has_cost or not step.cost.any(), "there are costs", "Set the class attribute has_cost = True")
    _check_seen("step", env, step)
    _check_streams(env, step)
    ended = np.flatnonzero(step.terminated | step.truncated)
    require(
        (len(ended) == 0) == (step.final is None),
        f"{len(ended)} copies ended, but final is {'None' if step.final is None else 'given'}",
        "Give final exactly where terminated or truncated is set",
    )
    if step.final is not None:
        require(
            np.array_equal(step.final.copies, ended),
            f"final.copies is {step.final.copies}, but copies {ended} ended",
            "List the ended copies in order",
        )
        _check_final(env, step.final)
    _check_state(env)


def _check_final(env: BatchedEnv, final: FinalStep) -> None:
    f, n, d, a = len(final.copies), len(env.agents), env.observation_space.shape[0], int(env.action_space.n)
    local, state = env.local_state(), env.state()
    for name, shape, dtype in (
        ("obs", (f, n, d), np.float32),
        ("action_mask", (f, n, a), np.bool_),
        ("acting", (f, n), np.bool_),
        ("local_state", (f, *local.shape[1:]), np.float32),
        ("state", (f, *state.shape[1:]), np.float32),
    ):
        _check_array(f"final.{name}", getattr(final, name), shape, dtype)
    _check_seen("final", env, final)
    running = env.statistics()
    require(
        final.statistics.keys() == running.keys(),
        f"final.statistics has {sorted(final.statistics)}, statistics() has {sorted(running)}",
        "Give both the same names",
    )
    for name, value in final.statistics.items():
        _check_array(f"final.statistics[{name!r}]", value, (f, *running[name].shape[1:]), running[name].dtype)


def _check_seen(what: str, env: BatchedEnv, step: EnvStep | FinalStep) -> None:
    """Observations within their space, categorical fields one-hot, masks that fit who acts."""
    low, high = env.observation_space.low, env.observation_space.high
    for field, columns in zip(env.obs_fields, field_slices(env.obs_fields).values(), strict=True):
        values = step.obs[..., columns]
        inside = (values >= low[columns]) & (values <= high[columns])
        require(
            inside.all(),
            f"{what}.obs: field {field.name} is {values[~inside][:1]}, outside [{field.low:g}, {field.high:g}] or NaN",
            "Correct the field, or its bounds in obs_fields",
        )
        if field.kind == "categorical":
            one_hot = ((values == 0.0) | (values == 1.0)).all() and (values.sum(-1) == 1.0).all()
            require(
                one_hot, f"{what}.obs: categorical field {field.name} is not one-hot", "Set one column to 1, else 0"
            )
    legal = step.action_mask[step.acting]
    require(legal.any(-1).all(), f"{what}: an acting agent has no legal action", "An agent with no choice does not act")
    idle = step.action_mask[~step.acting]
    require(
        idle[:, 0].all() and not idle[:, 1:].any(),
        f"{what}: an agent that does not act has a mask other than [1, 0, ...]",
        "Allow it the no-op alone",
    )


def _check_streams(env: BatchedEnv, step: EnvStep) -> None:
    k, shape = env.num_streams, (env.num_envs, len(env.agents))
    for name, expected in (("stream", shape), ("stream_reward", (*shape, k)), ("stream_done", (*shape, k))):
        value = getattr(step, name)
        require(
            (value is None) == (k == 1) and (value is None or value.shape == expected),
            f"num_streams is {k}, but step.{name} is {'None' if value is None else value.shape}",
            f"Give it as {list(expected)} where there are several streams, else None",
        )


def _check_state(env: BatchedEnv) -> None:
    b, n = env.num_envs, len(env.agents)
    local, state = env.local_state(), env.state()
    require(local.ndim == 3, f"local_state() has shape {local.shape}", f"Return [{b}, {n}, L]")
    _check_array("local_state()", local, (b, n, local.shape[-1]), np.float32)
    _check_array("state()", state, (b, state.shape[-1]), np.float32)
    width = n * local.shape[-1]
    require(
        state.shape[1] >= width and np.array_equal(state[:, :width], local.reshape(b, width)),
        "state() does not begin with the agents' local states",
        "Concatenate the N blocks of local_state() and one global block",
    )
    statistics = env.statistics()
    require("illegal_actions" in statistics, "statistics() lacks illegal_actions", "Count them as [B, N]")
    for name, value in statistics.items():
        require(value.shape[:1] == (b,), f"statistics()[{name!r}] has shape {value.shape}", f"Return [{b}, ...]")


def _check_array(name: str, array: object, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    wanted = f"{np.dtype(dtype)}{list(shape)}"
    require(isinstance(array, np.ndarray), f"{name} is {type(array).__name__}", f"Return an array {wanted}")
    assert isinstance(array, np.ndarray)
    found = f"{array.dtype}{list(array.shape)}"
    require(array.shape == shape and array.dtype == dtype, f"{name} is {found}", f"Return {wanted}")
    require(array.dtype.kind != "f" or np.isfinite(array).all(), f"{name} is not finite", "Look for a division by zero")


def _check_determinism(make: Make, num_envs: int, num_steps: int, seed: int) -> None:
    env = make(num_envs=num_envs, strict=False)
    first = _record(env, num_steps, seed)
    for what, again in (
        ("after another reset", _record(env, num_steps, seed)),
        ("in another instance", _record(make(num_envs=num_envs, strict=False), num_steps, seed)),
    ):
        name = _first_difference(first, again)
        require(
            name is None, f"equal seeds and actions give another {name} {what}", "Derive all randomness from the seed"
        )
    name = _first_difference(first, _record(env, num_steps, seed, dtype=np.int32))
    require(name is None, f"actions as int32 give another {name}", "Convert actions to int64 in step()")


def _check_copies_are_independent(make: Make, num_envs: int, num_steps: int, seed: int) -> None:
    together = _record(make(num_envs=num_envs, strict=False), num_steps, seed)
    for fewer in (1, num_envs - 1):
        alone = _record(make(num_envs=fewer, strict=False), num_steps, seed)
        name = _first_difference([first_copies(s, fewer) for s in together], alone)
        require(
            name is None,
            f"{name} of the first {fewer} copies depends on how many others run",
            "Key random numbers by (seed, copy), and reduce per copy, not over the batch",
        )


def _check_illegal_actions(make: Make, num_envs: int, num_steps: int, seed: int) -> None:
    """Illegal actions are executed as 0 and counted; under strict they are refused and change nothing."""
    env, strict = make(num_envs=num_envs, strict=False), make(num_envs=num_envs, strict=True)
    step, _ = env.reset(seed), strict.reset(seed)
    generator = np.random.default_rng(seed)
    num_actions = int(env.action_space.n)
    for _ in range(num_steps):
        # One beyond the space on either side: a compiled kernel must not read outside its tables.
        actions = generator.integers(-1, num_actions + 1, size=step.acting.shape)
        inside = (actions >= 0) & (actions < num_actions)
        allowed = inside & np.take_along_axis(step.action_mask, np.where(inside, actions, 0)[..., None], -1)[..., 0]
        illegal = ~allowed & (actions != 0)
        require(
            not illegal.any() or _refuses(strict, actions),
            "strict=True lets an illegal action pass",
            "Raise UserError naming copy, agent, action and mask",
        )
        expected_counts = env.statistics()["illegal_actions"] + illegal
        step = env.step(actions)
        counts = env.statistics()["illegal_actions"]
        if step.final is not None:
            counts[step.final.copies] = step.final.statistics["illegal_actions"]
        require(
            np.array_equal(counts, expected_counts),
            "illegal actions are not counted one by one in the statistic illegal_actions [B, N]",
            "Count each action that is not 0 and not allowed by action_mask, also those outside the action space",
        )
        expected = snapshot(strict.step(np.where(allowed, actions, 0)))
        name = difference(_without_counts(snapshot(step)), _without_counts(expected))
        require(
            name is None,
            f"an illegal action changes {name}",
            "Execute it as action 0, and under strict refuse it before anything changes",
        )


def _refuses(strict: BatchedEnv, actions: IntArray) -> bool:
    try:
        strict.step(actions)
    except UserError:
        return True
    return False


def _without_counts(arrays: Snapshot) -> Snapshot:
    return {name: array for name, array in arrays.items() if not name.endswith("statistics.illegal_actions")}


def _record(env: BatchedEnv, num_steps: int, seed: int, dtype: npt.DTypeLike = np.int64) -> list[Snapshot]:
    """Everything that a run of random legal actions shows."""
    legal, step = LegalActions(seed, env.num_envs), env.reset(seed)
    shown = []
    for t in range(num_steps + 1):
        arrays = snapshot(step) | {f"statistics.{name}": value for name, value in env.statistics().items()}
        shown.append(arrays | {"local_state": env.local_state().copy(), "state": env.state().copy()})
        if t < num_steps:
            step = env.step(legal.draw(step.action_mask).astype(dtype))
    return shown


def _first_difference(a: list[Snapshot], b: list[Snapshot]) -> str | None:
    for t, (one, other) in enumerate(zip(a, b, strict=True)):
        if name := difference(one, other):
            return f"{name} at step {t}"
    return None
