"""The searched settings of a study: names for people, places on an axis."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rwood.config.benchmark import Metric
from rwood.config.search import Choices, Range, Value, settings
from rwood.config.study import StudyConfig
from rwood.report.table import plain_number
from rwood.results import TrialResult

SYMBOLS = {
    "loss.temperature": "τ",
    "loss.within_scale": "m_w",
    "loss.within_shift": "c_w",
    "loss.between_scale": "m_b",
    "loss.between_shift": "c_b",
}
"""Symbols of the paper."""
NONE_AT = -0.2
"""Where on an axis, from low (0) to high (1), a trial passes that has no such setting."""
CSV_TITLES: dict[Metric, str] = {
    "fpr95": "FPR@95",
    "auroc": "AUROC",
    "aupr_in": "AUPR_IN",
    "aupr_out": "AUPR_OUT",
}
"""Metrics as OpenOOD's tables name them."""
_METRICS = {str(metric): title for metric, title in CSV_TITLES.items()} | {
    "families": "AUROC over families",
    "nearest_mean": "nearest-mean accuracy",
}
_PARTS = {"val": "validation", "near": "near-OOD", "far": "far-OOD"}


@dataclass(frozen=True)
class Hyperparameter:
    """One searched setting."""

    key: str
    """Dotted setting of the run."""
    domain: Range | Choices
    base: Value | None
    """Its value in the base run; None if only other losses have it."""

    @property
    def word(self) -> str:
        """The key; of the loss's settings the last part, which is telling enough."""
        return self.key.rsplit(".", 1)[-1] if self.key in SYMBOLS else self.key

    @property
    def name(self) -> str:
        """The word, with the paper's symbol where there is one."""
        return f"{self.word} ({SYMBOLS[self.key]})" if self.key in SYMBOLS else self.word

    @property
    def base_among(self) -> bool:
        """Whether the base run's value has a place on the axis."""
        if self.base is None:
            return False
        return not isinstance(self.domain, Choices) or self.base in self.domain.choices

    @property
    def log(self) -> bool:
        """Whether the logarithm is searched."""
        return isinstance(self.domain, Range) and self.domain.log

    @property
    def range(self) -> str:
        """What was allowed, in words."""
        if isinstance(self.domain, Choices):
            return ", ".join(str(choice) for choice in self.domain.choices)
        low, high = plain_number(self.domain.low), plain_number(self.domain.high)
        return f"{low} to {high}{', log scale' if self.domain.log else ''}"

    def of(self, trial: TrialResult) -> Value | None:
        """The trial's value; None if its loss has no such setting."""
        return trial.params.get(self.key)

    def share(self, value: Value | None) -> float:
        """Place of a value between the low end (0) and the high end (1) of its range.

        No value has a place of its own, `NONE_AT`, below the range.
        """
        if value is None:
            return NONE_AT
        if isinstance(self.domain, Choices):
            choices = self.domain.choices
            index = choices.index(value) if value in choices else -1
            return index / (len(choices) - 1) if len(choices) > 1 else 0.5
        low, high, at = float(self.domain.low), float(self.domain.high), float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self, count: int, trials: Iterable[TrialResult]) -> list[tuple[float, str]]:
        """Places on an axis as of `share` and their texts.

        All choices, or so many values from low to high, even on the scale that is searched, whole
        ones of a range of whole numbers; `none` if a trial has no such setting.
        """
        none = any(self.of(trial) is None for trial in trials)
        ticks = [(NONE_AT, "none")] if none else []
        if isinstance(self.domain, Choices):
            return ticks + [(self.share(choice), str(choice)) for choice in self.domain.choices]
        low, high = self.domain.low, self.domain.high
        whole = isinstance(low, int) and isinstance(high, int)
        for share in (place / (count - 1) for place in range(count)):
            value = low * (high / low) ** share if self.log else low + (high - low) * share
            rounded = float(f"{value:.{3 if share in (0, 1) else 2}g}")
            number = round(rounded) if whole else rounded
            ticks.append((self.share(number), f"{number:g}"))
        return list(dict.fromkeys(ticks))


def hyperparameters(config: StudyConfig) -> list[Hyperparameter]:
    """The study's searched settings in the file's order; none without a search."""
    space = config.search.space if config.search else {}
    present = settings(config.run)
    return [Hyperparameter(key, domain, present.get(key)) for key, domain in space.items()]


def last_metrics(trial: TrialResult, metric: str) -> tuple[float, float | None] | None:
    """The last value of a metric that a trial reported and, of several seeds, its std."""
    reported = [e.metrics for e in trial.history if metric in e.metrics]
    if not reported:
        value = trial.objectives.get(metric, trial.objective)
        return None if value is None else (value, trial.spread.get(metric))
    return reported[-1][metric], reported[-1].get(f"{metric}/std")


def metric_title(name: str) -> str:
    """A metric as an axis names it, e.g. `val/tin/auroc` -> validation AUROC on tin (%)."""
    part, *middle, metric = name.split("/")
    on = f" on {'/'.join(middle)}" if middle else ""
    return f"{_PARTS.get(part, part)} {_METRICS.get(metric, metric)}{on} (%)"
