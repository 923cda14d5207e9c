"""PALM: a loss on several prototypes a class, to which rows are assigned by optimal transport.

Legend of shape suffixes: n rows (views) of this rank, N rows of all ranks, D dims, C classes,
K prototypes a class, P = K x C prototypes, of which the i-th belongs to class i mod C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .batch import Ranks, scalar_like, unit_rows
from .loss import WHOLE, Loss, Rows

SINKHORN_TURNS = 3
"""Turns of the Sinkhorn-Knopp iteration, as in the authors' code."""


def palm_loss(
    projections_ND: Tensor,
    labels_N: Tensor,
    prototypes_KCD: Tensor,
    *,
    temperature: float | Tensor,
    prototype_temperature: float | Tensor,
    momentum: float | Tensor,
    epsilon: float | Tensor,
    top_k: int,
    contrast_weight: float | Tensor,
    group: dist.ProcessGroup | None = None,
    rows_per_rank: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """PALM loss L_MLE + lambda L_proto-contra, and the prototypes after this batch.

    Rows are assigned to prototypes (`assignment`), each to the `top_k` likeliest of its class. The
    prototypes follow the mean of their rows, an assignment to the new ones weighs a row's
    log-likelihood under those, held constant, and a supervised contrast between prototypes, with
    gradient through the update, keeps those of a class together. Eq. (5) to (9) of Lu et al.,
    ICLR 2024. Differs from the authors' code: shares of a row are a softmax, never clamped at
    1e-12, and the assignment is computed in logarithms.

    Over ranks every rank receives the full loss, the same prototypes and its rows' complete
    gradient: **parameter gradients must be SUMMED over ranks**.

    Args:
        projections_ND: (N, D) rows, one a view; normalised here, with gradient. Half precision is
            computed in float32, float64 stays float64, autocast is ignored.
        labels_N: (N,) integer classes in 0..C-1.
        prototypes_KCD: (K, C, D) unit rows from the step before; not modified.
        temperature: tau > 0 of a row's similarity to prototypes.
        prototype_temperature: tau > 0 of the contrast between prototypes.
        momentum: alpha in 0..1, the share of a prototype that a batch leaves.
        epsilon: smoothness of the assignment, > 0.
        top_k: prototypes of its class that a row counts for; K or more: all of them.
        contrast_weight: lambda.
        group: see `reweightood_loss`.
        rows_per_rank: see `reweightood_loss`.

    Returns:
        The scalar loss in at least float32; the (K, C, D) new prototypes, without gradient.

    Raises:
        ValueError: shapes do not fit, or there are fewer than two classes.
    """
    if prototypes_KCD.ndim != 3 or prototypes_KCD.shape[1] < 2:
        raise ValueError(
            "PALM needs (prototypes a class, two classes or more, dims), got "
            f"{tuple(prototypes_KCD.shape)}"
        )
    unit_nD = unit_rows(projections_ND, labels_N)
    with torch.autocast(unit_nD.device.type, enabled=False):
        ranks = Ranks(unit_nD, rows_per_rank, group)
        unit_ND = ranks.gather_with_gradient(unit_nD)
        start_PD = prototypes_KCD.to(unit_nD.dtype).flatten(0, 1)
        classes_P = torch.arange(start_PD.shape[0], device=labels_N.device)
        classes_P = classes_P % prototypes_KCD.shape[1]
        all_labels_N = ranks.gather(labels_N)
        chosen_NP = _likeliest(
            assignment(unit_ND.detach(), start_PD, epsilon),
            all_labels_N[:, None] == classes_P,
            min(top_k, prototypes_KCD.shape[0]),
        )
        moved_PD = _follow(start_PD, unit_ND, chosen_NP, momentum)
        fixed_PD = moved_PD.detach()
        shares_NP = assignment(unit_ND.detach(), fixed_PD, epsilon)
        shares_NP = shares_NP.masked_fill(chosen_NP == -math.inf, -math.inf).softmax(1)
        shares_nP = shares_NP[ranks.first : ranks.first + unit_nD.shape[0]]
        logits_nP = unit_nD @ fixed_PD.T / scalar_like(unit_nD, temperature)
        likelihood = ranks.mean((logits_nP.logsumexp(1) - (shares_nP * logits_nP).sum(1)).sum())
        contrast = _contrast(moved_PD, classes_P, scalar_like(unit_nD, prototype_temperature))
        loss = likelihood + scalar_like(unit_nD, contrast_weight) * contrast
        return loss, fixed_PD.view_as(prototypes_KCD)


def assignment(unit_ND: Tensor, prototypes_PD: Tensor, epsilon: float | Tensor) -> Tensor:
    """(N, P) log shares of unit rows in unit prototypes, which take about as many rows each.

    Sinkhorn-Knopp on exp(z . p / epsilon): in turn, the shares in a prototype sum to one over the
    rows, then those of a row over the prototypes. The smaller epsilon > 0, the harder the
    assignment.
    """
    log_NP = unit_ND @ prototypes_PD.T / scalar_like(unit_ND, epsilon)
    for _ in range(SINKHORN_TURNS):
        log_NP = log_NP - log_NP.logsumexp(0, keepdim=True)
        log_NP = log_NP - log_NP.logsumexp(1, keepdim=True)
    return log_NP


class Palm(Loss):
    """PALM of a training, which carries its prototypes from step to step."""

    prototypes_KCD: Tensor

    def __init__(
        self, *, classes: int, dims: int, prototypes_per_class: int, **settings: float
    ) -> None:
        """Draw the prototypes: uniform in the positive orthant, as in the authors' code."""
        super().__init__(**settings)
        drawn_KCD = torch.rand(prototypes_per_class, classes, dims)
        self.register_buffer("prototypes_KCD", F.normalize(drawn_KCD, dim=2))

    def forward(self, outputs_MD: Tensor, labels_M: Tensor, rows: Rows = WHOLE) -> Tensor:
        """See `palm_loss`; the prototypes follow the batch."""
        loss, self.prototypes_KCD = palm_loss(
            outputs_MD,
            labels_M,
            self.prototypes_KCD,
            group=rows.group,
            rows_per_rank=rows.per_rank,
            **self.settings,
        )
        return loss


def _likeliest(log_NP: Tensor, own_NP: Tensor, top_k: int) -> Tensor:
    """Log shares of the `top_k` likeliest prototypes of a row's class; -inf for all others."""
    own_class_NP = log_NP.masked_fill(~own_NP, -math.inf)
    values_Nk, places_Nk = own_class_NP.topk(top_k, dim=1)
    return torch.full_like(log_NP, -math.inf).scatter(1, places_Nk, values_Nk)


def _follow(
    start_PD: Tensor, unit_ND: Tensor, chosen_NP: Tensor, momentum: float | Tensor
) -> Tensor:
    """Prototypes moved towards the mean of their rows; one without a row stays, to rounding."""
    weights_NP = F.normalize(chosen_NP.softmax(1), p=1, dim=0)
    momentum = scalar_like(unit_ND, momentum)
    return F.normalize(momentum * start_PD + (1.0 - momentum) * weights_NP.T @ unit_ND, dim=1)


def _contrast(prototypes_PD: Tensor, classes_P: Tensor, temperature: Tensor) -> Tensor:
    """SupCon over the prototypes; with one a class, their similarities alone."""
    itself_PP = torch.eye(len(classes_P), dtype=torch.bool, device=classes_P.device)
    logits_PP = (prototypes_PD @ prototypes_PD.T - 1.0) / temperature
    partners_PP = (classes_P[:, None] == classes_P) & ~itself_PP
    weights_PP = F.normalize(partners_PP.to(logits_PP.dtype), p=1, dim=1)
    others_P = logits_PP.masked_fill(itself_PP, -math.inf).logsumexp(1)
    return (others_P - (weights_PP * logits_PP).sum(1)).mean()
