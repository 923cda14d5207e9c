"""Records: JSON both ways, the champion, means as OpenOOD prints them."""

import json
import math
from pathlib import Path

import pytest

from rwood import results, storage
from rwood.errors import NonFiniteLossError, RwoodError, SpecError, StorageError, StudyError
from rwood.results import (
    BenchmarkTable,
    EpochReport,
    SetMetrics,
    TrialResult,
    TrialState,
    mean_and_std,
)
from rwood.selection import select_champion


def trial(number: int, objective: float | None, state: TrialState = "complete") -> TrialResult:
    return TrialResult(
        number=number, params={"loss.temperature": 0.1}, state=state, digest="d", started=1.0,
        objective=objective, history=(EpochReport(epoch=1, time=2.0, metrics={"val/auroc": 1.0}),),
    )  # fmt: skip


def test_the_champion_is_complete_and_best_and_ties_go_to_the_lower_number() -> None:
    trials = [trial(3, 98.0), trial(0, 97.0), trial(2, 99.0), trial(1, 99.0),
              trial(4, None, "pruned"), trial(5, None, "failed")]  # fmt: skip
    assert select_champion(trials, ["val/auroc"]).number == 1
    assert select_champion(trials, ["val/fpr95"]).number == 0


def test_without_a_complete_trial_there_is_no_champion() -> None:
    with pytest.raises(StudyError, match="no complete trial"):
        select_champion([trial(0, None, "failed"), trial(1, None, "pruned")], ["val/auroc"])


def test_means_and_standard_deviations_are_openoods() -> None:
    assert mean_and_std([1.0, 3.0]) == (2.0, 1.0)  # divisor n, not n - 1
    a = SetMetrics(fpr95=10, auroc=90, aupr_in=80, aupr_out=70)
    b = SetMetrics(fpr95=20, auroc=80, aupr_in=60, aupr_out=50)
    rows = BenchmarkTable(near={"x": a, "y": b}, far={"z": b}).rows()
    assert list(rows) == ["x", "y", "nearood", "z", "farood"]
    assert rows["nearood"] == SetMetrics(fpr95=15, auroc=85, aupr_in=70, aupr_out=60)
    assert rows["farood"] == b


def test_records_survive_json(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trial.json"
    results.save(trial(7, 99.123456789012345), path)
    assert results.load(TrialResult, path) == trial(7, 99.123456789012345)
    assert [p.name for p in path.parent.iterdir()] == ["trial.json"]
    path.write_text(json.dumps({"number": 7}))
    with pytest.raises(StudyError, match=r"trial.json is not a TrialResult of this version"):
        results.load(TrialResult, path)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    results.write_atomically(path, "old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StorageError, match="No space"):
        results.write_atomically(path, "new")
    assert path.read_text() == "old"


def test_errors_cross_processes_whole() -> None:
    import pickle

    error = NonFiniteLossError("the loss became nan", step=3, lr=0.1)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is NonFiniteLossError
    assert str(again) == "the loss became nan"
    assert again.details == {"step": 3, "lr": 0.1}
    assert issubclass(SpecError, RwoodError)
    assert not math.isnan(again.details["lr"])
