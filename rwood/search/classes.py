"""Optuna's classes by name: found, their arguments checked, made."""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from rwood.config.optuna_classes import SHORT_FORMS, OptunaClass
from rwood.errors import SpecError
from rwood.text import did_you_mean

_MODULES = {"sampler": optuna.samplers, "pruner": optuna.pruners}
_BASES = {"sampler": optuna.samplers.BaseSampler, "pruner": optuna.pruners.BasePruner}
_HUB = {"AutoSampler": "samplers/auto_sampler"}
"""Class of OptunaHub -> the package there."""

_UNUSABLE = ("PartialFixedSampler", "BruteForceSampler")
"""Made around an object, or ended from within Optuna's own loop, which does not run here."""


def find_class(kind: str, wanted: OptunaClass) -> Any:
    """The class of a sampler or pruner, its arguments checked against its signature.

    Raises:
        SpecError: no such class, or no such argument; with the nearest right one. A `seed` too,
            with which every trial, whose sampler is made anew, would be the same.
    """
    name = SHORT_FORMS.get(wanted.name, wanted.name)
    cls = _from_hub(kind, name) if name in _HUB else getattr(_MODULES[kind], name, None)
    if not _is_usable(kind, cls):
        names = class_names(kind)
        raise SpecError(
            f"search.{kind}.name: Optuna has no {kind} {wanted.name}; "
            f"{_allowed(wanted.name, names)}",
            key=f"search.{kind}.name",
            got=wanted.name,
            allowed=names,
        )
    allowed = argument_names(cls)
    for argument in wanted.arguments:
        if argument == "seed" and argument in allowed:
            raise SpecError(
                f"search.{kind}.seed: the search is seeded by search.seed alone, trial by trial",
                key=f"search.{kind}.seed",
            )
        if argument not in allowed:
            raise SpecError(
                f"search.{kind}.{argument}: {name} has no such argument; "
                f"{_allowed(argument, allowed)}",
                key=f"search.{kind}.{argument}",
                allowed=allowed,
            )
    return cls


def make(kind: str, wanted: OptunaClass, defaults: Mapping[str, Any]) -> Any:
    """An object of a class of Optuna.

    Args:
        kind: `sampler` or `pruner`.
        wanted: its name and arguments.
        defaults: arguments that those override; one that the class lacks is left out.

    Raises:
        SpecError: no such class or argument, or the class refuses a value.
    """
    cls = find_class(kind, wanted)
    allowed = argument_names(cls)
    arguments = {key: value for key, value in defaults.items() if key in allowed}
    for key, value in wanted.arguments.items():
        nested = isinstance(value, dict) and "name" in value  # e.g. what a PatientPruner wraps
        arguments[key] = make(kind, OptunaClass(**value), defaults) if nested else value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls much that is old experimental.
            return cls(**arguments)
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise SpecError(f"search.{kind}: {cls.__name__}: {text}", key=f"search.{kind}") from error
    except ImportError as error:
        raise SpecError(
            f"search.{kind}: {cls.__name__} needs a package that is not installed: {error.name}; "
            f"pip install {error.name}",
            key=f"search.{kind}",
        ) from error


def class_names(kind: str) -> list[str]:
    """Every name that may stand for a sampler or pruner, short forms first."""
    module = _MODULES[kind]
    names = [n for n in dir(module) if _is_usable(kind, getattr(module, n))]
    short = [n for n, name in SHORT_FORMS.items() if name in names]
    return short + names + (list(_HUB) if kind == "sampler" else [])


def argument_names(cls: Any) -> list[str]:
    """Arguments that may be written in a file: what can be said in YAML."""
    return [n for n in inspect.signature(cls).parameters if n not in ("self", "search_space")]


def _is_usable(kind: str, cls: Any) -> bool:
    if not isinstance(cls, type) or not issubclass(cls, _BASES[kind]):
        return False
    return not inspect.isabstract(cls) and cls.__name__ not in _UNUSABLE


def _from_hub(kind: str, name: str) -> Any:
    try:
        import optunahub
    except ImportError:
        raise SpecError(
            f"search.{kind}.name: {name} comes from OptunaHub: pip install optunahub",
            key=f"search.{kind}.name",
        ) from None
    return getattr(optunahub.load_module(_HUB[name]), name)


def _allowed(wanted: str, names: list[str]) -> str:
    return did_you_mean(wanted, names, f"there are {', '.join(names)}")
