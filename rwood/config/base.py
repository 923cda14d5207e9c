"""The rules that every setting obeys: frozen, strict, no unknown keys, one canonical digest."""

import hashlib
import json
import math
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

T = TypeVar("T")


def number_from_text(value: Any) -> Any:
    """Read the `1e-3` that people write and YAML 1.1 takes for a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def distinct(values: tuple[T, ...], key: str = "") -> tuple[T, ...]:
    """The values, each of which is named once; `key` begins the error."""
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{key}{twice} is named twice")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""What a random generator starts from."""
Seeds = Annotated[tuple[Seed, ...], AfterValidator(lambda seeds: distinct(seeds))]
"""One training a seed."""
Number = Annotated[float, BeforeValidator(number_from_text)]
"""A finite real number."""
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
"""Of a whole; a probability."""


def number_for_json(value: float) -> float | str:
    """The number, as text if it is infinite: JSON has no infinity."""
    return value if math.isfinite(value) else str(value)


Unbounded = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(number_from_text),
    PlainSerializer(number_for_json, when_used="json"),
]
"""A number that may be infinite."""


class Config(BaseModel):
    """One group of settings.

    Unknown keys, wrong types, NaN and infinities are refused; instances cannot be changed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def digest(*configs: Config | dict[str, Any]) -> str:
    """Name settings by content: 16 hex digits of the SHA-256 of their canonical JSON."""
    plain = [s.model_dump(mode="json") if isinstance(s, Config) else s for s in configs]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
