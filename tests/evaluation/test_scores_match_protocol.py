"""Scores of the same embeddings by rwood and by the protocol's formulas, written out plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import pinvh
from sklearn import metrics

from rwood.data.image_sets import open_set, references
from rwood.evaluation import accuracy
from rwood.evaluation.embed import embed
from rwood.evaluation.evaluate import BenchmarkOutcome, run_benchmark
from rwood.model.encoder import Encoder, build_encoder
from rwood.results import SetMetrics
from rwood.spec.benchmark import BenchmarkSpec, ScorerSpec
from rwood.spec.run import ModelSpec

CPU = torch.device("cpu")
K = 7
SCORERS = {"mahalanobis": ScorerSpec(), "knn": ScorerSpec(name="knn", k=K)}
Embedded = dict[str, np.ndarray]


def mahalanobis(train_ND: np.ndarray, labels_N: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    """min over classes of the quadratic form in the pseudo-inverse of the shared covariance."""
    means = np.stack([train_ND[labels_N == c].mean(axis=0) for c in range(3)])
    precision = pinvh(np.cov((train_ND - means[labels_N]).T, bias=True))
    return np.array([min((q - m) @ precision @ (q - m) for m in means) for q in queries_QD])


def knn(train_ND: np.ndarray, labels_N: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    """Squared distance to the K-th nearest row of the train set."""
    return np.array([np.sort(((train_ND - q) ** 2).sum(axis=1))[K - 1] for q in queries_QD])


FORMULAS = {"mahalanobis": mahalanobis, "knn": knn}


@pytest.fixture(scope="module", params=["float32", "float64"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    spec = ModelSpec(backbone="resnet18_32x32", width=4)
    return build_encoder(spec, channels=3, seed=3).to(getattr(torch, request.param))


@pytest.fixture(scope="module")
def embedded(
    encoder: Encoder, shapes_spec: BenchmarkSpec, shapes: Path
) -> tuple[Embedded, np.ndarray, np.ndarray]:
    """Embeddings of every set in float64; labels of ID train and test."""
    rows, labels = {}, {}
    for key, ref in references(shapes_spec):
        opened = open_set(ref, shapes_spec, shapes)
        rows[key.replace(".", "/")] = embed(encoder, opened, shapes_spec, CPU).double().numpy()
        labels[key] = opened.labels_N
    return (
        {k.removeprefix("id/"): v for k, v in rows.items()},
        labels["id.train"],
        labels["id.test"],
    )


def outcome(
    encoder: Encoder, spec: BenchmarkSpec, root: Path, scorer: ScorerSpec
) -> BenchmarkOutcome:
    return run_benchmark(encoder, spec, [scorer], data_root=root, device=CPU, fsood=True)


@pytest.mark.parametrize("name", FORMULAS)
def test_scores_are_the_formulas(
    name: str, encoder: Encoder, embedded: tuple[Embedded, np.ndarray, np.ndarray],
    shapes_spec: BenchmarkSpec, shapes: Path,
) -> None:  # fmt: skip
    rows, labels_N, _ = embedded
    found = outcome(encoder, shapes_spec, shapes, SCORERS[name])
    compared = 0
    for part, scores in found.scores.items():
        expected = FORMULAS[name](rows["train"], labels_N, rows[part.removeprefix("id/")])
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
        compared += 1
    assert compared == 6, "test, val, one near, two far, one shifted"


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("protocol", ["ood", "fsood"])
def test_metrics_are_sklearns_on_these_scores(
    name: str, protocol: str, encoder: Encoder, shapes_spec: BenchmarkSpec, shapes: Path,
) -> None:  # fmt: skip
    found = outcome(encoder, shapes_spec, shapes, SCORERS[name])
    id_scores = found.scores["id/test"]
    if protocol == "fsood":
        id_scores = np.concatenate([id_scores, found.scores["shifted/dark"]])
        assert len(id_scores) == 45 + 30
    table = found.tables[f"{protocol}/{name}"]
    for part, ours in [("near/mixed", table.near["mixed"]), ("far/flat", table.far["flat"]),
                       ("far/grain", table.far["grain"])]:  # fmt: skip
        expected = plain_metrics(id_scores, found.scores[part])
        for metric, value in expected.model_dump().items():
            assert getattr(ours, metric) == pytest.approx(value, rel=1e-9), (part, metric)


def plain_metrics(id_scores: np.ndarray, ood_scores: np.ndarray) -> SetMetrics:
    """OOD is positive, scores are higher for OOD."""
    truth = np.concatenate([np.zeros(len(id_scores)), np.ones(len(ood_scores))])
    scores = np.concatenate([id_scores, ood_scores]).astype(np.float64)
    fpr, tpr, _ = metrics.roc_curve(truth, scores)
    precision_out, recall_out, _ = metrics.precision_recall_curve(truth, scores)
    precision_in, recall_in, _ = metrics.precision_recall_curve(1 - truth, -scores)
    return SetMetrics(
        fpr95=100 * float(fpr[np.argmax(tpr >= 0.95)]),
        auroc=100 * float(metrics.auc(fpr, tpr)),
        aupr_in=100 * float(metrics.auc(recall_in, precision_in)),
        aupr_out=100 * float(metrics.auc(recall_out, precision_out)),
    )


@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_accuracies_do_not_depend_on_the_rows_widened_at_a_time(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    labels_N = torch.from_numpy(rng.integers(0, 4, 90))
    train_ND = torch.from_numpy(rng.standard_normal((90, 5))).float() + labels_N[:, None] / 2
    test_QD, labels_Q = train_ND[:40], labels_N[:40]
    monkeypatch.setattr(accuracy, "ROWS", rows)
    means_CD = accuracy.class_means(train_ND, labels_N, 4)
    plain = torch.stack([train_ND[labels_N == c].double().mean(0) for c in range(4)])
    torch.testing.assert_close(means_CD, plain)
    found = accuracy.linear_probe_accuracy(train_ND, labels_N, test_QD, labels_Q, 4)
    x = np.hstack([train_ND.double().numpy(), np.ones((90, 1))])
    weights = np.linalg.lstsq(x, np.eye(4)[labels_N.numpy()], None)[0]
    guess = (x[:40] @ weights).argmax(1)
    assert found == pytest.approx(100 * np.mean(guess == labels_Q.numpy()))


def test_accuracies_of_the_embedding(
    encoder: Encoder, embedded: tuple[Embedded, np.ndarray, np.ndarray],
    shapes_spec: BenchmarkSpec, shapes: Path,
) -> None:  # fmt: skip
    rows, labels_N, labels_Q = embedded
    found = outcome(encoder, shapes_spec, shapes, SCORERS["mahalanobis"]).id_metrics
    train, test = rows["train"], rows["test"]
    means = np.stack([train[labels_N == c].mean(axis=0) for c in range(3)])
    nearest = [int(np.argmin(((means - q) ** 2).sum(axis=1))) for q in test]
    assert found["nearest_mean"] == pytest.approx(100 * np.mean(nearest == labels_Q))
    centred = train - train.mean(axis=0)
    targets = np.eye(3)[labels_N] - np.eye(3)[labels_N].mean(axis=0)
    penalty = np.sqrt(1e-6 * (centred**2).sum() / train.shape[1]) * np.eye(train.shape[1])
    weights = np.linalg.lstsq(
        np.vstack([centred, penalty]), np.vstack([targets, np.zeros((train.shape[1], 3))]), None
    )[0]
    guess = ((test - train.mean(axis=0)) @ weights + np.eye(3)[labels_N].mean(axis=0)).argmax(1)
    assert found["linear_probe"] == pytest.approx(100 * np.mean(guess == labels_Q))
    assert found["linear_probe"] > 50, "chance is 33"
