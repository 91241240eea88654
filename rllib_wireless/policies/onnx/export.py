"""Portable policies as files that any ONNX runtime runs, one per agent."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from rllib_wireless import __version__, storage
from rllib_wireless.envs import env_names, env_spec
from rllib_wireless.envs.policy import Policy
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies.header import HEADER_FILE, Header, read_header
from rllib_wireless.policies.onnx.check import largest_difference, microseconds, random_inputs, session
from rllib_wireless.policies.onnx.graph import Form, Graph
from rllib_wireless.policies.onnx.kinds import KINDS
from rllib_wireless.policies.portable import PortablePolicy, load_policy, policy_folder, slice_policy

_TEAM = "team"
_ROWS = 4096

# A fault is of the order of one; sums of single numbers in another order are below this, even where values are in the thousands.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Exported:
    """A file, as it was measured right after it was made.

    Attributes:
        agent: Whose it is; `team` of a centralized policy.
        file: Where it is.
        kilobytes: Its size, in 1000 bytes.
        microseconds: Median time of one decision on one thread, in ONNX Runtime.
        microseconds_batched: The same of each decision in a batch of 256.
        largest_difference: From the policy's own probabilities, over random observations.
    """

    agent: str
    file: Path
    kilobytes: float
    microseconds: float
    microseconds_batched: float
    largest_difference: float


def export(
    path: Path | str, out: Path, *, agent: str | None, mode: str | None, epsilon: float | None
) -> list[Exported]:
    """What `export_onnx` does, with ONNX at hand."""
    folder = _folder(path)
    policy = load_policy(folder, mode=mode, epsilon=epsilon)
    _check_kind(policy)
    if agent is not None:
        policy = slice_policy(policy, agent)
    parts = [policy] if policy.centralized else [slice_policy(policy, name) for name in policy.agents]
    source = hashlib.sha256((folder / HEADER_FILE).read_bytes()).hexdigest()
    header = read_header(folder / HEADER_FILE, KINDS)
    files = [_checked(part, header, source, out) for part in parts]
    out.mkdir(parents=True, exist_ok=True)
    for exported, content in files:
        scratch = exported.file.with_name(f".{exported.file.name}")
        scratch.write_bytes(content)
        scratch.replace(exported.file)
    return [exported for exported, _ in files]


def model_of(policy: PortablePolicy, header: Header, source: str) -> onnx.ModelProto:
    """A policy of one agent, or a centralized one, as a model.

    Args:
        policy: The policy.
        header: What is known of the policy that it is part of.
        source: The sha256 of that policy's header, which names that of its arrays.
    """
    kind, graph = KINDS[policy.kind], Graph()
    extra, tensors = policy.to_portable()
    built = kind.build(graph, policy, extra, tensors)
    team = (len(policy.agents),) if policy.centralized else ()
    law = (policy.num_actions ** len(policy.agents),) if kind.joint else (*team, policy.num_actions)
    choice: dict[str, str] = {name: str(extra[name]) for name in ("mode", "epsilon") if name in extra}
    metadata: dict[str, str] = {
        "agents": json.dumps(policy.agents),
        "kind": policy.kind,
        "env": header.env,
        "env_config": json.dumps(header.env_config),
        "obs_fields": json.dumps([asdict(f) for f in header.obs_fields]),
        "source_sha256": source,
        "version": __version__,
        **choice,
    }
    return graph.model(
        inputs={
            "obs": Form(np.float32, ("batch", *team, policy.obs_size)),
            "action_mask": Form(np.bool_, ("batch", *team, policy.num_actions)),
        },
        outputs={
            "probabilities": (built.probabilities, Form(np.float32, ("batch", *law))),
            "action": (built.action, Form(np.int64, ("batch", *team))),
        },
        doc=f"Policy of {', '.join(policy.agents)} in {header.env}: draw from probabilities, or take the greedy action.",
        metadata=metadata,
    )


def _checked(policy: PortablePolicy, header: Header, source: str, out: Path) -> tuple[Exported, bytes]:
    """A file's content, compared with the policy."""
    agent = _TEAM if policy.centralized else policy.agents[0]
    if Path(agent).name != agent:  # a policy may come from anywhere, and so may its agents' names
        raise DataError(f"agent {agent!r} is no name for a file")
    content = model_of(policy, header, source).SerializeToString()
    run, inputs = session(content), random_inputs(policy, _ROWS)
    difference = largest_difference(run, KINDS[policy.kind], policy, *inputs)
    if not difference <= _TOLERANCE:
        raise UserError(
            f"{agent}: probabilities of the file differ by {difference:.2g} from the policy's, which is more than "
            f"{_TOLERANCE:g}: its values are too large for single precision"
        )
    times = microseconds(run, policy, *inputs)
    return Exported(agent, out / f"{agent}.onnx", len(content) / 1000, *times, difference), content


def _folder(path: Path | str) -> Path:
    if (folder := policy_folder(path)) is not None:
        return folder
    for env in env_names():
        if str(path) in env_spec(env).rules:
            raise UserError(f"{path} is a rule of {env}, which has no arrays to export: give a trained policy's folder")
    raise DataError("there is no trained policy here", storage.name(path))


def _check_kind(policy: PortablePolicy) -> None:
    if policy.kind not in KINDS:
        raise UserError(f"policies of the kind {policy.kind} have no ONNX form; kinds that have: {', '.join(KINDS)}")
    if type(policy).reset is not Policy.reset:
        raise UserError(f"policies of the kind {policy.kind} remember earlier steps, for which a file has no place")
