"""Which of a scorer's settings to use: those that separate the validation sets best.

Legend of shape suffixes: N rows.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from rwood.config.scorers import ScorerConfig
from rwood.evaluation.embed import Embedded
from rwood.evaluation.scorer import FittedScorer, fit
from rwood.method.metrics import ood_metrics


@dataclass(frozen=True, eq=False)
class Seen:
    """What a validation has embedded, once for every setting that it tries."""

    train: Embedded
    """ID train set."""
    labels_N: Tensor
    """Its classes."""
    classes: int
    classifier: tuple[Tensor, Tensor] | None
    """Weights and biases of the last layer, where the network has one."""
    val: Embedded
    """ID val set."""
    ood: Mapping[str, Embedded]
    """By validation OOD set."""


def choose(config: ScorerConfig, seen: Seen) -> tuple[ScorerConfig, FittedScorer]:
    """The best candidate by the mean of `config.select_by` over the validation sets, fitted.

    Ties go to the candidate named first. A single candidate is fitted and not measured.

    Args:
        config: a scorer with one or several values of its setting.
        seen: embeddings of the ID train set and of the validation sets; no test set.

    Raises:
        ValueError: a candidate cannot be fitted.
    """
    fitted = [
        (one, fit(one, seen.train, seen.val, seen.labels_N, seen.classes, seen.classifier))
        for one in config.candidates()
    ]
    if len(fitted) == 1:
        return fitted[0]
    sign = -1.0 if config.select_by == "fpr95" else 1.0
    return max(fitted, key=lambda pair: sign * _mean(pair[1], seen, config.select_by))


def choose_all(configs: Sequence[ScorerConfig], seen: Seen) -> tuple[ScorerConfig, ...]:
    """The best candidate of each scorer."""
    return tuple(choose(config, seen)[0] for config in configs)


def _mean(fitted: FittedScorer, seen: Seen, metric: str) -> float:
    id_scores = fitted.score(seen.val)
    return statistics.fmean(
        float(getattr(ood_metrics(id_scores, fitted.score(embedded)), metric))
        for embedded in seen.ood.values()
    )
