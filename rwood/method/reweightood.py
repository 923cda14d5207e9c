"""The ReweightOOD loss over all pairs of a batch.

The similarity matrix is cut into row strips, so memory grows with the number of rows and not with
its square, and the gradient is built during the forward pass from its closed form. With a process
group it is the loss of the global batch, to rounding, whatever the number of ranks.
Matrix products follow the global float32 precision flags: leave TF32 off for them (the default).

Legend of shape suffixes: n rows (views) of this rank, N rows of all ranks, R rows of a strip,
M columns of a strip, D dims. A trailing N alone is a vector over rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
            when the rows given are the whole batch. As 0-d tensors, the numbers above may change
            under torch.compile without a recompilation.
        rows_per_rank: row counts in rank order, when known; otherwise they are exchanged, which
            costs a host synchronisation on an accelerator.

    Returns:
        Scalar in at least float32.

    Raises:
        ValueError: the shapes of rows and labels do not fit.
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


class _PairSum:
    """A running sum of exp(z) over pairs, shifted by the largest z so far, and its row gradient.

    Keeping the true maximum (as online softmax does) makes any temperature safe, where a bound such
    as 1/tau underflows in float32 once tau is small and no pair comes near the bound.
    """

    def __init__(self, unit_nD: Tensor) -> None:
        # Finite instead of -inf: differences of two "no pair yet" peaks stay 0 instead of NaN.
        self.peak = unit_nD.new_full((), -_FAR)
        self.total = unit_nD.new_zeros(())
        self.gradient_nD = torch.zeros_like(unit_nD)

    def rescale(self, peak: Tensor) -> None:
        """Moves the shift to a new peak, not below the present one."""
        shrink = (self.peak - peak).exp()
        self.total = self.total * shrink
        self.gradient_nD.mul_(shrink)
        self.peak = peak

    def log(self) -> Tensor:
        """Log of the sum; -inf without any pair."""
        return self.peak + self.total.log()

    def log_gradient_nD(self) -> Tensor:
        """Gradient of the log with respect to the rows; zero without any pair."""
        # Any pair makes the total at least 1 (the term at the peak), so the clamp only meets 0.
        return self.gradient_nD / self.total.clamp_min(1.0)


def _reweightood(
    unit_nD: Tensor,
    labels_n: Tensor,
    weighting: PairWeighting,
    group: dist.ProcessGroup | None,
    counts: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """Loss of the global batch and its gradient with respect to this rank's unit rows."""
    same, other = _PairSum(unit_nD), _PairSum(unit_nD)
    if group is None:
        _add_upper_triangle(unit_nD, labels_n, weighting, (same, other))
        pair_visits = 1.0
    else:
        counts = counts or count_rows(unit_nD.shape[0], unit_nD.device, group)
        _add_own_rows(unit_nD, labels_n, weighting, (same, other), group, counts)
        pair_visits = 2.0
    pre_elu = same.log() + other.log() - 2.0 * math.log(pair_visits)
    # The derivative of ELU; exp(-inf) = 0 gives the batch without pairs its zero gradient.
    slope = pre_elu.clamp_max(0.0).exp() * pair_visits
    return F.elu(pre_elu), slope * (same.log_gradient_nD() + other.log_gradient_nD())


def _add_upper_triangle(
    unit_ND: Tensor, labels_N: Tensor, weighting: PairWeighting, sums: tuple[_PairSum, _PairSum]
) -> None:
    """Visits every pair once; a strip starts at its own diagonal and feeds rows and columns."""
    labels_N = labels_N.to(unit_ND.dtype)
    rows = unit_ND.shape[0]
    for strip in row_strips(rows, rows, unit_ND.device):
        rows_RD, columns_MD = unit_ND[strip], unit_ND[strip.start :]
        masks = _class_masks(labels_N[strip], labels_N[strip.start :])
        exponents_RM, slopes_RM = _exponents(rows_RD @ columns_MD.T, masks[0], weighting)
        exponents_RM.diagonal().fill_(-_FAR)
        _raise_peaks(sums, exponents_RM, masks)
        for mask_RM in masks:
            mask_RM[:, : rows_RD.shape[0]].triu_(1)
        for pairs, pull_RM in zip(sums, _add(sums, exponents_RM, slopes_RM, masks), strict=True):
            pairs.gradient_nD[strip].addmm_(pull_RM, columns_MD)
            pairs.gradient_nD[strip.start :].addmm_(pull_RM.T, rows_RD)


def _add_own_rows(
    unit_nD: Tensor,
    labels_n: Tensor,
    weighting: PairWeighting,
    sums: tuple[_PairSum, _PairSum],
    group: dist.ProcessGroup,
    counts: Sequence[int],
) -> None:
    """Visits own rows against all rows, so every pair twice over the ranks, and sums over ranks.

    The similarity matrix is symmetric: a row's gradient needs that row's pairs only.
    """
    labels_n = labels_n.to(unit_nD.dtype)
    unit_ND, labels_N = gather_rows(unit_nD, counts, group), gather_rows(labels_n, counts, group)
    first = first_row(counts, group)
    for strip in row_strips(unit_nD.shape[0], unit_ND.shape[0], unit_nD.device):
        own = slice(first + strip.start, first + strip.stop)
        masks = _class_masks(labels_n[strip], labels_N)
        exponents_RM, slopes_RM = _exponents(unit_nD[strip] @ unit_ND.T, masks[0], weighting)
        exponents_RM[:, own].diagonal().fill_(-_FAR)
        _raise_peaks(sums, exponents_RM, masks)
        masks[0][:, own].diagonal().fill_(0.0)
        for pairs, pull_RM in zip(sums, _add(sums, exponents_RM, slopes_RM, masks), strict=True):
            pairs.gradient_nD[strip].addmm_(pull_RM, unit_ND)
    peaks = torch.stack([pairs.peak for pairs in sums])
    dist.all_reduce(peaks, dist.ReduceOp.MAX, group=group)
    for pairs, peak in zip(sums, peaks.unbind(), strict=True):
        pairs.rescale(peak)
    totals = sum_over_ranks(torch.stack([pairs.total for pairs in sums]), group)
    sums[0].total, sums[1].total = totals.unbind()


def _class_masks(labels_R: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """Ones where classes agree, and where they differ, in the dtype of the (float) labels.

    Arithmetic with such masks is 5 to 10 times faster on a CPU than selecting with boolean ones.
    """
    same_RM = labels_R.new_empty(labels_R.shape[0], labels_M.shape[0])
    other_RM = torch.empty_like(same_RM)
    torch.eq(labels_R[:, None], labels_M, out=same_RM)
    torch.ne(labels_R[:, None], labels_M, out=other_RM)
    return same_RM, other_RM


def _exponents(
    cosines_RM: Tensor, same_RM: Tensor, weighting: PairWeighting
) -> tuple[Tensor, Tensor]:
    """Exponent of every pair and its derivative by the cosine, the weight held constant."""
    temperature, within_scale, within_shift, between_scale, between_shift = weighting
    slopes_RM = (same_RM * -(within_scale + between_scale)).add_(between_scale).mul_(cosines_RM)
    slopes_RM += (same_RM * (within_shift + between_shift)).sub_(between_shift)
    slopes_RM.sigmoid_().mul_((same_RM * -2.0).add_(1.0).div_(temperature))
    return cosines_RM.mul_(slopes_RM), slopes_RM


def _raise_peaks(
    sums: tuple[_PairSum, _PairSum], exponents_RM: Tensor, masks: tuple[Tensor, Tensor]
) -> None:
    """Moves the shift of each sum to the largest exponent of its class mask, if that is larger."""
    for pairs, other_RM in zip(sums, reversed(masks), strict=True):
        peak = torch.add(exponents_RM, other_RM, alpha=-_FAR).amax()
        pairs.rescale(torch.maximum(pairs.peak, peak))


def _add(
    sums: tuple[_PairSum, _PairSum],
    exponents_RM: Tensor,
    slopes_RM: Tensor,
    masks: tuple[Tensor, Tensor],
) -> Iterator[Tensor]:
    """Adds the masked pairs to their sums; yields d sum / d cosine of every pair, sum by sum."""
    for pairs, mask_RM in zip(sums, masks, strict=True):
        exponents_RM -= mask_RM * pairs.peak
    # Entries that are no pair may lie above 0, far pairs so low that exp would be denormal: slow,
    # and nothing beside the term 1 at the peak.
    terms_RM = exponents_RM.clamp_(-_NEGLIGIBLE, 0.0).exp_()
    for pairs, mask_RM in zip(sums, masks, strict=True):
        mask_RM *= terms_RM
        pairs.total = pairs.total + mask_RM.sum()
        yield mask_RM.mul_(slopes_RM)
