"""Which of a scorer's settings to use: those that separate the validation sets best."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from rwood.config.scorers import ScorerConfig
from rwood.evaluation.embed import Embedded, EmbeddedID
from rwood.evaluation.scorer import FittedScorer, fit
from rwood.method.metrics import ood_metrics


@dataclass(frozen=True, eq=False)
class EmbeddedSets(EmbeddedID):
    """What a validation has embedded, once for every setting that it tries."""

    ood: Mapping[str, Embedded]
    """By validation OOD set."""


def choose(config: ScorerConfig, embedded: EmbeddedSets) -> FittedScorer:
    """The best candidate by the mean of `config.select_by` over the validation sets, fitted.

    Ties go to the candidate named first. A single candidate is fitted and not measured.

    Raises:
        SpecError: a candidate cannot be fitted.
    """
    fitted = [fit(candidate, embedded) for candidate in config.candidates()]
    if len(fitted) == 1:
        return fitted[0]
    sign = -1.0 if config.select_by == "fpr95" else 1.0
    return max(fitted, key=lambda scorer: sign * _mean(scorer, embedded, config.select_by))


def _mean(fitted: FittedScorer, embedded: EmbeddedSets, metric: str) -> float:
    id_scores = fitted.score(embedded.val)
    return statistics.fmean(
        float(getattr(ood_metrics(id_scores, fitted.score(ood)), metric))
        for ood in embedded.ood.values()
    )
