"""Which trial is best: by one objective, or the Pareto front of several and its champion."""

import math
from collections.abc import Iterable, Sequence

from rwood.config.study import is_minimized
from rwood.errors import StudyError
from rwood.results import TrialResult


def select_champion(trials: Iterable[TrialResult], objectives: Sequence[str]) -> TrialResult:
    """The best complete trial, chosen on validation sets alone.

    By one objective: the one with its best value. By several: the trial of the Pareto front with
    the least distance to the ideal point (see `distances`). Ties go to the better first objective,
    then to the lower number.

    Raises:
        StudyError: no trial is complete.
    """
    ranked = rank_trials(trials, objectives)
    if not ranked:
        raise StudyError(
            "no complete trial: nothing can be selected; raise search.trials or look at the "
            "failed trials' errors"
        )
    return ranked[0]


def rank_trials(trials: Iterable[TrialResult], objectives: Sequence[str]) -> list[TrialResult]:
    """Complete trials of the present space, the best first.

    By one objective: by its value. By several: the Pareto front by distance to the ideal point,
    then the others by the first objective.
    """
    complete = [trial for trial in trials if _counts(trial)]
    if not complete:
        return []
    distance = distances(pareto_front(complete, objectives), objectives)

    def order(trial: TrialResult) -> tuple[float, float, int]:
        cost = _costs(trial, objectives)[0]
        behind = 0.0 if len(objectives) == 1 else distance.get(trial.number, math.inf)
        return behind, cost, trial.number

    return sorted(complete, key=order)


def pareto_front(trials: Iterable[TrialResult], objectives: Sequence[str]) -> list[TrialResult]:
    """Complete trials of the present space that no other one dominates, by number.

    By one objective: the best trial, and those that equal it.
    """
    complete = [trial for trial in trials if _counts(trial)]
    front: list[tuple[list[float], TrialResult]] = []
    for trial in sorted(complete, key=lambda t: (_costs(t, objectives), t.number)):
        # Sorted so, only trials already on the front can dominate one.
        cost = _costs(trial, objectives)
        if not any(_dominates(better, cost) for better, _ in front):
            front.append((cost, trial))
    return sorted((trial for _, trial in front), key=lambda t: t.number)


def distances(front: Sequence[TrialResult], objectives: Sequence[str]) -> dict[int, float]:
    """Trial number -> distance to the ideal point, from 0 to the root of the number of objectives.

    The ideal point has the front's best value of every objective; distances are Euclidean after
    each objective is scaled to the front's own range (compromise programming: Zeleny, 1973), so
    that neither a unit nor a wide range weighs more. An objective that is the same on the whole
    front does not count.
    """
    costs = {trial.number: _costs(trial, objectives) for trial in front}
    total = dict.fromkeys(costs, 0.0)
    for place in range(len(objectives)):
        column = [row[place] for row in costs.values()]
        low, width = min(column), max(column) - min(column)
        for number, row in costs.items():
            total[number] += ((row[place] - low) / width) ** 2 if width > 0 else 0.0
    return {number: value**0.5 for number, value in total.items()}


def values_of(trial: TrialResult, objectives: Sequence[str]) -> dict[str, float]:
    """Every objective of a complete trial."""
    assert trial.objective is not None
    return {objectives[0]: trial.objective} | {n: trial.objectives[n] for n in objectives[1:]}


def _counts(trial: TrialResult) -> bool:
    """True of a complete trial of the present space."""
    return trial.state == "complete" and trial.objective is not None and not trial.outside


def _costs(trial: TrialResult, objectives: Sequence[str]) -> list[float]:
    """Every objective so that less is better."""
    values = values_of(trial, objectives)
    return [values[name] * (1 if is_minimized(name) else -1) for name in objectives]


def _dominates(a: list[float], b: list[float]) -> bool:
    """Whether `a` costs at most as much as `b` in every objective and less in one."""
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))
