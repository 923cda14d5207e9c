"""What the screen shows while a study runs: a live view on a terminal, plain lines elsewhere."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rwood.results import EpochReport, TrialResult
from rwood.spec.study import StudySpec, is_minimized

_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class Tally:
    """The numbers behind both views: trials by state, the best so far, speed, time left.

    What is over is only counted: an epoch costs the same in the first trial and the thousandth.
    """

    study: StudySpec
    clock: Callable[[], float] = time.monotonic
    live: dict[int, TrialResult] = field(default_factory=dict)
    """Trials that run."""
    states: Counter[str] = field(default_factory=Counter)
    """State -> trials that are over."""
    best: TrialResult | None = None
    """The complete trial with the best objective so far."""
    before: int = 0
    """Trials that were over when this start began."""
    epochs: dict[str, EpochReport] = field(default_factory=dict)
    started: float = 0.0

    def begin(self, known: Iterable[TrialResult]) -> None:
        """Start the clock anew, with what earlier starts did."""
        self.live, self.states, self.best = {}, Counter(), None
        for trial in known:
            self.see(trial)
        self.before = self.closed
        self.started = self.clock()

    def see(self, trial: TrialResult) -> None:
        """Take note of a trial: any number of times while it runs, once when it is over."""
        if trial.state == "running":
            self.live[trial.number] = trial
            return
        self.live.pop(trial.number, None)
        self.states[trial.state] += 1
        if trial.objective is not None and (self.best is None or self._beats(trial, self.best)):
            self.best = trial

    @property
    def closed(self) -> int:
        """Trials that are over."""
        return self.states.total()

    def _beats(self, trial: TrialResult, other: TrialResult) -> bool:
        assert self.study.search is not None
        sign = 1 if is_minimized(self.study.search.objective) else -1
        mine, its = (sign * (t.objective or 0.0) for t in (trial, other))
        return (mine, trial.number) < (its, other.number)

    def running(self, metric: str) -> float:
        """Sum of a metric over the running trials' last epochs."""
        last = [t.history[-1] for t in list(self.live.values()) if t.history]
        return sum(report.metrics.get(metric, 0.0) for report in last)

    def seconds_left(self, wanted: int) -> float | None:
        """Time left at the pace so far; None before the first trial of this start is over."""
        mine = self.closed - self.before
        if mine <= 0:
            return None
        return (self.clock() - self.started) / mine * (wanted - self.closed)


class Lines:
    """Plain lines, for pipes and logs."""

    def __init__(self, study: StudySpec, console: Console) -> None:
        """Write to a console that is no terminal."""
        self._tally = Tally(study)
        self._console = console
        self._lock = threading.Lock()

    def stage(self, name: str, detail: str) -> None:
        """One line a stage."""
        self._say(f"[{name}] {detail}")

    def known(self, trials: Iterable[TrialResult]) -> None:
        """Counted, not said again."""
        self._tally.begin(trials)

    def trial(self, trial: TrialResult) -> None:
        """One line when a trial is over."""
        self._tally.see(trial)
        if trial.state == "running":
            return
        self._say(f"[search] {describe(trial, self._tally)}")

    def epoch(self, name: str, report: EpochReport, epochs: int) -> None:
        """One line when a rerun's training is over."""
        if report.epoch == epochs:
            self._say(f"[benchmark] {name}: {epochs} epochs, loss {_loss(report)}")

    def note(self, text: str) -> None:
        """One line."""
        self._say(text)

    def __enter__(self) -> "Lines":
        """Nothing to set up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tear down."""

    def _say(self, text: str) -> None:
        with self._lock:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A view that refreshes itself, for terminals; finished stages stay above it as lines."""

    def __init__(self, study: StudySpec, console: Console) -> None:
        """Draw on a terminal."""
        self._tally = Tally(study)
        self._study = study
        self._console = console
        self._stage = ""
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def stage(self, name: str, detail: str) -> None:
        """A line that stays."""
        self._stage = name
        self._tally.epochs.clear()
        self._live.console.print(
            Text.assemble((f"{name:<10}", "bold cyan"), detail), highlight=False
        )

    def known(self, trials: Iterable[TrialResult]) -> None:
        """Counted."""
        self._tally.begin(trials)

    def trial(self, trial: TrialResult) -> None:
        """Shown in the table."""
        self._tally.see(trial)
        if trial.state == "failed":
            self._live.console.print(Text(describe(trial, self._tally), style="red"))

    def epoch(self, name: str, report: EpochReport, epochs: int) -> None:
        """Shown in the table."""
        self._tally.epochs[name] = report

    def note(self, text: str) -> None:
        """A line that stays."""
        self._live.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> "LiveView":
        """Start drawing."""
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the lines, take the view away."""
        self._stage = ""
        self._live.__exit__(None, None, None)

    def _render(self) -> Group | Table | Text:
        if self._stage == "search":
            return Group(self._search_line(), self._best_line(), self._running_table())
        if self._stage == "benchmark":
            return self._rerun_table()
        return Text("")

    def _search_line(self) -> Text:
        tally, search = self._tally, self._study.search
        assert search is not None
        left = tally.seconds_left(search.trials)
        parts = [
            f"{tally.closed}/{search.trials} trials",
            f"{tally.states['complete']} complete",
            f"{tally.states['stopped']} stopped early",
            f"{tally.states['failed']} failed",
            f"{tally.running('sys/images_per_s'):,.0f} images/s",
        ]
        gpu = tally.running("sys/gpu_memory_gb")
        if gpu:
            parts.append(f"{gpu:,.1f} GB of GPU memory")
        if left is not None:
            parts.append(f"{duration(left)} left")
        return Text("  ".join(parts))

    def _best_line(self) -> Text:
        best, search = self._tally.best, self._study.search
        if best is None or search is None:
            return Text("")
        knobs = "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                          for key, value in best.params.items())  # fmt: skip
        value = f"{search.objective} {best.objective:.2f}"
        return Text.assemble(("best ", "bold"), f"{value} (trial {best.number}): {knobs}")

    def _running_table(self) -> Table:
        assert self._study.search is not None
        objective = self._study.search.objective
        table = Table(box=None, pad_edge=False, show_header=False)
        for trial in sorted(list(self._tally.live.values()), key=lambda t: t.number):
            values = [r.metrics[objective] for r in trial.history if objective in r.metrics]
            table.add_row(
                f"  trial {trial.number}",
                f"epoch {len(trial.history)}/{self._study.run.epochs}",
                f"{values[-1]:.2f}" if values else "",
                sparkline(values[-30:]),
            )
        return table

    def _rerun_table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, report in sorted(self._tally.epochs.items()):
            done = f"epoch {report.epoch}/{self._study.run.epochs}"
            table.add_row(f"  {name}", done, f"loss {_loss(report)}")
        return table


def screen(study: StudySpec, console: Console) -> Lines | LiveView:
    """The view that fits the console."""
    return LiveView(study, console) if console.is_terminal else Lines(study, console)


def describe(trial: TrialResult, tally: Tally) -> str:
    """One line on a trial that is over."""
    search = tally.study.search
    assert search is not None
    words = {"complete": "complete", "stopped": "stopped early", "failed": "FAILED"}
    text = f"trial {trial.number} {words[trial.state]} after {len(trial.history)} epochs"
    if trial.error:
        text += f": {trial.error}"
    values = [r.metrics[search.objective] for r in trial.history if search.objective in r.metrics]
    if values:
        text += f", {search.objective} {values[-1]:.2f}"
    if tally.best is not None:
        text += f"; best {tally.best.objective:.2f} (trial {tally.best.number})"
    left = tally.seconds_left(search.trials)
    text += f"; {tally.closed}/{search.trials} done"
    return text + (f", {duration(left)} left" if left else "")


def sparkline(values: list[float]) -> str:
    """A word-sized curve."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def duration(seconds: float) -> str:
    """Seconds in the words people use."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _loss(report: EpochReport) -> str:
    return f"{report.metrics.get('train/loss', float('nan')):.3f}"
