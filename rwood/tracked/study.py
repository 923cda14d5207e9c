"""Records of a study -> how their runs should look in MLflow."""

from rwood.config.run import RunConfig
from rwood.config.search import settings
from rwood.config.study import StudyConfig
from rwood.results import EpochReport, RunResult, StudyResult, TrialResult
from rwood.tracked.measures import MEANS, cost, flat, held_seconds, over_seeds
from rwood.tracked.run import (
    Artifacts,
    Inputs,
    TrackedRun,
    benchmark_key,
    rerun_key,
    search_key,
    setting_key,
    trial_key,
)
from rwood.tracked.text import said, search_params, trial_note
from rwood.tracked.views import experiment_tags


def search_run(
    study: StudyConfig,
    record: StudyResult,
    *,
    state: str,
    artifacts: Artifacts = (),
    inputs: Inputs = (),
) -> TrackedRun:
    """The search as a whole: parent of the trials."""
    complete = {t.number: t for t in record.trials if t.state == "complete"}
    metrics = {"trials": float(len(record.trials)), "trials_complete": float(len(complete))}
    tags = {"rwood.kind": "search"} | said(study, record)
    links = {}
    if record.objective is not None:
        tags["rwood.objective"] = record.objective
    if len(record.objectives) > 1:
        tags["rwood.objectives"] = ", ".join(record.objectives)
    if record.champion is not None:
        tags["rwood.champion"] = str(record.champion)
        if record.champion in complete:
            metrics |= _goals(complete[record.champion])
        links["rwood.champion_run_id"] = trial_key(record, record.champion)
    return TrackedRun(
        key=search_key(record),
        name="search",
        state=state,
        params=_params(study, study.run) | search_params(study),
        tags=version_tags(record) | tags | {"rwood.digest": record.trial_digest},
        metrics=metrics if state == "complete" else {},
        artifacts=artifacts,
        inputs=inputs,
        links=links,
    )


def trial_run(record: StudyResult, trial: TrialResult, *, inputs: Inputs = ()) -> TrackedRun:
    """A trial: child of the search."""
    links = {"rwood.search_run_id": search_key(record)}
    tags = {"rwood.kind": "trial", "rwood.trial": str(trial.number), "rwood.digest": trial.digest}
    tags["mlflow.note.content"] = trial_note(record, trial)
    if record.champion is not None:
        tags["rwood.is_champion"] = str(trial.number == record.champion).lower()
    if trial.number == record.champion:
        links["rwood.benchmark_run_id"] = benchmark_key(record)
    if trial.state == "pruned":
        tags["rwood.pruned"] = "true"
    if trial.error:
        tags["rwood.error"] = trial.error[:4000]
    if len(record.objectives) > 1 and record.champion is not None:
        tags["rwood.on_front"] = str(trial.number in record.front).lower()
    metrics = _goals(trial)
    if trial.state != "running":
        metrics |= cost(record, trial.history, held_seconds(trial))
        metrics["epochs"] *= record.trainings_per_trial
    return TrackedRun(
        key=trial_key(record, trial.number),
        name=f"trial-{trial.number:04d}",
        parent=search_key(record),
        # Outside of the present space it does not go on, unless the range is widened again.
        state="interrupted" if trial.outside and trial.state == "running" else trial.state,
        started=trial.started,
        finished=trial.finished,
        params=trial.params,
        tags=version_tags(record) | tags,
        history=trial.history,
        metrics=metrics,
        inputs=inputs,
        links=links,
    )


def benchmark_run(
    study: StudyConfig,
    record: StudyResult,
    *,
    state: str,
    artifacts: Artifacts = (),
    inputs: Inputs = (),
    results: str = "",
) -> TrackedRun:
    """The benchmark as a whole: parent of settings and reruns, with near and far means.

    The results, in Markdown, are its description and the experiment's.
    """
    metrics: dict[str, float] = {}
    for label in ("base", "champion"):
        each = [{k: v for k, v in flat(run).items() if k in MEANS} for run in record.of(label)]
        metrics |= over_seeds(each, f"{label}/")
    description = said(study, record)
    if results:
        description["mlflow.note.content"] = f"{study.question} {results}"
    return TrackedRun(
        key=benchmark_key(record),
        name="benchmark",
        state=state,
        params=_params(study, study.run),
        tags=version_tags(record) | {"rwood.kind": "benchmark"} | description,
        metrics=metrics,
        artifacts=artifacts,
        inputs=inputs,
        links=_origin(record),
        experiment=experiment_tags(study, results),
    )


def setting_run(study: StudyConfig, record: StudyResult, label: str, run: RunConfig) -> TrackedRun:
    """A rerun setting over all its seeds: mean and std of every metric, in one row.

    Its name is `base`, `champion-trial-0004` or, as `trial-0007` is that trial of the search,
    `rerun-trial-0007`.
    """
    runs = record.of(label)
    key = setting_key(record, label)
    of = key.rpartition("/")[2]
    role = "rerun" if label.startswith("trial-") else label
    return TrackedRun(
        key=key,
        name=of if of == role else f"{role}-{of}",
        parent=benchmark_key(record),
        state="complete",
        params={k: v for k, v in _params(study, run).items() if k != "seed"},
        tags=version_tags(record) | {"rwood.kind": "setting", "rwood.label": label},
        metrics={"seeds": float(len(runs))} | over_seeds([flat(one) for one in runs]),
        links=_origin(record) if label == "champion" else {},
    )


def rerun_run(
    study: StudyConfig,
    record: StudyResult,
    *,
    label: str,
    run: RunConfig,
    digest: str,
    history: tuple[EpochReport, ...],
    result: RunResult | None = None,
    artifacts: Artifacts = (),
    inputs: Inputs = (),
) -> TrackedRun:
    """One seed of a rerun: child of the benchmark; complete once it has a result."""
    return TrackedRun(
        key=rerun_key(record, label, digest),
        name=f"{label}-seed{run.seed}",
        parent=benchmark_key(record),
        state="running" if result is None else "complete",
        finished=history[-1].time if result and history else None,
        params=_params(study, run),
        tags=version_tags(record)
        | {"rwood.kind": "rerun", "rwood.label": label, "rwood.digest": digest},
        history=history,
        metrics=flat(result) | cost(record, result.history, result.seconds) if result else {},
        artifacts=artifacts,
        inputs=inputs,
        links=_origin(record) if label == "champion" else {},
    )


def _goals(trial: TrialResult) -> dict[str, float]:
    """`objective`, of a complete trial; of several `objective/<name>`; std over its seeds."""
    if trial.objective is None:
        return {}
    metrics = {"objective": trial.objective}
    for place, (name, value) in enumerate(trial.objectives.items()):
        key = f"objective/{name}" if len(trial.objectives) > 1 else "objective"
        metrics[key] = value
        if name in trial.spread:
            metrics[f"{key}/std"] = trial.spread[name]
            if place == 0:
                metrics["objective/std"] = trial.spread[name]
    return metrics


def _params(study: StudyConfig, run: RunConfig) -> dict[str, object]:
    return settings(run) | {"benchmark": study.benchmark.name}


def version_tags(record: StudyResult) -> dict[str, str]:
    """Versions of packages, and the commit, that a study ran with."""
    return {f"rwood.{name}": version for name, version in record.versions.items()}


def _origin(record: StudyResult) -> dict[str, str]:
    """Links from a benchmark back to what it measures."""
    if record.champion is None:
        return {}
    champion = trial_key(record, record.champion)
    return {"rwood.search_run_id": search_key(record), "rwood.champion_run_id": champion}
