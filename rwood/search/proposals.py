"""Optuna proposes the trials, in an order and from a history that do not depend on timing."""

from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from rwood.config.run import RunConfig
from rwood.config.search import (
    LOSS,
    Choices,
    Range,
    SearchConfig,
    apply,
    branches,
    grid,
    knobs_of,
    setting,
    settings,
)
from rwood.config.study import is_minimized
from rwood.errors import StorageError
from rwood.search.journal import Journal, finished
from rwood.search.ledger import Ledger
from rwood.search.sampler import sampler

OPTUNA_FILE = "optuna.journal"
_FINISHED: str = Searcher.FINISHED


class Proposals(OptunaSearch):  # type: ignore[misc]
    """An OptunaSearch that can be stopped and taken up again without a trace.

    Differs from its parent: a sampler is seeded by the trial's number, so that a continued study
    does not repeat its first proposals; open trials are handed out first; results are told by
    the ledger's rule. The study that the sampler sees lives in memory and is replayed from the
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
        super().__init__(
            space=distributions(ledger.study.run, search),
            metric=list(search.objectives),
            mode=["min" if is_minimized(name) else "max" for name in search.objectives],
            study_name=ledger.study.name,
        )
        self._grid = grid(ledger.study.run, search.space) if search.sampler == "grid" else []
        self._journal = Journal(journal, ledger.study.name, search.objectives)
        self._untold: dict[int, optuna.Trial] = {}
        self._live: dict[str, int] = {}
        self._reopened = [t.number for t in ledger.trials.values() if t.state == "running"]
        for trial in ledger.trials.values():
            if ledger.is_told(trial.number, len(ledger.trials) - 1):
                self._ot_study.add_trial(self._note(trial.number))
            else:
                self._ot_study.enqueue_trial(trial.params)
                self._ask(trial.number)

    @property
    def exhausted(self) -> bool:
        """Too many trials failed to go on."""
        return self._ledger.failures >= self._ledger.study.cluster.max_failures

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None while it depends on an open one."""
        if self.exhausted or self._ledger.halted:
            return _FINISHED
        if len(self._live) == self._ledger.workers:
            return None
        if self._reopened:
            number = self._reopened.pop(0)
        else:
            number = len(self._ledger.trials)
            if number >= self._search.trials:
                return _FINISHED
            if not self._ledger.may_propose(number):
                return None
            self._tell_for(number)
            if self._grid:
                self._ot_study.enqueue_trial(self._grid[number])
            elif number == 0:
                run = self._ledger.study.run
                own = knobs_of(run, self._space)
                self._ot_study.enqueue_trial({key: setting(run, key) for key in own})
            self._ledger.open(number, self._ask(number))
            if self._ledger.halted:
                return _FINISHED
        self._live[trial_id] = number
        return {
            "number": number,
            "params": self._ledger.trials[number].params,
            "folder": self._ledger.folder(number).resolve(),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler keeps the ledger."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note that its worker is gone, which is a failure unless it had trained to the end."""
        number = self._live.pop(trial_id)
        if error or not self._ledger.is_trained(number):
            self._ledger.fail(number, "its worker died more often than cluster.retries")

    def finish(self) -> None:
        """Tell what is closed but was not needed for a proposal yet."""
        for number in list(self._untold):
            if not self._ledger.halted and self._ledger.trials[number].state != "running":
                self._tell(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is durable, and Tune's snapshot is not used."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason; Tune pickles its searcher at every start."""
        return {}

    def _ask(self, number: int) -> dict[str, Any]:
        self._ot_study.sampler = sampler(self._ledger.study.run, self._search, number)
        run = self._ledger.study.run
        choice = {key: self._space[key] for key in (LOSS,) if key in self._space}
        trial = self._ot_study.ask(fixed_distributions=choice)
        assert trial.number == number
        for key, domain in knobs_of(apply(run, trial.params), self._space).items():
            _suggest(trial, key, domain)
        self._untold[number] = trial
        return dict(trial.params)

    def _tell_for(self, number: int) -> None:
        """Tell what the proposal of a trial depends on."""
        for earlier in list(self._untold):
            if self._ledger.is_told(earlier, number):
                self._tell(earlier)

    def _tell(self, number: int) -> None:
        """Tell how a trial ended."""
        trial, told = self._untold.pop(number), self._note(number)
        for epoch, value in told.intermediate_values.items():
            trial.report(value, epoch)
        complete = told.state == TrialState.COMPLETE
        self._ot_study.tell(trial, told.values if complete else None, state=told.state)

    def _note(self, number: int) -> FrozenTrial:
        """Note in the journal how a trial ended."""
        trial = finished(self._ledger.trials[number], self._search.objectives, self._space)
        try:
            self._journal.add(trial)
        except StorageError as error:
            self._ledger.halt(error)
        return trial


def distributions(run: RunConfig, search: SearchConfig) -> dict[str, BaseDistribution]:
    """Optuna's form of the search space; a setting that is an integer stays one."""
    values = {k: v for branch in branches(run, search.space) for k, v in settings(branch).items()}
    return {key: _distribution(values[key], domain) for key, domain in search.space.items()}


def _suggest(trial: optuna.Trial, key: str, domain: BaseDistribution) -> None:
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
