"""Is the search's winner better than the base run? Race, gate, guard and verdict.

The best of K noisy values is too high by about seed std x c_K (c_24 = 1.95), so the search's own
numbers decide nothing: all that is compared here comes from seeds that the search has not used.
Higher = better everywhere.

The gate is the one-sided paired t-test, for every number of seeds. The exact sign-flip test was the
alternative: with five seeds, at level 0.1, the t-test kept the level for all symmetric noise tried
(0.07 Cauchy, 0.09 Student t with 2 degrees of freedom, 0.10 normal), and a difference of one seed
std was shown in 55 % of studies against 53 % (normal; Cauchy 20 against 25). The sign-flip test can
promote nothing with three seeds and has no bound to report. Neither keeps the level where only the
finalist's runs collapse now and then (one in ten: 0.19 and 0.18).
`python -m tests.search.finals_simulation` prints these figures.

Example:
    Trials 3 and 8 race on two fresh seeds; trial 8 meets the base run on five more.

    >>> race({3: [1.0, 1.2], 8: [1.5, 1.1]})
    8
    >>> gated = gate([0.4, 0.7, 0.2, 0.6, 0.5], alpha=0.1)
    >>> guarded = guard({"near": [1.0, 2.0, 0.5, 1.0, 1.5], "far": [-2.0, -3.0, -2.5, -2.0, -3.0]},
    ...                 alpha=0.9)
    >>> print(verdict(8, gated, guarded).sentence)
    The base run stays, because over 5 paired seeds trial 8 loses more than 0.5 points on far \
(mean -2.50, bound -2.16).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rwood.errors import StudyError
from rwood.report.paired import all_equal, half_width
from rwood.results import Comparison
from rwood.text import count_of


@dataclass(frozen=True)
class Verdict:
    """Whether the finalist is champion, and why."""

    promoted: bool
    sentence: str


def race(values: Mapping[int, Sequence[float]]) -> int:
    """Candidate with the best mean; of equal ones the lowest number.

    Args:
        values: trial number -> its objective on each fresh seed, the same seeds for all.

    Raises:
        StudyError: a value that is not finite.
    """
    for number, objectives in values.items():
        _check_finite(objectives, f"trial {number} in the race")
    return max(sorted(values), key=lambda number: statistics.fmean(values[number]))


def gate(differences: Sequence[float], alpha: float) -> Comparison:
    """Lower bound of the objective's mean difference against 0: above it, the finalist is better.

    A finalist that is no better passes with a probability of at most alpha, however many trials
    the search had. Equal differences have no t-test: they pass where they are above 0 and the
    sign-flip test, whose p is then 2 ** -n, shows it (four seeds at alpha 0.1).

    Args:
        differences: finalist minus base run, one per paired seed, at least two.
        alpha: level of the one-sided test.

    Raises:
        StudyError: one of them is not finite.
    """
    compared = _compare(differences, alpha, 0.0, "the objective")
    too_few = all_equal(differences) and 0.5 ** len(differences) > alpha
    return compared.model_copy(update={"passed": compared.passed and not too_few})


def guard(
    differences: Mapping[str, Sequence[float]], alpha: float, delta: float = 0.5
) -> dict[str, Comparison]:
    """Lower bound of every family's mean difference against -delta: none may be lost.

    All families have to pass, so that the level needs no correction (intersection-union test).
    alpha sets who carries the doubt. At 0.1 the finalist has to prove that it loses no more than
    delta in any family, which five seeds can seldom do even for a better one; at 0.9 the lower
    bound of confidence 0.1 is the upper bound of confidence 0.9, and only a loss that is proved
    to exceed delta counts. A family whose differences are all equal, as a solved one, is compared
    by its mean.

    Args:
        differences: family -> finalist minus base run in points (AUROC, accuracy), one per seed,
            at least two.
        alpha: level of each one-sided test.
        delta: points that may be lost.

    Raises:
        StudyError: one of them is not finite.
    """
    return {
        family: _compare(points, alpha, -delta, f"the family {family}")
        for family, points in differences.items()
    }


def verdict(finalist: int, gated: Comparison, guarded: Mapping[str, Comparison]) -> Verdict:
    """The finalist if it passes the gate and every guard, else the base run, in one sentence."""
    reasons = [] if gated.passed else [_gate_reason(gated)]
    reasons += [_guard_reason(family, b) for family, b in guarded.items() if not b.passed]
    promoted = not reasons
    seeds = count_of(gated.seeds, "paired seed")
    if promoted:
        sentence = (
            f"Trial {finalist} is promoted: over {seeds} its objective is better than the base "
            f"run's by {_interval(gated)}."
        )
    else:
        because = " and ".join(reasons)
        sentence = f"The base run stays, because over {seeds} trial {finalist} {because}."
    return Verdict(promoted, sentence)


def _compare(differences: Sequence[float], alpha: float, limit: float, whose: str) -> Comparison:
    _check_finite(differences, whose)
    mean, std = statistics.fmean(differences), statistics.stdev(differences)
    half = 0.0 if all_equal(differences) else half_width(std, len(differences), alpha)
    return Comparison(
        mean=mean,
        std=std,
        bound=mean - half,
        limit=limit,
        seeds=len(differences),
        alpha=alpha,
        passed=mean - half > limit,
    )


def _check_finite(values: Sequence[float], whose: str) -> None:
    for value in values:
        if not math.isfinite(value):
            raise StudyError(f"The finals compare finite values; {whose} has {value}.")


def _interval(gated: Comparison) -> str:
    """E.g. `0.48 (80 % interval 0.35 to 0.61)`."""
    confidence = 100 * (1 - 2 * gated.alpha)
    upper = 2 * gated.mean - gated.bound
    return f"{gated.mean:.2f} ({confidence:.4g} % interval {gated.bound:.2f} to {upper:.2f})"


def _gate_reason(gated: Comparison) -> str:
    if gated.bound > gated.limit:  # equal differences, too few for the sign-flip test
        needed = math.ceil(-math.log2(gated.alpha))
        return (
            f"is ahead of it by {gated.mean:.2f} on every seed, which shows an advantage "
            f"(alpha {gated.alpha:g}) from {needed} seeds on"
        )
    return (
        f"is not shown to be better: mean gain in the objective {gated.mean:+.2f}, "
        f"lower bound {gated.bound:+.2f} (alpha {gated.alpha:g})"
    )


def _guard_reason(family: str, lost: Comparison) -> str:
    loses = "loses" if lost.mean <= lost.limit else "may lose"
    return (
        f"{loses} more than {-lost.limit:g} points on {family} "
        f"(mean {lost.mean:+.2f}{'' if lost.bound == lost.mean else f', bound {lost.bound:+.2f}'})"
    )
