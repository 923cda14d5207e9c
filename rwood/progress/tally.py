"""What a running study tells, kept until somebody asks how far it is."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from rwood.progress.pace import reruns_left, trials_left
from rwood.progress.status import Running, Status
from rwood.results import EpochReport, TrialResult
from rwood.spec.study import StudySpec, is_minimized

_KEPT = 60
"""Values of a curve that are handed on."""


@dataclass
class Tally:
    """The trials and reruns of a study that runs."""

    study: StudySpec
    stage: str = ""
    trials: dict[int, TrialResult] = field(default_factory=dict)
    reruns: dict[str, tuple[EpochReport, ...]] = field(default_factory=dict)
    """Reruns of this start -> what they reported; empty for one that waits."""

    def begin(self, known: Iterable[TrialResult]) -> None:
        """Take note of what earlier starts did."""
        self.trials = {trial.number: trial for trial in known}

    def see(self, trial: TrialResult) -> None:
        """Take note of a trial."""
        self.trials[trial.number] = trial

    def hear(self, name: str, report: EpochReport) -> None:
        """Take note of a rerun's epoch; one that is told again after a crash counts once."""
        kept = tuple(r for r in self.reruns.get(name, ()) if r.epoch < report.epoch)
        self.reruns[name] = (*kept, report)

    def count(self, state: str) -> int:
        """Trials in a state."""
        return sum(t.state == state for t in self.trials.values())

    @property
    def closed(self) -> int:
        """Trials that are over."""
        return len(self.trials) - self.count("running")

    @property
    def trained(self) -> int:
        """Reruns of this start whose training is over."""
        return sum(self._trained(history) for history in self.reruns.values())

    def best(self) -> TrialResult | None:
        """The complete trial with the best objective so far."""
        complete = [t for t in self.trials.values() if t.objective is not None]
        if not complete or self.study.search is None:
            return None
        sign = 1 if is_minimized(self.study.search.objective) else -1
        return min(complete, key=lambda t: (sign * (t.objective or 0.0), t.number))

    def seconds_left(self) -> float | None:
        """Of the stage; None before anything told a pace."""
        if self.stage == "search" and self.study.search is not None:
            return trials_left(self.study, self.trials.values())
        if self.stage == "benchmark" and self.reruns:
            return reruns_left(self.study, self.reruns, self.trials.values())
        return None

    def status(self) -> Status:
        """How far the study is."""
        search, best = self.study.search, self.best()
        return Status(
            study=self.study.name,
            stage=self.stage,
            working=True,
            trials={state: self.count(state)
                    for state in ("running", "complete", "stopped", "failed")},
            trials_wanted=search.trials if search else 0,
            objective=search.objective if search else None,
            best=best.objective if best else None,
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

    def _trained(self, history: tuple[EpochReport, ...]) -> bool:
        return bool(history) and history[-1].epoch >= self.study.run.epochs

    def _histories(self) -> dict[str, tuple[EpochReport, ...]]:
        """Trainings that run, by name."""
        if self.stage == "benchmark":
            return {n: h for n, h in self.reruns.items() if h and not self._trained(h)}
        open_ = (t for n, t in sorted(self.trials.items()) if t.state == "running")
        return {f"trial {trial.number}": trial.history for trial in open_}

    def _running(self) -> Iterable[Running]:
        search = self.study.search
        measure = "train/loss" if self.stage == "benchmark" or not search else search.objective
        for name, history in self._histories().items():
            values = tuple(r.metrics[measure] for r in history if measure in r.metrics)
            epoch = history[-1].epoch if history else 0
            yield Running(name, epoch, self.study.run.epochs, measure, values[-_KEPT:])

    def _sum(self, metric: str) -> float:
        """A metric over the last epochs of what runs, added up."""
        last = (history[-1].metrics for history in self._histories().values() if history)
        return sum(metrics.get(metric, 0.0) for metrics in last)
