"""`policy.json`: what a portable policy says of itself beside its arrays."""

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from rllib_wireless.envs.base import ObsField
from rllib_wireless.errors import DataError

FORMAT = 1
HEADER_FILE = "policy.json"

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class FieldHeader:
    """An ObsField in the header; JSON has no infinity, so an open bound is null."""

    name: str
    kind: Literal["categorical", "continuous"]
    size: int
    low: float | None
    high: float | None

    @classmethod
    def of(cls, field: ObsField) -> "FieldHeader":
        low, high = (float(bound) if np.isfinite(bound) else None for bound in (field.low, field.high))
        return cls(field.name, field.kind, field.size, low, high)

    def obs_field(self) -> ObsField:
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return ObsField(self.name, self.kind, self.size, low, high)


@dataclass(frozen=True, config=_STRICT)
class Header:
    """The contents of `policy.json`."""

    format: int
    kind: str
    agents: list[str]
    env: str
    env_config: dict[str, Any]
    obs_fields: list[FieldHeader]
    num_actions: int
    extra: dict[str, Any]
    tensors_sha256: str
    version: str


def read_header(path: Path, kinds: Collection[str]) -> Header:
    """Read `policy.json`.

    Args:
        path: The file.
        kinds: The kinds of policies that there are.

    Raises:
        DataError: At a header that is broken, or of an unknown format or kind.
    """
    try:
        header = TypeAdapter(Header).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where + ': ' if where else ''}{first['msg']}", path) from None
    if header.format != FORMAT:
        raise DataError(f"its format is {header.format}, but this version reads format {FORMAT}", path)
    if header.kind not in kinds:
        raise DataError(f"its kind is {header.kind!r}, but kinds are {', '.join(sorted(kinds))}", path)
    if not header.agents or len(set(header.agents)) < len(header.agents):
        raise DataError(f"agents is {header.agents}, but it should be distinct names", path)
    return header


def field_difference(trained: Sequence[ObsField], shown: Sequence[ObsField]) -> tuple[str, str] | None:
    """The first observation field that differs, in words, or None."""
    for a, b in itertools.zip_longest([FieldHeader.of(f) for f in trained], [FieldHeader.of(f) for f in shown]):
        if a != b:
            return _described(a), _described(b)
    return None


def _described(field: FieldHeader | None) -> str:
    if field is None:
        return "no further field"
    bounds = f" in [{field.low:g}, {field.high:g}]" if None not in (field.low, field.high) else ""
    return f"{field.name} ({field.kind}, size {field.size}{bounds})"
