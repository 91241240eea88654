"""Cells in which policies are learned: each trains on one environment and follows what its policies cost."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.envs import make_env
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.joint import evaluate_jointly
from rllib_wireless.envs.task_offloading.rules import best_threshold, threshold_table
from rllib_wireless.papers.dcc.setup import DCC_ARMS, IQL_ARMS, PPO_ARMS, Scale
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.policies import TablePolicy, evaluate

ENV = "task_offloading"


def build(num_devices: int, environment_seed: int, **env_config: Any) -> TaskOffloading:
    """An environment of the experiment."""
    env = make_env(ENV, num_devices=num_devices, environment_seed=environment_seed, **env_config)
    assert isinstance(env, TaskOffloading)
    return env


def learn(algorithm: str, env: TaskOffloading, settings: Mapping[str, Any]) -> Json:
    """Train to the end.

    Returns:
        Of the last policy: `cost` per slot and `frequency`; `cpu`, the seconds of CPU time that learning took; and `trace`, a
        row for each iteration: `slots` in which each device has learned, `cost`, `frequency`, and what DCC tells. Of DCC also
        its `constraints`.
    """
    trained = _config(algorithm, env, settings).build_algo()
    try:
        return _follow(trained, env)
    finally:
        trained.stop()


def _config(algorithm: str, env: TaskOffloading, settings: Mapping[str, Any]) -> Any:
    config = algorithm_spec(algorithm).new_config().environment(ENV, env_config=vars(env.config))
    return config.debugging(seed=env.config.environment_seed).training(**settings)


def _follow(trained: OfflineMultiAgentAlgorithm, env: TaskOffloading) -> Json:
    trace: list[Json] = []
    cpu, slots = 0.0, 0
    fast: Any = trained.config
    solutions = 3 if getattr(fast, "gradient", None) == "finite_differences" else 1
    while not trained.finished:
        begin = time.process_time()
        told = trained.train()["learners"]["devices"]
        cpu += time.process_time() - begin
        slots += fast.steps * (solutions if trace else 1)
        policy = trained.policy()
        assert isinstance(policy, TablePolicy)
        judged = evaluate_jointly(env, policy.table)
        trace.append({"slots": slots, **_costs(judged.discounted, judged.offload_frequency), **_told(told)})
    found = {**_costs(judged.discounted, judged.offload_frequency), "cpu": cpu, "trace": trace}
    return found | ({"constraints": told["constraints"]} if "constraints" in told else {})


def _told(result: Mapping[str, Any]) -> Json:
    return {name: result[name] for name in ("value", "constraint") if name in result}


def _costs(cost: float, frequency: float) -> Json:
    return {"cost": cost, "frequency": frequency}


def compare(s: Scale, num_devices: int, seed: int, out: Path, progress: Progress) -> Json:
    """All tabular learners and the best threshold in one environment."""
    env = build(num_devices, s.environment_seed + seed)
    _compile(s)
    arms = {name: learn("dcc", env, {**settings, **s.settings}) for name, settings in DCC_ARMS.items()}
    for name, settings in IQL_ARMS.items():
        if name != "iql_long" or num_devices <= s.long_up_to:
            arms[name] = learn("independent_q", env, {**settings, **_of_iql(s)})
    rule, cost = best_threshold(env)
    table = np.broadcast_to(threshold_table(env.devices, rule), (num_devices, env.devices.num_states, 3))
    arms["threshold"] = _costs(cost, evaluate_jointly(env, table).offload_frequency)
    first = arms["dcc"]["trace"][0]
    arms["never"] = _costs(first["cost"], first["frequency"])
    return {"arms": arms, "threshold": {f: getattr(rule, f) for f in ("process_age", "process_battery", "offload_age")}}


def _compile(s: Scale) -> None:
    """Have the kernels compiled before CPU time is measured."""
    env = build(2, s.training_seed)
    learn("dcc", env, {**DCC_ARMS["dcc_overlap"], **s.settings, "steps": 100, "constraint_updates": 1})
    learn("independent_q", env, {"steps": 1, "learning_iterations": 1})


def _of_iql(s: Scale) -> Json:
    return {name: value for name, value in s.settings.items() if name == "steps"}


def start_informed(s: Scale, num_devices: int, seed: int, out: Path, progress: Progress) -> Json:
    """DCC that begins with what another environment ended with, the same for all devices."""
    other = learn("dcc", build(num_devices, s.training_seed), s.settings)
    informed = float(np.mean(other["constraints"]))
    env = build(num_devices, s.environment_seed + seed)
    arms = {
        "naive": learn("dcc", env, s.settings),
        "informed": learn("dcc", env, {"initial_constraint": informed, **s.settings}),
    }
    return {"arms": arms, "initial": informed}


def vary_exponent(s: Scale, alpha: float, num_devices: int, seed: int, out: Path, progress: Progress) -> Json:
    """DCC and independent Q-learning under another penalty."""
    return _two_ways(s, build(num_devices, s.environment_seed + seed, penalty_exponent=alpha))


def vary_start(s: Scale, start: str, num_devices: int, seed: int, out: Path, progress: Progress) -> Json:
    """The same where episodes begin otherwise."""
    return _two_ways(s, build(num_devices, s.environment_seed + seed, start=start))


def _two_ways(s: Scale, env: TaskOffloading) -> Json:
    arms = {name: learn("dcc", env, {**DCC_ARMS[name], **s.settings}) for name in ("dcc", "dcc_overlap")}
    arms["iql"] = learn("independent_q", env, _of_iql(s))
    first = arms["dcc"]["trace"][0]
    return {"arms": {**arms, "never": _costs(first["cost"], first["frequency"])}}


def many_devices(s: Scale, num_devices: int, out: Path, progress: Progress) -> Json:
    """What DCC costs with this many devices, each of which learns for 16 solutions."""
    env = build(num_devices, s.training_seed)
    _compile(s)
    begin = time.perf_counter()
    found = learn("dcc", env, s.settings)
    wall = time.perf_counter() - begin
    slots = found["trace"][-1]["slots"]
    cost = {"cpu": found["cpu"], "wall": wall, "cpu_per_device": found["cpu"] / num_devices, "slots": slots}
    return {**cost, "never": found["trace"][0]["cost"] / num_devices, "cost": found["cost"] / num_devices}


def learn_ppo(s: Scale, variant: str, num_devices: int, seed: int, out: Path, progress: Progress) -> Json:
    """PPO, whose policy is a network, measured in the simulator."""
    env = build(num_devices, s.environment_seed + seed)
    algorithm, settings = PPO_ARMS[variant]
    trained = _config(algorithm, env, {**settings, **s.ppo_settings}).build_algo()
    try:
        begin = time.process_time()
        while not trained.finished:
            trained.train()
        cpu = time.process_time() - begin
        policy = trained.policy()
        assert policy is not None
        measured = evaluate(policy, ENV, vars(env.config), episodes=s.test_episodes, seed=s.environment_seed + seed)
    finally:
        trained.stop()
    metrics = measured.metrics()
    costs = _costs(metrics["discounted_cost"]["mean"], metrics["offload_frequency"]["mean"])
    return {"arms": {variant: {**costs, "cpu": cpu}}}
