"""A scorer with what it learned from the ID train set: a frozen dataclass of tensors and back.

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from rwood.config.registry import find
from rwood.config.scorers import SCORERS, ScorerConfig
from rwood.errors import DataError
from rwood.evaluation.accuracy import class_means
from rwood.evaluation.embed import Embedded
from rwood.method import scorers
from rwood.method.scorers import Cosine, Knn, LastLayer, Mahalanobis, Rmds, Ssd, Vim


class Scorer(Protocol):
    """Other people's scorer: a class whose keyword parameters are its settings.

    `classes` is filled in if it asks for it. What it learns are tensors among its attributes: they
    are what a detector keeps. `sees_raw = True` asks for the backbone's output as it is.
    """

    def fit(self, embeddings_ND: Tensor, labels_N: Tensor) -> None:
        """Learn from the embeddings of the ID train set and their classes."""

    def score(self, embeddings_QD: Tensor) -> Tensor:
        """(Q,) scores, **higher = more OOD**."""


State = Mahalanobis | Rmds | Ssd | Cosine | Knn | LastLayer | Vim
STATES: dict[str, type[State]] = {
    "mahalanobis": Mahalanobis,
    "mahalanobis_raw": Mahalanobis,
    "knn": Knn,
    "rmds": Rmds,
    "ssd": Ssd,
    "cosine": Cosine,
    "msp": LastLayer,
    "energy": LastLayer,
    "vim": Vim,
}
_PREFIX = "scorer."
_MEANS = "class_means"
_ROWS = 16
"""Fewest embeddings scored at a time. A CPU multiplies a few rows by another kernel, which rounds
otherwise: with this, a lone image gets the very score that it gets among many."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted scorer and the class means."""

    scorer: ScorerConfig
    state: State | Scorer
    means_CD: Tensor
    """Mean unit embedding of each class, float64."""

    def score(self, embedded: Embedded) -> Tensor:
        """(Q,) scores of Q > 0 images, higher = more OOD, on the tensors' device.

        Distances in whitened space and logits are summed in float64, which costs little beside an
        embedding: in float32 they would be off by some millionths, more than the formula allows.
        """
        rows_QD = rows_for(self.scorer, embedded)
        queries_QD = _padded(rows_QD)
        match self.state:
            case Mahalanobis():
                scores_Q = scorers.score_mahalanobis(self.state, queries_QD.double())
            case Rmds():
                scores_Q = scorers.score_rmds(self.state, queries_QD.double())
            case Ssd():
                scores_Q = scorers.score_ssd(self.state, queries_QD.double())
            case Cosine():
                scores_Q = scorers.score_cosine(self.state, queries_QD)
            case Knn():
                scores_Q = scorers.score_knn(self.state, queries_QD)
            case Vim():
                scores_Q = scorers.score_vim(self.state, queries_QD.double())
            case LastLayer():
                logits_QC = scorers.classify(self.state, queries_QD.double())
                how = scorers.score_msp if self.scorer.name == "msp" else scorers.score_energy
                scores_Q = how(logits_QC)
            case _:
                scores_Q = self.state.score(queries_QD)
        return scores_Q[: len(rows_QD)].to(rows_QD.dtype)

    def nearest(self, embedded: Embedded) -> Tensor:
        """(Q,) class that each image is nearest to.

        By Mahalanobis distance for the Mahalanobis scorers, by the largest logit for those that see
        logits, by Euclidean distance to the mean unit embedding of the class for the others.
        """
        rows_QD = rows_for(self.scorer, embedded)
        queries_QD = _padded(rows_QD).double()
        match self.state:
            case Mahalanobis():
                nearest_Q = scorers.nearest_class_mahalanobis(self.state, queries_QD)[1]
            case LastLayer() | Vim():
                layer = LastLayer(self.state.weight_CD, self.state.bias_C)
                nearest_Q = scorers.classify(layer, queries_QD).argmax(dim=1)
            case _:
                unit_QD = embedded.unit_ND.double()
                return torch.cdist(unit_QD, self.means_CD).argmin(dim=1)
        return nearest_Q[: len(rows_QD)]

    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by name."""
        found = (
            {field.name: getattr(self.state, field.name) for field in fields(self.state)}
            if isinstance(self.state, State)
            else {key: v for key, v in vars(self.state).items() if isinstance(v, Tensor)}
        )
        return {f"{_PREFIX}{key}": value for key, value in found.items()} | {_MEANS: self.means_CD}


def sees_raw(scorers: Iterable[ScorerConfig]) -> bool:
    """Whether one of the scorers asks for rows before the normalisation."""
    return any(scorer.is_raw for scorer in scorers)


def rows_for(scorer: ScorerConfig, embedded: Embedded) -> Tensor:
    """The rows that a scorer sees."""
    if not scorer.is_raw:
        return embedded.unit_ND
    assert embedded.raw_ND is not None, f"embed with raw=True for {scorer.name}"
    return embedded.raw_ND


def fit(
    spec: ScorerConfig,
    embedded: Embedded,
    labels_N: Tensor,
    classes: int,
    classifier: tuple[Tensor, Tensor] | None = None,
) -> Fitted:
    """Fit a scorer and the class means on the embeddings of the ID train set.

    Args:
        spec: which scorer, and its settings.
        embedded: N rows of the kind that the scorer sees.
        labels_N: (N,) class of each row.
        classes: number of classes.
        classifier: weights (C, D) and biases of the last layer, where the network has one.

    Raises:
        ValueError: a class without an image, fewer rows than neighbours, non-finite embeddings, a
            setting of which several values are left to choose from, or a scorer of logits for a
            network without any.
    """
    if isinstance(spec.k, tuple) or isinstance(spec.shrinkage, tuple):
        raise ValueError("several values of its setting are left: choose one on validation sets")
    rows_ND = rows_for(spec, embedded)
    shrinkage, rtol = spec.shrinkage, spec.rtol
    state: State | Scorer
    match spec.name:
        case "mahalanobis" | "mahalanobis_raw":
            state = scorers.fit_mahalanobis(
                rows_ND, labels_N, classes=classes, rtol=rtol, shrinkage=shrinkage
            )
        case "rmds":
            state = scorers.fit_rmds(
                rows_ND, labels_N, classes=classes, rtol=rtol, shrinkage=shrinkage
            )
        case "ssd":
            state = scorers.fit_ssd(rows_ND, rtol=rtol)
        case "cosine":
            state = scorers.fit_cosine(rows_ND, labels_N, classes=classes)
        case "knn":
            state = scorers.fit_knn(rows_ND, k=spec.k)
        case "msp" | "energy":
            weight_CD, bias_C = _layer(spec.name, classifier)
            state = LastLayer(weight_CD.double(), bias_C.double())
        case "vim":
            dims = spec.dims or vim_dims(rows_ND.shape[1])
            state = scorers.fit_vim(rows_ND, *_layer(spec.name, classifier), dims=dims)
        case _:
            state = _build(spec, classes)
            state.fit(rows_ND, labels_N)
    return Fitted(spec, state, class_means(embedded.unit_ND, labels_N, classes))


def vim_dims(dim: int) -> int:
    """Principal directions that ViM leaves out by default, as in OpenOOD: 1000 of 2048, 256 of 512.

    Args:
        dim: length of an embedding.
    """
    return 1000 if dim >= 2048 else dim // 2


def from_tensors(spec: ScorerConfig, tensors: Mapping[str, Tensor]) -> Fitted:
    """The same from what `tensors()` gave.

    Raises:
        DataError: names a tensor that is missing.
    """
    kind = STATES.get(spec.name)
    wanted = [field.name for field in fields(kind)] if kind else []
    for key in [*(f"{_PREFIX}{field}" for field in wanted), _MEANS]:
        if key not in tensors:
            raise DataError(f"the detector lacks {key}, which scorer {spec.name} needs", key=key)
    if kind:
        learned = kind(**{field: tensors[f"{_PREFIX}{field}"] for field in wanted})
        return Fitted(spec, learned, tensors[_MEANS])
    state = _build(spec, len(tensors[_MEANS]))
    for key, value in tensors.items():
        if key.startswith(_PREFIX):
            setattr(state, key.removeprefix(_PREFIX), value)
    return Fitted(spec, state, tensors[_MEANS])


def _build(spec: ScorerConfig, classes: int) -> Scorer:
    """Other people's scorer, before it has learned."""
    part = find("scorers", spec.part, SCORERS)
    parameters = inspect.signature(part).parameters
    settings = {key: v for key, v in spec.model_dump().items() if key in parameters}
    scorer: Scorer = part(**settings, **({"classes": classes} if "classes" in parameters else {}))
    return scorer


def _layer(name: str, classifier: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    if classifier is None:
        raise ValueError(f"{name} scores the logits of a classifier, and the network has none")
    return classifier


def _padded(rows_QD: Tensor) -> Tensor:
    missing = max(0, _ROWS - len(rows_QD))
    return torch.cat([rows_QD, rows_QD[-1:].expand(missing, -1)])
