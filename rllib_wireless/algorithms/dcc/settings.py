"""Hyper-parameters of DCC, with their sources."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field

Share = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, config=CONFIG)
class QLearningSettings(Configuration):
    """Hyper-parameters of tabular Q-learning, which DCC's fast time scale and its baseline share."""

    steps: int = field(
        100_000, "Steps of Q-learning in each solution of a local problem.", source="1.6e6 / 16 solutions", ge=1
    )
    q_lr: float = field(
        0.5,
        "First learning rate; the n-th update of an entry has q_lr / (1 + q_lr (1 - gamma) n).",
        source="app. F",
        gt=0.0,
        le=1.0,
    )
    epsilon: float = field(
        0.2, "Probability of a random action at first.", source=".05 in app. F; chosen on LP optima", gt=0.0, le=1.0
    )
    epsilon_decay: float = field(
        0.95,
        "Factor of epsilon at each update of the multiplier.",
        source="app. F; per what is not given",
        gt=0.0,
        le=1.0,
    )
    learning_episode_slots: int = field(
        30, "Length of a learning episode, which begins in any state.", unit="slots", source="related code", ge=1
    )


@dataclass(frozen=True, config=CONFIG)
class DCCSettings(QLearningSettings):
    """Hyper-parameters of DCC."""

    owner: ClassVar[str] = "dcc"

    fast_timescale: Literal["q_learning", "exact", "fitted", "rllib_dqn", "rllib_ppo"] = field(
        "q_learning",
        "How devices solve their local problems: by Q-learning, by linear programs on the true transitions, by linear"
        " programs on transitions counted in recorded data, or by RLlib's DQN or PPO, which are slow.",
        source="section 4.3",
    )
    criterion: Literal["discounted", "average"] = field(
        "discounted",
        "What costs and offload frequencies are: discounted, or long-run averages (exact and fitted only).",
        source="section 4.2",
    )
    multiplier_updates: int = field(
        20, "Steps of the multiplier in one solution of a local problem.", source="not given in the paper", ge=1
    )
    multiplier_step: Literal["adaptive", "power"] = field(
        "adaptive",
        "A step of the multiplier doubles while it repeats its direction and halves when it turns; or step m is multiplier_lr"
        " / (m + 1)^multiplier_exponent times the violation.",
        source="power: section 4.3; adaptive: chosen on LP optima",
    )
    multiplier_lr: float = field(1.0, "First step of the multiplier.", source="app. F", gt=0.0)
    multiplier_exponent: float = field(
        0.9, "Decay of its steps under multiplier_step=power.", source="related code", ge=0.0, le=1.0
    )
    multiplier_max: float = field(100.0, "Largest multiplier.", unit="cost", source="not given in the paper", gt=0.0)
    randomize: bool = field(
        True,
        "Mix the policies of two neighbouring multipliers so that the constraint is met with equality; else take the tighter.",
        source="Altman 1999: optima are randomised",
    )
    rollouts: int = field(
        200, "Episodes that estimate a policy's cost and frequency.", source="related code: 250", ge=1
    )
    rollout_slots: int = field(100, "Their length.", unit="slots", source="related code", ge=1)

    gradient: Literal["finite_differences", "lambda_substitution"] = field(
        "finite_differences",
        "How the derivatives of F(K) are had: from two more solutions per device, or from multiplier and frequency.",
        source="app. D and E",
    )
    perturbation: Literal["rademacher", "gaussian"] = field(
        "rademacher",
        "Law of the differences; Gaussian ones, the paper's, may be so small that noise is all that is left of the quotient.",
        source="gaussian: app. F",
    )
    perturbation_size: float = field(
        0.05,
        "Standard deviation a_0 of the differences; for N > 10 devices, 10 / N of it in K_i.",
        source="app. F; N not mentioned there",
        gt=0.0,
        le=1.0,
    )
    perturbation_exponent: float = field(
        0.17, "a_k = perturbation_size / (k + 1) to this power.", source="exponent not given", ge=0.0, le=1.0
    )
    initial_constraint: Share | tuple[Share, ...] = field(
        0.0, "K of the first iteration, one number or one per device.", source="section 5.1"
    )
    constraint_updates: int = field(5, "Improvements of the constraints.", source="section 5.1", ge=1)
    congestion: Literal["constraint", "overlap"] = field(
        "constraint",
        "What a device expects of the others: K_-i of them in every slot; or that times how much more often, in its rollouts and"
        " theirs, they offload in the same slots as it does, which needs lambda_substitution.",
        source="constraint: eq. (6); overlap: not in the paper",
    )
    constraint_lr: float = field(
        0.25,
        "First step b_0 of a constraint; for N > 10 devices, 10 / N of it, so that K_-i moves alike.",
        source="app. F; N not mentioned there",
        gt=0.0,
        le=1.0,
    )
    constraint_step: Literal["adaptive", "power"] = field(
        "adaptive",
        "A device's step halves when its derivative turns; or step k is constraint_lr / (k + 1)^constraint_exponent times the"
        " derivative, over the largest one of all devices.",
        source="not given in the paper",
    )
    constraint_exponent: float = field(
        1.0, "Decay of the steps under constraint_step=power.", source="not given in the paper", ge=0.0, le=1.0
    )

    participation: float = field(
        1.0,
        "Share of devices that update in an iteration, drawn anew; below 1 updates are asynchronous.",
        source="section 6",
        gt=0.0,
        le=1.0,
    )
    broadcast_delay: int = field(
        0,
        "Most iterations that a broadcast takes to each receiver, drawn.",
        unit="iterations",
        source="section 6",
        ge=0,
    )
    broadcast_loss: float = field(
        0.0,
        "Probability that a receiver misses a broadcast; it goes on with the last it has.",
        source="section 6",
        ge=0.0,
        lt=1.0,
    )
    num_device_actors: int = field(0, "Ray actors that share the devices; 0 solves all in the driver.", ge=0)
    actor_timeout_s: float = field(600.0, "How long to wait for an actor.", unit="s", gt=0.0)
