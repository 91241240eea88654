"""Portable policies: a folder of JSON and safetensors that loads without Ray and without running any code.

policy.json           kind, agents, environment with its config, observation fields, what else the kind needs
tensors.safetensors   the arrays; policy.json holds their sha256
"""

import hashlib
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
import safetensors
import safetensors.numpy

from rllib_wireless import __version__, storage
from rllib_wireless.envs.base import BatchedEnv, EnvStep, FloatArray, ObsField
from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.registry import make_env
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies.header import FORMAT, HEADER_FILE, FieldHeader, Header, field_difference, read_header

Tensors = dict[str, npt.NDArray[Any]]

_TENSORS = "tensors.safetensors"


class PortablePolicy(Policy):
    """A learned policy that can be saved, loaded and cut down to one agent.

    Args:
        agents: The agents it acts for.

    Attributes:
        kind: Name of its class in `policy.json`; the class is registered with `@portable_kind`.
        centralized: Whether it needs all agents' observations to act for any of them.
        obs_fields: The observation fields it was trained on; None before it was saved or loaded.
    """

    kind: ClassVar[str]
    centralized: ClassVar[bool] = False

    def __init__(self, agents: Sequence[str]) -> None:
        self.agents = tuple(agents)
        self.obs_fields: tuple[ObsField, ...] | None = None

    @property
    @abstractmethod
    def obs_size(self) -> int:
        """Width D of the observation it reads."""

    @property
    @abstractmethod
    def num_actions(self) -> int:
        """Number A of actions it chooses from."""

    def probabilities(self, step: EnvStep) -> FloatArray:
        """Probabilities [B, N, A] of all actions, given which the agents draw independently of each other.

        Raises:
            UserError: Where they do not.
        """
        raise UserError(f"a policy of the kind {self.kind} draws the agents' actions together, not each by itself")

    @abstractmethod
    def slice(self, agent_index: int) -> "PortablePolicy":
        """One agent's part, a policy for that agent alone."""

    @abstractmethod
    def to_portable(self) -> tuple[dict[str, Any], Tensors]:
        """What makes it up, as JSON values and arrays."""

    @classmethod
    @abstractmethod
    def from_portable(cls, extra: dict[str, Any], tensors: Tensors, agents: Sequence[str]) -> Self:
        """Build it again from what `to_portable` gave.

        Raises:
            DataError: Where values or arrays are not what the kind needs.
        """


P = TypeVar("P", bound=type[PortablePolicy])

_KINDS: dict[str, type[PortablePolicy]] = {}


def portable_kind(cls: P) -> P:
    """Class decorator: make a kind of policy known to `load_policy`."""
    _KINDS[cls.kind] = cls
    return cls


def save_policy(policy: PortablePolicy, path: Path | str, *, env: str | BatchedEnv, env_config: dict[str, Any]) -> None:
    """Write a portable policy; a folder of that name is replaced as a whole.

    Args:
        policy: The policy.
        path: The folder.
        env: The environment it was trained for, or its name.
        env_config: That environment's configuration.

    Raises:
        UserError: Where the policy does not fit the environment.
        DataError: At an array that is not finite.
    """
    path = Path(path)
    built = make_env(env, **env_config) if isinstance(env, str) else env
    check_fits(policy, built)
    extra, tensors = policy.to_portable()
    _check_finite(tensors, path)
    blob = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    policy.obs_fields = built.obs_fields
    header = Header(
        format=FORMAT,
        kind=policy.kind,
        agents=list(policy.agents),
        env=built.name,
        env_config=env_config,
        obs_fields=[FieldHeader.of(f) for f in built.obs_fields],
        num_actions=policy.num_actions,
        extra=extra,
        tensors_sha256=hashlib.sha256(blob).hexdigest(),
        version=__version__,
    )
    _replace_folder(
        path,
        {_TENSORS: blob, HEADER_FILE: orjson.dumps(header, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)},
    )


def load_policy(
    path: Path | str, *, agent: str | None = None, mode: str | None = None, epsilon: float | None = None
) -> PortablePolicy:
    """Read a portable policy.

    Args:
        path: Its folder, or the output folder of a training run.
        agent: Load this agent's part alone, for deployment.
        mode: How to act (`sample` or `greedy`), in place of what was saved.
        epsilon: Share of uniformly random actions, likewise.

    Raises:
        DataError: At a file that is missing, broken or inconsistent.
        UserError: Where the policy has no such agent, or its kind neither mode nor epsilon.
    """
    folder = policy_folder(path)
    if folder is None:
        raise DataError(f"there is no policy here: neither {HEADER_FILE} nor policy/{HEADER_FILE} exists", path)
    header = read_header(folder / HEADER_FILE, _KINDS)
    tensors = _read_tensors(folder / _TENSORS, header.tensors_sha256)
    try:
        given: dict[str, Any] = {"mode": mode, "epsilon": epsilon}
        given = {name: value for name, value in given.items() if value is not None}
        if unknown := given.keys() - header.extra.keys():
            raise UserError(f"a policy of the kind {header.kind} has no {min(unknown)}")
        extra = header.extra | given
        policy = _KINDS[header.kind].from_portable(extra, tensors, header.agents)
    except DataError as error:
        raise DataError(error.problem, folder) from None
    obs_size = sum(f.size for f in header.obs_fields)
    if (policy.obs_size, policy.num_actions) != (obs_size, header.num_actions):
        raise DataError(
            f"its tensors are for {policy.obs_size} observed values and {policy.num_actions} actions, but its header "
            f"announces {obs_size} and {header.num_actions}",
            folder,
        )
    policy.obs_fields = tuple(f.obs_field() for f in header.obs_fields)
    return policy if agent is None else slice_policy(policy, agent)


def copy_policy(source: Path, target: Path) -> None:
    """Copy a portable policy's folder; one of the target's name is replaced as a whole."""
    _replace_folder(target, {file.name: file.read_bytes() for file in source.iterdir()})


def slice_policy(policy: PortablePolicy, agent: str) -> PortablePolicy:
    """One agent's part of a policy, by the agent's name.

    Raises:
        UserError: Where the policy has no such agent.
    """
    if agent not in policy.agents:
        raise UserError(f"the policy has no agent {agent!r}, it acts for {_listed(policy.agents)}")
    part = policy.slice(policy.agents.index(agent))
    part.obs_fields = policy.obs_fields
    return part


def policy_folder(path: Path | str) -> Path | None:
    """The portable policy at `path`, a folder or a URI, or in the training output there; None where there is none."""
    for place in (Path(path), storage.join(path, "policy")):
        if storage.holds(place, HEADER_FILE):
            return storage.local(place)
    return None


def check_fits(policy: PortablePolicy, env: BatchedEnv) -> None:
    """Check that a policy can act in an environment.

    Raises:
        UserError: Naming what differs: agents, observation fields or number of actions.
    """
    if policy.agents != env.agents:
        raise UserError(
            f"the policy acts for {_listed(policy.agents)}, but {env.name} has {_listed(env.agents)}: "
            "evaluate it with the environment's configuration it was trained for"
        )
    if policy.obs_fields is not None and (difference := field_difference(policy.obs_fields, env.obs_fields)):
        raise UserError(f"the policy observes {difference[0]}, but {env.name} shows {difference[1]}")
    shape = (env.observation_space.shape[0], int(env.action_space.n))
    if (policy.obs_size, policy.num_actions) != shape:
        raise UserError(
            f"the policy maps {policy.obs_size} observed values to {policy.num_actions} actions, but {env.name} has "
            f"{shape[0]} and {shape[1]}"
        )


def _read_tensors(path: Path, sha256: str) -> Tensors:
    if not path.is_file():
        raise DataError("the policy's tensors are missing", path)
    blob = path.read_bytes()
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise DataError(f"{len(blob)} bytes whose sha256 is not the one in {HEADER_FILE}: truncated or altered", path)
    try:
        tensors: Tensors = safetensors.numpy.load(blob)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a safetensors file of plain arrays: {error}", path) from None
    _check_finite(tensors, path)
    return tensors


def _check_finite(tensors: Tensors, path: Path) -> None:
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"tensor {name} holds values that are not finite", path)


def _replace_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write the files into a new folder and put it in the place of the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        (scratch / "new").mkdir()
        for name, content in files.items():
            (scratch / "new" / name).write_bytes(content)
        if path.exists():
            path.rename(scratch / "old")
        (scratch / "new").rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _listed(agents: Sequence[str]) -> str:
    few = ", ".join(agents) if len(agents) <= 3 else f"{agents[0]}, ..., {agents[-1]}"
    return f"{len(agents)} agents ({few})"
