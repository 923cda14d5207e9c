"""Ways to search, behind one interface: Tune's own, plain Optuna, and (later) rwood.

Each is the real thing, driven event by event; only the trainings are simulated.
"""

import math
import warnings
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
from optuna.distributions import FloatDistribution
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from tests.benchmarks.search_world import EPOCHS, SPACE, Params

GRACE, REDUCTION = 11, 3
DISTRIBUTIONS = {
    key: FloatDistribution(low, high, log=log) for key, (low, high, log) in SPACE.items()
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Method(Protocol):
    """A sampler and a scheduler, as the event loop drives them."""

    def propose(self) -> tuple[int, Params] | None:
        """The next trial's number and setting for a free worker; None if it has to wait."""

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Take a trial's value after an epoch, in the order of arrival; True if it has to stop."""

    def complete(self, trial: int) -> None:
        """Take note that a trial trained all epochs."""

    def completed(self) -> set[int]:
        """The trials that count as trained to the end."""

    def best(self) -> Params:
        """The setting to be chosen if the search ended now."""


class Tune:
    """`OptunaSearch` with `ASHAScheduler`, called as Tune's controller calls them.

    Args:
        seed: of the sampler.
    """

    def __init__(self, seed: int) -> None:
        self._search = OptunaSearch(DISTRIBUTIONS, metric="auroc", mode="max", seed=seed)
        self._scheduler = ASHAScheduler(
            time_attr="training_iteration", metric="auroc", mode="max",
            max_t=EPOCHS, grace_period=GRACE, reduction_factor=REDUCTION,
        )  # fmt: skip
        self._trials: list[Any] = []
        self._last: dict[int, tuple[int, float]] = {}

    def propose(self) -> tuple[int, Params] | None:
        number = len(self._trials)
        config = self._search.suggest(str(number))
        assert config is not None
        self._trials.append(SimpleNamespace(trial_id=str(number), config=config))
        self._scheduler.on_trial_add(None, self._trials[-1])
        return number, config

    def report(self, trial: int, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, "auroc": value}
        self._last[trial] = (epoch, value)
        if (
            self._scheduler.on_trial_result(None, self._trials[trial], result)
            == TrialScheduler.STOP
        ):
            self._scheduler.on_trial_complete(None, self._trials[trial], result)
            self._search.on_trial_complete(str(trial), result)
            return True
        self._search.on_trial_result(str(trial), result)
        return False

    def complete(self, trial: int) -> None:
        """Nothing: at its last epoch the scheduler itself has ended the trial."""

    def completed(self) -> set[int]:
        return {trial for trial, (epoch, _) in self._last.items() if epoch == EPOCHS}

    def best(self) -> Params:
        """The highest last value of all trials: `ResultGrid.get_best_result`'s default."""
        best = max(self._last, key=lambda trial: self._last[trial][1])
        config: Params = self._trials[best].config
        return config


class PlainOptuna:
    """An Optuna study that is asked, told and asked whether to prune, as reports arrive.

    Args:
        seed: of the sampler; each trial adds its number, as a study that is continued must.
        sampler: arguments of TPESampler beyond its seed.
        pruner: the pruner; successive halving with the baseline's rungs if None.
    """

    def __init__(
        self, seed: int, sampler: dict[str, Any] | None = None, pruner: BasePruner | None = None
    ) -> None:
        self._seed, self._sampler = seed, sampler or {}
        self._study = optuna.create_study(
            direction="maximize",
            pruner=pruner
            or SuccessiveHalvingPruner(min_resource=GRACE, reduction_factor=REDUCTION),
        )
        self._open: dict[int, optuna.Trial] = {}

    def propose(self) -> tuple[int, Params] | None:
        number = len(self._study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # group is called experimental
            self._study.sampler = TPESampler(seed=self._seed * 1_000_003 + number, **self._sampler)
        trial = self._study.ask(DISTRIBUTIONS)
        self._open[trial.number] = trial
        return trial.number, trial.params

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """True if pruned; not asked when fewer than 10 % of the epochs are left."""
        self._open[trial].report(value, epoch)
        if EPOCHS - epoch < 0.1 * EPOCHS or not self._open[trial].should_prune():
            return False
        self._study.tell(self._open.pop(trial), state=TrialState.PRUNED)
        return True

    def complete(self, trial: int) -> None:
        stored = self._open.pop(trial)
        last = self._study.get_trials(deepcopy=False)[trial].intermediate_values[EPOCHS]
        self._study.tell(stored, last)

    def completed(self) -> set[int]:
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return {trial.number for trial in trials}

    def best(self) -> Params:
        """The best complete trial; before there is one, the best of those that got furthest."""

        def merit(trial: optuna.trial.FrozenTrial) -> tuple[int, float]:
            last = trial.last_step or 0
            rung = math.floor(math.log(last / GRACE, REDUCTION)) if last >= GRACE else -1
            complete = trial.state == TrialState.COMPLETE
            return (99 if complete else rung), trial.intermediate_values.get(last, -math.inf)

        params: Params = max(self._study.get_trials(deepcopy=False), key=merit).params
        return params


METHODS: dict[str, Any] = {"tune": Tune, "optuna": PlainOptuna}
"""By name, each built from a seed. The place for rwood's own searcher and scheduler."""
