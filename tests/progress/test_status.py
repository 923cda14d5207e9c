"""`rwood status`: a study told from its folder alone."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rwood import results
from rwood.cli.status import describe, read_status
from rwood.config import study as study_config
from rwood.config.base import digest
from rwood.config.study import FinalsConfig, StudyConfig
from rwood.paths import StudyPaths
from rwood.progress.eta import trials_left
from rwood.progress.state import StudyState
from rwood.progress.status import Running, save_live
from rwood.results import FinalsResult, StudyResult
from rwood.study.plans import rerun_folder, rerun_plan, rules_of, select_candidates
from tests.report.a_study import make_config, make_study
from tests.stored_trials import store_trials


def write(config: StudyConfig, folder: Path, record: StudyResult) -> None:
    slim = tuple(t.model_copy(update={"history": ()}) for t in record.trials)
    results.save(record.model_copy(update={"trials": slim}), folder / "study.json")
    store_trials(config, folder, record.trials)


@pytest.fixture
def study(tmp_path: Path) -> tuple[StudyConfig, StudyResult, Path]:
    config = make_config(name="toy", rerun={"seeds": [1, 2, 3], "base": True})
    return config, make_study(config), tmp_path / "toy"


def test_not_started(study: tuple[StudyConfig, StudyResult, Path]) -> None:
    config, _, folder = study
    assert describe(read_status(config, folder), 80) == ["study toy: not started"]
    assert not folder.exists()


def test_a_search_under_way(study: tuple[StudyConfig, StudyResult, Path]) -> None:
    config, record, folder = study
    trials = list(record.trials[:6])
    trials[5] = trials[5].model_copy(
        update={
            "state": "running",
            "finished": None,
            "history": (),
            "objective": None,
            "objectives": {},
        }
    )
    early = record.model_copy(
        update={"trials": tuple(trials), "champion": None, "champion_params": {}, "runs": ()}
    )
    write(config, folder, early)
    own = folder / "trials" / "0005"
    own.mkdir()
    for epoch in (3, 4):
        (own / f"epoch-{epoch:04d}.pt").touch()
    (folder / "lock").write_text(f"process {os.getpid()} on {socket.gethostname()}")
    told = read_status(config, folder)
    assert (told.stage, told.working) == ("search", True)
    assert told.trials == {"running": 1, "complete": 4, "pruned": 1, "failed": 0}
    best = max((t for t in trials if t.objective), key=lambda t: t.objective or 0)
    assert (told.best_trial, told.best_params) == (best.number, best.params)
    assert told.best == {"val/auroc": best.objective}
    assert [(r.name, r.epoch, r.epochs) for r in told.running] == [("trial 5", 4, 20)]
    assert told.seconds_left == trials_left(config, trials, begun=len(trials))
    text = "\n".join(describe(told, 80))
    assert "trials: 5/12 done; 1 running, 4 complete, 1 pruned, 0 failed" in text
    assert f"\nbest so far: trial {best.number}, val/auroc {best.objective:.2f}: loss." in text
    assert "  trial 5  epoch  4/20\n" in text
    assert text.endswith("left in this stage")


def test_what_the_process_at_work_left_is_told(
    study: tuple[StudyConfig, StudyResult, Path],
) -> None:
    config, record, folder = study
    trials = [t.model_copy(update={"state": "running", "objective": None, "objectives": {},
                              "finished": None})
              if t.number == 4 else t for t in record.trials[:5]]  # fmt: skip
    hidden = [t if t.number != 4 else t.model_copy(update={"history": ()}) for t in trials]
    early = record.model_copy(
        update={"trials": tuple(hidden), "champion": None, "champion_params": {}, "runs": ()}
    )
    write(config, folder, early)  # a running trial's history is not on disk
    (folder / "lock").write_text(f"process {os.getpid()} on {socket.gethostname()}")
    assert read_status(config, folder).running == (Running("trial 4", 0, 20),)
    tally = StudyState(config, "search")
    tally.begin(trials)
    live = tally.status()
    save_live(live, StudyPaths(folder).live)
    told = read_status(config, folder)
    assert (told.running, told.seconds_left) == (live.running, live.seconds_left)
    assert live.at is not None
    lines = describe(told, 80, live.at + 1)
    assert [line for line in lines if line.startswith("  trial 4  epoch 20/20  auroc ")]
    assert "▁" in "".join(lines)
    assert "ago" not in lines[-1]
    assert describe(told, 80, live.at + 3700)[-1] == "last heard of 1 h 01 min ago"
    (folder / "lock").write_text("process 999999999 on " + socket.gethostname())
    assert read_status(config, folder).running == (Running("trial 4", 0, 20),), "it died"
    StudyPaths(folder).live.write_text("{")
    assert read_status(config, folder).stage == "search"


def test_a_trial_of_several_seeds_is_as_far_as_its_last_seed(
    study: tuple[StudyConfig, StudyResult, Path],
) -> None:
    config, record, folder = study
    trial = record.trials[5].model_copy(
        update={"state": "running", "finished": None, "objective": None, "objectives": {}}
    )
    trials = (*record.trials[:5], trial)
    early = {"trials": trials, "champion": None, "champion_params": {}, "runs": ()}
    write(config, folder, record.model_copy(update=early))
    for seed, epoch in ((0, 3), (0, 4), (1, 3)):
        own = folder / "trials" / "0005" / f"seed-{seed}"
        own.mkdir(exist_ok=True, parents=True)
        (own / f"epoch-{epoch:04d}.pt").touch()
    assert [(r.name, r.epoch) for r in read_status(config, folder).running] == [("trial 5", 3)]


def test_a_benchmark_that_nobody_works_on(study: tuple[StudyConfig, StudyResult, Path]) -> None:
    config, record, folder = study
    write(config, folder, record.model_copy(update={"runs": ()}))
    reruns = rerun_plan(config, record.champion_params, ())
    paths = [rerun_folder(config, folder, *rerun) for rerun in reruns]
    assert [p.name.rpartition("-")[0] for p in paths] == [
        f"{label}-seed{seed}" for label in ("champion", "base") for seed in (1, 2, 3)
    ]
    results.save(record.of("champion")[0], paths[0] / "result.json")
    paths[1].mkdir(parents=True)
    (paths[1] / "epoch-0007.pt").touch()
    (folder / "lock").write_text("process 999999999 on " + socket.gethostname())
    told = read_status(config, folder)
    assert (told.stage, told.working, told.reruns, told.reruns_wanted) == ("benchmark", False, 1, 6)
    assert [(r.name, r.epoch) for r in told.running] == [("champion-seed2", 7)]
    assert told.seconds_left == pytest.approx(20 * 1.0 * 5 / 2)  # 20 epochs of a second, 2 at once
    assert describe(told, 80)[0].startswith(
        "study toy: benchmark (nobody works on it; last: process"
    )
    (folder / "lock").write_text("process 1 on elsewhere")
    assert read_status(config, folder).working is None


def test_trainings_with_a_searched_number_of_epochs_are_told_with_it(
    study: tuple[StudyConfig, StudyResult, Path],
) -> None:
    """The base run has twenty."""
    config, record, folder = study
    plain = config.model_dump(mode="json")
    plain["search"]["space"]["epochs"] = {"low": 20, "high": 40}
    config = StudyConfig.model_validate_json(json.dumps(plain))
    trials = [t.model_copy(update={"params": {**t.params, "epochs": 35}}) for t in record.trials]
    running = {"state": "running", "finished": None, "objective": None, "objectives": {}}
    trials[5] = trials[5].model_copy(update=running)
    early = {"trials": tuple(trials), "champion": None, "champion_params": {}, "runs": ()}
    write(config, folder, record.model_copy(update=early))
    (folder / "trials" / "0005").mkdir()
    (folder / "trials" / "0005" / "epoch-0030.pt").touch()
    assert read_status(config, folder).running == (Running("trial 5", 30, 35),)

    shutil.rmtree(folder)
    trials[5] = record.trials[5]
    done = record.model_copy(update={"runs": (), "champion_params": trials[4].params})
    write(config, folder, done.model_copy(update={"trials": tuple(trials)}))
    place = rerun_folder(config, folder, *rerun_plan(config, done.champion_params, ())[0])
    place.mkdir(parents=True)
    (place / "epoch-0030.pt").touch()
    told = read_status(config, folder)
    assert told.running == (Running("champion-seed1", 30, 35),)
    assert told.seconds_left == pytest.approx((35 + 20) * 1.0 * 3 / 2)


def test_status_loads_nothing_heavy_and_takes_no_lock(tmp_path: Path, digits_file: Path) -> None:
    code = (
        "import sys; from rwood.cli import app; sys.argv[0] = 'rwood';"
        "app(standalone_mode=False);"
        "heavy = {'torch', 'ray', 'mlflow'} & sys.modules.keys();"
        "assert not heavy, heavy"
    )
    words = ["status", str(digits_file), "--results", str(tmp_path / "nothing"), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stage"] == "not started"
    assert list(tmp_path.iterdir()) == []


def test_the_finals_are_a_stage_with_its_trainings_and_a_verdict(
    study: tuple[StudyConfig, StudyResult, Path],
) -> None:
    config, record, folder = study
    finals = config.model_copy(update={"finals": FinalsConfig(candidates=2, race_seeds=1)})
    record = record.model_copy(update={"config": finals.model_dump(mode="json")})
    race = FinalsResult(candidates=select_candidates(finals, record.trials), rules=rules_of(finals))
    write(finals, folder, record.model_copy(update={"runs": (), "champion": None, "finals": race}))
    told = read_status(finals, folder)
    assert (told.stage, told.reruns, told.reruns_wanted) == ("finals", 0, 2)
    over = race.model_copy(
        update={"finalist": 4, "promoted": False, "sentence": "The base run stays, because."}
    )
    base = {"champion": 0, "champion_params": {}}
    done = record.model_copy(update={"runs": (), "finals": over, **base})
    slim = tuple(t.model_copy(update={"history": ()}) for t in done.trials)
    results.save(done.model_copy(update={"trials": slim}), folder / "study.json")
    told = read_status(finals, folder)
    assert told.stage == "benchmark"
    lines = describe(told, 80)
    assert "finals: The base run stays, because." in lines
    assert any(line.startswith("best of the search: trial ") for line in lines)


def test_finals_that_began_and_were_taken_out_of_the_file_are_no_stage(
    study: tuple[StudyConfig, StudyResult, Path],
) -> None:
    config, record, folder = study
    race = FinalsResult(candidates={n: record.trials[n].params for n in (2, 4)})
    early = {"runs": (), "champion": None, "champion_params": {}, "finals": race}
    write(config, folder, record.model_copy(update=early))
    assert config.finals is None
    told = read_status(config, folder)
    assert (told.stage, told.reruns_wanted) == ("select", 0)


def test_a_study_whose_finals_were_edited_since_is_not_finished(
    study: tuple[StudyConfig, StudyResult, Path],
) -> None:
    config, record, folder = study
    rules = FinalsConfig(candidates=1, confirm_seeds=2)
    config = config.model_copy(update={"finals": rules})
    best = select_candidates(config, record.trials)
    assert best == {2: record.champion_params}
    over = FinalsResult(candidates=best, rules=rules_of(config), finalist=2, promoted=True)
    plain = {"config": config.model_dump(mode="json"), "finished": digest(config)}
    tested = {"test_sets": study_config.tested_digest(config.benchmark)}
    runs = tuple(run.model_copy(update=tested) for run in record.runs)
    record = record.model_copy(update={"finals": over, "runs": runs, **plain})
    write(config, folder, record)
    for rerun in rerun_plan(config, record.champion_params, ()):
        results.save(runs[0], rerun_folder(config, folder, *rerun) / "result.json")
    StudyPaths(folder).detector.mkdir()
    StudyPaths(folder).report.touch()
    assert read_status(config, folder).stage == "finished"
    before = over.model_copy(update={"rules": {}})  # as records were first written
    results.save(record.model_copy(update={"finals": before}), StudyPaths(folder).record)
    assert read_status(config, folder).stage == "finished"
    told = read_status(config.model_copy(update={"question": "And now?"}), folder)
    assert told.stage == "report"
    more = config.model_copy(update={"finals": rules.model_copy(update={"confirm_seeds": 4})})
    told = read_status(more, folder)
    assert (told.stage, told.reruns, told.reruns_wanted) == ("finals", 0, 8)
    assert "finals: 0/8 trainings done" in describe(told, 80)
    assert more.search is not None
    longer = {"search": more.search.model_copy(update={"trials": 20})}
    lines = describe(read_status(more.model_copy(update=longer), folder), 80)
    assert lines[0] == "study toy: search"
    assert not any("trainings done" in line for line in lines), "the finals' are no reruns"
