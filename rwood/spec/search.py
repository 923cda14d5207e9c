"""What a study searches: ranges of dotted run settings, and how they are applied to a run."""

import itertools
import json
import math
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
    """Asynchronous successive halving: weak trials stop at rungs grace, grace x eta, ...

    With several objectives a trial is weak if more than one in eta of its peers dominate it.
    """

    grace_epochs: int = Field(default=1, ge=1)
    """Epochs that every trial gets."""
    reduction: int = Field(default=3, ge=2)
    """eta: one in eta trials passes a rung."""


class SearchSpec(Spec):
    """The search of a study."""

    trials: int = Field(ge=1)
    """How many trials in all; raise it and run again to extend a study."""
    objective: str | tuple[str, ...]
    """Metric of the validation sets to optimise, e.g. `val/auroc`; FPR@95 is minimised.

    Of several, the champion is the trial of the Pareto front that is nearest to the best of each.
    """
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Trainings of a trial, epoch by epoch side by side; its metrics are their means.

    Empty: one, with the seed of the run.
    """
    space: dict[str, Domain] = Field(min_length=1)
    """Dotted run settings and their ranges."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """`tpe`: multivariate tree-structured Parzen estimator; `grid`: all choices, in order."""
    startup_trials: int = Field(default=8, ge=1)
    """Random trials before `tpe` starts to learn."""
    seed: int = Field(default=0, ge=0)
    """Seeds the sampler."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """null: every trial runs to its end."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """All of them."""
        return (self.objective,) if isinstance(self.objective, str) else self.objective

    @property
    def primary(self) -> str:
        """The first objective: the one to show where there is room for one."""
        return self.objectives[0]

    @model_validator(mode="after")
    def _consistent(self) -> "SearchSpec":
        if not self.objectives:
            raise ValueError("objective: name at least one metric")
        for field, values in (("objective", self.objectives), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{field}: one of {list(values)} is named twice")
        if self.seeds and "seed" in self.space:
            raise ValueError("space.seed: seeds are repeated by search.seeds, not searched")
        if self.sampler == "grid":
            ranges = [key for key, d in self.space.items() if not isinstance(d, Choices)]
            if ranges:
                raise ValueError(f"space.{ranges[0]}: a grid needs choices, not a range")
            points = math.prod(
                len(d.choices) for d in self.space.values() if isinstance(d, Choices)
            )
            if self.trials > points:
                raise ValueError(f"trials: the grid has {points} points, not {self.trials}")
        return self


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


def grid(run: RunSpec, space: dict[str, Range | Choices]) -> list[Params]:
    """Every combination of choices in the file's order, the base run's own before all others."""
    lists = [d.choices for d in space.values() if isinstance(d, Choices)]
    points: list[Params] = [
        dict(zip(space, point, strict=True)) for point in itertools.product(*lists)
    ]
    base = {key: setting(run, key) for key in space}
    return sorted(points, key=lambda point: point != base)


def contains(domain: Range | Choices, value: Any) -> bool:
    """Whether a value may be proposed."""
    if isinstance(domain, Choices):
        return value in domain.choices
    return bool(domain.low <= value <= domain.high)
