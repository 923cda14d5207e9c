"""What the benchmark stage reruns."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rwood.study.plans import rerun_folder, rerun_plan
from rwood.study.rerun import plan
from tests.report.a_study import make_config, make_study


def labels(trials: int, champion: int, **changes: object) -> list[str]:
    config = make_config(rerun={"seeds": [1, 2], "trials": trials} | changes)
    record = make_study(config)
    chosen = record.trials[champion].params
    return list(dict.fromkeys(label for label, _ in rerun_plan(config, chosen, record.trials)))


def test_the_champion_and_the_base_run_alone_unless_trials_are_asked_for() -> None:
    assert labels(0, champion=4) == ["champion", "base"]
    assert labels(0, champion=0) == ["champion"]
    assert labels(0, champion=4, base=False) == ["champion"]


def test_the_first_trials_that_ended_whatever_came_of_them() -> None:
    """Trial 3 was pruned, trial 7 failed; what is the champion or the base is not trained twice."""
    named = [f"trial-{number:04d}" for number in (1, 2, 3, 5, 6)]
    assert labels(7, champion=4) == ["champion", "base", *named]
    assert labels(8, champion=4)[-1] == "trial-0008"
    assert labels(2, champion=0, base=False) == ["champion", "trial-0001"]


def test_folders_are_those_of_the_trainings(tmp_path: Path) -> None:
    config = make_config(rerun={"seeds": [1, 2], "trials": 3})
    record = make_study(config)
    given = (config, record.champion_params, record.trials)
    jobs = plan(*given, folder=tmp_path, data_root=tmp_path)
    assert [job.folder for job in jobs] == [
        rerun_folder(config, tmp_path.resolve(), *rerun) for rerun in rerun_plan(*given)
    ]
    assert [job.detector for job in jobs] == [True] + [False] * (len(jobs) - 1)


def test_more_reruns_than_trials_are_refused() -> None:
    sentence = "rerun.trials: 13 trials to rerun, and the search has 12"
    with pytest.raises(ValidationError, match=sentence):
        make_config(rerun={"trials": 13})
