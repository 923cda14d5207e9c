"""A study's updates on a real SQLite store."""

from pathlib import Path

from rwood import results
from rwood.config.search import apply
from rwood.paths import StudyPaths
from rwood.results import StudyResult
from rwood.study.mlflow_updates import MlflowUpdates
from rwood.tracking.client import local_uri
from tests.report.a_study import make_config, make_run, make_study
from tests.test_tracking import store


def test_a_study_that_grew_has_one_champion(tmp_path: Path) -> None:
    """Chosen among 3 trials, then among 12 by `rwood select` alone, which reads a slim record."""
    config = make_config(name="toy")
    record = make_study(config)
    folder = tmp_path / "toy"
    for file in (StudyPaths(folder).config, StudyPaths(folder).champion):
        results.write_atomically(file, "run: {}\n")
    assert record.champion not in (0, None)
    slim = tuple(t.model_copy(update={"history": ()}) for t in record.trials)
    for champion, trials in ((0, record.trials[:3]), (record.champion, slim)):
        chosen: StudyResult = record.model_copy(update={"champion": champion, "trials": trials})
        updates = MlflowUpdates(config, folder, tmp_path, None, chosen)
        known = record.trials[: len(trials)]
        updates.champion(chosen, record.trials[champion], known)
        assert updates.close(interrupted=False) is None
        held = store(local_uri(tmp_path))
        flags = {k: r["tags"].get("rwood.is_champion") for k, r in held.items()}
        marked = [key for key, flag in flags.items() if flag == "true"]
        assert marked == [f"{record.id}/search/{champion}"]
        assert champion == 0 or flags[f"{record.id}/search/0"] == "false"
        epochs = held[f"{record.id}/search/{champion}"]["metrics"]["epochs"]
        assert [value for *_, value in epochs] == [20.0]


def test_a_rerun_of_another_trial_has_that_trials_settings(tmp_path: Path) -> None:
    config = make_config(name="toy")
    folder = tmp_path / "toy"
    record = make_study(config)
    params = record.trials[1].params
    run = apply(config.run, params).model_dump(mode="json")
    record = record.model_copy(update={"runs": (make_run("trial-0001", 1, 0.0, run=run),)})
    for file in (StudyPaths(folder).config, StudyPaths(folder).champion):
        results.write_atomically(file, "run: {}\n")
    updates = MlflowUpdates(config, folder, tmp_path, None, record)
    updates.benchmark(record, "complete")
    assert updates.close(interrupted=False) is None
    held = store(local_uri(tmp_path))[f"{record.id}/benchmark/trial-0001"]
    assert float(held["params"]["loss.temperature"]) == params["loss.temperature"]
