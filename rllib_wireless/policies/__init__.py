"""What acts: rules, and learned policies that are saved and loaded without Ray."""

from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.registry import make_policy
from rllib_wireless.policies.deployment import DeployedAgent
from rllib_wireless.policies.evaluation import Evaluation, PairedDifference, Rollout, evaluate, paired_difference, run
from rllib_wireless.policies.factored import FactoredNetworkPolicy
from rllib_wireless.policies.joint import JointNetworkPolicy
from rllib_wireless.policies.network import NetworkPolicy, StackedMLP
from rllib_wireless.policies.portable import PortablePolicy, check_fits, load_policy, portable_kind, save_policy
from rllib_wireless.policies.table import TablePolicy
from rllib_wireless.policies.trees import TreesPolicy

__all__ = [
    "DeployedAgent",
    "Evaluation",
    "FactoredNetworkPolicy",
    "JointNetworkPolicy",
    "NetworkPolicy",
    "PairedDifference",
    "Policy",
    "PortablePolicy",
    "Rollout",
    "StackedMLP",
    "TablePolicy",
    "TreesPolicy",
    "check_fits",
    "evaluate",
    "load_policy",
    "make_policy",
    "paired_difference",
    "portable_kind",
    "run",
    "save_policy",
]
