"""The four metrics: ours against sklearn as OpenOOD uses it."""

import numpy as np
import pytest
from pairs import compare
from sklearn import metrics as sk

from rwood.method.metrics import ood_metrics


def sklearn_metrics(id_scores, ood_scores):
    is_ood = np.concatenate([np.zeros(id_scores.size), np.ones(ood_scores.size)])
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("id_rows", "ood_rows", "target"),
    [(9_000, 9_000, "none"), (10_000, 70_000, ">= 4"), (45_000, 50_000, "none")],
)
def test_metrics(id_rows, ood_rows, target, dtype):
    rng = np.random.default_rng(0)
    id_scores = rng.standard_normal(id_rows).astype(dtype)
    ood_scores = (rng.standard_normal(ood_rows) + 1).astype(dtype)
    compare(
        f"metrics, {id_rows} / {ood_rows}, {dtype.__name__}",
        lambda: sklearn_metrics(id_scores, ood_scores),
        lambda: ood_metrics(id_scores, ood_scores),
        target=target,
        pairs=9,
        repeats=3,
    )
    np.testing.assert_allclose(
        np.array(ood_metrics(id_scores, ood_scores)) / 100,
        sklearn_metrics(id_scores, ood_scores),
        rtol=0,
        atol=1e-12,
    )
