"""What the benchmark stage reruns: the champion, the base run, trials; from records alone."""

from collections.abc import Iterable
from pathlib import Path

from rwood.config.held_out import without_held_out
from rwood.config.run import RunConfig
from rwood.config.search import Params, apply
from rwood.config.study import StudyConfig, run_digest
from rwood.paths import StudyPaths
from rwood.results import TrialResult
from rwood.study.finals_plan import BASE, label_of

CHAMPION = "champion"


def rerun_plan(
    study: StudyConfig, champion: Params, trials: Iterable[TrialResult]
) -> list[tuple[str, RunConfig]]:
    """Label and run of every rerun: champion, base, then trials; each seed by seed.

    The trials are the first `rerun.trials` that ended, complete or pruned, so that none is chosen
    by its result. A setting that stands before under another label is not trained twice.

    Returns:
        Runs with their seeds; labels are `champion`, `base` and `trial-0007`.
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
