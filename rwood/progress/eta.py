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


def trials_left(study: StudyConfig, trials: Iterable[TrialResult], *, begun: int) -> float | None:
    """Seconds until the search is over; None before a trial has reported two epochs.

    A trial that has not begun is expected to run as many epochs as those before it did, at first as
    many as early stopping lets an average trial run; one that runs may be stopped at its next rung.
    Of the trials that are over the last ones suffice; `begun` counts all so far.
    """
    from rwood.cost import expected_epochs

    known = list(trials)
    epoch_s = _usual_epoch_s(trial.history for trial in known)
    if epoch_s is None:
        return None
    beside_s = statistics.median_low(_beside_reports_s(t) for t in known if len(t.history) > 1)
    start_s = max(0.0, beside_s - epoch_s)
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
    epoch_s = _usual_epoch_s(histories.values()) or _usual_epoch_s(t.history for t in trials)
    if epoch_s is None:
        return None
    done = {name: history[-1].epoch if history else 0 for name, history in histories.items()}
    left = (epochs.get(name, study.run.epochs) - epoch for name, epoch in done.items())
    return _shared([count * epoch_s for count in left if count > 0], study)


def _usual_epoch_s(histories: Iterable[History]) -> float | None:
    """Median seconds of an epoch of the last trainings; None if none has reported two."""
    timed = sorted((h for h in histories if len(h) > 1), key=lambda history: history[-1].time)
    return statistics.median(map(_epoch_s, timed[-_RECENT:])) if timed else None


def _beside_reports_s(trial: TrialResult) -> float:
    """Seconds of a trial until its first report and after its last."""
    first, last = trial.history[0].time, trial.history[-1].time
    return first - trial.started + (trial.finished or last) - last


def _epoch_s(history: History) -> float:
    gaps = [after.time - before.time for before, after in itertools.pairwise(history)]
    return statistics.fmean(without_stops(gaps, history))


def _shared(works: Sequence[float], study: StudyConfig) -> float:
    """Seconds for works of so many seconds each, as many at a time as the study allows."""
    return max(sum(works) / study.cluster.max_concurrent, max(works)) if works else 0.0
