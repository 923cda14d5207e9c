"""A scorer's setting is chosen on the validation sets, and on nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn import metrics as sk

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig, ImageSetRef
from rwood.config.load import load_benchmark
from rwood.config.scorers import ScorerConfig, load_scorer
from rwood.evaluation import validation
from rwood.evaluation.benchmark import run_benchmark
from rwood.evaluation.embed import Embedded, embed
from rwood.evaluation.scorer_selection import EmbeddedSets, choose
from rwood.evaluation.validation import open_validation, settle, validate
from rwood.model.encoder import Encoder, build_encoder
from tests.conftest import STUDIES

CPU = torch.device("cpu")
KNN = ScorerConfig(name="knn", k=(1, 5, 60))


@pytest.fixture(scope="module")
def digits() -> BenchmarkConfig:
    return load_benchmark(STUDIES / "benchmarks" / "digits.yaml")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_encoder(ModelConfig(backbone="small_cnn", width=8), channels=1, seed=1)


def clusters(seed: int = 0) -> EmbeddedSets:
    """Two classes with outliers of their own: at neighbour 1 OOD hides, farther it shows."""
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % 2
    train = np.stack([3.0 * labels, np.zeros(200)], 1) + 0.3 * rng.standard_normal((200, 2))
    ood = np.array([1.5, 0.0]) + 0.2 * rng.standard_normal((50, 2))
    train[:6] = ood[:6]  # mislabelled images among the train set, where OOD lies
    val = np.stack([3.0 * labels[:80], np.zeros(80)], 1) + 0.3 * rng.standard_normal((80, 2))
    rows = [torch.from_numpy(x) for x in (train, val, ood)]
    known, valued, one = (Embedded(x) for x in rows)
    two = Embedded(rows[2] / 2)
    return EmbeddedSets(known, torch.from_numpy(labels), 2, None, valued, {"a": one, "b": two})


def slow_knn(embedded: EmbeddedSets, k: int, name: str) -> float:
    """AUROC of the distance to the k-th neighbour, by sorting and scikit-learn."""

    def scores(queries: Embedded) -> np.ndarray:
        rows = queries.unit_ND
        gaps = ((rows[:, None] - embedded.train.unit_ND[None]) ** 2).sum(-1).sqrt()
        return np.sort(gaps.numpy(), axis=1)[:, k - 1]

    id_scores, ood_scores = scores(embedded.val), scores(embedded.ood[name])
    truth = np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))]
    return 100 * float(sk.roc_auc_score(truth, np.r_[id_scores, ood_scores]))


def test_the_best_mean_over_validation_sets_is_chosen() -> None:
    embedded = clusters()
    means = {k: (slow_knn(embedded, k, "a") + slow_knn(embedded, k, "b")) / 2 for k in (1, 5, 60)}
    best = max(means, key=lambda k: means[k])
    assert best != 1
    fitted = choose(KNN, embedded)
    assert fitted.scorer == KNN.model_copy(update={"k": best})
    assert torch.equal(
        fitted.score(embedded.val), choose(fitted.scorer, embedded).score(embedded.val)
    )
    upside_down = KNN.model_copy(update={"select_by": "fpr95"})
    assert choose(upside_down, embedded).scorer.k != 1  # FPR@95 is minimised
    same = ScorerConfig(name="knn", k=(7, 7))
    assert choose(same, embedded).scorer.k == 7


def test_only_the_scorers_own_setting_is_tried() -> None:
    config = ScorerConfig(name="mahalanobis", k=(1, 2, 3), shrinkage=(0.0, 0.1))
    assert [(c.k, c.shrinkage) for c in config.candidates()] == [(1, 0.0), (1, 0.1)]
    assert len(config.model_copy(update={"name": "knn"}).candidates()) == 3
    assert len(config.model_copy(update={"name": "cosine"}).candidates()) == 1
    both = load_scorer({"name": "head_sum", "weight": [0.5, 2], "shrinkage": [0, 0.1], "k": [1, 2]})
    assert [(c.weight, c.shrinkage, c.k) for c in both.candidates()] == [
        (0.5, 0.0, 1), (0.5, 0.1, 1), (2.0, 0.0, 1), (2.0, 0.1, 1)
    ]  # fmt: skip
    assert both.candidates()[2].chosen == {"weight": 2.0, "shrinkage": 0.0}
    gen = load_scorer({"name": "head_gen", "gamma": [0.1, 0.5]})
    assert [c.gamma for c in gen.candidates()] == [0.1, 0.5]
    assert gen.named("knn").candidates() == [ScorerConfig(name="knn")]
    with pytest.raises(ValidationError, match="at least 1 item"):
        ScorerConfig(name="knn", k=())
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        ScorerConfig(shrinkage=1.5)


def test_each_set_is_embedded_once_for_all_settings(
    digits: BenchmarkConfig, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[str] = []

    def counted(encoder: Encoder, image_set: Any, *args: Any, **how: Any) -> Embedded:
        passes.append(image_set.name)
        return embed(encoder, image_set, *args, **how)

    monkeypatch.setattr(validation, "embed", counted)
    sets = open_validation(digits, tmp_path)
    found = validate(encoder, sets, digits, KNN, CPU)
    assert sorted(passes) == sorted(["digits/train", "digits/val", "digits/7", "digits/flower"])
    each = {
        k: validate(encoder, sets, digits, KNN.model_copy(update={"k": k}), CPU) for k in (1, 5, 60)
    }
    best = max(each, key=lambda k: each[k]["val/auroc"])
    assert found == each[best] | {"scorer/k": float(best)}
    assert "scorer/k" not in each[best]  # nothing was chosen


def test_settling_opens_no_test_set(
    digits: BenchmarkConfig, encoder: Encoder, tmp_path: Path, opened: list[ImageSetRef]
) -> None:
    several = [KNN, ScorerConfig(shrinkage=(0.0, 0.5)), ScorerConfig(name="cosine")]
    settled = settle(encoder, digits, several, data_root=tmp_path, device=CPU)
    assert set(opened) == {"digits/train", "digits/val", "digits/7", "digits/flower"}
    assert [s.name for s in settled] == ["knn", "mahalanobis", "cosine"]
    assert all(len(s.candidates()) == 1 for s in settled)
    opened.clear()
    assert settle(encoder, digits, settled, data_root=tmp_path, device=CPU) == settled
    assert opened == []  # nothing left to choose
    with pytest.raises(ValueError, match="choose one on validation sets"):
        run_benchmark(encoder, digits, [KNN], data_root=tmp_path, device=CPU)
