"""One tiny digits run, trained once, and the detector made of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.config.search import apply
from rwood.data import digits
from rwood.detector.build import build_detector
from rwood.detector.model import Detector
from rwood.evaluation.benchmark import run_benchmark
from rwood.model.encoder import Encoder
from rwood.paths import RunPaths
from rwood.training.train import train
from rwood.training.worker import LocalWorker
from tests.tiny import tiny

CPU = torch.device("cpu")
PARTS = {
    "id/test": "test",
    "id/val": "val",
    "near/digit8": "8",
    "near/digit9": "9",
    "far/china": "china",
    "far/permuted": "permuted",
}


@dataclass(frozen=True)
class Trained:
    run: RunConfig
    benchmark: BenchmarkConfig
    encoder: Encoder
    weights: Path
    root: Path

    def build(self, folder: Path, **settings: object) -> Detector:
        run = apply(self.run, settings)  # type: ignore[arg-type]
        return build_detector(
            run, self.benchmark, self.weights, folder, data_root=self.root, device=CPU
        )

    def benchmark_scores(self, **settings: object) -> dict[str, np.ndarray]:
        scorer = apply(self.run, settings).scorer  # type: ignore[arg-type]
        return run_benchmark(
            self.encoder, self.benchmark, [scorer], data_root=self.root, device=CPU
        ).scores


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return _train(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same by cross-entropy, so that there are logits to score."""
    folder = tmp_path_factory.mktemp("classifier")
    return _train(folder, run__loss={"name": "cross_entropy"}, search=None)


def _train(root: Path, **changes: object) -> Trained:
    study = tiny(root, **changes)
    encoder = train(study.run, study.benchmark, LocalWorker(root / "run", CPU), data_root=root)
    return Trained(study.run, study.benchmark, encoder, RunPaths(root / "run").encoder, root)


@pytest.fixture(scope="session")
def folder(trained: Trained) -> Path:
    """Of the detector with the run's own scorer; not to be changed."""
    trained.build(trained.root / "detector")
    return trained.root / "detector"


@pytest.fixture(scope="session")
def reference(trained: Trained) -> dict[str, np.ndarray]:
    return trained.benchmark_scores()


@pytest.fixture(scope="session")
def raw_images() -> Callable[[str], np.ndarray]:
    """(N, 8, 8) uint8 images of a benchmark's part, as they are before any transform."""
    return lambda name: digits.read(PARTS[name])[0]
