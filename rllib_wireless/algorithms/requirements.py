"""What an algorithm needs of its data, and the check that says so."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rllib_wireless.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rllib_wireless.data.store import Dataset


@dataclass(frozen=True)
class Requirements:
    """What an algorithm needs.

    Attributes:
        data: Whether it needs recorded data, can use them, or uses none.
        layout: Whether it opens one joint data set, one folder per agent, or any of these.
        aligned: Whether row t of all agents must be of the same step.
        columns: Optional columns that it needs.
        environments: The only environments that it is made for; None where any will do.
    """

    data: Literal["required", "optional", "none"] = "required"
    layout: Literal["joint", "agents", "any"] = "joint"
    aligned: bool = False
    columns: tuple[str, ...] = ()
    environments: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """In words, for the command line."""
        words = {
            "required": {
                "joint": "a joint data set",
                "agents": "one folder of data per agent",
                "any": "a joint data set or one folder per agent",
            }[self.layout],
            "optional": "data are optional",
            "none": "no data",
        }[self.data]
        words += ", rows that align" if self.aligned else ""
        words += "".join(f", column {name}" for name in self.columns)
        return words + (f"; {' or '.join(self.environments)} only" if self.environments else "")

    def check_environment(self, owner: str, env: str) -> None:
        """Check that the algorithm is made for an environment.

        Args:
            owner: The algorithm.
            env: The environment's name.

        Raises:
            ConfigError: If not.
        """
        if self.environments is not None and env not in self.environments:
            raise ConfigError(owner, "env", env, f"it should be {' or '.join(self.environments)}")

    def check_input(self, owner: str, given: str | None) -> None:
        """Check that data were named exactly where they are of use.

        Args:
            owner: The algorithm.
            given: The folder, or None.

        Raises:
            ConfigError: If not.
        """
        if self.data == "required" and given is None:
            raise ConfigError(owner, "input_", None, "it should be the folder of a data set: .offline_data(input_=...)")
        if self.data == "none" and given is not None:
            raise ConfigError(owner, "input_", given, "this algorithm learns without data")

    def check_data(self, data: "Dataset") -> None:
        """Check that a data set holds what is needed.

        Raises:
            DataError: Naming what is missing.
        """
        card = data.card
        if self.layout == "joint" and tuple(data.agents) != card.environment.agents:
            missing = sorted(set(card.environment.agents) - set(data.agents))
            raise DataError(
                f"it lacks the rows of {', '.join(missing)}, but the algorithm learns for all agents", data.path
            )
        for agent, rows in data.rows.items():
            if not len(rows["t"]):
                raise DataError(f"it holds no rows of {agent}", data.path)
        for name in self.columns:
            if name not in card.columns:
                raise DataError("the algorithm needs this column, which was not recorded", data.path, column=name)
