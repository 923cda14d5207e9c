"""What the screen shows while a study runs: a live view on a terminal, plain lines elsewhere."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from rwood.config.study import StudyConfig
from rwood.paths import StudyPaths
from rwood.progress.state import TRAINS, StudyState
from rwood.progress.status import Status, running_lines, save_live
from rwood.results import EpochReport, TrialResult
from rwood.selection import values_of
from rwood.text import count_of, duration

_INDENT = 2
_EVERY_S = 1.0
"""How often the status is left on disk at most."""


class _Screen:
    """What both have in common: they count, and leave the status for `rwood status`."""

    def __init__(self, study: StudyConfig, console: Console, folder: Path | None = None) -> None:
        """Watch a study; without a results folder nothing is left on disk."""
        self._state = StudyState(study)
        self._study = study
        self._console = console
        self._live_file = StudyPaths(folder).live if folder else None
        self._written = self._began = float("-inf")
        self._lock = threading.RLock()

    def stage(self, name: str, detail: str) -> None:
        """A stage begins."""
        with self._lock:
            self._state.stage = name
            self._tell(now=True)

    def known(self, trials: Iterable[TrialResult]) -> None:
        """Trials of earlier starts."""
        self._take(self._state.begin, trials)

    def reruns(self, names: Iterable[str]) -> None:
        """Reruns that are left."""
        self._began = time.time()
        self._take(self._state.wait_for, names, now=True)

    def trial(self, trial: TrialResult) -> None:
        """A trial changed."""
        self._take(self._state.see, trial)

    def epoch(self, name: str, report: EpochReport, epochs: int) -> None:
        """A rerun did an epoch."""
        self._take(self._state.hear, name, report, epochs)

    def done(self, name: str) -> None:
        """A rerun is measured, or has failed."""
        self._take(lambda: self._state.trained_at.pop(name, None))

    def __enter__(self) -> Self:
        """Show what follows."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs any more."""
        if self._live_file and self._written > 0:
            with contextlib.suppress(Exception):
                self._live_file.unlink(missing_ok=True)

    def _take(self, note: Callable[..., object], *facts: object, now: bool = False) -> None:
        """Take note of something, and leave the status on disk: at once, or every second."""
        with self._lock:
            note(*facts)
            self._tell(now)

    def _tell(self, now: bool = False) -> None:
        at = time.monotonic()
        if self._live_file is None or (at - self._written < _EVERY_S and not now):
            return
        with contextlib.suppress(Exception):  # The study's own records matter, this does not.
            if self._live_file.parent.exists():
                save_live(self._state.status(), self._live_file)
                self._written = at


class Lines(_Screen):
    """Plain lines, for pipes and logs."""

    def stage(self, name: str, detail: str) -> None:
        """One line a stage."""
        super().stage(name, detail)
        self.note(f"[{name}] {detail}")

    def trial(self, trial: TrialResult) -> None:
        """One line when a trial is over."""
        super().trial(trial)
        if trial.state != "running":
            self.note(f"[search] {describe(trial, self._state)}")

    def epoch(self, name: str, report: EpochReport, epochs: int) -> None:
        """One line when a rerun's training is over."""
        super().epoch(name, report, epochs)
        if report.epoch == epochs:
            state, loss = self._state, report.metrics.get("train/loss", math.nan)
            before = ", trained before" if report.time < self._began else ""
            text = f"[{state.stage}] {name}: {count_of(epochs, 'epoch')}{before}, loss {loss:.3f}; "
            self.note(f"{text}{state.trained}/{len(state.reruns)} trained{_left(state)}")

    def note(self, text: str) -> None:
        """One line."""
        with self._lock:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveView(_Screen):
    """A view that refreshes itself, for terminals; finished stages stay above it as lines."""

    def __init__(self, study: StudyConfig, console: Console, folder: Path | None = None) -> None:
        """Draw on a terminal."""
        super().__init__(study, console, folder)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def stage(self, name: str, detail: str) -> None:
        """A line that stays."""
        super().stage(name, detail)
        line = Text.assemble((f"{name:<10}", "bold cyan"), detail)
        self._live.console.print(line, highlight=False)

    def trial(self, trial: TrialResult) -> None:
        """Shown in the table; a failure stays above it."""
        super().trial(trial)
        if trial.state == "failed":
            text = Text(describe(trial, self._state), style="red")
            self._live.console.print(text, highlight=False)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._live.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._live.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        """Leave the lines, take the view away."""
        with self._lock:
            self._state.stage = ""
        self._live.__exit__(None, None, None)
        super().__exit__(*exception)

    def _render(self) -> RenderableType:
        width = self._console.width
        with self._lock:
            status = self._state.status()
            waiting = [name for name, history in self._state.reruns.items() if not history]
            scoring = len(self._state.trained_at)
        if status.stage == "search":
            return _view(status, status.trial_words(), width)
        if status.stage in TRAINS and status.reruns_wanted:
            words = f"{status.reruns}/{status.reruns_wanted} trained, {len(waiting)} to start"
            words += f", {scoring} being scored" if scoring else ""
            return _view(status, words, width)
        return Text("")


def _view(status: Status, done: str, width: int) -> Group:
    """Counts, speed, best, and a line a training that runs; each line may wrap."""
    lines: list[RenderableType] = [Text(done)]
    if status.speed_words():
        lines.append(Text(status.speed_words()))
    if status.best_words() and status.stage == "search":
        lines.append(Text.assemble((f"{status.best_title()}: ", "bold"), status.best_words()))
    lines += map(Text, running_lines(status.running, width - _INDENT))
    return Group(*(Padding(line, (0, 0, 0, _INDENT)) for line in lines))


def screen(study: StudyConfig, console: Console, folder: Path | None = None) -> Lines | LiveView:
    """The view that fits the console."""
    kind = LiveView if console.is_terminal and not console.is_dumb_terminal else Lines
    return kind(study, console, folder)


def describe(trial: TrialResult, state: StudyState) -> str:
    """One line on a trial that is over."""
    search = state.study.the_search
    word = "FAILED" if trial.state == "failed" else trial.state
    text = f"trial {trial.number} {word} after {count_of(len(trial.history), 'epoch')}"
    if trial.error:
        text += f": {trial.error}"
    validated = [r.metrics for r in trial.history if search.primary in r.metrics]
    if validated:
        text += "".join(f", {name} {validated[-1][name]:.2f}" for name in search.objectives)
    best = state.best()
    if best is not None:
        reached = ", ".join(f"{v:.2f}" for v in values_of(best, search.objectives).values())
        text += f"; best so far: trial {best.number} ({reached})"
    return f"{text}; {state.closed}/{search.trials} done{_left(state)}"


def _left(state: StudyState) -> str:
    seconds = state.seconds_left()
    return f", about {duration(seconds)} left" if seconds else ""
