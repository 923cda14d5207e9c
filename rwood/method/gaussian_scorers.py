"""OOD scores from Gaussians in the embedding space: Mahalanobis, RMDS, SSD+.

**Scores: higher = more OOD** (see `scorers`, which says what every ``fit_`` and ``score_`` takes,
returns and raises).

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes, K kept directions of a
Gaussian, B kept directions of the background Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import beside, check_embeddings, chunks, squared_distance
from .statistics import ClassMoments, class_moments, shrunk


@dataclass(frozen=True)
class Mahalanobis:
    """Class Gaussians with one covariance, as a point set in whitened space; all float64.

    Attributes:
        centre_D: subtracted first, so that float32 queries lose no digits to a common offset.
        whitening_DK: maps a centred embedding to where the distance is Euclidean.
        means_CK: class means, centred and whitened.
    """

    centre_D: Tensor
    whitening_DK: Tensor
    means_CK: Tensor


def fit_mahalanobis(
    embeddings_ND: Tensor,
    labels_N: Tensor,
    *,
    classes: int,
    rtol: float | None = None,
    shrinkage: float = 0.0,
) -> Mahalanobis:
    """Class means and the inverse of their common covariance, which has divisor N.

    Lee et al., NeurIPS 2018, with the whitening of the pseudo-inverse: directions of less variance
    than `rtol` times the largest do not count. Differs from the authors' code: whitened once
    instead of a matrix product for every class, and in float64 throughout.

    Args:
        embeddings_ND: training rows.
        labels_N: their classes.
        classes: C.
        rtol: by default D times the float64 epsilon, which is the authors' rule.
        shrinkage: see `statistics.shrunk`; the authors have none.

    Raises:
        ValueError: a class has no row, or all rows coincide with their class mean.
    """
    return _tied(class_moments(embeddings_ND, labels_N, classes=classes), rtol, shrinkage)


def _tied(moments: ClassMoments, rtol: float | None, shrinkage: float) -> Mahalanobis:
    centre_D = moments.means_CD.mean(0)
    whitening_DK = _whitening(shrunk(moments.within_DD(), shrinkage), rtol)
    return Mahalanobis(centre_D, whitening_DK, (moments.means_CD - centre_D) @ whitening_DK)


def score_mahalanobis(state: Mahalanobis, embeddings_QD: Tensor) -> Tensor:
    """Squared Mahalanobis distance to the nearest class mean."""
    return nearest_class_mahalanobis(state, embeddings_QD)[0]


def nearest_class_mahalanobis(state: Mahalanobis, embeddings_QD: Tensor) -> tuple[Tensor, Tensor]:
    """(Q,) Mahalanobis scores, and (Q,) indices of the nearest classes, to which they belong.

    The nearest class is found by one matrix product; its distance is then recomputed as a plain sum
    of squares, since |z|^2 - 2 z.m + |m|^2 cancels in float32. Relative error against float64: at
    rounding in float64; below 2e-6 in float32 for a well-conditioned covariance, about 5e-6 where
    its eigenvalues span 1e3 or more.
    """
    check_embeddings(embeddings_QD, state.centre_D.shape[0])
    centre_D, whitening_DK, means_CK = beside(
        embeddings_QD, state.centre_D, state.whitening_DK, state.means_CK
    )
    half_norms_C = means_CK.square().sum(1) / 2.0
    scores, nearest = [], []
    for chunk_QD in chunks(embeddings_QD, max(*whitening_DK.shape, means_CK.shape[0])):
        white_QK = (chunk_QD - centre_D) @ whitening_DK
        classes_Q = torch.addmm(half_norms_C, white_QK, means_CK.T, alpha=-1.0).argmin(1)
        scores.append(white_QK.sub_(means_CK[classes_Q]).square_().sum(1))
        nearest.append(classes_Q)
    return torch.cat(scores), torch.cat(nearest)


@dataclass(frozen=True)
class Rmds(Mahalanobis):
    """Class Gaussians with one covariance, and one Gaussian of all classes; all float64.

    Attributes:
        background_mean_D: mean of all rows.
        background_whitening_DB: whitening of the covariance of all rows.
    """

    background_mean_D: Tensor
    background_whitening_DB: Tensor


def fit_rmds(
    embeddings_ND: Tensor,
    labels_N: Tensor,
    *,
    classes: int,
    rtol: float | None = None,
    shrinkage: float = 0.0,
) -> Rmds:
    """Gaussians of the relative Mahalanobis distance.

    `rtol` (see `fit_mahalanobis`) and `shrinkage` are those of both covariances.
    """
    moments = class_moments(embeddings_ND, labels_N, classes=classes)
    return Rmds(
        **vars(_tied(moments, rtol, shrinkage)),
        background_mean_D=moments.mean_D(),
        background_whitening_DB=_whitening(shrunk(moments.total_DD(), shrinkage), rtol),
    )


def score_rmds(state: Rmds, embeddings_QD: Tensor) -> Tensor:
    """Distance to the nearest class minus distance to the background. Ren et al., 2021.

    Negative scores are ordinary.
    """
    near_Q = score_mahalanobis(state, embeddings_QD)
    return near_Q - squared_distance(
        embeddings_QD, state.background_mean_D, state.background_whitening_DB
    )


@dataclass(frozen=True)
class Ssd:
    """One Gaussian of normalised and standardised embeddings; all float64.

    Attributes:
        mean_D: mean of the unit rows.
        whitening_DK: standardisation and whitening in one matrix.
    """

    mean_D: Tensor
    whitening_DK: Tensor


def fit_ssd(embeddings_ND: Tensor, *, rtol: float | None = None) -> Ssd:
    """The Gaussian of SSD+, which knows no classes.

    Rows are scaled to unit length and every dim to zero mean and unit variance; of the covariance
    of that, a pseudo-inverse. Sehwag et al., ICLR 2021. Differs from the authors' code: a dim
    without variance is left unscaled (there: divided by 1e-10) and so does not count; and the
    cut-off of directions, `rtol`, is that of `fit_mahalanobis`.
    """
    check_embeddings(embeddings_ND)
    moments = class_moments(F.normalize(embeddings_ND.double(), dim=1))
    covariance_DD = moments.total_DD()
    deviation_D = covariance_DD.diagonal().clamp_min(0.0).sqrt()
    scale_D = torch.where(deviation_D > 1e-10, deviation_D, 1.0)
    standard_DD = covariance_DD / torch.outer(scale_D, scale_D)
    return Ssd(moments.mean_D(), _whitening(standard_DD, rtol) / scale_D[:, None])


def score_ssd(state: Ssd, embeddings_QD: Tensor) -> Tensor:
    """Squared Mahalanobis distance of the unit row to the one mean."""
    check_embeddings(embeddings_QD, state.mean_D.shape[0])
    return squared_distance(F.normalize(embeddings_QD, dim=1), state.mean_D, state.whitening_DK)


def _whitening(covariance_DD: Tensor, rtol: float | None) -> Tensor:
    """Matrix that maps the covariance to the identity of the directions kept."""
    variances_D, directions_DD = torch.linalg.eigh(covariance_DD)
    if rtol is None:
        rtol = covariance_DD.shape[0] * torch.finfo(torch.float64).eps
    kept_D = variances_D > variances_D[-1].clamp_min(0.0) * rtol
    if not bool(kept_D.any()):
        raise ValueError("the embeddings have no variance to fit a Gaussian on")
    whitening_DK: Tensor = directions_DD[:, kept_D] / variances_D[kept_D].sqrt()
    return whitening_DK
