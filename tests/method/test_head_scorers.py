"""A linear head on frozen embeddings, against scikit-learn; its scores, against slow formulas."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rwood.method import scorers


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 5
    centres = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    points = centres[labels] + torch.randn(300, 12, generator=generator, dtype=torch.float64)
    queries = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(points, dim=1), labels, queries


@pytest.fixture(scope="module")
def head(rows):
    points, labels, _ = rows
    return scorers.fit_head(points, labels, classes=5)


def test_the_head_is_scikit_learns_logistic_regression(rows, head):
    points, labels, queries = rows
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    reference.fit(points.numpy(), labels.numpy())
    expected = torch.from_numpy(reference.decision_function(queries.numpy()))
    found = scorers.classify(head, queries)
    # Biases are free up to a constant, which no probability sees.
    difference = found - expected
    spread = difference - difference.mean(1, keepdim=True)
    assert float(spread.abs().max()) < 1e-4
    again = scorers.fit_head(points.float(), labels, classes=5)
    assert float((again.weight_CD - head.weight_CD).abs().max()) < 1e-4


def slow(name, head, query, top=100):
    logits = [float(w @ query + b) for w, b in zip(head.weight_CD, head.bias_C, strict=True)]
    predicted = max(range(len(logits)), key=lambda c: logits[c])
    centred = query - head.mean_D
    if name == "mls":
        return -logits[predicted]
    if name == "gen":
        total = sum(math.exp(value) for value in logits)
        shares = sorted((math.exp(value) / total for value in logits), reverse=True)[:top]
        return sum(p**0.1 * (1 - p) ** 0.1 for p in shares)
    if name == "fdbd":
        others = [c for c in range(len(logits)) if c != predicted]
        far = [
            (logits[predicted] - logits[c])
            / float((head.weight_CD[predicted] - head.weight_CD[c]).norm())
            for c in others
        ]
        return -sum(far) / len(far) / float(centred.norm())
    along = float(head.weight_CD[predicted] @ centred) / float(centred.norm())
    return -along - 1e-3 * float(query.abs().sum())


@pytest.mark.parametrize("name", ["mls", "gen", "fdbd", "nci"])
def test_every_score_is_its_formula(rows, head, name):
    _, _, queries = rows
    score = getattr(scorers, f"score_head_{name}")
    found = score(head, queries)
    expected = torch.tensor([slow(name, head, query) for query in queries], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    single = score(head, queries.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-4)


def test_gen_counts_the_largest_probabilities_alone(rows, head):
    _, _, queries = rows
    found = scorers.score_head_gen(head, queries, top=2)
    expected = [slow("gen", head, query, top=2) for query in queries]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_what_cannot_be_fitted_or_scored_is_said(rows, head):
    points, labels, queries = rows
    with pytest.raises(ValueError, match="fDBD needs two classes"):
        scorers.score_head_fdbd(
            scorers.Head(head.weight_CD[:1], head.bias_C[:1], head.mean_D), queries
        )
    with pytest.raises(ValueError):  # noqa: PT011
        scorers.classify(head, queries[:, :3])
    with pytest.raises(ValueError):  # noqa: PT011
        scorers.fit_head(points * math.nan, labels, classes=5)
