import math

import pytest
import torch
import torch.nn.functional as F
from golden_recipes import GOLDEN, golden_batch

from rwood.method.losses import reweightood_loss, supcon_loss

DEFAULTS = {
    "temperature": 0.1,
    "within_scale": 2.0,
    "within_shift": 1.0,
    "between_scale": 5.0,
    "between_shift": 4.0,
}
GOLDEN_NAMES = {
    "temp": "temperature",
    "m_w": "within_scale",
    "c_w": "within_shift",
    "m_b": "between_scale",
    "c_b": "between_shift",
}


def random_batch(rows=24, dims=5, classes=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    projections = torch.randn(rows, dims, generator=generator, dtype=torch.float64).to(dtype)
    return projections.requires_grad_(), torch.randint(0, classes, (rows,), generator=generator)


def value_and_gradient(loss, projections):
    (gradient,) = torch.autograd.grad(loss, projections)
    return loss.item(), gradient


def slow_reweightood(projections, labels, numbers):
    """The definition, pair by pair, in Python."""
    unit = F.normalize(projections, dim=1)
    same, other = [], []
    for i in range(len(unit)):
        for j in range(i):
            cosine = unit[i] @ unit[j]
            constant = cosine.item()
            if labels[i] == labels[j]:
                weight = 1 / (
                    1 + math.exp(numbers["within_scale"] * constant - numbers["within_shift"])
                )
                same.append(-weight * cosine / numbers["temperature"])
            else:
                weight = 1 / (
                    1 + math.exp(numbers["between_shift"] - numbers["between_scale"] * constant)
                )
                other.append(weight * cosine / numbers["temperature"])
    return F.elu(torch.stack(same).logsumexp(0) + torch.stack(other).logsumexp(0))


def slow_supcon(projections, labels, temperature, base_temperature):
    unit = F.normalize(projections, dim=1)
    total = 0.0
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        normaliser = torch.stack([unit[i] @ unit[j] / temperature for j in others]).logsumexp(0)
        positives = [j for j in others if labels[j] == labels[i]]
        for j in positives:
            total = total - (unit[i] @ unit[j] / temperature - normaliser) / len(positives)
    return temperature / base_temperature * total / len(unit)


@pytest.mark.parametrize("case", GOLDEN["loss"]["cases"], ids=lambda case: case["id"])
def test_reweightood_agrees_with_the_authors_code(case):
    projections, labels, _ = golden_batch(case["args"])
    numbers = DEFAULTS | {
        ours: case["args"][theirs]
        for theirs, ours in GOLDEN_NAMES.items()
        if theirs in case["args"]
    }
    loss, gradient = value_and_gradient(
        reweightood_loss(projections, labels, **numbers), projections
    )
    assert loss == pytest.approx(case["loss"], rel=1e-13)
    assert gradient.norm().item() == pytest.approx(case["grad_norm"], rel=1e-12)
    assert gradient.abs().sum().item() == pytest.approx(case["grad_abs_sum"], rel=1e-12)
    assert gradient[0, 0].item() == pytest.approx(case["grad_00"], rel=1e-10)
    assert gradient[-1, -1].item() == pytest.approx(case["grad_last"], rel=1e-10)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.01},
        {"within_scale": -3.0, "between_scale": 0.0, "between_shift": -2.0},
    ],
)
def test_reweightood_is_its_definition(changes):
    projections, labels = random_batch()
    numbers = DEFAULTS | changes
    loss, gradient = value_and_gradient(
        reweightood_loss(projections, labels, **numbers), projections
    )
    slow, slow_gradient = value_and_gradient(
        slow_reweightood(projections, labels, numbers), projections
    )
    assert loss == pytest.approx(slow, rel=1e-13)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-11, atol=1e-13)


def test_reweightood_over_several_strips_is_its_definition():
    # 200 rows are three strips, of which the last is short.
    projections, labels = random_batch(rows=200, classes=7)
    loss, gradient = value_and_gradient(
        reweightood_loss(projections, labels, **DEFAULTS), projections
    )
    slow, slow_gradient = value_and_gradient(
        slow_reweightood(projections, labels, DEFAULTS), projections
    )
    assert loss == pytest.approx(slow, rel=1e-13)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-10, atol=1e-14)


def test_many_rows_are_computed_twice_instead_of_kept(monkeypatch):
    projections, labels = random_batch(rows=300, classes=7)
    kept = value_and_gradient(reweightood_loss(projections, labels, **DEFAULTS), projections)
    monkeypatch.setattr("rwood.method.reweightood._KEPT_ENTRIES", 0)
    again = value_and_gradient(reweightood_loss(projections, labels, **DEFAULTS), projections)
    assert again[0] == kept[0]
    torch.testing.assert_close(again[1], kept[1], rtol=1e-11, atol=1e-15)


def test_elu_bends_a_negative_sum():
    # One pair of each kind: the sum of the two logs is below zero.
    projections = torch.tensor([[1.0, 0.3], [1.0, 0.1], [-1.0, 2.0]], dtype=torch.float64)
    projections.requires_grad_()
    labels = torch.tensor([0, 0, 1])
    numbers = DEFAULTS | {"temperature": 0.05}
    loss, gradient = value_and_gradient(
        reweightood_loss(projections, labels, **numbers), projections
    )
    slow, slow_gradient = value_and_gradient(
        slow_reweightood(projections, labels, numbers), projections
    )
    assert -1.0 < slow < 0.0
    assert loss == pytest.approx(slow, rel=1e-13)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "labels",
    [[0] * 6, [0, 1, 2, 3, 4, 5], [3], []],
    ids=["one class", "all differ", "one row", "none"],
)
def test_a_batch_without_both_kinds_of_pairs_stands_still(labels, dtype):
    projections = random_batch(rows=6, dtype=dtype)[0][: len(labels)].detach().requires_grad_()
    loss, gradient = value_and_gradient(
        reweightood_loss(projections, torch.tensor(labels, dtype=torch.int64), **DEFAULTS),
        projections,
    )
    assert loss == -1.0
    assert torch.equal(gradient, torch.zeros_like(projections))


@pytest.mark.parametrize("temperature", [0.1, 0.003])
def test_float32_is_close_to_float64(temperature):
    # Collapsed classes: no pair comes near 1 / temperature, which a fixed shift would need.
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(6).repeat(20)
    centres = torch.eye(6, 8, dtype=torch.float64)
    wide = centres[labels] + 0.02 * torch.randn(120, 8, generator=generator, dtype=torch.float64)
    numbers = DEFAULTS | {"temperature": temperature}
    results = []
    for dtype in (torch.float32, torch.float64):
        projections = wide.to(dtype).requires_grad_()
        results.append(
            value_and_gradient(reweightood_loss(projections, labels, **numbers), projections)
        )
    (narrow_loss, narrow), (loss, gradient) = results
    assert narrow_loss == pytest.approx(loss, rel=1e-5)
    error = (narrow.double() - gradient).norm() / gradient.norm()
    assert error < 1e-5 / temperature


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    projections, labels = random_batch(rows=70, dtype=dtype)
    wide = projections.detach().float().requires_grad_()
    for loss in (
        lambda rows: reweightood_loss(rows, labels, **DEFAULTS),
        lambda rows: supcon_loss(rows, labels, temperature=0.1, base_temperature=0.07),
    ):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, gradient = value_and_gradient(loss(projections), projections)
        expected, wide_gradient = value_and_gradient(loss(wide), wide)
        assert value == expected
        assert gradient.dtype == dtype
        assert torch.equal(gradient, wide_gradient.to(dtype))


def test_hyperparameters_may_be_tensors_and_do_not_recompile():
    projections, labels = random_batch(rows=70)
    compilations = []

    def count(graph, _):
        compilations.append(graph)
        return graph.forward

    compiled = torch.compile(reweightood_loss, backend=count, fullgraph=True)
    for temperature in (0.1, 0.2, 0.3):
        numbers = DEFAULTS | {"temperature": temperature}
        tensors = {name: torch.tensor(number) for name, number in numbers.items()}
        value, gradient = value_and_gradient(compiled(projections, labels, **tensors), projections)
        # torch.tensor(0.1) is a float32, so the two sides see numbers that differ by 1e-8.
        expected, slow = value_and_gradient(
            reweightood_loss(projections, labels, **numbers), projections
        )
        assert value == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(gradient, slow, rtol=1e-5, atol=1e-8)
    assert len(compilations) == 1


def test_a_nan_is_not_hidden():
    projections, labels = random_batch()
    broken = projections.detach().clone()
    broken[3, 1] = math.nan
    assert reweightood_loss(broken, labels, **DEFAULTS).isnan()
    assert supcon_loss(broken, labels, temperature=0.1, base_temperature=0.07).isnan()


def test_shapes_that_do_not_fit_are_refused():
    projections, labels = random_batch()
    with pytest.raises(ValueError, match="labels"):
        reweightood_loss(projections, labels[:-1], **DEFAULTS)
    with pytest.raises(ValueError, match="rows, dims"):
        supcon_loss(projections[None], labels, temperature=0.1, base_temperature=0.1)


@pytest.mark.parametrize(
    "case", GOLDEN["supcon"]["cases"], ids=lambda case: str(case["temperature"])
)
def test_supcon_agrees_with_the_authors_code(case):
    projections, labels, _ = golden_batch(case)
    numbers = {name: case[name] for name in ("temperature", "base_temperature")}
    loss, gradient = value_and_gradient(supcon_loss(projections, labels, **numbers), projections)
    assert loss == pytest.approx(case["loss"], rel=1e-13)
    assert gradient.norm().item() == pytest.approx(case["grad_norm"], rel=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.02])
def test_supcon_is_its_definition(temperature):
    # Class 9 has a single row: an anchor without a positive.
    projections, labels = random_batch(rows=80)
    labels[5] = 9
    numbers = {"temperature": temperature, "base_temperature": 0.07}
    loss, gradient = value_and_gradient(supcon_loss(projections, labels, **numbers), projections)
    slow, slow_gradient = value_and_gradient(
        slow_supcon(projections, labels, **numbers), projections
    )
    assert loss == pytest.approx(slow, rel=1e-12)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_supcon_without_positives_is_zero(rows):
    projections = random_batch()[0][:rows].detach().requires_grad_()
    loss = supcon_loss(projections, torch.arange(rows), temperature=0.1, base_temperature=0.1)
    value, gradient = value_and_gradient(loss, projections)
    assert value == 0.0
    assert torch.equal(gradient, torch.zeros_like(projections))
