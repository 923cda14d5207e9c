"""A whole study on a real Ray, with a real MLflow store."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from rwood.config.base import digest
from rwood.config.benchmark import FolderSet
from rwood.config.study import StudyConfig
from rwood.data import image_sets
from rwood.errors import StudyError
from rwood.paths import StudyPaths
from rwood.progress.display import Lines
from rwood.results import StudyResult, load
from rwood.study.context import Context
from rwood.study.frames import read_results
from rwood.study.record import is_finished
from rwood.study.stages import Study, open_study
from rwood.study.train_alone import train_alone
from tests.conftest import with_store
from tests.stored_trials import trials_in
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("ray_session")


class Recorder(Lines):
    """Plain lines, kept."""

    def __init__(self, study: StudyConfig) -> None:
        from rich.console import Console

        self.lines: list[str] = []
        super().__init__(study, Console(quiet=True))

    def note(self, text: str) -> None:
        self.lines.append(text)


def runs_of(results: Path, experiment: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id], max_results=1000)
    assert len({r.info.run_name for r in runs}) == len(runs)
    return {r.info.run_name: (r, client) for r in runs}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, empty_store: bytes
) -> tuple[StudyConfig, Path, Any]:
    folder = tmp_path_factory.mktemp("study")
    results = with_store(folder / "results", empty_store)
    study = tiny(folder, rerun={"seeds": [1, 2], "base": True, "trials": 2, "scorers": ["knn"]},
                 run__scorer={"name": "mahalanobis", "k": 10},
                 cluster__max_concurrent=2)  # fmt: skip
    opened_in_driver: list[Any] = []
    real = image_sets.open_set

    def spy(ref: Any, *args: Any) -> Any:
        opened_in_driver.append(ref)
        return real(ref, *args)

    view = Recorder(study)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_sets, "open_set", spy)
        with open_study(study, Context(results, folder), view) as opened:
            opened.run()
    assert opened_in_driver == []  # the driver touches no image at all
    return study, results, view


def test_everything_named_is_there(finished: tuple[StudyConfig, Path, Any]) -> None:
    study, results, _ = finished
    folder = results / "tiny"
    for name in ("study.json", "champion.yaml", "study.yaml", "benchmark.csv", "report.md",
                 "report.html", "figures/history.png", "figures/scores.png",
                 "figures/embedding.png", "optuna.journal", "rwood.log"):  # fmt: skip
        assert (folder / name).stat().st_size > 0 or name == "rwood.log", name
    record = load(StudyResult, folder / "study.json")
    assert record.finished == digest(study)
    assert len(record.trials) == 6
    trial = {"trial-0001"} - {f"trial-{record.champion:04d}"}
    assert {r.label for r in record.runs} == {"champion", "base"} | trial
    assert all(set(r.tables) == {"ood/mahalanobis", "ood/knn"} for r in record.runs)
    champion = yaml.safe_load((folder / "champion.yaml").read_text())["run"]
    assert champion["loss"]["temperature"] == record.champion_params["loss.temperature"]


def test_the_champion_is_the_best_complete_trial(finished: tuple[StudyConfig, Path, Any]) -> None:
    _, results, _ = finished
    record = load(StudyResult, results / "tiny" / "study.json")
    complete = {t.number: t.objective for t in record.trials if t.state == "complete"}
    assert record.champion == min(complete, key=lambda n: (-(complete[n] or 0), n))
    assert all((complete[record.champion] or 0) >= (value or 0) for value in complete.values())
    base = next(t for t in record.trials if t.number == 0)
    assert base.params == {"loss.temperature": 0.1, "loss.between_shift": 4.0}


def test_mlflow_holds_every_number_once(finished: tuple[StudyConfig, Path, Any]) -> None:
    study, results, _ = finished
    record = load(StudyResult, results / "tiny" / "study.json")
    runs = runs_of(results, "tiny")
    expected = {"search", "benchmark"} | {f"trial-{n:04d}" for n in range(6)}
    expected |= {f"{label}-seed{seed}" for label in ("champion", "base", "trial-0001")
                 for seed in (1, 2)}  # fmt: skip
    if record.champion == 0:  # the base is not trained twice
        expected -= {"base-seed1", "base-seed2"}
    if record.champion == 1:
        expected -= {"trial-0001-seed1", "trial-0001-seed2"}
    else:
        expected |= {"rerun-trial-0001"}
    expected |= {"base", f"champion-trial-{record.champion:04d}"}  # means over their seeds
    assert runs.keys() == expected
    status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    for trial in record.trials:
        run, client = runs[f"trial-{trial.number:04d}"]
        assert run.info.status == status[trial.state]
        assert run.data.tags["mlflow.parentRunId"] == runs["search"][0].info.run_id
        assert float(run.data.params["loss.temperature"]) == trial.params["loss.temperature"]
        assert run.data.tags["rwood.digest"] == trial.digest
        assert (run.data.tags.get("rwood.pruned") == "true") == (trial.state == "pruned")
        told = json.loads(StudyPaths(results / "tiny").trial(trial.number).epochs.read_text())
        for name in ("train/loss", "val/auroc", "val/digit7/fpr95", "val/flower/auroc"):
            logged = client.get_metric_history(run.info.run_id, name)
            assert [m.step for m in logged] == list(range(1, len(told) + 1))
            assert [m.value for m in logged] == [r["metrics"][name] for r in told]
    for run, _ in runs.values():
        assert run.info.status not in ("RUNNING", "SCHEDULED")
        assert run.data.tags["rwood.torch"]
        assert run.data.tags["rwood.git_commit"]


def test_reruns_are_logged_with_near_and_far(finished: tuple[StudyConfig, Path, Any]) -> None:
    _, results, _ = finished
    record = load(StudyResult, results / "tiny" / "study.json")
    runs = runs_of(results, "tiny")
    result = record.of("champion")[0]
    run, client = runs["champion-seed1"]
    table = result.tables["ood/mahalanobis"]
    assert run.data.metrics["near/digit8/fpr95"] == table.near["digit8"].fpr95
    assert run.data.metrics["far/china/auroc"] == table.far["china"].auroc
    assert run.data.metrics["near/auroc"] == pytest.approx(
        (table.near["digit8"].auroc + table.near["digit9"].auroc) / 2
    )
    assert "ood/knn/near/digit8/auroc" in run.data.metrics
    parent = runs["benchmark"][0]
    both = [r.rows()["nearood"].auroc if hasattr(r, "rows") else r.tables["ood/mahalanobis"].rows()[
        "nearood"].auroc for r in record.of("champion")]  # fmt: skip
    assert parent.data.metrics["champion/near/auroc"] == pytest.approx(sum(both) / 2)
    assert parent.data.metrics["champion/near/auroc/std"] == pytest.approx(
        abs(both[0] - both[1]) / 2
    )
    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "report.md", "benchmark.csv", "champion.yaml", "study.yaml"} <= names
    assert {a.path for a in client.list_artifacts(run.info.run_id, "checkpoint")} == {
        "checkpoint/encoder.pt"
    }


def test_running_again_changes_nothing(finished: tuple[StudyConfig, Path, Any]) -> None:
    study, results, _ = finished
    before = {name: run.data.metrics for name, (run, _) in runs_of(results, "tiny").items()}
    view = Recorder(study)
    with open_study(study, Context(results, results), view) as opened:
        opened.run()
    assert "[search] 0 of 6 trials to run" in view.lines
    assert any("0 of" in line and "reruns" in line for line in view.lines)
    runs = runs_of(results, "tiny")
    assert {name: run.data.metrics for name, (run, _) in runs.items()} == before
    run, client = runs["trial-0000"]
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == sorted(set(steps))


def test_the_report_stage_alone_registers_the_detector(
    finished: tuple[StudyConfig, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, results, _ = finished
    monkeypatch.setattr(Study, "_write_report", lambda *_: ())  # it is there
    run, client = runs_of(results, "tiny")["champion-seed1"]
    client.delete_registered_model("tiny")
    with open_study(study, Context(results, results), Recorder(study)) as opened:
        opened.report()
    assert client.get_model_version_by_alias("tiny", "champion").run_id == run.info.run_id


def test_a_study_whose_detector_was_not_registered_is_not_finished(
    finished: tuple[StudyConfig, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("the registry is away")

    study, results, _ = finished
    monkeypatch.setattr(Study, "_write_report", lambda *_: ())  # it is there
    for away in (True, False):
        with monkeypatch.context() as patch:
            if away:
                patch.setattr("rwood.study.mlflow_updates.register_champion", refuse)
            view = Recorder(study)
            with open_study(study, Context(results, results), view) as opened:
                opened.record = opened.record.model_copy(update={"finished": None})
                opened.report()
        assert any("did not take the detector" in line for line in view.lines) == away
        assert is_finished(study, results / "tiny") == (not away)


def test_a_stage_alone_after_an_edit_leaves_the_rest_to_do(
    finished: tuple[StudyConfig, Path, Any],
) -> None:
    """The next start took the study for finished with what it had never measured."""
    study, results, _ = finished
    folder, place = results / "tiny", Context(results, results)
    record = StudyPaths(folder).record.read_bytes()
    more = study.rerun.model_copy(update={"seeds": (1, 2, 3)})
    edited = study.model_copy(update={"rerun": more})
    with open_study(edited, place, Recorder(edited)) as opened:
        opened.search()
    assert not is_finished(edited, folder)
    with (
        pytest.raises(StudyError, match="benchmark yet, or its file or trials changed since: run"),
        open_study(edited, place, Recorder(edited)) as opened,
    ):
        opened.report()
    assert set(read_results(edited, folder=folder).scores["seed"]) == {1, 2}
    StudyPaths(folder).record.write_bytes(record)


def test_a_folder_of_another_study_is_refused(
    finished: tuple[StudyConfig, Path, Any], tmp_path: Path
) -> None:
    _, results, _ = finished
    other = tiny(tmp_path, run__epochs=5, run__scorer={"name": "mahalanobis", "k": 10})
    with (
        pytest.raises(StudyError, match=r"belongs to another study: run.epochs was 4, is 5"),
        open_study(other, Context(results, results), Recorder(other)),
    ):
        pass


def test_a_base_run_alone_waits_for_no_workers_that_cannot_start(
    tmp_path: Path, results: Path
) -> None:
    study = tiny(tmp_path, search=None, cluster__workers=1000)
    not_there = study.benchmark.model_copy(update={"near": {"mine": FolderSet(folder="mine")}})
    study = study.model_copy(update={"benchmark": not_there})
    with pytest.raises(StudyError, match="a training asks for 1,000 CPU cores"):
        train_alone(study, results=results, data_root=tmp_path, address=None,
                    on_report=print, on_note=print)  # fmt: skip


def test_two_drivers_on_one_study(tmp_path: Path, results: Path) -> None:
    study = tiny(tmp_path)
    place = Context(results, tmp_path)
    with open_study(study, place, Recorder(study)):
        with (
            pytest.raises(StudyError, match=rf"is in use by process {os.getpid()} on "),
            open_study(study, place, Recorder(study)),
        ):
            pass


def test_stages_out_of_order_are_named(tmp_path: Path, results: Path) -> None:
    study = tiny(tmp_path)
    place = Context(results, tmp_path)
    for stage, sentence in (
        ("select", "no complete trial"),
        ("benchmark", "has no champion yet"),
        ("report", "has no benchmark yet"),
    ):
        with (
            pytest.raises(StudyError, match=sentence),
            open_study(study, place, Recorder(study)) as opened,
        ):
            getattr(opened, stage)()


def test_too_many_failed_trials_end_the_search_and_are_told(tmp_path: Path, results: Path) -> None:
    study = tiny(
        tmp_path,
        search__space={"optimizer.lr": {"low": 0.05, "high": 1e30, "log": True}},
        search__sampler="random",
        search__pruner=None,
        run__epochs=1,
        cluster__max_concurrent=1,
        cluster__max_failures=2,
    )
    sentence = r"2 trials failed \(cluster.max_failures is 2\), the last one: the loss became "
    place = Context(results, tmp_path)
    with (
        pytest.raises(StudyError, match=sentence),
        open_study(study, place, Recorder(study)) as opened,
    ):
        opened.search()
    runs = runs_of(results, study.name)
    statuses = {name: run.info.status for name, (run, _) in runs.items()}
    assert statuses.pop("search") == "FAILED"
    assert statuses["trial-0000"] == "FINISHED"
    assert sorted(statuses.values())[:2] == ["FAILED", "FAILED"], "the first one ends nothing"
    assert set(statuses.values()) <= {"FAILED", "FINISHED"}


def test_a_damaged_checkpoint_is_told_on_the_screen(tmp_path: Path, results: Path) -> None:
    study = tiny(tmp_path, search__trials=1, run__epochs=2)
    place = Context(results, tmp_path)
    folder = StudyPaths(place.results / study.name).trial(0).folder
    told = []
    journal = StudyPaths(place.results / study.name).optuna
    for _ in range(2):
        view = Recorder(study)
        with open_study(study, place, view) as opened:
            opened.search()
        told.append([line for line in view.lines if "damaged" in line])
        (trial,) = trials_in(place.results / study.name).values()
        assert trial.state == "complete"
        # As a driver that was killed before the trial ended, and a cut connection, leave them.
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:-1]))
        newest = folder / "epoch-0002.pt"
        newest.write_bytes(newest.read_bytes()[:1000])
    assert told == [[], [f"{newest} is damaged (BadZipFile); going on from the one before it"]]
