"""Class counts, sums and second moments of embeddings: one pass, mergeable, memory D^2 + C D.

Legend of shape suffixes: N rows (samples), D dims, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .queries import check_embeddings

# Rows handled at once: enough for a fast matrix product, little enough to stay small in float64.
_CHUNK_ROWS = 2048


@dataclass(frozen=True)
class ClassSums:
    """Sums over the rows seen so far, in float64, of embeddings minus a common shift.

    The shift (the mean of the first rows seen) keeps the second moment from being dominated by the
    mean, which the covariance would have to subtract again.

    Attributes:
        count_C: rows of each class.
        sum_CD: sum of x - shift over the rows of each class.
        gram_DD: sum of (x - shift)(x - shift)^T over all rows.
        shift_D: the shift; zero while no row has been seen.
    """

    count_C: Tensor
    sum_CD: Tensor
    gram_DD: Tensor
    shift_D: Tensor

    def means_CD(self) -> Tensor:
        """Class means in float64.

        Raises:
            ValueError: a class has no row.
        """
        missing = (self.count_C == 0).nonzero().flatten().tolist()
        if missing:
            raise ValueError(f"no sample of class {', '.join(map(str, missing[:10]))} to fit on")
        return self.sum_CD / self.count_C[:, None] + self.shift_D

    def mean_D(self) -> Tensor:
        """Mean of all rows in float64."""
        return self.sum_CD.sum(0) / self.count_C.sum() + self.shift_D

    def within_DD(self) -> Tensor:
        """Covariance around the class means, divisor N: Sigma of the tied Gaussian.

        Raises:
            ValueError: a class has no row.
        """
        centred_CD = self.means_CD() - self.shift_D
        scatter_DD = self.gram_DD - (centred_CD * self.count_C[:, None]).T @ centred_CD
        return scatter_DD / self.count_C.sum()

    def total_DD(self) -> Tensor:
        """Covariance around the mean of all rows, divisor N."""
        return self.moment_DD(self.mean_D())

    def moment_DD(self, point_D: Tensor) -> Tensor:
        """Second moment around any point, divisor N.

        Args:
            point_D: (D,) the point.

        Returns:
            (D, D) mean of (x - point)(x - point)^T.
        """
        rows = self.count_C.sum()
        offset_D = self.shift_D - point_D.double()
        cross_DD = torch.outer(self.sum_CD.sum(0) / rows, offset_D)
        return self.gram_DD / rows + cross_DD + cross_DD.T + torch.outer(offset_D, offset_D)


def empty_class_sums(classes: int, dims: int, device: torch.device | str = "cpu") -> ClassSums:
    """Sums over no row.

    Args:
        classes: C.
        dims: D.
        device: where the sums live.

    Returns:
        Zeros.
    """
    zeros = torch.zeros(classes, dims, dtype=torch.float64, device=device)
    return ClassSums(zeros[:, 0].clone(), zeros, zeros.new_zeros(dims, dims), zeros.new_zeros(dims))


def accumulate(sums: ClassSums, embeddings_ND: Tensor, labels_N: Tensor) -> ClassSums:
    """The sums with more rows added; the given sums stay as they are.

    Products and sums are float64 throughout: with features as collapsed as a contrastive loss makes
    them, the within-class scatter is a small difference of large numbers.

    Args:
        sums: rows seen so far.
        embeddings_ND: (N, D) rows of any float dtype on the device of the sums.
        labels_N: (N,) integer classes in 0..C-1.

    Returns:
        New sums.

    Raises:
        ValueError: rows are empty, not finite or of other dims, or a label is out of range.
    """
    check_embeddings(embeddings_ND, sums.shift_D.shape[0])
    classes = sums.count_C.shape[0]
    if labels_N.shape != embeddings_ND.shape[:1]:
        raise ValueError(f"{embeddings_ND.shape[0]} rows but labels {tuple(labels_N.shape)}")
    if int(labels_N.min()) < 0 or int(labels_N.max()) >= classes:
        raise ValueError(f"labels must be 0..{classes - 1}")
    count_C, sum_CD, gram_DD = sums.count_C.clone(), sums.sum_CD.clone(), sums.gram_DD.clone()
    seen = bool(count_C.sum() > 0)
    shift_D = sums.shift_D if seen else embeddings_ND[:_CHUNK_ROWS].double().mean(0)
    count_C += torch.bincount(labels_N, minlength=classes)
    for start in range(0, embeddings_ND.shape[0], _CHUNK_ROWS):
        centred_ND = embeddings_ND[start : start + _CHUNK_ROWS].double() - shift_D
        sum_CD.index_add_(0, labels_N[start : start + _CHUNK_ROWS], centred_ND)
        gram_DD += _gram(centred_ND)
    return ClassSums(count_C, sum_CD, gram_DD, shift_D)


def merge(first: ClassSums, second: ClassSums) -> ClassSums:
    """Sums over the rows of both, whatever their shifts.

    Args:
        first: sums over some rows.
        second: sums over other rows, of the same classes and dims.

    Returns:
        New sums, with the shift of the first unless that has seen no row.
    """
    if not bool(first.count_C.sum() > 0):
        return second
    offset_D = second.shift_D - first.shift_D
    cross_DD = torch.outer(second.sum_CD.sum(0), offset_D)
    spread_DD = second.count_C.sum() * torch.outer(offset_D, offset_D)
    return ClassSums(
        first.count_C + second.count_C,
        first.sum_CD + second.sum_CD + second.count_C[:, None] * offset_D,
        first.gram_DD + second.gram_DD + cross_DD + cross_DD.T + spread_DD,
        first.shift_D,
    )


def _gram(centred_ND: Tensor) -> Tensor:
    """X^T X; on a CPU through numpy, which computes one triangle only (BLAS syrk)."""
    if centred_ND.device.type == "cpu":
        rows_ND = centred_ND.numpy()
        return torch.from_numpy(rows_ND.T @ rows_ND)
    return centred_ND.T @ centred_ND
