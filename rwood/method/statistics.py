"""Class counts, means and scatter of embeddings, in float64 whatever the rows are.

Legend of shape suffixes: N rows (samples), D dims, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import check_embeddings

# Rows handled at once: enough for a fast matrix product, little enough to stay small in float64.
_CHUNK_ROWS = 1024


@dataclass(frozen=True)
class ClassMoments:
    """What Gaussians of classes are made of, in float64.

    The scatter is taken around the class means, so the within-class covariance is not a small
    difference of large sums however collapsed the classes are: rounding stays relative to the
    scatter within classes, not to the distance between them.

    Attributes:
        count_C: rows of each class.
        means_CD: class means.
        scatter_DD: sum over all rows of (x - mean)(x - mean)^T, with the mean of the row's class.
    """

    count_C: Tensor
    means_CD: Tensor
    scatter_DD: Tensor

    def mean_D(self) -> Tensor:
        """Mean of all rows."""
        return self.count_C @ self.means_CD / self.count_C.sum()

    def within_DD(self) -> Tensor:
        """Covariance around the class means, divisor N: Sigma of the tied Gaussian."""
        return self.scatter_DD / self.count_C.sum()

    def total_DD(self) -> Tensor:
        """Covariance around the mean of all rows, divisor N."""
        return self.moment_DD(self.mean_D())

    def moment_DD(self, point_D: Tensor) -> Tensor:
        """Mean over all rows of (x - point)(x - point)^T."""
        offset_CD = self.means_CD - point_D
        between_DD = (self.count_C[:, None] * offset_CD).T @ offset_CD
        return (self.scatter_DD + between_DD) / self.count_C.sum()


def class_moments(
    embeddings_ND: Tensor, labels_N: Tensor | None = None, *, classes: int = 1
) -> ClassMoments:
    """Moments of (N, D) rows of any float dtype; without labels they are of one class.

    Raises:
        ValueError: rows are empty or not finite, a label is outside 0..C-1, or a class has no row.
    """
    if labels_N is None:
        labels_N = torch.zeros(
            embeddings_ND.shape[0], dtype=torch.int64, device=embeddings_ND.device
        )
    check_embeddings(embeddings_ND)
    if labels_N.shape != embeddings_ND.shape[:1]:
        raise ValueError(f"{embeddings_ND.shape[0]} rows but labels {tuple(labels_N.shape)}")
    if int(labels_N.min()) < 0 or int(labels_N.max()) >= classes:
        raise ValueError(f"labels must be 0..{classes - 1}")
    count_C = torch.bincount(labels_N, minlength=classes)
    missing = (count_C == 0).nonzero().flatten().tolist()
    if missing:
        raise ValueError(f"no sample of class {', '.join(map(str, missing[:10]))} to fit on")
    means_CD = class_means(embeddings_ND, labels_N, classes)
    scatter_DD = means_CD.new_zeros(means_CD.shape[1], means_CD.shape[1])
    for rows_nD, labels_n in _chunks(embeddings_ND, labels_N):
        scatter_DD += _gram(rows_nD - means_CD[labels_n])
    return ClassMoments(count_C.double(), means_CD, scatter_DD)


def class_means(embeddings_ND: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """(C, D) mean embedding of each class, in float64; NaN where a class has no row."""
    sums_CD = embeddings_ND.new_zeros(classes, embeddings_ND.shape[1], dtype=torch.float64)
    for rows_nD, labels_n in _chunks(embeddings_ND, labels_N):
        sums_CD.index_add_(0, labels_n, rows_nD)
    return sums_CD / torch.bincount(labels_N, minlength=classes)[:, None]


def _chunks(embeddings_ND: Tensor, labels_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows at a time, in float64, and their labels."""
    for start in range(0, embeddings_ND.shape[0], _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        yield embeddings_ND[rows].double(), labels_N[rows]


def _gram(offset_ND: Tensor) -> Tensor:
    """X^T X; on a CPU through numpy, which computes one triangle only (BLAS syrk)."""
    if offset_ND.device.type == "cpu":
        array_ND = offset_ND.numpy()
        return torch.from_numpy(array_ND.T @ array_ND)
    return offset_ND.T @ offset_ND


def shrunk(covariance_DD: Tensor, shrinkage: float) -> Tensor:
    """A covariance between itself and the multiple of the identity with the same total variance.

    (1 - a) S + a (tr S / D) I: the estimator of Ledoit and Wolf, J. Multivariate Analysis 2004,
    with the share a = `shrinkage` given instead of estimated, from 0 (as it is) to 1 (distances are
    Euclidean). A contrastive embedding collapses onto few directions; the others have variances
    near zero, whose inverses would rule the distance.
    """
    if shrinkage == 0:
        return covariance_DD
    spread_D = (shrinkage * covariance_DD.diagonal().mean()).expand(covariance_DD.shape[0])
    return (1 - shrinkage) * covariance_DD + torch.diag(spread_D)
