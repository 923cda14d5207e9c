import numpy as np
import pytest
import torch
from golden_recipes import GOLDEN
from sklearn import metrics as sk

from rwood.method.metrics import ood_metrics


def golden_scores(case):
    """ID and OOD confidences (higher = more ID), as the recipes draw them."""
    match case["id"]:
        case "equal_1000":
            rng, shift = np.random.default_rng(30), 1.0
        case "unequal_9000_26032":
            rng, shift = np.random.default_rng(31), 1.5
        case "unequal_9000_500_float32":
            rng, shift = np.random.default_rng(32), 1.0
        case "inverse":
            return -1.0 - np.arange(case["n_id"]), np.arange(case["n_ood"])
        case "uniform_ties_collinear":
            return np.repeat(np.arange(20.0), 10), np.repeat(np.arange(20.0), 10)
        case "exact_95_boundary":
            return np.arange(100.0), np.r_[-1.0 - np.arange(95.0), np.full(5, 50.5)]
        case "one_ood":
            return np.arange(10.0), np.array([4.5])
        case _:
            raise AssertionError(f"no recipe for {case['id']}")
    id_scores = rng.standard_normal(case["n_id"]) + shift
    ood_scores = rng.standard_normal(case["n_ood"])
    if case["id"].endswith("float32"):
        return id_scores.astype(np.float32), ood_scores.astype(np.float32)
    return id_scores, ood_scores


def slow_metrics(id_scores, ood_scores):
    """The definitions on sklearn's curves, as OpenOOD draws them."""
    is_ood = np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))]
    scores = np.concatenate([id_scores, ood_scores])
    fpr, tpr, _ = sk.roc_curve(is_ood, scores)
    precision_in, recall_in, _ = sk.precision_recall_curve(1 - is_ood, -scores)
    precision_out, recall_out, _ = sk.precision_recall_curve(is_ood, scores)
    return [
        fpr[np.argmax(tpr >= 0.95)],
        sk.auc(fpr, tpr),
        sk.auc(recall_in, precision_in),
        sk.auc(recall_out, precision_out),
    ]


def assert_same(ours, fractions):
    np.testing.assert_allclose(np.array(ours) / 100, fractions, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", GOLDEN["metrics"]["cases"], ids=lambda case: case["id"])
def test_metrics_agree_with_openood(case):
    id_confidences, ood_confidences = golden_scores(case)
    assert_same(
        ood_metrics(-id_confidences, -ood_confidences),
        [case[name] for name in ("fpr95", "auroc", "aupr_in", "aupr_out")],
    )


@pytest.mark.parametrize("seed", range(40))
def test_metrics_are_sklearns_on_any_sizes_and_ties(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, [60, 60])
    decimals = int(rng.integers(0, 4))
    id_scores, ood_scores = (np.round(rng.standard_normal(size), decimals) for size in sizes)
    ood_scores = ood_scores + rng.integers(0, 3)
    assert_same(ood_metrics(id_scores, ood_scores), slow_metrics(id_scores, ood_scores))


def test_levels_that_tie_raise_fpr_as_in_openood():
    # Twenty tied levels lie on one line: the vertices between its ends are dropped.
    levels = np.repeat(np.arange(20.0), 5)
    assert ood_metrics(levels, levels).fpr95 == 100.0


def test_tensors_and_integers_are_scores_too():
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.integers(0, 30, 200), rng.integers(5, 40, 100)
    expected = ood_metrics(id_scores.astype(float), ood_scores.astype(float))
    assert ood_metrics(id_scores, ood_scores) == expected
    tensors = (torch.tensor(scores, dtype=torch.bfloat16) for scores in (id_scores, ood_scores))
    assert ood_metrics(*tensors) == expected


def test_the_scores_given_are_not_reordered():
    scores = np.array([3.0, 1.0, 2.0])
    ood_metrics(scores, scores)
    assert scores.tolist() == [3.0, 1.0, 2.0]


def test_perfect_separation_is_perfect():
    assert ood_metrics(np.arange(5.0), np.arange(10.0, 13.0)) == (0.0, 100.0, 100.0, 100.0)


@pytest.mark.parametrize(
    "bad", [[], [[1.0]], [1.0, np.nan], [np.inf, 0.0], [-np.inf, 0.0]], ids=str
)
def test_meaningless_scores_are_refused(bad):
    good = np.arange(3.0)
    with pytest.raises(ValueError, match="^ID scores"):
        ood_metrics(np.array(bad), good)
    with pytest.raises(ValueError, match="^OOD scores"):
        ood_metrics(good, torch.tensor(bad))
