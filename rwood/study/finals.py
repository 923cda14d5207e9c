"""What the results of the finals say: the race's winner, and whether it is promoted.

On validation sets only, with seeds that neither the search nor the reruns use. The rules are in
`rwood/search/finals.py`; here the numbers are taken out of the trainings' reports.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rwood import results
from rwood.config.benchmark import families_of
from rwood.config.study import FAMILIES, StudyConfig, is_minimized
from rwood.evaluation.families import (
    FamilyWeights,
    family_points,
    family_values,
    objective,
    reliability_weights,
)
from rwood.ray_backend.job import Job, job_of
from rwood.results import FinalsResult, FinalsRun, TrialResult
from rwood.search.finals import gate, guard, race, verdict
from rwood.study.finals_plan import (
    BASE,
    FinalsTraining,
    confirm_plan,
    finals_of,
    label_of,
    race_plan,
    select_candidates,
)

GUARD_ALPHA = 0.5
"""The guard refuses a mean loss of more than delta. A level of .1, at which it would have to be
shown that no family loses, costs most of the gain (`python -m tests.search.finals_simulation`)."""
NO_RIVAL = "The base run stays, because no other setting of the search is complete."

Runs = Mapping[str, Mapping[int, FinalsRun]]
"""Label -> seed -> the training's result."""


def run_finals(
    study: StudyConfig,
    trials: Sequence[TrialResult],
    *,
    folder: Path,
    data_root: Path,
    train: Callable[[list[Job], str], None],
    on_change: Callable[[FinalsResult], None],
) -> FinalsResult:
    """Race, confirmation and verdict; what is done already is not trained again.

    Args:
        study: with a search and finals.
        trials: of the search.
        folder: results folder of the study.
        data_root: where image sets lie.
        train: runs those of some trainings that are not done; told which part of the finals it is.
        on_change: told of the finals so far.
    """
    params = {trial.number: trial.params for trial in trials}
    candidates = {number: params[number] for number in select_candidates(study, trials)}
    finals = FinalsResult(candidates=candidates, objective=name_of_values(study))

    def trained(plan: list[FinalsTraining], part: str) -> Runs:
        on_change(finals)
        jobs = [finals_job(t, study, folder=folder, data_root=data_root) for t in plan]
        if jobs:
            train(jobs, part)
        runs: dict[str, dict[int, FinalsRun]] = {}
        for job in jobs:
            run = finals_run(job)
            assert run is not None
            runs.setdefault(run.label, {})[run.seed] = run
        return runs

    if not candidates:
        finals = finals.model_copy(update={"promoted": False, "sentence": NO_RIVAL})
    else:
        raced = trained(race_plan(study, candidates), "race")
        finals = run_race(study, finals, trials, raced)
        assert finals.finalist is not None
        plan = confirm_plan(study, finals.finalist, candidates[finals.finalist])
        finals = decide(study, finals, trials, raced, trained(plan, "confirmation"))
    on_change(finals)
    return finals


def finals_job(
    training: FinalsTraining, study: StudyConfig, *, folder: Path, data_root: Path
) -> Job:
    """A training of the finals as it travels to a worker."""
    run, place = training.run, training.folder(study, folder)
    return job_of(study, run, place, data_root, label=training.label, validates=True)


def finals_run(job: Job) -> FinalsRun | None:
    """The result of a training that is done; None if it is not, or was another training."""
    path = job.paths.result
    if not path.exists():
        return None
    run = results.load(FinalsRun, path)
    return run if run.digest == job.digest else None


def weights_of(study: StudyConfig, trials: Sequence[TrialResult], runs: Runs) -> FamilyWeights:
    """How much each family counts in the confirmation: by the search and the race alone.

    Args:
        study: whose finals.
        trials: of the search.
        runs: of the race.
    """
    assert study.search is not None
    families = families_of(study.benchmark)
    if study.search.primary != FAMILIES:
        return FamilyWeights(dict.fromkeys(families, 1.0))
    complete = [t for t in trials if t.objective is not None and not t.outside]
    last = [trial.history[-1].metrics for trial in complete if trial.history]
    return reliability_weights(
        families,
        [family_values(metrics, families) for metrics in last] if not study.search.seeds else [],
        [
            [family_values(run.metrics, families) for run in seeds.values()]
            for seeds in runs.values()
        ],
    )


def value_of(study: StudyConfig, metrics: Mapping[str, float], weights: FamilyWeights) -> float:
    """The objective of one training, higher being better; in logits if it is over families."""
    assert study.search is not None
    name = study.search.primary
    if name == FAMILIES:
        return objective(family_values(metrics, families_of(study.benchmark)), weights.by_family)
    return -metrics[name] if is_minimized(name) else metrics[name]


def name_of_values(study: StudyConfig) -> str:
    """What the numbers of the finals are."""
    assert study.search is not None
    name = study.search.primary
    if name == FAMILIES:
        return "mean logit AUROC over families"
    return f"-{name}" if is_minimized(name) else name


def run_race(
    study: StudyConfig, finals: FinalsResult, trials: Sequence[TrialResult], runs: Runs
) -> FinalsResult:
    """The finals after the race: every candidate's values, and the winner."""
    weights = weights_of(study, trials, runs)
    if len(finals.candidates) == 1:
        return finals.model_copy(update={"finalist": next(iter(finals.candidates))})
    values = {
        number: [value_of(study, run.metrics, weights) for run in runs[label_of(number)].values()]
        for number in finals.candidates
    }
    return finals.model_copy(
        update={
            "race": {number: tuple(row) for number, row in values.items()},
            "finalist": race(values),
            "notes": weights.sentences,
        }
    )


def decide(
    study: StudyConfig,
    finals: FinalsResult,
    trials: Sequence[TrialResult],
    raced: Runs,
    confirmed: Runs,
) -> FinalsResult:
    """The finals with their verdict.

    Args:
        study: whose finals.
        finals: after the race.
        trials: of the search.
        raced: results of the race.
        confirmed: results of the finalist and the base run, with the same seeds.
    """
    assert finals.finalist is not None
    rule, weights = finals_of(study), weights_of(study, trials, raced)
    families = families_of(study.benchmark)
    ours, base = confirmed[label_of(finals.finalist)], confirmed[BASE]
    values = {
        "finalist": [value_of(study, ours[s].metrics, weights) for s in rule.confirmation],
        "base": [value_of(study, base[s].metrics, weights) for s in rule.confirmation],
    }
    gains = [a - b for a, b in zip(values["finalist"], values["base"], strict=True)]
    points = [
        (family_points(ours[s].metrics, families), family_points(base[s].metrics, families))
        for s in rule.confirmation
    ]
    by_family = {name: [a[name] - b[name] for a, b in points] for name in points[0][0]}
    found = verdict(
        finals.finalist,
        gate(gains, rule.alpha),
        guard(by_family, GUARD_ALPHA, rule.delta),
    )
    return finals.model_copy(
        update={
            "confirmation": {name: tuple(row) for name, row in values.items()},
            "promoted": found.promoted,
            "sentence": found.sentence,
            "gate": found.gate,
            "guard": dict(found.guard),
        }
    )
