"""A study's search space as Optuna has it."""

from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rwood.config.branches import branches
from rwood.config.run import RunConfig
from rwood.config.search import Choices, Range, SearchConfig, settings

Space = dict[str, BaseDistribution]
"""Dotted setting -> what it is drawn from."""


def distributions(run: RunConfig, search: SearchConfig) -> Space:
    """Optuna's form of the search space; a setting that is an integer stays one."""
    values = {k: v for branch in branches(run, search.space) for k, v in settings(branch).items()}
    return {key: _distribution(values[key], domain) for key, domain in search.space.items()}


def suggest(trial: optuna.Trial, key: str, domain: BaseDistribution) -> None:
    """Draw one setting of a trial."""
    match domain:
        case CategoricalDistribution():
            trial.suggest_categorical(key, domain.choices)
        case IntDistribution():
            trial.suggest_int(key, domain.low, domain.high, log=domain.log)
        case FloatDistribution():
            trial.suggest_float(key, domain.low, domain.high, log=domain.log)


def _distribution(current: Any, domain: Range | Choices) -> BaseDistribution:
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.choices)
    if isinstance(current, int) and not isinstance(current, bool):
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(float(domain.low), float(domain.high), log=domain.log)
