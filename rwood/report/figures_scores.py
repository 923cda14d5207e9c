"""Figures of the detector: benchmark, score histograms, ROC, embedding picture, geometry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rwood.config.benchmark import Metric
from rwood.report import figures
from rwood.report.inputs import EmbeddingPicture, ReportInputs, ScoreSamples
from rwood.report.tables import MEANS, axis_title, own_key, row_values
from rwood.results import RunResult, mean_and_std

if TYPE_CHECKING:
    from rwood.report.inputs import Array

GEOMETRY = {
    "id/mes_radius": "class radius\n(of unit-length embeddings)",
    "id/dispersion": "inter-class dispersion\n(degrees)",
    "val/overlap": "ID-OOD overlap\n(share)",
}
"""Per-epoch metrics of the embedding's geometry and how an axis names them."""
LOOKS = (("o", figures.VERMILLION, figures.VERMILLION), ("s", figures.BLUE, "white"))
"""Marker, edge and face of the champion and of the base run."""


def draw_benchmark(inputs: ReportInputs, path: Path) -> Path:
    """FPR@95 and AUROC of champion and base on every OOD set, mean ± std and each seed."""
    labels = inputs.groups
    names = list(row_values(inputs.runs, own_key(inputs.runs[0])))
    figure, axes = figures.canvas(1.15 + 0.36 * len(names), 1, 2, sharey=True)
    metrics: tuple[Metric, ...] = ("fpr95", "auroc")
    for axis, metric in zip(axes[0], metrics, strict=True):
        for place, (label, runs) in enumerate(labels.items()):
            shift = 0.0 if len(labels) == 1 else (-0.17, 0.17)[place]
            show_seeds(axis, runs, names, metric, shift, LOOKS[place], label)
        figures.dress(axis, axis_title(metric), "")
        axis.set_yticks(range(len(names)), names)
        for text in axis.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() in MEANS else "normal")
        for at, name in enumerate(names):
            if name in MEANS:
                axis.axhspan(at - 0.5, at + 0.5, color="#f1f1f1", zorder=0, linewidth=0)
        axis.margins(x=0.08)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    figures.legend(figure, axes[0, 0], ncols=2)
    return figures.write(figure, path)


def show_seeds(
    axis: Any,
    runs: list[RunResult],
    names: list[str],
    metric: Metric,
    shift: float,
    look: tuple[str, str, str],
    label: str,
) -> None:
    """Runs on some rows of the benchmark: the mean, a bar of one population std, a dot a seed."""
    values = row_values(runs, own_key(runs[0]))
    seeds = {at + shift: list(values[name][metric].values()) for at, name in enumerate(names)}
    kind = "mean ± std (dots: seeds)" if len(runs) > 1 else "one seed"
    figures.show_means(axis, seeds, look, f"{label}: {kind}")


def ood_sets(samples: ScoreSamples) -> Iterator[tuple[str, int, str, Array]]:
    """(`near` or `far`, place in it, set, scores) of every OOD set."""
    for part, sets in (("near", samples.near), ("far", samples.far)):
        for place, (name, scores) in enumerate(sets.items()):
            yield part, place, name, scores


def draw_histograms(samples: ScoreSamples, path: Path) -> Path:
    """Scores of ID and OOD images, a panel an OOD set, with the verdict's threshold."""
    sets = list(ood_sets(samples))
    rows, columns = figures.grid_of(len(sets)) if len(sets) != 4 else (2, 2)
    figure, axes = figures.canvas(0.75 + 2.2 * rows, rows, columns)
    for place, axis in enumerate(axes.flat):
        if place >= len(sets):
            axis.set_visible(False)
            continue
        part, _, name, scores = sets[place]
        colour = figures.VERMILLION if part == "near" else figures.BLUE
        _histogram(axis, samples, scores, colour, part)
        y = "share of images (%)" if place % columns == 0 else ""
        x = "score, log scale" if axis.get_xscale() == "log" else "score"
        figures.dress(axis, x, y, f"{part}: {name}")
    figure.supxlabel("higher score = more OOD", fontsize=10, color=figures.INK)
    figures.legend(figure, *axes.flat, ncols=4)
    return figures.write(figure, path)


def _histogram(axis: Any, samples: ScoreSamples, ood: Array, colour: str, part: str) -> None:
    both = np.concatenate([samples.id, ood])
    low, high = (float(q) for q in np.quantile(both, [0.002, 0.995]))
    log = low > 0 and high / low > 30
    if high <= low:
        low, high = low - 0.5, high + 0.5
    bins = np.geomspace(low, high, 41) if log else np.linspace(low, high, 41)
    looks = ((samples.id, "ID test", figures.GREY, 0.55), (ood, f"{part} OOD", colour, 0.6))
    for scores, label, shade, alpha in looks:
        weights = np.full(len(scores), 100 / len(scores))
        axis.hist(np.clip(scores, low, high), bins=bins, weights=weights, color=shade, alpha=alpha,
                  label=label, linewidth=0)  # fmt: skip
    if log:
        axis.set_xlim(low / 1.1, high * 1.1)
        figures.log_ticks(axis)
    if samples.threshold is not None:
        axis.axvline(samples.threshold, color=figures.INK, linestyle="--", linewidth=1.3,
                     label="threshold: accepts 95 % of ID validation")  # fmt: skip


def roc_points(samples: ScoreSamples, ood: Array) -> tuple[Array, Array, float]:
    """False and true positive rates in percent, OOD positive, and the area in percent."""
    from sklearn.metrics import auc, roc_curve

    truth = np.concatenate([np.zeros(len(samples.id)), np.ones(len(ood))])
    fpr, tpr, _ = roc_curve(truth, np.concatenate([samples.id, ood]))
    return 100 * fpr, 100 * tpr, 100 * float(auc(fpr, tpr))


def draw_roc(samples: ScoreSamples, path: Path) -> Path:
    """ROC of every OOD set, whole and with few false alarms enlarged."""
    figure, axes = figures.canvas(4.3, 1, 2)
    whole, close = axes[0]
    least = 100 / len(samples.id)
    for part, place, name, scores in ood_sets(samples):
        fpr, tpr, area = roc_points(samples, scores)
        look = {
            "color": figures.set_colour(part, place),
            "linestyle": "-" if part == "near" else "--",
            "linewidth": 1.9,
        }
        whole.plot(fpr, tpr, label=f"{part}: {name} ({area:.2f})", **look)
        close.plot(np.maximum(fpr, least / 2), tpr, **look)
    whole.plot([0, 100], [0, 100], color=figures.PALE, linewidth=1, linestyle=":")
    for axis in (whole, close):
        axis.axhline(95, color=figures.INK, linewidth=1, linestyle=":")
        axis.set_ylim(-2, 102)
    close.set_xlim(least / 2, 100)
    figures.log_ticks(close)
    figures.dress(whole, "ID images called OOD (%)", "OOD images called OOD (%)", "whole")
    figures.dress(close, "ID images called OOD (%), log scale", "", "few false alarms, enlarged")
    figures.legend(figure, whole, loc="outside lower center", ncols=3, title="OOD set (AUROC in %)",
           title_fontsize=9)  # fmt: skip
    return figures.write(figure, path)


def draw_embedding(picture: EmbeddingPicture, path: Path) -> Path:
    """ID and OOD embeddings in the plane; numbers mark the middle of each ID class."""
    from matplotlib.patheffects import withStroke

    figure, axes = figures.canvas(5.2)
    axis = axes[0, 0]
    groups, classes = np.array(picture.groups), np.array(picture.classes)
    counts = {"near": 0, "far": 0}
    for place, name in enumerate(dict.fromkeys(picture.groups)):
        part = name.partition(":")[0]
        colour = figures.PALE
        if part in counts:
            colour = figures.set_colour(part, counts[part])
            counts[part] += 1
        where = picture.points[groups == name]
        axis.scatter(where[:, 0], where[:, 1], s=13, color=colour, alpha=0.8, linewidths=0,
                     marker=figures.MARKERS[place % len(figures.MARKERS)], label=name)  # fmt: skip
    stroke = withStroke(linewidth=3, foreground="white")
    known = sorted(set(classes[classes >= 0].tolist()))
    for label in known if len(known) <= 20 else []:
        x, y = np.median(picture.points[classes == label], axis=0)
        axis.text(x, y, str(label), fontsize=12, fontweight="bold", ha="center", va="center",
                  color=figures.INK, path_effects=[stroke])  # fmt: skip
    name = "principal component" if picture.method == "PCA" else "t-SNE axis"
    figures.dress(axis, f"{name} 1 (no unit)", f"{name} 2 (no unit)")
    axis.set_xticks([])
    axis.set_yticks([])
    figures.legend(figure, axis, loc="outside right center", markerscale=1.9)
    return figures.write(figure, path)


def geometry_curves(runs: list[RunResult], metric: str) -> dict[int, list[float]]:
    """Epoch -> the seeds' values of a metric of the history."""
    curves: dict[int, list[float]] = {}
    for run in runs:
        for report in run.history:
            if metric in report.metrics:
                curves.setdefault(report.epoch, []).append(report.metrics[metric])
    return dict(sorted(curves.items()))


def draw_geometry(inputs: ReportInputs, path: Path) -> Path:
    """Radius, dispersion, overlap after every epoch: mean over seeds, band from least to most."""
    measured = [metric for metric in GEOMETRY if geometry_curves(inputs.runs, metric)]
    figure, axes = figures.canvas(2.9, 1, len(measured))
    for axis, metric in zip(axes[0], measured, strict=True):
        for (label, runs), colour, dash in zip(
            inputs.groups.items(), (figures.VERMILLION, figures.BLUE), ("-", "--"), strict=False
        ):
            curves = geometry_curves(runs, metric)
            epochs, values = list(curves), list(curves.values())
            mean = [mean_and_std(v)[0] for v in values]
            axis.plot(epochs, mean, dash, color=colour, linewidth=1.8, label=label)
            axis.fill_between(epochs, [min(v) for v in values], [max(v) for v in values],
                              color=colour, alpha=0.18, linewidth=0)  # fmt: skip
        figures.dress(axis, "epoch", GEOMETRY[metric])
        figures.integer_ticks(axis)
    figures.legend(figure, axes[0, 0], ncols=2)
    return figures.write(figure, path)
