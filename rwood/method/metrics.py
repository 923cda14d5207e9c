"""The four OOD detection metrics of OpenOOD v1.5, from one sort.

**Scores: higher = more OOD, everywhere.** OOD is the positive class of FPR@95, AUROC and AUPR-out.
Legend of shape suffixes: K distinct scores, from the highest to the lowest; V vertices of a curve.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class OODMetrics(NamedTuple):
    """One ID set against one OOD set; every number in percent.

    Attributes:
        fpr95: share of ID samples rejected at the first threshold that catches 95% of the OOD
            samples. OOD is positive, which is OpenOOD's convention; with ID as the positive class,
            as in older papers, the number differs.
        auroc: area under the ROC curve.
        aupr_in: area under the precision-recall curve with ID as the positive class.
        aupr_out: the same with OOD as the positive class.
    """

    fpr95: float
    auroc: float
    aupr_in: float
    aupr_out: float


def ood_metrics(id_scores: Tensor | NDArray[Any], ood_scores: Tensor | NDArray[Any]) -> OODMetrics:
    """FPR@95, AUROC, AUPR-in and AUPR-out of two sets of scores, in percent.

    Scores are 1-D, higher = more OOD. OpenOOD v1.5's numbers to rounding: FPR@95 is read at the
    vertices of the ROC curve that remain when collinear ones are dropped (so ties can raise it),
    and AUPR is the trapezoid under the precision-recall curve closed at (recall 0, precision 1),
    not average precision. Equal scores share one threshold.

    Raises:
        ValueError: a set is empty, not 1-D, or holds NaN or infinite scores.
    """
    id_sorted, ood_sorted = _sorted(id_scores, "ID"), _sorted(ood_scores, "OOD")
    false_K, true_K = _counts_at_thresholds(id_sorted, ood_sorted)
    fpr95, auroc = _roc(false_K, true_K)
    # Read from the other end, the same thresholds count the samples at or below each score.
    false_at_or_below_K = id_sorted.size - np.concatenate(([0], false_K[:-1]))[::-1]
    true_at_or_below_K = ood_sorted.size - np.concatenate(([0], true_K[:-1]))[::-1]
    return OODMetrics(
        fpr95=100.0 * fpr95,
        auroc=100.0 * auroc,
        aupr_in=100.0 * _area_precision_recall(true_at_or_below_K, false_at_or_below_K),
        aupr_out=100.0 * _area_precision_recall(false_K, true_K),
    )


def _sorted(scores: Tensor | NDArray[Any], name: str) -> Floats:
    """Ascending float64 copy, checked."""
    array = scores.detach().cpu().double().numpy() if isinstance(scores, Tensor) else scores
    ordered: Floats = np.array(array, dtype=np.float64)
    if ordered.ndim != 1 or not ordered.size:
        raise ValueError(f"{name} scores must be 1-D and not empty, got shape {ordered.shape}")
    ordered.sort()
    # NaN sorts last, infinities to the ends.
    if not np.isfinite(ordered[[0, -1]]).all():
        raise ValueError(f"{name} scores hold NaN or infinite values")
    return ordered


def _counts_at_thresholds(id_sorted: Floats, ood_sorted: Floats) -> tuple[Counts, Counts]:
    """ID and OOD samples at or above every distinct score, from the highest score down."""
    pooled = np.concatenate((id_sorted, ood_sorted))
    pooled.sort(kind="stable")
    firsts = np.flatnonzero(np.concatenate(([True], pooled[1:] != pooled[:-1])))
    id_below_K = np.searchsorted(id_sorted, pooled[firsts])
    false_K = (id_sorted.size - id_below_K)[::-1]
    true_K = (ood_sorted.size - (firsts - id_below_K))[::-1]
    return false_K, true_K


def _roc(false_K: Counts, true_K: Counts) -> tuple[float, float]:
    """FPR at the first vertex with a true positive rate of 95% or more, and the area."""
    if false_K.size > 2:
        corner = (np.diff(false_K, 2) != 0) | (np.diff(true_K, 2) != 0)
        keep = np.concatenate(([True], corner, [True]))
        false_K, true_K = false_K[keep], true_K[keep]
    false_rate_V = np.concatenate(([0.0], false_K / false_K[-1]))
    true_rate_V = np.concatenate(([0.0], true_K / true_K[-1]))
    first = int(np.argmax(true_rate_V >= 0.95))
    return float(false_rate_V[first]), _area(false_rate_V, true_rate_V)


def _area_precision_recall(false_K: Counts, true_K: Counts) -> float:
    """Trapezoid under precision over recall, closed at (0, 1)."""
    recall_V = np.concatenate(([0.0], true_K / true_K[-1]))
    precision_V = np.concatenate(([1.0], true_K / (true_K + false_K)))
    return _area(recall_V, precision_V)


def _area(x_V: Floats, y_V: Floats) -> float:
    return float(np.dot(np.diff(x_V), y_V[1:] + y_V[:-1])) / 2.0
