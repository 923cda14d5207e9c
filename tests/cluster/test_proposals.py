"""The search without Ray: proposals and early stopping depend on results, never on timing."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from rwood.cluster.early_stopping import Halving, is_weak, rungs
from rwood.cluster.ledger import Ledger
from rwood.cluster.proposals import OPTUNA_FILE, Proposals, importances
from rwood.cluster.relay import FAILURE, REPORT
from rwood.results import EpochReport, TrialResult
from rwood.spec.search import EarlyStopping
from rwood.spec.study import StudySpec
from tests.tiny import tiny


class FakeTrial:
    def __init__(self, number: int) -> None:
        self.config = {"number": number}


def objective(params: dict[str, Any], epoch: int) -> float:
    return (
        90 - 40 * abs(params["loss.temperature"] - 0.2) - abs(params["loss.between_shift"]) + epoch
    )


def drive(
    study: StudySpec,
    folder: Path,
    order: random.Random,
    *,
    steps: int | None = None,
    fails: Callable[[int], bool] = lambda number: False,
) -> dict[int, TrialResult]:
    """Play Tune's part: workers that report in random order; optionally die after some steps."""
    ledger = Ledger(study, folder, lambda trial: None)
    proposals = Proposals(ledger, folder / OPTUNA_FILE)
    halving = Halving(ledger)
    live: dict[str, tuple[dict[str, Any], int]] = {}
    started, finished = 0, False
    while steps is None or steps > 0:
        while len(live) < study.cluster.max_concurrent and not finished:
            name = f"trial-{order.random()}"
            suggestion = proposals.suggest(name)
            if suggestion is None:
                break
            if isinstance(suggestion, str):
                finished = True
                break
            live[name] = (suggestion, 0)
            started += 1
        if not live:
            break
        name = order.choice(sorted(live))
        config, epoch = live[name]
        number = config["number"]
        if fails(number):
            halving.on_trial_result(None, FakeTrial(number), {FAILURE: "ValueError: boom"})
            proposals.on_trial_complete(name)
            del live[name]
        else:
            epoch += 1
            value = objective(config["params"], epoch)
            report = EpochReport(epoch=epoch, time=0.0, metrics={"val/auroc": value})
            result = {REPORT: report.model_dump_json()}
            decision = halving.on_trial_result(None, FakeTrial(number), result)
            live[name] = (config, epoch)
            if decision == "STOP" or epoch == study.run.epochs:
                proposals.on_trial_complete(name, result)
                del live[name]
        if steps is not None:
            steps -= 1
    if steps is None:
        proposals.finish()
    return ledger.trials


def outcome(trials: dict[int, TrialResult]) -> list[tuple[Any, ...]]:
    return [
        (n, trials[n].params, trials[n].state, trials[n].objective, len(trials[n].history))
        for n in sorted(trials)
    ]


@pytest.fixture
def study(tmp_path: Path) -> StudySpec:
    return tiny(
        tmp_path,
        run__epochs=9,
        search__trials=20,
        search__startup_trials=4,
        search__early_stopping={"grace_epochs": 1, "reduction": 3},
        cluster__max_concurrent=3,
    )


def test_the_study_does_not_depend_on_who_reports_first(tmp_path: Path, study: StudySpec) -> None:
    first = outcome(drive(study, tmp_path / "a", random.Random(1)))
    for seed in (2, 3, 4):
        assert outcome(drive(study, tmp_path / f"b{seed}", random.Random(seed))) == first
    states = {state for _, _, state, _, _ in first}
    assert states == {"complete", "stopped"}
    assert first[0][1] == {"loss.temperature": 0.1, "loss.between_shift": 4.0}
    assert len({str(params) for _, params, *_ in first}) == 20


def test_killed_at_random_moments_it_is_the_same_study(tmp_path: Path, study: StudySpec) -> None:
    undisturbed = outcome(drive(study, tmp_path / "a", random.Random(1)))
    order = random.Random(5)
    for _ in range(12):
        drive(study, tmp_path / "b", order, steps=order.randrange(1, 12))
    assert outcome(drive(study, tmp_path / "b", order)) == undisturbed


def test_an_extended_study_is_the_longer_study(tmp_path: Path, study: StudySpec) -> None:
    whole = outcome(drive(study, tmp_path / "a", random.Random(1)))
    assert study.search is not None
    short = study.model_copy(update={"search": study.search.model_copy(update={"trials": 8})})
    assert len(drive(short, tmp_path / "b", random.Random(2))) == 8
    assert outcome(drive(study, tmp_path / "b", random.Random(3))) == whole


def test_the_journal_is_an_optuna_study(tmp_path: Path, study: StudySpec) -> None:
    trials = drive(study, tmp_path / "a", random.Random(1))
    drive(study, tmp_path / "a", random.Random(1))  # opened again: nothing twice
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "a" / OPTUNA_FILE))
    )
    stored = optuna.load_study(study_name="tiny", storage=storage).trials
    assert [t.params for t in stored] == [trials[n].params for n in range(20)]
    states = {"COMPLETE": "complete", "PRUNED": "stopped"}
    assert [states[t.state.name] for t in stored] == [trials[n].state for n in range(20)]
    assert stored[0].value == trials[0].objective


def test_a_damaged_journal_is_made_anew(tmp_path: Path, study: StudySpec) -> None:
    drive(study, tmp_path / "a", random.Random(1))
    journal = tmp_path / "a" / OPTUNA_FILE
    whole = journal.read_text().count("\n")
    journal.write_text(journal.read_text()[:-40] + "\n{}\n")
    (tmp_path / "a" / f"{OPTUNA_FILE}.lock").symlink_to(journal)  # as a killed process leaves it
    drive(study, tmp_path / "a", random.Random(1))
    assert journal.read_text().count("\n") == whole


def test_a_ledger_that_cannot_write_notes_nothing_more(tmp_path: Path, study: StudySpec) -> None:
    folder = tmp_path / "a"
    drive(study, folder, random.Random(1), steps=30)
    before = {path: path.read_bytes() for path in folder.rglob("trial.json")}
    number = len(before)
    in_the_way = folder / "trials" / f"{number:04d}"
    in_the_way.touch()  # the next trial needs a folder of this name
    trials = drive(study, folder, random.Random(2))
    assert number not in trials
    in_the_way.unlink()
    whole = outcome(drive(study, tmp_path / "b", random.Random(3)))
    assert outcome(drive(study, folder, random.Random(4))) == whole


def test_a_failed_trial_is_recorded_and_never_a_score(tmp_path: Path, study: StudySpec) -> None:
    trials = drive(study, tmp_path / "a", random.Random(1), fails=lambda n: n in (2, 5))
    assert [n for n, t in trials.items() if t.state == "failed"] == [2, 5]
    assert trials[2].error == "ValueError: boom"
    assert trials[2].objective is None
    assert len(trials) == 20


def test_too_many_failures_end_the_study(tmp_path: Path, study: StudySpec) -> None:
    trials = drive(study, tmp_path / "a", random.Random(1), fails=lambda n: True)
    assert study.cluster.max_failures <= len(trials) < study.cluster.max_failures + 3


def test_rungs_lie_below_the_full_budget() -> None:
    assert rungs(EarlyStopping(grace_epochs=2, reduction=3), 20) == [2, 6, 18]
    assert rungs(EarlyStopping(grace_epochs=1, reduction=2), 8) == [1, 2, 4]
    assert rungs(EarlyStopping(grace_epochs=30, reduction=3), 20) == []


def test_the_stopping_rule_keeps_the_best_share() -> None:
    peers = np.arange(10.0)
    assert is_weak(5.9, peers, reduction=3, minimized=False)
    assert not is_weak(6.1, peers, reduction=3, minimized=False)
    assert not is_weak(2.9, peers, reduction=3, minimized=True)
    assert is_weak(3.1, peers, reduction=3, minimized=True)
    assert not is_weak(-1e9, peers[:0], reduction=3, minimized=False)


def test_importance_finds_the_knob_that_matters(tmp_path: Path, study: StudySpec) -> None:
    assert study.search is not None
    trials = [
        TrialResult(
            number=n,
            params={"loss.temperature": 0.05 + 0.02 * n, "loss.between_shift": (n * 7 % 20) / 4},
            state="complete",
            digest="",
            started=0.0,
            objective=float(n),
        )
        for n in range(20)
    ]
    share = importances(study.run, study.search, trials)
    assert share["loss.temperature"] > 0.8
    assert sum(share.values()) == pytest.approx(1.0)
    assert importances(study.run, study.search, trials[:2]) == {}
