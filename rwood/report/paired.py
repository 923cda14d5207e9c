"""Is a difference between two settings more than the luck of the seeds?"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TEST = "two-sided paired t-test"
"""The test, by the name that tables and sentences give it."""


@dataclass(frozen=True)
class PairedDifference:
    """What one setting has over another, seed by seed."""

    seeds: tuple[int, ...]
    """Seeds that both have."""
    mean: float
    std: float
    """Population standard deviation of the differences."""
    p: float | None = None
    """Of the two-sided paired t-test; None where there is nothing to test with: a single seed, or
    the same difference on every seed, as of a set whose scores are few and coarse."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval of the mean difference; None likewise."""

    @property
    def beyond_chance(self) -> bool:
        """Whether p is below 0.05."""
        return self.p is not None and self.p < 0.05


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float]
) -> PairedDifference | None:
    """First minus second over the seeds that both have; None where no seed matches.

    A few seeds carry little power: with three, only a difference of about 2.5 of its own (sample)
    standard deviations is beyond chance at 5 %.
    """
    seeds = tuple(sorted(first.keys() & second.keys()))
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    mean, std = statistics.fmean(differences), statistics.pstdev(differences)
    if all_equal(differences):
        return PairedDifference(seeds, mean, std)
    from scipy.special import stdtr

    sample_std = statistics.stdev(differences)
    error = sample_std / math.sqrt(len(seeds))
    half = half_width(sample_std, len(seeds), tail=0.025)
    p = 2 * float(stdtr(len(seeds) - 1, -abs(mean) / error))
    return PairedDifference(seeds, mean, std, p, (mean - half, mean + half))


def all_equal(differences: Sequence[float]) -> bool:
    """True if values differ at most by rounding, which is no variance; of one value too."""
    # 0.3 - 0.2 and 0.2 - 0.1 differ in the last bit.
    return max(differences) - min(differences) <= 1e-9 * max(map(abs, differences))


def half_width(std: float, count: int, tail: float) -> float:
    """Distance from the mean of some values to its confidence bound, by the t distribution.

    In the unit of `std`; negative where the tail is above 0.5.

    Args:
        std: sample standard deviation of the values (n - 1).
        count: independent values, e.g. one difference per seed; at least 2.
        tail: probability beyond the bound: 0.025 on each side of a 95 % interval.
    """
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 1 - tail)) * std / math.sqrt(count)


def p_value(p: float | None) -> str:
    """A p value as text: three digits, never a false zero."""
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
