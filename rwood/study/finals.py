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
from rwood.study.plans import (
    BASE,
    Plan,
    confirm_plan,
    finals_folder,
    finals_of,
    label_of,
    race_plan,
    rules_of,
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

    `train` runs those of some trainings that are not done, and is told which part of the finals it
    is; `on_change` is told of the finals so far.
    """
    candidates = select_candidates(study, trials)
    finals = FinalsResult(
        candidates=candidates, rules=rules_of(study), objective=_name_of_values(study)
    )

    def train_all(plan: Plan, part: str) -> Runs:
        on_change(finals)
        jobs = [
            job_of(study, run, finals_folder(study, folder, label, run), data_root,
                   label=label, validates=True)
            for label, run in plan
        ]  # fmt: skip
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
        raced = train_all(race_plan(study, candidates), "race")
        weights = _weights(study, trials, raced)
        finals = _after_race(study, finals, raced, weights)
        assert finals.finalist is not None
        plan = confirm_plan(study, finals.finalist, candidates[finals.finalist])
        finals = _decided(study, finals, train_all(plan, "confirmation"), weights)
    on_change(finals)
    return finals


def _after_race(
    study: StudyConfig, finals: FinalsResult, raced: Runs, weights: FamilyWeights
) -> FinalsResult:
    """The finals with every candidate's values, and the winner; a single candidate has won."""
    if len(finals.candidates) == 1:
        return finals.model_copy(update={"finalist": next(iter(finals.candidates))})
    values = {n: _values(study, raced[label_of(n)], weights) for n in finals.candidates}
    return finals.model_copy(
        update={"race": values, "finalist": race(values), "notes": weights.sentences}
    )


def _decided(
    study: StudyConfig, finals: FinalsResult, confirmed: Runs, weights: FamilyWeights
) -> FinalsResult:
    """The finals with their verdict, from the finalist's and the base run's seeds, pair by pair."""
    assert finals.finalist is not None
    rule, families = finals_of(study), families_of(study.benchmark)
    ours, base = confirmed[label_of(finals.finalist)], confirmed[BASE]
    values = {"finalist": _values(study, ours, weights), "base": _values(study, base, weights)}
    gains = [a - b for a, b in zip(values["finalist"], values["base"], strict=True)]
    points = [
        (family_points(ours[seed].metrics, families), family_points(base[seed].metrics, families))
        for seed in rule.confirmation
    ]
    by_family = {name: [a[name] - b[name] for a, b in points] for name in points[0][0]}
    gated, guarded = gate(gains, rule.alpha), guard(by_family, GUARD_ALPHA, rule.delta)
    decision = verdict(finals.finalist, gated, guarded)
    measured = {"confirmation": values, "seeds": tuple(ours), "gate": gated, "guard": guarded}
    return finals.model_copy(update=measured | vars(decision))


def _weights(study: StudyConfig, trials: Sequence[TrialResult], runs: Runs) -> FamilyWeights:
    """How much each family counts: by the search and the race alone."""
    families = families_of(study.benchmark)
    if study.the_search.primary != FAMILIES:
        return FamilyWeights(dict.fromkeys(families, 1.0))
    complete = [t for t in trials if t.objective is not None and not t.outside]
    last = [trial.history[-1].metrics for trial in complete if trial.history]
    return reliability_weights(
        families,
        [] if study.the_search.seeds else [family_values(each, families) for each in last],
        [
            [family_values(run.metrics, families) for run in seeds.values()]
            for seeds in runs.values()
        ],
    )


def _values(
    study: StudyConfig, runs: Mapping[int, FinalsRun], weights: FamilyWeights
) -> tuple[float, ...]:
    """A setting's objective by seed, higher being better; in logits if it is over families."""
    name = study.the_search.primary
    if name == FAMILIES:
        families, by_family = families_of(study.benchmark), weights.by_family
        return tuple(
            objective(family_values(run.metrics, families), by_family) for run in runs.values()
        )
    sign = -1 if is_minimized(name) else 1
    return tuple(sign * run.metrics[name] for run in runs.values())


def _name_of_values(study: StudyConfig) -> str:
    """What the numbers of the finals are."""
    name = study.the_search.primary
    if name == FAMILIES:
        return "mean logit AUROC over families"
    return f"-{name}" if is_minimized(name) else name


def finals_run(job: Job) -> FinalsRun | None:
    """The result of a training that is done; None if it is not, or was another training."""
    path = job.paths.result
    if not path.exists():
        return None
    run = results.load(FinalsRun, path)
    return run if run.digest == job.digest else None
