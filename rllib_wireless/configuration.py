"""Configuration parsed once, at the border, into frozen dataclasses.

A configuration is a pydantic dataclass whose fields are declared with `field`, so that default, range, unit, meaning
and source stand in one place, and `rllib-wireless list` and the documentation read them from there.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from rllib_wireless.errors import ConfigError

CONFIG = ConfigDict(extra="forbid", strict=False, arbitrary_types_allowed=False)

Widths = tuple[Annotated[int, Field(ge=1, le=65536)], ...]
"""Widths of the hidden layers of a network."""


def field(default: Any, description: str, *, unit: str = "", source: str = "", **bounds: Any) -> Any:
    """Declare a configuration field.

    Args:
        default: The default value.
        description: What it means, one sentence.
        unit: Unit of the value, empty for a pure number.
        source: Where the default comes from: a section of a paper, a standard, an open point of the notes.
        **bounds: pydantic bounds such as `ge`, `gt`, `le`, `lt`, `min_length`.
    """
    return Field(default=default, description=description, json_schema_extra={"unit": unit, "source": source}, **bounds)


@dataclass(frozen=True)
class FieldDoc:
    """What `rllib-wireless list` prints of one field."""

    name: str
    default: Any
    type: str
    unit: str
    description: str
    source: str


class Configuration:
    """Base class of the typed configurations; subclasses are `@pydantic.dataclasses.dataclass(frozen=True, config=CONFIG)`."""

    owner: ClassVar[str] = "configuration"

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Build the configuration from a mapping.

        Raises:
            ConfigError: Naming the field, what was given and what is allowed.
        """
        known = [f.name for f in _own_first(cls)]
        for name, value in given.items():
            if name not in known:
                raise ConfigError(cls.owner, name, value, f"there is no such field; fields are {', '.join(known)}")
        try:
            return TypeAdapter(cls).validate_python(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "configuration"
            raise ConfigError(cls.owner, name, given.get(name, first["input"]), _allowed(error, name)) from None

    @classmethod
    def documentation(cls) -> list[FieldDoc]:
        """Every field with its default, type, unit, meaning and source; inherited ones last."""
        docs = []
        for f in _own_first(cls):
            info = f.default
            assert isinstance(info, FieldInfo), f"{cls.__name__}.{f.name} is not declared with field()"
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            type_name = f.type if isinstance(f.type, str) else getattr(f.type, "__name__", str(f.type))
            if type_name not in ("int", "float", "bool", "str"):
                type_name = str(f.type).replace("typing.", "")
            docs.append(
                FieldDoc(
                    f.name, info.default, type_name, str(extra["unit"]), info.description or "", str(extra["source"])
                )
            )
        return docs


def _own_first(cls: type[Configuration]) -> list[dataclasses.Field[Any]]:
    """The fields of a configuration, inherited ones last."""
    return sorted(fields(cls), key=lambda f: f.name not in cls.__annotations__)  # type: ignore[arg-type]


def _allowed(error: ValidationError, name: str) -> str:
    """Turn pydantic's messages about one field into one sentence; a union reports one message per alternative."""
    found = [item["msg"] for item in error.errors() if not item["loc"] or str(item["loc"][0]) == name]
    messages = list(dict.fromkeys(message.removeprefix("Value error, ").removeprefix("Input ") for message in found))
    return f"it {' or '.join(messages)}" if messages[0].startswith("should") else "; ".join(messages)
