"""The expected best of k trials, against all subsets."""

import doctest
import statistics
from itertools import combinations

import numpy as np
import pytest

from rwood.report import expected_best as module
from rwood.report.expected_best import expected_best


def test_the_example_of_the_docstring_holds() -> None:
    examples = doctest.testmod(module)
    assert examples.attempted > 0
    assert examples.failed == 0


def test_it_is_the_mean_of_the_maximum_over_all_subsets() -> None:
    values = np.random.default_rng(0).normal(size=9).tolist()
    values.append(values[0])  # a tie
    for k in range(1, 11):
        exact = statistics.fmean(max(subset) for subset in combinations(values, k))
        assert expected_best(values, k) == pytest.approx(exact, rel=1e-13, abs=1e-13)


def test_many_trials_neither_overflow_nor_lose_digits() -> None:
    ranks = np.arange(1.0, 5001.0)  # the expected maximum of k of the ranks 1 to n: k(n+1)/(k+1)
    for k in (1, 2, 50, 2500, 4999, 5000):
        assert expected_best(ranks.tolist(), k) == pytest.approx(k * 5001 / (k + 1), rel=1e-11)


@pytest.mark.parametrize("k", [0, 4])
def test_more_than_there_are_cannot_be_drawn(k: int) -> None:
    with pytest.raises(ValueError, match=f"the best of {k} cannot be told from 3 trials"):
        expected_best([1.0, 2.0, 3.0], k)
