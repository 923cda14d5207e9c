"""The loop: resumes to the bit, stops at a non-finite loss, sees no test set."""

import errno
import json
import math
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from rwood.config.benchmark import ImageSetRef
from rwood.config.search import apply
from rwood.config.study import StudyConfig, run_digest
from rwood.errors import NonFiniteLossError, StorageError, StudyError
from rwood.evaluation.validation import open_validation, validate
from rwood.model.encoder import Encoder
from rwood.paths import RunPaths
from rwood.results import EpochReport
from rwood.training import begin, checkpoint
from rwood.training import train as loop
from rwood.training.train import PREEMPTION_STEPS, train
from rwood.training.worker import LocalWorker
from tests.ranks import join, start_ranks
from tests.tiny import tiny

CPU = torch.device("cpu")


class Stop(Exception):
    """Stands for whatever ends a run in the middle."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(RunPaths(folder).encoder, weights_only=True)
    return state


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("loss", "stop_at"),
    [("reweightood", 1), ("reweightood", 3), ("cider", 2), ("palm", 2), ("cross_entropy", 2)],
)
def test_resuming_gives_the_same_bits_and_the_same_reports(
    tmp_path: Path, loss: str, stop_at: int
) -> None:
    study = tiny(tmp_path, run__loss={"name": loss}, search=None)
    whole: list[EpochReport] = []
    straight = LocalWorker(tmp_path / "whole", CPU, whole.append)
    train(study.run, study.benchmark, straight, data_root=tmp_path)

    def stop(report: EpochReport) -> None:
        if report.epoch == stop_at:
            raise Stop

    folder = tmp_path / "broken"
    with pytest.raises(Stop):
        train(study.run, study.benchmark, LocalWorker(folder, CPU, stop), data_root=tmp_path)
    torch.manual_seed(99)  # a new process has another global state
    again: list[EpochReport] = []
    train(study.run, study.benchmark, LocalWorker(folder, CPU, again.append), data_root=tmp_path)
    assert equal(weights(tmp_path / "whole"), weights(folder))
    assert [r.epoch for r in again] == [1, 2, 3, 4]
    assert [learned(report) for report in whole] == [learned(report) for report in again]


def learned(report: EpochReport) -> dict[str, float]:
    """What a report says, but for speed."""
    return {k: v for k, v in report.metrics.items() if not k.startswith("sys/")}


def test_a_finished_run_reports_its_past_and_trains_nothing(tmp_path: Path) -> None:
    study = tiny(tmp_path)
    worker = LocalWorker(tmp_path / "run", CPU)
    train(study.run, study.benchmark, worker, data_root=tmp_path)
    before = weights(tmp_path / "run")
    reports: list[EpochReport] = []
    train(
        study.run,
        study.benchmark,
        LocalWorker(tmp_path / "run", CPU, reports.append),
        data_root=tmp_path,
    )
    assert len(reports) == study.run.epochs
    assert equal(before, weights(tmp_path / "run"))


def test_the_weights_are_there_before_the_last_report(tmp_path: Path) -> None:
    study = tiny(tmp_path)
    there = []

    def look(report: EpochReport) -> None:
        there.append(RunPaths(tmp_path / "run").encoder.exists())

    train(study.run, study.benchmark, LocalWorker(tmp_path / "run", CPU, look), data_root=tmp_path)
    assert there == [False, False, False, True]


def test_seeds_matter_and_nothing_else_does(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__epochs=1)
    for name, seed, disturb in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        torch.manual_seed(disturb)
        run = apply(study.run, {"seed": seed})
        train(run, study.benchmark, LocalWorker(tmp_path / name, CPU), data_root=tmp_path)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_a_non_finite_loss_stops_before_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny(tmp_path)
    real, calls, seen = loop.loss_of, [0], []

    def poisoned(*args: Any) -> torch.Tensor:
        calls[0] += 1
        loss = real(*args)
        return loss * math.nan if calls[0] == 6 else loss

    stepped = begin._SGD.step

    def counted(self: begin._SGD, *args: Any, **kwargs: Any) -> Any:
        seen.append(calls[0])
        return stepped(self, *args, **kwargs)

    monkeypatch.setattr(loop, "loss_of", poisoned)
    monkeypatch.setattr(begin._SGD, "step", counted)
    worker = LocalWorker(tmp_path / "run", CPU)
    with pytest.raises(NonFiniteLossError, match=r"nan in epoch 2, step 3, at learning rate"):
        train(study.run, study.benchmark, worker, data_root=tmp_path)
    assert seen == [1, 2, 3, 4, 5]
    assert checkpoint.load_latest(tmp_path / "run", _digest(study), print)["epoch"] == 1  # type: ignore[index]


def test_training_opens_no_test_set(tmp_path: Path, opened: list[ImageSetRef]) -> None:
    study = tiny(tmp_path, run__epochs=1)
    train(study.run, study.benchmark, LocalWorker(tmp_path / "run", CPU), data_root=tmp_path)
    assert set(opened) == {"digits/train", "digits/val", "digits/7", "digits/flower"}


def test_a_run_that_compiles_nothing_does_not_load_the_compiler(tmp_path: Path) -> None:
    """Its import takes longer than this run."""
    code = """
import sys
from pathlib import Path
import torch
from rwood.training.train import train
from rwood.training.worker import LocalWorker
from tests.tiny import tiny
folder = Path(sys.argv[1])
study = tiny(folder, search=None)
train(study.run, study.benchmark, LocalWorker(folder, torch.device("cpu")), data_root=folder)
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


def test_the_checkpoint_of_the_lowest_smoothed_loss(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__checkpoint="lowest_loss", run__optimizer={"lr": 0.5})
    reports: list[EpochReport] = []
    copies: dict[int, dict[str, torch.Tensor]] = {}

    def keep(report: EpochReport) -> None:
        reports.append(report)
        state = checkpoint.load_latest(tmp_path / "run", _digest(study), print)
        assert state is not None
        copies[report.epoch] = state["encoder"]

    train(study.run, study.benchmark, LocalWorker(tmp_path / "run", CPU, keep), data_root=tmp_path)
    smoothed = [r.metrics["train/loss_smoothed"] for r in reports]
    best = max(e for e, v in enumerate(smoothed, 1) if v == min(smoothed))
    assert equal(weights(tmp_path / "run"), copies[best])


LOWEST = {"run__checkpoint": "lowest_loss", "run__optimizer": {"lr": 0.5}}
"""A run whose lowest smoothed loss is not that of its last epoch."""


def validated(study: StudyConfig, encoder: Encoder, folder: Path) -> dict[str, float]:
    """Metrics of the validation sets, measured anew."""
    sets = open_validation(study.benchmark, folder)
    return validate(encoder, sets, study.benchmark, study.run.scorer, CPU)


def test_the_weights_kept_are_the_weights_validated(tmp_path: Path) -> None:
    study = tiny(tmp_path, **LOWEST, search=None)
    last = apply(study.run, {"checkpoint": "last"})
    reports: dict[str, list[EpochReport]] = {"last": [], "lowest_loss": []}
    finals: dict[str, dict[str, torch.Tensor]] = {}
    for run in (last, study.run):
        worker = LocalWorker(tmp_path / run.checkpoint, CPU, reports[run.checkpoint].append)
        encoder = train(run, study.benchmark, worker, data_root=tmp_path)
        measured = validated(study, encoder, tmp_path)
        assert measured.items() <= reports[run.checkpoint][-1].metrics.items()
        state = checkpoint.load_latest(worker.folder, run_digest(run, study.benchmark), print)
        assert state is not None
        finals[run.checkpoint] = state["encoder"]
    assert equal(finals["last"], finals["lowest_loss"]), "validating changes no training"
    assert not equal(weights(tmp_path / "last"), weights(tmp_path / "lowest_loss"))
    smoothed = [report.metrics["train/loss_smoothed"] for report in reports["lowest_loss"]]
    kept = 0
    for epoch, (plain, lowest) in enumerate(zip(*reports.values(), strict=True)):
        kept = epoch if smoothed[epoch] <= smoothed[kept] else kept
        assert lowest.metrics["val/auroc"] == reports["last"][kept].metrics["val/auroc"]
        assert lowest.metrics["train/loss"] == plain.metrics["train/loss"]


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_resumed_the_weights_kept_are_still_validated(tmp_path: Path, stop_at: int) -> None:
    study = tiny(tmp_path, **LOWEST, search=None)
    whole, again = [], []  # type: ignore[var-annotated]
    straight = LocalWorker(tmp_path / "whole", CPU, whole.append)
    train(study.run, study.benchmark, straight, data_root=tmp_path)

    def stop(report: EpochReport) -> None:
        if report.epoch == stop_at:
            raise Stop

    folder = tmp_path / "broken"
    with pytest.raises(Stop):
        train(study.run, study.benchmark, LocalWorker(folder, CPU, stop), data_root=tmp_path)
    worker = LocalWorker(folder, CPU, again.append)
    encoder = train(study.run, study.benchmark, worker, data_root=tmp_path)
    assert [learned(report) for report in whole] == [learned(report) for report in again]
    assert validated(study, encoder, tmp_path).items() <= again[-1].metrics.items()


def _digest(study: Any) -> str:
    return run_digest(study.run, study.benchmark)


LOSSES = {
    "global": {"name": "reweightood"},
    "local": {"name": "reweightood", "scope": "local"},
    "supcon": {"name": "supcon"},
    "cider": {"name": "cider", "momentum": 0.5},
    "palm": {"name": "palm", "momentum": 0.5, "prototypes_per_class": 3, "top_k": 2},
    "cross_entropy": {"name": "cross_entropy", "label_smoothing": 0.1},
}


def _one_run(folder: Path, case: str, rank: int = 0, world: int = 1) -> None:
    config = folder / f"{case}-{world}-{rank}"
    config.mkdir()
    changes = LOWEST if case == "lowest" else {"run__epochs": 2, "run__loss": LOSSES[case]}
    study = tiny(config, **changes, search=None)
    reports: list[EpochReport] = []
    worker = LocalWorker(
        folder / f"{case}-{world}", CPU, reports.append, rank=rank, world_size=world
    )
    embedded: list[int] = []
    features = Encoder.features

    def counted(self: Encoder, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            embedded.append(len(images))
        return features(self, images)

    with patch.object(Encoder, "features", counted):
        encoder = train(study.run, study.benchmark, worker, data_root=folder)
    assert embedded, "every rank embeds a part of the validation sets"
    if rank == 0:
        # Alone, rank 0 measures the same to the bit.
        assert validated(study, encoder, folder).items() <= reports[-1].metrics.items()


def _rank(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    for case in (*LOSSES, "lowest"):
        _one_run(folder, case, rank, world)
    dist.destroy_process_group()


def test_two_workers_train_what_one_trains(tmp_path: Path) -> None:
    ranks = start_ranks(_rank, 2, tmp_path, count=2)
    for case in LOSSES:
        _one_run(tmp_path, case)
    join(ranks)
    for case in LOSSES:
        one, two = (weights(tmp_path / f"{case}-{world}") for world in (1, 2))
        gap = max(float((one[k] - two[k]).abs().max()) for k in one if one[k].is_floating_point())
        if case == "local":
            assert gap > 1e-2  # the authors' per-worker loss is another objective
        else:
            assert gap < 2e-3, case  # float32 sums in another order, over six steps


@dataclass(frozen=True)
class Reclaimed(LocalWorker):
    """A worker that hears at its second question that it must leave, and is gone at its third."""

    asked: list[None] = field(default_factory=list)

    def preemption_requested(self) -> bool:
        """False, True, the end."""
        self.asked.append(None)
        if len(self.asked) == 3:
            raise Stop
        return len(self.asked) == 2


@pytest.mark.parametrize("loss", ["reweightood", "cider", "cross_entropy"])
def test_a_reclaimed_machine_costs_no_epoch(
    tmp_path: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwood.training.train.KEEP_S", 0.0)
    changes = {"run__loss": {"name": loss}, "run__epochs": 2, "run__batch_size": 20, "search": None}
    study = tiny(tmp_path, **changes)
    whole, again = [], []  # type: ignore[var-annotated]
    straight = LocalWorker(tmp_path / "whole", CPU, whole.append)
    train(study.run, study.benchmark, straight, data_root=tmp_path)
    folder = tmp_path / "reclaimed"
    with pytest.raises(Stop):
        train(study.run, study.benchmark, Reclaimed(folder, CPU), data_root=tmp_path)
    assert [path.name for path in folder.iterdir()] == [
        f"epoch-0000-step-{2 * PREEMPTION_STEPS:06d}.pt"
    ]
    torch.manual_seed(99)
    train(study.run, study.benchmark, LocalWorker(folder, CPU, again.append), data_root=tmp_path)
    assert equal(weights(tmp_path / "whole"), weights(folder))
    assert [learned(report) for report in whole] == [learned(report) for report in again]
    assert {path.name for path in folder.glob("epoch-*")} == {"epoch-0001.pt", "epoch-0002.pt"}


@pytest.mark.parametrize("cut", [False, True])
def test_damaged_checkpoints_fall_back_with_a_warning(tmp_path: Path, cut: bool) -> None:
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, epoch, "d", {"x": torch.full((100,), float(epoch))})
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["epoch-0002.pt", "epoch-0003.pt"]
    newest = tmp_path / "epoch-0003.pt"
    whole = newest.read_bytes()
    zeroed = whole.replace(torch.full((10,), 3.0).numpy().tobytes(), bytes(40), 1)
    newest.write_bytes(whole[: len(whole) // 2] if cut else zeroed)
    told: list[str] = []
    state = checkpoint.load_latest(tmp_path, "d", told.append)
    assert len(told) == 1
    assert re.search(r"epoch-0003.pt is damaged .* the one before it", told[0])
    assert state is not None
    assert state["epoch"] == 2
    assert state["x"][0] == 2.0


def test_what_is_written_after_two_damaged_checkpoints_stays(tmp_path: Path) -> None:
    for epoch in (8, 9):
        (tmp_path / f"epoch-{epoch:04d}.pt").write_bytes(b"damaged")
    for epoch in (1, 2):
        checkpoint.save(tmp_path, epoch, "d", {})
        state = checkpoint.load_latest(tmp_path, "d", lambda text: None)
        assert state is not None
        assert state["epoch"] == epoch


class SlowDisk:
    """`checkpoint.save`, which takes until it is allowed to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed, self._save = threading.Event(), checkpoint.save
        monkeypatch.setattr(checkpoint, "save", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        assert self.allowed.wait(60)
        return self._save(*args, **kwargs)


def test_a_checkpoint_written_behind_is_of_the_moment_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    writer = checkpoint.Writer(tmp_path, "d", behind=True)
    state = {"x": torch.zeros(3), "parts": [{"y": torch.zeros(2)}], "n": 1}
    writer.save(1, state)
    state["x"] += 1
    state["parts"][0]["y"] += 1  # type: ignore[index]
    writer.save(2, state)  # the disk is busy: left out
    disk.allowed.set()
    writer.save(3, state, at_once=True)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["epoch-0001.pt", "epoch-0003.pt"]
    first, third = (torch.load(path, weights_only=True) for path in sorted(tmp_path.iterdir()))
    assert [float(s["x"][0] + s["parts"][0]["y"][0]) for s in (first, third)] == [0, 2]


def test_a_checkpoint_that_cannot_be_written_behind_ends_the_run_with_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = checkpoint.Writer
    monkeypatch.setattr(checkpoint, "Writer", lambda *a, behind: real(*a, behind=True))
    monkeypatch.setattr("os.fsync", full)
    study = tiny(tmp_path)
    worker = LocalWorker(tmp_path / "run", CPU)
    with pytest.raises(StorageError, match=r"epoch-0001.pt cannot be written: No space left on"):
        train(study.run, study.benchmark, worker, data_root=tmp_path)


def test_a_run_stopped_while_a_checkpoint_is_written_goes_on_from_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny(tmp_path)
    straight = LocalWorker(tmp_path / "whole", CPU)
    train(study.run, study.benchmark, straight, data_root=tmp_path)
    real = checkpoint.Writer
    monkeypatch.setattr(checkpoint, "Writer", lambda *a, behind: real(*a, behind=True))

    def stop(report: EpochReport) -> None:
        if report.epoch == 3:
            raise Stop

    folder, again = tmp_path / "broken", []  # type: ignore[var-annotated]
    with pytest.raises(Stop):
        train(study.run, study.benchmark, LocalWorker(folder, CPU, stop), data_root=tmp_path)
    train(study.run, study.benchmark, LocalWorker(folder, CPU, again.append), data_root=tmp_path)
    assert equal(weights(tmp_path / "whole"), weights(folder))
    assert [r.epoch for r in again] == [1, 2, 3, 4]
    assert {path.name for path in folder.iterdir()} >= {"epoch-0004.pt", "encoder.pt"}


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, "mine", {})
    with pytest.raises(StudyError, match="holds another training"):
        checkpoint.load_latest(tmp_path, "yours", print)
    assert checkpoint.load_latest(tmp_path / "empty", "yours", print) is None


def test_checkpoints_hold_what_the_issue_of_resuming_needs(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__epochs=1)
    train(study.run, study.benchmark, LocalWorker(tmp_path / "run", CPU), data_root=tmp_path)
    state = checkpoint.load_latest(tmp_path / "run", _digest(study), print)
    assert state is not None
    assert {"encoder", "optimizer", "generators", "digest", "epoch", "history"} <= state.keys()
    momenta = state["optimizer"]["state"].values()
    assert any(float(m["momentum_buffer"].abs().sum()) > 0 for m in momenta)
    assert json.loads(state["history"])[0]["epoch"] == 1
