"""Fitting and scoring: ours against the way the authors' code and OpenOOD go about it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pairs import compare
from sklearn.covariance import EmpiricalCovariance

from rwood.method.scorers import (
    fit_knn,
    fit_mahalanobis,
    nearest_class_mahalanobis,
    score_knn,
    score_mahalanobis,
)

DIMS = 512
BATCH = 200


def features(rows, classes, seed=0):
    """Unit rows around class directions, with variances that fall over the dims."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    means = torch.randn(classes, DIMS, generator=torch.Generator().manual_seed(9))
    spread = torch.arange(1, DIMS + 1) ** -0.3
    noise = spread * torch.randn(rows, DIMS, generator=generator)
    return F.normalize(0.5 * means[labels] + noise, dim=1), labels


def reference_fit(train, labels, classes):
    means = torch.stack([train[labels == c].mean(0) for c in range(classes)])
    residuals = torch.cat([train[labels == c] - means[c] for c in range(classes)])
    group = EmpiricalCovariance(assume_centered=False)
    group.fit(residuals.numpy())
    return means, torch.from_numpy(group.precision_).float()


def reference_score(means, precision, queries):
    scores = []
    for batch in queries.split(BATCH):
        per_class = []
        for mean in means:
            offset = batch - mean
            per_class.append((offset @ precision @ offset.T).diagonal())
        scores.append(torch.stack(per_class, 1).amin(1))
    return torch.cat(scores)


@pytest.mark.parametrize(
    ("classes", "queries", "target"),
    [(10, 9000, ">= 10"), (100, 2000, ">= 80"), (1000, 600, ">= 300")],
)
def test_mahalanobis_scores(classes, queries, target):
    train, labels = features(20_000, classes)
    rows, _ = features(queries, classes, seed=1)
    state = fit_mahalanobis(train, labels, classes=classes)
    means, precision = reference_fit(train, labels, classes)
    compare(
        f"Mahalanobis, {queries} x {DIMS} x {classes} classes",
        lambda: reference_score(means, precision, rows),
        lambda: score_mahalanobis(state, rows),
        target=target,
    )
    wide, nearest = nearest_class_mahalanobis(state, rows.double())
    ours = score_mahalanobis(state, rows).double()
    assert ((ours - wide) / wide).abs().max() < 1e-5
    reference = reference_score(means, precision, rows).double()
    assert ((reference - wide) / wide).abs().max() < 1e-3
    assert (nearest < classes).all()


def test_mahalanobis_fit_cannot_beat_its_product():
    """The floor of any fit with float64 sums: X^T X alone, one triangle of it."""
    train, labels = features(50_000, 10)
    wide = train.double().numpy()
    compare(
        f"Mahalanobis fit, 50,000 x {DIMS}, the float64 product alone",
        lambda: reference_fit(train, labels, 10),
        lambda: wide.T @ wide,
        target="none: the floor",
    )


@pytest.mark.parametrize("classes", [10, 1000])
def test_mahalanobis_fit(classes):
    train, labels = features(50_000, classes)
    compare(
        f"Mahalanobis fit, 50,000 x {DIMS}, {classes} classes",
        lambda: reference_fit(train, labels, classes),
        lambda: fit_mahalanobis(train, labels, classes=classes),
        target=">= 4",
    )
    whitening = fit_mahalanobis(train, labels, classes=classes).whitening_DK
    wide = train.double().numpy()
    means = np.stack([wide[labels == c].mean(0) for c in range(classes)])
    covariance = np.cov((wide - means[labels]).T, bias=True)
    identity = whitening.numpy().T @ covariance @ whitening.numpy()
    np.testing.assert_allclose(identity, np.eye(DIMS), atol=1e-9)


def test_knn_scores():
    bank, _ = features(50_000, 10)
    rows, _ = features(1000, 10, seed=1)
    state = fit_knn(bank, k=50)

    faiss = pytest.importorskip("faiss", reason="pip install -e '.[bench]'")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(DIMS)
    index.add(bank.numpy())

    def reference():
        """OpenOOD's way: a search per batch of 200 queries."""
        distances = [index.search(batch.numpy(), 50)[0][:, -1] for batch in rows.split(BATCH)]
        return torch.from_numpy(np.concatenate(distances))

    compare(
        f"KNN, k = 50, bank 50,000 x {DIMS}, faiss in batches of {BATCH}",
        reference,
        lambda: score_knn(state, rows),
        target=">= 4",
    )
    wide = score_knn(fit_knn(bank.double(), k=50), rows[:100].double())
    torch.testing.assert_close(score_knn(state, rows)[:100].double(), wide, rtol=2e-6, atol=0)
    torch.testing.assert_close(reference()[:100].double(), wide, rtol=1e-4, atol=0)
