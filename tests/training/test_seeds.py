"""A trial of several seeds is its runs, side by side."""

import json
import statistics
from pathlib import Path

import pytest
import torch
from torch import nn

from rwood.config.benchmark import DerivedSet, ImageSetRef
from rwood.config.search import apply
from rwood.paths import RunPaths
from rwood.results import EpochReport
from rwood.training.seeds import merged, train_seeds
from rwood.training.train import train
from rwood.training.worker import LocalWorker
from tests.tiny import tiny

CPU = torch.device("cpu")
SEEDS = (3, 5)


class Killed(Exception):
    pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(RunPaths(folder).encoder, weights_only=True)
    return found


class Dropping(nn.Sequential):
    """A backbone that draws random numbers in each step."""

    dim = 64

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Dropout())


@pytest.mark.parametrize("backbone", ["small_cnn", "tests.training.test_seeds:Dropping"])
def test_each_seed_is_the_run_that_it_would_be_alone(tmp_path: Path, backbone: str) -> None:
    study = tiny(tmp_path, run__epochs=3, run__model__backbone=backbone)
    reports: list[EpochReport] = []
    worker = LocalWorker(tmp_path / "both", CPU, reports.append)
    train_seeds(study.run, SEEDS, study.benchmark, worker, data_root=tmp_path)
    alone: dict[int, list[EpochReport]] = {}
    for seed in SEEDS:
        alone[seed] = []
        one = LocalWorker(tmp_path / f"alone{seed}", CPU, alone[seed].append)
        train(apply(study.run, {"seed": seed}), study.benchmark, one, data_root=tmp_path)
        mine, theirs = weights(RunPaths(tmp_path / "both").seed(seed).folder), weights(one.folder)
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert [r.epoch for r in reports] == [1, 2, 3]
    for report, *each in zip(reports, *alone.values(), strict=True):
        values = [r.metrics["val/auroc"] for r in each]
        assert report.metrics["val/auroc"] == statistics.fmean(values)
        assert report.metrics["val/auroc/std"] == statistics.pstdev(values)
        assert report.metrics["train/loss"] == statistics.fmean(
            r.metrics["train/loss"] for r in each
        )
        assert "train/loss/std" not in report.metrics


def test_killed_between_two_seeds_nothing_is_lost(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__epochs=3)
    whole: list[EpochReport] = []
    worker = LocalWorker(tmp_path / "whole", CPU, whole.append)
    train_seeds(study.run, SEEDS, study.benchmark, worker, data_root=tmp_path)

    def die(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_seeds(
            study.run, SEEDS, study.benchmark, LocalWorker(tmp_path / "cut", CPU, die),
            data_root=tmp_path,
        )  # fmt: skip
    # As if the process had died after the first seed's second epoch: the second seed is behind.
    (RunPaths(tmp_path / "cut").seed(SEEDS[1]).folder / "epoch-0002.pt").unlink()
    again: list[EpochReport] = []
    worker = LocalWorker(tmp_path / "cut", CPU, again.append)
    train_seeds(study.run, SEEDS, study.benchmark, worker, data_root=tmp_path)

    def measured(reports: list[EpochReport]) -> str:
        return json.dumps(
            [{k: v for k, v in r.metrics.items() if not k.startswith("sys/")} for r in reports]
        )

    assert measured(again) == measured(whole)
    for seed in SEEDS:
        mine = weights(RunPaths(tmp_path / "cut").seed(seed).folder)
        theirs = weights(RunPaths(tmp_path / "whole").seed(seed).folder)
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_seconds_add_up_and_what_one_seed_lacks_is_left_out() -> None:
    reports = [
        EpochReport(epoch=1, time=5.0, metrics={"sys/train_seconds": 2.0, "sys/images_per_s": 10}),
        EpochReport(
            epoch=1, time=9.0,
            metrics={"sys/train_seconds": 3.0, "sys/images_per_s": 20, "id/mes_radius": 1.0},
        ),
    ]  # fmt: skip
    report = merged(reports)
    assert report.time == 9.0
    assert report.metrics == {"sys/train_seconds": 5.0, "sys/images_per_s": 15.0}


def test_a_trial_that_chooses_its_scorers_setting_opens_no_test_set(
    tmp_path: Path, opened: list[ImageSetRef]
) -> None:
    study = tiny(tmp_path, run__epochs=1, run__scorer={"name": "knn", "k": [1, 20]})
    derived = {"mixed": DerivedSet(derived="mixed"), "digit7": "digits/7"}
    benchmark = study.benchmark.model_copy(update={"validation": derived})
    reports: list[EpochReport] = []
    worker = LocalWorker(tmp_path / "run", CPU, reports.append)
    train_seeds(study.run, SEEDS, benchmark, worker, data_root=tmp_path)
    named = {ref for ref in opened if isinstance(ref, str)}
    assert named == {"digits/train", "digits/val", "digits/7"}
    assert 1 <= reports[-1].metrics["scorer/k"] <= 20
