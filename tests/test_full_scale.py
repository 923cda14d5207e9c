"""The shipped ImageNet-1k study end to end, on a few hundred generated JPEGs of many sizes.

Lists and folders are OpenOOD's, the train set is streamed as the real one is, ResNet-50 is narrow
and starts from a classifier's weights with all but its last stage frozen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics
from torch import Tensor

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_study, set_values
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.data import image_sets, openood
from rwood.data.decode import FileImages
from rwood.data.verify import verify
from rwood.evaluation.benchmark import BenchmarkOutcome, run_benchmark
from rwood.model.encoder import Encoder, build_encoder
from rwood.paths import RunPaths
from rwood.results import EpochReport
from rwood.training.train import train
from rwood.training.worker import LocalWorker
from tests.conftest import STUDIES

CPU = torch.device("cpu")
CLASSES = 6
ID_IMAGES = {"train_imagenet": 20, "val_imagenet": 3, "test_imagenet": 5, "test_imagenet_v2": 2,
             "test_imagenet_c": 3, "test_imagenet_r": 4}  # fmt: skip
"""Images a class."""
OOD_IMAGES = 24
PACK_LIMIT = 15_000_000
"""Between the size of the train set and of the others, as the real limit is."""


@dataclass(frozen=True)
class Trained:
    """What the study's base run left."""

    root: Path
    run: RunConfig
    benchmark: BenchmarkConfig
    start: dict[str, Tensor]
    """Classifier weights it started from."""
    encoder: Encoder
    reports: list[EpochReport]
    folder: Path


def write_set(row: openood.OpenOODList, root: Path, rng: np.random.Generator) -> None:
    """A list, with CRLF ends and trailing blanks as some copies have, and its images."""
    short = row.name.split("/")[1]
    lines = []
    for i in range(ID_IMAGES[short] * CLASSES if short in ID_IMAGES else OOD_IMAGES):
        label = i % CLASSES if short in ID_IMAGES else -1
        relative = f"{row.tree}/n{max(label, 0):04d}/{short}_{i:04d}.JPEG"
        path = row.images(root) / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (224, 224) if row.tree == "imagenet_c" else rng.integers(120, 400, 2)
        coarse = rng.integers(0, 120, (6, 6, 3))
        coarse[..., label % 3] += 40 * (1 + label // 3) if label >= 0 else 0
        image = Image.fromarray(coarse.astype(np.uint8)).resize(tuple(map(int, size)))
        image.convert("L" if i == 1 else "RGB").save(path, quality=80)
        lines.append(f"{relative} {label} \r\n")
    path = row.list_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(lines).encode())


def write_classifier(run: RunConfig, path: Path) -> dict[str, Tensor]:
    """Weights under torchvision's names, last layer included."""
    state = dict(build_encoder(run.model, channels=3, seed=99).backbone.state_dict())
    state |= {"fc.weight": torch.zeros(1000, 32 * run.model.width), "fc.bias": torch.zeros(1000)}
    path.parent.mkdir()
    torch.save(state, path)
    return state


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    root, rng = tmp_path_factory.mktemp("openood"), np.random.default_rng(6)
    study = load_study(STUDIES / "imagenet1k.yaml")
    changes = ["epochs=1", "batch_size=40", "model.width=8", "precision=float32"]
    study = set_values(study, [*changes, "optimizer.lr=0.01"])
    benchmark = BenchmarkConfig(**(study.benchmark.model_dump() | {"classes": CLASSES}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_sets, "PACK_LIMIT", PACK_LIMIT)
        for _, name in image_sets.references(benchmark):
            assert isinstance(name, str)
            row = openood.table()[name]
            row = replace(row, count=None, md5=None, classes=CLASSES if row.classes else 0)
            patch.setitem(openood.table(), name, row)
            write_set(row, root, rng)
        assert study.run.model.weights is not None
        start = write_classifier(study.run, root / study.run.model.weights)
        reports: list[EpochReport] = []
        worker = LocalWorker(root / "run", CPU, reports.append)
        encoder = train(study.run, benchmark, worker, data_root=root)
        yield Trained(root, study.run, benchmark, start, encoder, reports, worker.folder)
    image_sets._files.cache_clear()
    image_sets._from_files.cache_clear()


@pytest.fixture(scope="module")
def outcome(trained: Trained) -> BenchmarkOutcome:
    scorers = (ScorerConfig(), ScorerConfig(name="knn", k=5))
    return run_benchmark(
        trained.encoder, trained.benchmark, scorers, data_root=trained.root, device=CPU, fsood=True
    )


def test_the_train_set_is_streamed_and_the_others_are_packed(trained: Trained) -> None:
    opened = image_sets.open_set(trained.benchmark.id.train, trained.benchmark, trained.root)
    assert isinstance(opened.images_NHWC, FileImages)
    assert opened.images_NHWC.shape == (120, 224, 224, 3)
    assert opened.files is not None
    packs = [path.name for path in (trained.root / "packs").glob("*.pack")]
    assert packs
    assert not [name for name in packs if "train" in name]
    report = trained.reports[-1].metrics
    assert np.isfinite(report["train/loss"])
    assert report["sys/images_per_s"] > 0
    assert 0 <= report["val/openimage_o/auroc"] <= 100


def test_all_but_the_last_stage_is_frozen_but_for_batch_statistics(trained: Trained) -> None:
    weights = torch.load(RunPaths(trained.folder).encoder, weights_only=True)
    moved = {
        key.removeprefix("backbone."): not torch.equal(value, trained.start[key[9:]])
        for key, value in weights.items()
        if key.startswith("backbone.")
    }
    assert len(moved) == 322 - 4
    for key, changed in moved.items():
        statistic = "running_" in key or "num_batches" in key
        assert changed == (statistic or key.startswith("layer4")), key
    fresh = build_encoder(trained.run.model, channels=3, seed=trained.run.seed).head.state_dict()
    assert not torch.equal(weights["head.0.weight"], fresh["0.weight"])


def test_full_spectrum_pools_test_and_shifted_sets(outcome: BenchmarkOutcome) -> None:
    scores = outcome.scores
    shifted = [scores[f"shifted/imagenet_{name}"] for name in ("v2", "c", "r")]
    assert [len(s) for s in shifted] == [2 * CLASSES, 3 * CLASSES, 4 * CLASSES]
    pooled = np.concatenate([scores["id/test"], *shifted])
    assert len(pooled) == (5 + 2 + 3 + 4) * CLASSES
    for protocol, id_scores in (("ood", scores["id/test"]), ("fsood", pooled)):
        table = outcome.tables[f"{protocol}/mahalanobis"]
        assert list(table.near) == ["ssb_hard", "ninco"]
        assert list(table.far) == ["inaturalist", "textures", "openimage_o"]
        for part, rows in (("near", table.near), ("far", table.far)):
            for name, found in rows.items():
                ood_scores = scores[f"{part}/{name}"]
                assert len(ood_scores) == OOD_IMAGES
                truth = np.repeat([0, 1], [len(id_scores), OOD_IMAGES])
                every = np.concatenate([id_scores, ood_scores])
                expected = 100 * metrics.roc_auc_score(truth, every)
                assert found.auroc == pytest.approx(expected, rel=1e-9)
    assert outcome.tables["ood/knn"] != outcome.tables["fsood/knn"]


def test_corrupted_images_are_scored_as_they_are(trained: Trained) -> None:
    ref = trained.benchmark.shifted["imagenet_c"]
    opened = image_sets.open_set(ref, trained.benchmark, trained.root)
    assert opened.files is None, "224 px files hold every pixel that is scored"
    files = image_sets.files_of(ref, trained.benchmark, trained.root)
    assert np.array_equal(opened.images_NHWC[0], np.asarray(Image.open(files.path(0))))
    assert sorted(set(opened.labels_N.tolist())) == list(range(CLASSES))


def test_the_folder_verifies(trained: Trained) -> None:
    found = verify(trained.benchmark, trained.root)
    assert found.sound, [s.problems for s in found.sets if s.problems]
    assert sum(s.images for s in found.sets) == 37 * CLASSES + 6 * OOD_IMAGES
    assert not found.duplicates
