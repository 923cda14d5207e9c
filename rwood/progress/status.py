"""How far a study is, as plain data, and how to say it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rwood import results
from rwood.spec.search import Params

LIVE_FILE = "live.json"
"""In the results folder of a study that runs: its status as it is on the screen."""
_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 30
"""Epochs that a curve shows."""


@dataclass(frozen=True)
class Running:
    """A training of the stage that is not over."""

    name: str
    epoch: int
    """Epochs done."""
    epochs: int
    measure: str = ""
    """What the values are, e.g. `val/auroc`."""
    values: tuple[float, ...] = ()
    """One an epoch, where measured; the last ones."""


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
    objective: str | None = None
    best: float | None = None
    best_trial: int | None = None
    best_params: Params = field(default_factory=dict)
    reruns: int = 0
    """Reruns that are done."""
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
        names = {"running": "running", "complete": "complete", "stopped": "stopped early"}
        parts = [f"{self.trials.get(state, 0)} {word}" for state, word in names.items()]
        parts.append(f"{self.trials.get('failed', 0)} failed")
        return f"{closed}/{self.trials_wanted} done; {', '.join(parts)}"

    def best_words(self) -> str:
        """The best objective so far and its settings; empty before a trial is complete."""
        if self.best is None:
            return ""
        knobs = ", ".join(f"{key} = {short(value)}" for key, value in self.best_params.items())
        return f"{self.objective} {self.best:.2f} (trial {self.best_trial}): {knobs}"

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


def running_lines(running: Sequence[Running]) -> list[str]:
    """A line a training, in columns: name, epochs, last value, curve."""
    rows = [_cells(training) for training in running]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (zip(row, widths, strict=True) for row in rows)
    return ["  ".join(cell.ljust(width) for cell, width in row).rstrip() for row in padded]


def _cells(training: Running) -> tuple[str, str, str, str]:
    epochs = str(training.epochs)
    done = f"epoch {training.epoch:>{len(epochs)}}/{epochs}"
    if not training.values:
        return training.name, done, "", ""
    value = f"{training.measure.rpartition('/')[2]} {training.values[-1]:.2f}"
    return training.name, done, value, sparkline(training.values[-_CURVE:])


def save_live(status: Status, path: Path) -> None:
    """Leave the status for `rwood status`."""
    results.write_atomically(path, json.dumps(asdict(status)))


def read_live(path: Path) -> Status | None:
    """The status that a running study left; None if there is none that can be read."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        running = tuple(Running(**{**row, "values": tuple(row["values"])})
                        for row in plain["running"])  # fmt: skip
        return Status(**{**plain, "running": running})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def short(value: object) -> str:
    """A setting in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sparkline(values: Sequence[float]) -> str:
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
