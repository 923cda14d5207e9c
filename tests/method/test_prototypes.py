import math

import pytest
import torch
import torch.nn.functional as F
from golden_recipes import GOLDEN, golden_batch

from rwood.method.losses import cider_loss, update_prototypes

NUMBERS = {"temperature": 0.1, "momentum": 0.9, "compactness_weight": 2.0}


def random_case(rows=40, dims=6, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    projections = torch.randn(rows, dims, generator=generator, dtype=torch.float64)
    prototypes = torch.randn(classes, dims, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes - 1, (rows,), generator=generator)
    return projections.requires_grad_(), labels, F.normalize(prototypes, dim=1)


def slow_update(prototypes, unit, labels, momentum):
    rows = list(prototypes)
    for z, label in zip(unit, labels.tolist(), strict=True):
        rows[label] = F.normalize(momentum * rows[label] + (1 - momentum) * z, dim=0)
    return torch.stack(rows)


def slow_cider(projections, labels, prototypes, temperature, momentum, compactness_weight):
    unit = F.normalize(projections, dim=1)
    moved = slow_update(prototypes, unit, labels, momentum)
    fixed = moved.detach()
    compactness = sum(
        -(z @ fixed[label] / temperature - (fixed @ z / temperature).logsumexp(0))
        for z, label in zip(unit, labels.tolist(), strict=True)
    ) / len(unit)
    dispersion = 0.0
    for one in range(len(moved)):
        others = [moved[one] @ moved[two] / temperature for two in range(len(moved)) if two != one]
        dispersion = dispersion + torch.stack(others).exp().mean().log() / len(moved)
    scaled = compactness_weight * temperature / 0.07 * compactness
    return scaled + temperature / 0.1 * dispersion, fixed


@pytest.mark.parametrize("case", GOLDEN["cider"]["cases"], ids=lambda case: str(case["proto_m"]))
def test_cider_agrees_with_the_authors_code(case):
    projections, labels, rng = golden_batch(case)
    prototypes = F.normalize(torch.from_numpy(rng.standard_normal((case["C"], case["D"]))), dim=1)
    loss, moved = cider_loss(
        projections,
        labels,
        prototypes,
        temperature=case["temp"],
        momentum=case["proto_m"],
        compactness_weight=case["w"],
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-9)
    assert projections.grad.norm().item() == pytest.approx(case["grad_norm"], rel=1e-9)
    assert moved.sum().item() == pytest.approx(case["proto_sum_after"], rel=1e-9)
    assert moved[0, 0].item() == pytest.approx(case["proto_00"], rel=1e-9)


@pytest.mark.parametrize("momentum", [0.5, 0.95, 0.0, 1.0])
def test_cider_is_its_definition(momentum):
    # The last class has no row in the batch, and the temperature is neither base temperature.
    projections, labels, prototypes = random_case()
    numbers = {"temperature": 0.2, "momentum": momentum, "compactness_weight": 0.7}
    loss, moved = cider_loss(projections, labels, prototypes, **numbers)
    slow, slow_moved = slow_cider(projections, labels, prototypes, **numbers)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-12)
    torch.testing.assert_close(moved, slow_moved, rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(loss, projections)
    (slow_gradient,) = torch.autograd.grad(slow, projections)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-10, atol=1e-13)


def test_gradient_through_the_update_reaches_prototypes_and_rows():
    projections, labels, prototypes = random_case(rows=12)
    unit = F.normalize(projections, dim=1).detach()
    prototypes = prototypes.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda rows, start: update_prototypes(start, rows, labels, momentum=0.8),
        (unit.requires_grad_(), prototypes),
    )


def test_a_bound_on_the_longest_class_changes_nothing_but_rounding():
    projections, labels, prototypes = random_case()
    exact, moved = cider_loss(projections, labels, prototypes, **NUMBERS)
    bounded, bounded_moved = cider_loss(
        projections, labels, prototypes, longest_class=len(labels), **NUMBERS
    )
    assert bounded.item() == pytest.approx(exact.item(), rel=1e-14)
    torch.testing.assert_close(bounded_moved, moved, rtol=0, atol=1e-15)
    with pytest.raises(IndexError):
        cider_loss(projections, labels, prototypes, longest_class=2, **NUMBERS)


def test_an_order_is_the_same_as_rows_in_that_order():
    projections, labels, prototypes = random_case()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    loss, moved = cider_loss(projections, labels, prototypes, order_N=order, **NUMBERS)
    sorted_loss, sorted_moved = cider_loss(projections[order], labels[order], prototypes, **NUMBERS)
    unsorted = cider_loss(projections, labels, prototypes, **NUMBERS)[1]
    assert loss.item() == pytest.approx(sorted_loss.item(), rel=1e-14)
    assert torch.equal(moved, sorted_moved)
    assert not torch.allclose(moved, unsorted, atol=1e-4)


def test_given_prototypes_are_left_alone_and_the_new_carry_no_gradient():
    projections, labels, prototypes = random_case()
    before = prototypes.clone()
    loss, moved = cider_loss(projections, labels, prototypes, **NUMBERS)
    loss.backward()
    assert torch.equal(prototypes, before)
    assert not moved.requires_grad


def test_no_row_leaves_the_dispersion_alone():
    projections, labels, prototypes = random_case()
    loss, moved = cider_loss(projections[:0], labels[:0], prototypes, **NUMBERS)
    slow, _ = slow_cider(projections[:1], labels[:1], prototypes, 0.1, 1.0, 0.0)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-12)
    torch.testing.assert_close(moved, prototypes, rtol=0, atol=1e-15)
    assert math.isfinite(loss.item())


def test_fewer_than_two_prototypes_are_refused():
    projections, labels, prototypes = random_case()
    with pytest.raises(ValueError, match="two prototypes"):
        cider_loss(projections, labels, prototypes[:1], **NUMBERS)
