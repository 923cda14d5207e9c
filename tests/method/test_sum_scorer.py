"""The sum of a confidence and a distance, against a slow version."""

import pytest
import torch
from torch.nn.functional import normalize

from rwood.method import scorers


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        labels = torch.arange(count) % 4
        noise = 0.5 * torch.randn(count, 6, generator=generator, dtype=torch.float64)
        return normalize(centres[labels] + noise, dim=1), labels

    centres = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    queries = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    return *draw(200), draw(50)[0], normalize(queries, dim=1)


def slow(train, labels, val, queries, weight):
    """Image by image: the largest logit, the least distance to a class, each in its ID units."""
    head = scorers.fit_head(train, labels, classes=4)
    means = torch.stack([train[labels == c].mean(0) for c in range(4)])
    within = sum(
        torch.outer(x - means[c], x - means[c]) for x, c in zip(train, labels, strict=True)
    )
    inverse = torch.linalg.pinv(within / len(train))

    def parts(x):
        logits = [float(w @ x + b) for w, b in zip(head.weight_CD, head.bias_C, strict=True)]
        return -max(logits), min(float((x - m) @ inverse @ (x - m)) for m in means)

    known = torch.tensor([parts(x) for x in val], dtype=torch.float64)
    centre, spread = known.mean(0), known.std(0, correction=0)
    each = (torch.tensor([parts(x) for x in queries], dtype=torch.float64) - centre) / spread
    return each[:, 0] + weight * each[:, 1]


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_the_sum_is_its_formula(rows, weight):
    train, labels, val, queries = rows
    state = scorers.fit_head_sum(train, labels, val, classes=4)
    found = scorers.score_head_sum(state, queries, weight=weight)
    expected = slow(train, labels, val, queries, weight)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    single = scorers.score_head_sum(state, queries.float(), weight=weight)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-4)


def test_each_part_is_standard_on_id_validation_images(rows):
    train, labels, val, _ = rows
    state = scorers.fit_head_sum(train, labels, val, classes=4, shrinkage=0.2)
    confidence = scorers.score_head_sum(state, val, weight=0.0)
    both = scorers.score_head_sum(state, val, weight=1.0)
    for part in (confidence, both - confidence):
        assert float(part.mean()) == pytest.approx(0.0, abs=1e-9)
        assert float(part.std(correction=0)) == pytest.approx(1.0)


def test_validation_rows_of_other_dims_are_refused(rows):
    train, labels, val, _ = rows
    with pytest.raises(ValueError, match="embeddings must be"):
        scorers.fit_head_sum(train, labels, val[:, :3], classes=4)
