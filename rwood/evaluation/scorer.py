"""A scorer with what it learned from the ID train set: fitted, scoring, as tensors and back.

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from rwood.config.registry import find
from rwood.config.scorers import SCORERS, ScorerConfig
from rwood.errors import DataError
from rwood.evaluation.accuracy import class_means
from rwood.evaluation.embed import Embedded
from rwood.method import scorers
from rwood.method.scorers import (
    Cosine,
    Head,
    HeadSum,
    Knn,
    LastLayer,
    Mahalanobis,
    Rmds,
    Ssd,
    Vim,
)


class Scorer(Protocol):
    """Other people's scorer: a class whose keyword parameters are its settings.

    `classes` is filled in if it asks for it. What it learns are tensors among its attributes: they
    are what a detector keeps. `sees_raw = True` asks for the backbone's output as it is.
    """

    def fit(self, embeddings_ND: Tensor, labels_N: Tensor) -> None:
        """Learn from the embeddings of the ID train set and their classes."""

    def score(self, embeddings_QD: Tensor) -> Tensor:
        """(Q,) scores, **higher = more OOD**."""


@dataclass(frozen=True, eq=False)
class Training:
    """What a scorer may learn from."""

    rows_ND: Tensor
    """Of the kind that the scorer sees."""
    val_ND: Tensor
    """Of the ID val set, likewise: they set scales, nothing else."""
    labels_N: Tensor
    classes: int
    classifier: tuple[Tensor, Tensor] | None
    """Weights (C, D) and biases of the last layer, where the network has one."""
    settings: ScorerConfig

    def layer(self) -> tuple[Tensor, Tensor]:
        """The last layer.

        Raises:
            ValueError: the network has none.
        """
        if self.classifier is None:
            raise ValueError(
                f"{self.settings.name} scores the logits of a classifier, and the network has none"
            )
        return self.classifier

    def gaussian(self) -> dict[str, Any]:
        """Arguments that the Gaussian scorers share."""
        return {
            "classes": self.classes,
            "rtol": self.settings.rtol,
            "shrinkage": self.settings.shrinkage,
        }


@dataclass(frozen=True)
class Row:
    """One of our scorers."""

    state: type
    """Frozen dataclass of tensors: what it learned."""
    fit: Callable[[Training], Any]
    score: Callable[..., Tensor]
    """State and (Q, D) rows -> (Q,) scores, higher = more OOD."""
    nearest: Callable[[Any, Tensor], Tensor] | None = None
    """State and rows -> (Q,) nearest class; None: by the mean unit embedding of each class."""
    options: tuple[str, ...] = ()
    """Settings that `score` takes by name."""
    wide: bool = True
    """Whether queries are scored in float64: distances in whitened space and logits cost little
    beside an embedding, and float32 would be off by some millionths."""


def _fit_knn(given: Training) -> Knn:
    assert isinstance(given.settings.k, int)
    return scorers.fit_knn(given.rows_ND, k=given.settings.k)


def _fit_last_layer(given: Training) -> LastLayer:
    weight_CD, bias_C = given.layer()
    return LastLayer(weight_CD.double(), bias_C.double())


def _fit_vim(given: Training) -> Vim:
    dims = given.settings.dims or vim_dims(given.rows_ND.shape[1])
    return scorers.fit_vim(given.rows_ND, *given.layer(), dims=dims)


def _largest_logit(state: LastLayer | Vim | Head | HeadSum, rows_QD: Tensor) -> Tensor:
    return scorers.classify(LastLayer(state.weight_CD, state.bias_C), rows_QD).argmax(dim=1)


def _head(score: Callable[..., Tensor], *options: str) -> Row:
    return Row(
        Head,
        lambda g: scorers.fit_head(g.rows_ND, g.labels_N, classes=g.classes),
        score,
        _largest_logit,
        options,
    )


_MAHALANOBIS = Row(
    Mahalanobis,
    lambda g: scorers.fit_mahalanobis(g.rows_ND, g.labels_N, **g.gaussian()),
    scorers.score_mahalanobis,
    lambda state, rows_QD: scorers.nearest_class_mahalanobis(state, rows_QD)[1],
)
_RMDS = Row(
    Rmds,
    lambda g: scorers.fit_rmds(g.rows_ND, g.labels_N, **g.gaussian()),
    scorers.score_rmds,
)
ROWS: Mapping[str, Row] = {
    "mahalanobis": _MAHALANOBIS,
    "mahalanobis_raw": _MAHALANOBIS,
    "rmds": _RMDS,
    "rmds_unit": _RMDS,
    "ssd": Row(Ssd, lambda g: scorers.fit_ssd(g.rows_ND, rtol=g.settings.rtol), scorers.score_ssd),
    "cosine": Row(
        Cosine,
        lambda g: scorers.fit_cosine(g.rows_ND, g.labels_N, classes=g.classes),
        scorers.score_cosine,
        wide=False,
    ),
    "knn": Row(Knn, _fit_knn, scorers.score_knn, wide=False),
    "msp": Row(
        LastLayer,
        _fit_last_layer,
        lambda state, rows_QD: scorers.score_msp(scorers.classify(state, rows_QD)),
        _largest_logit,
    ),
    "energy": Row(
        LastLayer,
        _fit_last_layer,
        lambda state, rows_QD: scorers.score_energy(scorers.classify(state, rows_QD)),
        _largest_logit,
    ),
    "vim": Row(Vim, _fit_vim, scorers.score_vim, _largest_logit),
    "head_mls": _head(scorers.score_head_mls),
    "head_gen": _head(scorers.score_head_gen, "gamma", "top"),
    "head_fdbd": _head(scorers.score_head_fdbd),
    "head_nci": _head(scorers.score_head_nci, "alpha"),
    "head_sum": Row(
        HeadSum,
        lambda g: scorers.fit_head_sum(g.rows_ND, g.labels_N, g.val_ND, **g.gaussian()),
        scorers.score_head_sum,
        _largest_logit,
        ("weight",),
    ),
}
"""Our scorers by name; their settings are in `rwood/config/scorers.py`."""
_PREFIX = "scorer."
_MEANS = "class_means"
_LEAST_ROWS = 16
"""Fewest embeddings scored at a time. A CPU multiplies a few rows by another kernel, which rounds
otherwise: with this, a lone image gets the very score that it gets among many."""


@dataclass(frozen=True, eq=False)
class FittedScorer:
    """A fitted scorer and the class means."""

    scorer: ScorerConfig
    state: Any
    """What one of ours learned; or other people's scorer, fitted."""
    means_CD: Tensor
    """Mean unit embedding of each class, float64."""

    def score(self, embedded: Embedded) -> Tensor:
        """(Q,) scores of Q > 0 images, higher = more OOD, on the tensors' device."""
        rows_QD, row = rows_for(self.scorer, embedded), ROWS.get(self.scorer.name)
        queries_QD = _padded(rows_QD)
        if row is None:
            scores_Q = self.state.score(queries_QD)
        else:
            settings = self.scorer.model_dump(include=set(row.options))
            wide_QD = queries_QD.double() if row.wide else queries_QD
            scores_Q = row.score(self.state, wide_QD, **settings)
        return scores_Q[: len(rows_QD)].to(rows_QD.dtype)  # type: ignore[no-any-return]

    def nearest(self, embedded: Embedded) -> Tensor:
        """(Q,) class that each image is nearest to.

        By Mahalanobis distance for the Mahalanobis scorers, by the largest logit for those that see
        logits, by Euclidean distance to the mean unit embedding of the class for the others.
        """
        row = ROWS.get(self.scorer.name)
        if row is None or row.nearest is None:
            return torch.cdist(embedded.unit_ND.double(), self.means_CD).argmin(dim=1)
        rows_QD = rows_for(self.scorer, embedded)
        return row.nearest(self.state, _padded(rows_QD).double())[: len(rows_QD)]

    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by name."""
        learned = {key: v for key, v in vars(self.state).items() if isinstance(v, Tensor)}
        return {f"{_PREFIX}{key}": v for key, v in learned.items()} | {_MEANS: self.means_CD}


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
    config: ScorerConfig,
    embedded: Embedded,
    val: Embedded,
    labels_N: Tensor,
    classes: int,
    classifier: tuple[Tensor, Tensor] | None = None,
) -> FittedScorer:
    """Fit a scorer and the class means on the embeddings of the ID train set.

    Args:
        config: which scorer, and its settings.
        embedded: N rows of the kind that the scorer sees.
        val: of the ID val set, for scorers that add scores of several scales.
        labels_N: (N,) class of each row.
        classes: number of classes.
        classifier: weights (C, D) and biases of the last layer, where the network has one.

    Raises:
        ValueError: a class without an image, fewer rows than neighbours, non-finite embeddings, a
            setting of which several values are left to choose from, or a scorer of logits for a
            network without any.
    """
    if config.several:
        raise ValueError("several values of its setting are left: choose one on validation sets")
    rows_ND, row = rows_for(config, embedded), ROWS.get(config.name)
    if row is None:
        state = _build(config, classes)
        state.fit(rows_ND, labels_N)
    else:
        rows_VD = rows_for(config, val)
        state = row.fit(Training(rows_ND, rows_VD, labels_N, classes, classifier, config))
    return FittedScorer(config, state, class_means(embedded.unit_ND, labels_N, classes))


def vim_dims(dim: int) -> int:
    """Principal directions that ViM leaves out by default, as in OpenOOD: 1000 of 2048, 256 of 512.

    Args:
        dim: length of an embedding.
    """
    return 1000 if dim >= 2048 else dim // 2


def from_tensors(config: ScorerConfig, tensors: Mapping[str, Tensor]) -> FittedScorer:
    """The same from what `tensors()` gave.

    Raises:
        DataError: names a tensor that is missing.
    """
    row = ROWS.get(config.name)
    wanted = [field.name for field in fields(row.state)] if row else []
    for key in [*(f"{_PREFIX}{field}" for field in wanted), _MEANS]:
        if key not in tensors:
            raise DataError(f"the detector lacks {key}, which scorer {config.name} needs", key=key)
    if row:
        learned = row.state(**{field: tensors[f"{_PREFIX}{field}"] for field in wanted})
        return FittedScorer(config, learned, tensors[_MEANS])
    state = _build(config, len(tensors[_MEANS]))
    for key, value in tensors.items():
        if key.startswith(_PREFIX):
            setattr(state, key.removeprefix(_PREFIX), value)
    return FittedScorer(config, state, tensors[_MEANS])


def _build(config: ScorerConfig, classes: int) -> Scorer:
    """Other people's scorer, before it has learned."""
    part = find("scorers", config.part, SCORERS)
    parameters = inspect.signature(part).parameters
    settings = {key: v for key, v in config.model_dump().items() if key in parameters}
    scorer: Scorer = part(**settings, **({"classes": classes} if "classes" in parameters else {}))
    return scorer


def _padded(rows_QD: Tensor) -> Tensor:
    missing = max(0, _LEAST_ROWS - len(rows_QD))
    return torch.cat([rows_QD, rows_QD[-1:].expand(missing, -1)])
