"""How ID classes lie in the embedding space, and how far ID and OOD scores overlap.

Legend of shape suffixes: N rows (samples), D dims, C classes, L rows of the largest class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .checks import check_embeddings
from .statistics import class_moments

# Rounding of a squared distance, relative to the largest squared norm.
_ROUNDING = 1e-13


def enclosing_radii(
    embeddings_ND: Tensor, labels_N: Tensor, *, classes: int, tolerance: float = 1e-3
) -> Tensor:
    """Radius of the minimum enclosing sphere of every class.

    Core-set iteration of Badoiu and Clarkson, SODA 2003, with the optimal step and the stopping
    rule of Yildirim, SIAM J. Optim. 2008 (algorithm 3.1): the centre moves towards the farthest
    row until a lower bound shows that no sphere is smaller by more than the tolerance.

    Args:
        embeddings_ND: (N, D) rows.
        labels_N: (N,) integer classes in 0..C-1.
        classes: C.
        tolerance: the radius is at most this factor above the smallest, never below it; about
            1 / tolerance iterations are needed.

    Returns:
        (C,) radii in float64; every row of a class lies within.

    Raises:
        ValueError: rows are empty or not finite, a class has none, or tolerance <= 0.
    """
    if tolerance <= 0.0:
        raise ValueError(f"the tolerance must be positive, got {tolerance}")
    points_CLD = _by_class(embeddings_ND, labels_N, classes)
    squares_CL = points_CLD.square().sum(2)
    every_C = torch.arange(classes, device=points_CLD.device)
    centres_CD, weighted_C = points_CLD[:, 0].clone(), squares_CL[:, 0].clone()
    while True:
        distances_CL = squares_CL - 2.0 * (points_CLD @ centres_CD[:, :, None]).squeeze(2)
        farthest_C = distances_CL.argmax(1)
        far_CD = points_CLD[every_C, farthest_C]
        outer_C = (far_CD - centres_CD).square().sum(1)
        # The dual objective: the centre is a convex combination of rows, and the variance of the
        # rows under its weights is a lower bound of the squared radius.
        inner_C = (weighted_C - centres_CD.square().sum(1)).clamp_min(0.0)
        open_C = outer_C > inner_C * (1.0 + tolerance) ** 2 + _ROUNDING * squares_CL.amax(1)
        if not bool(open_C.any()):
            return outer_C.sqrt()
        step_C = torch.where(open_C, (1.0 - inner_C / outer_C.clamp_min(1e-300)) / 2.0, 0.0)
        centres_CD += step_C[:, None] * (far_CD - centres_CD)
        weighted_C += step_C * (squares_CL[every_C, farthest_C] - weighted_C)


def class_dispersion(embeddings_ND: Tensor, labels_N: Tensor, *, classes: int) -> float:
    """Mean angle between the directions of two class means, over unordered pairs of classes.

    Inter-class dispersion of Ming et al., ICLR 2023 (CIDER), in degrees, 0..180: the larger, the
    farther apart the (N, D) rows of the classes lie.

    Raises:
        ValueError: rows are empty or not finite, a class has none, or there is only one class.
    """
    if classes < 2:
        raise ValueError("dispersion needs two classes or more")
    unit_CD = F.normalize(class_moments(embeddings_ND, labels_N, classes=classes).means_CD, dim=1)
    one_C, two_C = torch.triu_indices(classes, classes, 1, device=unit_CD.device)
    # From chords instead of acos, which loses half of the digits at small angles.
    chords = (unit_CD[one_C] - unit_CD[two_C]).norm(dim=1)
    sums = (unit_CD[one_C] + unit_CD[two_C]).norm(dim=1)
    return float(torch.rad2deg(2.0 * torch.atan2(chords, sums)).mean())


def score_overlap(
    id_scores: Tensor | NDArray[Any], ood_scores: Tensor | NDArray[Any], *, bins: int = 100
) -> float:
    """Share of mass that the distributions of ID and OOD scores (1-D) have in common.

    The overlapping coefficient, the integral of min(p, q) = 1 - total variation distance (Inman and
    Bradley, Commun. Stat. 1989), estimated from two histograms over the same equal bins between the
    smallest and the largest score of both.

    Returns:
        0 (disjoint) to 1 (the same histogram).

    Raises:
        ValueError: a set is empty or holds NaN or infinite scores.
    """
    samples = [torch.as_tensor(scores).double().cpu().numpy() for scores in (id_scores, ood_scores)]
    if not all(sample.size and np.isfinite(sample).all() for sample in samples):
        raise ValueError("scores must not be empty, NaN or infinite")
    edges = np.histogram_bin_edges(np.concatenate(samples), bins)
    shares = [np.histogram(sample, edges)[0] / sample.size for sample in samples]
    return float(np.minimum(*shares).sum())


def _by_class(embeddings_ND: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """(C, L, D) centred float64 rows of every class; short classes repeat their first row."""
    check_embeddings(embeddings_ND)
    counts_C = torch.bincount(labels_N, minlength=classes)
    if counts_C.shape[0] > classes or not bool(counts_C.all()):
        raise ValueError(f"every class 0..{classes - 1} needs a row, counts {counts_C.tolist()}")
    starts_C = counts_C.cumsum(0) - counts_C
    slots_L = torch.arange(int(counts_C.max()), device=labels_N.device)
    slots_CL = torch.where(slots_L < counts_C[:, None], slots_L, 0) + starts_C[:, None]
    points_CLD = embeddings_ND.double()[torch.argsort(labels_N, stable=True)[slots_CL]]
    return points_CLD - points_CLD.mean(1, keepdim=True)
