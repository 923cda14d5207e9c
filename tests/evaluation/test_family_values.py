"""Family values, their weights and the objective, by hand."""

import doctest
import math

import numpy as np
import pytest

from rwood.errors import StudyError
from rwood.evaluation import families
from rwood.evaluation.families import (
    family_points,
    family_values,
    objective,
    reliability,
    reliability_weights,
)

TWO = {"near": ("mixed",), "far": ("jigsaw", "blobs")}
METRICS = {
    "val/mixed/auroc": 90.0,
    "val/jigsaw/auroc": 50.0,
    "val/blobs/auroc": 75.0,
    "val/nearest_mean": 93.0,
}


def test_the_examples_of_the_docstrings_hold() -> None:
    examples = doctest.testmod(families)
    assert examples.attempted > 0
    assert examples.failed == 0


def test_a_family_is_worth_the_mean_logit_of_its_sets() -> None:
    values = family_values(METRICS, TWO)
    assert values == pytest.approx({"near": math.log(9), "far": math.log(3) / 2})


def test_a_solved_set_is_not_infinitely_good() -> None:
    bound = math.log(99.95 / 0.05)
    for auroc, value in ((100.0, bound), (99.95, bound), (0.0, -bound), (99.9, math.log(999))):
        values = family_values({"val/mixed/auroc": auroc}, {"near": ("mixed",)})
        assert values["near"] == pytest.approx(value)


def test_the_last_half_point_counts_as_much_as_eight_points_at_ninety() -> None:
    aurocs = {str(auroc): {"val/mixed/auroc": auroc} for auroc in (90.0, 98.0, 99.5, 99.9)}
    value = {name: family_values(one, {"near": ("mixed",)})["near"] for name, one in aurocs.items()}
    assert value["99.9"] - value["99.5"] == pytest.approx(value["98.0"] - value["90.0"], abs=0.1)


def test_points_are_mean_aurocs_and_the_id_accuracy() -> None:
    assert family_points(METRICS, TWO) == {"near": 90.0, "far": 62.5, "ID accuracy": 93.0}


def test_a_missing_metric_is_named() -> None:
    with pytest.raises(StudyError, match="did not report val/noise/auroc"):
        family_values(METRICS, {"far": ("noise",)})
    with pytest.raises(StudyError, match="did not report val/nearest_mean"):
        family_points({"val/mixed/auroc": 90.0}, {"near": ("mixed",)})


def test_the_objective_is_a_weighted_mean() -> None:
    assert objective({"near": 1.0, "far": 4.0}, {"near": 1.0, "far": 0.5}) == pytest.approx(2.0)
    assert objective({"near": 1.0, "far": 4.0}, {"near": 0.5, "far": 0.0}) == pytest.approx(1.0)


def test_reliability_pools_seeds_by_their_degrees_of_freedom() -> None:
    # total variance of 0, 2, 4 is 4; squares 2 and 0.5 over 2 + 1 degrees of freedom: 5 / 6
    assert reliability([0.0, 2.0, 4.0], [[1.0, 2.0, 3.0], [0.0, 1.0]]) == pytest.approx(
        1 - (2.0 + 0.5) / 3 / 4
    )


def test_reliability_is_never_below_zero() -> None:
    assert reliability([0.0, 0.1], [[0.0, 5.0]]) == 0.0
    assert reliability([2.0, 2.0], [[2.0, 2.0]]) == 0.0


def test_reliability_is_the_share_of_the_settings_in_the_variance() -> None:
    generator = np.random.default_rng(0)
    settings = generator.normal(size=4000) * 2
    runs = settings[:, None] + 1.5 * generator.normal(size=(4000, 2))
    estimate = reliability(runs[:, 0].tolist(), runs.tolist())
    assert estimate == pytest.approx(4 / (4 + 2.25), abs=0.03)


def test_families_count_by_reliability_and_noise_is_dropped_with_a_sentence() -> None:
    trials = [
        {"near": value, "far": noise} for value, noise in ((0.0, 0.0), (2.0, 1.0), (4.0, 0.5))
    ]
    repeats = [[{"near": 1.0, "far": 0.0}, {"near": 2.0, "far": 1.0}], [trials[0]]]
    weights = reliability_weights(TWO, trials, repeats)
    assert weights.by_family == pytest.approx({"near": 1 - 0.5 / 4, "far": 0.0})
    assert weights.sentences == (
        "The family far counts for nothing: its reliability, 0.00, is below 0.2.",
    )


def test_where_every_family_is_noise_all_count_equally() -> None:
    trials = [{"near": 0.0, "far": 0.0}, {"near": 0.1, "far": 0.1}]
    repeats = [[{"near": 0.0, "far": 0.0}, {"near": 1.0, "far": 1.0}]]
    weights = reliability_weights(TWO, trials, repeats)
    assert weights.by_family == {"near": 1.0, "far": 1.0}
    assert weights.sentences[0].startswith("All families count equally: in none of them")


@pytest.mark.parametrize("trials", [[], [{"near": 0.0, "far": 0.0}] * 3])
def test_without_repeats_all_count_equally(trials: list[dict[str, float]]) -> None:
    weights = reliability_weights(TWO, trials, [[one] for one in trials])
    assert weights.by_family == {"near": 1.0, "far": 1.0}
    assert weights.sentences == ()
