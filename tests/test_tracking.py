"""MLflow as a study sees it: a real SQLite store, no Ray."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracking import MlflowClient

from rwood.config.search import Range, apply
from rwood.config.study import StudyConfig
from rwood.errors import SpecError, StudyError
from rwood.report.champion import result_words
from rwood.results import EpochReport, FinalsRun, StudyResult, mean_of
from rwood.tracked.finals import finals_seed_run
from rwood.tracked.run import TrackedInput, TrackedRun, trial_key
from rwood.tracked.study import benchmark_run, rerun_run, search_run, setting_run, trial_run
from rwood.tracked.views import experiment_tags
from rwood.tracking.client import check_uri, connect, local_uri
from rwood.tracking.registry import register_champion
from rwood.tracking.sender import Sender
from rwood.tracking.server_run import batches
from rwood.tracking.summary import read_settings, read_summary
from rwood.tracking.tracker import Tracker
from tests.report.a_study import make_config, make_run, make_study


def send(
    uri: str,
    runs: Iterable[TrackedRun],
    experiment: str = "toy",
    tags: Mapping[str, str] | None = None,
) -> None:
    artifacts = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    tracker = Tracker(uri, experiment, artifacts, tags)
    for run in runs:
        tracker.update(run)
    assert tracker.close() is None


def whole_study(
    config: StudyConfig, record: StudyResult, state: str = "complete"
) -> list[TrackedRun]:
    runs = [search_run(config, record, state=state)]
    runs += [trial_run(record, trial) for trial in record.trials]
    runs.append(benchmark_run(config, record, state=state, results=result_words(config, record)))
    runs += [setting_run(config, record, label, config.run) for label in ("champion", "base")]
    for result in record.runs:
        params = record.champion_params if result.label == "champion" else {}
        run = apply(config.run, {**params, "seed": result.seed})
        runs.append(
            rerun_run(config, record, label=result.label, run=run, digest=result.digest,
                      history=result.history, result=result)
        )  # fmt: skip
    return runs


def a_run(epochs: int, state: str = "running", **changes: Any) -> TrackedRun:
    history = tuple(
        EpochReport(epoch=e, time=100.0 + e, metrics={"train/loss": 9.0 - e, "val/auroc": 90.0 + e})
        for e in range(1, epochs + 1)
    )
    fields: dict[str, Any] = {"params": {"epochs": 20}, "tags": {"rwood.kind": "trial"}}
    return TrackedRun(key="id/search/0", name="trial-0000", state=state, started=100.0,
                      history=history, **{**fields, **changes})  # fmt: skip


def store(uri: str, experiment: str = "toy") -> dict[str, Any]:
    """Everything that the store holds, by run."""
    client = connect(uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], max_results=1000) if found else []
    return {
        run.data.tags["rwood.key"]: {
            "status": run.info.status,
            "start": run.info.start_time,
            "end": run.info.end_time,
            "name": run.info.run_name,
            "id": run.info.run_id,
            "tags": run.data.tags,
            "params": run.data.params,
            "inputs": [i.to_dictionary() for i in run.inputs.dataset_inputs],
            "metrics": {
                name: [
                    (m.step, m.timestamp, m.value)
                    for m in client.get_metric_history(run.info.run_id, name)
                ]
                for name in run.data.metrics
            },
            "artifacts": [
                (a.path, Path(f"{run.info.artifact_uri.removeprefix('file://')}/{a.path}")
                    .stat().st_mtime_ns)
                for a in client.list_artifacts(run.info.run_id)
            ],
        }
        for run in runs
    }  # fmt: skip


@pytest.fixture
def uri(tmp_path: Path, empty_store: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return local_uri(tmp_path)


@pytest.fixture(scope="module")
def study() -> tuple[StudyConfig, StudyResult]:
    cluster = {"workers": 2, "gpus_per_worker": 1}
    config = make_config(name="toy", cluster=cluster)
    record = make_study(config)
    ended = [t.model_copy(update={"finished": t.history[-1].time + 4}) for t in record.trials]
    return config, record.model_copy(update={"trials": tuple(ended)})


@pytest.fixture(scope="module")
def toy(
    tmp_path_factory: pytest.TempPathFactory,
    empty_store: bytes,
    study: tuple[StudyConfig, StudyResult],
) -> str:
    """A store with a whole study."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "mlflow.db").write_bytes(empty_store)
    send(local_uri(folder), whole_study(*study))
    return local_uri(folder)


def test_a_store_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """Killed while MLflow makes its tables: a file that lacks some is refused for ever."""
    uri, scratch = local_uri(tmp_path / "results"), tmp_path / "scratch"
    scratch.mkdir()
    code = f"from rwood.tracking.client import make_store; make_store({uri!r})"
    environment = os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        while not any(file.stat().st_size for file in scratch.rglob("mlflow.db")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (tmp_path / "results").exists()
    send(uri, [a_run(1)])
    assert [path.name for path in (tmp_path / "results").glob("*.db*")] == ["mlflow.db"]


@pytest.mark.parametrize("name", ["a%20b", "which?x=1", "ré #1"])
def test_a_store_lies_in_the_folder_whatever_its_name(
    tmp_path: Path, empty_store: bytes, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store)
    tracker = Tracker(local_uri(folder), "toy", folder / "mlartifacts")
    tracker.update(a_run(1))
    assert tracker.close() is None
    assert len(store(local_uri(folder))) == 1
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(path.is_relative_to(folder) for path in files)
    with pytest.raises(StudyError, match=re.escape(f"no MLflow store {folder}/no/mlflow")):
        read_summary(local_uri(folder / "no"), "toy")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_saying_it_again_changes_nothing(uri: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("what was found")
    run = a_run(3, "complete", finished=110.0, metrics={"objective": 93.0},
                artifacts=((file, None),), inputs=(TrackedInput("digits/7", "ab", "val/seven", 9),)
                )  # fmt: skip
    send(uri, [run, run])
    before = store(uri)
    assert before["id/search/0"]["status"] == "FINISHED"
    assert before["id/search/0"]["end"] == 110_000
    assert before["id/search/0"]["metrics"]["val/auroc"] == [
        (1, 101_000, 91.0), (2, 102_000, 92.0), (3, 103_000, 93.0),
    ]  # fmt: skip
    assert before["id/search/0"]["metrics"]["objective"] == [(0, 110_000, 93.0)]
    send(uri, [run])
    assert store(uri) == before


def test_a_resumed_study_sends_the_missing_steps_only(uri: str) -> None:
    send(uri, [a_run(2)])
    send(uri, [a_run(1)])  # A trial whose last epoch was lost with its node runs it again.
    assert [step for step, *_ in store(uri)["id/search/0"]["metrics"]["train/loss"]] == [1, 2]
    send(uri, [a_run(4)])
    held = store(uri)["id/search/0"]
    for name, values in held["metrics"].items():
        assert [step for step, *_ in values] == [1, 2, 3, 4], name
    assert held["status"] == "RUNNING"


def test_long_histories_arrive_whole(uri: str) -> None:
    metrics = {f"val/set{n}/auroc": float(n) for n in range(400)}
    history = tuple(EpochReport(epoch=e, time=e, metrics=metrics) for e in range(1, 6))
    final = {f"ood/scorer{n}/auroc": float(n) for n in range(1200)}
    send(uri, [replace(a_run(0), history=history, metrics=final)])
    client = connect(uri)
    run_id = store_id(client)
    assert client.get_run(run_id).data.metrics.keys() == metrics.keys() | final.keys()
    for name in ("val/set0/auroc", "val/set399/auroc"):
        assert [m.step for m in client.get_metric_history(run_id, name)] == [1, 2, 3, 4, 5]


def store_id(client: Any) -> str:
    experiment = client.get_experiment_by_name("toy")
    (run,) = client.search_runs([experiment.experiment_id])
    return str(run.info.run_id)


def test_a_server_that_is_away_costs_a_sentence(
    uri: str, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    away = f"http://someone:hunter2@127.0.0.1:{closed_port}"
    run = a_run(3, "complete")
    with caplog.at_level(logging.WARNING, "rwood"):
        tracker = Tracker(away, "toy")
        tracker.update(run)
        assert not tracker.flush(30)
        assert tracker.run_id(run.key) is None
        started = time.monotonic()
        sentence = tracker.close()
    assert time.monotonic() - started < 15
    assert sentence is not None
    assert sentence.startswith(f"MLflow at http://127.0.0.1:{closed_port} did not take 1 run (")
    assert sentence.endswith("nothing is lost: the next rwood run sends them")
    assert "\n" not in sentence
    assert "hunter2" not in sentence + caplog.text
    assert len([r for r in caplog.records if "does not answer" in r.message]) == 1
    with pytest.raises(StudyError, match=r"MLflow at http://127.0.0.1:\d+ does not answer") as told:
        read_summary(away, "toy")
    assert "hunter2" not in str(told.value)
    send(uri, [run])
    held = store(uri)["id/search/0"]
    assert (held["status"], len(held["metrics"]["train/loss"])) == ("FINISHED", 3)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("running", "RUNNING"),
        ("complete", "FINISHED"),
        ("pruned", "KILLED"),
        ("failed", "FAILED"),
        ("interrupted", "SCHEDULED"),
    ],
)
def test_statuses(uri: str, state: str, status: str) -> None:
    send(uri, [a_run(1, state)])
    assert store(uri)["id/search/0"]["status"] == status


def test_an_interrupted_study_is_scheduled_and_goes_on(uri: str) -> None:
    tracker = Tracker(uri, "toy")
    tracker.update(a_run(1))
    tracker.update(replace(a_run(1, "complete"), key="id/search/1"))
    assert tracker.flush()
    tracker.interrupt()
    assert tracker.close() is None
    assert {k: r["status"] for k, r in store(uri).items()} == {
        "id/search/0": "SCHEDULED", "id/search/1": "FINISHED",
    }  # fmt: skip
    send(uri, [a_run(2)])
    assert store(uri)["id/search/0"]["status"] == "RUNNING"
    send(uri, [a_run(2, "complete")])
    assert store(uri)["id/search/0"]["status"] == "FINISHED"


def test_a_value_that_is_measured_again_is_the_last(uri: str) -> None:
    """Also where it is smaller, and the training that it is of ended when it did."""
    for near in (62.0, 51.0):
        run = a_run(1, "complete", finished=110.0, metrics={"near/auroc": near, "far/auroc": 80.0})
        tracker = Tracker(uri, "toy")
        tracker.update(run)
        assert tracker.flush()
    client = connect(uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.metrics["near/auroc"] == 51.0
    far = client.get_metric_history(found.info.run_id, "far/auroc")
    assert [(m.value, m.timestamp) for m in far] == [(80.0, 110_000)]


def test_artifacts_go_up_once_and_again_when_they_change(uri: str, tmp_path: Path) -> None:
    page = tmp_path / "report.md"
    page.write_text("first")
    run = a_run(1, artifacts=((page, None), (page, "figures")))
    send(uri, [run])
    first = store(uri)["id/search/0"]["artifacts"]
    assert [path for path, _ in first] == ["figures", "report.md"]
    page.touch()
    send(uri, [run])
    assert store(uri)["id/search/0"]["artifacts"] == first
    page.write_text("second")
    send(uri, [run])
    client = connect(uri)
    folder = client.get_run(store_id(client)).info.artifact_uri.removeprefix("file://")
    assert {p.read_text() for p in Path(folder).rglob("report.md")} == {"second"}


def test_a_store_that_was_moved_with_its_artifacts_finds_them(
    tmp_path: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of the other studies in the folder, and no address that only looks alike."""
    old, new, page = tmp_path / "my 50% a_b", tmp_path / "new", tmp_path / "report.md"
    old.mkdir()
    (old / "mlflow.db").write_bytes(empty_store)
    page.write_text("first")
    run = a_run(1, artifacts=((page, None),))
    for name in ("toy", "other"):
        send(f"sqlite:///{old}/mlflow.db", [run], name)
    client = connect(f"sqlite:///{old}/mlflow.db")
    client.create_experiment("alike", (tmp_path / "my 50% aXb" / "mlartifacts").as_uri())
    old.rename(new)
    later = tmp_path / "later.md"
    later.write_text("second")
    # Another process remembers no address.
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_artifact_repos_cache", {})
    send(local_uri(new), [replace(run, artifacts=((page, None), (later, None)))])
    assert not old.exists()
    assert [path for path, _ in store(local_uri(new))["id/search/0"]["artifacts"]] == [
        "later.md", "report.md",
    ]  # fmt: skip
    assert len(store(local_uri(new), "other")["id/search/0"]["artifacts"]) == 1
    alike = connect(local_uri(new)).get_experiment_by_name("alike")
    assert alike.artifact_location.endswith("aXb/mlartifacts")


def test_run_ids_are_known_after_a_flush(uri: str) -> None:
    tracker = Tracker(uri, "toy")
    tracker.update(a_run(1))
    assert tracker.flush()
    assert tracker.run_id("id/search/0") == store(uri)["id/search/0"]["id"]
    assert tracker.run_id("id/search/1") is None
    assert tracker.close() is None


def test_image_sets_are_inputs(uri: str) -> None:
    given = (TrackedInput("digits/7", "ab12", "val/seven", 179), TrackedInput("own", "cd", "train"))
    send(uri, [a_run(1, inputs=given)])
    told = {i["dataset"]["name"]: i for i in store(uri)["id/search/0"]["inputs"]}
    assert told["digits/7"]["dataset"]["digest"] == "ab12"
    assert json.loads(told["digits/7"]["dataset"]["profile"]) == {"num_rows": 179}
    assert told["digits/7"]["tags"] == {"mlflow.data.context": "val/seven"}
    assert json.loads(told["own"]["dataset"]["profile"]) == {}


def test_links_lead_from_trial_to_search_to_champion_to_reruns(
    toy: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    _, record = study
    held = store(toy)
    assert record.champion is not None
    search, champion = held[f"{record.id}/search"], held[trial_key(record, record.champion)]
    benchmark = held[f"{record.id}/benchmark"]
    assert {
        r["tags"]["rwood.search_run_id"] for r in held.values() if r["name"][:5] == "trial"
    } == {search["id"]}
    assert search["tags"]["rwood.champion_run_id"] == champion["id"]
    assert champion["tags"]["rwood.benchmark_run_id"] == benchmark["id"]
    assert champion["tags"]["rwood.is_champion"] == "true"
    for run in held.values():
        if run["name"].startswith("champion-seed"):
            assert run["tags"]["rwood.champion_run_id"] == champion["id"]
            assert run["tags"]["mlflow.parentRunId"] == benchmark["id"]


def test_summary_by_hand(toy: str, study: tuple[StudyConfig, StudyResult]) -> None:
    config, record = study
    told = read_summary(toy, "toy")
    best = next(t for t in record.trials if t.number == record.champion)
    assert (told.name, told.objective_name, told.note) == ("toy", "val/auroc", "")
    assert told.objective == best.objective
    for key, value in best.params.items():
        assert told.settings[key] == value
    assert told.settings["model.backbone"] == config.run.model.backbone
    assert told.settings["search.trials"] == 12
    assert told.settings["views.crop_scale"] == (0.6, 1.0)
    assert "seed" not in told.settings
    assert sorted(told.seeds) == [1, 2, 3]
    table = record.of("champion")[1].tables["ood/mahalanobis"]
    assert told.seeds[2]["near/auroc"] == pytest.approx(
        (table.near["digit8"].auroc + table.near["digit9"].auroc) / 2
    )
    assert told.seeds[2]["far/fpr95"] == mean_of(table.far.values()).fpr95
    # 6 complete of 20, stopped after 2, 6, 2, 6 and 2, one failed after 1; 6 reruns of 20.
    assert told.epochs == 6 * 20 + 18 + 1 + 120
    # Trials of a second an epoch and 4 s more; 3 + 3 reruns of 11, 12 and 13 s.
    assert told.seconds == pytest.approx(139 + 12 * 4 + 2 * 36)
    assert told.gpu_seconds == pytest.approx(2 * told.seconds)  # 2 workers, a GPU each


def test_the_finals_count_in_the_cost(
    toy: str, uri: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    config, record = study
    rerun = record.of("base")[0]
    training = FinalsRun.model_validate(rerun.model_dump(include=set(FinalsRun.model_fields)))
    fought = finals_seed_run(record, label="base", run=config.run, digest="d",
                             history=training.history, result=training)  # fmt: skip
    send(uri, [*whole_study(config, record), fought])
    with_finals, without = read_summary(uri, "toy"), read_summary(toy, "toy")
    assert with_finals.epochs - without.epochs == len(training.history) > 0
    assert with_finals.seconds - without.seconds == pytest.approx(training.seconds)
    (base, champion), (same, other) = (read_settings(at, "toy") for at in (uri, toy))
    assert champion.seconds - other.seconds == pytest.approx(training.seconds)
    assert base.seconds == same.seconds


def test_champion_and_base_of_one_study(toy: str, study: tuple[StudyConfig, StudyResult]) -> None:
    _, record = study
    base, champion = read_settings(toy, "toy")
    assert (champion.name, base.name) == ("toy champion", "toy base")
    assert base.settings["loss.temperature"] == 0.1
    assert base.objective == record.trials[0].objective
    assert base.seconds == pytest.approx(36)
    assert base.epochs == 60
    assert champion.seconds == pytest.approx(139 + 12 * 4 + 36)
    gains = [champion.seeds[s]["near/auroc"] - base.seeds[s]["near/auroc"] for s in (1, 2, 3)]
    assert gains == pytest.approx([1.0, 1.5, 0.5])  # CHAMPION_SHIFTS less BASE_SHIFTS


def test_trials_that_were_rerun_stand_beside_champion_and_base(
    toy: str, uri: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    config, record = study
    reruns = tuple(make_run("trial-0004", seed, 3.0) for seed in (1, 2, 3))
    send(uri, whole_study(config, record.model_copy(update={"runs": record.runs + reruns})))
    base, champion, rerun = read_settings(uri, "toy")
    assert [s.name for s in (base, champion, rerun)] == ["toy base", "toy champion",
                                                         "toy trial-0004"]  # fmt: skip
    assert rerun.objective == record.trials[4].objective
    assert rerun.seeds[1]["near/auroc"] - base.seeds[1]["near/auroc"] == pytest.approx(3.0)
    assert (rerun.epochs, rerun.seconds) == (60, pytest.approx(36))
    assert champion == read_settings(toy, "toy")[1]
    assert read_summary(uri, "toy").epochs == read_summary(toy, "toy").epochs + 60


def test_without_a_search_the_champions_reruns_are_the_base_runs(
    uri: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    config, record = study
    runs = tuple(record.of("champion"))
    alone = record.model_copy(update={"champion": None, "champion_params": {}, "runs": runs,
                                      "trials": ()})  # fmt: skip
    send(uri, [r for r in whole_study(config, alone) if r.name != "search"])
    base, champion = read_settings(uri, "toy")
    assert base.seeds == champion.seeds
    assert sorted(base.seeds) == [1, 2, 3]


def test_what_was_run_before_does_not_count(
    uri: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    config, record = study
    few = record.model_copy(update={"trials": record.trials[:5], "champion": 0,
                                    "champion_params": record.trials[0].params,
                                    "runs": (make_run("champion", 1, 0.0),)})  # fmt: skip
    send(uri, whole_study(config, few))
    base, champion = read_settings(uri, "toy")
    assert champion.seeds == base.seeds  # The champion is the base run.
    again = few.model_copy(update={"id": "later", "runs": (make_run("champion", 7, 9.0),)})
    send(uri, whole_study(config, again))
    send(uri, [search_run(config, few.model_copy(update={"id": "half"}), state="running")])
    told = read_summary(uri, "toy")
    assert list(told.seeds) == [7]
    assert told.note == "toy was run 3 times; this is the newest finished one"


def test_an_earlier_champion_of_the_same_study_does_not_count(
    uri: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    config, record = study
    earlier = record.model_copy(update={"champion": 1, "champion_params": record.trials[1].params,
                                        "runs": (make_run("champion", 9, 0.0, digest="old"),)}
                                )  # fmt: skip
    send(uri, whole_study(config, earlier))
    assert list(read_summary(uri, "toy").seeds) == [9]
    with pytest.raises(StudyError, match="study toy has no reruns of its base run"):
        read_settings(uri, "toy")
    send(uri, whole_study(config, record))
    assert sorted(read_summary(uri, "toy").seeds) == [1, 2, 3]
    flags = {r["name"]: r["tags"]["rwood.is_champion"] for r in store(uri).values()
             if r["name"].startswith("trial")}  # fmt: skip
    assert [name for name, flag in flags.items() if flag == "true"] == [
        f"trial-{record.champion:04d}"
    ]


def test_unknown_names_are_named(toy: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"knows no study toi; did you mean toy\?"):
        read_summary(toy, "toi")
    with pytest.raises(StudyError, match="there is no MLflow store"):
        read_summary(local_uri(tmp_path / "nowhere"), "toy")
    assert not (tmp_path / "nowhere").exists()


def test_the_champion_is_registered_once_and_the_alias_moves(uri: str) -> None:
    second = replace(a_run(1, "complete"), key="id/search/1")
    send(uri, [a_run(1, "complete"), second])
    client, ids = connect(uri), {k: r["id"] for k, r in store(uri).items()}
    experiment = client.get_experiment_by_name("toy").experiment_id

    def logged(key: str) -> str:
        return client.create_logged_model(experiment, "m", source_run_id=ids[key]).model_uri

    def register(model: str, key: str, description: str) -> str:
        return register_champion(uri, "toy", model, ids[key], question="Which?",
                                 description=description, tags={"rwood.champion": "0"}
                                 )  # fmt: skip

    models = [logged("id/search/0"), logged("id/search/1")]
    assert register(models[0], "id/search/0", "AUROC 97") == "1"
    for _ in range(2):
        assert register(models[0], "id/search/0", "AUROC 98") == "1"
    version = client.get_model_version_by_alias("toy", "champion")
    assert (str(version.version), version.description) == ("1", "AUROC 98")
    assert version.tags == {"rwood.champion": "0"}
    assert register(models[1], "id/search/1", "") == "2"
    assert str(client.get_model_version_by_alias("toy", "champion").version) == "2"
    assert [str(v.version) for v in client.search_model_versions("name = 'toy'")] == ["2", "1"]
    assert client.get_model_version("toy", "1").description == "AUROC 98"
    assert client.get_registered_model("toy").description == "Which?"


def test_the_experiment_says_what_it_asks_and_keeps_views(
    uri: str, study: tuple[StudyConfig, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = experiment_tags(study[0])
    tracker = Tracker(uri, "toy", tags=tags)
    tracker.update(a_run(1))
    assert tracker.close() is None
    found = connect(uri).get_experiment_by_name("toy")
    link = f"#/experiments/{found.experiment_id}/runs?viewStateShareKey=trials"
    assert link in found.tags["mlflow.note.content"]
    assert found.tags.keys() >= tags.keys()
    asked = tags["mlflow.note.content"]
    send(uri, [a_run(1, "complete", experiment={"mlflow.note.content": f"{asked} Found."})])
    found = connect(uri).get_experiment_by_name("toy")
    assert found.tags["mlflow.note.content"].endswith("compareRunsMode=CHART) Found.")
    tags["mlflow.note.content"] += " Found."
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", lambda *_: pytest.fail("said again"))
    Sender(uri, "toy", None, tags)


def test_a_server_that_refuses_a_view_gets_the_study(
    uri: str, study: tuple[StudyConfig, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow before 3.16, which takes 5,000 characters of a tag."""
    real = MlflowClient.set_experiment_tag

    def set_tag(client: MlflowClient, experiment: str, key: str, value: str) -> None:
        if len(value) > 5000:
            raise MlflowException("'value' exceeds the maximum length", INVALID_PARAMETER_VALUE)
        real(client, experiment, key, value)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", set_tag)
    send(uri, [a_run(1, "complete")], tags=experiment_tags(study[0]) | {"long": 5001 * "x"})
    found = connect(uri).get_experiment_by_name("toy")
    assert study[0].question in found.tags["mlflow.note.content"]
    assert "long" not in found.tags
    assert store(uri)["id/search/0"]["status"] == "FINISHED"


@pytest.mark.parametrize(
    "uri", ["http://a:1", "postgresql+psycopg2://u@h/d", "mlruns", "sqlite:///x"]
)
def test_uris_that_may_be(uri: str) -> None:
    check_uri(uri)


def test_a_uri_of_no_known_scheme_is_refused() -> None:
    with pytest.raises(SpecError, match=r"--tracking-uri foo://bar: MLflow knows no foo://"):
        check_uri("foo://bar")


def test_what_the_machine_did_is_a_system_metric_to_mlflow() -> None:
    metrics = {"train/loss": 1.0, "sys/images_per_s": 5.0}
    report = EpochReport(epoch=3, time=2.0, metrics=metrics)
    ((rows, last),) = batches([report], ())
    assert [(name, value, step) for name, value, _, step in rows] == [
        ("train/loss", 1.0, 3), ("system/images_per_s", 5.0, 3),
    ]  # fmt: skip
    assert last == 3


def test_a_champion_with_another_loss_has_no_setting_of_the_base_runs(
    uri: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    config, record = study
    params = {"loss.name": "supcon"}
    trials = tuple(t.model_copy(update={"params": params}) if t.number == record.champion else t
                   for t in record.trials)  # fmt: skip
    record = record.model_copy(update={"champion_params": params, "trials": trials})
    send(uri, whole_study(config, record))
    told = read_summary(uri, "toy").settings
    assert (told["loss.name"], told["loss.base_temperature"]) == ("supcon", 0.07)
    assert "loss.between_scale" not in told
    assert told["search.objective"] == "val/auroc"


def test_a_parameter_that_changed_is_current_in_a_tag(
    uri: str, study: tuple[StudyConfig, StudyResult]
) -> None:
    """MLflow keeps a parameter's first value; `rwood compare` shows the settings as they are."""
    config, record = study
    space = dict(config.the_search.space)
    wider = {**space, "loss.temperature": Range(low=0.01, high=0.5, log=True)}
    del wider["loss.between_shift"]
    for ranges, text, shift in (
        (space, "0.02 to 0.5, log", "-1.0 to 8.0"),
        (wider, "0.01 to 0.5, log", None),
        (space, "0.02 to 0.5, log", "-1.0 to 8.0"),
    ):
        search = config.the_search.model_copy(update={"space": ranges})
        edited = config.model_copy(update={"search": search})
        send(uri, whole_study(edited, record))
        settings = read_summary(uri, "toy").settings
        assert settings["search.space.loss.temperature"] == text
        assert settings.get("search.space.loss.between_shift") == shift
    tags = store(uri)[f"{record.id}/search"]["tags"]
    assert sorted(name for name in tags if name.startswith("rwood.now.")) == [
        "rwood.now.search.space.loss.between_shift", "rwood.now.search.space.loss.temperature",
    ]  # fmt: skip
