"""What a study searches: ranges of dotted run settings, and how they are applied to a run."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from rwood.config.backbones import ModelConfig, model_kind
from rwood.config.base import Config, Seed, Seeds, distinct, number_from_text
from rwood.config.losses import LossConfig, loss_kind
from rwood.config.optuna_classes import PrunerConfig, SamplerConfig, named_alone
from rwood.config.registry import PartConfig
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig, scorer_kind

Value = float | int | str | bool
Params = dict[str, Value]
"""Dotted run settings by value, e.g. `{"loss.temperature": 0.07}`."""
LOSS, SCORER, BACKBONE = "loss.name", "scorer.name", "model.backbone"
PARTS: Mapping[str, type[PartConfig]] = {
    LOSS: LossConfig,
    SCORER: ScorerConfig,
    BACKBONE: ModelConfig,
}
"""Names on which it depends what other settings there are -> those that are there under each."""
KIND_OF: Mapping[str, Callable[[str], type[PartConfig]]] = {
    LOSS: loss_kind,
    SCORER: scorer_kind,
    BACKBONE: model_kind,
}
"""The same names -> a part's settings by its name; a ValueError if there is no such part."""

_Bound = Annotated[int | float, BeforeValidator(number_from_text)]


def _choice(value: Any) -> Any:
    """A number that is written as `1e-3`; text of another kind may be meant as such."""
    exponent = isinstance(value, str) and re.fullmatch(r"[-+.\d]+[eE][-+]?\d+", value)
    return number_from_text(value) if exponent else value


_Choice = Annotated[bool | int | float | str, BeforeValidator(_choice)]


class Range(Config):
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


class Choices(Config):
    """A finite set of values."""

    choices: tuple[_Choice, ...] = Field(min_length=1)
    """Values to choose from."""


def _kind_of_domain(value: Any) -> str:
    """Which of the two a mapping was meant to be, so that an error speaks of that one."""
    chosen = isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value)
    return "Choices" if chosen else "Range"


Domain = Annotated[
    Annotated[Range, Tag("Range")] | Annotated[Choices, Tag("Choices")],
    Discriminator(_kind_of_domain),
]


def _whole_name(value: Any) -> Any:
    """The metric that `families` is short for; several as a tuple, as a file's list is none."""
    if isinstance(value, list):
        return tuple(map(_whole_name, value))
    return "val/families" if value == "families" else value


class SearchConfig(Config):
    """The search of a study."""

    trials: int = Field(ge=1, le=100_000)
    """How many trials in all; raise it and run again to extend a study."""
    objective: Annotated[str | tuple[str, ...], BeforeValidator(_whole_name)]
    """Metric of the validation sets to optimise, e.g. `val/auroc`; FPR@95 is minimised.

    `families`: the mean over families of sets, see `rwood/evaluation/families.py`.

    Of several, the trials of the Pareto front nearest to the best of each go to the finals, which
    compare the first objective; without finals the nearest one is the champion.
    """
    seeds: Seeds = ()
    """Trainings of a trial, epoch by epoch side by side; its metrics are their means.

    Empty: one, with the seed of the run.
    """
    space: dict[str, Domain] = Field(min_length=1)
    """Dotted run settings and their ranges.

    Where `loss.name`, `scorer.name` or `model.backbone` is among them, a setting that only some of
    its choices have is searched with those.
    """
    sampler: Annotated[SamplerConfig, BeforeValidator(named_alone)] = SamplerConfig(name="tpe")
    """`tpe`: multivariate tree-structured Parzen estimator; `grid`: all choices, in order."""
    seed: Seed = 0
    """Seeds the sampler."""
    pruner: Annotated[PrunerConfig, BeforeValidator(named_alone)] | None = PrunerConfig(name="asha")
    """`asha`: successive halving, trials judged as they report; null: every trial runs to its end.
    """

    @property
    def objectives(self) -> tuple[str, ...]:
        """All of them."""
        return (self.objective,) if isinstance(self.objective, str) else self.objective

    @property
    def primary(self) -> str:
        """The first objective: the one to show where there is room for one."""
        return self.objectives[0]

    @property
    def is_short(self) -> bool:
        """True if Optuna need not be asked whether its classes take the arguments."""
        return self.sampler.is_short and (self.pruner is None or self.pruner.is_short)

    @property
    def is_grid(self) -> bool:
        """Whether all choices are tried, in order."""
        return self.sampler.name in ("grid", "GridSampler")

    @property
    def pruning_metric(self) -> str:
        """The objective that the pruner sees."""
        named = self.pruner.metric if self.pruner is not None else None
        return named or self.primary

    @model_validator(mode="after")
    def _consistent(self) -> "SearchConfig":
        if not self.objectives:
            raise ValueError("objective: name at least one metric")
        distinct(self.objectives, "objective: ")
        if self.seeds and "seed" in self.space:
            raise ValueError("space.seed: seeds are repeated by search.seeds, not searched")
        if self.pruner is not None and self.pruner.metric not in (None, *self.objectives):
            raise ValueError(
                f"pruner.metric: {self.pruner.metric} is none of the objectives: "
                f"{', '.join(self.objectives)}"
            )
        if self.is_grid:
            for argument in self.sampler.arguments:
                raise ValueError(f"sampler.{argument}: a grid has no arguments")
            ranges = [key for key, d in self.space.items() if not isinstance(d, Choices)]
            if ranges:
                raise ValueError(f"space.{ranges[0]}: a grid needs choices, not a range")
        return self


def settings(run: Config, prefix: str = "") -> dict[str, Any]:
    """Every dotted setting of a run with its value, of an enumeration as files have it."""
    flat: dict[str, Any] = {}
    for name in [*type(run).model_fields, *(run.model_extra or {})]:
        value = getattr(run, name)
        if isinstance(value, Config):
            flat |= settings(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value.value if isinstance(value, Enum) else value
    return flat


def apply(run: RunConfig, params: Params) -> RunConfig:
    """The run with some settings replaced, validated again.

    Another loss, scorer or backbone keeps the settings that each of them has, and starts from its
    own defaults in all others: what one calls by a name means nothing to another. So a loss keeps
    none, and a network of timm after another of timm, made by the same function, all.

    Raises:
        KeyError: a key is not a setting of the run.
        pydantic.ValidationError: a value is not allowed there.
    """
    plain: dict[str, Any] = run.model_dump(mode="json")
    present = settings(run)
    others = [key for key in PARTS if params.get(key, present[key]) != present[key]]
    for key in others:
        part, kind = key.partition(".")[0], _kind(key, str(params[key]))
        same = kind.part and kind.part == getattr(run, part).part
        kept = (kind if same else PARTS[key]).model_fields
        plain[part] = {k: v for k, v in plain[part].items() if k in kept}
    if others:  # fill in their defaults, beside all that is known already
        _replace(plain, params, parts_among(params))
        plain = RunConfig.model_validate_json(json.dumps(plain)).model_dump(mode="json")
    if absent := _replace(plain, params):
        raise KeyError(absent[0])
    return RunConfig.model_validate_json(json.dumps(plain))


def _replace(plain: dict[str, Any], params: Params, new: Collection[str] = ()) -> list[str]:
    """Put settings where a plain run has them; add the new, and return those that it has not."""
    absent = []
    for key, value in params.items():
        *parents, leaf = key.split(".")
        node: Any = plain
        for part in parents:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and (leaf in node or key in new):
            node[leaf] = value
        else:
            absent.append(key)
    return absent


def parts_among(params: Params) -> Params:
    """The parts that some settings name, and of their settings those that have no default."""
    return {
        key: params[key]
        for name in PARTS
        if name in params
        for key in (name, *_required(name, str(params[name])))
        if key in params
    }


def _required(key: str, name: str) -> list[str]:
    """The settings that a part has no default for."""
    group, fields = key.partition(".")[0], _kind(key, name).model_fields
    return [f"{group}.{leaf}" for leaf, field in fields.items() if field.is_required()]


def _kind(key: str, name: str) -> type[PartConfig]:
    """The settings of a part; those that each has if there is no such part."""
    try:
        return KIND_OF[key](name)
    except ValueError:  # whoever validates the name says so
        return PARTS[key]


def has(run: RunConfig, key: str) -> bool:
    """Whether a run has a dotted setting."""
    return key in settings(run)


def values_of(space: Mapping[str, Range | Choices], key: str) -> tuple[Value, ...]:
    """All choices of a setting, or both ends of its range; none if it is not searched."""
    domain = space.get(key)
    if isinstance(domain, Range):
        return (domain.low, domain.high)
    return domain.choices if domain else ()


def contains(domain: Range | Choices, value: Any) -> bool:
    """Whether a value may be proposed; a list or null is in no range."""
    if isinstance(domain, Choices):
        return value in domain.choices
    return isinstance(value, int | float) and domain.low <= value <= domain.high
