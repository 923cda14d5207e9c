"""The search as parallel coordinates: every trial a line through its settings."""

from pathlib import Path
from typing import Any

from rwood.report.figures import GREY, INK, PALE, VERMILLION, canvas, write
from rwood.report.figures_search import objective_of, valued
from rwood.report.inputs import ReportInputs
from rwood.report.knobs import NONE_AT, Knob, knobs, metric_title
from rwood.spec.search import Choices
from rwood.spec.study import is_minimized

UPRIGHT = 7
"""Axes whose names have room side by side; the names of more are slanted."""
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
_STOPPED = {"color": PALE, "linewidth": 1.0, "zorder": 2, "linestyle": "--"}
_CHAMPION = {"color": VERMILLION, "linewidth": 2.8, "zorder": 4}


def draw_parallel(inputs: ReportInputs, path: Path) -> Path:
    """Every trial as a line through its settings to its objective."""
    from matplotlib.cm import ScalarMappable

    found, objective = knobs(inputs.spec), objective_of(inputs)
    figure, axes = canvas(4.2)
    axis = axes[0, 0]
    pairs = valued(inputs, "stopped") + valued(inputs, "complete")
    values = [value for _, value in pairs]
    low, high = min(values), max(values)
    norm, colours = _shades(inputs)
    for trial, value in pairs:
        heights = [knob.share(knob.of(trial)) for knob in found]
        heights.append((value - low) / (high - low) if high > low else 0.5)
        look: dict[str, Any] = {"color": colours(norm(value)), "linewidth": 1.5, "zorder": 3}
        if trial.state == "stopped":
            look = _STOPPED
        if trial.number == inputs.study.champion:
            look = _CHAMPION
        axis.plot(range(len(heights)), heights, **look)
    axis.plot([], [], label="champion", **_CHAMPION)
    if valued(inputs, "stopped"):
        axis.plot([], [], label="stopped early", **_STOPPED)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    lacking = {k.key for k in found for trial, _ in pairs if k.of(trial) is None}
    _parallel_axes(axis, found, objective, low, high, lacking)
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
    if is_minimized(objective_of(inputs)):
        shades = shades[::-1]
    return Normalize(min(ends), max(ends)), ListedColormap(shades)


def _parallel_axes(
    axis: Any, found: list[Knob], objective: str, low: float, high: float, lacking: set[str]
) -> None:
    slanted = len(found) >= UPRIGHT
    names = [knob.name if slanted else knob.name.replace(" (", "\n(") for knob in found]
    title = metric_title(objective)
    names.append(title if slanted else title.replace(" ", "\n", 1))
    look = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axis.set_xticks(range(len(names)), names, fontsize=9, **look)
    axis.set_yticks([])
    axis.set_xlim(-0.45, len(names) - 0.5)
    axis.set_ylim(NONE_AT - 0.04 if lacking else -0.04, 1.04)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)
    for place, knob in enumerate(found):
        axis.axvline(place, color=GREY, linewidth=0.9, zorder=1)
        none = [(NONE_AT, "none")] if knob.key in lacking else []
        for at, text in _ticks(knob) + none:
            axis.annotate(text, (place, at), xytext=(4, 0), textcoords="offset points",
                          fontsize=8.5, va="center", color=INK, zorder=5, bbox=_PAPER)  # fmt: skip
    axis.axvline(len(found), color=GREY, linewidth=0.9, zorder=1)
    for at, value in ((0.0, low), (1.0, high)):
        axis.annotate(f"{value:.1f}", (len(found), at), xytext=(4, 0), textcoords="offset points",
                      fontsize=8.5, va="center", color=INK, zorder=5, bbox=_PAPER)  # fmt: skip


def _ticks(knob: Knob) -> list[tuple[float, str]]:
    """Places and texts on a knob's axis: its choices, or low, middle and high."""
    if isinstance(knob.domain, Choices):
        return [(knob.share(choice), str(choice)) for choice in knob.domain.choices]
    low, high = float(knob.domain.low), float(knob.domain.high)
    middle = (low * high) ** 0.5 if knob.log else (low + high) / 2
    return [(share, f"{v:.3g}") for share, v in ((0.0, low), (0.5, middle), (1.0, high))]
