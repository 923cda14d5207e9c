"""A scorer with what it learned from the ID train set: a frozen dataclass of tensors and back.

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rwood.errors import DataError
from rwood.evaluation.accuracy import class_means
from rwood.method import scorers
from rwood.method.scorers import Cosine, Knn, Mahalanobis, Rmds, Ssd
from rwood.spec.benchmark import ScorerName, ScorerSpec

State = Mahalanobis | Rmds | Ssd | Cosine | Knn
STATES: dict[ScorerName, type[State]] = {
    "mahalanobis": Mahalanobis,
    "knn": Knn,
    "rmds": Rmds,
    "ssd": Ssd,
    "cosine": Cosine,
}
_PREFIX = "scorer."
_MEANS = "class_means"
_ROWS = 16
"""Fewest embeddings scored at a time. A CPU multiplies a few rows by another kernel, which rounds
otherwise: with this, a lone image gets the very score that it gets among many."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted scorer and the class means."""

    state: State
    means_CD: Tensor
    """Mean embedding of each class, float64."""

    def score(self, embeddings_QD: Tensor) -> Tensor:
        """(Q,) scores of (Q, D) unit rows, higher = more OOD; Q > 0, on the tensors' device.

        Distances in whitened space are summed in float64, which costs little beside an embedding:
        in float32 they would be off by some millionths, more than the formula allows.
        """
        queries_QD = _padded(embeddings_QD)
        match self.state:
            case Mahalanobis():
                scores_Q = scorers.score_mahalanobis(self.state, queries_QD.double())
            case Rmds():
                scores_Q = scorers.score_rmds(self.state, queries_QD.double())
            case Ssd():
                scores_Q = scorers.score_ssd(self.state, queries_QD)
            case Cosine():
                scores_Q = scorers.score_cosine(self.state, queries_QD)
            case Knn():
                scores_Q = scorers.score_knn(self.state, queries_QD)
        return scores_Q[: len(embeddings_QD)].to(embeddings_QD.dtype)

    def nearest(self, embeddings_QD: Tensor) -> Tensor:
        """(Q,) class that each row is nearest to.

        By Mahalanobis distance for the Mahalanobis scorer, by Euclidean distance to the class mean
        for the others.
        """
        if isinstance(self.state, Mahalanobis):
            queries_QD = _padded(embeddings_QD).double()
            return scorers.nearest_class_mahalanobis(self.state, queries_QD)[1][
                : len(embeddings_QD)
            ]
        return torch.cdist(embeddings_QD.double(), self.means_CD).argmin(dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by name."""
        learned = {f"{_PREFIX}{f.name}": getattr(self.state, f.name) for f in fields(self.state)}
        return learned | {_MEANS: self.means_CD}


def fit(spec: ScorerSpec, embeddings_ND: Tensor, labels_N: Tensor, classes: int) -> Fitted:
    """Fit a scorer and the class means on the embeddings of the ID train set.

    Args:
        spec: which scorer, and its settings.
        embeddings_ND: (N, D) unit rows.
        labels_N: (N,) class of each row.
        classes: number of classes.

    Raises:
        ValueError: a class without an image, fewer rows than neighbours, non-finite embeddings, a
            setting of which several values are left to choose from.
    """
    if isinstance(spec.k, tuple) or isinstance(spec.shrinkage, tuple):
        raise ValueError("several values of its setting are left: choose one on validation sets")
    state: State
    match spec.name:
        case "mahalanobis":
            shrinkage, rtol = spec.shrinkage, spec.rtol
            state = scorers.fit_mahalanobis(
                embeddings_ND, labels_N, classes=classes, rtol=rtol, shrinkage=shrinkage
            )
        case "rmds":
            shrinkage, rtol = spec.shrinkage, spec.rtol
            state = scorers.fit_rmds(
                embeddings_ND, labels_N, classes=classes, rtol=rtol, shrinkage=shrinkage
            )
        case "ssd":
            state = scorers.fit_ssd(embeddings_ND)
        case "cosine":
            state = scorers.fit_cosine(embeddings_ND, labels_N, classes=classes)
        case "knn":
            state = scorers.fit_knn(embeddings_ND, k=spec.k)
    return Fitted(state, class_means(embeddings_ND, labels_N, classes))


def from_tensors(name: ScorerName, tensors: Mapping[str, Tensor]) -> Fitted:
    """The same from what `tensors()` gave.

    Raises:
        DataError: names a tensor that is missing.
    """
    kind = STATES[name]
    wanted = [f.name for f in fields(kind)]
    for key in [*(f"{_PREFIX}{field}" for field in wanted), _MEANS]:
        if key not in tensors:
            raise DataError(f"the detector lacks {key}, which scorer {name} needs", key=key)
    state = kind(**{field: tensors[f"{_PREFIX}{field}"] for field in wanted})
    return Fitted(state, tensors[_MEANS])


def _padded(embeddings_QD: Tensor) -> Tensor:
    missing = max(0, _ROWS - len(embeddings_QD))
    return torch.cat([embeddings_QD, embeddings_QD[-1:].expand(missing, -1)])
