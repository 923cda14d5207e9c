"""What a search may choose under each loss, scorer and backbone it may choose: its branches."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from rwood.config.run import RunConfig
from rwood.config.search import (
    LOSS,
    PARTS,
    Choices,
    Params,
    Range,
    apply,
    parts_among,
    settings,
    values_of,
)

D = TypeVar("D")


def deciding(space: Iterable[str]) -> list[str]:
    """The names in a space on which it depends what else there is to choose.

    A loss is always one: whether there are logits to score depends on it too.
    """
    names = []
    for key, kind in PARTS.items():
        group = f"{key.partition('.')[0]}."
        leaves = [other.removeprefix(group) for other in space if other.startswith(group)]
        if key in space and (key == LOSS or any(leaf not in kind.model_fields for leaf in leaves)):
            names.append(key)
    return names


def branch(run: RunConfig, space: Mapping[str, Range | Choices], params: Params) -> RunConfig:
    """The run under those of its `deciding` names that are among some settings.

    A setting that another loss, say, has no default for has the first value of its range.

    Raises:
        pydantic.ValidationError: there is no such part, or the run cannot be had with it.
    """
    first: Params = {key: values_of(space, key)[0] for key in space if key not in PARTS}
    names = {key: params[key] for key in deciding(space) if key in params}
    present = settings(run)
    others = {key: name for key, name in names.items() if name != present[key]}
    return apply(run, names | parts_among(first | others))


def branches(run: RunConfig, space: Mapping[str, Range | Choices]) -> list[RunConfig]:
    """The run under all that a space has for its `deciding` names, its own first.

    Raises:
        pydantic.ValidationError: there is no such loss, or the run cannot be had with it.
    """
    names = deciding(space)
    points = itertools.product(*(values_of(space, key) for key in names))
    under = [branch(run, space, dict(zip(names, point, strict=True))) for point in points]
    return sorted(under, key=lambda other: other != run)


def hyperparameters_of(run: RunConfig, space: Mapping[str, D]) -> dict[str, D]:
    """The part of a space that a run has: what only other losses, say, have is left out.

    The names on which the rest depends come first.
    """
    present, names = settings(run), deciding(space)
    keys = sorted((key for key in space if key in present), key=lambda key: key not in names)
    return {key: space[key] for key in keys}


def params_of(run: RunConfig, space: Mapping[str, Any]) -> Params:
    """What a run has for every setting of a space that it has."""
    present = settings(run)
    return {key: present[key] for key in hyperparameters_of(run, space)}


def check_range(run: RunConfig, space: Mapping[str, Range | Choices], key: str) -> None:
    """Try every end of a setting's range on the run, in every branch that has the setting.

    Raises:
        KeyError: the key is a setting of the run in no branch of the space.
        pydantic.ValidationError: an end of the range is not allowed there.
    """
    having = [under for under in branches(run, space) if key in settings(under)]
    if not having:
        raise KeyError(key)
    for under in having if key not in deciding(space) else ():
        for value in values_of(space, key):
            apply(under, {key: value})


def grid(run: RunConfig, space: dict[str, Range | Choices]) -> list[Params]:
    """Every combination of choices in the file's order, the base run's own before all others."""
    points: list[Params] = []
    names = {key: space[key] for key in deciding(space)}
    for under in branches(run, space):
        domains = hyperparameters_of(under, space)
        lists = [d.choices for d in domains.values() if isinstance(d, Choices)]
        some = [dict(zip(domains, point, strict=True)) for point in itertools.product(*lists)]
        points += [point for point in some if point.items() >= params_of(under, names).items()]
    base = params_of(run, space)
    return sorted(points, key=lambda point: point != base)
