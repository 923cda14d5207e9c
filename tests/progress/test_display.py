"""The screen of a study that runs: every width, with and without colours, and what it leaves."""

import io
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from rwood.config.study import StudyConfig
from rwood.errors import StorageError
from rwood.paths import StudyPaths
from rwood.progress.display import Lines, LiveView, screen
from rwood.progress.state import StudyState
from rwood.progress.status import read_live, short_names
from rwood.results import EpochReport, TrialResult
from rwood.selection import select_champion
from tests.report.a_study import make_config, make_trials


def terminal(width: int, **how: object) -> Console:
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=True, **how)  # type: ignore[arg-type]


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drawn(view: LiveView, width: int) -> list[str]:
    """The view as it stands, as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view._render())
    return printed(console).splitlines()


def running(number: int, epochs: int) -> TrialResult:
    trial = make_trials()[0]
    history = tuple(
        report.model_copy(update={"metrics": report.metrics | {"sys/images_per_s": 1500.0}})
        for report in trial.history[:epochs]
    )
    return trial.model_copy(update={"number": number, "state": "running", "history": history,
                                    "objective": None, "finished": None})  # fmt: skip


@pytest.fixture
def config() -> StudyConfig:
    return make_config(name="toy")


THREE = ("val/mixed/auroc", "val/jigsaw/auroc", "val/nearest_mean")


def of_three(trial: TrialResult) -> TrialResult:
    """The trial with two more objectives, of which the last is the better the worse the first."""

    def three(first: float) -> dict[str, float]:
        return dict(zip(THREE, (first, 50 + first / 2, 150 - first), strict=True))

    history = tuple(
        r.model_copy(update={"metrics": r.metrics | three(r.metrics["val/auroc"])})
        for r in trial.history
        if "val/auroc" in r.metrics
    )
    done = three(trial.objective) if trial.objective is not None else {}
    update = {"history": history, "objective": done.get(THREE[0]), "objectives": done}
    return trial.model_copy(update=update)


@pytest.fixture
def three() -> StudyConfig:
    config = make_config(name="toy")
    assert config.search is not None
    search = config.search.model_copy(update={"objective": THREE})
    return config.model_copy(update={"search": search})


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_search_at_every_width(config: StudyConfig, width: int) -> None:
    console = terminal(width)
    with LiveView(config, console) as view:
        view.stage("search", "12 of 12 trials to run")
        view.known([])
        for trial in make_trials()[:8]:
            view.trial(trial)
        view.trial(running(8, 7))
        view.trial(running(9, 0))
        lines = drawn(view, width)
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width
    assert "8/12 done; 2 running, 4 complete, 3 pruned, 1 failed" in text
    assert "1,500 images/s" in text
    assert "left in this stage" in text
    assert "GPU" not in text
    assert "best so far: trial " in text
    assert ", val/auroc 9" in text
    assert "loss.temperature = 0." in text
    (curve,) = [line for line in lines if "trial 8" in line]
    assert "epoch  7/20" in curve
    assert "▁" in curve
    said = printed(console)
    assert "FAILED" in said, "a failure stays on the screen"
    assert "at step 14 <b>" in said


@pytest.mark.parametrize("width", [40, 80, 200])
def test_all_objectives_and_the_champion_so_far(three: StudyConfig, width: int) -> None:
    trials = [of_three(trial) for trial in make_trials()]
    with LiveView(three, terminal(width)) as view:
        view.stage("search", "12 of 12 trials to run")
        view.known(trials)
        view.trial(of_three(running(12, 7)))
        view.trial(running(13, 0))
        lines = drawn(view, width)
    champion = select_champion(trials, THREE)
    assert champion != select_champion(trials, THREE[:1])
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width
    reached = ", ".join(f"{name} {champion.objectives[name]:.2f}" for name in THREE)
    assert f"best so far: trial {champion.number}, {reached}: loss.temperature" in text
    now = of_three(running(12, 7)).history[-1].metrics
    for short, name in zip(("mixed", "jigsaw", "nearest_mean"), THREE, strict=True):
        assert f"{short} {now[name]:.2f}" in text
    if width >= 80:
        (row,) = [line for line in lines if "trial 12" in line]
        assert "nearest_mean" in row, "one line a trial"
        assert "▁" in row


def test_a_line_names_all_objectives_of_its_trial_and_of_the_champion(three: StudyConfig) -> None:
    trials = [of_three(trial) for trial in make_trials()]
    view = Lines(three, Console(file=io.StringIO(), width=80))
    with view:
        view.stage("search", "12 of 12 trials to run")
        for trial in trials:
            view.trial(trial)
    last = printed(view._console).splitlines()[-1]
    reached = ", ".join(f"{name} {trials[-1].objectives[name]:.2f}" for name in THREE)
    assert f"trial 11 complete after 20 epochs, {reached}; best so far: trial " in last
    champion = select_champion(trials, THREE)
    values = ", ".join(f"{value:.2f}" for value in champion.objectives.values())
    assert f"best so far: trial {champion.number} ({values}); 12/12 done" in last


@pytest.mark.parametrize(
    ("measures", "short"),
    [
        (["val/auroc"], ["auroc"]),
        (["val/tin/auroc", "val/nearest_mean"], ["auroc", "nearest_mean"]),
        (["val/auroc", "val/tin/auroc"], ["auroc", "tin"]),
        (
            ["val/tin/auroc", "val/tin/fpr95", "val/svhn/auroc"],
            ["tin/auroc", "tin/fpr95", "svhn/auroc"],
        ),
    ],
)
def test_the_shortest_names_that_differ(measures: list[str], short: list[str]) -> None:
    assert short_names(measures) == dict(zip(measures, short, strict=True))


def test_a_benchmark_says_what_is_trained_and_what_waits(config: StudyConfig) -> None:
    with LiveView(config, terminal(80)) as view:
        view.stage("benchmark", "3 of 3 reruns to run")
        view.reruns(["champion-seed1", "champion-seed2", "champion-seed3"])
        assert "0/3 trained, 3 to start" in drawn(view, 80)[0]
        for epoch in range(1, 21):
            metrics = {"train/loss": 20.0 - epoch, "sys/gpu_memory_gb": 1.5}
            report = EpochReport(epoch=epoch, time=float(epoch), metrics=metrics)
            view.epoch("champion-seed1", report, 20)
            if epoch <= 5:
                view.epoch("champion-seed2", report, 20)
        lines = drawn(view, 80)
        view.done("champion-seed1")
        scored = drawn(view, 80)
    assert "1/3 trained, 1 to start, 1 being scored" in lines[0]
    assert "1.5 GB of GPU memory, about 20 s left in this stage" in lines[1]
    assert lines[2].split() == "champion-seed2 epoch 5/20 loss 15.00 █▆▅▃▁".split()
    assert "champion-seed1  scoring, 0." in lines[3]
    assert len(lines) == 4
    assert scored[0].strip() == "1/3 trained, 1 to start"
    assert len(scored) == 3


def test_plain_lines_where_there_is_no_terminal(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=20)
    view = screen(config, console)
    assert isinstance(view, Lines)
    with view:
        view.stage("search", "12 of 12 trials to run")
        view.known([])
        for trial in make_trials():
            view.trial(trial)
        view.reruns(["base-seed1", "base-seed2"])
        view.stage("benchmark", "1 of 2 reruns to run, 1 to score again without training")
        for name, at in (("base-seed1", 1.0), ("base-seed2", time.time() + 1)):
            view.epoch(name, EpochReport(epoch=20, time=at, metrics={"train/loss": 3.0}), 20)
    lines = printed(console).splitlines()
    assert len(lines) == 1 + 12 + 1 + 2, "a line an event, however narrow"
    assert "\x1b" not in printed(console)
    assert "trial 7 FAILED after 1 epoch: loss is nan at step 14 <b>" in lines[8]
    assert lines[12].endswith("12/12 done")
    before = "base-seed1: 20 epochs, trained before, loss 3.000; 1/2 trained, about 20 s left"
    assert lines[14] == f"[benchmark] {before}"
    assert lines[15] == "[benchmark] base-seed2: 20 epochs, loss 3.000; 2/2 trained"
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen(config, terminal(80)), Lines), "a terminal that cannot move its cursor"


def test_no_colour_where_none_is_wanted(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console = terminal(80)
    with LiveView(config, console) as view:
        view.stage("search", "12 of 12 trials to run")
        view.trial(make_trials()[7])
    assert "\x1b[36" not in printed(console)
    assert "\x1b[31" not in printed(console)


def test_the_status_is_left_while_it_runs_and_taken_away(
    config: StudyConfig, tmp_path: Path
) -> None:
    path = StudyPaths(tmp_path).live
    with Lines(config, Console(file=io.StringIO()), tmp_path) as view:
        assert not path.exists(), "not before the folder is ours"
        view.stage("search", "12 of 12 trials to run")
        told = read_live(path)
        assert told is not None
        assert (told.study, told.stage, told.working) == ("toy", "search", True)
    assert not path.exists()
    with Lines(config, Console(file=io.StringIO()), tmp_path / "not there") as view:
        view.stage("search", "12 of 12 trials to run")


def test_a_status_that_cannot_be_written_ends_nothing(
    config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Mock(side_effect=StorageError("full"))
    monkeypatch.setattr("rwood.progress.display.save_live", full)
    with Lines(config, Console(quiet=True), tmp_path) as view:
        view.stage("search", "12 of 12 trials to run")
        view.trial(running(0, 3))
    assert full.called


def test_a_rerun_with_epochs_of_its_own(config: StudyConfig) -> None:
    """The search chose ten, and the base run has twenty."""
    state = StudyState(config, "benchmark")
    state.wait_for(["champion-seed1"])
    for report in make_trials()[0].history[:10]:
        assert state.trained == 0
        state.hear("champion-seed1", report, 10)
    assert state.trained == 1
    assert state.seconds_left() == 0
    (running,) = state.status().running
    assert (running.epoch, running.epochs) == (10, 10)
