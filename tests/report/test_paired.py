import math

import pytest
from scipy import stats

from rwood.report.paired import PairedDifference, p_value, paired_difference
from rwood.report.tables import gain_cells


def test_three_seeds_by_hand() -> None:
    # differences 1, 1.5, 0.5: mean 1, sample std 0.5, t = 1 / (0.5 / sqrt 3) = sqrt 12;
    # with two degrees of freedom p = 1 - t / sqrt(t^2 + 2) and the 97.5 % point is 4.302653.
    found = paired_difference({1: 1.0, 2: 2.0, 3: 1.5}, {1: 0.0, 2: 0.5, 3: 1.0, 9: 7.0})
    assert found is not None
    assert found.seeds == (1, 2, 3)
    assert found.mean == pytest.approx(1.0)
    assert found.std == pytest.approx(math.sqrt(1 / 6))
    assert found.p == pytest.approx(1 - math.sqrt(12) / math.sqrt(14))
    half = 4.302652729749464 * 0.5 / math.sqrt(3)
    assert found.interval == pytest.approx((1 - half, 1 + half))
    assert not found.beyond_chance


def test_agrees_with_scipy() -> None:
    first = {seed: 90 + 0.3 * seed**1.5 for seed in range(7)}
    second = {seed: 90.1 + 0.2 * seed for seed in range(7)}
    found = paired_difference(first, second)
    theirs = stats.ttest_rel(list(first.values()), list(second.values()))
    interval = theirs.confidence_interval(0.95)
    assert found is not None
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.interval == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_one_seed_has_no_test() -> None:
    assert paired_difference({4: 2.0}, {4: 0.5}) == PairedDifference((4,), 1.5, 0.0)


def test_no_matching_seed() -> None:
    assert paired_difference({1: 2.0}, {2: 0.5}) is None


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_equal_differences_cannot_be_tested(shift: float) -> None:
    """Two seeds that differ by one image of 150 alike are no proof."""
    found = paired_difference({1: shift, 2: shift}, {1: 0.0, 2: 0.0})
    assert found == PairedDifference((1, 2), shift, 0.0)
    assert found is not None
    assert not found.beyond_chance
    assert gain_cells(found, "auroc")[1:] == ("n/a", "n/a", "cannot be tested")


def test_differences_that_are_equal_but_for_rounding_cannot_be_tested() -> None:
    """99.3 - 99.2 and 99.2 - 99.1 differ in the last bit, which is no variance."""
    found = paired_difference({1: 99.3, 2: 99.2, 3: 99.1}, {1: 99.2, 2: 99.1, 3: 99.0})
    assert found is not None
    assert 0 < found.std < 1e-13
    assert gain_cells(found, "auroc")[1:] == ("n/a", "n/a", "cannot be tested")


def test_p_value_is_never_a_false_zero() -> None:
    assert [p_value(p) for p in (None, 0.0, 0.00099, 0.0456)] == [
        "n/a",
        "< 0.001",
        "< 0.001",
        "0.046",
    ]
