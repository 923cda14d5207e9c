"""The champion and the Pareto front, against the definition written out."""

import random

import pytest

from rwood.results import TrialResult
from rwood.selection import distances, pareto_front, select_champion

NAMES = ("val/a/auroc", "val/b/fpr95", "val/nearest_mean")


def trial(number: int, *values: float, state: str = "complete") -> TrialResult:
    named = dict(zip(NAMES, values, strict=False))
    return TrialResult.model_validate(
        {"number": number, "params": {}, "state": state, "digest": "", "started": 0.0,
         "objective": values[0], "objectives": named}
    )  # fmt: skip


def test_the_front_is_what_nothing_dominates() -> None:
    rng = random.Random(0)
    # A coarse grid, so that there are ties in one objective and equal trials.
    trials = [trial(n, *(float(rng.randrange(15)) for _ in NAMES)) for n in range(80)]

    def better_or_equal(a: TrialResult, b: TrialResult) -> bool:
        up, down, third = (a.objectives[n] for n in NAMES)
        up2, down2, third2 = (b.objectives[n] for n in NAMES)
        return up >= up2 and down <= down2 and third >= third2

    expected = [
        t.number
        for t in trials
        if not any(better_or_equal(o, t) and o.objectives != t.objectives for o in trials)
    ]
    front = pareto_front(trials, NAMES)
    assert [t.number for t in front] == expected
    assert 1 < len(front) < 40


def test_the_champion_of_several_objectives_is_a_compromise() -> None:
    names = NAMES[:2]  # the second one is minimised
    trials = [trial(0, 90.0, 10.0), trial(1, 99.0, 60.0), trial(2, 98.0, 20.0),
              trial(3, 97.9, 21.0), trial(4, 100.0, 5.0, state="pruned")]  # fmt: skip
    assert [t.number for t in pareto_front(trials, names)] == [0, 1, 2]
    found = distances(pareto_front(trials, names), names)
    assert found[0] == found[1] == 1.0
    assert found[2] == pytest.approx(((1 / 9) ** 2 + (10 / 50) ** 2) ** 0.5)
    assert select_champion(trials, names).number == 2


def test_scaling_an_objective_changes_nothing() -> None:
    rng = random.Random(3)
    rows = [[rng.random() for _ in NAMES] for _ in range(40)]
    first = select_champion([trial(n, *row) for n, row in enumerate(rows)], NAMES)
    scaled = [trial(n, row[0], 1000 * row[1] - 7, row[2]) for n, row in enumerate(rows)]
    assert select_champion(scaled, NAMES).number == first.number


def test_of_two_ends_the_better_first_objective_wins() -> None:
    trials = [trial(0, 90.0, 10.0), trial(1, 99.0, 60.0)]
    assert select_champion(trials, NAMES[:2]).number == 1
    same = [trial(4, 95.0, 10.0), trial(2, 95.0, 10.0)]
    assert select_champion(same, NAMES[:2]).number == 2
