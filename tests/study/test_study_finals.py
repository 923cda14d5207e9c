"""The finals of a study: who races, what is trained, and what the results say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwood import results
from rwood.config.study import StudyConfig
from rwood.errors import SpecError
from rwood.paths import RunPaths
from rwood.ray_backend.job import Job
from rwood.results import EpochReport, FinalsResult, FinalsRun, TrialResult
from rwood.study.finals import finals_run, run_finals
from rwood.study.plans import known_plan, select_candidates
from tests.tiny import tiny

FINALS = {"candidates": 2, "race_seeds": 2, "confirm_seeds": 4}


def trial(number: int, temperature: float, value: float, **changes: Any) -> TrialResult:
    metrics = {"val/auroc": value, "val/digit7/auroc": value, "val/flower/auroc": value,
               "val/families": value, "val/nearest_mean": 90.0}  # fmt: skip
    fields: dict[str, Any] = {
        "number": number,
        "params": {"loss.temperature": temperature, "loss.between_shift": 4.0},
        "state": "complete",
        "digest": f"{temperature}",
        "started": 0.0,
        "objective": value,
        "objectives": {"val/auroc": value},
        "history": (EpochReport(epoch=4, time=0.0, metrics=metrics),),
    }
    return TrialResult.model_validate(fields | changes)


TRIALS = [
    trial(0, 0.1, 90.0),  # the base run
    trial(1, 0.2, 92.0),
    trial(2, 0.3, 95.0),
    trial(3, 0.4, 94.0),
    trial(4, 0.3, 99.0, outside=True),
    trial(5, 0.45, 97.0, state="pruned", objective=None, objectives={}),
    trial(6, 0.3, 93.0),  # the settings of trial 2 once more
]


class Trainings:
    """What trains in the finals: writes results as a worker does, and counts."""

    def __init__(self, measure: Callable[[float, int], dict[str, float]]) -> None:
        self.measure = measure
        self.trained: list[tuple[str, int]] = []
        self.parts: list[str] = []

    def __call__(self, jobs: list[Job], part: str) -> None:
        self.parts.append(part)
        for job in jobs:
            if finals_run(job) is None:
                self.trained.append((str(job.label), job.run.seed))
                assert job.validates
                temperature = getattr(job.run.loss, "temperature")  # noqa: B009
                metrics = self.measure(temperature, job.run.seed)
                run = FinalsRun(
                    label=str(job.label),
                    seed=job.run.seed,
                    digest=job.digest,
                    history=(EpochReport(epoch=4, time=0.0, metrics=metrics),),
                    seconds=1.0,
                )
                results.save(run, job.paths.result)


def metrics_of(
    auroc: float, digit7: float | None = None, accuracy: float = 90.0
) -> dict[str, float]:
    near = auroc if digit7 is None else digit7
    return {"val/auroc": auroc, "val/digit7/auroc": near, "val/flower/auroc": auroc,
            "val/families": auroc, "val/nearest_mean": accuracy}  # fmt: skip


def hold(
    study: StudyConfig, folder: Path, trainings: Trainings
) -> tuple[FinalsResult, list[FinalsResult]]:
    told: list[FinalsResult] = []
    found = run_finals(
        study, TRIALS, folder=folder, data_root=folder, train=trainings, on_change=told.append
    )
    return found, told


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return tiny(tmp_path, finals=FINALS)


def test_the_best_settings_that_are_not_the_base_run_race(study: StudyConfig) -> None:
    assert select_candidates(study, TRIALS) == {2: TRIALS[2].params, 3: TRIALS[3].params}
    assert select_candidates(study, TRIALS[:1]) == {}


def test_a_setting_that_is_better_on_fresh_seeds_is_promoted(
    study: StudyConfig, tmp_path: Path
) -> None:
    noise = [0.1, -0.1, 0.2, -0.2, 0.0, 0.1]

    def measure(temperature: float, seed: int) -> dict[str, float]:
        lift = {0.1: 0.0, 0.3: 1.0, 0.4: 3.0}[temperature]
        return metrics_of(90.0 + lift + noise[seed - 1000] * (1 + temperature))

    trainings = Trainings(measure)
    found, told = hold(study, tmp_path, trainings)
    assert found.promoted
    assert found.finalist == 3, "the race forgets what the search saw"
    assert "over 4 paired seeds its objective is better than the base run's by 3." in found.sentence
    assert found.gate is not None
    assert found.gate.passed
    assert found.guard.keys() == {"digit7", "flower", "ID accuracy"}
    assert trainings.trained == [
        *(("trial-0002", seed) for seed in (1000, 1001)),
        *(("trial-0003", seed) for seed in (1000, 1001)),
        *((label, seed) for seed in range(1002, 1006) for label in ("trial-0003", "base")),
    ]
    assert [f.promoted for f in told] == [None, None, True]
    assert len(known_plan(study, told[1])) == 4 + 8


def test_what_is_done_is_not_trained_again(study: StudyConfig, tmp_path: Path) -> None:
    trainings = Trainings(lambda temperature, seed: metrics_of(90 + temperature + seed % 3))
    found, _ = hold(study, tmp_path, trainings)
    count = len(trainings.trained)
    again, _ = hold(study, tmp_path, trainings)
    assert again == found
    assert len(trainings.trained) == count == 12
    done = RunPaths(next((tmp_path / "finals").glob("base-seed1003-*"))).result
    done.unlink()
    assert hold(study, tmp_path, trainings)[0] == found
    assert trainings.trained[count:] == [("base", 1003)]


def test_luck_in_the_search_promotes_nothing(study: StudyConfig, tmp_path: Path) -> None:
    noise = [0.0, 0.0, 0.9, -0.8, 0.7, -0.6]
    trainings = Trainings(
        lambda temperature, seed: metrics_of(90 + noise[seed - 1000] * (temperature > 0.1))
    )
    found, _ = hold(study, tmp_path, trainings)
    assert found.promoted is False
    assert found.sentence.startswith("The base run stays, because over 4 paired seeds trial 2")
    assert "is not shown to be better" in found.sentence


def test_a_search_cannot_buy_one_family_with_another(study: StudyConfig, tmp_path: Path) -> None:
    def measure(temperature: float, seed: int) -> dict[str, float]:
        better = temperature > 0.1
        return metrics_of(90.0 + 3 * better, digit7=80.0 - 2 * better + 0.01 * (seed % 2))

    found, _ = hold(study, tmp_path, Trainings(measure))
    assert found.promoted is False
    assert "loses more than 0.5 points on digit7" in found.sentence
    assert found.gate is not None
    assert found.gate.passed


def test_over_families_the_finals_compare_logits(tmp_path: Path) -> None:
    study = tiny(tmp_path, finals=FINALS, search__objective="families")
    trials = [t.model_copy(update={"objectives": {"val/families": t.objective or 0.0}})
              for t in TRIALS]  # fmt: skip
    trainings = Trainings(
        lambda temperature, seed: metrics_of(99.0 + 0.9 * (temperature > 0.1) - 0.01 * (seed % 4))
    )
    found = run_finals(
        study, trials, folder=tmp_path, data_root=tmp_path, train=trainings,
        on_change=lambda finals: None,
    )  # fmt: skip
    assert found.objective == "mean logit AUROC over families"
    assert found.promoted
    assert found.gate is not None
    assert 2.0 < found.gate.mean < 3.0, "99 to 99.9 is a long way in logits"


def test_of_a_metric_that_is_minimised_less_is_better(tmp_path: Path) -> None:
    study = tiny(tmp_path, finals=FINALS, search__objective="val/fpr95")
    trials = [t.model_copy(update={"objective": 100 - (t.objective or 0)}) for t in TRIALS]

    def measure(temperature: float, seed: int) -> dict[str, float]:
        better = temperature > 0.1
        return metrics_of(90.0) | {"val/fpr95": 50.0 - 5 * better + 0.1 * (seed % 3) * better}

    found = run_finals(
        study, trials, folder=tmp_path, data_root=tmp_path, train=Trainings(measure),
        on_change=lambda finals: None,
    )  # fmt: skip
    assert found.objective == "-val/fpr95"
    assert found.promoted
    assert "objective is better than the base run's by 4.9" in found.sentence, "it is 4.9 below"


def test_without_another_complete_setting_the_base_run_stays(
    study: StudyConfig, tmp_path: Path
) -> None:
    trainings = Trainings(lambda temperature, seed: metrics_of(90.0))
    found = run_finals(
        study, TRIALS[:1], folder=tmp_path, data_root=tmp_path, train=trainings,
        on_change=lambda finals: None,
    )  # fmt: skip
    assert (found.promoted, trainings.trained) == (False, [])
    assert "no other setting of the search is complete" in found.sentence


def test_a_single_candidate_does_not_race(tmp_path: Path) -> None:
    study = tiny(tmp_path, finals={**FINALS, "candidates": 1})
    trainings = Trainings(lambda temperature, seed: metrics_of(90 + temperature + seed % 3))
    found, _ = hold(study, tmp_path, trainings)
    assert found.finalist == 2
    assert trainings.parts == ["confirmation"]


@pytest.mark.parametrize(
    ("changes", "whose"),
    [
        ({"rerun": {"seeds": [1, 1003]}}, "1003 is rerun.seeds's"),
        ({"run__seed": 1000}, "1000 is run.seed's"),
        ({"search__seeds": [0, 1005]}, "1005 is search.seeds's"),
    ],
)
def test_seeds_of_the_finals_are_nobody_elses(
    tmp_path: Path, changes: dict[str, Any], whose: str
) -> None:
    with pytest.raises(SpecError) as error:
        tiny(tmp_path, finals=FINALS, **changes)
    assert f"finals.first_seed: the finals use seeds 1000 to 1005, and {whose}" in str(error.value)


def test_finals_are_plain_json(study: StudyConfig, tmp_path: Path) -> None:
    found, _ = hold(study, tmp_path, Trainings(lambda t, seed: metrics_of(90 + t + seed % 3)))
    again = FinalsResult.model_validate_json(found.model_dump_json())
    assert again == found
    assert json.loads(found.model_dump_json())["candidates"].keys() == {"2", "3"}
