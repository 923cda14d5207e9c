"""What a second start of a study makes of what the first one left; nothing is trained."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from rwood.cli.status import read_status
from rwood.config.base import digest
from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.results import FinalsResult
from rwood.search.generations import open_generation
from rwood.search.journal import open_storage
from rwood.storage import written
from rwood.study import frames
from rwood.study.context import Context
from rwood.study.plans import is_decided, rules_of
from rwood.study.record import is_finished
from rwood.study.stages import open_study
from tests.stored_trials import store_trials
from tests.study.test_study import Recorder
from tests.study.test_study_finals import FINALS, TRIALS
from tests.tiny import tiny

ENDED = [trial.model_copy(update={"finished": 1.0}) for trial in TRIALS[:4]]


def verdict(study: StudyConfig) -> FinalsResult:
    """The finals of those trials, over: the best of the search is promoted."""
    candidates = {number: ENDED[number].params for number in (2, 3)}
    return FinalsResult(candidates=candidates, rules=rules_of(study), finalist=2, promoted=True)


def test_a_search_that_was_killed_has_its_trials_and_their_storage(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwood.study.opened.NOTE_EVERY_S", 0.0)
    study = tiny(tmp_path)
    place = Context(results, tmp_path, storage="sqlite:///elsewhere.db")
    with open_study(study, place, Recorder(study)) as opened:
        for number in (0, 0, 1):
            opened._on_trial(TRIALS[number].model_copy(update={"state": "running"}))
    with (
        pytest.raises(StudyError, match=r"tiny are in sqlite:///elsewhere.db: name it"),
        open_study(study, Context(results, tmp_path), Recorder(study)),
    ):
        pass
    for read in (read_status, frames.read_results):
        with pytest.raises(StudyError, match=r"tiny are in sqlite:///elsewhere.db: name it"):
            read(study, folder=results / "tiny")
    study = tiny(tmp_path, search__pruner="MedianPruner")
    with open_study(study, place, Recorder(study)) as opened:
        changes = {change.key: change.trials for change in opened.record.changes}
    assert changes["search.pruner.name"] == 2


def test_finals_with_more_seeds_after_their_verdict_are_a_change_on_record(
    tmp_path: Path, results: Path
) -> None:
    """Whoever adds seeds until a setting is promoted has another chance each time."""
    study, place = tiny(tmp_path, finals=FINALS), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)) as opened:
        opened._save(trials=TRIALS[:3])
    study = tiny(tmp_path, finals={**FINALS, "confirm_seeds": 9})
    with open_study(study, place, Recorder(study)) as opened:
        (change,) = opened.record.changes
    assert (change.key, change.before, change.after) == ("finals.confirm_seeds", 4, 9)


def test_without_finals_an_earlier_verdict_is_forgotten(tmp_path: Path, results: Path) -> None:
    study, place = tiny(tmp_path, finals=FINALS), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)) as opened:
        trials = [trial.model_copy(update={"finished": 1.0}) for trial in TRIALS[:3]]
        store_trials(study, opened.folder, trials, opened.record.id)
        verdict = FinalsResult(
            rules=rules_of(study), candidates={}, promoted=False, sentence="The base run stays."
        )
        opened._save(finals=verdict, champion=0, trials=tuple(trials[:1]))
    study = tiny(tmp_path, finals=None)
    with open_study(study, place, Recorder(study)) as opened:
        assert opened.record.finals == verdict
        opened.select()
        assert (opened.record.champion, opened.record.finals) == (2, None)
        assert [trial.number for trial in opened.record.trials] == [0, 1, 2], "also after a kill"


def test_trials_that_were_interrupted_are_run_though_the_search_asks_for_fewer_now(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone they would be running for ever, in MLflow too."""
    searched = Mock()
    monkeypatch.setattr("rwood.study.stages.search", searched)
    monkeypatch.setattr("rwood.study.connection.Connection.connect", Mock())
    study, place = tiny(tmp_path, search__trials=3), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)) as opened:
        killed = {"state": "running", "objective": None, "objectives": {}, "history": ()}
        trials = [trial.model_copy(update={"finished": 1.0}) for trial in TRIALS[:3]]
        trials.append(TRIALS[3].model_copy(update=killed))
        store_trials(study, opened.folder, trials, opened.record.id)
        opened.search()
        assert searched.called
        assert read_status(study, opened.folder).stage == "search"


def test_a_finals_stage_that_was_killed_after_its_verdict_has_no_champion_to_measure(
    tmp_path: Path, results: Path
) -> None:
    """The next stage took the base run for the setting that was promoted."""
    study, place = tiny(tmp_path, finals=FINALS), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)) as opened:
        store_trials(study, opened.folder, ENDED, opened.record.id)
        opened._save(finals=verdict(study))
        with pytest.raises(StudyError, match="has no champion yet, .*: run .* and `rwood finals`"):
            opened.benchmark()
        opened._save(champion_params=ENDED[2].params)
        assert is_decided(study, opened.record, opened._trials())


@pytest.mark.parametrize(
    "edit",
    [
        {"finals": {**FINALS, "alpha": 0.2}},
        {"finals": {**FINALS, "first_seed": 2000}},
        {"finals": None},
        {"search__space": {"loss.temperature": {"low": 0.05, "high": 0.35},
                           "loss.between_shift": {"low": 0.0, "high": 6.0}}},
    ],
)  # fmt: skip
def test_a_champion_of_other_rules_or_trials_is_not_measured(
    tmp_path: Path, results: Path, edit: dict[str, Any]
) -> None:
    study, place = tiny(tmp_path, finals=FINALS), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)) as opened:
        store_trials(study, opened.folder, ENDED, opened.record.id)
        opened._save(finals=verdict(study), champion=2, champion_params=ENDED[2].params)
        assert is_decided(study, opened.record, opened._trials())
    study = tiny(tmp_path, **{"finals": FINALS, **edit})
    with open_study(study, place, Recorder(study)) as opened:
        for stage in (opened.benchmark, opened.report):
            with pytest.raises(StudyError, match="yet, or its file or trials changed since: run"):
                stage()


def test_an_edit_that_is_taken_back_after_a_stage_leaves_no_finished_study(
    tmp_path: Path, results: Path
) -> None:
    study, place = tiny(tmp_path, finals=FINALS), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)) as opened:
        store_trials(study, opened.folder, ENDED, opened.record.id)
        opened._save(finals=verdict(study), champion=2, champion_params=ENDED[2].params,
                     finished=digest(study))  # fmt: skip
    paths = opened.paths
    paths.report.touch()
    paths.detector.mkdir()
    assert is_finished(study, paths.folder)
    edited = tiny(tmp_path, finals=None)
    with open_study(edited, place, Recorder(edited)) as opened:
        opened.select()
    assert not is_finished(study, paths.folder)


def test_who_reads_the_results_of_another_study_is_told(tmp_path: Path, results: Path) -> None:
    study, place = tiny(tmp_path), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)):
        pass
    edits: list[tuple[dict[str, Any], str]] = [
        ({"run__epochs": 8}, "run.epochs was 4, is 8"),
        ({"run__compile": False, "search__objective": "families"},
         "search.objective was 'val/auroc', is 'val/families'"),
        ({"search": None}, "search.objective was 'val/auroc', is None"),
    ]  # fmt: skip
    for edit, difference in edits:
        other = tiny(tmp_path, **edit)
        for read in (read_status, frames.read_results):
            with pytest.raises(StudyError, match=f"belongs to another study: {difference};"):
                read(other, folder=results / "tiny")


def test_a_setting_that_a_part_no_longer_has_makes_another_study(
    tmp_path: Path, results: Path
) -> None:
    study, place = tiny(tmp_path), Context(results, tmp_path)
    with open_study(study, place, Recorder(study)) as opened:
        opened.record.config["run"]["loss"]["margin"] = None
        opened._save()
    with (
        pytest.raises(StudyError, match="another study: a part of its run has other settings"),
        open_study(study, place, Recorder(study)),
    ):
        pass


@pytest.mark.parametrize("kind", ["to", "from"])
def test_results_that_were_copied_to_or_from_an_object_store_keep_their_trials(
    tmp_path: Path, results: Path, bucket: Path, kind: str
) -> None:
    before, after = (results, bucket) if kind == "to" else (bucket, results)
    study, mlflow = tiny(tmp_path, search__trials=3), f"sqlite:///{results}/mlflow.db"
    place = Context(before, tmp_path, None, mlflow)
    with open_study(study, place, Recorder(study)) as opened:
        trials = [trial.model_copy(update={"finished": 1.0}) for trial in TRIALS[:3]]
        store_trials(study, opened.folder, trials, opened.record.id)
    for file in [path for path in (before / "tiny").rglob("*") if path.is_file()]:
        with written(after / str(file).removeprefix(f"{before}/")) as copy:
            copy.write(file.read_bytes())
    study = tiny(tmp_path, search__trials=3, search__pruner=None)  # The journal goes on.
    for _ in range(2):
        assert read_status(study, after / "tiny").trials["complete"] == 3
        place = Context(after, tmp_path, None, mlflow)
        with open_study(study, place, Recorder(study)) as opened:
            with open_storage(opened.folder, None) as store:
                open_generation(study, store, opened.record.id)
            opened.search()
            assert [trial.state for trial in opened.record.trials] == ["complete"] * 3
