"""OOD score that adds a confidence and a distance, each in its own units of ID images.

**Scores: higher = more OOD** (see `scorers`, which says what every ``fit_`` and ``score_`` takes,
returns and raises).

Legend of shape suffixes: N training rows, V validation rows, Q query rows, D dims, C classes,
K kept directions of the Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import beside, check_embeddings
from .gaussian_scorers import Mahalanobis, fit_mahalanobis, score_mahalanobis
from .head_scorers import Head, fit_head, score_head_mls


@dataclass(frozen=True)
class HeadSum(Head, Mahalanobis):
    """A linear head, class Gaussians, and what both say of ID validation images; all float64.

    Attributes:
        centre_2: mean of the head's score and of the distance over ID validation images.
        spread_2: their standard deviations.
    """

    centre_2: Tensor
    spread_2: Tensor


def fit_head_sum(
    embeddings_ND: Tensor,
    labels_N: Tensor,
    val_VD: Tensor,
    *,
    classes: int,
    rtol: float | None = None,
    shrinkage: float = 0.0,
) -> HeadSum:
    """A head and Gaussians of the training rows, and the scale of both scores on validation rows.

    The (V, D) validation rows are of ID images. Training rows would not do for the scale: both
    parts were fitted to them and flatter them. `rtol` and `shrinkage`: see `fit_mahalanobis`.
    """
    check_embeddings(val_VD, embeddings_ND.shape[-1])
    head = fit_head(embeddings_ND, labels_N, classes=classes)
    gaussians = fit_mahalanobis(
        embeddings_ND, labels_N, classes=classes, rtol=rtol, shrinkage=shrinkage
    )
    parts_2V = _parts_2Q(head, gaussians, val_VD.double())
    spread_2 = parts_2V.std(1, correction=0).clamp_min(1e-12)
    return HeadSum(**vars(head), **vars(gaussians), centre_2=parts_2V.mean(1), spread_2=spread_2)


def score_head_sum(state: HeadSum, embeddings_QD: Tensor, *, weight: float = 1.0) -> Tensor:
    """Minus the head's largest logit plus `weight` times the Mahalanobis distance, standardised.

    Confidence is sure of what lies between classes, distance of what lies away from all of them.
    Each part has mean 0 and standard deviation 1 over ID validation images. A weight of 0 leaves
    the confidence alone.
    """
    parts_2Q = _parts_2Q(state, state, embeddings_QD)
    centre_2, spread_2 = beside(embeddings_QD, state.centre_2, state.spread_2)
    confidence_Q, distance_Q = (parts_2Q - centre_2[:, None]) / spread_2[:, None]
    scores_Q: Tensor = confidence_Q + weight * distance_Q
    return scores_Q


def _parts_2Q(head: Head, gaussians: Mahalanobis, rows_QD: Tensor) -> Tensor:
    return torch.stack([score_head_mls(head, rows_QD), score_mahalanobis(gaussians, rows_QD)])
