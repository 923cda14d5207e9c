import numpy as np

from tests.benchmarks.search_methods import METHODS, Rwood, Tune
from tests.benchmarks.search_quality import Cell, play
from tests.benchmarks.search_world import (
    EPOCHS,
    SPACE,
    best_value,
    epoch_times,
    landscape,
    mean_curve,
    observed_curve,
    true_value,
)

MIDDLE = {
    key: float(np.sqrt(low * high)) if log else (low + high) / 2
    for key, (low, high, log) in SPACE.items()
}


def test_the_same_setting_as_the_same_trial_has_the_same_curve() -> None:
    first, again = (observed_curve(3, MIDDLE, trial=5) for _ in range(2))
    assert (first == again).all()
    assert (first != observed_curve(3, MIDDLE, trial=6)).any()


def test_no_random_setting_is_better_than_the_best() -> None:
    for world in range(4):
        points_NU = np.random.default_rng(1).uniform(size=(2000, len(SPACE)))
        finals_N = mean_curve(landscape(world), points_NU)[:, -1]
        assert finals_N.max() < best_value(world) <= 96


def test_trainings_end_eight_tenths_of_a_point_around_the_true_value() -> None:
    finals = [observed_curve(0, MIDDLE, trial)[-1] for trial in range(500)]
    assert abs(np.mean(finals) - true_value(0, MIDDLE)) < 0.15
    assert 0.7 < np.std(finals) < 0.9


def test_curves_of_settings_cross() -> None:
    points_NU = np.random.default_rng(1).uniform(size=(500, len(SPACE)))
    curves_NE = mean_curve(landscape(0), points_NU)
    early_N, final_N = curves_NE[:, 10], curves_NE[:, -1]
    crossed = (early_N[:-1] - early_N[1:]) * (final_N[:-1] - final_N[1:]) < 0
    assert 0.2 < crossed.mean() < 0.5


def test_three_trials_in_a_hundred_straggle() -> None:
    longest = [epoch_times("stragglers", 0, trial, 0)[-1] for trial in range(2000)]
    assert 0.02 < np.mean(np.array(longest) > 10) < 0.04


def test_every_second_worker_is_three_times_slower() -> None:
    slow_E, ordinary_E = (epoch_times("slow", 0, 0, worker) for worker in (1, 2))
    assert np.allclose(slow_E, 3 * ordinary_E)


def test_a_search_is_repeatable_and_its_workers_are_busy() -> None:
    cell = Cell(2, "slow")
    for build in METHODS.values():
        first, again = (play(build(1), cell, seed=1) for _ in range(2))
        assert first == again
        assert first.busy > 0.98


def test_rwood_discards_no_full_training_and_tune_does() -> None:
    cell = Cell(8, "equal")
    assert play(Rwood(0), cell, seed=0).discarded == 0
    assert play(Tune(0), cell, seed=0).discarded > 0


def test_a_trial_is_judged_when_its_report_arrives() -> None:
    method = Rwood(0)
    trials = [method.propose()[0] for _ in range(4)]
    verdicts = []
    for trial in trials:
        for epoch in range(1, 34):
            assert not method.report(trial, epoch, 50.0)
        verdicts.append(method.report(trial, 34, 90.0 - trial))
    assert verdicts == [False, True, True, True]
    for epoch in range(35, EPOCHS + 1):
        assert not method.report(trials[0], epoch, 90.0)
    method.complete(trials[0])
    assert method.completed() == {0}
