"""The search without Ray: proposals, verdicts and ends in Optuna's study, whatever is killed."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

from rwood.config.study import StudyConfig
from rwood.errors import StorageError
from rwood.paths import StudyPaths
from rwood.results import EpochReport, TrialResult
from rwood.search.journal import Journal, read_storage
from rwood.search.read_trials import read_trials
from tests.search.a_search import Search, objective, outcome
from tests.tiny import tiny

CHANGES: dict[str, Any] = {
    "run__epochs": 9,
    "search__trials": 20,
    "search__sampler": {"name": "tpe", "n_startup_trials": 4},
    "search__pruner": {"name": "asha", "min_resource": 2, "reduction_factor": 2},
}


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return tiny(tmp_path, **CHANGES, cluster__max_concurrent=3)


@pytest.fixture
def alone(tmp_path: Path) -> StudyConfig:
    return tiny(tmp_path, **CHANGES, cluster__max_concurrent=1)


def test_all_trials_run_once_and_the_base_run_is_the_first(
    study: StudyConfig, tmp_path: Path
) -> None:
    search = Search(study, tmp_path / "s")
    search.run()
    trials = search.trials()
    assert sorted(trials) == list(range(20))
    assert trials[0].params == {"loss.temperature": 0.1, "loss.between_shift": 4.0}
    states = Counter(trial.state for trial in trials.values())
    assert states.keys() == {"complete", "pruned"}
    assert states["complete"] >= 3
    for trial in trials.values():
        assert [r.epoch for r in trial.history] == list(range(1, len(trial.history) + 1))
        if trial.state == "complete":
            assert trial.objective == objective(trial.params, 9)
    assert max(Counter(search.trained).values()) == 1


def test_pruned_trials_keep_no_checkpoint(study: StudyConfig, tmp_path: Path) -> None:
    search = Search(study, tmp_path / "s")
    paths = [StudyPaths(search.folder).trial(number).folder for number in range(20)]
    for folder in paths:
        folder.mkdir(parents=True)
        (folder / "epoch-0002.pt").touch()
    search.run()
    states = [search.trials()[number].state for number in range(20)]
    left = [(folder / "epoch-0002.pt").exists() for folder in paths]
    assert left == [state != "pruned" for state in states]


def test_tpe_finds_a_better_setting_than_the_base(study: StudyConfig, tmp_path: Path) -> None:
    search = Search(study, tmp_path / "s")
    search.run()
    best = max(t.objective for t in search.trials().values() if t.objective is not None)
    assert best > objective({"loss.temperature": 0.1, "loss.between_shift": 4.0}, 9) + 2


@pytest.mark.parametrize("seed", range(10))
def test_one_trial_at_a_time_killed_anywhere_equals_the_undisturbed_search(
    alone: StudyConfig, tmp_path: Path, seed: int
) -> None:
    calm = Search(alone, tmp_path / "calm")
    calm.run()
    killed = Search(alone, tmp_path / "killed")
    order = random.Random(seed)
    while killed.run(order.randint(1, 25)):
        pass
    assert outcome(killed.trials()) == outcome(calm.trials())
    assert max(Counter(killed.trained).values()) == 1


@pytest.mark.parametrize("seed", range(5))
def test_several_at_a_time_killed_anywhere_forget_no_decision(
    study: StudyConfig, tmp_path: Path, seed: int
) -> None:
    search, order = Search(study, tmp_path / "s", random.Random(seed)), random.Random(seed)
    before: dict[int, Any] = {}
    running = True
    while running:
        running = search.run(order.randint(1, 25)) > 0
        trials = search.trials()
        for number, known in before.items():
            now = trials[number]
            assert now.params == known.params
            if known.state != "running":
                assert now == known
        before = trials
    assert sorted(before) == list(range(20))
    assert "running" not in {trial.state for trial in before.values()}
    assert max(Counter(search.trained).values()) == 1


def test_a_kill_within_a_write_leaves_all_of_a_decision_or_nothing(
    alone: StudyConfig, tmp_path: Path
) -> None:
    """The journal cut at every line's middle and end: each rest is a whole story."""
    calm = Search(alone, tmp_path / "calm")
    calm.run()
    content = (tmp_path / "calm" / "optuna.journal").read_bytes()
    cuts = random.Random(0).sample(range(len(content) // 3, len(content)), 12)
    for cut in cuts:
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "optuna.journal").write_bytes(content[:cut])
        Journal(folder / "optuna.journal")
        kept = (folder / "optuna.journal").read_bytes()
        assert kept.endswith(b"\n")
        assert content.startswith(kept)


def test_a_report_its_verdict_and_the_end_are_one_write(
    alone: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[list[dict[str, Any]]] = []
    real = optuna.storages.journal.JournalFileBackend.append_logs

    def spy(self: Any, logs: list[dict[str, Any]]) -> None:
        writes.append(logs)
        real(self, logs)

    monkeypatch.setattr(optuna.storages.journal.JournalFileBackend, "append_logs", spy)
    search = Search(alone, tmp_path / "s")
    search.run()
    pruned = [t for t in search.trials().values() if t.state == "pruned"]
    assert pruned
    ends = [logs for logs in writes if logs[-1].get("state") == optuna.trial.TrialState.PRUNED]
    assert len(ends) == len(pruned)
    for logs in ends:
        assert "intermediate_value" in logs[0]
        assert logs[-1]["op_code"] == 6


def test_an_end_is_told_once_it_is_on_disk(study: StudyConfig, tmp_path: Path) -> None:
    """Else a driver that is killed after it said so has forgotten it."""
    unknown = []

    class Told(list[TrialResult]):
        def append(self, trial: TrialResult) -> None:
            super().append(trial)
            kept = read_trials(study, tmp_path / "s")[trial.number]
            if trial.state != kept.state:
                unknown.append((trial.number, trial.state, kept.state))

    search = Search(study, tmp_path / "s", changes=Told(), fails=lambda number: number == 3)
    search.run()
    assert {trial.state for trial in search.changes} == {"running", "complete", "pruned", "failed"}
    assert unknown == []


def test_what_a_dashboard_writes_meanwhile_is_kept(alone: StudyConfig, tmp_path: Path) -> None:
    search = Search(alone, tmp_path / "s")
    search.run(30)
    with read_storage(tmp_path / "s", None) as storage:
        assert storage is not None
        watched = optuna.load_study(study_name="tiny", storage=storage)
        watched.set_user_attr("note", "looked at")
    search.run()
    with read_storage(tmp_path / "s", None) as storage:
        assert storage is not None
        after = optuna.load_study(study_name="tiny", storage=storage)
        assert after.user_attrs["note"] == "looked at"
        assert len(after.trials) == 20
        assert after.metric_names == ["val/auroc"]


def test_the_pruner_sees_nothing_of_the_warm_up(tmp_path: Path) -> None:
    study = tiny(
        tmp_path, run__epochs=9, run__schedule={"warmup_epochs": 3}, search__trials=6,
        search__pruner="asha",
    )  # fmt: skip
    search = Search(study, tmp_path / "s")
    search.run()
    with read_storage(tmp_path / "s", None) as storage:
        assert storage is not None
        trials = optuna.load_study(study_name="tiny", storage=storage).trials
    steps = {step for trial in trials for step in trial.intermediate_values}
    assert min(steps) == 4
    assert all(len(trial.history) >= 4 for trial in search.trials().values())


def test_the_pruner_sees_the_mean_of_the_last_validations(tmp_path: Path) -> None:
    pruner = {"name": "SuccessiveHalvingPruner", "min_resource": 2, "smooth": 3}
    study = tiny(tmp_path, run__epochs=9, search__trials=1, search__pruner=pruner)
    search = Search(study, tmp_path / "s")
    search.run()
    params = search.trials()[0].params
    with read_storage(tmp_path / "s", None) as storage:
        assert storage is not None
        (trial,) = optuna.load_study(study_name="tiny", storage=storage).trials
    seen = [objective(params, epoch) for epoch in range(2, 9)]  # the warm-up is one epoch
    wanted = [sum(seen[max(0, i - 2) : i + 1]) / len(seen[max(0, i - 2) : i + 1])
              for i in range(len(seen))]  # fmt: skip
    assert list(trial.intermediate_values.values()) == pytest.approx(wanted)
    assert trial.value == objective(params, 9)


def test_a_trial_with_hardly_an_epoch_left_completes(tmp_path: Path) -> None:
    """No full training is thrown away: a threshold that nobody reaches prunes before, or never."""
    pruner = {"name": "ThresholdPruner", "lower": 1000.0, "n_warmup_steps": 8}
    study = tiny(tmp_path, run__epochs=10, search__trials=3, search__pruner=pruner)
    search = Search(study, tmp_path / "s")
    search.run()
    states = [t.state for t in search.trials().values()]
    assert states == ["complete", "pruned", "pruned"]  # judged at epoch 8, the base run never
    late = {"name": "ThresholdPruner", "lower": 1000.0, "n_warmup_steps": 9}
    study = tiny(tmp_path, run__epochs=10, search__trials=3, search__pruner=late)
    search = Search(study, tmp_path / "late")
    search.run()
    assert {t.state for t in search.trials().values()} == {"complete"}


def test_of_several_objectives_the_named_one_is_pruned_by(tmp_path: Path) -> None:
    study = tiny(
        tmp_path, **{**CHANGES, "search__pruner": {"name": "MedianPruner", "n_startup_trials": 2,
                                                   "metric": "val/digit7/fpr95"}},
        search__objective=["val/auroc", "val/digit7/fpr95"], cluster__max_concurrent=2,
    )  # fmt: skip
    search = Search(study, tmp_path / "s")
    search.run(40)
    search.run()
    trials = search.trials()
    states = Counter(trial.state for trial in trials.values())
    assert states["pruned"] > 0
    assert states["complete"] > 0
    complete = [t for t in trials.values() if t.state == "complete"]
    assert all(t.objectives.keys() == {"val/auroc", "val/digit7/fpr95"} for t in complete)
    # The pruner kept the trials whose FPR@95 is lowest, not those of the first objective.
    reached = {n: t.history[1].metrics["val/digit7/fpr95"] for n, t in trials.items()}
    kept = [reached[t.number] for t in complete]
    stopped = [reached[n] for n, t in trials.items() if t.state == "pruned"]
    assert sorted(kept)[len(kept) // 2] < sorted(stopped)[len(stopped) // 2]


def test_failed_trials_are_recorded_and_too_many_end_the_search(tmp_path: Path) -> None:
    study = tiny(tmp_path, **CHANGES, cluster__max_concurrent=2, cluster__max_failures=3)
    search = Search(study, tmp_path / "s", fails=lambda number: number % 2 == 1)
    search.run()
    failed = {n: t for n, t in search.trials().items() if t.state == "failed"}
    assert len(failed) == 3
    assert all(t.error == "ValueError: boom" and t.failure == "setting" for t in failed.values())
    search.run()  # another start has its own count
    assert sum(t.state == "failed" for t in search.trials().values()) == 6


def test_failed_trials_are_taken_up_again_on_demand(tmp_path: Path) -> None:
    study = tiny(tmp_path, **CHANGES, cluster__max_concurrent=1, cluster__max_failures=99)
    search = Search(study, tmp_path / "s", fails=lambda number: number in (3, 7))
    search.run()
    before = outcome(search.trials())
    assert [row[0] for row in before if row[2] == "failed"] == [3, 7]
    again = Search(study, tmp_path / "s", retry_failed=True, epochs=search.epochs)
    again.run()
    after = outcome(again.trials())
    assert len(after) == len(before)
    assert all(row[2] != "failed" for row in after)
    assert [row for row in after if row[0] not in (3, 7)] == [
        row for row in before if row[0] not in (3, 7)
    ]
    assert {number for number, _ in again.trained} == {3, 7}


def test_an_objective_that_is_not_reported_is_a_failure(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__epochs=2, search__trials=1, search__objective="val/digit7/aupr_in")
    search = Search(study, tmp_path / "s")
    search.run()
    (trial,) = search.trials().values()
    assert trial.state == "failed"
    assert trial.error == "its last epoch reported no finite val/digit7/aupr_in"


def test_a_full_disk_halts_the_search_and_the_next_start_goes_on(
    alone: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = Search(alone, tmp_path / "calm")
    calm.run()
    search = Search(alone, tmp_path / "s")
    count = 0
    real = optuna.storages.journal.JournalFileBackend.append_logs

    def full(self: Any, logs: list[dict[str, Any]]) -> None:
        nonlocal count
        count += 1
        if count > 40:
            raise OSError(28, "No space left on device")
        real(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages.journal.JournalFileBackend, "append_logs", full)
        search.run()
    assert len(search.trials()) < 20
    search.run()
    assert outcome(search.trials()) == outcome(calm.trials())


def test_a_damaged_record_of_epochs_is_named(alone: StudyConfig, tmp_path: Path) -> None:
    search = Search(alone, tmp_path / "s")
    search.run()
    path = StudyPaths(tmp_path / "s").trial(0).epochs
    path.write_text("[{")
    with pytest.raises(Exception, match=r"epochs.json is damaged"):
        search.trials()


def test_storage_errors_say_where_and_that_nothing_is_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "optuna.journal")
    (tmp_path / "optuna.journal").unlink()
    (tmp_path / "optuna.journal").mkdir()
    with pytest.raises(StorageError, match=r"optuna.journal cannot be written"):
        journal.append_logs([{"op_code": 0}])


def test_reports_of_the_past_are_ignored(alone: StudyConfig, tmp_path: Path) -> None:
    search = Search(alone, tmp_path / "s")
    search.run(3)
    running = search.trials()[0]
    assert running.state == "running"
    search.run(1)  # epoch 1 once more, from the checkpoint
    with read_storage(tmp_path / "s", None) as storage:
        assert storage is not None
        (trial,) = optuna.load_study(study_name="tiny", storage=storage).trials
    assert list(trial.intermediate_values) == [2, 3]
    assert EpochReport(epoch=1, time=0, metrics={}).epoch == 1
