"""The trials of a search: proposed, judged and ended in Optuna's study, the moment they report.

Optuna's study is the truth of a search: it holds every proposal, every value that a pruner saw and
every end, in the order in which they happened. The metrics of each epoch are in the trial's folder,
in the checkpoint while it runs and in `epochs.json` once it has ended.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from rwood.config.branches import branch, deciding, grid, hyperparameters_of, params_of
from rwood.config.run import RunConfig
from rwood.config.search import Params, apply
from rwood.config.study import StudyConfig
from rwood.errors import StorageError
from rwood.paths import StudyPaths
from rwood.results import EpochReport, FailureKind, TrialResult
from rwood.search.generations import OUTSIDE
from rwood.search.journal import StudyStorage
from rwood.search.pruner import is_judged, pruner_value
from rwood.search.read_trials import ERROR, KIND, result_of, save_history
from rwood.search.sampler import build_sampler
from rwood.search.space import Space, distributions, suggest
from rwood.training import checkpoint


@dataclass
class _Running:
    """A trial that trains."""

    run: RunConfig
    trial: Trial
    judged: Trial
    """The same trial in the study that the pruner sees."""
    known: frozenset[int]
    """Epochs that the pruner saw in an earlier start."""
    begun: TrialResult
    """The trial as it began, without epochs."""
    history: list[EpochReport] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Of the trial."""
        return int(self.trial.number)


class Trials:
    """The trials of a search that goes on; `search` in `tuner` opens them.

    Of several objectives the pruner sees a study of its own, `pruning`; else it is `main`.
    """

    def __init__(
        self,
        study: StudyConfig,
        folder: Path,
        store: StudyStorage,
        main: optuna.Study,
        pruning: optuna.Study,
        on_change: Callable[[TrialResult], None],
    ) -> None:
        """Take up what was running."""
        self.study, self.search = study, study.the_search
        self._folder, self._store = folder, store
        self._main, self._pruning, self._on_change = main, pruning, on_change
        self._space = distributions(study.run, study.the_search)
        self._running: dict[int, _Running] = {}
        trials = main.get_trials(deepcopy=False)
        self.begun = sum(OUTSIDE not in trial.user_attrs for trial in trials)
        """Trials in the present space, those that run included."""
        self.interrupted = [t.number for t in trials if t.state == TrialState.RUNNING]
        """Trials that an earlier start left running: they come before new ones."""
        self.failures = 0
        """Trials that failed in this start."""
        self.last_error = ""
        """Why the last one did."""
        self._pruned: list[int] = []
        self.halted: StorageError | None = None
        """Why nothing more is recorded: the trials that run are taken up by the next start."""

    @property
    def are_left(self) -> bool:
        """True if there are trials to start."""
        return bool(self.interrupted) or self.begun < self.search.trials

    def next(self) -> int | None:
        """Number of the trial to start now; None if none is left.

        Raises:
            StorageError: the storage cannot be written; the search is halted.
        """
        if self.interrupted:
            return self._take_up(self.interrupted.pop(0))
        if not self.are_left:
            return None
        number = self._propose()
        self.begun += 1
        return number

    def params(self, number: int) -> Params:
        """Settings of a trial that runs."""
        return dict(self._running[number].trial.params)

    def folder(self, number: int) -> Path:
        """Where a trial keeps its checkpoints."""
        return StudyPaths(self._folder).trial(number).folder

    def is_running(self, number: int) -> bool:
        """True until a trial has ended."""
        return number in self._running

    def report(self, number: int, report: EpochReport) -> bool:
        """Record an epoch and judge the trial at once.

        An epoch that is known is ignored: a resumed worker reports its past again.

        Returns:
            True if the trial is to be stopped: it was pruned, or had ended before.
        """
        running = self._running.get(number)
        if running is None:
            return True
        if self.halted is not None or report.epoch <= len(running.history):
            return False
        running.history.append(report)
        with self._recorded(running):
            self._judge(running, report)
        if self.halted is not None:
            return False
        if number in self._running:
            history = tuple(running.history)
            self._on_change(running.begun.model_copy(update={"history": history}))
            return False
        return report.epoch < running.run.epochs

    def fail(self, number: int, error: str, kind: FailureKind) -> None:
        """Record that a trial failed, unless it has ended."""
        running = self._running.get(number)
        if running is None or self.halted is not None:
            return
        with self._recorded(running):
            self._fail(running, error, kind)

    def halt(self, error: StorageError) -> None:
        """Record nothing more: the next start goes on from what is on disk."""
        self.halted = self.halted or error

    @contextmanager
    def _recorded(self, running: _Running) -> Iterator[None]:
        """One write; if the trial has ended, that is told once the storage has it."""
        try:
            with self._store.batch():
                yield
        except StorageError as error:
            self.halt(error)
            return
        if running.number not in self._running:
            self._on_change(result_of(self._frozen(running.number), self.study, running.history))

    def _propose(self) -> int:
        number = len(self._main.get_trials(deepcopy=False))
        with self._store.batch():
            first = self._fixed(number)
            if first is not None:
                self._main.enqueue_trial(first)
            self._main.sampler = build_sampler(self.study.run, self.search, number)
            trial = self._main.ask()
            drawn = self._suggest(trial)
            judged = trial
            if self._pruning is not self._main:
                self._pruning.sampler = RandomSampler(seed=0)
                self._pruning.enqueue_trial(trial.params)
                judged = self._pruning.ask(fixed_distributions=drawn)
        self._start(trial, judged, frozenset())
        return number

    def _fixed(self, number: int) -> Params | None:
        """Settings that no sampler draws: the base run's come first, and a grid's in order."""
        run = self.study.run
        if self.search.is_grid:
            points = grid(run, self.search.space)
            done = [trial.params for trial in self._main.get_trials(deepcopy=False)]
            return next((point for point in points if point not in done), points[0])
        if number > 0:
            return None
        return params_of(run, self._space)

    def _take_up(self, number: int) -> int:
        """Go on with a trial that an earlier start left running; nothing is drawn anew."""
        with self._store.batch():
            trial = _trial_of(self._main, number)
            self._suggest(trial)  # A database may hold a trial half proposed.
            judged = trial if self._pruning is self._main else _trial_of(self._pruning, number)
        known = self._pruning.get_trials(deepcopy=False)[number].intermediate_values
        self._start(trial, judged, frozenset(known))
        return number

    def _suggest(self, trial: Trial) -> Space:
        """Draw what a trial's branch has and the trial has not yet; all that it has then."""
        for key in deciding(self._space):
            suggest(trial, key, self._space[key])
        under = branch(self.study.run, self.search.space, trial.params)
        domains = hyperparameters_of(under, self._space)
        for key, domain in domains.items():
            suggest(trial, key, domain)
        return domains

    def _start(self, trial: Trial, judged: Trial, known: frozenset[int]) -> None:
        run = apply(self.study.run, trial.params)
        begun = result_of(self._frozen(trial.number), self.study, ())
        self._running[trial.number] = _Running(run, trial, judged, known, begun)
        self._on_change(begun)
        self.discard_checkpoints(recent=2 * self.study.cluster.max_concurrent)

    def discard_checkpoints(self, recent: int | None = None) -> None:
        """Delete the checkpoints of trials that were pruned in this start: none goes on.

        The worker of such a trial may write one more before it hears of its end: the `recent` ones
        are looked at again; None looks at all.
        """
        for number in self._pruned[-recent:] if recent else self._pruned:
            checkpoint.discard(self.folder(number))

    def _judge(self, running: _Running, report: EpochReport) -> None:
        """Tell Optuna what it does not know yet; end the trial if it is weak or done."""
        if report.epoch == running.run.epochs:
            self._complete(running, report.metrics)
            return
        value = pruner_value(running.history, running.run, self.search)
        if value is None or report.epoch in running.known:
            return
        running.judged.report(value, report.epoch)
        weak = is_judged(report.epoch, running.run) and running.judged.should_prune()
        # The base run is judged, so that others are compared with it, and is never pruned.
        if weak and running.run != self.study.run:
            self._end(running, TrialState.PRUNED)
            self._pruned.append(running.number)

    def _complete(self, running: _Running, metrics: Mapping[str, float]) -> None:
        values = [metrics.get(name, math.nan) for name in self.search.objectives]
        unusable = [n for n, v in zip(self.search.objectives, values, strict=True)
                    if not math.isfinite(v)]  # fmt: skip
        if unusable:
            error = f"its last epoch reported no finite {unusable[0]}"
            self._fail(running, error, "setting")
            return
        self._end(running, TrialState.COMPLETE, values)

    def _fail(self, running: _Running, error: str, kind: FailureKind) -> None:
        self.failures += 1
        self.last_error = error
        running.trial.set_user_attr(ERROR, error)
        running.trial.set_user_attr(KIND, kind)
        self._end(running, TrialState.FAIL)

    def _end(self, running: _Running, state: TrialState, values: list[float] | None = None) -> None:
        """Keep the trial's epochs, then end it."""
        save_history(self.folder(running.number), running.history)
        # Killed between the two in a database, the next start finds the trial ended.
        self._main.tell(running.trial, values, state=state)
        if running.judged is not running.trial:
            index = self.search.objectives.index(self.search.pruning_metric)
            self._pruning.tell(running.judged, values[index] if values else None, state=state)
        del self._running[running.number]

    def _frozen(self, number: int) -> FrozenTrial:
        """A trial as Optuna has it now."""
        trial: FrozenTrial = self._main.get_trials(deepcopy=False)[number]
        return trial


def _trial_of(study: optuna.Study, number: int) -> Trial:
    """A trial that runs, to report on.

    Optuna hands one out only where it proposes; the id by which it is made anew is private.
    """
    study.sampler = RandomSampler(seed=0)  # asked when a Trial is made, and its answer not used
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
