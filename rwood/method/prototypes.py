"""CIDER: a loss on class prototypes that follow the projections.

Legend of shape suffixes: n rows (views) of this rank, N rows of all ranks, D dims, C classes,
T turns: the t-th row of every class is handled in turn t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .batch import Ranks, scalar_like, unit_rows
from .loss import WHOLE, Loss, Rows

# The temperatures at which the authors' code leaves the two terms unscaled.
COMPACTNESS_BASE_TEMPERATURE = 0.07
DISPERSION_BASE_TEMPERATURE = 0.1


def cider_loss(
    projections_ND: Tensor,
    labels_N: Tensor,
    prototypes_CD: Tensor,
    *,
    temperature: float | Tensor,
    momentum: float | Tensor,
    compactness_weight: float | Tensor,
    longest_class: int | None = None,
    order_N: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
    rows_per_rank: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """CIDER loss w L_comp + L_dis, and the prototypes after this batch.

    The prototypes first follow the batch (`update_prototypes`). L_comp is the cross-entropy of the
    rows against the new prototypes, held constant; L_dis is the mean over classes of the log mean
    exp of a prototype's similarities to the others, with gradient through the update. Eq. (4) to
    (6) of Ming et al., ICLR 2023. Differs from the authors' code: no loop over rows.

    Over ranks the batch is the ranks' rows in rank order, or in the order given (the update depends
    on the order within a class). Every rank receives the full loss, the same prototypes and its
    rows' complete gradient: **parameter gradients must be SUMMED over ranks**.

    Args:
        projections_ND: (N, D) rows, one a view; normalised here, with gradient. Half precision is
            computed in float32, float64 stays float64, autocast is ignored.
        labels_N: (N,) integer classes in 0..C-1.
        prototypes_CD: (C, D) unit rows from the step before; not modified.
        temperature: tau > 0.
        momentum: alpha, the share of the old prototype kept for every row.
        compactness_weight: w.
        longest_class: see `update_prototypes`.
        order_N: (N,) rows of all ranks, numbered in rank order, in the order in which they count;
            None: as they come.
        group: see `reweightood_loss`.
        rows_per_rank: see `reweightood_loss`.

    Returns:
        The scalar loss in at least float32; the (C, D) new prototypes, without gradient.

    Raises:
        ValueError: shapes do not fit, or there are fewer than two prototypes.
    """
    if prototypes_CD.ndim != 2 or prototypes_CD.shape[0] < 2:
        raise ValueError(f"CIDER needs two prototypes or more, got {tuple(prototypes_CD.shape)}")
    unit_nD = unit_rows(projections_ND, labels_N)
    temperature = scalar_like(unit_nD, temperature)
    with torch.autocast(unit_nD.device.type, enabled=False):
        ranks = Ranks(unit_nD, rows_per_rank, group)
        unit_ND, all_labels_N = ranks.gather_with_gradient(unit_nD), ranks.gather(labels_N)
        if order_N is not None:
            unit_ND, all_labels_N = unit_ND[order_N], all_labels_N[order_N]
        moved_CD = update_prototypes(
            prototypes_CD.to(unit_nD.dtype),
            unit_ND,
            all_labels_N,
            momentum=momentum,
            longest_class=longest_class,
        )
        fixed_CD = moved_CD.detach()
        compactness = ranks.mean(
            F.cross_entropy(unit_nD @ fixed_CD.T / temperature, labels_N, reduction="sum")
        )
        compactness = compactness * (temperature / COMPACTNESS_BASE_TEMPERATURE)
        weight = scalar_like(unit_nD, compactness_weight)
        return weight * compactness + _dispersion(moved_CD, temperature), fixed_CD


def update_prototypes(
    prototypes_CD: Tensor,
    unit_ND: Tensor,
    labels_N: Tensor,
    *,
    momentum: float | Tensor,
    longest_class: int | None = None,
) -> Tensor:
    """Prototypes after following the rows one by one: p <- normalise(alpha p + (1 - alpha) z).

    Rows of different classes do not meet, so the t-th rows of all classes move together: as many
    turns as the longest class has rows, instead of one turn a row. Eq. (7) of Ming et al., ICLR
    2023, with the normalisation after every row as in the authors' code.

    Args:
        prototypes_CD: (C, D) unit rows; not modified.
        unit_ND: (N, D) unit rows, in the order in which they count; the gradient flows.
        labels_N: (N,) integer classes in 0..C-1.
        momentum: alpha in 0..1.
        longest_class: at least the largest number of rows of one class. On an accelerator, finding
            it out costs the only host synchronisation here.

    Returns:
        (C, D) unit rows; a class without rows keeps its prototype, to rounding.

    Raises:
        IndexError: `longest_class` is too small (on an accelerator, a device-side assertion).
    """
    classes, dims = prototypes_CD.shape
    # Position of every row within its class: a stable sort keeps the order of the batch.
    order_N = torch.argsort(labels_N, stable=True)
    sorted_N = labels_N[order_N]
    starts_N = torch.searchsorted(sorted_N, sorted_N)
    positions_N = torch.arange(labels_N.shape[0], device=labels_N.device) - starts_N
    if longest_class is None:
        longest_class = int(labels_N.bincount(minlength=classes).max())
    slots_N = positions_N * classes + sorted_N
    turns_TCD = unit_ND.new_zeros(longest_class * classes, dims).index_copy(
        0, slots_N, unit_ND[order_N]
    )
    # In a turn in which a class has no row, its prototype is kept whole and nothing is added.
    momentum = scalar_like(unit_ND, momentum)
    kept_TC = unit_ND.new_ones(longest_class * classes).index_copy_(
        0, slots_N, momentum.expand(slots_N.shape[0])
    )
    moved: Tensor = _FollowRows.apply(
        prototypes_CD,
        turns_TCD.view(longest_class, classes, dims) * (1.0 - momentum),
        kept_TC.view(longest_class, classes, 1),
    )
    return moved


class Cider(Loss):
    """CIDER of a training, which carries its prototypes from step to step."""

    prototypes_CD: Tensor

    def __init__(self, *, classes: int, dims: int, **settings: float) -> None:
        """Start from zeros: `start` sets the prototypes. `settings` are those of `cider_loss`."""
        super().__init__(**settings)
        self.register_buffer("prototypes_CD", torch.zeros(classes, dims))

    def start(self, means_CD: Tensor) -> None:
        """Begin with the direction of each class's mean projection, as in the authors' code.

        OpenOOD takes the ID validation set.
        """
        self.prototypes_CD.copy_(F.normalize(means_CD, dim=1))

    def forward(self, outputs_MD: Tensor, labels_M: Tensor, rows: Rows = WHOLE) -> Tensor:
        """See `cider_loss`; the prototypes follow the batch."""
        loss, self.prototypes_CD = cider_loss(
            outputs_MD,
            labels_M,
            self.prototypes_CD,
            longest_class=rows.largest_class,
            order_N=rows.order_N,
            group=rows.group,
            rows_per_rank=rows.per_rank,
            **self.settings,
        )
        return loss


class _FollowRows(torch.autograd.Function):
    """The turns of `update_prototypes`, with a written-out backward pass (autograd's is slower).

    With raw = kept p + pull and p' = raw / |raw|, a gradient g at p' is (g - p' (p' . g)) / |raw|
    at raw.
    """

    @staticmethod
    def forward(ctx: Any, start_CD: Tensor, pulls_TCD: Tensor, kept_TC1: Tensor) -> Tensor:
        path_TCD = torch.empty_like(pulls_TCD)
        lengths_TC1 = torch.empty_like(kept_TC1)
        now_CD = start_CD
        turns = (pulls_TCD.unbind(), kept_TC1.unbind(), path_TCD.unbind(), lengths_TC1.unbind())
        for pull_CD, kept_C1, next_CD, length_C1 in zip(*turns, strict=True):
            torch.addcmul(pull_CD, now_CD, kept_C1, out=next_CD)
            torch.linalg.vector_norm(next_CD, dim=1, keepdim=True, out=length_C1)
            next_CD.div_(length_C1.clamp_min_(1e-12))
            now_CD = next_CD
        ctx.save_for_backward(path_TCD, lengths_TC1, kept_TC1)
        return now_CD.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        path_TCD, lengths_TC1, kept_TC1 = ctx.saved_tensors
        gradient_TCD = torch.empty_like(path_TCD)
        now_CD = upstream[0]
        turns = (path_TCD.unbind(), lengths_TC1.unbind(), kept_TC1.unbind(), gradient_TCD.unbind())
        for place_CD, length_C1, kept_C1, raw_CD in reversed(list(zip(*turns, strict=True))):
            along_C1 = (place_CD * now_CD).sum(1, keepdim=True)
            torch.addcmul(now_CD, place_CD, along_C1, value=-1.0, out=raw_CD)
            now_CD = raw_CD.div_(length_C1) * kept_C1
        return now_CD, gradient_TCD, None


def _dispersion(prototypes_CD: Tensor, temperature: Tensor) -> Tensor:
    """Mean over prototypes of the log mean exp of the similarities to the others."""
    classes = prototypes_CD.shape[0]
    itself_CC = torch.eye(classes, dtype=torch.bool, device=prototypes_CD.device)
    logits_CC = (prototypes_CD @ prototypes_CD.T / temperature).masked_fill(itself_CC, -math.inf)
    spread = (logits_CC.logsumexp(1) - math.log(classes - 1)).mean()
    return spread * (temperature / DISPERSION_BASE_TEMPERATURE)
