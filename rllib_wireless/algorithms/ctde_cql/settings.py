"""Hyper-parameters of CTDE-CQL: what the paper leaves open is a field with its default, unit and source."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.algorithms.gradient import GradientSettings
from rllib_wireless.configuration import CONFIG, Widths, field

_OPEN = "not given in the paper"
_RELATED = "related code of the authors"

Positive = Annotated[float, Field(gt=0.0)]
Iteration = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=CONFIG)
class CTDECQLSettings(GradientSettings):
    """Hyper-parameters of CTDE-CQL."""

    owner: ClassVar[str] = "ctde_cql"

    # What is learned
    paradigm: Literal["ctde", "centralized", "independent"] = field(
        "ctde",
        "Agents train together and act alone; one network sees all observations and chooses the joint action; or each agent"
        " learns by itself from its own rewards.",
    )
    backbone: Literal["sac", "dqn"] = field(
        "sac", "Discrete SAC with a policy of its own, or double DQN.", source="the paper has both"
    )
    mixer: Literal["sum", "monotonic"] = field(
        "sum", "How `ctde` makes the team's value of the agents': their sum, or QMIX's function of them and the state.",
        source="the paper: sum",
    )  # fmt: skip
    mode: Literal["greedy", "sample"] = field(
        "greedy", "How the policy acts: by the largest output, or drawn from their softmax.", source="the paper: argmax"
    )
    cql_alpha: float = field(
        1.0, "Weight of the conservative term; 0 is plain SAC or DQN, which can also learn online.", ge=0.0,
        source="the paper",
    )  # fmt: skip

    # Returns
    gamma: float | None = field(
        None, "Discount per unit of the environment's time; the environment's own if not given.", ge=0.0, le=1.0,
        source=f"{_OPEN}; {_RELATED}: .99 a slot",
    )  # fmt: skip
    discount: Literal["time", "decision"] = field(
        "time", "Discount gamma ** duration, or gamma for each decision however long it takes."
    )
    reward_scale: Positive | None = field(
        None, "What rewards are divided by; the standard deviation of the data if not given. Smaller values make the"
        " conservative term weaker.", unit="reward", source=_OPEN,
    )  # fmt: skip

    # Gradient steps
    lr: float = field(3e-4, "Step size of Adam, for all networks.", gt=0.0, le=1.0, source=f"{_OPEN}; {_RELATED}: 1e-4")
    grad_clip: float | None = field(
        None,
        "Largest norm of a network's gradient; not clipped if not given.",
        gt=0.0,
        source=f"{_OPEN}; {_RELATED}: 1",
    )
    train_batch_size_per_learner: int = field(
        256, "Joint rows in a gradient step.", unit="rows", ge=1, source=f"{_OPEN}; {_RELATED}: 128"
    )
    dataset_num_iters_per_learner: int = field(
        1000, "Gradient steps of an iteration.", unit="steps", ge=1, source=_OPEN
    )
    fcnet_hiddens: Widths = field(
        (64, 64), "Widths of the hidden layers of critics and policies.", source=f"{_OPEN}; {_RELATED}: 256, 256"
    )
    tau: float = field(
        5e-3, "Step of the target networks' moving average, taken at every gradient step.", gt=0.0, le=1.0,
        source=f"{_OPEN}; {_RELATED}: 1e-3",
    )  # fmt: skip
    num_critics: int | None = field(
        None, "Critics, whose smallest value counts; 2 with `sac`, 1 with `dqn` if not given.", ge=1, source=_OPEN
    )

    # SAC
    temperature: Positive | Literal["auto"] = field(
        "auto", "Weight of the entropy, in units of the scaled reward; or learned, so that the entropy is `target_entropy`.",
        source=_OPEN,
    )  # fmt: skip
    initial_temperature: float = field(0.2, "Where `auto` begins.", gt=0.0, source=_OPEN)
    target_entropy: float = field(
        0.3, "Entropy that `auto` aims at, as a share of that of the uniform policy over the legal actions.",
        ge=0.0, le=1.0, source=f"{_OPEN}; Christodoulou, 2019: 0.98, widely found too high",
    )  # fmt: skip

    # Mixer, joint actions
    mixing_embed_dim: int = field(32, "Width of the monotonic mixer.", ge=1, source="QMIX")
    hypernet_hiddens: Widths = field(
        (64,), "Hidden layers of the network that makes the mixer's weights.", source="PyMARL"
    )
    max_joint_actions: int = field(
        4096, "Joint actions A ** N beyond which `centralized` is refused, as its network has an output for each.", ge=2
    )

    # Without data
    rollout_length: int = field(
        1000,
        "Steps of each copy in an iteration; every iteration begins new episodes.",
        unit="steps",
        ge=1,
        source=_OPEN,
    )
    rollout_fragment_length: int = field(
        20, "Steps of each copy between gradient steps, which are spread evenly over an iteration.", unit="steps", ge=1,
        source=_OPEN,
    )  # fmt: skip
    replay_capacity: int = field(
        100_000, "Joint rows that the replay buffer holds.", unit="rows", ge=1, source=f"{_OPEN}; {_RELATED}: 100,000"
    )
    learning_starts: int = field(
        5000,
        "Joint rows of uniformly random legal actions before the first gradient step.",
        unit="rows",
        ge=1,
        source=_OPEN,
    )
    final_epsilon: float = field(
        0.05, "Share of random actions that DQN ends with, beginning at 1.", ge=0.0, le=1.0,
        source=f"{_OPEN}; {_RELATED}: .01",
    )  # fmt: skip
    epsilon_steps: int = field(
        10_000, "Joint steps over which that share falls.", unit="steps", ge=1, source=f"{_OPEN}; {_RELATED}: 10,000"
    )

    keep_replay: tuple[Iteration, Iteration] | None = field(
        None, "First and last iteration whose steps are kept as a data set, in `replay/` of the training folder.",
        source=f"{_RELATED}: 16 % of the run, from its middle",
    )  # fmt: skip

    @property
    def first_temperature(self) -> float:
        """The temperature before any gradient step."""
        return self.initial_temperature if self.temperature == "auto" else self.temperature

    @property
    def critics(self) -> int:
        """How many critics each agent has."""
        return self.num_critics or (2 if self.backbone == "sac" else 1)

    @model_validator(mode="after")
    def _check_mixer(self) -> Self:
        if self.mixer != "sum" and self.paradigm != "ctde":
            raise ValueError(
                f"mixer = {self.mixer!r} needs paradigm = 'ctde': there is nothing to mix in {self.paradigm!r}"
            )
        return self

    @model_validator(mode="after")
    def _check_kept(self) -> Self:
        if self.keep_replay is not None and self.keep_replay[0] > self.keep_replay[1]:
            raise ValueError(f"keep_replay = {self.keep_replay}, but the first iteration should not be after the last")
        return self
