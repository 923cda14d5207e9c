"""What a study searches: ranges of dotted run settings, and how they are applied to a run."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from rwood.spec.base import Spec, number_from_text
from rwood.spec.run import RunSpec

Value = float | int | str | bool
Params = dict[str, Value]
"""Dotted run settings by value, e.g. `{"loss.temperature": 0.07}`."""

_Bound = Annotated[int | float, BeforeValidator(number_from_text)]


class Range(Spec):
    """An interval, both ends included."""

    low: _Bound
    """Least value."""
    high: _Bound
    """Largest value."""
    log: bool = False
    """Search the logarithm."""

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range needs low > 0, got {self.low}")
        return self


class Choices(Spec):
    """A finite set of values."""

    choices: tuple[bool | int | float | str, ...] = Field(min_length=1)
    """Values to choose from."""


def _kind_of_domain(value: Any) -> str:
    """Which of the two a mapping was meant to be, so that an error speaks of that one."""
    chosen = isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value)
    return "Choices" if chosen else "Range"


Domain = Annotated[
    Annotated[Range, Tag("Range")] | Annotated[Choices, Tag("Choices")],
    Discriminator(_kind_of_domain),
]


class EarlyStopping(Spec):
    """Asynchronous successive halving: weak trials stop at rungs grace, grace x eta, ..."""

    grace_epochs: int = Field(default=1, ge=1)
    """Epochs that every trial gets."""
    reduction: int = Field(default=3, ge=2)
    """eta: one in eta trials passes a rung."""


class SearchSpec(Spec):
    """The search of a study."""

    trials: int = Field(ge=1)
    """How many trials in all; raise it and run again to extend a study."""
    objective: str
    """Metric of the validation sets to optimise, e.g. `val/auroc`; FPR@95 is minimised."""
    space: dict[str, Domain] = Field(min_length=1)
    """Dotted run settings and their ranges."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: multivariate tree-structured Parzen estimator."""
    startup_trials: int = Field(default=8, ge=1)
    """Random trials before `tpe` starts to learn."""
    seed: int = Field(default=0, ge=0)
    """Seeds the sampler."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """null: every trial runs to its end."""


def setting(run: RunSpec, key: str) -> Any:
    """Value of a dotted setting.

    Raises:
        KeyError: the run has no such setting.
    """
    node: Any = run
    for part in key.split("."):
        if not isinstance(node, Spec) or part not in type(node).model_fields:
            raise KeyError(key)
        node = getattr(node, part)
    return node


def settings(run: Spec, prefix: str = "") -> dict[str, Any]:
    """Every dotted setting of a run with its value."""
    flat: dict[str, Any] = {}
    for name in type(run).model_fields:
        value = getattr(run, name)
        if isinstance(value, Spec):
            flat |= settings(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def apply(run: RunSpec, params: Params) -> RunSpec:
    """The run with some settings replaced, validated again.

    Raises:
        KeyError: a key is not a setting of the run.
        pydantic.ValidationError: a value is not allowed there.
    """
    plain = run.model_dump(mode="json")
    for key, value in params.items():
        setting(run, key)
        *parents, leaf = key.split(".")
        node = plain
        for part in parents:
            node = node[part]
        node[leaf] = value
    return RunSpec.model_validate_json(json.dumps(plain))


def check_space(run: RunSpec, space: dict[str, Range | Choices]) -> None:
    """Try every end of every range on the run.

    Raises:
        KeyError: a key is not a setting of the run.
        pydantic.ValidationError: an end of a range is not allowed there.
    """
    for key, domain in space.items():
        ends = domain.choices if isinstance(domain, Choices) else (domain.low, domain.high)
        for value in ends:
            apply(run, {key: value})


def contains(domain: Range | Choices, value: Any) -> bool:
    """Whether a value may be proposed."""
    if isinstance(domain, Choices):
        return value in domain.choices
    return bool(domain.low <= value <= domain.high)
