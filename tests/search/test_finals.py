"""Race, gate, guard and verdict, by hand."""

import doctest
import math

import pytest

from rwood.errors import StudyError
from rwood.search import finals
from rwood.search.finals import gate, guard, race, verdict

FIVE = [1.0, 2.0, 0.0, 1.5, 0.5]
"""Mean 1, sample std sqrt(2.5 / 4)."""
HALF = 1.5332062740589438 * math.sqrt(2.5 / 4) / math.sqrt(5)
"""1.533 is the 90 % point of t with four degrees of freedom."""


def test_the_examples_of_the_docstrings_hold() -> None:
    examples = doctest.testmod(finals)
    assert examples.attempted > 0
    assert examples.failed == 0


def test_the_best_mean_wins_the_race() -> None:
    assert race({4: [1.0, 1.0], 2: [3.0, -2.0], 9: [0.0, 2.5]}) == 9


def test_equal_means_go_to_the_lower_number() -> None:
    assert race({7: [1.0, 2.0], 3: [2.0, 1.0], 5: [0.0, 1.0]}) == 3


def test_a_value_that_is_not_finite_wins_no_race() -> None:
    with pytest.raises(StudyError, match="trial 1 in the race has nan"):
        race({3: [1.0], 1: [math.nan]})


def test_the_gate_is_the_lower_bound_of_a_paired_t_test() -> None:
    gated = gate(FIVE, alpha=0.1)
    assert gated.mean == pytest.approx(1.0)
    assert gated.std == pytest.approx(math.sqrt(2.5 / 4))
    assert gated.bound == pytest.approx(1 - HALF)
    assert gated.passed
    lower = gate([difference - 0.6 for difference in FIVE], alpha=0.1)
    assert lower.bound == pytest.approx(0.4 - HALF)
    assert not lower.passed


def test_two_seeds_can_pass_the_gate() -> None:
    # t with one degree of freedom is Cauchy: its 90 % point is tan(0.4 pi) = 3.078
    error = math.sqrt(0.5) / math.sqrt(2)
    assert gate([1.0, 2.0], alpha=0.1).bound == pytest.approx(1.5 - math.tan(0.4 * math.pi) * error)
    assert not gate([1.0, 2.0], alpha=0.1).passed
    assert gate([1.2, 2.0], alpha=0.1).passed


@pytest.mark.parametrize(
    ("difference", "seeds", "passed"),
    [(0.1, 3, False), (0.1, 4, True), (0.0, 9, False), (-0.1, 9, False)],
)
def test_equal_differences_pass_where_the_sign_flip_test_would(
    difference: float, seeds: int, passed: bool
) -> None:
    values = [0.3 - 0.2 if difference == 0.1 else difference] + [difference] * (seeds - 1)
    gated = gate(values, alpha=0.1)
    assert gated.passed == passed
    assert gated.bound == pytest.approx(difference)


def test_the_gate_refuses_what_is_not_finite() -> None:
    with pytest.raises(StudyError, match="finite values; the objective has inf"):
        gate([1.0, math.inf], alpha=0.1)


def test_every_family_has_to_stay_above_minus_delta() -> None:
    lost = [difference - 1 for difference in FIVE]
    guarded = guard({"near": FIVE, "far": lost}, alpha=0.1)
    assert guarded["near"].passed
    assert guarded["far"].limit == -0.5
    assert guarded["far"].mean == pytest.approx(0)
    assert guarded["far"].bound == pytest.approx(-HALF)
    assert not guarded["far"].passed
    assert guard({"far": lost}, alpha=0.1, delta=0.6)["far"].passed


def test_at_alpha_a_half_the_mean_is_guarded_and_above_it_the_upper_bound() -> None:
    lost = [difference - 1.6 for difference in FIVE]
    assert guard({"far": lost}, alpha=0.5)["far"].bound == pytest.approx(-0.6)
    assert not guard({"far": lost}, alpha=0.5)["far"].passed
    assert guard({"far": lost}, alpha=0.9)["far"].bound == pytest.approx(-0.6 + HALF)
    assert guard({"far": lost}, alpha=0.9)["far"].passed


def test_a_family_that_both_solve_blocks_nothing() -> None:
    assert guard({"ID accuracy": [0.0, 0.0]}, alpha=0.1)["ID accuracy"].passed


def test_a_promotion_is_told_with_its_interval() -> None:
    told = verdict(7, gate(FIVE, alpha=0.1), guard({"near": FIVE}, alpha=0.1))
    assert told.promoted
    assert told.sentence == (
        "Trial 7 is promoted: over 5 paired seeds its objective is better than the base "
        "run's by 1.00 (80 % interval 0.46 to 1.54)."
    )


def test_an_interval_is_named_by_its_own_confidence() -> None:
    strong = [difference + 2 for difference in FIVE]
    assert "(97.5 % interval" in verdict(7, gate(strong, alpha=0.0125), {}).sentence, "it said 98"


def test_the_base_run_stays_with_a_reason() -> None:
    weak = gate([difference - 0.9 for difference in FIVE], alpha=0.1)
    told = verdict(7, weak, {})
    assert not told.promoted
    assert told.sentence == (
        "The base run stays, because over 5 paired seeds trial 7 is not shown to be better: mean "
        "gain in the objective +0.10, lower bound -0.44 (alpha 0.1)."
    )


def test_every_family_that_fails_the_guard_is_named() -> None:
    families = {
        "near": FIVE,
        "far": [difference - 1 for difference in FIVE],
        "ID accuracy": [difference - 3 for difference in FIVE],
    }
    told = verdict(7, gate(FIVE, alpha=0.1), guard(families, alpha=0.1))
    assert not told.promoted
    assert told.sentence == (
        "The base run stays, because over 5 paired seeds trial 7 may lose more than 0.5 points on "
        "far (mean +0.00, bound -0.54) and loses more than 0.5 points on ID accuracy "
        "(mean -2.00, bound -2.54)."
    )


def test_too_few_equal_differences_are_told_as_such() -> None:
    told = verdict(7, gate([0.5, 0.5], alpha=0.1), {})
    assert told.sentence == (
        "The base run stays, because over 2 paired seeds trial 7 is ahead of it by 0.50 on every "
        "seed, which shows an advantage (alpha 0.1) from 4 seeds on."
    )
