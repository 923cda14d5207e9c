"""Time left, on a simulated cluster: trials of known length, two at a time."""

import heapq
import json
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from rwood.config.study import StudyConfig
from rwood.progress.eta import reruns_left, trials_left
from rwood.results import EpochReport, TrialResult
from tests.report.a_study import make_config

START_S, EPOCH_S, TRIALS = 3.0, 2.0, 60
RUNGS = ((2, 0.67), (6, 0.22), (20, 0.11))
"""Epochs at which trials end, and how many of them do: early stopping with reduction 3."""


def config() -> StudyConfig:
    plain = json.loads(make_config().model_dump_json())
    pruner = {"name": "asha", "min_resource": 2, "reduction_factor": 3}
    plain["search"] |= {"trials": TRIALS, "pruner": pruner}
    plain["run"]["schedule"]["warmup"] = "none"
    return StudyConfig.model_validate_json(json.dumps(plain))


def whole_search(study: StudyConfig) -> list[TrialResult]:
    """Every trial as it will have been, from second 1000 on."""
    rng = np.random.default_rng(5)
    lengths, shares = zip(*RUNGS, strict=True)
    free = [1000.0] * study.cluster.max_concurrent
    trials = []
    for number in range(TRIALS):
        begun = heapq.heappop(free)
        epochs = 20 if number < 2 else int(rng.choice(lengths, p=shares))
        times = begun + START_S + np.cumsum(EPOCH_S * rng.uniform(0.7, 1.3, epochs))
        history = tuple(EpochReport(epoch=n + 1, time=t, metrics={}) for n, t in enumerate(times))
        ended = float(times[-1]) + 0.5
        state = "complete" if epochs == 20 else "pruned"
        trials.append(TrialResult(number=number, params={}, state=state, digest="", started=begun,
                                  finished=ended, history=history))  # fmt: skip
        heapq.heappush(free, ended)
    return trials


def as_of(trials: list[TrialResult], at: float) -> Iterator[TrialResult]:
    """What is known of them at a time."""
    for trial in trials:
        if trial.started <= at:
            history = tuple(report for report in trial.history if report.time <= at)
            over = (trial.finished or 0.0) <= at
            yield (
                trial
                if over
                else trial.model_copy(
                    update={"state": "running", "finished": None, "history": history}
                )
            )


def left(study: StudyConfig, trials: Iterable[TrialResult]) -> float | None:
    known = list(trials)
    return trials_left(study, known, begun=len(known))


def test_time_left_converges() -> None:
    study = config()
    trials = whole_search(study)
    end = max(t.finished or 0.0 for t in trials)
    whole = end - 1000.0
    errors = {}
    for share in (0.3, 0.5, 0.7, 0.9, 0.97):
        at = 1000.0 + share * whole
        told = left(study, as_of(trials, at))
        assert told is not None
        errors[share] = abs(told - (end - at)) / whole
    assert errors[0.3] < 0.2
    assert errors[0.5] < 0.2
    assert errors[0.97] < 0.06
    assert left(study, trials) == 0.0


def test_unknown_before_two_epochs_and_not_moved_by_a_pause() -> None:
    study = config()
    trials = whole_search(study)
    assert left(study, []) is None
    assert left(study, as_of(trials, 1000.0 + START_S + 1.5 * EPOCH_S)) is None
    seen = list(as_of(trials, 1200.0))
    before = left(study, seen)
    assert before is not None
    late = [t if t.state != "running" else t.model_copy(update={"history": tuple(
        r.model_copy(update={"time": r.time + 7200.0 * (r.epoch > 1)}) for r in t.history)})
        for t in seen]  # fmt: skip
    assert left(study, late) == pytest.approx(before, rel=0.3), "a pause"


def test_a_rerun_cut_in_its_middle_does_not_count_the_stop() -> None:
    times = [1.0, 3.0, 5.0, 9005.0, 9007.0]  # the study stood still after the third epoch
    history = [EpochReport(epoch=n + 1, time=t, metrics={}) for n, t in enumerate(times)]
    assert reruns_left(config(), {"base-seed1": history}) == pytest.approx(15 * EPOCH_S)


def test_reruns_take_their_own_pace_or_that_of_the_trials() -> None:
    study = config()
    trials = whole_search(study)
    waiting = {f"champion-seed{n}": () for n in (1, 2, 3, 4)}
    assert reruns_left(study, waiting) is None
    assert reruns_left(study, waiting, trials) == pytest.approx(4 * 20 * EPOCH_S / 2, rel=0.2)
    history = tuple(EpochReport(epoch=n, time=10.0 * n, metrics={}) for n in (1, 2, 3))
    told = reruns_left(study, waiting | {"champion-seed1": history}, trials)
    assert told == pytest.approx((3 * 20 + 17) * 10.0 / 2)
    done = tuple(EpochReport(epoch=n, time=10.0 * n, metrics={}) for n in range(1, 21))
    assert reruns_left(study, {"champion-seed1": done}) == 0.0
