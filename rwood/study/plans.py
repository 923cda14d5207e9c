"""Which trainings the finals and the benchmark of a study take; from records alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rwood.config.held_out import without_held_out
from rwood.config.run import RunConfig
from rwood.config.search import Params, apply
from rwood.config.study import FinalsConfig, StudyConfig, run_digest
from rwood.paths import StudyPaths
from rwood.results import FinalsResult, StudyResult, TrialResult
from rwood.selection import rank_trials

BASE, CHAMPION = "base", "champion"
ALONE = "train"
"""Label of what `rwood train` trains, beside the reruns."""
Plan = list[tuple[str, RunConfig]]
"""Trainings: a label, `champion`, `base` or `trial-0007`, and a run with its seed."""


def finals_folder(study: StudyConfig, study_folder: Path, label: str, run: RunConfig) -> Path:
    """Where a training of the finals keeps its checkpoints and result."""
    digest = run_digest(run, study.benchmark)
    return StudyPaths(study_folder).finals(label, run.seed, digest).folder


def is_decided(study: StudyConfig, record: StudyResult, trials: Iterable[TrialResult]) -> bool:
    """True if the champion is that of the present trials and rules, proved if there are finals."""
    if study.search is None:
        return True
    if study.finals is None:
        ranked = rank_trials(trials, study.search.objectives)
        return record.finals is None and bool(ranked) and record.champion == ranked[0].number
    finals = record.finals
    if finals is None or finals.promoted is None or finals.rules != rules_of(study):
        return False
    if finals.candidates != select_candidates(study, trials):
        return False
    # A process may be killed between the verdict and the champion.
    winner = finals.finalist if finals.promoted else None
    return record.champion_params == ({} if winner is None else finals.candidates[winner])


def trials_to_run(study: StudyConfig, trials: Iterable[TrialResult]) -> int:
    """How many trials a search has to run: more than it asks for if so many were interrupted."""
    states = [trial.state for trial in trials if not trial.outside]
    running = states.count("running")
    return max(running, study.the_search.trials - len(states) + running)


def finals_of(study: StudyConfig) -> FinalsConfig:
    """The finals of a study that has some."""
    assert study.finals is not None
    return study.finals


def rules_of(study: StudyConfig) -> dict[str, object]:
    """The finals of a study as plain JSON."""
    return finals_of(study).model_dump(mode="json")


def label_of(number: int) -> str:
    """What a trial's setting is called in finals and reruns."""
    return f"trial-{number:04d}"


def select_candidates(study: StudyConfig, trials: Iterable[TrialResult]) -> dict[int, Params]:
    """The trials that race, with their settings: the best of the search but the base run.

    Of trials with the same settings the first one stands for all.
    """
    first: dict[str, TrialResult] = {}
    for trial in rank_trials(trials, study.the_search.objectives):
        if apply(study.run, trial.params) != study.run:
            first.setdefault(trial.digest, trial)
    best = list(first.values())[: finals_of(study).candidates]
    return {trial.number: trial.params for trial in best}


def race_plan(study: StudyConfig, candidates: Mapping[int, Params]) -> Plan:
    """Trainings of the race; none for a single candidate, which has won."""
    if len(candidates) < 2:
        return []
    return [
        (label_of(number), _seeded(study, params, seed))
        for number, params in candidates.items()
        for seed in finals_of(study).race
    ]


def confirm_plan(study: StudyConfig, finalist: int, params: Params) -> Plan:
    """Trainings of the finalist and of the base run, pair by pair."""
    return [
        (label, _seeded(study, settings, seed))
        for seed in finals_of(study).confirmation
        for label, settings in ((label_of(finalist), params), (BASE, Params()))
    ]


def known_plan(study: StudyConfig, finals: FinalsResult) -> Plan:
    """Every training of the finals that is known so far: those to confirm once the race is over."""
    plan = race_plan(study, finals.candidates)
    if finals.finalist is not None:
        plan += confirm_plan(study, finals.finalist, finals.candidates[finals.finalist])
    return plan


def _seeded(study: StudyConfig, params: Params, seed: int) -> RunConfig:
    return apply(apply(study.run, params), {"seed": seed})


def rerun_plan(study: StudyConfig, champion: Params, trials: Iterable[TrialResult]) -> Plan:
    """Label and run of every rerun: champion, base, then trials; each seed by seed.

    The trials are the first `rerun.trials` that ended, complete or pruned, so that none is chosen
    by its result. A setting that stands before under another label is not trained twice.
    """
    runs = {CHAMPION: apply(study.run, champion)}
    if study.rerun.base and runs[CHAMPION] != study.run:
        runs[BASE] = study.run
    ended = [t for t in trials if t.state in ("complete", "pruned") and not t.outside]
    for trial in ended[: study.rerun.trials]:
        run = apply(study.run, trial.params)
        if run not in runs.values():
            runs[label_of(trial.number)] = run
    return [
        (label, apply(run, {"seed": seed}))
        for label, run in runs.items()
        for seed in study.rerun.seeds
    ]


def rerun_folder(study: StudyConfig, study_folder: Path, label: str, run: RunConfig) -> Path:
    """Where a rerun keeps its checkpoints and result: another champion gets another folder."""
    digest = run_digest(run, without_held_out(study.benchmark))
    return StudyPaths(study_folder).rerun(label, run.seed, digest).folder
