"""The tables of studies/evidence/README.md, made of the committed records and of nothing else.

`python -m tests.an_evidence_page` writes them into the page, each between `<!-- NAME -->` and
`<!-- . -->`; with a results folder of `rwood run` it takes the records from there instead.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rwood.config.load import load_study
from rwood.config.study import StudyConfig
from rwood.report.compare import COMPARED, Comparison, as_plain, compare_studies
from rwood.report.inputs import ReportInputs
from rwood.report.paired import p_value
from rwood.report.table import Table, duration, signed
from rwood.report.tables import cell, row_values
from rwood.report.trials import cost_table, saving, trial_table
from rwood.results import RunResult, StudyResult, StudySummary, load
from rwood.tracked.measures import cost, flat, held_seconds
from rwood.tracking import local_uri, read_summary

FOLDER = Path(__file__).parents[1] / "studies" / "evidence"
PAGE = FOLDER / "README.md"
RESULTS = FOLDER / "results"
SEARCHED = "cpu-reweightood"
STUDIES = {SEARCHED: "ReweightOOD", "cpu-supcon": "SupCon", "cpu-cider": "CIDER"}
NAMES = tuple(name for name in STUDIES if (RESULTS / name / "study.json").exists())
"""Studies that were run; a file without a record was not."""
_PLACE = re.compile(r"(<!-- ([a-z ]+) -->\n)(.*?)(<!-- \. -->)", re.S)


def record_of(name: str) -> StudyResult:
    """The committed record of a study."""
    return load(StudyResult, RESULTS / name / "study.json")


def spec_of(name: str) -> StudyConfig:
    """The study as its file says."""
    return load_study(FOLDER / f"{name}.yaml")


def settings_measured() -> dict[str, list[RunResult]]:
    """The settings in words -> their reruns by seed."""
    record = record_of(SEARCHED)
    measured = {
        "ReweightOOD, defaults": record.of("base"),
        "ReweightOOD, champion": record.of("champion"),
    }
    return measured | {
        title: record_of(name).of("champion")
        for name, title in STUDIES.items()
        if name in NAMES and name != SEARCHED
    }


def comparison() -> Comparison:
    """The four settings side by side, as `rwood compare` sets studies: tested against the first."""
    record = record_of(SEARCHED)
    searched = [cost(record, t.history, held_seconds(t)) for t in record.trials]
    summaries = []
    for name, runs in settings_measured().items():
        spent = [cost(record, run.history, run.seconds) for run in runs]
        spent += searched if "champion" in name else []
        champion = next((t for t in record.trials if t.number == record.champion), None)
        trial = {"ReweightOOD, champion": champion, "ReweightOOD, defaults": record.trials[0]}
        found = trial.get(name)
        summaries.append(
            StudySummary(
                name=name,
                settings={},
                objective=found.objective if found else None,
                objective_name=record.objective if found else None,
                seeds={
                    run.seed: {k: v for k, v in flat(run).items() if k in COMPARED} for run in runs
                },
                seconds=sum(row["seconds"] for row in spent),
                gpu_seconds=sum(row["gpu_seconds"] for row in spent),
                epochs=round(sum(row["epochs"] for row in spent)),
            )
        )
    return compare_studies(summaries)


def _tests() -> str:
    return "\n\n".join(table.markdown() for table in comparison().tests)


def _sets() -> str:
    """AUROC on every test set."""
    measured = settings_measured()
    values = {name: row_values(runs, "ood/mahalanobis") for name, runs in measured.items()}
    rows = [
        (ood, *(cell(list(by[ood]["auroc"].values())) for by in values.values()))
        for ood in next(iter(values.values()))
    ]
    caption = "AUROC in percent, Mahalanobis scores; mean ± population std over the seeds."
    return Table(("OOD set", *values), tuple(rows), caption).markdown()


def _scorers() -> str:
    """Near and far AUROC by scorer."""
    measured = settings_measured()
    rows = []
    for key in next(iter(measured.values()))[0].tables:
        for part in ("nearood", "farood"):
            each = (row_values(runs, key)[part]["auroc"] for runs in measured.values())
            name = f"{key.removeprefix('ood/')}, {part.removesuffix('ood')}"
            rows.append((name, *(cell(list(by_seed.values())) for by_seed in each)))
    caption = "AUROC in percent; every scorer on the same embeddings."
    return Table(("scorer, OOD", *measured), tuple(rows), caption).markdown()


def _validation() -> str:
    """What the validation sets said of each rerun, and what the test sets said."""
    rows = []
    for name, runs in settings_measured().items():
        last = [run.history[-1].metrics for run in runs]
        rows.append(
            (
                name,
                cell([m["val/tin/auroc"] for m in last]),
                cell([m["val/mixed/auroc"] for m in last]),
                cell([flat(run)["near/auroc"] for run in runs]),
                cell([flat(run)["far/auroc"] for run in runs]),
                cell([m["id/dispersion"] for m in last]),
                cell([run.id_metrics["linear_probe"] for run in runs]),
                cell([run.id_metrics["nearest_mean"] for run in runs]),
            )
        )
    columns = ("setting", "val tin", "val mixed", "near", "far", "dispersion", "linear probe",
               "nearest mean")  # fmt: skip
    caption = (
        "AUROC on validation and test sets after the last epoch of the reruns; dispersion of the "
        "class means, in degrees; accuracy of the embedding on ID test, in percent."
    )
    return Table(columns, tuple(rows), caption).markdown()


def _agreement() -> str:
    """Rank correlations: over the 12 reruns, validation with test; over the trials, val sets."""
    from scipy.stats import spearmanr

    runs = [run for each in settings_measured().values() for run in each]
    last = [run.history[-1].metrics for run in runs]
    trials = record_of(SEARCHED).trials
    early = [t.history[1].metrics for t in trials]

    def row(title: str, a: Sequence[float], b: Sequence[float]) -> tuple[str, str, str, str]:
        found = spearmanr(a, b)
        return title, str(len(a)), signed(found.statistic), p_value(found.pvalue)

    rows = [
        row(
            f"reruns: val {val} with {part} test",
            [m[f"val/{val}/auroc"] for m in last],
            [flat(run)[f"{part}/auroc"] for run in runs],
        )
        for val in ("tin", "mixed")
        for part in ("near", "far")
    ]
    rows.append(
        row(
            "trials: val tin with val mixed, after 2 epochs",
            [m["val/tin/auroc"] for m in early],
            [m["val/mixed/auroc"] for m in early],
        )
    )
    ended = [t.history for t in trials if t.state == "complete"]
    steps = [
        abs(b.metrics["val/tin/auroc"] - a.metrics["val/tin/auroc"])
        for history in (*ended, *(run.history for run in runs))
        for a, b in zip(history, history[1:], strict=False)
    ]
    rows.append(("points that val tin moves from one epoch to the next, mean", str(len(steps)),
                 f"{sum(steps) / len(steps):.2f}", "/"))  # fmt: skip
    caption = "Spearman's rank correlation of AUROCs, two-sided p; the last row is no correlation."
    return Table(("what", "n", "value", "p"), tuple(rows), caption).markdown()


def _trials() -> str:
    inputs = ReportInputs(record_of(SEARCHED), spec_of(SEARCHED), {}, {})
    spared = saving(inputs.study, inputs.spec)
    words = (
        f"{spared.pruned} of {len(inputs.study.trials)} trials were pruned: "
        f"{spared.epochs_run} epochs of {spared.epochs_full}."
    )
    return f"{trial_table(inputs).markdown()}\n\n{words}"


def _cost() -> str:
    rows = []
    for name in NAMES:
        record = record_of(name)
        own = (
            record
            if record.trials
            else record.model_copy(update={"runs": tuple(record.of("champion"))})
        )
        rows += [(name, *row) for row in cost_table(own).rows]
    return Table(("study", "what", "cost"), tuple(rows)).markdown()


def _trace() -> str:
    rows = []
    for name in NAMES:
        record = record_of(name)
        base = record.of("base") if spec_of(name).search else []
        for run in (*record.of("champion"), *base):
            place = f"{run.label}-seed{run.seed}"
            rows.append((f"{name}.yaml", record.trial_digest, record.id, place, run.digest,
                         duration(run.seconds)))  # fmt: skip
    columns = ("study file", "trial digest", "study id", "MLflow run", "run digest", "time")
    return Table(columns, tuple(rows)).markdown()


def _versions() -> str:
    found: dict[str, dict[str, None]] = {}
    for name in NAMES:
        for part, version in record_of(name).versions.items():
            found.setdefault(part, {})[version] = None
    return Table(("part", "version"), tuple((k, ", ".join(v)) for k, v in found.items())).markdown()


TABLES: dict[str, Callable[[], str]] = {
    "results": lambda: comparison().results.markdown(),
    "differences": _tests,
    "sets": _sets,
    "scorers": _scorers,
    "validation": _validation,
    "agreement": _agreement,
    "trials": _trials,
    "cost": _cost,
    "trace": _trace,
    "versions": _versions,
}
"""Name on the page -> Markdown."""


def filled(page: str) -> str:
    """The page with every table made anew."""
    return _PLACE.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[4]}", page)


def prose(page: str) -> str:
    """What a person wrote: without tables and code blocks."""
    return re.sub(r"```.*?```", "", _PLACE.sub("", page), flags=re.S)


def keep(left: Path) -> None:
    """Copy what `rwood run` left: records with the trials' histories, CSV files, the champion."""
    from tests.stored_trials import trials_in

    names = [name for name in STUDIES if (left / name / "benchmark.csv").exists()]
    for name in names:
        record = load(StudyResult, left / name / "study.json")
        record = record.model_copy(update={"trials": tuple(trials_in(left / name).values())})
        (RESULTS / name).mkdir(parents=True, exist_ok=True)
        text = record.model_dump_json() + "\n"
        (RESULTS / name / "study.json").write_text(text, encoding="utf-8")
        for file in ("champion.yaml", "benchmark.csv", "benchmark_base.csv"):
            if (left / name / file).exists():
                shutil.copyfile(left / name / file, RESULTS / name / file)
    summaries = [read_summary(local_uri(left), name) for name in names]
    plain = json.dumps(as_plain(summaries), indent=1)
    (RESULTS / "compare.json").write_text(plain + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        keep(Path(sys.argv[1]))
    else:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
