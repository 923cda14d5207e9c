"""Class counts, sums and second moments of embeddings: one pass, memory D^2 + 2 C D.

Legend of shape suffixes: N rows (samples), D dims, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import check_embeddings

# Rows handled at once: enough for a fast matrix product, little enough to stay small in float64.
_CHUNK_ROWS = 1024


@dataclass(frozen=True)
class ClassSums:
    """Sums over the rows seen so far, in float64, of embeddings minus the pivot of their class.

    A pivot is the mean of the first rows seen of a class. It is near the class mean, so the
    within-class covariance is not a small difference of large sums however collapsed the classes
    are: rounding stays relative to the scatter within classes, not to the distance between them.

    Attributes:
        count_C: rows of each class.
        sum_CD: sum of x - pivot over the rows of each class.
        gram_DD: sum of (x - pivot)(x - pivot)^T over all rows.
        pivot_CD: the pivots; zero while a class has no row.
    """

    count_C: Tensor
    sum_CD: Tensor
    gram_DD: Tensor
    pivot_CD: Tensor

    def means_CD(self) -> Tensor:
        """Class means in float64.

        Raises:
            ValueError: a class has no row.
        """
        missing = (self.count_C == 0).nonzero().flatten().tolist()
        if missing:
            raise ValueError(f"no sample of class {', '.join(map(str, missing[:10]))} to fit on")
        return self.sum_CD / self.count_C[:, None] + self.pivot_CD

    def mean_D(self) -> Tensor:
        """Mean of all rows in float64."""
        return (self.sum_CD + self.count_C[:, None] * self.pivot_CD).sum(0) / self.count_C.sum()

    def within_DD(self) -> Tensor:
        """Covariance around the class means, divisor N: Sigma of the tied Gaussian.

        Raises:
            ValueError: a class has no row.
        """
        return self.gram_around_DD(self.means_CD()) / self.count_C.sum()

    def total_DD(self) -> Tensor:
        """Covariance around the mean of all rows, divisor N."""
        return self.moment_DD(self.mean_D())

    def moment_DD(self, point_D: Tensor) -> Tensor:
        """Mean over all rows of (x - point)(x - point)^T."""
        return self.gram_around_DD(point_D.double().expand_as(self.pivot_CD)) / self.count_C.sum()

    def gram_around_DD(self, points_CD: Tensor) -> Tensor:
        """Sum over all rows of (x - point)(x - point)^T, with a point for each class."""
        offset_CD = self.pivot_CD - points_CD
        half_DD = (self.sum_CD + self.count_C[:, None] / 2.0 * offset_CD).T @ offset_CD
        return self.gram_DD + half_DD + half_DD.T


def class_sums(
    embeddings_ND: Tensor, labels_N: Tensor | None = None, *, classes: int = 1
) -> ClassSums:
    """Sums over (N, D) rows that are all at hand; without labels they are of one class.

    Raises:
        ValueError: see `accumulate`.
    """
    if labels_N is None:
        labels_N = torch.zeros(
            embeddings_ND.shape[0], dtype=torch.int64, device=embeddings_ND.device
        )
    empty = empty_class_sums(classes, embeddings_ND.shape[-1], embeddings_ND.device)
    return accumulate(empty, embeddings_ND, labels_N)


def empty_class_sums(classes: int, dims: int, device: torch.device | str = "cpu") -> ClassSums:
    """Sums over no row: zeros."""
    zeros = torch.zeros(classes, dims, dtype=torch.float64, device=device)
    count_C, gram_DD = zeros.new_zeros(classes), zeros.new_zeros(dims, dims)
    return ClassSums(count_C, zeros, gram_DD, zeros.clone())


def accumulate(sums: ClassSums, embeddings_ND: Tensor, labels_N: Tensor) -> ClassSums:
    """New sums with more (N, D) rows added, of any float dtype and on the device of the sums.

    Raises:
        ValueError: rows are empty, not finite or of other dims, or a label is outside 0..C-1.
    """
    classes, dims = sums.pivot_CD.shape
    check_embeddings(embeddings_ND, dims)
    if labels_N.shape != embeddings_ND.shape[:1]:
        raise ValueError(f"{embeddings_ND.shape[0]} rows but labels {tuple(labels_N.shape)}")
    if int(labels_N.min()) < 0 or int(labels_N.max()) >= classes:
        raise ValueError(f"labels must be 0..{classes - 1}")
    count_C, sum_CD = sums.count_C.clone(), sums.sum_CD.clone()
    gram_DD, pivot_CD = sums.gram_DD.clone(), sums.pivot_CD.clone()
    for start in range(0, embeddings_ND.shape[0], _CHUNK_ROWS):
        rows_ND = embeddings_ND[start : start + _CHUNK_ROWS].double()
        chunk_N = labels_N[start : start + _CHUNK_ROWS]
        chunk_count_C = torch.bincount(chunk_N, minlength=classes)
        new_C = (count_C == 0) & (chunk_count_C > 0)
        if bool(new_C.any()):
            means_CD = torch.zeros_like(pivot_CD).index_add_(0, chunk_N, rows_ND)
            means_CD /= chunk_count_C.clamp_min(1)[:, None]
            pivot_CD = torch.where(new_C[:, None], means_CD, pivot_CD)
        offset_ND = rows_ND - pivot_CD.index_select(0, chunk_N)
        count_C += chunk_count_C
        sum_CD.index_add_(0, chunk_N, offset_ND)
        gram_DD += _gram(offset_ND)
    return ClassSums(count_C, sum_CD, gram_DD, pivot_CD)


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
