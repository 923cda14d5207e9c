"""The search without Ray: proposals and early stopping depend on results, never on timing."""

import json
import random
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from rwood.config.search import Choices, apply
from rwood.config.study import StudyConfig
from rwood.ray_backend.messages import FAILURE, REPORT
from rwood.results import EpochReport, TrialResult
from rwood.search.early_stopping import Halving
from rwood.search.ledger import Ledger
from rwood.search.proposals import OPTUNA_FILE, Proposals
from rwood.selection import pareto_front
from tests.tiny import tiny


class FakeTrial:
    def __init__(self, number: int) -> None:
        self.config = {"number": number}


def objective(params: dict[str, Any], epoch: int) -> float:
    """A setting that a trial's loss does not have costs a point."""
    temperature, shift = params.get("loss.temperature"), params.get("loss.between_shift")
    lost = 1.0 if temperature is None else 40 * abs(temperature - 0.2)
    return 90 - lost - (1.0 if shift is None else abs(shift)) + epoch


def drive(
    study: StudyConfig,
    folder: Path,
    order: random.Random,
    *,
    steps: int | None = None,
    fails: Callable[[int], bool] = lambda number: False,
    look: Callable[[Proposals], None] = lambda proposals: None,
) -> dict[int, TrialResult]:
    """Play Tune's part: workers that report in random order; optionally die after some steps.

    `look` is called after every step.
    """
    ledger = Ledger(study, folder, lambda trial: None)
    proposals = Proposals(ledger, folder / OPTUNA_FILE)
    halving = Halving(ledger, print)
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
            other = 80 - 3 * abs(config["params"].get("loss.between_shift", 0.0) - 4) + 0.1 * epoch
            metrics = {"val/auroc": value, "val/digit7/fpr95": 100 - other}
            report = EpochReport(epoch=epoch, time=0.0, metrics=metrics)
            result = {REPORT: report.model_dump_json()}
            decision = halving.on_trial_result(None, FakeTrial(number), result)
            live[name] = (config, epoch)
            if decision == "STOP" or epoch == study.run.epochs:
                proposals.on_trial_complete(name, result)
                del live[name]
        look(proposals)
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
def study(tmp_path: Path) -> StudyConfig:
    return tiny(
        tmp_path,
        run__epochs=9,
        search__trials=20,
        search__startup_trials=4,
        search__early_stopping={"grace_epochs": 1, "reduction": 3},
        cluster__max_concurrent=3,
    )


OWN = {
    "reweightood": {"loss.temperature", "loss.between_shift"},
    "cider": {"loss.temperature", "loss.momentum"},
    "cross_entropy": {"loss.label_smoothing"},
}
"""What each loss of the mixed study has of its space."""


@pytest.fixture
def mixed(tmp_path: Path) -> StudyConfig:
    """A space over losses in which no setting belongs to all of them."""
    space = {
        "loss.label_smoothing": {"low": 0.0, "high": 0.3},
        "loss.momentum": {"low": 0.5, "high": 0.99},
        "loss.temperature": {"low": 0.05, "high": 0.5, "log": True},
        "loss.between_shift": {"low": 0.0, "high": 6.0},
        "loss.name": {"choices": list(OWN)},
        "optimizer.lr": {"low": 0.01, "high": 0.5, "log": True},
    }
    return tiny(
        tmp_path,
        run__epochs=9,
        search__space=space,
        search__trials=40,
        search__startup_trials=6,
        search__early_stopping={"grace_epochs": 1, "reduction": 3},
        cluster__max_concurrent=3,
    )


def test_a_trial_has_the_settings_of_its_loss_and_no_other(
    tmp_path: Path, mixed: StudyConfig
) -> None:
    trials = drive(mixed, tmp_path / "a", random.Random(1))
    assert {t.params["loss.name"] for t in trials.values()} == set(OWN)
    for trial in trials.values():
        own = OWN[str(trial.params["loss.name"])]
        assert trial.params.keys() == own | {"loss.name", "optimizer.lr"}
        loss = apply(mixed.run, trial.params).loss
        assert loss.name == trial.params["loss.name"]
    first = trials[0].params
    assert first["loss.name"] == "reweightood"
    assert (first["loss.temperature"], first["loss.between_shift"]) == (0.1, 4.0)


def test_a_mixed_study_learns(tmp_path: Path, mixed: StudyConfig) -> None:
    trials = drive(mixed, tmp_path / "a", random.Random(1))
    late = [t.params for n, t in trials.items() if n >= 20 and "loss.temperature" in t.params]
    early = [t.params for n, t in trials.items() if 0 < n < 7 and "loss.temperature" in t.params]
    miss = [
        statistics.fmean(abs(float(p["loss.temperature"]) - 0.2) for p in some)
        for some in (early, late)
    ]
    assert miss[1] < miss[0]


def test_a_mixed_study_killed_at_random_moments_is_the_same_study(
    tmp_path: Path, mixed: StudyConfig
) -> None:
    undisturbed = outcome(drive(mixed, tmp_path / "a", random.Random(1)))
    order = random.Random(5)
    for _ in range(12):
        drive(mixed, tmp_path / "b", order, steps=order.randrange(1, 20))
    assert outcome(drive(mixed, tmp_path / "b", order)) == undisturbed
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "b" / OPTUNA_FILE))
    )
    stored = optuna.load_study(study_name="tiny", storage=storage).trials
    assert [t.params for t in stored] == [params for _, params, *_ in undisturbed]


def test_the_study_does_not_depend_on_who_reports_first(tmp_path: Path, study: StudyConfig) -> None:
    first = outcome(drive(study, tmp_path / "a", random.Random(1)))
    for seed in (2, 3, 4):
        assert outcome(drive(study, tmp_path / f"b{seed}", random.Random(seed))) == first
    states = {state for _, _, state, _, _ in first}
    assert states == {"complete", "stopped"}
    assert first[0][1] == {"loss.temperature": 0.1, "loss.between_shift": 4.0}
    assert len({str(params) for _, params, *_ in first}) == 20


def test_killed_at_random_moments_it_is_the_same_study(tmp_path: Path, study: StudyConfig) -> None:
    undisturbed = outcome(drive(study, tmp_path / "a", random.Random(1)))
    order = random.Random(5)
    for _ in range(12):
        drive(study, tmp_path / "b", order, steps=order.randrange(1, 12))
    assert outcome(drive(study, tmp_path / "b", order)) == undisturbed


def test_an_extended_study_is_the_longer_study(tmp_path: Path, study: StudyConfig) -> None:
    whole = outcome(drive(study, tmp_path / "a", random.Random(1)))
    assert study.search is not None
    short = study.model_copy(update={"search": study.search.model_copy(update={"trials": 8})})
    assert len(drive(short, tmp_path / "b", random.Random(2))) == 8
    assert outcome(drive(study, tmp_path / "b", random.Random(3))) == whole


def test_the_journal_is_an_optuna_study(tmp_path: Path, study: StudyConfig) -> None:
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
    assert stored[3].datetime_start.timestamp() == pytest.approx(trials[3].started, abs=1e-3)
    assert stored[3].datetime_complete.timestamp() == pytest.approx(trials[3].finished, abs=1e-3)


def test_a_failed_trial_is_recorded_and_never_a_score(tmp_path: Path, study: StudyConfig) -> None:
    trials = drive(study, tmp_path / "a", random.Random(1), fails=lambda n: n in (2, 5))
    assert [n for n, t in trials.items() if t.state == "failed"] == [2, 5]
    assert trials[2].error == "ValueError: boom"
    assert trials[2].objective is None
    assert len(trials) == 20


def test_too_many_failures_end_the_study(tmp_path: Path, study: StudyConfig) -> None:
    trials = drive(study, tmp_path / "a", random.Random(1), fails=lambda n: True)
    assert study.cluster.max_failures <= len(trials) < study.cluster.max_failures + 3


def test_a_damaged_journal_is_made_anew(tmp_path: Path, study: StudyConfig) -> None:
    drive(study, tmp_path / "a", random.Random(1))
    journal = tmp_path / "a" / OPTUNA_FILE
    whole = journal.read_text().count("\n")
    journal.write_text(journal.read_text()[:-40] + "\n{}\n")
    (tmp_path / "a" / f"{OPTUNA_FILE}.lock").symlink_to(journal)  # as a killed process leaves it
    drive(study, tmp_path / "a", random.Random(1))
    assert journal.read_text().count("\n") == whole


def test_a_ledger_that_cannot_write_notes_nothing_more(tmp_path: Path, study: StudyConfig) -> None:
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


def several(study: StudyConfig, **changes: Any) -> StudyConfig:
    assert study.search is not None
    update = {"objective": ("val/auroc", "val/digit7/fpr95"), **changes}
    return study.model_copy(update={"search": study.search.model_copy(update=update)})


def sight(proposals: Proposals) -> list[Any]:
    """What a sampler reads of each trial; of a running one, also what was drawn for it."""
    seen = []
    for trial in proposals._ot_study.get_trials(deepcopy=False):
        drawn = {k: v for k, v in trial.system_attrs.items() if k.startswith("tpe:")}
        if trial.state.is_finished():
            drawn = {}
        params = json.loads("".join(drawn.values()) or "{}") | trial.params
        seen += [(trial.number, trial.state, params, list(trial.distributions.items()))]
        seen += [(trial.values, trial.intermediate_values)]
    return seen


def test_taken_up_again_a_sampler_sees_the_same(
    tmp_path: Path, study: StudyConfig, mixed: StudyConfig
) -> None:
    states: Counter[str] = Counter()
    for kind, spec in {"one": study, "two": several(study), "losses": mixed}.items():
        folder = tmp_path / kind

        def look(live: Proposals, spec: StudyConfig = spec, folder: Path = folder) -> None:
            ledger = Ledger(spec, folder, lambda trial: None)
            again = Proposals(ledger, folder.with_suffix(".journal"))
            for trial in live._ledger.trials.values():  # resumed workers report their past again
                for epoch in trial.history:
                    ledger.add(trial.number, epoch)
            again._tell_for(len(ledger.trials) - 1)
            assert sight(again) == sight(live)
            states.update(trial.state.name for trial in again._ot_study.trials)

        drive(spec, folder, random.Random(2), look=look, fails=lambda n: n == 4)
    assert states.keys() == {"COMPLETE", "PRUNED", "RUNNING", "FAIL"}


def test_several_objectives_killed_at_random_moments(tmp_path: Path, study: StudyConfig) -> None:
    two = several(study)
    undisturbed = drive(two, tmp_path / "a", random.Random(1))
    for seed in (5, 6):
        order = random.Random(seed)
        for _ in range(12):
            drive(two, tmp_path / f"b{seed}", order, steps=order.randrange(1, 12))
        again = drive(two, tmp_path / f"b{seed}", order)
        assert outcome(again) == outcome(undisturbed)
        assert [t.objectives for t in again.values()] == [
            t.objectives for t in undisturbed.values()
        ]
    assert {t.state for t in undisturbed.values()} == {"complete", "stopped"}
    assert undisturbed[0].objectives.keys() == {"val/auroc", "val/digit7/fpr95"}
    one = drive(study, tmp_path / "c", random.Random(1))
    assert [t.params for t in one.values()] != [t.params for t in undisturbed.values()]


def test_the_journal_of_several_objectives_is_an_optuna_study(
    tmp_path: Path, study: StudyConfig
) -> None:
    trials = drive(several(study), tmp_path / "a", random.Random(1))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "a" / OPTUNA_FILE))
    )
    stored = optuna.load_study(study_name="tiny", storage=storage)
    complete = [t for t in trials.values() if t.state == "complete"]
    assert {t.number for t in stored.best_trials} == {
        t.number for t in pareto_front(complete, ("val/auroc", "val/digit7/fpr95"))
    }


def test_the_sampler_learns_from_several_objectives(tmp_path: Path, study: StudyConfig) -> None:
    """Both objectives want a temperature of 0.2; later trials come nearer to it than chance."""

    def gap(sampler: str) -> float:
        two = several(study, early_stopping=None, trials=40, sampler=sampler, seed=3)
        trials = drive(two, tmp_path / sampler, random.Random(1))
        return sum(abs(float(trials[n].params["loss.temperature"]) - 0.2) for n in range(24, 40))

    assert gap("tpe") < 0.6 * gap("random")


def test_a_grid_is_every_combination_once_the_base_first(
    tmp_path: Path, study: StudyConfig
) -> None:
    assert study.search is not None
    space = {
        "loss.temperature": Choices(choices=(0.05, 0.1, 0.2)),
        "loss.between_shift": Choices(choices=(2.0, 4.0)),
    }
    update = {"sampler": "grid", "space": space, "trials": 6}
    spec = study.model_copy(update={"search": study.search.model_copy(update=update)})
    undisturbed = drive(spec, tmp_path / "a", random.Random(1))
    params = [undisturbed[n].params for n in range(6)]
    assert params[0] == {"loss.temperature": 0.1, "loss.between_shift": 4.0}
    assert len({str(p) for p in params}) == 6
    assert params[1:] == [
        {"loss.temperature": t, "loss.between_shift": b}
        for t in (0.05, 0.1, 0.2)
        for b in (2.0, 4.0)
        if (t, b) != (0.1, 4.0)
    ]
    order = random.Random(7)
    for _ in range(5):
        drive(spec, tmp_path / "b", order, steps=order.randrange(1, 9))
    assert outcome(drive(spec, tmp_path / "b", order)) == outcome(undisturbed)


def report(epoch: int, value: float) -> EpochReport:
    return EpochReport(epoch=epoch, time=0.0, metrics={"val/auroc": value})


def test_a_trial_is_judged_by_all_before_it_however_late(
    tmp_path: Path, study: StudyConfig
) -> None:
    ledger = Ledger(study, tmp_path, lambda trial: None)
    for number in range(3):
        ledger.open(number, {"loss.temperature": 0.1})
    for epoch in range(1, 10):
        ledger.add(2, report(epoch, 50.0))  # to the end, while both before it are on their way
    assert ledger.is_trained(2)
    assert [r.epoch for r in ledger.trials[2].history] == [1]
    ledger.add(0, report(1, 60.0))
    ledger.add(1, report(1, 40.0))
    assert ledger.trials[1].state == "stopped"
    assert ledger.trials[2].state == "stopped"
    assert [r.epoch for r in ledger.trials[2].history] == [1]  # what it did beyond is not counted
    assert ledger.trials[0].state == "running"


def test_a_breakdown_after_the_verdict_is_no_breakdown(tmp_path: Path, study: StudyConfig) -> None:
    ledger = Ledger(study, tmp_path, lambda trial: None)
    for number in range(3):
        ledger.open(number, {"loss.temperature": 0.1})
    for number, value in ((1, 50.0), (2, 70.0)):
        ledger.add(number, report(1, value))
        ledger.fail(number, "boom")
        assert ledger.trials[number].state == "running"  # nobody knows yet if it came so far
    ledger.add(0, report(1, 60.0))
    assert [ledger.trials[n].state for n in range(3)] == ["running", "stopped", "failed"]
    assert ledger.failures == 1
