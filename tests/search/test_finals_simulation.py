"""What the finals promise, on whole studies drawn from a known truth."""

from functools import cache

import pytest
from scipy.stats import binom

from tests.search.finals_simulation import (
    CASES,
    SHAPES,
    Case,
    Outcome,
    gate_rules,
    simulate,
    simulate_guards,
)

STUDIES = 2500
BEYOND_LUCK = 0.999

simulated = cache(simulate)


def name(case: Case) -> str:
    return f"settings {case.setting_std:g}, base {case.base:+g}"


def at_most(rate: float, draws: int) -> float:
    return float(binom.ppf(BEYOND_LUCK, draws, rate)) / draws


@pytest.mark.parametrize("case", CASES, ids=name)
def test_a_setting_no_better_than_the_base_run_is_seldom_promoted(case: Case) -> None:
    _, finals = simulated(case, STUDIES)
    assert finals.no_better <= at_most(case.alpha, STUDIES)


@pytest.mark.parametrize("trials", [24, 240])
def test_where_no_setting_matters_alpha_of_the_studies_promote_however_many_trials(
    trials: int,
) -> None:
    argmax, finals = simulated(Case(0.0, 0.0, trials=trials), STUDIES)
    assert argmax.no_better > 0.9
    assert 1 - at_most(0.9, STUDIES) <= finals.no_better <= at_most(0.1, STUDIES)


@pytest.mark.parametrize(
    ("case", "argmax", "finals"),
    [(Case(2.0, 1.0), (0.84, 0.25), (0.88, 0.04)), (Case(0.5, 1.0), (-0.16, 0.52), (0.02, 0.03))],
    ids=("settings that matter", "settings that do not"),
)
def test_the_design_table_comes_out_again(
    case: Case, argmax: tuple[float, float], finals: tuple[float, float]
) -> None:
    """SEARCH.md, section 3: gain on the test sets, and share of studies worse than the base."""
    for outcome, (gain, worse) in zip(simulated(case, STUDIES), (argmax, finals), strict=True):
        assert outcome.gain == pytest.approx(gain, abs=0.1)
        assert outcome.worse == pytest.approx(worse, abs=0.1)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_the_finals_make_a_study_far_less_likely_to_end_worse_than_it_began(case: Case) -> None:
    argmax, finals = simulated(case, STUDIES)
    assert finals.worse < argmax.worse / 3


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gate_keeps_its_level_whatever_the_tails(shape: str) -> None:
    gated, flipped = gate_rules(shape, 0.0, seeds=5, studies=STUDIES)
    assert gated <= at_most(0.1, STUDIES)
    assert flipped <= at_most(3 / 32, STUDIES)


def test_the_t_test_shows_what_the_sign_flip_test_does_and_works_with_three_seeds() -> None:
    for shape in SHAPES:
        gated, flipped = gate_rules(shape, 1.0, seeds=5, studies=STUDIES)
        assert gated > flipped - 0.07, shape
    gated, flipped = gate_rules("normal", 1.0, seeds=3, studies=STUDIES)
    assert gated > 0.3
    assert flipped == 0


def test_a_guard_that_wants_proof_of_no_loss_blocks_most_of_the_gain() -> None:
    by_alpha = simulate_guards(CASES[0], studies=600)
    none, proof, mean, evidence = (by_alpha[alpha] for alpha in (None, 0.1, 0.5, 0.9))
    assert proof.gain < 0.5 * none.gain
    assert 0.5 * none.gain < mean.gain < evidence.gain < none.gain
    assert proof.lost < mean.lost < evidence.lost < none.lost
    assert mean.lost_badly < none.lost_badly / 3


def test_an_outcome_counts_only_what_was_promoted() -> None:
    argmax, finals = simulated(Case(2.0, 9.0), 50)  # a base run that nothing comes near
    assert finals == Outcome(promoted=0.0, no_better=0.0, gain=0.0, worse=0.0)
    assert argmax == finals
