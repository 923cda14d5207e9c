"""A scorer with what it learned from the ID train set: fitted, scoring, as tensors and back.

Legend of shape suffixes: N training rows, Q query rows, D dims, C classes.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rwood.config.registry import asked_for, find
from rwood.config.scorers import SCORERS, ScorerConfig
from rwood.errors import DataError, SpecError
from rwood.evaluation.embed import Embedded, EmbeddedID
from rwood.method import scorers
from rwood.method.scorers import LastLayer
from rwood.method.statistics import class_means


class Scorer(Protocol):
    """Other people's scorer: a class whose keyword parameters are its settings.

    `classes` is filled in if it asks for it. What it learns are tensors among its attributes: they
    are what a detector keeps. `sees_raw = True` asks for the backbone's output as it is.
    """

    def fit(self, embeddings_ND: Tensor, labels_N: Tensor) -> None:
        """Learn from the embeddings of the ID train set and their classes."""

    def score(self, embeddings_QD: Tensor) -> Tensor:
        """(Q,) scores, **higher = more OOD**."""


@dataclass(frozen=True)
class Row:
    """One of our scorers. `fit` and `score` take what their parameters name (see `fit`)."""

    state: type
    """Frozen dataclass of tensors: what it learned."""
    fit: Callable[..., Any]
    score: Callable[..., Tensor]
    """State, (Q, D) rows and settings -> (Q,) scores, higher = more OOD."""
    nearest: Callable[[Any, Tensor], Tensor] | None = None
    """State and rows -> (Q,) nearest class; None: by the mean unit embedding of each class."""
    wide: bool = True
    """Whether queries are scored in float64: distances in whitened space and logits cost little
    beside an embedding, and float32 would be off by some millionths."""


def _fit_last_layer(weight_CD: Tensor, bias_C: Tensor) -> LastLayer:
    return LastLayer(weight_CD.double(), bias_C.double())


def _of_logits(score: Callable[[Tensor], Tensor]) -> Callable[[LastLayer, Tensor], Tensor]:
    return lambda state, rows_QD: score(scorers.classify(state, rows_QD))


def _head(score: Callable[..., Tensor]) -> Row:
    return Row(scorers.Head, scorers.fit_head, score, _largest_logit)


_largest_logit = _of_logits(lambda logits_QC: logits_QC.argmax(dim=1))
_MAHALANOBIS = Row(
    scorers.Mahalanobis,
    scorers.fit_mahalanobis,
    scorers.score_mahalanobis,
    lambda state, rows_QD: scorers.nearest_class_mahalanobis(state, rows_QD)[1],
)
_RMDS = Row(scorers.Rmds, scorers.fit_rmds, scorers.score_rmds)
ROWS: Mapping[str, Row] = {
    "mahalanobis": _MAHALANOBIS,
    "mahalanobis_raw": _MAHALANOBIS,
    "rmds": _RMDS,
    "rmds_unit": _RMDS,
    "ssd": Row(scorers.Ssd, scorers.fit_ssd, scorers.score_ssd),
    "cosine": Row(scorers.Cosine, scorers.fit_cosine, scorers.score_cosine, wide=False),
    "knn": Row(scorers.Knn, scorers.fit_knn, scorers.score_knn, wide=False),
    "msp": Row(LastLayer, _fit_last_layer, _of_logits(scorers.score_msp), _largest_logit),
    "energy": Row(LastLayer, _fit_last_layer, _of_logits(scorers.score_energy), _largest_logit),
    "vim": Row(scorers.Vim, scorers.fit_vim, scorers.score_vim, _largest_logit),
    "head_mls": _head(scorers.score_head_mls),
    "head_gen": _head(scorers.score_head_gen),
    "head_fdbd": _head(scorers.score_head_fdbd),
    "head_nci": _head(scorers.score_head_nci),
    "head_sum": Row(scorers.HeadSum, scorers.fit_head_sum, scorers.score_head_sum, _largest_logit),
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
            wide_QD = queries_QD.double() if row.wide else queries_QD
            settings = asked_for(row.score, self.scorer.model_dump())
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
        buffers = dict(self.state.named_buffers()) if isinstance(self.state, nn.Module) else {}
        learned = {k: v for k, v in (vars(self.state) | buffers).items() if isinstance(v, Tensor)}
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


def fit(config: ScorerConfig, embedded: EmbeddedID) -> FittedScorer:
    """Fit a scorer and the class means on the embeddings of the ID train set.

    Our scorers' `fit` takes by name what it has parameters for, of the kind that the scorer sees:
    the settings; `embeddings_ND`, `labels_N` and `classes` of the ID train set; `val_VD`, rows of
    ID val; `weight_CD` and `bias_C`, the network's last layer.

    Raises:
        SpecError: fewer rows than neighbours, non-finite embeddings, a scorer of logits for a
            network without any, other people's scorer that learns what is no tensor.
        ValueError: a setting of which several values are left to choose from.
    """
    if config.several:
        raise ValueError("several values of its setting are left: choose one on validation sets")
    try:
        state = _learned(config, embedded)
    except ValueError as error:
        raise SpecError(f"scorer {config.name} cannot be fitted on ID train: {error}") from error
    means_CD = class_means(embedded.train.unit_ND, embedded.labels_N, embedded.classes)
    fitted = FittedScorer(config, state, means_CD)
    if config.name not in ROWS:
        _check_kept(fitted, embedded.val)
    return fitted


def _check_kept(fitted: FittedScorer, embedded: Embedded) -> None:
    """Refuse other people's scorer whose tensors are not all that it learned."""
    raw_ND = embedded.raw_ND
    few = Embedded(embedded.unit_ND[:2], None if raw_ND is None else raw_ND[:2])
    scores_2 = fitted.score(few)
    try:
        same = torch.allclose(from_tensors(fitted.scorer, fitted.tensors()).score(few), scores_2)
    except Exception:  # whatever it misses
        same = False
    if not same:
        raise SpecError(
            f"scorer {fitted.scorer.name} keeps what it learned elsewhere than in tensors among "
            "its attributes: a detector would lose it"
        )


def _learned(config: ScorerConfig, embedded: EmbeddedID) -> Any:
    rows_ND, row = rows_for(config, embedded.train), ROWS.get(config.name)
    labels_N, classes = embedded.labels_N, embedded.classes
    if row is None:
        scorer = _build(config, classes)
        scorer.fit(rows_ND, labels_N)
        return scorer
    val_VD = rows_for(config, embedded.val)
    given = {"embeddings_ND": rows_ND, "labels_N": labels_N, "classes": classes}
    given |= {"val_VD": val_VD, **config.model_dump()}
    given["dims"] = config.dims or vim_dims(rows_ND.shape[1])
    if embedded.classifier is not None:
        given["weight_CD"], given["bias_C"] = embedded.classifier
    elif "weight_CD" in inspect.signature(row.fit).parameters:
        raise ValueError(
            f"{config.name} scores the logits of a classifier, and the network has none"
        )
    return row.fit(**asked_for(row.fit, given))


def vim_dims(dim: int) -> int:
    """Directions that ViM leaves out of the residual, as in OpenOOD: 1000 of 2048, 256 of 512."""
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
    part, _ = find("scorers", config.part, SCORERS)
    scorer: Scorer = part(**asked_for(part, dict(config) | {"classes": classes}))
    return scorer


def _padded(rows_QD: Tensor) -> Tensor:
    missing = max(0, _LEAST_ROWS - len(rows_QD))
    return torch.cat([rows_QD, rows_QD[-1:].expand(missing, -1)])
