"""The ReweightOOD loss over all pairs of a batch.

The similarity matrix is cut into row strips, so memory grows with the number of rows and not with
its square, and the gradient is built during the forward pass from its closed form. With a process
group it is the loss of the global batch, to rounding, whatever the number of ranks.
Matrix products follow the global float32 precision flags: leave TF32 off for them (the default).

Legend of shape suffixes: n rows (views) of this rank, N rows of all ranks, R rows of a strip,
M columns of a strip, D dims, 2 kinds of pairs: same class, then different classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .batch import (
    count_rows,
    first_row,
    gather_rows,
    row_strips,
    scalar_like,
    sum_over_ranks,
    unit_rows,
)

# Below every exponent of a real pair, yet finite, so that no difference is NaN.
_FAR = 1e30
# exp(-60) = 9e-27.
_NEGLIGIBLE = 60.0


class PairWeighting(NamedTuple):
    """The five numbers of ReweightOOD, as 0-d tensors beside the projections."""

    temperature: Tensor
    within_scale: Tensor
    within_shift: Tensor
    between_scale: Tensor
    between_shift: Tensor


def reweightood_loss(
    projections_ND: Tensor,
    labels_N: Tensor,
    *,
    temperature: float | Tensor,
    within_scale: float | Tensor,
    within_shift: float | Tensor,
    between_scale: float | Tensor,
    between_shift: float | Tensor,
    group: dist.ProcessGroup | None = None,
    rows_per_rank: Sequence[int] | None = None,
) -> Tensor:
    """ReweightOOD loss: one log-sum-exp over same-class pairs plus one over the others.

    With s the cosine of a pair, a same-class pair enters as -w s / tau with
    w = sigmoid(c_w - m_w s), any other as w s / tau with w = sigmoid(m_b s - c_b); the weights are
    constants to the gradient. The loss is ELU(L+ + L-), each L a log of a sum over unordered pairs:
    no mean per anchor, so its value depends on batch size and class count. Regmi et al., CVPRW
    2024. Differs from the authors' code: in memory (no N x N tensors), in having no host
    synchronisation, and over ranks (theirs is a separate loss on each rank's rows; this one is the
    loss of the global batch).

    Without a single same-class pair, or without a single other pair, the loss is -1 and the
    gradient exactly zero, as in the authors' code.

    Over ranks every rank receives the full loss, and the gradient of its own rows is complete
    without any communication in the backward pass. Hence **parameter gradients must be SUMMED over
    ranks**; DistributedDataParallel averages, so there multiply the loss by the number of ranks.

    The five numbers may be 0-d tensors: torch.compile then does not recompile when they change.

    Args:
        projections_ND: (N, D) rows, one a view; normalised here, with gradient. Half precision is
            computed in float32, float64 stays float64, autocast is ignored.
        labels_N: (N,) integer classes.
        temperature: tau > 0.
        within_scale: m_w, slope of the weight of same-class pairs.
        within_shift: c_w, its shift.
        between_scale: m_b, slope of the weight of pairs of different classes.
        between_shift: c_b, its shift.
        group: ranks that share the batch, each with its own rows (any number, none included); None
            when the rows given are the whole batch.
        rows_per_rank: row counts in rank order, when known; otherwise they are exchanged, which
            costs a host synchronisation on an accelerator.

    Returns:
        Scalar in at least float32.

    Raises:
        ValueError: the shapes of rows and labels, or the row counts, do not fit.
    """
    unit_nD = unit_rows(projections_ND, labels_N)
    numbers = (temperature, within_scale, within_shift, between_scale, between_shift)
    weighting = PairWeighting(*(scalar_like(unit_nD, number) for number in numbers))
    with torch.autocast(unit_nD.device.type, enabled=False):
        loss: Tensor = _ReweightOOD.apply(unit_nD, labels_N, *weighting, group, rows_per_rank)
    return loss


class _ReweightOOD(torch.autograd.Function):
    """The closed form: the forward pass computes loss and gradient, the backward pass scales it."""

    @staticmethod
    def forward(ctx: Any, unit_nD: Tensor, labels_n: Tensor, *arguments: Any) -> Tensor:
        *numbers, group, counts = arguments
        loss, gradient_nD = _reweightood(unit_nD, labels_n, PairWeighting(*numbers), group, counts)
        ctx.save_for_backward(gradient_nD)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_nD,) = ctx.saved_tensors
        return upstream[0] * gradient_nD, *(None,) * 8


class _PairSums:
    """Running sums of exp(z) over pairs, shifted by the largest z so far, and their row gradients.

    Keeping the true maximum (as online softmax does) makes any temperature safe, where a bound such
    as 1/tau underflows in float32 once tau is small and no pair comes near the bound.
    """

    def __init__(self, unit_nD: Tensor) -> None:
        # Finite instead of -inf: differences of two "no pair yet" peaks stay 0 instead of NaN.
        self.peaks_2 = unit_nD.new_full((2,), -_FAR)
        self.totals_2 = unit_nD.new_zeros(2)
        self.gradients_2nD = unit_nD.new_zeros(2, *unit_nD.shape)

    def raise_peaks(self, exponents_RM: Tensor, masks_2RM: Tensor) -> None:
        """Makes room for a strip, of which the masks together select every entry."""
        same_RM, other_RM = masks_2RM
        peaks_2 = torch.stack(
            [
                torch.add(exponents_RM, outside_RM, alpha=-_FAR).amax()
                for outside_RM in (other_RM, same_RM)
            ]
        )
        self.rescale(torch.maximum(self.peaks_2, peaks_2))

    def rescale(self, peaks_2: Tensor) -> None:
        """Moves the shifts to new peaks, not below the present ones."""
        shrink_2 = (self.peaks_2 - peaks_2).exp()
        self.totals_2 = self.totals_2 * shrink_2
        self.gradients_2nD.mul_(shrink_2[:, None, None])
        self.peaks_2 = peaks_2

    def add(self, exponents_RM: Tensor, slopes_RM: Tensor, masks_2RM: Tensor) -> Tensor:
        """Adds the pairs of the masks; returns d sum / d cosine of each, in place of the masks."""
        for mask_RM, peak in zip(masks_2RM, self.peaks_2, strict=True):
            exponents_RM -= mask_RM * peak
        # Entries that are no pair may lie above 0, far pairs so low that exp would be denormal:
        # slow, and nothing beside the term 1 at the peak.
        masks_2RM *= exponents_RM.clamp_(-_NEGLIGIBLE, 0.0).exp_()
        self.totals_2 = self.totals_2 + masks_2RM.sum((1, 2))
        return masks_2RM.mul_(slopes_RM)

    def log(self) -> Tensor:
        """Sum of the two logs; -inf without any pair of one kind."""
        return (self.peaks_2 + self.totals_2.log()).sum()

    def log_gradient_nD(self) -> Tensor:
        """Gradient of the same by the rows; a kind without any pair adds zero."""
        # Any pair makes the total at least 1 (the term at the peak), so the clamp only meets 0.
        return (self.gradients_2nD / self.totals_2.clamp_min(1.0)[:, None, None]).sum(0)


def _reweightood(
    unit_nD: Tensor,
    labels_n: Tensor,
    weighting: PairWeighting,
    group: dist.ProcessGroup | None,
    counts: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """Loss of the global batch and its gradient with respect to this rank's unit rows."""
    sums, labels_n = _PairSums(unit_nD), labels_n.to(unit_nD.dtype)
    if group is None:
        _add_upper_triangle(unit_nD, labels_n, weighting, sums)
        pair_visits = 1.0
    else:
        counts = count_rows(unit_nD, counts, group)
        _add_own_rows(unit_nD, labels_n, weighting, sums, group, counts)
        pair_visits = 2.0
    pre_elu = sums.log() - 2.0 * math.log(pair_visits)
    # The derivative of ELU; exp(-inf) = 0 gives the batch without pairs its zero gradient.
    slope = pre_elu.clamp_max(0.0).exp() * pair_visits
    return F.elu(pre_elu), slope * sums.log_gradient_nD()


def _add_upper_triangle(
    unit_ND: Tensor, labels_N: Tensor, weighting: PairWeighting, sums: _PairSums
) -> None:
    """Visits every pair once; a strip starts at its own diagonal and feeds rows and columns."""
    rows = unit_ND.shape[0]
    for strip in row_strips(rows, rows, unit_ND.device):
        rows_RD, columns_MD = unit_ND[strip], unit_ND[strip.start :]
        masks_2RM = _class_masks(labels_N[strip], labels_N[strip.start :])
        exponents_RM, slopes_RM = _exponents(rows_RD @ columns_MD.T, masks_2RM[0], weighting)
        exponents_RM.diagonal().fill_(-_FAR)
        sums.raise_peaks(exponents_RM, masks_2RM)
        masks_2RM[:, :, : rows_RD.shape[0]].triu_(1)
        pulls_2RM = sums.add(exponents_RM, slopes_RM, masks_2RM)
        sums.gradients_2nD[:, strip] += pulls_2RM @ columns_MD
        sums.gradients_2nD[:, strip.start :].baddbmm_(pulls_2RM.mT, rows_RD.expand(2, -1, -1))


def _add_own_rows(
    unit_nD: Tensor,
    labels_n: Tensor,
    weighting: PairWeighting,
    sums: _PairSums,
    group: dist.ProcessGroup,
    counts: Sequence[int],
) -> None:
    """Visits own rows against all rows, so every pair twice over the ranks, and sums over ranks.

    The similarity matrix is symmetric: a row's gradient needs that row's pairs only.
    """
    unit_ND, labels_N = gather_rows(unit_nD, counts, group), gather_rows(labels_n, counts, group)
    first = first_row(counts, group)
    for strip in row_strips(unit_nD.shape[0], unit_ND.shape[0], unit_nD.device):
        own = slice(first + strip.start, first + strip.stop)
        masks_2RM = _class_masks(labels_n[strip], labels_N)
        exponents_RM, slopes_RM = _exponents(unit_nD[strip] @ unit_ND.T, masks_2RM[0], weighting)
        exponents_RM[:, own].diagonal().fill_(-_FAR)
        sums.raise_peaks(exponents_RM, masks_2RM)
        masks_2RM[0, :, own].diagonal().fill_(0.0)
        sums.gradients_2nD[:, strip] = sums.add(exponents_RM, slopes_RM, masks_2RM) @ unit_ND
    peaks_2 = sums.peaks_2.clone()
    dist.all_reduce(peaks_2, dist.ReduceOp.MAX, group=group)
    sums.rescale(peaks_2)
    sums.totals_2 = sum_over_ranks(sums.totals_2, group)


def _class_masks(labels_R: Tensor, labels_M: Tensor) -> Tensor:
    """Ones where classes agree, and where they differ, in the dtype of the (float) labels.

    Arithmetic with such masks is 5 to 10 times faster on a CPU than selecting with boolean ones.
    """
    masks_2RM = labels_R.new_empty(2, labels_R.shape[0], labels_M.shape[0])
    torch.eq(labels_R[:, None], labels_M, out=masks_2RM[0])
    torch.ne(labels_R[:, None], labels_M, out=masks_2RM[1])
    return masks_2RM


def _exponents(
    cosines_RM: Tensor, same_RM: Tensor, weighting: PairWeighting
) -> tuple[Tensor, Tensor]:
    """Exponent of every pair and its derivative by the cosine, the weight held constant."""
    temperature, within_scale, within_shift, between_scale, between_shift = weighting
    slopes_RM = (same_RM * -(within_scale + between_scale)).add_(between_scale).mul_(cosines_RM)
    slopes_RM += (same_RM * (within_shift + between_shift)).sub_(between_shift)
    slopes_RM.sigmoid_().mul_((same_RM * (-2.0 / temperature)).add_(1.0 / temperature))
    return cosines_RM.mul_(slopes_RM), slopes_RM
