"""Cross-entropy of a classifier over the global batch.

Legend of shape suffixes: n rows (views) of this rank, N rows of all ranks, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .batch import Ranks, wide_rows
from .loss import Loss


def cross_entropy_loss(
    logits_NC: Tensor,
    labels_N: Tensor,
    *,
    label_smoothing: float,
    group: dist.ProcessGroup | None = None,
    rows_per_rank: Sequence[int] | None = None,
) -> Tensor:
    """Cross-entropy, the mean over all rows of -log softmax at the row's class.

    With smoothing e the target is 1 - e + e / C at the class and e / C elsewhere (Szegedy et al.,
    CVPR 2016, section 7). OpenOOD's classifiers are trained with e = 0.

    Over ranks every rank receives the full loss and its rows' complete gradient: **parameter
    gradients must be SUMMED over ranks**. Ranks may hold different numbers of rows.

    Args:
        logits_NC: (N, C) logits, one row a view; half precision is computed in float32, float64
            stays float64, autocast is ignored.
        labels_N: (N,) integer classes in 0..C-1.
        label_smoothing: e in 0..1.
        group: see `reweightood_loss`.
        rows_per_rank: see `reweightood_loss`.

    Returns:
        Scalar in at least float32; 0 without a row.

    Raises:
        ValueError: the shapes of logits and labels, or the row counts, do not fit.
    """
    wide_nC = wide_rows(logits_NC, labels_N)
    ranks = Ranks(wide_nC, rows_per_rank, group)
    with torch.autocast(logits_NC.device.type, enabled=False):
        return ranks.mean(
            F.cross_entropy(wide_nC, labels_N, reduction="sum", label_smoothing=label_smoothing)
        )


class CrossEntropy(Loss):
    """Cross-entropy of a training: `label_smoothing` is its setting."""

    is_classifier = True
    formula = staticmethod(cross_entropy_loss)
