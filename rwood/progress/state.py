"""What a running study tells, kept until somebody asks how far it is."""

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rwood.config.study import StudyConfig
from rwood.progress.eta import reruns_left, trials_left
from rwood.progress.status import Running, Status
from rwood.results import EpochReport, TrialResult
from rwood.selection import pareto_front, select_champion, values_of

TRAINS = ("finals", "benchmark")
"""Stages that train settings over seeds."""
_KEPT = 60
"""Values of a curve that are handed on at most."""
_OVER = 64
"""Trials that are over and kept to tell the pace; all of them are counted."""


@dataclass
class StudyState:
    """The trials and reruns of a study that runs.

    Of what is over little is kept: an epoch costs the same in the first trial and the thousandth.
    """

    study: StudyConfig
    stage: str = ""
    live: dict[int, TrialResult] = field(default_factory=dict)
    """Trials that run."""
    over: deque[TrialResult] = field(default_factory=lambda: deque(maxlen=_OVER))
    """The last trials that are over."""
    states: Counter[str] = field(default_factory=Counter)
    """State -> trials that are over."""
    front: list[TrialResult] = field(default_factory=list)
    """Complete trials that none dominates so far."""
    reruns: dict[str, tuple[EpochReport, ...]] = field(default_factory=dict)
    """Reruns of this start -> what they reported; empty for one that waits."""
    epochs: dict[str, int] = field(default_factory=dict)
    """Rerun -> how many epochs it has, once it said so: a search may choose them."""
    trained_at: dict[str, float] = field(default_factory=dict)
    """Reruns whose training is over, not yet measured -> when that was (`time.monotonic`)."""

    def begin(self, known: Iterable[TrialResult]) -> None:
        """Take note of what earlier starts did."""
        self.live, self.states, self.front = {}, Counter(), []
        self.over.clear()
        for trial in known:
            self.see(trial)

    def see(self, trial: TrialResult) -> None:
        """Take note of a trial: any number of times while it runs, once when it is over."""
        if trial.outside:
            return
        if trial.state == "running":
            self.live[trial.number] = trial
            return
        self.live.pop(trial.number, None)
        self.states[trial.state] += 1
        self.over.append(trial)
        if trial.state == "complete" and self.study.search is not None:
            self.front = pareto_front([*self.front, trial], self.study.search.objectives)

    def wait_for(self, reruns: Iterable[str]) -> None:
        """Take note of the trainings of a stage, none of which has begun."""
        self.reruns, self.trained_at = {name: () for name in reruns}, {}

    def hear(self, name: str, report: EpochReport, epochs: int) -> None:
        """Take note of a rerun's epoch; one that is told again after a crash counts once."""
        kept = tuple(r for r in self.reruns.get(name, ()) if r.epoch < report.epoch)
        self.reruns[name], self.epochs[name] = (*kept, report), epochs
        if self._is_trained(name):
            self.trained_at.setdefault(name, time.monotonic())

    @property
    def closed(self) -> int:
        """Trials that are over."""
        return self.states.total()

    @property
    def trained(self) -> int:
        """Reruns of this start whose training is over."""
        return sum(map(self._is_trained, self.reruns))

    def best(self) -> TrialResult | None:
        """The trial that would be the champion now."""
        if not self.front or self.study.search is None:
            return None
        return select_champion(self.front, self.study.search.objectives)

    def seconds_left(self) -> float | None:
        """Of the stage; None before anything told a pace."""
        trials = [*self.over, *self.live.values()]
        if self.stage == "search" and self.study.search is not None:
            return trials_left(self.study, trials, begun=self.closed + len(self.live))
        if self.stage in TRAINS and self.reruns:
            return reruns_left(self.study, self.reruns, trials, self.epochs)
        return None

    def status(self) -> Status:
        """How far the study is."""
        search, best = self.study.search, self.best()
        return Status(
            study=self.study.name,
            stage=self.stage,
            working=True,
            trials={"running": len(self.live)}
            | {state: self.states[state] for state in ("complete", "pruned", "failed")},
            trials_wanted=search.trials if search else 0,
            best=values_of(best, search.objectives) if search and best else {},
            best_trial=best.number if best else None,
            best_params=best.params if best else {},
            reruns=self.trained,
            reruns_wanted=len(self.reruns),
            running=tuple(self._running()),
            images_per_s=self._sum("sys/images_per_s"),
            gpu_memory_gb=self._sum("sys/gpu_memory_gb") or None,
            seconds_left=self.seconds_left(),
            at=time.time(),
        )  # fmt: skip

    def _is_trained(self, name: str) -> bool:
        history = self.reruns[name]
        return bool(history) and history[-1].epoch >= self.epochs[name]

    def _histories(self) -> dict[str, tuple[EpochReport, ...]]:
        """Trainings that run, by name."""
        if self.stage in TRAINS:
            return {n: h for n, h in self.reruns.items() if h and not self._is_trained(n)}
        return {f"trial {n}": trial.history for n, trial in sorted(self.live.items())}

    def epochs_of(self, name: str) -> int:
        """How many epochs a rerun or `trial 7` has."""
        trials = {f"trial {n}": trial.params.get("epochs") for n, trial in self.live.items()}
        return int(self.epochs.get(name) or trials.get(name) or self.study.run.epochs)

    def _running(self) -> Iterable[Running]:
        search = self.study.search
        searching = self.stage not in TRAINS
        measures = search.objectives if search and searching else ("train/loss",)
        for name, history in self._histories().items():
            measured = [r.metrics for r in history if measures[0] in r.metrics]
            epoch = history[-1].epoch if history else 0
            values = {measure: measured[-1][measure] for measure in measures} if measured else {}
            curve = tuple(metrics[measures[0]] for metrics in measured[-_KEPT:])
            yield Running(name, epoch, self.epochs_of(name), values, curve)
        for name, since in self.trained_at.items():
            epochs = self.epochs_of(name)
            yield Running(name, epochs, epochs, scoring_s=time.monotonic() - since)

    def _sum(self, metric: str) -> float:
        """A metric over the last epochs of what runs, added up."""
        last = (history[-1].metrics for history in self._histories().values() if history)
        return sum(metrics.get(metric, 0.0) for metrics in last)
