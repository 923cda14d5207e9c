"""What every static figure shares: size, colours (Okabe-Ito, safe for colour-blind eyes), dress."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rwood.results import mean_and_std
from rwood.storage import written

DPI = 150
WIDTH = 7.2
"""Inches; 1,080 pixels."""
INK, GREY, PALE = "#222222", "#6e6e6e", "#b8b8b8"
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INDIGO = "#E69F00", "#56B4E9", "#332288"
NEAR_COLOURS = (VERMILLION, ORANGE, PURPLE)
FAR_COLOURS = (BLUE, GREEN, SKY, INDIGO, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def canvas(height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Any, Any]:
    """A figure of the report's width and its axes as a (rows, columns) array.

    The figure is a plain object: pyplot and its global state are not touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def dress(axis: Any, x: str, y: str, title: str = "") -> None:
    """Name the axes with their units, drop the box, add a light grid."""
    axis.set_xlabel(x, color=INK, fontsize=10)
    axis.set_ylabel(y, color=INK, fontsize=10)
    axis.set_title(title, color=INK, fontsize=10.5)
    axis.tick_params(labelsize=9, color=GREY, labelcolor=INK)
    axis.grid(True, color="#e6e6e6", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GREY)


def legend(figure: Any, *axes: Any, loc: str = "outside upper center", **look: Any) -> None:
    """One legend of all axes without a frame, beside them; each name stands in it once."""
    shown: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    look = {"fontsize": 9, "frameon": False, **look}
    figure.legend(shown.values(), shown.keys(), loc=loc, **look)


def show_means(
    axis: Any, seeds: Mapping[float, Sequence[float]], look: tuple[str, str, str], label: str
) -> None:
    """Height -> values of the seeds there: the mean, a bar of one population std, a dot a seed.

    A look is marker, edge and face. Where no height has several values the mean stands alone.
    """
    marker, edge, face = look
    means, stds = zip(*map(mean_and_std, seeds.values()), strict=True)
    several = any(len(values) > 1 for values in seeds.values())
    axis.errorbar(
        means, list(seeds), xerr=stds if several else None, fmt=marker, color=edge,
        markerfacecolor=face, markersize=6, linewidth=2, zorder=3, label=label,
    )  # fmt: skip
    for height, values in seeds.items() if several else ():
        axis.scatter(values, [height] * len(values), s=9, color=INK, zorder=4, linewidths=0)


def integer_ticks(axis: Any) -> None:
    """Ticks of the x axis at whole numbers alone."""
    axis.xaxis.get_major_locator().set_params(integer=True)


def log_ticks(axis: Any) -> None:
    """A logarithmic x axis whose ticks are plain numbers: 0.05, 1, 200."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0) if high / low < 50 else (1.0, 3.0)
    axis.xaxis.set_major_locator(LogLocator(subs=steps))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def grid_of(count: int) -> tuple[int, int]:
    """Rows and columns of so many panels, three side by side at most."""
    columns = min(3, count)
    return -(-count // columns), columns


def write(figure: Any, path: Path) -> Path:
    """Write the figure as PNG and say where."""
    with written(path) as file:
        figure.savefig(file, format="png")
    return path


def set_colour(part: str, index: int) -> str:
    """Warm for near sets, cool for far ones."""
    colours = NEAR_COLOURS if part == "near" else FAR_COLOURS
    return colours[index % len(colours)]
