"""Figures of the search: history, learning curves, importance, slices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rwood.config.search import Choices
from rwood.config.study import is_minimized
from rwood.report.figures import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    canvas,
    dress,
    key,
    log_ticks,
    write,
)
from rwood.report.hyperparameters import (
    Hyperparameter,
    hyperparameters,
    last_metrics,
    last_value,
    metric_title,
)
from rwood.report.inputs import ReportInputs
from rwood.report.outliers import inner_limits
from rwood.results import TrialResult

LETTERS = 24
"""Letters of choices that a slice has room for side by side; longer ones are slanted."""
_STATES = {
    "complete": {"marker": "o", "color": BLUE, "s": 34},
    "pruned": {"marker": "v", "facecolor": "none", "edgecolor": GREY, "s": 34},
    "running": {"marker": "s", "facecolor": "none", "edgecolor": BLUE, "s": 30},
}
_LINES = {s: s for s in ("complete", "failed", "running")} | {"pruned": "pruned"}
_NAMES = {"complete": "complete", "pruned": "pruned (last value)", "running": "running"}


def objective_of(inputs: ReportInputs) -> str:
    """Name of the study's objective; there is a search wherever these figures are drawn."""
    return inputs.study.objective or ""


def best_so_far(trials: Sequence[TrialResult], objective: str) -> list[tuple[int, float]]:
    """(trial number, best objective of the complete trials up to it), in order."""
    better = min if is_minimized(objective) else max
    best: list[tuple[int, float]] = []
    for trial in sorted(trials, key=lambda t: t.number):
        if trial.state == "complete" and trial.objective is not None:
            value = better(best[-1][1], trial.objective) if best else trial.objective
            best.append((trial.number, value))
        elif best:
            best.append((trial.number, best[-1][1]))
    return best


def valued(inputs: ReportInputs, state: str) -> list[tuple[TrialResult, float]]:
    """Trials in a state that reported the objective, with its last value."""
    pairs = [(t, last_value(t, objective_of(inputs))) for t in inputs.study.trials]
    return [(t, value) for t, value in pairs if t.state == state and value is not None]


def objective_limits(inputs: ReportInputs) -> tuple[float, float] | None:
    """Ends of the objective's axis where a few trials would squash it; None: as matplotlib does."""
    values = [value for state in _STATES for _, value in valued(inputs, state)]
    return inner_limits(values, minimized=is_minimized(objective_of(inputs)))


def outside_sentence(inputs: ReportInputs) -> str:
    """Which trials lie outside the objective's axis; empty if none does."""
    limits = objective_limits(inputs)
    if limits is None:
        return ""
    low, high = limits
    pairs = [pair for state in _STATES for pair in valued(inputs, state)]
    beyond = sorted((t.number, value) for t, value in pairs if not low <= value <= high)
    told = ", ".join(f"trial {number} ({value:.2f})" for number, value in beyond[:4])
    more = f" and {len(beyond) - 4} more" if len(beyond) > 4 else ""
    return f" Outside the picture: {told}{more}."


def draw_history(inputs: ReportInputs, path: Path) -> Path:
    """Objective of every trial, the best so far, and which trials pruned or failed."""
    figure, axes = canvas(3.7)
    show_history(axes[0, 0], inputs)
    key(axes[0, 0], loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=5, columnspacing=1.2)
    return write(figure, path)


def show_history(axis: Any, inputs: ReportInputs) -> None:
    """The same on an axis of another figure; the legend is the caller's."""
    for state, look in _STATES.items():
        found = valued(inputs, state)
        if found:
            x, y = [t.number for t, _ in found], [value for _, value in found]
            axis.scatter(x, y, label=_NAMES[state], zorder=3, linewidths=1.3, **look)
            _bars(axis, inputs, found, x, look)
    best = best_so_far(inputs.study.trials, objective_of(inputs))
    x, y = [number for number, _ in best], [value for _, value in best]
    axis.step(x, y, where="post", color=VERMILLION, linewidth=1.8, label="best so far", zorder=2)
    _star(axis, inputs)
    limits = objective_limits(inputs)
    if limits is not None:
        axis.set_ylim(*limits)
    failed = [t.number for t in inputs.study.trials if t.state == "failed"]
    if failed:
        low = axis.get_ylim()[0]
        axis.scatter(failed, [low] * len(failed), marker="x", color=INK, s=40, label="failed")
    dress(axis, "trial number", metric_title(objective_of(inputs)))
    axis.xaxis.get_major_locator().set_params(integer=True)


def _bars(
    axis: Any,
    inputs: ReportInputs,
    found: Sequence[tuple[TrialResult, float]],
    x: Sequence[float],
    look: dict[str, Any],
) -> None:
    """One population std over the seeds of each trial, where trials have several."""
    last = [last_metrics(trial, objective_of(inputs)) for trial, _ in found]
    bars = [pair[1] or 0.0 if pair else 0.0 for pair in last]
    if any(bars):
        colour = look.get("color", look.get("edgecolor"))
        axis.errorbar(x, [v for _, v in found], yerr=bars, fmt="none", ecolor=colour, alpha=0.45)


def _star(axis: Any, inputs: ReportInputs, parameter: Hyperparameter | None = None) -> None:
    """The champion, at its number or at its value of a setting."""
    for trial in inputs.study.trials:
        if trial.number == inputs.study.champion and trial.objective is not None:
            x = parameter.number(parameter.of(trial)) if parameter else trial.number
            axis.scatter([x], [trial.objective], marker="*", s=190, color=VERMILLION, zorder=4,
                         edgecolor="white", linewidths=0.8, label="champion")  # fmt: skip


def draw_curves(inputs: ReportInputs, path: Path) -> Path:
    """The objective after every validated epoch of every trial."""
    figure, axes = canvas(3.7)
    axis, objective, named = axes[0, 0], objective_of(inputs), set()
    looks = {
        "complete": {"color": BLUE, "linewidth": 1.1, "alpha": 0.65},
        "pruned": {"color": GREY, "linewidth": 1.0, "alpha": 0.7, "linestyle": "--"},
        "failed": {"color": INK, "linewidth": 1.0, "linestyle": ":"},
        "running": {"color": BLUE, "linewidth": 1.1, "linestyle": "-."},
    }
    for trial in inputs.study.trials:
        points = [(e.epoch, e.metrics[objective]) for e in trial.history if objective in e.metrics]
        if not points:
            continue
        champion = trial.number == inputs.study.champion
        name = "champion" if champion else _LINES[trial.state]
        look = {"color": VERMILLION, "linewidth": 2.2} if champion else looks[trial.state]
        x, y = zip(*points, strict=True)
        label = None if name in named else name
        axis.plot(x, y, label=label, zorder=4 if champion else 2, **look)
        if trial.state == "pruned":
            axis.scatter(x[-1:], y[-1:], zorder=3, linewidths=1.2, **_STATES["pruned"])
        named.add(name)
    dress(axis, "epoch", metric_title(objective))
    axis.xaxis.get_major_locator().set_params(integer=True)
    key(axis, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=5)
    return write(figure, path)


def draw_importance(inputs: ReportInputs, path: Path) -> Path:
    """Share of the objective's variance that each setting explains (fANOVA)."""
    names = {parameter.key: parameter.name for parameter in hyperparameters(inputs.config)}
    shares = sorted(inputs.importance.items(), key=lambda item: item[1])
    figure, axes = canvas(0.9 + 0.36 * len(shares))
    axis = axes[0, 0]
    bars = axis.barh([names.get(k, k) for k, _ in shares], [100 * v for _, v in shares],
                     color=BLUE, height=0.62)  # fmt: skip
    axis.bar_label(bars, fmt="%.0f %%", padding=4, fontsize=9, color=INK)
    dress(axis, f"share of the variance of {metric_title(objective_of(inputs))[:-4]} (%)", "")
    axis.grid(False, axis="y")
    axis.margins(x=0.1)
    return write(figure, path)


def draw_slices(inputs: ReportInputs, path: Path) -> Path:
    """Each setting against the objective; the base run's value is a dotted line."""
    found = hyperparameters(inputs.config)
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure, axes = canvas(0.5 + 2.35 * rows, rows, columns, sharey=True)
    for place, axis in enumerate(axes.flat):
        if place < len(found):
            _slice(axis, inputs, found[place])
            y = metric_title(objective_of(inputs)).replace(" (%)", "\n(%)")
            dress(axis, _axis_name(found[place]), y if place % columns == 0 else "")
        else:
            axis.set_visible(False)
    limits = objective_limits(inputs)
    if limits is not None:
        axes[0, 0].set_ylim(*limits)
    seen: dict[str, Any] = {}
    for axis in axes.flat:
        seen |= {t: h for h, t in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        seen.values(), seen.keys(), loc="outside upper center", ncols=5, fontsize=9, frameon=False
    )
    return write(figure, path)


def _slice(axis: Any, inputs: ReportInputs, parameter: Hyperparameter) -> None:
    if parameter.base_among:
        look = {"color": INK, "linestyle": ":", "linewidth": 1.3}
        axis.axvline(parameter.number(parameter.base), label="base run", **look)
    for state, look in _STATES.items():
        pairs = valued(inputs, state)
        if pairs:
            x, y = (
                [parameter.number(parameter.of(t)) for t, _ in pairs],
                [value for _, value in pairs],
            )
            axis.scatter(x, y, label=_NAMES[state], linewidths=1.2, zorder=3, **look)
            _bars(axis, inputs, pairs, x, look)
    _star(axis, inputs, parameter)
    if parameter.log:
        log_ticks(axis)
    if isinstance(parameter.domain, Choices):
        choices = [str(choice) for choice in parameter.domain.choices]
        axis.set_xticks(range(len(choices)), choices)
        if sum(map(len, choices)) > LETTERS:
            axis.tick_params(axis="x", rotation=20)
        axis.margins(x=0.2)
    else:
        low, high = float(parameter.domain.low), float(parameter.domain.high)
        room = (high / low) ** 0.04 if parameter.log else 0.04 * (high - low)
        if high > low:
            axis.set_xlim(
                *((low / room, high * room) if parameter.log else (low - room, high + room))
            )


def _axis_name(parameter: Hyperparameter) -> str:
    return f"{parameter.name}, log scale" if parameter.log else parameter.name
