"""Hyper-parameters of a FedMORL client: what the paper leaves open is a field with its default, unit and source."""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, Widths, field

_OPEN = "not given in the paper; chosen on validation seeds"


@dataclass(frozen=True, config=CONFIG)
class FedMORLSettings(Configuration):
    """Hyper-parameters of the clients; those of the federation are in `FederatedSettings`."""

    owner: ClassVar[str] = "fedmorl"

    # World model
    model_hiddens: Widths = field((64, 64), "Widths of the hidden layers of the world model's networks.", source=_OPEN)
    model_lr: float = field(
        4e-3, "Step size of Adam for the world model in the first round.", source=_OPEN, gt=0.0, le=1.0
    )
    model_lr_decay: float = field(
        0.85, "Factor by which that step size shrinks from round to round.", source=_OPEN, gt=0.0, le=1.0
    )
    model_batch_size: int = field(256, "Rows in a gradient step of the world model.", unit="rows", ge=1)
    local_steps: int = field(100, "Gradient steps of a client in a federated round.", unit="steps", source=_OPEN, ge=1)
    validation_share: float = field(
        0.1,
        "Share of a client's rows, its last ones, on which the world model is judged.",
        source=_OPEN,
        gt=0.0,
        lt=1.0,
    )

    # Returns
    gamma: float | None = field(
        None, "Discount per unit of the environment's time; the environment's own if not given.", gt=0.0, le=1.0
    )
    discount: Literal["time", "decision"] = field(
        "time", "Discount gamma ** duration, or gamma for each decision however long it takes."
    )

    cost_weight: float | Literal["balanced"] = field(
        0.0,
        "Policies maximise reward - cost_weight * cost. `balanced`: the weight at which, in the model, acting and action 0"
        " are worth the same on average over a client's rows.",
    )

    # Policies
    policy_learning: Literal["planner", "rollout"] = field(
        "planner", "Algorithm 2: Q-weighted imitation; or algorithm 3: conservative Q-learning on data and rollouts."
    )
    beta: float = field(
        0.3, "Temperature: policies are the data's, weighted by exp(Q / beta) (eq. 2).", unit="reward", source=_OPEN, gt=0.0
    )  # fmt: skip
    policy_hiddens: Widths = field((64, 64), "Widths of the hidden layers of policies.", source=_OPEN)
    policy_lr: float = field(
        5e-3, "Step size of Adam for policies at the start of an iteration; it falls to zero.", source=_OPEN, gt=0.0, le=1.0
    )  # fmt: skip
    policy_batch_size: int = field(256, "Rows in a gradient step of a policy.", unit="rows", ge=1)
    policy_steps: int = field(400, "Gradient steps of a policy in an iteration.", unit="steps", source=_OPEN, ge=1)
    clone_steps: int = field(
        1500, "Gradient steps that clone the data's policy before the first iteration.", unit="steps", source=_OPEN, ge=1
    )  # fmt: skip

    # Planner (algorithm 2)
    planner_value: Literal["data", "max"] = field(
        "data", "What a decision's future is worth: under the data's policy, or with the best action each time (eq. 1)."
    )
    planner_horizon: int | None = field(
        None, "Depth of the plan in decisions; without end if not given.", unit="decisions", ge=1,
        source="the paper plans `short-horizon`",
    )  # fmt: skip
    planner_anchors: int = field(512, "Logged observations at which the model is solved.", unit="rows", ge=2)
    planner_neighbours: int = field(4, "Anchors between which values are interpolated.", source=_OPEN, ge=1)
    planner_support: float = field(
        1e-3, "Actions rarer in the data than this share of the likeliest one are not planned with.", ge=0.0, le=1.0
    )
    max_weight: float = field(20.0, "Where the weights exp(advantage / beta) are clipped.", source="CRR", gt=0.0)

    # Rollouts (algorithm 3)
    rollout_horizon: int = field(5, "Steps H of a rollout.", unit="decisions", source=_OPEN, ge=1)
    rollout_starts: int = field(
        2048,
        "Logged rows whose next observations rollouts start from, drawn anew in each iteration.",
        unit="rows",
        ge=1,
    )
    rollout_value: Literal["policy", "data"] = field(
        "data", "What the next observation is worth: what the policy gets there, or what the data's policy gets."
    )
    cql_alpha: float = field(
        0.3, "Weight of the conservative term, which holds the policy to the data's.", source=_OPEN, ge=0.0
    )
    tau: float = field(0.2, "Step of the target network's moving average.", source=_OPEN, gt=0.0, le=1.0)
