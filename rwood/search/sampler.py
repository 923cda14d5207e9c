"""Optuna's samplers, so that a proposal depends on its number and on what Optuna's study holds."""

import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from rwood.config.run import RunConfig
from rwood.config.search import LOSS, SearchConfig, apply, branches, knobs_of


def sampler(run: RunConfig, search: SearchConfig, number: int) -> BaseSampler:
    """The sampler for one trial: seeded by study and number.

    Args:
        run: the base run.
        search: how the study searches.
        number: of the trial.
    """
    seed = search.seed * 1_000_003 + number
    if search.sampler != "tpe":  # a grid's points are enqueued
        return RandomSampler(seed=seed)
    settings: dict[str, Any] = {
        "seed": seed,
        "multivariate": True,
        "warn_independent_sampling": False,
        "constant_liar": True,
        "n_startup_trials": search.startup_trials,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls multivariate TPE experimental.
        if LOSS in search.space:
            return OneLoss(run, search, group=True, **settings)
        return TPESampler(**settings)


class OneLoss(TPESampler):  # type: ignore[misc]
    """TPE over several losses, each trial with the settings of its own loss and no other.

    Settings of one loss are learned together, from the trials that have them. Optuna draws those of
    every loss, and takes a running trial for one of each loss; of a trial that was taken up again
    it knows only what the trial has. Here it never knows more than that.

    Args:
        run: the base run.
        search: whose space has a choice of losses.
        settings: TPESampler's own.
    """

    def __init__(self, run: RunConfig, search: SearchConfig, **settings: Any) -> None:
        """Keep the run and the space."""
        super().__init__(**settings)
        self._run, self._space = run, search.space

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """What all losses have, the loss among it; then what else the drawn loss has."""
        every = [knobs_of(branch, self._space) for branch in branches(self._run, self._space)]
        common = {k: d for k, d in search_space.items() if all(k in own for own in every)}
        drawn: dict[str, Any] = super().sample_relative(study, trial, common)
        name = drawn.get(LOSS) or trial.params.get(LOSS)
        if name is None:  # too few trials to learn from
            return drawn
        own = knobs_of(apply(self._run, {LOSS: name}), search_space)
        rest = {key: domain for key, domain in own.items() if key not in common}
        drawn |= super().sample_relative(study, trial, rest)
        return drawn
