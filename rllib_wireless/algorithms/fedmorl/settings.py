"""Hyper-parameters of a FedMORL client: what the paper leaves open is a field with its default, unit and source."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, Widths, field

_OPEN = "not given in the paper; chosen on validation seeds"


@dataclass(frozen=True, config=CONFIG)
class FedMORLSettings(Configuration):
    """Hyper-parameters of the clients; those of the federation are in `FederatedSettings`."""

    owner: ClassVar[str] = "fedmorl"

    # What is learned from
    federate: Literal["models", "policies", "data", "nothing"] = field(
        "models",
        "What clients share: world models (FedMORL); or, as baselines, policies learned in models of their own, all their rows,"
        " nothing.",
        source="the paper: models",
    )
    client_rows: int | dict[str, int] | None = field(
        None, "Rows of a client that are used, its first ones; one number, or by client. All if not given.", unit="rows"
    )

    # World model
    model_hiddens: Widths = field((64, 64), "Widths of the hidden layers of the world model's networks.", source=_OPEN)
    ensemble_size: int = field(
        1, "Members of the world model; it predicts with their mixture.", source="the paper: 1; MOPO: 7", ge=1
    )
    uncertainty_penalty: float = field(
        0.0,
        "Rewards in the model less this times the disagreement of its members, in planner and rollouts; needs 2 members.",
        unit="reward",
        source="MOPO's lambda",
        ge=0.0,
    )
    model_lr: float = field(
        4e-3, "Step size of Adam for the world model in the first round.", source=_OPEN, gt=0.0, le=1.0
    )
    model_lr_decay: float = field(
        0.85, "Factor by which that step size shrinks from round to round.", source=_OPEN, gt=0.0, le=1.0
    )
    model_batch_size: int = field(256, "Rows in a gradient step of the world model.", unit="rows", ge=1)
    local_steps: int = field(100, "Gradient steps of a client in a federated round.", unit="steps", source=_OPEN, ge=1)
    proximal: float = field(
        0.0,
        "FedProx: weight mu of mu / 2 times the squared distance from the global model in a client's loss.",
        source="Li et al., MLSys 2020; 0 is FedAvg",
        ge=0.0,
    )
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

    cost_weight: float = field(0.0, "Policies maximise reward - cost_weight * cost.")

    # Policies
    policy_learning: Literal["planner", "rollout", "self_play", "clone"] = field(
        "planner",
        "Algorithm 2: Q-weighted imitation; algorithm 3: conservative Q-learning on data and rollouts; beyond the paper,"
        " self-play in the game that the model tells; or mere imitation, as a baseline.",
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
    planner: Literal["expectimax", "mcts"] = field(
        "expectimax", "Solve the model on anchors, or search a tree from each of `mcts_roots` logged observations."
    )
    mcts_roots: int = field(
        2048, "Logged observations that trees are searched from; others interpolate.", unit="rows", ge=2
    )
    mcts_simulations: int = field(16, "Nodes by which each tree grows.", source=_OPEN, ge=1)
    mcts_depth: int = field(8, "Decisions from the root to a leaf at most.", unit="decisions", source=_OPEN, ge=1)
    mcts_exploration: float = field(
        1.0, "Constant of PUCT; counts only with `planner_value` max.", unit="reward", source=_OPEN, ge=0.0
    )
    mcts_leaf: Literal["data", "rate"] = field(
        "data", "What a leaf is worth: what the data's policy gets from there, or the data's reward rate from then on."
    )
    max_weight: float = field(20.0, "Where the weights exp(advantage / beta) are clipped.", source="CRR", gt=0.0)
    planner_shift: float | None = field(
        -1.0,
        "By how much the plan moves the log-odds of acting against action 0, on average over a client's rows; a price of acting,"
        " read off the model, holds it there. The Q-values as they are if not given.",
        source="not in the paper; chosen on validation seeds",
    )

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
    rollout_shift: float | None = field(
        0.0, "The same for rollouts, whose Q-values the conservative term shrinks.", source="as `planner_shift`"
    )
    cql_alpha: float = field(
        0.3, "Weight of the conservative term, which holds the policy to the data's.", source=_OPEN, ge=0.0
    )
    tau: float = field(0.2, "Step of the target network's moving average.", source=_OPEN, gt=0.0, le=1.0)

    # Self-play
    self_play_updates: int = field(150, "Batches that are played, each followed by gradient steps.", source=_OPEN, ge=1)
    self_play_start: float = field(
        0.1,
        "Agents that act at once, on average, under the policy that the play begins with; less than 1: collisions teach little.",
        unit="agents",
        source=_OPEN,
        gt=0.0,
        lt=1.0,
    )
    self_play_team: float = field(
        0.5,
        "Share of the team in an agent's costs: 0, it minds its own alone, and many agents come to act too often; 1, it minds the"
        " mean of all, and does not know which were its doing.",
        source=_OPEN,
        ge=0.0,
        le=1.0,
    )
    self_play_rare: float = field(
        0.3,
        "When n agents act at once, what follows with less than this probability is taken for an error of the model.",
        source=_OPEN,
        ge=0.0,
        lt=0.5,
    )
    self_play_copies: int = field(32, "Games side by side.", ge=1)
    self_play_episode: int = field(
        40_000, "Duration after which a game begins anew, so that beginnings are learned, too.", unit="slots", ge=1
    )
    self_play_steps: int = field(128, "Decisions of each game in a batch.", unit="decisions", ge=1)
    self_play_epochs: int = field(4, "Passes over a batch.", source=_OPEN, ge=1)
    self_play_batch_size: int = field(4096, "Rows in a gradient step.", unit="rows", ge=1)
    self_play_lr: float = field(
        1.5e-3, "Step size of Adam at the start; it falls to zero.", source=_OPEN, gt=0.0, le=1.0
    )
    self_play_clip: float = field(
        0.2, "How far a gradient step follows the ratio of probabilities.", source="PPO", gt=0.0
    )

    @property
    def apart(self) -> bool:
        """Whether each client has a world model of its own."""
        return self.federate in ("policies", "nothing")

    def rows_of(self, client: str) -> int | None:
        """How many rows of a client are used at most."""
        return self.client_rows.get(client) if isinstance(self.client_rows, dict) else self.client_rows

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        given = self.client_rows.values() if isinstance(self.client_rows, dict) else (self.client_rows,)
        if any(rows is not None and rows < 2 for rows in given):
            raise ValueError(f"client_rows = {self.client_rows}, but a client needs at least 2 rows")
        return self

    @model_validator(mode="after")
    def _check_penalty(self) -> Self:
        if self.uncertainty_penalty > 0.0 and self.ensemble_size < 2:
            raise ValueError(
                f"uncertainty_penalty = {self.uncertainty_penalty:g} needs ensemble_size of at least 2: one model does not "
                "disagree with itself"
            )
        return self
