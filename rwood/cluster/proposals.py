"""Optuna proposes the trials, in an order and from a history that do not depend on timing."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from rwood.cluster.ledger import Ledger
from rwood.results import TrialResult
from rwood.spec.run import RunSpec
from rwood.spec.search import Choices, Range, SearchSpec, setting
from rwood.spec.study import is_minimized

OPTUNA_FILE = "optuna.journal"
_FINISHED: str = Searcher.FINISHED


class Proposals(OptunaSearch):  # type: ignore[misc]
    """An OptunaSearch that can be stopped and taken up again without a trace.

    Differs from its parent: a sampler is seeded by the trial's number, so that a continued study
    does not repeat its first proposals; open trials are handed out first; results are told in the
    order of numbers. The study that the sampler sees lives in memory and is replayed from the
    ledger; finished trials are appended to a journal that optuna-dashboard opens.

    Args:
        ledger: trials so far.
        journal: Optuna's storage file.
    """

    def __init__(self, ledger: Ledger, journal: Path) -> None:
        """Replay the ledger."""
        search = ledger.study.search
        assert search is not None
        self._ledger = ledger
        self._search = search
        minimized = is_minimized(search.objective)
        super().__init__(
            space=distributions(ledger.study.run, search),
            metric=search.objective,
            mode="min" if minimized else "max",
            study_name=ledger.study.name,
        )
        self._durable = open_journal(journal, ledger.study.name, minimized=minimized)
        self._told = 0
        self._asked: list[optuna.Trial] = []
        self._numbers: dict[str, int] = {}
        self._reopened = [t.number for t in ledger.trials.values() if t.state == "running"]
        for trial in list(ledger.trials.values()):
            self._tell_until(trial.number)
            self._ot_study.enqueue_trial(trial.params)
            self._ask(trial.number)

    @property
    def exhausted(self) -> bool:
        """Too many trials failed to go on."""
        failed = sum(t.state == "failed" for t in self._ledger.trials.values())
        return failed >= self._ledger.study.cluster.max_failures

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None while it depends on an open one."""
        if self.exhausted:
            return _FINISHED
        if self._reopened:
            number = self._reopened.pop(0)
        else:
            number = len(self._ledger.trials)
            if number >= self._search.trials:
                return _FINISHED
            if self._ledger.settled_before(number) is None:
                return None
            self._tell_until(number)
            if number == 0:
                run = self._ledger.study.run
                self._ot_study.enqueue_trial({key: setting(run, key) for key in self._space})
            self._ledger.open(number, self._ask(number))
        self._numbers[trial_id] = number
        return {"number": number, "params": self._ledger.trials[number].params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler keeps the ledger."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Close the trial if neither the scheduler nor the worker has."""
        number = self._numbers[trial_id]
        trial = self._ledger.trials[number]
        if trial.state != "running":
            return
        if len(trial.history) == self._ledger.study.run.epochs and not error:
            self._ledger.close(number, "complete")
        else:
            self._ledger.close(number, "failed", "its worker died more often than cluster.retries")

    def finish(self) -> None:
        """Tell what is closed but was not needed for a proposal yet."""
        self._tell_until(len(self._ledger.trials) + self._ledger.window)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is durable, and Tune's snapshot is not used."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason; Tune pickles its searcher at every start."""
        return {}

    def _ask(self, number: int) -> dict[str, Any]:
        self._ot_study.sampler = sampler(self._search, number)
        trial = self._ot_study.ask(fixed_distributions=self._space)
        assert trial.number == number
        self._asked.append(trial)
        return dict(trial.params)

    def _tell_until(self, number: int) -> None:
        """Tell trials `0 .. number - window`, in order."""
        end = min(number - self._ledger.window + 1, len(self._asked))
        while self._told < end:
            closed = self._ledger.trials[self._told]
            if closed.state == "running":
                return
            self._tell(self._asked[self._told], closed)
            self._told += 1

    def _tell(self, trial: optuna.Trial, closed: TrialResult) -> None:
        objective = self._search.objective
        for report in closed.history:
            if objective in report.metrics:
                trial.report(report.metrics[objective], report.epoch)
        state = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
        self._ot_study.tell(trial, closed.objective, state=state.get(closed.state, TrialState.FAIL))
        if closed.number >= len(self._durable.get_trials(deepcopy=False)):
            self._durable.add_trial(self._ot_study.trials[closed.number])


def distributions(run: RunSpec, search: SearchSpec) -> dict[str, BaseDistribution]:
    """Optuna's form of the search space; a setting that is an integer stays one."""
    return {key: _distribution(setting(run, key), domain) for key, domain in search.space.items()}


def sampler(search: SearchSpec, number: int) -> optuna.samplers.BaseSampler:
    """The sampler for one trial: seeded by study and number."""
    seed = search.seed * 1_000_003 + number
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls multivariate TPE experimental.
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            constant_liar=True,
            n_startup_trials=search.startup_trials,
        )


def open_journal(path: Path, name: str, *, minimized: bool) -> optuna.Study:
    """The persistent study: what is finished, for optuna-dashboard and other tools."""
    path.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=name,
        direction="minimize" if minimized else "maximize",
        load_if_exists=True,
    )


def importances(
    run: RunSpec, search: SearchSpec, trials: Iterable[TrialResult]
) -> dict[str, float]:
    """Share of the objective's variance that each knob explains (fANOVA), over complete trials.

    Source: Hutter et al., ICML 2014, as in Optuna. Empty if fewer than four trials are complete or
    all have the same objective.
    """
    complete = [t for t in trials if t.state == "complete" and t.objective is not None]
    if len(complete) < 4 or len({t.objective for t in complete}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    space = distributions(run, search)
    for trial in complete:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params, distributions=space, value=trial.objective
            )
        )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in found.items()}


def _distribution(current: Any, domain: Range | Choices) -> BaseDistribution:
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.choices)
    if isinstance(current, int) and not isinstance(current, bool):
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(float(domain.low), float(domain.high), log=domain.log)
