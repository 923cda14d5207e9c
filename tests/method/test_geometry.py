import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from rwood.method.geometry import class_dispersion, enclosing_radii, score_overlap


def clouds(seed=0):
    rng = np.random.default_rng(seed)
    sizes = [1, 2, 9, 40]
    labels = rng.permutation(np.repeat(np.arange(4), sizes))
    rows = rng.standard_normal((sum(sizes), 3)) + 5 * labels[:, None]
    return torch.from_numpy(rows), torch.from_numpy(labels)


def slow_radius(points):
    """Smallest t with every |x - c|^2 <= t, by a general solver."""
    centre = points.mean(0)
    start = np.r_[centre, ((points - centre) ** 2).sum(1).max()]
    rooms = {"type": "ineq", "fun": lambda v: v[-1] - ((points - v[:-1]) ** 2).sum(1)}
    found = minimize(
        lambda v: v[-1], start, constraints=rooms, method="SLSQP", options={"ftol": 1e-12}
    )
    return np.sqrt(found.x[-1])


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_radii_are_minimal_within_the_tolerance(tolerance):
    rows, labels = clouds()
    radii = enclosing_radii(rows, labels, classes=4, tolerance=tolerance).numpy()
    for label, radius in enumerate(radii):
        slow = slow_radius(rows[labels == label].numpy())
        assert slow - 1e-6 <= radius <= slow * (1 + tolerance) + 1e-6


def test_radii_of_known_shapes():
    triangle = torch.tensor([[0.0, 1.0], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]])
    pair = torch.tensor([[100.0, 0.0], [100.0, 4.0], [100.0, 1.0]])
    rows, labels = torch.cat([triangle, pair]), torch.tensor([0, 0, 0, 1, 1, 1])
    radii = enclosing_radii(rows, labels, classes=2, tolerance=1e-4)
    assert radii.tolist() == pytest.approx([1.0, 2.0], rel=2e-4)
    coinciding = enclosing_radii(torch.full((3, 2), 0.1), torch.zeros(3, dtype=int), classes=1)
    assert coinciding.item() == pytest.approx(0.0, abs=1e-6)


def test_radii_refuse_what_has_none():
    rows, labels = clouds()
    with pytest.raises(ValueError, match="needs a row"):
        enclosing_radii(rows, labels, classes=5)
    with pytest.raises(ValueError, match="needs a row"):
        enclosing_radii(rows, labels, classes=3)
    with pytest.raises(ValueError, match="tolerance"):
        enclosing_radii(rows, labels, classes=4, tolerance=0.0)


def test_dispersion_is_the_mean_angle():
    rows, labels = clouds()
    means = [rows[labels == c].mean(0).numpy() for c in range(4)]
    angles = [
        np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        for i, a in enumerate(means)
        for b in means[:i]
    ]
    assert class_dispersion(rows, labels, classes=4) == pytest.approx(np.mean(angles), rel=1e-9)


def test_dispersion_of_known_directions():
    labels = torch.arange(3)
    assert class_dispersion(torch.eye(3), labels, classes=3) == pytest.approx(90.0)
    opposite = torch.tensor([[2.0, 0.0], [-1.0, 0.0]])
    assert class_dispersion(opposite, labels[:2], classes=2) == pytest.approx(180.0)
    with pytest.raises(ValueError, match="two classes"):
        class_dispersion(torch.eye(1), labels[:1], classes=1)


def test_overlap_is_the_common_mass_of_the_histograms():
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.standard_normal(500), rng.standard_normal(300) + 1
    low, high = min(id_scores.min(), ood_scores.min()), max(id_scores.max(), ood_scores.max())
    common = 0.0
    for left in range(20):
        inside = [
            np.mean(np.clip(((scores - low) / (high - low) * 20).astype(int), 0, 19) == left)
            for scores in (id_scores, ood_scores)
        ]
        common += min(inside)
    overlap = score_overlap(torch.from_numpy(id_scores), ood_scores, bins=20)
    assert overlap == pytest.approx(common, abs=1e-12)


def test_overlap_of_known_scores():
    assert score_overlap(np.arange(5), np.arange(10, 15)) == 0.0
    assert score_overlap(np.arange(5), np.arange(5)) == pytest.approx(1.0)
    assert score_overlap(np.ones(3), np.ones(2)) == pytest.approx(1.0)
    for bad in ([], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="empty, NaN or infinite"):
            score_overlap(np.array(bad), np.arange(3))
