"""Environments: B copies of an N-agent game, stepped together as arrays."""

from rllib_wireless.envs import (  # noqa: F401  which register themselves
    channel_access,
    production_scheduling,
    radio_resource,
    task_offloading,
)
from rllib_wireless.envs.base import BatchedEnv, EnvStep, FinalStep, ObsField, Statistics, field_slices
from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.envs.registry import EnvSpec, Metric, Rule, env_names, env_spec, make_env, make_policy, register

__all__ = [
    "BatchedEnv",
    "EnvSpec",
    "EnvStep",
    "FinalStep",
    "Metric",
    "ObsField",
    "Policy",
    "Rule",
    "Statistics",
    "StepRandom",
    "env_names",
    "env_spec",
    "field_slices",
    "make_env",
    "make_policy",
    "register",
]
