import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_recipes import GOLDEN, golden_features
from scipy.linalg import pinvh
from scipy.special import logsumexp

from rwood.method import scorers, statistics
from rwood.method.statistics import class_moments, shrunk


def features(rows=120, dims=9, classes=4, seed=0, scale=None):
    """Float64 rows around class means, labels that hold every class, and other rows as queries."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    spread = np.ones(dims) if scale is None else scale
    means = rng.standard_normal((classes, dims))
    train = means[labels] + spread * rng.standard_normal((rows, dims))
    queries = 1.5 * rng.standard_normal((30, dims))
    return torch.from_numpy(train), torch.from_numpy(labels), torch.from_numpy(queries)


def slow_mahalanobis(train, labels, queries):
    """Class by class and query by query, with scipy's pseudo-inverse."""
    train, labels, queries = (
        x.double().numpy() if x.is_floating_point() else x.numpy() for x in (train, labels, queries)
    )
    means = np.stack([train[labels == c].mean(0) for c in range(labels.max() + 1)])
    precision = pinvh(np.cov((train - means[labels]).T, bias=True))
    return np.array([[(q - m) @ precision @ (q - m) for m in means] for q in queries])


@pytest.mark.parametrize("case", GOLDEN["mahalanobis"]["cases"], ids=lambda case: case["id"])
def test_mahalanobis_agrees_with_the_authors_code(case):
    train, labels, queries = golden_features(case)
    confidences = []
    for dtype in (torch.float64, torch.float32):
        state = scorers.fit_mahalanobis(train.to(dtype), labels, classes=case["C"])
        scores = scorers.score_mahalanobis(state, queries.to(dtype))
        assert scores.dtype == dtype
        confidences.append(-scores.double().numpy())
    wide, narrow = confidences
    np.testing.assert_allclose(wide[:10], case["float64_first10"], rtol=1e-9)
    assert wide.sum() == pytest.approx(case["float64_sum"], rel=1e-9)
    np.testing.assert_allclose(narrow[:10], case["ref_float32_first10"], rtol=2e-6)
    np.testing.assert_allclose(narrow, wide, rtol=2e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_mahalanobis_is_its_definition(offset):
    train, labels, queries = features()
    slow = slow_mahalanobis(train, labels, queries)
    state = scorers.fit_mahalanobis(train + offset, labels, classes=4)
    scores, nearest = scorers.nearest_class_mahalanobis(state, queries + offset)
    np.testing.assert_allclose(scores.numpy(), slow.min(1), rtol=1e-9)
    np.testing.assert_array_equal(nearest.numpy(), slow.argmin(1))


def test_mahalanobis_in_float32_survives_a_spread_of_variances():
    train, labels, queries = features(rows=4000, dims=40, scale=np.arange(1, 41) ** -1.2)
    state = scorers.fit_mahalanobis(train, labels, classes=4)
    near = train[:200] + 0.01
    for rows in (queries, near):
        wide = scorers.score_mahalanobis(state, rows)
        narrow = scorers.score_mahalanobis(state, rows.float())
        np.testing.assert_allclose(narrow.double().numpy(), wide.numpy(), rtol=1e-5)


def test_rtol_drops_directions():
    train, labels, queries = features(dims=4, scale=np.array([1.0, 1.0, 1.0, 1e-3]))
    assert scorers.fit_mahalanobis(train, labels, classes=4).whitening_DK.shape == (4, 4)
    state = scorers.fit_mahalanobis(train, labels, classes=4, rtol=1e-4)
    assert state.whitening_DK.shape == (4, 3)
    moved = queries + torch.tensor([0.0, 0.0, 0.0, 1e-4])
    torch.testing.assert_close(
        scorers.score_mahalanobis(state, moved),
        scorers.score_mahalanobis(state, queries),
        rtol=1e-3,
        atol=0,
    )


@pytest.mark.parametrize("share", [0.0, 1e-3, 0.3, 1.0])
def test_shrinkage_is_its_definition(share):
    train, labels, queries = features(dims=9, scale=np.arange(1, 10) ** -2.0)
    state = scorers.fit_mahalanobis(train, labels, classes=4, shrinkage=share)
    x, y = train.numpy(), labels.numpy()
    means = np.stack([x[y == c].mean(0) for c in range(4)])
    centred = x - means[y]
    within, total = centred.T @ centred / len(x), np.cov(x.T, bias=True)

    def slow(covariance, q, m):
        mixed = (1 - share) * covariance + share * np.trace(covariance) / 9 * np.eye(9)
        return (q - m) @ np.linalg.inv(mixed) @ (q - m)

    near = np.array([min(slow(within, q, m) for m in means) for q in queries.numpy()])
    np.testing.assert_allclose(scorers.score_mahalanobis(state, queries).numpy(), near, rtol=1e-9)
    relative = scorers.fit_rmds(train, labels, classes=4, shrinkage=share)
    far = np.array([slow(total, q, x.mean(0)) for q in queries.numpy()])
    np.testing.assert_allclose(
        scorers.score_rmds(relative, queries).numpy(), near - far, rtol=1e-8, atol=1e-9
    )


def test_shrunk_covariances_keep_their_total_variance_and_every_direction():
    train, labels, _ = features(rows=20, dims=9, classes=4)
    flat = torch.cat([train, train], dim=1)  # rank 9 of 18
    assert scorers.fit_mahalanobis(flat, labels, classes=4).whitening_DK.shape[1] < 18
    state = scorers.fit_mahalanobis(flat, labels, classes=4, shrinkage=0.01)
    assert state.whitening_DK.shape == (18, 18)
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64))
    for share in (0.0, 0.5, 1.0):
        assert shrunk(covariance, share).trace().item() == pytest.approx(5.0, rel=1e-15)


def test_queries_of_many_chunks_score_as_one_by_one():
    train, labels, _ = features()
    queries = torch.randn(
        300_000, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    state = scorers.fit_mahalanobis(train, labels, classes=4)
    scores = scorers.score_mahalanobis(state, queries)
    assert scores.shape == (300_000,)
    for row in (0, 116_508, 299_999):
        alone = scorers.score_mahalanobis(state, queries[row : row + 1])
        assert scores[row].item() == pytest.approx(alone.item(), rel=1e-12)


@pytest.mark.parametrize("rows", [1, 70, 1024])
def test_moments_do_not_depend_on_the_rows_handled_at_once(rows, monkeypatch):
    train, labels, queries = features(rows=150)
    train = train + 30.0
    monkeypatch.setattr(statistics, "_CHUNK_ROWS", rows)
    moments = class_moments(train, labels, classes=4)
    slow = np.cov(train.numpy().T, bias=True)
    np.testing.assert_array_equal(moments.count_C.numpy(), np.bincount(labels.numpy()))
    np.testing.assert_allclose(moments.total_DD().numpy(), slow, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(moments.mean_D().numpy(), train.numpy().mean(0), rtol=1e-14)
    scores = scorers.score_mahalanobis(
        scorers.fit_mahalanobis(train, labels, classes=4), queries + 30.0
    )
    expected = slow_mahalanobis(train, labels, queries + 30.0).min(1)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-9)


def test_float32_rows_are_summed_in_float64_however_collapsed_the_classes():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6000) % 10
    rows = (torch.eye(10, 16)[labels] + 1e-4 * torch.randn(6000, 16, generator=generator)).float()
    within = class_moments(rows, labels, classes=10).within_DD().numpy()
    wide = rows.double().numpy()
    means = np.stack([wide[labels == c].mean(0) for c in range(10)])
    slow = np.cov((wide - means[labels]).T, bias=True)
    np.testing.assert_allclose(within, slow, rtol=0, atol=1e-8 * slow.diagonal().min())


def test_fewer_rows_than_dims_leave_no_direction_of_rounding_noise():
    # Classes lie 1000 times farther apart than they spread: noise of that scale must not count.
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 10
    rows = (1000 * rng.standard_normal((10, 80)))[labels] + rng.standard_normal((60, 80))
    state = scorers.fit_mahalanobis(torch.from_numpy(rows), torch.from_numpy(labels), classes=10)
    assert state.whitening_DK.shape == (80, 50)


def test_rmds_is_the_difference_of_two_distances():
    train, labels, queries = features()
    one = slow_mahalanobis(train, torch.zeros_like(labels), queries).min(1)
    state = scorers.fit_rmds(train, labels, classes=4)
    expected = slow_mahalanobis(train, labels, queries).min(1) - one
    np.testing.assert_allclose(scorers.score_rmds(state, queries).numpy(), expected, rtol=1e-8)


def test_ssd_is_its_definition():
    train, _, queries = features()
    unit = F.normalize(train, dim=1).numpy()
    mean, deviation = unit.mean(0), unit.std(0)
    precision = np.linalg.pinv(np.cov(((unit - mean) / deviation).T, bias=True))
    standard = (F.normalize(queries, dim=1).numpy() - mean) / deviation
    expected = [z @ precision @ z for z in standard]
    scores = scorers.score_ssd(scorers.fit_ssd(train), queries)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-9)


def test_ssd_ignores_a_dim_without_variance():
    train, _, queries = features()
    with_dead = [torch.cat([x, torch.zeros(len(x), 1)], 1) for x in (train, queries)]
    torch.testing.assert_close(
        scorers.score_ssd(scorers.fit_ssd(with_dead[0]), with_dead[1]),
        scorers.score_ssd(scorers.fit_ssd(train), queries),
        rtol=1e-9,
        atol=0,
    )


@pytest.mark.parametrize("case", GOLDEN["knn"]["cases"], ids=lambda case: case["id"])
def test_knn_agrees_with_the_authors_code(case):
    train, _, queries = golden_features(case)
    wide = scorers.score_knn(scorers.fit_knn(train.double(), k=case["K"]), queries.double())
    narrow = scorers.score_knn(scorers.fit_knn(train, k=case["K"]), queries)
    np.testing.assert_allclose(-wide.numpy()[:10], case["float64_first10"], rtol=1e-9)
    assert -wide.sum().item() == pytest.approx(case["float64_sum"], rel=1e-9)
    np.testing.assert_allclose(-narrow.numpy()[:10], case["ref_float32_first10"], rtol=2e-6)


@pytest.mark.parametrize("k", [1, 7, 120])
def test_knn_is_its_definition(k):
    train, _, queries = features()
    slow = np.sort(((queries[:, None] - train[None]) ** 2).sum(2).numpy(), 1)[:, k - 1]
    # A common offset would cost float32 all its digits if it were not subtracted first.
    state = scorers.fit_knn((train + 1000).float(), k=k)
    scores = scorers.score_knn(state, (queries + 1000).float())
    np.testing.assert_allclose(scores.numpy(), slow, rtol=2e-3)
    exact = scorers.score_knn(scorers.fit_knn(train, k=k), queries)
    np.testing.assert_allclose(exact.numpy(), slow, rtol=1e-12)


@pytest.mark.parametrize("k", [0, 121])
def test_knn_needs_as_many_rows_as_neighbours(k):
    with pytest.raises(ValueError, match=f"k = {k} neighbours of 120"):
        scorers.fit_knn(features()[0], k=k)


def test_cosine_is_its_definition():
    train, labels, queries = features()
    unit = F.normalize(train, dim=1)
    directions = F.normalize(torch.stack([unit[labels == c].mean(0) for c in range(4)]), dim=1)
    expected = 1 - (F.normalize(queries, dim=1) @ directions.T).max(1).values
    scores = scorers.score_cosine(scorers.fit_cosine(train, labels, classes=4), 3 * queries)
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-14)


def test_msp_and_energy_are_their_definitions():
    logits = 5 * features()[2]
    array = logits.numpy()
    softmax = np.exp(array - logsumexp(array, 1)[:, None])
    np.testing.assert_allclose(scorers.score_msp(logits).numpy(), -softmax.max(1), rtol=1e-12)
    np.testing.assert_allclose(
        scorers.score_energy(logits, temperature=2.0).numpy(),
        -2 * logsumexp(array / 2, 1),
        rtol=1e-12,
    )
    half = scorers.score_energy(logits.half())
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half.numpy(), -logsumexp(array, 1), rtol=2e-3)


def test_vim_is_its_definition():
    train, _, queries = features(dims=12)
    rng = np.random.default_rng(2)
    weight, bias = rng.standard_normal((5, 12)), rng.standard_normal(5)
    rows, others = train.numpy(), queries.numpy()
    origin = -np.linalg.pinv(weight) @ bias
    centred = rows - origin
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    residual = vectors[:, np.argsort(-variances)[8:]]
    norms = np.linalg.norm(centred @ residual, axis=1)
    alpha = (rows @ weight.T + bias).max(1).mean() / norms.mean()
    virtual = alpha * np.linalg.norm((others - origin) @ residual, axis=1)
    expected = virtual - logsumexp(others @ weight.T + bias, 1)
    state = scorers.fit_vim(train, torch.from_numpy(weight), torch.from_numpy(bias), dims=8)
    np.testing.assert_allclose(scorers.score_vim(state, queries).numpy(), expected, rtol=1e-9)
    for dims in (0, 12):
        with pytest.raises(ValueError, match="residual"):
            scorers.fit_vim(train, torch.from_numpy(weight), torch.from_numpy(bias), dims=dims)


def fitted():
    """Every scorer, fitted, as (name, fit of given rows, score of given rows)."""
    train, labels, _ = features()
    weight, bias = 0.01 * torch.eye(9)[:3], torch.zeros(3)
    return {
        "mahalanobis": (
            lambda rows: scorers.fit_mahalanobis(rows, labels[: len(rows)], classes=4),
            scorers.score_mahalanobis,
        ),
        "rmds": (
            lambda rows: scorers.fit_rmds(rows, labels[: len(rows)], classes=4),
            scorers.score_rmds,
        ),
        "cosine": (
            lambda rows: scorers.fit_cosine(rows, labels[: len(rows)], classes=4),
            scorers.score_cosine,
        ),
        "ssd": (scorers.fit_ssd, scorers.score_ssd),
        "knn": (lambda rows: scorers.fit_knn(rows, k=3), scorers.score_knn),
        "vim": (lambda rows: scorers.fit_vim(rows, weight, bias, dims=5), scorers.score_vim),
        "msp": (lambda rows: None, lambda _, rows: scorers.score_msp(rows)),
        "energy": (lambda rows: None, lambda _, rows: scorers.score_energy(rows)),
    }


@pytest.mark.parametrize("name", fitted())
def test_rows_are_left_alone_and_meaningless_ones_refused(name):
    fit, score = fitted()[name]
    train, _, queries = features()
    before = train.clone()
    state = fit(train)
    assert torch.equal(train, before)
    bad_value = queries.clone()
    bad_value[3, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        score(state, bad_value)
    with pytest.raises(ValueError, match="a row at least"):
        score(state, queries[:0])
    if state is None:
        return
    with pytest.raises(ValueError, match="rows, 9"):
        score(state, queries[:, :-1])
    with pytest.raises(ValueError, match="a row at least"):
        fit(train[:0])
    infinite = train.clone()
    infinite[1, 1] = float("inf")
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit(infinite)


@pytest.mark.parametrize("name", fitted())
def test_a_state_is_nothing_but_tensors_and_higher_means_farther(name, tmp_path):
    fit, score = fitted()[name]
    train, _, _ = features()
    state = fit(train)
    if state is not None:
        torch.save(vars(state), tmp_path / "state.pt")
        state = type(state)(**torch.load(tmp_path / "state.pt", weights_only=True))
        near, far = train[:50], 0.1 * train[:50] + torch.tensor([-40.0, 40.0, 40.0] * 3)
        assert score(state, far).mean() > score(state, near).mean()
    else:
        confident, unsure = torch.eye(4)[:3] * 9, torch.zeros(3, 4)
        assert (score(state, unsure) > score(state, confident)).all()


def test_a_class_without_a_sample_is_named():
    train, labels, _ = features()
    for fit in (scorers.fit_mahalanobis, scorers.fit_rmds, scorers.fit_cosine):
        with pytest.raises(ValueError, match="no sample of class 4, 5 to fit on"):
            fit(train, labels, classes=6)
        with pytest.raises(ValueError, match=r"labels must be 0\.\.2"):
            fit(train, labels, classes=3)
        with pytest.raises(ValueError, match="120 rows but labels"):
            fit(train, labels[:-1], classes=4)


def test_rows_that_coincide_have_no_gaussian():
    with pytest.raises(ValueError, match="no variance"):
        scorers.fit_mahalanobis(torch.ones(6, 3), torch.arange(6) % 2, classes=2)
