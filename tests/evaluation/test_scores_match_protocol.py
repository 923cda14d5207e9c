"""Scores of the same embeddings by rwood and by the protocol's formulas, written out plainly."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.linalg import pinvh
from scipy.special import softmax
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.scorers import ScorerName, load_scorer
from rwood.data.image_sets import open_set, references
from rwood.evaluation import accuracy
from rwood.evaluation.benchmark import BenchmarkOutcome, run_benchmark
from rwood.evaluation.embed import embed
from rwood.model.encoder import Encoder, build_encoder
from rwood.results import SetMetrics

CPU = torch.device("cpu")
K = 7
Rows = dict[str, np.ndarray]
Formula = Callable[["Known", np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Known:
    """What a scorer is fitted on: rows of ID train and val, labels, the classifier if any."""

    rows_ND: np.ndarray
    labels_N: np.ndarray
    weight_CD: np.ndarray | None
    bias_C: np.ndarray | None
    val_VD: np.ndarray

    @property
    def means_CD(self) -> np.ndarray:
        return np.stack([self.rows_ND[self.labels_N == c].mean(axis=0) for c in range(3)])

    def logits(self, rows_QD: np.ndarray) -> np.ndarray:
        assert self.weight_CD is not None
        return rows_QD @ self.weight_CD.T + self.bias_C


def unit(rows_ND: np.ndarray) -> np.ndarray:
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


def distances(queries_QD: np.ndarray, mean_D: np.ndarray, cov_DD: np.ndarray) -> np.ndarray:
    """The quadratic form in the pseudo-inverse of a covariance, query by query."""
    precision = pinvh(cov_DD)
    return np.array([(q - mean_D) @ precision @ (q - mean_D) for q in queries_QD])


def mahalanobis(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """min over classes of the distance in the shared covariance."""
    shared = np.cov((known.rows_ND - known.means_CD[known.labels_N]).T, bias=True)
    return np.min([distances(queries_QD, m, shared) for m in known.means_CD], axis=0)


def rmds(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """-max over classes of (-M_c + M_0)."""
    mean_D, cov_DD = known.rows_ND.mean(axis=0), np.cov(known.rows_ND.T, bias=True)
    return mahalanobis(known, queries_QD) - distances(queries_QD, mean_D, cov_DD)


def ssd(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """Unit rows, z-scored, one Gaussian; dims that never vary stand still."""
    rows_ND, queries_QD = unit(known.rows_ND), unit(queries_QD)
    mean, std = rows_ND.mean(axis=0), rows_ND.std(axis=0)
    alive = std > 1e-10
    z_ND, z_QD = ((x - mean)[:, alive] / std[alive] for x in (rows_ND, queries_QD))
    return distances(z_QD, z_ND.mean(axis=0), np.cov(z_ND.T, bias=True))


def cosine(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """One minus the largest cosine to a class mean."""
    return 1 - (queries_QD @ unit(known.means_CD).T).max(axis=1)


def knn(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """Squared distance to the K-th nearest row of the train set."""
    return np.array([np.sort(((known.rows_ND - q) ** 2).sum(axis=1))[K - 1] for q in queries_QD])


def msp(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """-max softmax."""
    return np.array([-max(np.exp(row) / np.exp(row).sum()) for row in known.logits(queries_QD)])


def energy(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """-logsumexp, at temperature one."""
    return np.array([-np.log(np.exp(row).sum()) for row in known.logits(queries_QD)])


def vim(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """alpha |residual| - logsumexp, half of the dims principal."""
    assert known.weight_CD is not None
    origin = -np.linalg.pinv(known.weight_CD) @ known.bias_C
    centred = known.rows_ND - origin
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    residual = vectors[:, np.argsort(-values)[len(values) // 2 :]]
    alpha = known.logits(known.rows_ND).max(axis=1).mean() / (
        np.linalg.norm(centred @ residual, axis=1).mean()
    )
    virtual = alpha * np.linalg.norm((queries_QD - origin) @ residual, axis=1)
    return virtual + energy(known, queries_QD)


def head(known: Known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, biases and training mean of scikit-learn's logistic regression."""
    fitted = LogisticRegression(C=1.0, tol=1e-12, max_iter=20_000)
    fitted.fit(known.rows_ND, known.labels_N)
    return fitted.coef_, fitted.intercept_, known.rows_ND.mean(axis=0)


def head_mls(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """Minus the largest logit, up to the constant that biases are free of."""
    weight_CD, bias_C, _ = head(known)
    return -(queries_QD @ weight_CD.T + bias_C - bias_C.mean()).max(axis=1)


def head_gen(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """Sum of p^.1 (1 - p)^.1."""
    weight_CD, bias_C, _ = head(known)
    shares_QC = softmax(queries_QD @ weight_CD.T + bias_C, axis=1)
    return (shares_QC**0.1 * (1 - shares_QC) ** 0.1).sum(axis=1)


def head_fdbd(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """Mean distance to the other classes' boundaries over that to the training mean."""
    weight_CD, bias_C, mean_D = head(known)
    scores = []
    for query, logits in zip(queries_QD, queries_QD @ weight_CD.T + bias_C, strict=True):
        best = logits.argmax()
        far = [(logits[best] - logits[c]) / np.linalg.norm(weight_CD[best] - weight_CD[c])
               for c in range(len(logits)) if c != best]  # fmt: skip
        scores.append(-np.mean(far) / np.linalg.norm(query - mean_D))
    return np.array(scores)


def head_nci(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """Minus the predicted class's weights along the centred row, minus .001 x its 1-norm."""
    weight_CD, bias_C, mean_D = head(known)
    own_QD = weight_CD[(queries_QD @ weight_CD.T + bias_C).argmax(axis=1)]
    centred = queries_QD - mean_D
    along = (own_QD * centred).sum(axis=1) / np.linalg.norm(centred, axis=1)
    return -along - 1e-3 * np.abs(queries_QD).sum(axis=1)


def head_sum(known: Known, queries_QD: np.ndarray) -> np.ndarray:
    """Largest logit and distance, each minus its mean and over its std on ID val."""
    total = np.zeros(len(queries_QD))
    for part in (head_mls, mahalanobis):
        scale = part(known, known.val_VD)
        total += (part(known, queries_QD) - scale.mean()) / scale.std()
    return total


FORMULAS: dict[ScorerName, tuple[Formula, str]] = {
    "mahalanobis": (mahalanobis, "unit"),
    "mahalanobis_raw": (mahalanobis, "raw"),
    "knn": (knn, "unit"),
    "rmds": (rmds, "raw"),
    "ssd": (ssd, "unit"),
    "cosine": (cosine, "unit"),
    "msp": (msp, "raw"),
    "energy": (energy, "raw"),
    "vim": (vim, "raw"),
    "rmds_unit": (rmds, "unit"),
    "head_mls": (head_mls, "unit"),
    "head_gen": (head_gen, "unit"),
    "head_fdbd": (head_fdbd, "unit"),
    "head_nci": (head_nci, "unit"),
    "head_sum": (head_sum, "unit"),
}
"""Section 4 of the protocol, and the rows that each formula is about."""


@pytest.fixture(scope="module", params=["float32", "float64"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Three classes, width 4: no collapsed feature, so that every formula is well-conditioned."""
    config = ModelConfig(backbone="resnet18_32x32", width=4)
    return build_encoder(config, channels=3, seed=3, classes=3).to(getattr(torch, request.param))


@pytest.fixture(scope="module")
def embedded(
    encoder: Encoder, shapes_config: BenchmarkConfig, shapes: Path
) -> tuple[dict[str, Rows], np.ndarray, np.ndarray]:
    """`unit` and `raw` rows of every set in float64; labels of ID train and test."""
    rows: dict[str, Rows] = {"unit": {}, "raw": {}}
    labels = {}
    for key, ref in references(shapes_config):
        opened = open_set(ref, shapes_config, shapes)
        found = embed(encoder, opened, shapes_config, CPU, raw=True)
        assert found.raw_ND is not None
        name = key.replace(".", "/").removeprefix("id/")
        rows["raw"][name] = found.raw_ND.double().numpy()
        rows["unit"][name] = found.unit_ND.double().numpy()
        labels[key] = opened.labels_N
        np.testing.assert_allclose(rows["unit"][name], unit(rows["raw"][name]), atol=1e-6)
    return rows, labels["id.train"], labels["id.test"]


@pytest.fixture(scope="module")
def outcomes(
    encoder: Encoder, shapes_config: BenchmarkConfig, shapes: Path
) -> dict[str, BenchmarkOutcome]:
    """A benchmark of each scorer alone; the network looks at every image once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "features", _remembered(encoder.features))
        return {
            name: run_benchmark(
                encoder, shapes_config, [load_scorer({"name": name, "k": K})],
                data_root=shapes, device=CPU, fsood=True,
            )
            for name in FORMULAS
        }  # fmt: skip


def _remembered(features: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    known: dict[bytes, torch.Tensor] = {}

    def remembered(images_BCSS: torch.Tensor) -> torch.Tensor:
        key = images_BCSS.contiguous().numpy().tobytes()
        if key not in known:
            known[key] = features(images_BCSS)
        return known[key]

    return remembered


def test_every_scorer_has_its_formula() -> None:
    assert FORMULAS.keys() == set(get_args(ScorerName))


@pytest.mark.parametrize("name", FORMULAS)
def test_scores_are_the_formulas(
    name: ScorerName, encoder: Encoder, embedded: tuple[dict[str, Rows], np.ndarray, np.ndarray],
    outcomes: dict[str, BenchmarkOutcome],
) -> None:  # fmt: skip
    rows, labels_N, _ = embedded
    formula, kind = FORMULAS[name]
    seen = rows[kind]
    assert encoder.classifier is not None
    layer = (x.double().numpy() for x in encoder.classifier)
    known = Known(seen["train"], labels_N, *layer, seen["val"])
    exact = next(encoder.parameters()).dtype == torch.float64
    compared = 0
    for part, scores in outcomes[name].scores.items():
        expected = formula(known, seen[part.removeprefix("id/")])
        # Two scores are differences of larger numbers: 1 - cosine, and RMDS of two distances.
        greatest = float(np.abs(expected).max())
        larger = {"cosine": 1.0, "rmds": greatest, "rmds_unit": greatest}.get(name, 0.0)
        rtol, rounding = (1e-9, 1e-12) if exact else (1e-6, 3e-7)
        if name.startswith("head_"):  # two ways to the minimum of one convex function
            rtol, rounding, larger = 1e-4, 1e-4, greatest
        np.testing.assert_allclose(scores, expected, rtol=rtol, atol=rounding * larger)
        compared += 1
    assert compared == 6, "test, val, one near, two far, one shifted"


def test_all_scorers_share_one_pass(
    encoder: Encoder, shapes_config: BenchmarkConfig, shapes: Path,
    outcomes: dict[str, BenchmarkOutcome], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    passes, features = [], Encoder.features

    def counted(self: Encoder, images: torch.Tensor) -> torch.Tensor:
        passes.append(len(images))
        return features(self, images)

    monkeypatch.setattr(Encoder, "features", counted)
    configs = [load_scorer({"name": name, "k": K}) for name in FORMULAS]
    together = run_benchmark(encoder, shapes_config, configs, data_root=shapes, device=CPU)
    assert sum(passes) == 180 + 45 + 36 + 25 + 20 + 30, "train, test, val, near and far, once"
    for name in FORMULAS:
        assert together.tables[f"ood/{name}"] == outcomes[name].tables[f"ood/{name}"]


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("protocol", ["ood", "fsood"])
def test_metrics_are_sklearns_on_these_scores(
    name: str, protocol: str, outcomes: dict[str, BenchmarkOutcome]
) -> None:
    found = outcomes[name]
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


def test_the_linear_probe_is_least_squares_on_one_hot_classes() -> None:
    rng = np.random.default_rng(2)
    labels_N = torch.from_numpy(rng.integers(0, 4, 90))
    train_ND = torch.from_numpy(rng.standard_normal((90, 5))).float() + labels_N[:, None] / 2
    test_QD, labels_Q = train_ND[:40], labels_N[:40]
    found = accuracy.linear_probe_accuracy(train_ND, labels_N, test_QD, labels_Q, 4)
    x = np.hstack([train_ND.double().numpy(), np.ones((90, 1))])
    weights = np.linalg.lstsq(x, np.eye(4)[labels_N.numpy()], None)[0]
    guess = (x[:40] @ weights).argmax(1)
    assert found == pytest.approx(100 * np.mean(guess == labels_Q.numpy()))


def test_accuracies_of_the_embedding(
    encoder: Encoder, embedded: tuple[dict[str, Rows], np.ndarray, np.ndarray],
    outcomes: dict[str, BenchmarkOutcome],
) -> None:  # fmt: skip
    rows, labels_N, labels_Q = embedded
    found = outcomes["mahalanobis"].id_metrics
    assert encoder.classifier is not None
    weight, bias = (x.double().numpy() for x in encoder.classifier)
    right = (rows["raw"]["test"] @ weight.T + bias).argmax(1) == labels_Q
    assert found["classifier"] == pytest.approx(100 * np.mean(right))
    train, test = rows["unit"]["train"], rows["unit"]["test"]
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
