"""A study that changes between two starts: earlier trials count where they fit."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from rwood.errors import StudyError
from rwood.search import generations
from rwood.search.generations import OUTSIDE, PRUNING, open_generation, open_pruning_study
from rwood.search.importance import importances
from rwood.search.journal import open_storage, read_storage
from rwood.selection import select_champion
from tests.search.a_search import RECORD_ID, Search, outcome
from tests.tiny import tiny

BASE: dict[str, Any] = {
    "run__epochs": 9,
    "search__trials": 10,
    "search__sampler": {"name": "tpe", "n_startup_trials": 4},
    "search__pruner": {"name": "asha", "min_resource": 2, "reduction_factor": 2},
    "cluster__max_concurrent": 2,
}
NARROW = {
    "loss.temperature": {"low": 0.08, "high": 0.3, "log": True},
    "loss.between_shift": {"low": 0.0, "high": 6.0},
}
WIDE = {
    "loss.temperature": {"low": 0.02, "high": 1.0, "log": True},
    "loss.between_shift": {"low": -1.0, "high": 6.0},
}


def begun(tmp_path: Path, steps: int | None = None) -> Search:
    search = Search(tiny(tmp_path, **BASE), tmp_path / "s")
    search.run(steps)
    return search


def again(tmp_path: Path, search: Search, **changes: Any) -> Search:
    """Another start of the study, with other settings."""
    study = tiny(tmp_path, **{**BASE, **changes})
    return Search(study, tmp_path / "s", epochs=search.epochs)


def names_of(folder: Path) -> list[str]:
    with read_storage(folder, None) as storage:
        assert storage is not None
        return sorted(optuna.get_all_study_names(storage))


def test_more_trials_at_a_time_with_another_sampler_are_the_same_study(tmp_path: Path) -> None:
    search = begun(tmp_path, steps=30)
    before = search.trials()
    more = again(
        tmp_path, search, cluster__max_concurrent=4, search__sampler="GPSampler",
        search__trials=14,
    )  # fmt: skip
    more.run()
    after = more.trials()
    assert len(after) == 14
    for number, trial in before.items():
        assert after[number].params == trial.params
        if trial.state != "running":
            assert after[number] == trial
    assert names_of(tmp_path / "s") == ["tiny"]
    assert not {(n, e) for n, e in more.trained if e <= 0}


def test_fewer_trials_than_there_are_leave_nothing_to_do(tmp_path: Path) -> None:
    search = begun(tmp_path)
    less = again(tmp_path, search, search__trials=4)
    assert less.run() == 0
    assert outcome(less.trials()) == outcome(search.trials())


def test_in_a_wider_range_all_earlier_trials_count(tmp_path: Path) -> None:
    search = begun(tmp_path)
    before = outcome(search.trials())
    wide = again(tmp_path, search, search__space=WIDE, search__trials=16)
    wide.run()
    trials = wide.trials()
    assert outcome({n: trials[n] for n in range(10)}) == before
    assert len(trials) == 16
    assert names_of(tmp_path / "s") == ["tiny", "tiny (2)"]
    with read_storage(tmp_path / "s", None) as storage:
        assert storage is not None
        stored = optuna.load_study(study_name="tiny (2)", storage=storage).trials
    # One space for all: a multivariate sampler learns from the earlier ones too.
    assert len({str(sorted(trial.distributions.items())) for trial in stored}) == 1


def test_in_a_narrower_range_trials_count_where_they_fit(tmp_path: Path) -> None:
    search = begun(tmp_path)
    before = search.trials()
    fits = {n for n, t in before.items() if 0.08 <= float(t.params["loss.temperature"]) <= 0.3}
    assert 0 < len(fits) < 10
    narrow = again(tmp_path, search, search__space=NARROW)
    narrow.run()
    after = narrow.trials()
    assert {n for n in range(10) if not after[n].outside} == fits
    assert sum(not trial.outside for trial in after.values()) == 10
    assert len(after) == 20 - len(fits)
    for number in range(10):  # what they found is still told
        assert after[number].params == before[number].params
        assert after[number].objective == before[number].objective
        assert after[number].state == before[number].state
    assert not after[select_champion(after.values(), ["val/auroc"]).number].outside
    back = again(tmp_path, search, search__space={**WIDE}, search__trials=len(after))
    back.run()
    assert not any(trial.outside for trial in back.trials().values())


def test_trials_are_read_in_the_present_space_before_it_is_searched(tmp_path: Path) -> None:
    """As `rwood report` reads them, and a start that else would find no trial left to run."""
    search = begun(tmp_path)
    before = search.trials()
    narrow = again(tmp_path, search, search__space=NARROW).trials()
    fits = {n for n, t in before.items() if 0.08 <= float(t.params["loss.temperature"]) <= 0.3}
    assert {n for n, trial in narrow.items() if not trial.outside} == fits
    assert all(trial.objective == before[n].objective for n, trial in narrow.items())
    assert not narrow[select_champion(narrow.values(), ["val/auroc"]).number].outside
    space = {"loss.temperature": {"low": 0.05, "high": 0.5}, "optimizer.lr": {"choices": [0.1, 1]}}
    other = again(tmp_path, search, search__space=space)
    trials = other.trials()
    assert [n for n, trial in trials.items() if not trial.outside] == [0]
    assert trials[0].params == {"loss.temperature": 0.1, "optimizer.lr": 0.1}
    assert other.study.search is not None
    assert importances(other.study.run, other.study.search, [*trials.values()])[0] == {}


def test_a_trial_that_runs_goes_on_in_the_new_space(tmp_path: Path) -> None:
    search = begun(tmp_path, steps=5)
    running = [n for n, t in search.trials().items() if t.state == "running"]
    wide = again(tmp_path, search, search__space=WIDE)
    wide.run()
    trials = wide.trials()
    assert running
    assert all(trials[number].state != "running" for number in running)
    assert len(wide.trained) == len(set(wide.trained))
    done = {n: e for n, e in search.trained}
    assert all(epoch > done.get(number, 0) for number, epoch in wide.trained)


def test_a_setting_more_or_less_is_searched(tmp_path: Path) -> None:
    search = begun(tmp_path)
    more = again(
        tmp_path, search, search__trials=14,
        search__space={**NARROW, "loss.temperature": {"low": 0.05, "high": 0.5, "log": True},
                       "optimizer.lr": {"low": 0.01, "high": 1.0, "log": True}},
    )  # fmt: skip
    more.run()
    trials = more.trials()
    assert all(trials[number].params["optimizer.lr"] == 0.1 for number in range(10))
    assert not any(trial.outside for trial in trials.values())
    less = again(tmp_path, search, search__trials=16)
    less.run()
    after = less.trials()
    assert not any(after[number].outside for number in range(10))
    assert all(after[number].outside for number in range(10, 14))


@pytest.mark.parametrize("goals", ["val/auroc", ["val/auroc", "val/digit7/fpr95"]])
def test_the_pruner_forgets_no_trial_while_it_is_the_same(tmp_path: Path, goals: Any) -> None:
    """In a narrower range it has those that fit, and in a wider one then all of them."""

    def seen(search: Search, name: str) -> dict[int, Any]:
        """What a pruner saw of each trial."""
        name += "" if goals == "val/auroc" else PRUNING
        with read_storage(search.folder, None) as storage:
            assert storage is not None
            trials = optuna.load_study(study_name=name, storage=storage).trials
        return {t.number: (t.intermediate_values, [v for k, v in sorted(t.system_attrs.items())
                           if k.startswith("completed_rung")]) for t in trials}  # fmt: skip

    first = Search(tiny(tmp_path, **BASE, search__objective=goals), tmp_path / "s")
    first.run()
    known = seen(first, "tiny")
    assert sum(len(rungs) > 0 for _, rungs in known.values()) == 10
    for name, space in (("tiny (2)", NARROW), ("tiny (3)", WIDE)):
        search = again(tmp_path, first, search__objective=goals, search__space=space)
        with open_storage(search.folder, None) as store:
            main = open_generation(search.study, store, RECORD_ID)
            open_pruning_study(search.study, store, main)
            inside = [t.number for t in main.trials if OUTSIDE not in t.user_attrs]
        assert seen(search, name) == {n: known[n] if n in inside else ({}, []) for n in known}
    assert inside == list(known)
    other = again(tmp_path, first, search__objective=goals, search__space=WIDE,
                  search__pruner={"name": "asha", "min_resource": 3})  # fmt: skip
    with open_storage(other.folder, None) as store:
        open_pruning_study(other.study, store, open_generation(other.study, store, RECORD_ID))
    assert not any(rungs for _, rungs in seen(other, "tiny (4)").values())


def test_hyperbands_rungs_stay_where_they_are(tmp_path: Path) -> None:
    """Every generation deals other brackets, in which a rung is another epoch."""
    trial = optuna.trial.create_trial(value=1.0, system_attrs={"completed_rung_0": 0.9})
    for pruner, kept in (("asha", 1), ("HyperbandPruner", 0)):
        study = tiny(tmp_path, search__pruner=pruner)
        assert len(generations._rungs(trial, study)) == kept


def test_another_pruner_judges_what_it_sees_itself(tmp_path: Path) -> None:
    search = begun(tmp_path)
    before = outcome(search.trials())
    median = again(
        tmp_path, search, search__trials=20,
        search__pruner={"name": "MedianPruner", "n_startup_trials": 2},
    )  # fmt: skip
    median.run()
    trials = median.trials()
    assert outcome({n: trials[n] for n in range(10)}) == before
    assert "pruned" in {trials[number].state for number in range(10, 20)}


def test_a_sequence_goes_on_where_it_was_and_repeats_no_setting(tmp_path: Path) -> None:
    first = {"search__sampler": "QMCSampler", "search__trials": 6, "search__pruner": None}
    search = again(tmp_path, begun(tmp_path, steps=0), **first)
    search.fails = lambda number: number == 2
    search.run()
    more = again(tmp_path, search, **{**first, "search__trials": 12})
    more.retry_failed = True
    more.run()
    assert len({str(trial.params) for trial in more.trials().values()}) == 12, "they were 7"


def test_trials_of_several_objectives_are_carried_too(tmp_path: Path) -> None:
    goals = {"search__objective": ["val/auroc", "val/digit7/fpr95"]}
    search = Search(tiny(tmp_path, **{**BASE, **goals}), tmp_path / "s")
    search.run()
    before = outcome(search.trials())
    wide = again(tmp_path, search, **goals, search__space=WIDE, search__trials=14)
    wide.run()
    trials = wide.trials()
    assert outcome({n: trials[n] for n in range(10)}) == before
    assert len(trials) == 14


def test_another_study_of_the_name_in_a_shared_storage_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    study = tiny(tmp_path, **BASE)
    first = Search(study, tmp_path / "one", url=url)
    first.run(5)
    with (
        open_storage(tmp_path / "two", url) as store,
        pytest.raises(StudyError, match="holds another study named tiny: choose another name"),
    ):
        open_generation(study, store, "another")


def test_a_database_keeps_what_a_journal_keeps(tmp_path: Path) -> None:
    study = tiny(tmp_path, **{**BASE, "cluster__max_concurrent": 1})
    journal = Search(study, tmp_path / "journal")
    journal.run()
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    database = Search(study, tmp_path / "database", url=url)
    for steps in (7, 1, 12):
        database.run(steps)
    database.run()
    assert outcome(database.trials()) == outcome(journal.trials())


@pytest.mark.parametrize(("call", "number"), [("enqueue_trial", 4), ("tell", 2)])
def test_a_database_that_was_killed_between_a_searchs_two_studies_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Of several objectives the pruner sees a study of its own; a journal writes both at once."""
    study = tiny(tmp_path, **BASE, search__objective=["val/auroc", "val/digit7/fpr95"])
    search = Search(study, tmp_path / "s", url=f"sqlite:///{tmp_path / 'optuna.db'}")
    real, calls = getattr(optuna.Study, call), 0

    def killed(self: optuna.Study, *words: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return real(self, *words, **more)

    monkeypatch.setattr(optuna.Study, call, killed)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    search.run()
    trials = search.trials().values()
    assert len(trials) == 10
    assert {trial.state for trial in trials} == {"complete", "pruned"}


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg2")
    url = "postgresql://ann:secret@127.0.0.1:1/optuna"
    with (
        pytest.raises(StudyError, match=r"postgresql://127.0.0.1:1/optuna cannot be") as error,
        open_storage(tmp_path, url),
    ):
        pass
    assert "secret" not in str(error.value)
    assert RECORD_ID
