"""PALM against its public formula, row by row, and what it promises over batches."""

import math

import pytest
import torch
import torch.nn.functional as F

from rwood.method.losses import palm_loss
from rwood.method.palm import SINKHORN_TURNS, assignment

NUMBERS = {
    "temperature": 0.1, "prototype_temperature": 0.5, "momentum": 0.9, "epsilon": 0.05,
    "top_k": 2, "contrast_weight": 1.0,
}  # fmt: skip


def random_case(rows=24, dims=8, classes=4, each=3, seed=0):
    """The last class has no row."""
    generator = torch.Generator().manual_seed(seed)
    projections = torch.randn(rows, dims, generator=generator, dtype=torch.float64)
    prototypes = torch.rand(each, classes, dims, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes - 1, (rows,), generator=generator)
    return projections.requires_grad_(), labels, F.normalize(prototypes, dim=2)


def slow_assignment(unit, prototypes, epsilon):
    """Probabilities, alternately scaled over rows and over prototypes."""
    q = torch.exp(unit @ prototypes.T / epsilon)
    q = q / q.sum()
    for _ in range(SINKHORN_TURNS):
        q = q / q.sum(0, keepdim=True) / q.shape[1]
        q = q / q.sum(1, keepdim=True) / q.shape[0]
    return q * q.shape[0]


def slow_palm(projections, labels, prototypes, *, temperature, prototype_temperature, momentum,
              epsilon, top_k, contrast_weight):  # fmt: skip
    """The formula of the paper with a loop over rows and prototypes."""
    each, classes, dims = prototypes.shape
    flat = prototypes.reshape(-1, dims)
    unit = F.normalize(projections, dim=1)
    first = slow_assignment(unit.detach(), flat, epsilon)
    chosen = []
    for row, label in enumerate(labels.tolist()):
        own = [label + k * classes for k in range(each)]
        chosen.append(sorted(own, key=lambda p: -first[row, p])[:top_k])  # noqa: B023
    pulls = [torch.zeros(dims, dtype=unit.dtype) for _ in flat]
    weights = [0.0] * len(flat)
    for row, places in enumerate(chosen):
        total = sum(first[row, p] for p in places)
        for p in places:
            pulls[p] = pulls[p] + first[row, p] / total * unit[row]
            weights[p] += float(first[row, p] / total)
    moved = torch.stack([
        F.normalize(
            momentum * old + (1 - momentum) * (pull / weight if weight else pull), dim=0
        )
        for old, pull, weight in zip(flat, pulls, weights, strict=True)
    ])  # fmt: skip
    fixed = moved.detach()
    second = slow_assignment(unit.detach(), fixed, epsilon)
    likelihood = 0.0
    for row, places in enumerate(chosen):
        total = sum(second[row, p] for p in places)
        logits = fixed @ unit[row] / temperature
        near = sum(second[row, p] / total * logits[p] for p in places)
        likelihood = likelihood + (logits.logsumexp(0) - near) / len(unit)
    contrast = 0.0
    for p in range(len(moved)):
        others = [q for q in range(len(moved)) if q != p]
        logits = {q: moved[p] @ moved[q] / prototype_temperature for q in others}
        partners = [q for q in others if q % classes == p % classes]
        near = sum(logits[q] for q in partners) / len(partners)
        every = torch.stack(list(logits.values())).logsumexp(0)
        contrast = contrast + (every - near) / len(moved)
    return likelihood + contrast_weight * contrast, fixed.reshape(prototypes.shape)


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999, 1.0])
def test_palm_is_its_definition(momentum, top_k):
    projections, labels, prototypes = random_case()
    numbers = NUMBERS | {"momentum": momentum, "top_k": top_k, "contrast_weight": 0.7}
    loss, moved = palm_loss(projections, labels, prototypes, **numbers)
    slow, slow_moved = slow_palm(projections, labels, prototypes, **numbers)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-12)
    torch.testing.assert_close(moved, slow_moved, rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad(loss, projections)
    (slow_gradient,) = torch.autograd.grad(slow, projections)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-9, atol=1e-13)


def test_an_assignment_is_a_distribution_that_spreads_over_the_prototypes():
    projections, _, prototypes = random_case(rows=200)
    unit, flat = F.normalize(projections.detach(), dim=1), prototypes.flatten(0, 1)
    shares = assignment(unit, flat, 0.05).exp()
    torch.testing.assert_close(shares, slow_assignment(unit, flat, 0.05), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(shares.sum(1), torch.ones(200, dtype=torch.float64))
    even = torch.full((12,), 200 / 12, dtype=torch.float64)
    unspread = (unit @ flat.T / 0.05).softmax(1).sum(0)
    assert (shares.sum(0) - even).norm() < 0.5 * (unspread - even).norm()


def test_the_order_of_the_rows_does_not_matter():
    projections, labels, prototypes = random_case()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    loss, moved = palm_loss(projections, labels, prototypes, **NUMBERS)
    shuffled, shuffled_moved = palm_loss(projections[order], labels[order], prototypes, **NUMBERS)
    assert shuffled.item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(shuffled_moved, moved, rtol=0, atol=1e-14)


def test_single_precision_is_close_and_extreme_settings_stay_finite():
    projections, labels, prototypes = random_case(rows=300, dims=64)
    exact, _ = palm_loss(projections, labels, prototypes, **NUMBERS)
    single, _ = palm_loss(projections.float(), labels, prototypes.float(), **NUMBERS)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(exact.item(), rel=1e-5)
    hard = NUMBERS | {"epsilon": 0.01, "temperature": 0.005}
    loss, moved = palm_loss(projections.float(), labels, prototypes.float(), **hard)
    (gradient,) = torch.autograd.grad(loss, projections)
    assert math.isfinite(loss.item())
    assert gradient.isfinite().all()
    torch.testing.assert_close(moved.norm(dim=2), torch.ones(3, 4))


def test_given_prototypes_are_left_alone_and_the_new_carry_no_gradient():
    projections, labels, prototypes = random_case()
    before = prototypes.clone()
    loss, moved = palm_loss(projections, labels, prototypes, **NUMBERS)
    loss.backward()
    assert torch.equal(prototypes, before)
    assert not moved.requires_grad
    torch.testing.assert_close(moved[:, -1], before[:, -1])  # a class without a row


def test_no_row_leaves_the_contrast_alone():
    projections, labels, prototypes = random_case()
    loss, moved = palm_loss(projections[:0], labels[:0], prototypes, **NUMBERS)
    assert math.isfinite(loss.item())
    torch.testing.assert_close(moved, prototypes, rtol=0, atol=1e-15)


def test_one_class_is_refused():
    projections, labels, prototypes = random_case()
    with pytest.raises(ValueError, match="two classes or more"):
        palm_loss(projections, labels, prototypes[:, :1], **NUMBERS)
