"""How far a study is, as plain data, and how to say it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rwood import results
from rwood.config.search import Params
from rwood.storage import content
from rwood.text import duration, short

_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 30
"""Epochs that a curve shows at most."""


@dataclass(frozen=True)
class Running:
    """A training of the stage that is not over."""

    name: str
    epoch: int
    """Epochs done."""
    epochs: int
    values: dict[str, float] = field(default_factory=dict)
    """Measure -> its last value: every objective, or the loss of a rerun."""
    curve: tuple[float, ...] = ()
    """The last values of the first measure, one an epoch where measured."""
    scoring_s: float | None = None
    """Seconds since the training was over, of a rerun whose test sets are being scored."""


@dataclass(frozen=True)
class Status:
    """How far a study is."""

    study: str
    stage: str
    """`not started`, a stage, or `finished`."""
    working: bool | None = None
    """Whether a process works on it; None if that process is on another host."""
    process: str | None = None
    """Who has or had it open, as the lock says."""
    trials: dict[str, int] = field(default_factory=dict)
    """State -> trials."""
    trials_wanted: int = 0
    best: dict[str, float] = field(default_factory=dict)
    """Objective -> its value in the trial that would be the champion now; empty before one is."""
    best_trial: int | None = None
    best_params: Params = field(default_factory=dict)
    verdict: str = ""
    """Of the finals, once they are over."""
    reruns: int = 0
    """Trainings of the stage, finals or benchmark, that are done."""
    reruns_wanted: int = 0
    running: tuple[Running, ...] = ()
    images_per_s: float | None = None
    """Training images of all trainings that run."""
    gpu_memory_gb: float | None = None
    """Most memory that each held so far, added up; None without a GPU."""
    seconds_left: float | None = None
    """Of the stage; None before anything told a pace."""
    at: float | None = None
    """Unix seconds at which the process that works told this; None if read from the records."""

    def trial_words(self) -> str:
        """Trials by state."""
        closed = sum(self.trials.values()) - self.trials.get("running", 0)
        states = ("running", "complete", "pruned", "failed")
        parts = [f"{self.trials.get(state, 0)} {state}" for state in states]
        return f"{closed}/{self.trials_wanted} done; {', '.join(parts)}"

    def best_title(self) -> str:
        """What the best trial is: no more than that so far, as long as others are to come."""
        if self.stage == "search":
            return "best so far"
        return "best of the search" if self.verdict or self.stage == "finals" else "champion"

    def best_words(self) -> str:
        """The best so far, its objectives and settings; empty before a trial is complete."""
        if not self.best:
            return ""
        reached = ", ".join(f"{name} {value:.2f}" for name, value in self.best.items())
        settings = ", ".join(f"{key} = {short(value)}" for key, value in self.best_params.items())
        return f"trial {self.best_trial}, {reached}: {settings}"

    def speed_words(self) -> str:
        """Images a second, GPU memory, time left: what of it is known."""
        parts = []
        if self.images_per_s:
            parts.append(f"{self.images_per_s:,.0f} images/s")
        if self.gpu_memory_gb:
            parts.append(f"{self.gpu_memory_gb:,.1f} GB of GPU memory")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left in this stage")
        return ", ".join(parts)


def running_lines(running: Sequence[Running], width: int) -> list[str]:
    """A line a training, in columns: name, epochs, last values, and the first one's curve.

    The curve takes what the rest leaves of the width.
    """
    measures = {measure: None for training in running for measure in training.values}
    names = short_names(measures)
    rows = [_cells(training, names) for training in running]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["".join(f"{cell:<{w}}  " for cell, w in zip(row, widths, strict=True)) for row in rows]
    room = max(0, min(_CURVE, width - sum(widths) - 2 * len(widths)))
    curves = [sparkline(training.curve[-room:]) if room else "" for training in running]
    return [(line + curve).rstrip() for line, curve in zip(lines, curves, strict=True)]


def _cells(training: Running, names: dict[str, str]) -> list[str]:
    epochs = str(training.epochs)
    done = f"epoch {training.epoch:>{len(epochs)}}/{epochs}"
    if training.scoring_s is not None:
        done = f"scoring, {duration(training.scoring_s)}"
    values = training.values
    reached = (f"{name} {values[m]:.2f}" if m in values else "" for m, name in names.items())
    return [training.name, done, *reached]


def short_names(measures: Iterable[str]) -> dict[str, str]:
    """Measures by the shortest words that tell them apart.

    `val/auroc` is `auroc`, beside `val/tin/auroc`, which is `tin`; with `val/tin/fpr95` too,
    it is `tin/auroc`.
    """
    split = {measure: measure.split("/") for measure in measures}
    for part in (slice(-1, None), slice(1, 2), slice(1, None)):
        names = {measure: "/".join(words[part]) for measure, words in split.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def save_live(status: Status, path: Path) -> None:
    """Leave the status for `rwood status`."""
    results.write_atomically(path, json.dumps(asdict(status)))


def read_live(path: Path) -> Status | None:
    """The status that a running study left; None if there is none that can be read."""
    try:
        return TypeAdapter(Status).validate_json(content(path))
    except (OSError, ValidationError):
        return None


def sparkline(values: Sequence[float]) -> str:
    """A word-sized curve."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)
