"""The objective over families of validation sets, each weighted by its reliability.

A family is what several sets ask of a detector, e.g. near-like or far-like OOD. Its value is the
mean logit of their AUROC, so that 99.5 -> 99.9 counts about as much as 90 -> 98 (1.6 and 1.7), and
the objective is the weighted mean over families. A family whose values differ between seeds as
much as between settings ranks nothing, hence weights by reliability.

Example:
    Two families; three trials, the last of which raced in the finals on two fresh seeds.

    >>> families = {"near": ("mixed",), "far": ("jigsaw", "blobs")}
    >>> def metrics(mixed, jigsaw, blobs):
    ...     aurocs = {"mixed": mixed, "jigsaw": jigsaw, "blobs": blobs}
    ...     return {f"val/{name}/auroc": value for name, value in aurocs.items()}
    >>> trials = [metrics(80, 99, 99), metrics(90, 98, 99.5), metrics(95, 99.5, 99)]
    >>> values = [family_values(trial, families) for trial in trials]
    >>> raced = [metrics(95, 99.5, 99), metrics(94, 97, 99.5)]
    >>> repeats = [[family_values(run, families) for run in raced]]
    >>> weights = reliability_weights(families, values, repeats)
    >>> {family: round(weight, 2) for family, weight in weights.by_family.items()}
    {'near': 0.97, 'far': 0.0}
    >>> weights.sentences
    ('The family far counts for nothing: its reliability, 0.00, is below 0.2.',)
    >>> round(objective(values[0], weights.by_family), 2)  # logit of 80 %
    1.39
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rwood.config.study import ID_ACCURACY
from rwood.errors import StudyError

ID_ACCURACY_FAMILY = "ID accuracy"
"""Guarded in the finals, no part of the objective."""
LOWEST_AUROC, HIGHEST_AUROC = 0.05, 99.95
"""Percent; beyond them one image more or less would move the logit without limit."""
LEAST_RELIABILITY = 0.2


@dataclass(frozen=True)
class FamilyWeights:
    """How much each family counts in the objective, and what there is to say about it."""

    by_family: Mapping[str, float]
    sentences: tuple[str, ...] = ()


def family_values(
    metrics: Mapping[str, float], families: Mapping[str, tuple[str, ...]]
) -> dict[str, float]:
    """Family -> mean logit of the AUROC of its sets, each clipped to 0.05 and 99.95 %.

    Args:
        metrics: of one run, with `val/<set>/auroc` in percent.
        families: family -> names of its validation sets.

    Raises:
        StudyError: a metric is missing.
    """
    return {
        family: statistics.fmean(_logit(auroc) for auroc in _aurocs(metrics, sets))
        for family, sets in families.items()
    }


def families_auroc(values: Mapping[str, float]) -> float:
    """The plain mean of one run's family values, in percent of AUROC: what a search optimises."""
    return 100.0 / (1 + math.exp(-statistics.fmean(values.values())))


def family_points(
    metrics: Mapping[str, float], families: Mapping[str, tuple[str, ...]]
) -> dict[str, float]:
    """What the guard compares of a run, in percent: each family's mean AUROC, and the ID accuracy.

    Raises:
        StudyError: a metric is missing.
    """
    points = {family: statistics.fmean(_aurocs(metrics, f)) for family, f in families.items()}
    return points | {ID_ACCURACY_FAMILY: _metric(metrics, ID_ACCURACY)}


def objective(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Weighted mean of one run's family values: higher = better. At least one weight is above 0."""
    total = sum(weights.values())
    return sum(weight * values[family] for family, weight in weights.items()) / total


def reliability(values: Sequence[float], repeats: Sequence[Sequence[float]]) -> float:
    """Share of the variance between runs that is between settings (intraclass correlation).

    max(0, 1 - seed variance / total variance): ICC(1) of Shrout and Fleiss (1979) with the total
    variance from all trials, of which only few are repeated. 0 where all values are equal.

    Args:
        values: one seed's value of every complete trial; at least two. Not means over seeds,
            whose seed variance is smaller.
        repeats: per setting with several seeds, its values; pooled by degrees of freedom.

    Example:
        Values 1, 3, 5 have variance 4; seeds that differ by 1.0 and by 1.4 have variances .5
        and .98, pooled .74.

        >>> round(reliability([1.0, 3.0, 5.0], [[1.0, 2.0], [3.0, 4.4]]), 3)
        0.815
    """
    total = statistics.variance(values)
    if total == 0:
        return 0.0
    squares = sum(statistics.variance(seeds) * (len(seeds) - 1) for seeds in repeats)
    freedom = sum(len(seeds) - 1 for seeds in repeats)
    return max(0.0, 1 - squares / freedom / total)


def reliability_weights(
    families: Collection[str],
    trials: Sequence[Mapping[str, float]],
    repeats: Sequence[Sequence[Mapping[str, float]]],
) -> FamilyWeights:
    """Each family's reliability as its weight; below 0.2 it is dropped.

    All count equally where reliability is unknown (fewer than two complete trials, no setting with
    two seeds) or below 0.2 for all of them.

    With the six values of a race (three degrees of freedom) the estimate is rough: of a family of
    reliability 0.5 it lies between 0 and 0.94 in nine studies of ten, and one in five drops it.

    Args:
        families: their names.
        trials: family -> value, one seed of every complete trial of the search.
        repeats: per setting, family -> value for each of its seeds: several seeds per trial and the
            race of the finals, there without the search's own value, which was selected. Neither
            the seeds of the confirmation, which the weights would be fitted to, nor the reruns.
    """
    repeated = [seeds for seeds in repeats if len(seeds) > 1]
    equal = dict.fromkeys(families, 1.0)
    if len(trials) < 2 or not repeated:
        return FamilyWeights(equal)
    by_family = {
        family: reliability(
            [trial[family] for trial in trials],
            [[seed[family] for seed in seeds] for seeds in repeated],
        )
        for family in families
    }
    if max(by_family.values()) < LEAST_RELIABILITY:
        sentence = (
            "All families count equally: in none of them do settings differ enough beyond seeds "
            f"(reliability below {LEAST_RELIABILITY:g})."
        )
        return FamilyWeights(equal, (sentence,))
    dropped = {family: share for family, share in by_family.items() if share < LEAST_RELIABILITY}
    return FamilyWeights(
        by_family | dict.fromkeys(dropped, 0.0),
        tuple(
            f"The family {family} counts for nothing: its reliability, {share:.2f}, "
            f"is below {LEAST_RELIABILITY:g}."
            for family, share in dropped.items()
        ),
    )


def _aurocs(metrics: Mapping[str, float], sets: Sequence[str]) -> list[float]:
    return [_metric(metrics, f"val/{name}/auroc") for name in sets]


def _metric(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise StudyError(f"The run did not report {name}, which the objective over families needs.")
    return metrics[name]


def _logit(auroc: float) -> float:
    share = min(max(auroc, LOWEST_AUROC), HIGHEST_AUROC) / 100
    return math.log(share / (1 - share))
