"""The examples of the Python API, run as they stand."""

import io
import json
import logging
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rwood
from rwood.cli import app
from rwood.errors import SpecError, StudyError
from rwood.study.frames import StudyResults
from tests.tiny import write_tiny


@pytest.fixture
def found(finals_study: StudyResults) -> StudyResults:
    return finals_study


def test_a_study_in_frames(found: StudyResults) -> None:
    assert found.verdict.startswith(("Trial ", "The base run stays"))
    trials = found.trials
    assert list(trials.index) == [0, 1, 2]
    assert {"state", "epochs", "val/families", "loss.temperature", "error"} <= set(trials.columns)
    assert trials.loc[0, "loss.temperature"] == found.study.run.loss.model_dump()["temperature"]
    complete = trials[trials["state"] == "complete"]
    last = found.epochs.loc[f"trial-{complete.index[0]:04d}"]
    assert last.loc[2, "val/families"] == complete["val/families"].iloc[0]
    assert found.epochs.index.names == ["training", "epoch"]


def test_frames_without_a_row_have_their_columns(found: StudyResults) -> None:
    record = found.record.model_copy(update={"runs": ()})
    early = StudyResults(found.study, record, found.folder, ())
    assert list(early.trials.columns) == list(found.trials.columns)
    for name in ("trials", "epochs", "reruns", "scores"):
        frame = getattr(early, name)
        assert frame.empty
        assert frame.index.names == getattr(found, name).index.names
    assert not (early.trials["state"] == "complete").any()


def test_reruns_and_scores_agree(found: StudyResults) -> None:
    from sklearn.metrics import roc_auc_score

    reruns, scores = found.reruns, found.scores
    assert set(scores["part"]) == {"id", "near", "far"}
    label, seed = reruns.index[0]
    mine = scores[(scores["label"] == label) & (scores["seed"] == seed)]
    id_scores = mine[(mine["part"] == "id") & (mine["set"] == "test")]["score"]
    for (part, name), rows in mine[mine["part"] != "id"].groupby(["part", "set"]):
        truth = np.r_[np.zeros(len(id_scores)), np.ones(len(rows))]
        area = 100 * roc_auc_score(truth, np.r_[id_scores, rows["score"]])
        assert reruns.loc[(label, seed), f"{part}/{name}/auroc"] == pytest.approx(area, abs=1e-6)


def test_the_results_command_prints_the_same_frames(found: StudyResults) -> None:
    file = found.folder.parent.parent / "tiny.yaml"
    words = ["results", str(file), "--results", str(found.folder.parent)]

    def said(*more: str) -> str:
        done = CliRunner().invoke(app, [*words, *more])
        if done.exception is not None:
            raise done.exception
        return done.output

    told = json.loads(said("--json"))
    assert told["verdict"] == found.verdict
    assert told["champion"] == found.champion
    assert [row["number"] for row in told["trials"]] == list(found.trials.index)
    for name, columns in (("trials", ["number", "state"]), ("scores", ["label", "seed", "part"])):
        frame = pd.read_csv(io.StringIO(said("--csv", "--table", name)))
        assert len(frame) == len(getattr(found, name))
        assert list(frame.columns[: len(columns)]) == columns
    assert found.verdict in said()
    with pytest.raises(SpecError, match="--csv prints one table: name it by --table, one of"):
        said("--csv")
    with pytest.raises(SpecError, match="--csv or --json, not both"):
        said("--csv", "--json")


def test_the_detector_of_a_study(found: StudyResults) -> None:
    detector = rwood.load_detector(found.detector)
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 1), dtype=np.uint8)
    said = detector.predict(images)
    assert said.score.shape == said.ood.shape == said.nearest_class.shape == (3,)


def test_a_program_logs_as_before_once_a_study_ran(
    found: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rwood.ray_backend.session import quiet

    class Opened:
        def run(self) -> None:
            quiet(tmp_path / "rwood.log")
            logging.getLogger("library").warning("while it runs")

    messages: list[str] = []
    own = logging.Handler()
    own.emit = lambda record: messages.append(record.getMessage())
    monkeypatch.setattr("rwood.study.stages.open_study", lambda *_: nullcontext(Opened()))
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    with pytest.raises(StudyError, match="holds no results"):
        rwood.run(found.study, results=tmp_path)
    logging.getLogger("library").warning("afterwards")
    assert messages == ["afterwards"]
    assert "while it runs" in (tmp_path / "rwood.log").read_text(encoding="utf-8")


def test_a_finished_study_is_read_and_not_run(found: StudyResults) -> None:
    results = found.folder.parent
    again = rwood.run(found.study, results=results, data_root=results.parent)
    assert again.record.runs == found.record.runs
    assert again.trials.equals(found.trials)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    study = rwood.load_study(write_tiny(tmp_path))
    with pytest.raises(StudyError, match="holds no results: run study tiny first"):
        rwood.read_results(study, results=tmp_path)
    with pytest.raises(SpecError, match="no such file"):
        rwood.load_study(tmp_path / "nothing.yaml")


def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    """The example of `rwood.method`."""
    import torch

    from rwood.method import losses, metrics, scorers

    torch.manual_seed(0)
    network = torch.nn.Linear(8, 4)
    images, labels = torch.randn(64, 8), torch.arange(64) % 3
    images += 3 * torch.nn.functional.one_hot(labels, 8)
    loss = losses.ReweightOOD(temperature=0.1, within_scale=2.0, within_shift=1.0,
                              between_scale=5.0, between_shift=4.0)  # fmt: skip
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    values = []
    for _ in range(20):
        value = loss(network(images), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]
    with torch.no_grad():
        state = scorers.fit_mahalanobis(network(images), labels, classes=3)
        found = metrics.ood_metrics(
            scorers.score_mahalanobis(state, network(images)),
            scorers.score_mahalanobis(state, network(5 * torch.randn(64, 8))),
        )
    assert found.auroc > 50


def test_importing_rwood_is_quick() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, rwood; print({heavy})"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "set()"
