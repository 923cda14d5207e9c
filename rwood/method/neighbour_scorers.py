"""OOD scores from the nearest training rows (KNN) and the nearest class directions (cosine).

**Scores: higher = more OOD** (see `scorers`, which says what every ``fit_`` and ``score_`` takes,
returns and raises).

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import beside, check_embeddings, chunks
from .statistics import class_moments


@dataclass(frozen=True)
class Knn:
    """The training rows and which neighbour counts.

    Attributes:
        centre_D: mean of the training rows, subtracted from queries.
        bank_ND: the centred training rows, in their own dtype, float32 at least.
        k: 0-d integer tensor; 1 is the nearest row.
    """

    centre_D: Tensor
    bank_ND: Tensor
    k: Tensor


def fit_knn(embeddings_ND: Tensor, *, k: int) -> Knn:
    """Keeps the training rows.

    Raises:
        ValueError: rows are empty or not finite, or there are fewer than k.
    """
    check_embeddings(embeddings_ND)
    if not 1 <= k <= embeddings_ND.shape[0]:
        raise ValueError(f"k = {k} neighbours of {embeddings_ND.shape[0]} training rows")
    (bank_ND,) = beside(embeddings_ND, embeddings_ND)
    centre_D = bank_ND.mean(0)
    return Knn(centre_D, bank_ND - centre_D, torch.tensor(k))


def score_knn(state: Knn, embeddings_QD: Tensor) -> Tensor:
    """Squared Euclidean distance to the k-th nearest training row.

    Sun et al., ICML 2022, squared as in OpenOOD. Exact search: a matrix product ranks the rows, and
    the distance to the k-th is recomputed as a plain sum of squares.
    """
    check_embeddings(embeddings_QD, state.bank_ND.shape[1])
    centre_D, bank_ND = beside(embeddings_QD, state.centre_D, state.bank_ND)
    half_norms_N = bank_ND.square().sum(1) / 2.0
    neighbours, scores = int(state.k), []
    for chunk_QD in chunks(embeddings_QD, max(bank_ND.shape)):
        centred_QD = chunk_QD - centre_D
        # The larger z.b - |b|^2 / 2, the nearer the row b: |z|^2 is the same for all.
        nearness_QN = torch.addmm(half_norms_N, centred_QD, bank_ND.T, beta=-1.0)
        values_QK, rows_QK = nearness_QN.topk(neighbours, sorted=False)
        kth_Q = rows_QK.gather(1, values_QK.argmin(1, keepdim=True)).squeeze(1)
        scores.append(centred_QD.sub_(bank_ND[kth_Q]).square_().sum(1))
    return torch.cat(scores)


@dataclass(frozen=True)
class Cosine:
    """One direction a class: normalised means of the normalised rows of each class, float64."""

    directions_CD: Tensor


def fit_cosine(embeddings_ND: Tensor, labels_N: Tensor, *, classes: int) -> Cosine:
    """Direction of every class; rows may have any length."""
    unit_ND = F.normalize(embeddings_ND.double(), dim=1)
    return Cosine(F.normalize(class_moments(unit_ND, labels_N, classes=classes).means_CD, dim=1))


def score_cosine(state: Cosine, embeddings_QD: Tensor) -> Tensor:
    """One minus the cosine to the nearest class direction, 0..2; queries may have any length."""
    check_embeddings(embeddings_QD, state.directions_CD.shape[1])
    (directions_CD,) = beside(embeddings_QD, state.directions_CD)
    nearest = [
        (F.normalize(chunk_QD, dim=1) @ directions_CD.T).amax(1)
        for chunk_QD in chunks(embeddings_QD, max(directions_CD.shape))
    ]
    return 1.0 - torch.cat(nearest)
