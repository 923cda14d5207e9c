"""How long the rest of a stage takes, from what its trainings reported and from nothing else.

No clock is asked, so an estimate does not grow while nothing happens, hours in which the study
stood still do not count, and whoever has the records gets the same answer.
"""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from rwood.config.study import StudyConfig
from rwood.results import EpochReport, TrialResult
from rwood.tracked.measures import without_stops

_RECENT = 8
"""Trainings that the pace is taken from: the last ones tell best how busy the machine is."""
_PRIOR = 3
"""How many trials' worth the rule of early stopping counts beside the trials that are over."""

History = Sequence[EpochReport]
_Cost = tuple[float, float]


def trials_left(study: StudyConfig, trials: Iterable[TrialResult], *, begun: int) -> float | None:
    """Seconds until the search is over; None before a trial has reported two epochs.

    A trial that has not begun is expected to run as many epochs as those before it did, at first as
    many as early stopping lets an average trial run; one that runs may be stopped at its next rung.
    Of the trials that are over the last ones suffice; `begun` counts all so far.
    """
    from rwood.cost import expected_epochs

    known = list(trials)
    ends = ((t.finished or (t.history[-1].time if t.history else t.started)) for t in known)
    cost = _cost([((t.started, end), t.history) for t, end in zip(known, ends, strict=True)])
    if cost is None:
        return None
    start_s, epoch_s = cost
    over = [len(t.history) for t in known if t.state in ("complete", "pruned")]
    prior = expected_epochs(study)
    usual = (sum(over) + _PRIOR * prior) / (len(over) + _PRIOR)
    running = [len(t.history) for t in known if t.state == "running"]
    works = [expected_epochs(study, reached) * epoch_s + start_s * (not reached)
             for reached in running]  # fmt: skip
    waiting = max(0, study.the_search.trials - begun)
    works += [start_s + usual * epoch_s] * waiting
    return _shared(works, study)


def reruns_left(
    study: StudyConfig,
    histories: Mapping[str, History],
    trials: Iterable[TrialResult] = (),
    epochs: Mapping[str, int] = MappingProxyType({}),
) -> float | None:
    """Seconds until all reruns are trained; None where nothing has told a pace yet.

    A rerun that waits has an empty history; trials tell the pace until the reruns do. `epochs` is
    how many each has, where it is known to be another number than the study's.
    """
    cost = _cost([(None, history) for history in histories.values()])
    cost = cost or _cost([(None, trial.history) for trial in trials])
    if cost is None:
        return None
    _, epoch_s = cost
    done = {name: history[-1].epoch if history else 0 for name, history in histories.items()}
    left = (epochs.get(name, study.run.epochs) - epoch for name, epoch in done.items())
    return _shared([count * epoch_s for count in left if count > 0], study)


def _cost(trainings: Sequence[tuple[tuple[float, float] | None, History]]) -> _Cost | None:
    """Median seconds beside the epochs (start, end), and of an epoch, of the last trainings."""
    timed = [training for training in trainings if len(training[1]) > 1]
    timed = sorted(timed, key=lambda training: training[1][-1].time)[-_RECENT:]
    if not timed:
        return None
    spans = [history[-1].time - history[0].time for _, history in timed]
    epoch_s = statistics.median(_epoch_s(history) for _, history in timed)
    beside = [
        times[1] - times[0] - span - epoch_s
        for (times, _), span in zip(timed, spans, strict=True)
        if times is not None
    ]
    return max(0.0, statistics.median_low(beside) if beside else 0.0), epoch_s


def _epoch_s(history: History) -> float:
    gaps = [after.time - before.time for before, after in itertools.pairwise(history)]
    return statistics.fmean(without_stops(gaps, history))


def _shared(works: Sequence[float], study: StudyConfig) -> float:
    """Seconds for works of so many seconds each, as many at a time as the study allows."""
    return max(sum(works) / study.cluster.max_concurrent, max(works)) if works else 0.0
