"""What few seeds can show, against drawn studies."""

import doctest

import numpy as np
import pytest
from scipy import stats

from rwood.report import power
from rwood.report.power import detectable_difference, paired_power


def test_the_examples_of_the_docstrings_hold() -> None:
    examples = doctest.testmod(power)
    assert examples.attempted > 0
    assert examples.failed == 0


@pytest.mark.parametrize(("seeds", "alpha"), [(3, 0.025), (5, 0.1), (10, 0.05)])
def test_power_is_the_share_of_studies_that_show_the_difference(seeds: int, alpha: float) -> None:
    generator = np.random.default_rng(0)
    base, better = 1.6 * generator.normal(size=(2, 20_000, seeds))
    p = stats.ttest_rel(better + 1.6, base, axis=1, alternative="greater").pvalue
    power = paired_power(1.0, seeds=seeds, alpha=alpha)
    assert power == pytest.approx((p < alpha).mean(), abs=0.015)


def test_without_a_difference_the_power_is_the_level() -> None:
    assert paired_power(0.0, seeds=5, alpha=0.1) == pytest.approx(0.1)


def test_the_detectable_difference_has_the_power_asked_for() -> None:
    for seeds in (2, 3, 5, 20):
        difference = detectable_difference(seeds, alpha=0.1, power=0.8)
        assert paired_power(difference, seeds, 0.1) == pytest.approx(0.8)
