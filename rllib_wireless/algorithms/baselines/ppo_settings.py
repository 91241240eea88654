"""Hyper-parameters of PPO, with what the DCC paper gives for its MAPPO."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, Widths, field

_DCC = "DCC paper, app. F"


@dataclass(frozen=True, config=CONFIG)
class PPOSettings(Configuration):
    """Hyper-parameters of PPO; names are RLlib's where it has one."""

    owner: ClassVar[str] = "ppo"

    # What is learned
    paradigm: Literal["ctde", "independent", "centralized"] = field(
        "ctde",
        "MAPPO: policies of the own observation, a critic of the joint state; IPPO: the critic, too, sees the own observation;"
        " or one network sees all observations and has the logits of every agent, with the clip on the joint probability.",
    )
    reward: Literal["common", "own"] = field(
        "common", "What an agent maximises: the mean reward of all agents, or its own.", source=f"not given in {_DCC}"
    )
    mode: Literal["sample", "greedy"] = field(
        "sample", "How the trained policy acts: drawn from its softmax, or by the largest logit."
    )

    # Returns
    gamma: float | None = field(
        None, "Discount per unit of the environment's time; the environment's own if not given.", gt=0.0, le=1.0
    )
    discount: Literal["time", "decision"] = field(
        "time", "Discount gamma ** duration, or gamma for each step however long it takes."
    )
    lambda_: float = field(0.95, "Decay of generalized advantage estimation.", source=_DCC, ge=0.0, le=1.0)

    # Loss
    clip_param: float | None = field(
        0.2,
        "By how much the ratio of new to old probability may leave 1 and still be rewarded; not clipped if not given.",
        source=_DCC,
        gt=0.0,
    )
    entropy_coeff: float = field(
        0.01, "Weight of the entropy, against advantages of standard deviation 1.", source=_DCC, ge=0.0
    )

    # Gradient steps
    lr: float = field(1e-3, "First step size of Adam, for all networks.", source=_DCC, gt=0.0, le=1.0)
    anneal_lr: bool = field(
        True, "Whether it falls linearly to 0 over num_iterations.", source="SocialJax, which the DCC paper used"
    )
    grad_clip: float | None = field(
        0.5, "Largest norm of a network's gradient; not clipped if not given.", source=_DCC, gt=0.0
    )
    num_epochs: int = field(2, "Passes over the steps of an update.", source=_DCC, ge=1)
    train_batch_size_per_learner: int = field(
        512, "Joint rows in a gradient step; the last one of a pass may have fewer.", unit="rows", ge=1,
        source="app. F: 64 minibatches of unknown size",
    )  # fmt: skip
    fcnet_hiddens: Widths = field((64, 64), "Widths of the hidden layers of policies and critics.")

    # Acting
    num_iterations: int = field(
        25, "Iterations of a whole run: with 64 copies the default is 1.6e6 joint steps.", unit="iterations", ge=1,
        source="the DCC paper's budget for all methods",
    )  # fmt: skip
    rollout_length: int = field(
        1024,
        "Steps of each copy in an iteration, which begins new episodes; rounded up to whole fragments.",
        unit="steps",
        ge=1,
    )
    rollout_fragment_length: int = field(128, "Steps of each copy between updates.", unit="steps", ge=1)

    # The DCC paper's MAPPO
    clip_by_agents: bool = field(
        False, "Divide clip_param by the number of agents, as SCALE_CLIP_EPS of SocialJax does.", source="SocialJax"
    )
    last_minibatch_only: bool = field(
        False,
        "Take one gradient step in each pass, on a single minibatch: what is left where every step begins with the parameters"
        " of the pass's begin.",
        source="SocialJax at the time of the DCC paper",
    )

    @property
    def updates_per_iteration(self) -> int:
        """How often an iteration stops acting to learn."""
        return -(-self.rollout_length // self.rollout_fragment_length)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.paradigm == "centralized" and self.reward == "own":
            raise ValueError(
                "reward = 'own' needs agents that learn for themselves, but paradigm = 'centralized' has one"
            )
        if self.clip_by_agents and self.clip_param is None:
            raise ValueError("clip_by_agents = True needs a clip_param to divide")
        return self
