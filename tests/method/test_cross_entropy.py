import math

import pytest
import torch

from rwood.method.losses import cross_entropy_loss


def batch(rows=30, classes=5):
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(0, classes, (rows,), generator=generator)


def slow_cross_entropy(logits, labels, smoothing):
    """Row by row and class by class."""
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels.tolist(), strict=True):
        shares = row.exp() / row.exp().sum()
        for c, share in enumerate(shares):
            target = smoothing / len(row) + (1 - smoothing) * (c == label)
            total = total - target * share.log()
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_its_definition(smoothing):
    logits, labels = batch()
    loss = cross_entropy_loss(logits, labels, label_smoothing=smoothing)
    slow = slow_cross_entropy(logits, labels, smoothing)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-12)
    ours, theirs = (torch.autograd.grad(x, logits)[0] for x in (loss, slow))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-15)


def test_half_precision_is_computed_in_float32_and_no_row_costs_nothing():
    logits, labels = batch()
    half = logits.detach().half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy_loss(half, labels, label_smoothing=0.0)
    assert loss.dtype == torch.float32
    assert loss == cross_entropy_loss(half.float(), labels, label_smoothing=0.0)
    assert cross_entropy_loss(logits[:0], labels[:0], label_smoothing=0.0) == 0.0


def test_a_nan_is_not_hidden_and_shapes_are_checked():
    logits, labels = batch()
    broken = logits.detach().clone()
    broken[3, 1] = math.nan
    assert cross_entropy_loss(broken, labels, label_smoothing=0.0).isnan()
    with pytest.raises(ValueError, match="labels"):
        cross_entropy_loss(logits, labels[:-1], label_smoothing=0.0)
