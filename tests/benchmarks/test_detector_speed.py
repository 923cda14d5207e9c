"""A detector's scoring beside pytorch-ood's Mahalanobis, on the same embeddings."""

import pytest
import torch
from pairs import compare
from test_scorers_speed import DIMS, features

from rwood.config.scorers import ScorerConfig
from rwood.evaluation.embed import Embedded, EmbeddedID
from rwood.evaluation.scorer import fit


@pytest.mark.parametrize(
    ("queries", "repeats", "target"),
    [(1, 100, "none: the latency of one image"), (4096, 1, "none: the throughput of a batch")],
)
@pytest.mark.parametrize("classes", [10, 100])
def test_score_beside_pytorch_ood(classes: int, queries: int, repeats: int, target: str) -> None:
    detectors = pytest.importorskip("pytorch_ood.detector", reason="pip install -e '.[bench]'")
    torch.set_num_threads(1)
    train, labels = features(10_000, classes)
    rows, _ = features(queries, classes, seed=1)
    theirs = detectors.Mahalanobis(torch.nn.Identity()).fit_features(train, labels)
    known = Embedded(train, train)
    ours = fit(ScorerConfig(), EmbeddedID(known, labels, classes, None, known))
    embedded = Embedded(rows, rows)
    compare(
        f"score {queries} x {DIMS}, {classes} classes",
        lambda: theirs.predict_features(rows),
        lambda: ours.score(embedded),
        target=target,
        repeats=repeats,
    )
    many, _ = features(500, classes, seed=2)
    told = ours.score(Embedded(many, many)), theirs.predict_features(many)
    ranks = torch.stack([scores.argsort().argsort().double() for scores in told])
    assert torch.corrcoef(ranks)[0, 1] > 0.99, "both rank images by Mahalanobis distance"
