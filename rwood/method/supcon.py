"""The SupCon loss over all pairs of a batch, in row strips.

Legend of shape suffixes: n rows (views) of this rank, N rows of all ranks, R rows of a strip, D
dims. A trailing n, N or R alone is a vector over rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from .batch import FAR, NEGLIGIBLE, Ranks, row_strips, scalar_like, unit_rows, with_gradient
from .loss import Loss


def supcon_loss(
    projections_ND: Tensor,
    labels_N: Tensor,
    *,
    temperature: float | Tensor,
    base_temperature: float | Tensor,
    group: dist.ProcessGroup | None = None,
    rows_per_rank: Sequence[int] | None = None,
) -> Tensor:
    """Supervised contrastive loss, the mean of an anchor's loss over all rows as anchors.

    An anchor's loss is the mean over its positives p of -(s_ip / tau - log sum_a exp(s_ia / tau)),
    a over all other rows; the whole is scaled by tau / base tau. Eq. (2) of Khosla et al., NeurIPS
    2020. Differs from the authors' first code: an anchor without a positive contributes 0 (there:
    NaN) and still counts in the mean, as in their later code; a batch of such anchors, or an empty
    one, has loss 0 and gradient exactly zero.

    Over ranks every rank receives the full loss and its rows' complete gradient: **parameter
    gradients must be SUMMED over ranks**.

    Args:
        projections_ND: (N, D) rows, one a view; normalised here, with gradient. Half precision is
            computed in float32, float64 stays float64, autocast is ignored.
        labels_N: (N,) integer classes.
        temperature: tau > 0.
        base_temperature: the temperature at which the gradient's scale is one.
        group: see `reweightood_loss`.
        rows_per_rank: see `reweightood_loss`.

    Returns:
        Scalar in at least float32.

    Raises:
        ValueError: the shapes of rows and labels, or the row counts, do not fit.
    """
    unit_nD = unit_rows(projections_ND, labels_N)
    temperature = scalar_like(unit_nD, temperature)
    scale = temperature / scalar_like(unit_nD, base_temperature)
    with torch.no_grad(), torch.autocast(unit_nD.device.type, enabled=False):
        ranks = Ranks(unit_nD, rows_per_rank, group)
        loss, gradient_nD = _supcon(unit_nD, labels_N, temperature, ranks)
    return scale * with_gradient(unit_nD, loss, gradient_nD)


class SupCon(Loss):
    """SupCon of a training: `temperature` and `base_temperature` are its settings."""

    formula = staticmethod(supcon_loss)


def _supcon(
    unit_nD: Tensor, labels_n: Tensor, temperature: Tensor, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Unscaled loss of the global batch and its gradient with respect to this rank's unit rows."""
    rows = unit_nD.shape[0]
    labels_n = labels_n.to(unit_nD.dtype)
    unit_ND, labels_N = ranks.gather(unit_nD), ranks.gather(labels_n)
    first = ranks.first

    # A row's pairs pull twice: with the row as their anchor and with the other row as theirs. The
    # second pull needs the other row's normaliser, so all normalisers come before any gradient.
    log_sums_n, shares_n = unit_nD.new_empty(rows), unit_nD.new_empty(rows)
    loss = unit_nD.new_zeros(())
    for strip in row_strips(rows, unit_ND.shape[0], unit_nD.device):
        own = slice(first + strip.start, first + strip.stop)
        logits_RN = (unit_nD[strip] @ unit_ND.T).div_(temperature)
        positive_RN = _positives(labels_n[strip], labels_N, own)
        positives_R = positive_RN.sum(1)
        shares_R = positives_R.clamp_max(1.0) / positives_R.clamp_min(1.0)
        attraction_R = positive_RN.mul_(logits_RN).sum(1)
        log_sums_R = _log_sum_exp(logits_RN, own)
        anchors_R = positives_R > 0
        loss += torch.where(anchors_R, log_sums_R - attraction_R * shares_R, 0.0).sum()
        log_sums_n[strip], shares_n[strip] = log_sums_R, shares_R

    log_sums_N, shares_N = ranks.gather(log_sums_n), ranks.gather(shares_n)
    gradient_nD = torch.empty_like(unit_nD)
    for strip in row_strips(rows, unit_ND.shape[0], unit_nD.device):
        own = slice(first + strip.start, first + strip.stop)
        logits_RN = (unit_nD[strip] @ unit_ND.T).div_(temperature)
        # An anchor without a positive has share 0 and pulls nothing.
        pull_RN = _exp(logits_RN - log_sums_n[strip, None]).mul_(shares_n[strip, None] > 0)
        pull_RN += _exp(logits_RN.sub_(log_sums_N)).mul_(shares_N > 0)
        pull_RN[:, own].diagonal().fill_(0.0)
        positive_RN = _positives(labels_n[strip], labels_N, own)
        pull_RN -= positive_RN.mul_(shares_n[strip, None] + shares_N)
        torch.mm(pull_RN, unit_ND, out=gradient_nD[strip])
    return ranks.sum(loss) / ranks.total, gradient_nD.div_(temperature * ranks.total)


def _positives(labels_R: Tensor, labels_N: Tensor, own: slice) -> Tensor:
    """Ones where the class is the same and the row another, in the dtype of the (float) labels."""
    positive_RN = labels_R.new_empty(labels_R.shape[0], labels_N.shape[0])
    torch.eq(labels_R[:, None], labels_N, out=positive_RN)
    positive_RN[:, own].diagonal().fill_(0.0)
    return positive_RN


def _log_sum_exp(logits_RN: Tensor, own: slice) -> Tensor:
    """Log-sum-exp of every row over all columns but its own."""
    logits_RN[:, own].diagonal().fill_(-FAR)
    peaks_R = logits_RN.amax(1)
    terms_RN = _exp(logits_RN - peaks_R[:, None])
    return terms_RN.sum(1).log_().add_(peaks_R)


def _exp(exponents_RN: Tensor) -> Tensor:
    """Exp in place of terms below 1, without the slow and negligible denormal results."""
    return exponents_RN.clamp_(-NEGLIGIBLE, 0.0).exp_()
