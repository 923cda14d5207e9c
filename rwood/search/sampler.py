"""The sampler of one trial: any of Optuna's, which keeps what it knows in Optuna's study."""

import warnings
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from rwood.config.branches import branch, branches, deciding, hyperparameters_of
from rwood.config.run import RunConfig
from rwood.config.search import SearchConfig
from rwood.search.classes import make

_SEQUENCES = ("QMCSampler",)
"""Samplers whose seed names one sequence for the whole study."""


def build_sampler(run: RunConfig, search: SearchConfig, number: int) -> BaseSampler:
    """The sampler for one trial, seeded by the study and the trial's number.

    Made anew for each trial, so that a study which goes on draws what it would have drawn, and does
    not repeat its first proposals.

    Raises:
        SpecError: no such sampler or argument.
    """
    if search.is_grid:  # Its points are enqueued, in order.
        return RandomSampler(seed=search.seed)
    shift = 0 if search.sampler.name in _SEQUENCES else number
    seed = (search.seed * 1_000_003 + shift) % 2**32
    defaults: dict[str, Any] = {"seed": seed, "warn_independent_sampling": False}
    if search.sampler.name == "tpe":
        defaults |= {"multivariate": True, "constant_liar": True, "n_startup_trials": 8}
    quiet = {"warn_asynchronous_seeding": False}
    made: BaseSampler = make("sampler", search.sampler, defaults | quiet)
    if search.sampler.name != "tpe" or not deciding(search.space):
        return made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls multivariate TPE experimental.
        return Branching(run, search, **{"group": True, **defaults, **search.sampler.arguments})


class Branching(TPESampler):  # type: ignore[misc]
    """TPE over several losses, scorers or backbones: a trial has the settings of its own only.

    Settings of one loss are learned together, from the trials that have them. Optuna draws those of
    every loss, and takes a running trial for one of each loss; of a trial that was taken up again
    it knows only what the trial has. Here it never knows more than that.
    """

    def __init__(self, run: RunConfig, search: SearchConfig, **settings: Any) -> None:
        """Keep the run and the space."""
        super().__init__(**settings)
        self._run, self._space = run, search.space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What all branches have, the names among it; then what else the drawn one has."""
        every = [
            hyperparameters_of(under, self._space) for under in branches(self._run, self._space)
        ]
        common = {k: d for k, d in search_space.items() if all(k in domains for domains in every)}
        drawn: dict[str, Any] = super().sample_relative(study, trial, common)
        under = branch(self._run, self._space, trial.params | drawn)
        domains = hyperparameters_of(under, search_space)
        rest = {key: domain for key, domain in domains.items() if key not in common}
        drawn |= super().sample_relative(study, trial, rest)
        return drawn
