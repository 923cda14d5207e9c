"""The search as parallel coordinates: every trial a line through its settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from rwood.config.study import is_minimized
from rwood.report.figures import GREY, INK, PALE, VERMILLION, canvas, legend, write
from rwood.report.hyperparameters import NONE_AT, Hyperparameter, hyperparameters, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.panels import valued
from rwood.results import TrialResult

_ROOM = 76.0
"""Characters that fit side by side between the first axis and the last."""
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
_STOPPED = {"color": PALE, "linewidth": 1.0, "zorder": 2, "linestyle": "--"}
_CHAMPION = {"color": VERMILLION, "linewidth": 2.8, "zorder": 4}


@dataclass(frozen=True)
class Row:
    """The axes of the settings, and the objective's after them."""

    names: tuple[str, ...]
    places: tuple[float, ...]
    """Where they stand, in characters from the first."""
    slanted: bool
    """Whether their names have no room side by side."""


def row_of(parameters: Sequence[Hyperparameter], objective: str) -> Row:
    """Axes as far from each other as their names, or at least the texts beside them, ask for."""
    names = (*(parameter.name for parameter in parameters), metric_title(objective))
    broken = tuple(name.replace(" ", "\n", 1) for name in names)
    widths = [max(map(len, name.split("\n"))) for name in broken]
    beside = [
        2.0 + max(len(text) for _, text in parameter.ticks(3, ())) for parameter in parameters
    ]
    apart = [1.0 + (one + other) / 2 for one, other in pairwise(widths)]
    upright = [max(both) for both in zip(beside, apart, strict=True)]
    slanted = sum(upright) > _ROOM
    gaps = spread(beside if slanted else upright, _ROOM)
    return Row(names if slanted else broken, tuple(accumulate(gaps, initial=0.0)), slanted)


def spread(least: Sequence[float], room: float) -> list[float]:
    """Gaps of at least these widths that fill the room, as equal as that allows."""
    narrow = sorted(least)
    while narrow and narrow[-1] > room / len(narrow):
        room -= narrow.pop()
    equal = room / len(narrow) if narrow else 0.0
    return [max(width, equal) for width in least]


def draw_parallel(inputs: ReportInputs, path: Path) -> Path:
    """Every trial as a line through its settings to its objective."""
    from matplotlib.cm import ScalarMappable

    parameters, objective = hyperparameters(inputs.config), inputs.objective
    figure, axes = canvas(4.2)
    axis = axes[0, 0]
    pairs = valued(inputs, "pruned") + valued(inputs, "complete")
    values = [value for _, value in pairs]
    low, high = min(values), max(values)
    norm, colours = _shades(inputs)
    row = row_of(parameters, objective)
    for trial, value in pairs:
        heights = [parameter.share(parameter.of(trial)) for parameter in parameters]
        heights.append((value - low) / (high - low) if high > low else 0.5)
        look: dict[str, Any] = {"color": colours(norm(value)), "linewidth": 1.5, "zorder": 3}
        if trial.state == "pruned":
            look = _STOPPED
        if trial.number == inputs.study.champion:
            look = _CHAMPION
        axis.plot(row.places, heights, **look)
    axis.plot([], [], label="champion", **_CHAMPION)
    if valued(inputs, "pruned"):
        axis.plot([], [], label="pruned", **_STOPPED)
    legend(figure, axis, ncols=2)
    _parallel_axes(axis, parameters, row, (low, high), [trial for trial, _ in pairs])
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axis, pad=0.02, aspect=28)
    bar.set_label(f"{metric_title(objective)}, complete trials", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    return write(figure, path)


def _shades(inputs: ReportInputs) -> tuple[Any, Any]:
    """Light for the worst complete trial, dark for the best."""
    import matplotlib
    from matplotlib.colors import ListedColormap, Normalize

    ends = [value for _, value in valued(inputs, "complete")] or [0.0]
    dark_last = [0.9 - 0.9 * step / 255 for step in range(256)]
    shades = matplotlib.colormaps["viridis"](dark_last)
    if is_minimized(inputs.objective):
        shades = shades[::-1]
    return Normalize(min(ends), max(ends)), ListedColormap(shades)


def _parallel_axes(
    axis: Any,
    parameters: Sequence[Hyperparameter],
    row: Row,
    ends: tuple[float, float],
    trials: Sequence[TrialResult],
) -> None:
    look = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if row.slanted else {}
    axis.set_xticks(row.places, row.names, fontsize=9, **look)
    axis.set_yticks([])
    *places, last = row.places
    axis.set_xlim(-5.0, last + 6.0)
    lacking = any(parameter.of(trial) is None for parameter in parameters for trial in trials)
    axis.set_ylim((NONE_AT if lacking else 0.0) - 0.04, 1.04)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)
    for place, parameter in zip(places, parameters, strict=True):
        axis.axvline(place, color=GREY, linewidth=0.9, zorder=1)
        for at, text in parameter.ticks(3, trials):
            axis.annotate(text, (place, at), xytext=(4, 0), textcoords="offset points",
                          fontsize=8.5, va="center", color=INK, zorder=5, bbox=_PAPER)  # fmt: skip
    axis.axvline(last, color=GREY, linewidth=0.9, zorder=1)
    for at, value in zip((0.0, 1.0), ends, strict=True):
        axis.annotate(f"{value:.1f}", (last, at), xytext=(4, 0), textcoords="offset points",
                      fontsize=8.5, va="center", color=INK, zorder=5, bbox=_PAPER)  # fmt: skip
