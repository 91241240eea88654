"""Portable policies for devices without Python: files that any ONNX runtime runs.

graph     a graph of ONNX, written node by node
kinds     each kind of policy as such a graph
forests   trees as the attributes of one of its nodes
check     whether a file is the policy it was made of, and how fast it is
export    one file per agent
"""

from pathlib import Path
from typing import TYPE_CHECKING

from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from rllib_wireless.policies.onnx.export import Exported

__all__ = ["export_onnx"]


def export_onnx(
    path: Path | str,
    out: Path | str,
    *,
    agent: str | None = None,
    mode: str | None = None,
    epsilon: float | None = None,
) -> "list[Exported]":
    """Write one .onnx file per agent, or one for the team of a centralized policy, and compare each with the policy.

    Every file has the inputs `obs` float32 [batch, D] and `action_mask` bool [batch, A], and the outputs `probabilities`
    float32 [batch, A], which is what the policy draws from, and `action` int64 [batch], the greedy one, the lowest index among
    equals. In a team's file an axis of N agents follows that of the batch; `probabilities` of a joint policy are
    [batch, A ** N], of joint actions, whose digits to the base A are the agents' actions.

    Args:
        path: Folder of a portable policy or of a training output.
        out: Folder of the files; those of the same name are replaced.
        agent: Only this agent.
        mode: How to act (`sample` or `greedy`), in place of what was saved.
        epsilon: Share of uniformly random actions, likewise.

    Raises:
        DataError: At a policy that is missing or broken.
        UserError: Without the extra `onnx`; at an unknown agent; or where a file would not be the policy.
    """
    try:
        from rllib_wireless.policies.onnx.export import export
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("onnx", "onnxruntime"):
            raise
        raise UserError(
            f"{error.name} is not installed, which exports need: pip install 'rllib-wireless[onnx]'"
        ) from None
    return export(path, Path(out), agent=agent, mode=mode, epsilon=epsilon)
