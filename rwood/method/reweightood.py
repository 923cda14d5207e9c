"""The ReweightOOD loss over all pairs of a batch.

The similarity matrix is cut into row strips, so that beyond a few thousand rows memory grows with
their number and not with its square, and the gradient is built during the forward pass from its
closed form. With a process group it is the loss of the global batch, to rounding, whatever the
number of ranks.
Matrix products follow the global float32 precision flags: leave TF32 off for them (the default).

Legend of shape suffixes: n rows (views) of this rank, N rows of all ranks, R rows of a strip,
M columns of a strip, D dims, 2 kinds of pairs: same class, then different classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .batch import FAR, NEGLIGIBLE, Ranks, row_strips, scalar_like, unit_rows, with_gradient
from .loss import Loss

# Entries of strips that may be kept: the upper triangle over 4096 rows, 32 MiB in float32.
_KEPT_ENTRIES = 2**24


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
    with torch.no_grad(), torch.autocast(unit_nD.device.type, enabled=False):
        ranks = Ranks(unit_nD, rows_per_rank, group)
        loss, gradient_nD = _reweightood(_Pairs(unit_nD, labels_N, weighting, ranks), ranks)
    return with_gradient(unit_nD, loss, gradient_nD)


class ReweightOOD(Loss):
    """ReweightOOD of a training: the five numbers are its settings."""

    formula = staticmethod(reweightood_loss)


class _Pairs:
    """The pairs this rank visits, strip by strip of its rows.

    Without a group every pair once: a strip starts at its own diagonal. With one, own rows against
    all rows, so every pair twice over the ranks; the similarity matrix is symmetric, so that a
    row's gradient needs that row's pairs only.
    """

    def __init__(
        self, unit_nD: Tensor, labels_n: Tensor, weighting: PairWeighting, ranks: Ranks
    ) -> None:
        labels_n = labels_n.to(unit_nD.dtype)
        self.unit_nD, self.labels_n, self.weighting = unit_nD, labels_n, weighting
        self.unit_ND, self.labels_N = ranks.gather(unit_nD), ranks.gather(labels_n)
        self.first, self.once = ranks.first, ranks.group is None
        self.strips = list(row_strips(unit_nD.shape[0], self.unit_ND.shape[0], unit_nD.device))

    def columns(self, strip: slice) -> slice:
        """The rows of the global batch that a strip meets."""
        return slice(strip.start if self.once else 0, self.unit_ND.shape[0])

    def masks_2RM(self, strip: slice) -> Tensor:
        """Ones where classes agree, and where they differ; in the dtype of the rows.

        Arithmetic with such masks is 5 to 10 times faster on a CPU than with boolean ones.
        """
        labels_R, labels_M = self.labels_n[strip], self.labels_N[self.columns(strip)]
        masks_2RM = labels_R.new_empty(2, labels_R.shape[0], labels_M.shape[0])
        torch.eq(labels_R[:, None], labels_M, out=masks_2RM[0])
        torch.ne(labels_R[:, None], labels_M, out=masks_2RM[1])
        return masks_2RM

    def exponents_RM(self, strip: slice, masks_2RM: Tensor) -> tuple[Tensor, Tensor]:
        """Exponents and their derivatives by the cosine; what is no pair goes from the masks."""
        cosines_RM = self.unit_nD[strip] @ self.unit_ND[self.columns(strip)].T
        exponents_RM, slopes_RM = _exponents(cosines_RM, masks_2RM[0], self.weighting)
        height = exponents_RM.shape[0]
        if self.once:
            exponents_RM[:, :height].triu_(1).add_(
                torch.full_like(exponents_RM[:, :height], -FAR).tril_()
            )
            masks_2RM[:, :, :height].triu_(1)
        else:
            own = slice(self.first + strip.start, self.first + strip.stop)
            exponents_RM[:, own].diagonal().fill_(-FAR)
            masks_2RM[0, :, own].diagonal().fill_(0.0)
        return exponents_RM, slopes_RM


def _reweightood(pairs: _Pairs, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Loss of the global batch and its gradient with respect to this rank's unit rows.

    The gradient needs the sums over all pairs, so there are two rounds. Terms of the first are kept
    for the second as long as they are few, and otherwise computed again.
    """
    # Finite instead of -inf: differences of two "no pair yet" peaks stay 0 instead of NaN.
    peaks_2, totals_2 = pairs.unit_nD.new_full((2,), -FAR), pairs.unit_nD.new_zeros(2)
    keep = pairs.unit_nD.shape[0] * pairs.unit_ND.shape[0] <= _KEPT_ENTRIES
    kept: list[tuple[Tensor, Tensor] | None] = []
    for strip in pairs.strips:
        masks_2RM = pairs.masks_2RM(strip)
        exponents_RM, slopes_RM = pairs.exponents_RM(strip, masks_2RM)
        raised_2 = torch.maximum(peaks_2, _peaks_2(exponents_RM, masks_2RM))
        pull_RM, sums_2 = _pull(exponents_RM, slopes_RM, masks_2RM, raised_2)
        totals_2 = totals_2 * (peaks_2 - raised_2).exp() + sums_2
        peaks_2 = raised_2
        kept.append((pull_RM, raised_2) if keep else None)
    if ranks.group is not None:
        largest_2 = peaks_2.clone()
        dist.all_reduce(largest_2, dist.ReduceOp.MAX, group=ranks.group)
        totals_2 = ranks.sum(totals_2 * (peaks_2 - largest_2).exp())
        peaks_2 = largest_2
    visits = 1.0 if pairs.once else 2.0
    pre_elu = (peaks_2 + totals_2.log()).sum() - 2.0 * math.log(visits)
    # The derivative of ELU; exp(-inf) = 0 gives the batch without pairs its zero gradient.
    slope = pre_elu.clamp_max(0.0).exp() * visits
    # Any pair makes its total at least 1 (the term at the peak), so the clamp only meets 0.
    shares_2 = slope / totals_2.clamp_min(1.0)
    return F.elu(pre_elu), _gradient_nD(pairs, kept, peaks_2, shares_2)


def _gradient_nD(
    pairs: _Pairs, kept: list[tuple[Tensor, Tensor] | None], peaks_2: Tensor, shares_2: Tensor
) -> Tensor:
    """The second round: what every pair pulls on its rows."""
    gradient_nD = torch.zeros_like(pairs.unit_nD)
    for strip, terms in zip(pairs.strips, kept, strict=True):
        masks_2RM = pairs.masks_2RM(strip)
        if terms is None:
            exponents_RM, slopes_RM = pairs.exponents_RM(strip, masks_2RM)
            pull_RM, _ = _pull(exponents_RM, slopes_RM, masks_2RM.clone(), peaks_2)
            factors_2 = shares_2
        else:
            pull_RM, then_2 = terms
            factors_2 = shares_2 * (then_2 - peaks_2).exp()
        for mask_RM, factor in zip(masks_2RM, factors_2, strict=True):
            mask_RM *= factor
        pull_RM *= masks_2RM[0].add_(masks_2RM[1])
        columns = pairs.columns(strip)
        gradient_nD[strip].addmm_(pull_RM, pairs.unit_ND[columns])
        if pairs.once:
            gradient_nD[columns].addmm_(pull_RM.T, pairs.unit_nD[strip])
    return gradient_nD


def _exponents(
    cosines_RM: Tensor, same_RM: Tensor, weighting: PairWeighting
) -> tuple[Tensor, Tensor]:
    """Exponent of every pair and its derivative by the cosine, the weight held constant."""
    temperature, within_scale, within_shift, between_scale, between_shift = weighting
    slopes_RM = (same_RM * -(within_scale + between_scale)).add_(between_scale).mul_(cosines_RM)
    slopes_RM += (same_RM * (within_shift + between_shift)).sub_(between_shift)
    slopes_RM.sigmoid_().mul_((same_RM * (-2.0 / temperature)).add_(1.0 / temperature))
    return cosines_RM.mul_(slopes_RM), slopes_RM


def _peaks_2(exponents_RM: Tensor, masks_2RM: Tensor) -> Tensor:
    """Largest exponent of each kind of pair.

    With the true maximum as the shift (as in online softmax) any temperature is safe, where a bound
    such as 1/tau underflows in float32 once tau is small and no pair comes near the bound.
    """
    same_RM, other_RM = masks_2RM
    # What is no pair has a low exponent already, so that it may be in neither mask.
    outside = (other_RM, same_RM)
    return torch.stack([torch.add(exponents_RM, out, alpha=-FAR).amax() for out in outside])


def _pull(
    exponents_RM: Tensor, slopes_RM: Tensor, masks_2RM: Tensor, peaks_2: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivative by the cosine of every pair's term, and the sums of terms; overwrites its input.

    Each kind of pair is relative to its own peak, and its terms are not yet divided by their sum.
    """
    for mask_RM, peak in zip(masks_2RM, peaks_2, strict=True):
        exponents_RM -= mask_RM * peak
    # Far pairs would have denormal terms: slow, and nothing beside the term 1 at the peak.
    masks_2RM *= exponents_RM.clamp_(-NEGLIGIBLE, 0.0).exp_()
    return slopes_RM.mul_(masks_2RM[0] + masks_2RM[1]), masks_2RM.sum((1, 2))
