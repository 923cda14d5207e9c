"""A training leaves its seed's fold of classes out, whatever its loss; a rerun leaves out none."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rwood.config.benchmark import ClassesSet, ImageSetRef
from rwood.config.held_out import fold_of
from rwood.config.load import load_benchmark
from rwood.config.study import StudyConfig, run_digest
from rwood.errors import StudyError
from rwood.evaluation.validation import open_validation, validate
from rwood.paths import RunPaths
from rwood.ray_backend.job import Job, work
from rwood.results import EpochReport
from rwood.study.rerun import finished, plan
from rwood.study.train_alone import train_alone
from rwood.training import checkpoint
from rwood.training.train import train
from rwood.training.worker import LocalWorker
from tests.conftest import STUDIES
from tests.tiny import tiny

CPU = torch.device("cpu")


def study(folder: Path, sets: dict[str, Any] | None = None, **changes: Any) -> StudyConfig:
    benchmark = load_benchmark(STUDIES / "benchmarks" / "digits.yaml").model_dump(mode="json")
    benchmark["validation"] = sets or {"unseen": {"held_out": 0.2}}
    return tiny(folder, benchmark=benchmark, run__epochs=2, **changes)


@pytest.mark.parametrize("loss", ["reweightood", "cider", "palm", "cross_entropy"])
def test_a_fold_is_trained_and_measured(
    tmp_path: Path, loss: str, opened: list[ImageSetRef]
) -> None:
    sets = {"unseen": {"held_out": 0.2}, "mixed": {"derived": "mixed"}}
    config = study(tmp_path, sets, run__loss={"name": loss}, search=None, run__seed=1)
    reports: list[EpochReport] = []
    worker = LocalWorker(tmp_path / "run", CPU, reports.append)
    encoder = train(config.run, config.benchmark, worker, data_root=tmp_path)
    fold = fold_of(config.benchmark, 1)
    assert fold.classes == 5
    assert set(opened) == {fold.id.train, fold.id.val, *fold.validation.values()}
    assert all(not isinstance(ref, str) for ref in opened), "no whole set, no test set"
    saved = checkpoint.load_latest(worker.folder, run_digest(config.run, fold), print)
    assert saved is not None
    if loss == "cider":
        assert len(saved["loss"]["prototypes_CD"]) == 5
    if loss == "palm":
        assert saved["loss"]["prototypes_KCD"].shape[1] == 5
    if loss == "cross_entropy":
        assert encoder.classifier is not None
        assert len(encoder.classifier[1]) == 5
    measured = validate(encoder, open_validation(fold, tmp_path), fold, config.run.scorer, CPU)
    assert measured.items() <= reports[-1].metrics.items()
    assert 0 <= measured["val/unseen/auroc"] <= 100
    assert measured["val/auroc"] == (measured["val/unseen/auroc"] + measured["val/mixed/auroc"]) / 2


def test_each_seed_of_a_trial_leaves_out_its_own_fold(
    tmp_path: Path, opened: list[ImageSetRef]
) -> None:
    config = study(tmp_path, search__objective="val/unseen/auroc")
    assert config.search is not None
    assert config.search.objectives == ("val/unseen/auroc",)
    reports: list[EpochReport] = []
    folder = tmp_path / "trial"
    job = Job(config.run, config.benchmark, tmp_path, folder, threads=1, seeds=(0, 3))
    threads = torch.get_num_threads()
    try:
        work(job, LocalWorker(folder, CPU, reports.append))
    finally:
        torch.set_num_threads(threads)
    folds = [fold_of(config.benchmark, seed) for seed in (0, 3)]
    trained = {ref for ref in opened if isinstance(ref, ClassesSet) and ref.of == "digits/train"}
    assert trained == {fold.id.train for fold in folds}
    for seed, fold in zip((0, 3), folds, strict=True):
        run = config.run.model_copy(update={"seed": seed})
        path = RunPaths(folder).seed(seed).folder
        assert checkpoint.load_latest(path, run_digest(run, fold), print) is not None
    assert {"val/unseen/auroc", "val/unseen/auroc/std", "val/auroc"} <= reports[-1].metrics.keys()


def test_reruns_see_all_classes_and_no_held_out_set(tmp_path: Path) -> None:
    config = study(tmp_path, rerun={"seeds": [1], "base": False, "scorers": ["knn"]})
    (job,) = plan(
        config, {"loss.temperature": 0.2}, (), folder=tmp_path / "tiny", data_root=tmp_path
    )
    threads = torch.get_num_threads()
    try:
        work(job, LocalWorker(job.folder, CPU))
    finally:
        torch.set_num_threads(threads)
    result = finished(job, config)
    assert result is not None
    assert set(result.tables) == {"ood/mahalanobis", "ood/knn"}
    metrics = result.history[-1].metrics
    assert "val/nearest_mean" in metrics
    assert not [name for name in metrics if name.endswith("auroc")]
    assert (job.folder / "detector").exists()


def test_training_alone_sees_all_classes(tmp_path: Path, opened: list[ImageSetRef]) -> None:
    config = study(tmp_path, search=None)
    report, _ = train_alone(
        config,
        results=tmp_path / "results",
        data_root=tmp_path,
        address=None,
        on_report=lambda report: None,
        on_note=lambda text: None,
    )
    assert set(opened) == {"digits/train", "digits/val"}
    assert "val/nearest_mean" in report.metrics


def test_training_alone_on_a_gpu_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = study(tmp_path, search=None, cluster__gpus_per_worker=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = "cluster.gpus_per_worker is 1, and torch finds no GPU here"
    with pytest.raises(StudyError, match=said):
        train_alone(config, results=tmp_path, data_root=tmp_path, address=None,
                    on_report=lambda report: None, on_note=lambda text: None)  # fmt: skip


def test_a_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    config = study(tmp_path, search=None)
    whole: list[EpochReport] = []
    again: list[EpochReport] = []

    class Stop(Exception):
        pass

    def stop(report: EpochReport) -> None:
        raise Stop

    def run(folder: str, on_report: Any) -> None:
        worker = LocalWorker(tmp_path / folder, CPU, on_report)
        train(config.run, config.benchmark, worker, data_root=tmp_path)

    run("whole", whole.append)
    with pytest.raises(Stop):
        run("cut", stop)
    run("cut", again.append)

    def measured(reports: list[EpochReport]) -> list[dict[str, float]]:
        return [{k: v for k, v in r.metrics.items() if k[:4] != "sys/"} for r in reports]

    assert measured(whole) == measured(again)
