"""A study as a real one would be: 12 trials, some stopped, one failed, 3 + 3 reruns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from rwood.config.load import load_study
from rwood.config.study import StudyConfig
from rwood.report.inputs import ReportInputs
from rwood.results import (
    BenchmarkTable,
    EpochReport,
    RunResult,
    SetMetrics,
    StudyResult,
    TrialResult,
)

STUDIES = Path(__file__).parents[2] / "studies"
EPOCHS = 20
STOPPED = {3: 2, 5: 6, 6: 2, 9: 6, 10: 2}
"""Trial -> epoch at which it was stopped."""
FAILED = 7
COMPLETE = (0, 1, 2, 4, 8, 11)
SPACE = {
    "loss.temperature": (0.02, 0.5),
    "loss.within_scale": (0.5, 10.0),
    "loss.within_shift": (-1.0, 5.0),
    "loss.between_scale": (0.5, 10.0),
    "loss.between_shift": (-1.0, 8.0),
}
BASE = dict(zip(SPACE, (0.1, 2.0, 1.0, 5.0, 4.0), strict=True))
SETS = {"near": ("digit8", "digit9"), "far": ("china", "permuted")}


def make_config(**changes: object) -> StudyConfig:
    """The digits study with the search that the trials below belong to."""
    plain = load_study(STUDIES / "digits-margins.yaml").model_dump(mode="json")
    space = {key: {"low": low, "high": high} for key, (low, high) in SPACE.items()}
    space["loss.temperature"]["log"] = True
    plain["search"] = {"trials": 12, "objective": "val/auroc", "space": space}
    plain["run"]["epochs"] = EPOCHS
    plain |= {"name": "digits", "finals": None}
    return StudyConfig.model_validate_json(json.dumps(plain | changes))


def make_trials() -> tuple[TrialResult, ...]:
    rng = np.random.default_rng(3)
    trials = []
    for number in range(12):
        params = dict(BASE)
        if number:
            params = {k: float(rng.uniform(low, high)) for k, (low, high) in SPACE.items()}
            params["loss.temperature"] = float(np.exp(rng.uniform(np.log(0.02), np.log(0.5))))
        state = "complete" if number in COMPLETE else "pruned"
        epochs = STOPPED.get(number, EPOCHS)
        end = 92 + 5 * rng.random() - 3 * abs(np.log10(params["loss.temperature"] / 0.08))
        if number == FAILED:
            state, epochs = "failed", 1
        began = 1000.0 + number
        history = tuple(
            EpochReport(
                epoch=epoch,
                time=began + epoch,
                metrics={"train/loss": 12 - epoch / 4}
                | ({"val/auroc": end - 22 * np.exp(-epoch / 4)} if number != FAILED else {}),
            )
            for epoch in range(1, epochs + 1)
        )
        trials.append(
            TrialResult(
                number=number,
                params=params,
                state=state,
                digest=f"{number:016x}",
                started=began,
                finished=began + 100,
                history=history,
                objective=history[-1].metrics["val/auroc"] if state == "complete" else None,
                error="loss is nan at step 14 <b>" if state == "failed" else None,
            )
        )
    return tuple(trials)


def make_table(shift: float, sets: dict[str, tuple[str, ...]] = SETS) -> BenchmarkTable:
    def metrics(at: float) -> SetMetrics:
        return SetMetrics(
            fpr95=20 + 10 * at - shift,
            auroc=95 - 3 * at + shift,
            aupr_in=94 - 2 * at + shift,
            aupr_out=93 - at + shift,
        )

    return BenchmarkTable(
        near={name: metrics(1 + place) for place, name in enumerate(sets["near"])},
        far={name: metrics(-1 + 0.5 * place) for place, name in enumerate(sets["far"])},
    )


def make_run(label: str, seed: int, shift: float, **changes: object) -> RunResult:
    champion = label == "champion"
    history = tuple(
        EpochReport(
            epoch=epoch,
            time=float(epoch),
            metrics={
                "train/loss": 12 - epoch / 4,
                "id/mes_radius": 0.9 * np.exp(-epoch / 9) + 0.2 + 0.02 * seed - 0.05 * champion,
                "id/dispersion": 60 + 20 * (1 - np.exp(-epoch / 5)) + seed,
                "val/overlap": 0.5 * np.exp(-epoch / 6) + 0.01 * seed,
            },
        )
        for epoch in range(1, EPOCHS + 1)
    )
    fields: dict[str, object] = {
        "label": label,
        "seed": seed,
        "digest": f"{label}{seed}",
        "run": {"scorer": {"name": "mahalanobis"}},
        "history": history,
        "tables": {"ood/mahalanobis": make_table(shift), "ood/knn": make_table(shift - 1)},
        "id_metrics": {"linear_probe": 98 + 0.5 * seed, "nearest_mean": 97.0},
        "seconds": 10.0 + seed,
    }
    return RunResult.model_validate(fields | changes)


CHAMPION_SHIFTS = {1: 1.0, 2: 2.0, 3: 1.5}
BASE_SHIFTS = {1: 0.0, 2: 0.5, 3: 1.0}


def make_runs() -> tuple[RunResult, ...]:
    return tuple(make_run("champion", s, v) for s, v in CHAMPION_SHIFTS.items()) + tuple(
        make_run("base", s, v) for s, v in BASE_SHIFTS.items()
    )


def make_study(config: StudyConfig, **changes: object) -> StudyResult:
    trials = make_trials()
    best = max((t for t in trials if t.objective is not None), key=lambda t: t.objective or 0)
    fields: dict[str, object] = {
        "name": config.name,
        "objective": "val/auroc",
        "id": "a1b2c3d4",
        "trial_digest": "0" * 16,
        "config": config.model_dump(mode="json"),
        "trials": trials,
        "champion": best.number,
        "champion_params": best.params,
        "runs": make_runs(),
        "wall_seconds": {"search": 98.2, "benchmark": 65.0},
        "versions": {"rwood": "0.1.0", "python": "3.11.9", "torch": "2.11", "device": "cpu"},
    }
    return StudyResult.model_validate(fields | changes)


def write_scores(path: Path) -> Path:
    rng = np.random.default_rng(0)

    def spread(scale: float, count: int) -> np.ndarray:
        return (scale * rng.chisquare(12, count)).astype(np.float32)

    arrays = {"id/test": spread(1, 260), "id/val": spread(1, 258)}
    arrays |= {f"near/{n}": spread(s, 174) for n, s in zip(SETS["near"], (2.2, 3.5), strict=True)}
    arrays |= {f"far/{n}": spread(s, 300) for n, s in zip(SETS["far"], (30, 8), strict=True)}
    np.savez(path, **arrays)
    return path


def write_embeddings(path: Path, per_set: int = 60) -> Path:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((7, 16))
    labels = np.arange(4 * per_set) % 7
    arrays = {
        "id/test": centres[labels] + 0.25 * rng.standard_normal((len(labels), 16)),
        "id/test_labels": labels,
    }
    for part, names in SETS.items():
        for name in names:
            middle = rng.standard_normal(16) * (0.6 if part == "near" else 1.4)
            arrays[f"{part}/{name}"] = middle + 0.4 * rng.standard_normal((per_set, 16))
    np.savez(path, **{k: v if v.ndim == 1 else v.astype(np.float32) for k, v in arrays.items()})
    return path


CIFAR10 = {"near": ("cifar100", "tin"), "far": ("mnist", "svhn", "texture", "places365")}


def published_inputs(inputs: ReportInputs) -> ReportInputs:
    """The same study on sets for which figures were published."""
    benchmark = inputs.config.benchmark
    benchmark = benchmark.model_copy(update={"name": "cifar10", "published": "cifar10"})
    tables = {"ood/mahalanobis": make_table(1.0, CIFAR10)}
    runs = tuple(run.model_copy(update={"tables": tables}) for run in inputs.study.runs)
    return replace(
        inputs,
        config=inputs.config.model_copy(update={"benchmark": benchmark}),
        study=inputs.study.model_copy(update={"runs": runs}),
    )
