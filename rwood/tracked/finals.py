"""Records of the finals -> how their runs should look in MLflow."""

from collections.abc import Sequence

from rwood.config.run import RunConfig
from rwood.config.search import settings
from rwood.config.study import StudyConfig
from rwood.results import EpochReport, FinalsRun, StudyResult
from rwood.tracked.measures import cost, over_seeds
from rwood.tracked.run import Inputs, TrackedRun
from rwood.tracked.study import version_tags


def finals_key(record: StudyResult) -> str:
    """Key of the finals."""
    return f"{record.id}/finals"


def finals_run(
    study: StudyConfig, record: StudyResult, *, state: str, inputs: Inputs = ()
) -> TrackedRun:
    """The finals as a whole: parent of settings and trainings, with the verdict."""
    metrics: dict[str, float] = {}
    tags = {"rwood.kind": "finals"}
    finals = record.finals
    if finals is not None and finals.promoted is not None:
        tags["rwood.promoted"] = str(finals.promoted).lower()
        tags["mlflow.note.content"] = finals.sentence
        compared = {"gate": finals.gate, **{f"guard/{n}": c for n, c in finals.guard.items()}}
        for name, comparison in compared.items():
            if comparison is not None:
                metrics[f"{name}/mean"] = comparison.mean
                metrics[f"{name}/bound"] = comparison.bound
    rules = study.finals.model_dump(mode="json") if study.finals is not None else {}
    return TrackedRun(
        key=finals_key(record),
        name="finals",
        state=state,
        params={f"finals.{name}": value for name, value in rules.items()},
        tags=version_tags(record) | tags,
        metrics=metrics,
        inputs=inputs,
    )


def finals_setting_run(
    record: StudyResult, label: str, run: RunConfig, runs: Sequence[FinalsRun]
) -> TrackedRun:
    """One setting over its seeds: what MLflow's page compares, in place of single trainings."""
    each = [
        {name: value for name, value in training.metrics.items() if name.startswith("val/")}
        for training in runs
    ]
    return TrackedRun(
        key=f"{finals_key(record)}/{label}",
        name=f"finals {label}",
        parent=finals_key(record),
        state="complete",
        params={k: v for k, v in settings(run).items() if k != "seed"},
        tags=version_tags(record) | {"rwood.kind": "finals-setting", "rwood.label": label},
        metrics={"seeds": float(len(runs))} | over_seeds(each),
    )


def finals_seed_run(
    record: StudyResult,
    *,
    label: str,
    run: RunConfig,
    digest: str,
    history: tuple[EpochReport, ...],
    result: FinalsRun | None = None,
    inputs: Inputs = (),
) -> TrackedRun:
    """One training of the finals; complete once it has a result."""
    done = result is not None
    return TrackedRun(
        key=f"{finals_key(record)}/{label}-{digest}",
        name=f"finals {label}-seed{run.seed}",
        parent=finals_key(record),
        state="complete" if done else "running",
        finished=history[-1].time if done and history else None,
        params=settings(run),
        tags=version_tags(record)
        | {"rwood.kind": "finals-seed", "rwood.label": label, "rwood.digest": digest},
        history=history,
        metrics=cost(record, result.history, result.seconds) if result is not None else {},
        inputs=inputs,
    )
