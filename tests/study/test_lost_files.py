"""A results folder from which something was deleted."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

import rwood
from rwood.cli import app
from rwood.cli.status import read_status
from rwood.config.base import digest
from rwood.errors import StudyError
from rwood.paths import StudyPaths
from rwood.results import save
from rwood.study.frames import read_results
from rwood.study.record import is_finished, open_record
from tests.report.a_study import make_study
from tests.tiny import tiny


def test_a_finished_study_that_lacks_a_file_is_not_finished(tmp_path: Path) -> None:
    study, paths = tiny(tmp_path), StudyPaths(tmp_path / "tiny")
    save(make_study(study, finished=digest(study)), paths.record)
    paths.report.touch()
    assert not is_finished(study, paths.folder)
    paths.detector.mkdir()
    assert is_finished(study, paths.folder)
    paths.report.unlink()
    assert not is_finished(study, paths.folder)


def test_failed_trials_of_a_finished_study_are_taken_up_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, paths = tiny(tmp_path), StudyPaths(tmp_path / "tiny")
    save(make_study(study, finished=digest(study)), paths.record)
    paths.report.touch()
    paths.detector.mkdir()
    worked = Mock()
    monkeypatch.setattr("rwood.cli.study._work", worked)
    words = ["run", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path)]
    for more, count in (([], 0), (["--retry-failed"], 1)):
        assert CliRunner().invoke(app, [*words, *more]).exit_code == 0
        assert worked.call_count == count
    opened = Mock(side_effect=StudyError("opened"))
    monkeypatch.setattr("rwood.study.stages.open_study", opened)
    with pytest.raises(StudyError, match="opened"):
        rwood.run(study, results=tmp_path, retry_failed=True)


def test_a_base_run_that_was_trained_alone_is_in_no_studys_way(tmp_path: Path) -> None:
    study, folder = tiny(tmp_path), tmp_path / "tiny"
    (folder / "runs" / "train-seed0-0123abcd").mkdir(parents=True)
    assert read_status(study, folder).stage == "not started"
    with open_record(study, folder) as (record, _):
        assert record.runs == ()


def test_scores_that_were_cut_off_are_named(tmp_path: Path) -> None:
    study, paths = tiny(tmp_path), StudyPaths(tmp_path / "tiny")
    record = make_study(study)
    save(record, paths.record)
    for run in record.runs:
        scores = paths.rerun(run.label, run.seed, run.digest).scores
        scores.parent.mkdir(parents=True, exist_ok=True)
        scores.write_bytes(b"PK\x03\x04")
    found = read_results(study, folder=paths.folder)
    with pytest.raises(StudyError, match=r"scores\.npz: cannot be read as arrays"):
        _ = found.scores


@pytest.mark.parametrize("left", ["optuna.journal", "runs/base-seed1-0123abcd"])
def test_results_whose_record_is_gone_are_not_taken_for_a_new_study(
    tmp_path: Path, left: str
) -> None:
    study, folder = tiny(tmp_path), tmp_path / "tiny"
    (folder / left).mkdir(parents=True)
    sentence = "study.json is missing, but .* holds trials or reruns of an earlier start: put it"
    with pytest.raises(StudyError, match=sentence), open_record(study, folder):
        pass
    with pytest.raises(StudyError, match=sentence):
        read_status(study, folder)
    with pytest.raises(StudyError, match=sentence):
        read_results(study, folder=folder)
    shutil.rmtree(folder)
    with open_record(study, folder) as (record, _):
        assert record.trials == ()
