"""The tables of studies/evidence/README.md, made of the committed records and of nothing else.

`python -m tests.an_evidence_page` writes them into the page, each between `<!-- NAME -->` and
`<!-- . -->`; with a results folder of `rwood run` it takes the records from there instead.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rwood.config.benchmark import Metric
from rwood.config.load import load_study
from rwood.config.study import StudyConfig
from rwood.report.compare import Comparison, as_plain, compare_studies
from rwood.report.finals import stage_table
from rwood.report.inputs import ReportInputs
from rwood.report.paired import PairedDifference, p_value, paired_difference
from rwood.report.table import Table, signed
from rwood.report.tables import cell, gain, gain_cells, row_values
from rwood.report.trials import cost_table, saving, trial_table
from rwood.results import COMPARED, RunResult, StudyResult, StudySummary, load
from rwood.text import duration
from rwood.tracked.measures import cost, flat, held_seconds
from rwood.tracking.client import local_uri
from rwood.tracking.summary import read_summary

FOLDER = Path(__file__).parents[1] / "studies" / "evidence"
PAGE = FOLDER / "README.md"
RESULTS = FOLDER / "results"
SEARCHED = "cpu-reweightood"
STUDIES = {
    SEARCHED: "ReweightOOD",
    "cpu-supcon": "SupCon",
    "cpu-cider": "CIDER",
    "cpu-palm": "PALM",
}
PARTS: tuple[tuple[str, Metric], ...] = (
    ("nearood", "auroc"), ("nearood", "fpr95"), ("farood", "auroc"), ("farood", "fpr95")
)  # fmt: skip
FAMILIES = ("tin", "mixed", "jigsaw", "blobs", "unseen")
NAMES = tuple(name for name in STUDIES if (RESULTS / name / "study.json").exists())
"""Studies that were run; a file without a record was not."""
_PLACE = re.compile(r"(<!-- ([a-z ]+) -->\n)(.*?)(<!-- \. -->)", re.S)


def record_of(name: str) -> StudyResult:
    """The committed record of a study."""
    return load(StudyResult, RESULTS / name / "study.json")


def config_of(name: str) -> StudyConfig:
    """The study as its file says."""
    return load_study(FOLDER / f"{name}.yaml")


def settings_measured() -> dict[str, list[RunResult]]:
    """The settings in words -> their reruns by seed; a champion only where one was promoted."""
    measured = {}
    for name in NAMES:
        record, title = record_of(name), STUDIES[name]
        measured[f"{title}, defaults"] = record.of("base")
        if record.champion_params:
            measured[f"{title}, champion"] = record.of("champion")
    return measured


def comparison() -> Comparison:
    """The settings side by side, as `rwood compare` sets studies."""
    summaries = []
    for title, runs in settings_measured().items():
        name = next(name for name in NAMES if title.startswith(STUDIES[name]))
        record = record_of(name)
        spent = [cost(record, run.history, run.seconds) for run in runs]
        if title.endswith("champion"):
            spent += [cost(record, trial.history, held_seconds(trial)) for trial in record.trials]
        summaries.append(
            StudySummary(
                name=title,
                settings={},
                objective=None,
                objective_name=None,
                seeds={
                    run.seed: {k: v for k, v in flat(run).items() if k in COMPARED} for run in runs
                },
                seconds=sum(row["seconds"] for row in spent),
                gpu_seconds=sum(row["gpu_seconds"] for row in spent),
                epochs=round(sum(row["epochs"] for row in spent)),
            )
        )
    return compare_studies(summaries)


def _verdicts() -> str:
    """What the finals of each study decided."""
    rows = []
    for name in NAMES:
        finals = record_of(name).finals
        assert finals is not None
        rows.append((STUDIES[name], finals.sentence, " ".join(finals.notes) or "/"))
    columns = ("loss", "verdict", "beside it")
    return Table(columns, tuple(rows)).markdown()


def _finals() -> str:
    """Each study's finalist and base run, stage by stage."""
    tables = []
    for name in NAMES:
        finals = record_of(name).finals
        assert finals is not None
        inputs = ReportInputs(record_of(name), config_of(name), {}, {})
        tables.append(f"**{STUDIES[name]}**\n\n{stage_table(inputs, finals).markdown()}")
    return "\n\n".join(tables)


def _differences() -> str:
    """Each champion minus its own defaults, and each other setting minus ReweightOOD's defaults."""
    measured = settings_measured()
    first, *others = measured
    pairs = [(name, name.replace("champion", "defaults")) for name in others if "champion" in name]
    pairs += [(name, first) for name in others if (name, first) not in pairs]
    rows = []
    for ours, base in pairs:
        for part, metric in PARTS:
            found = gain(measured[ours], measured[base], part, metric)
            assert found is not None
            what = f"{part.removesuffix('ood')} {metric.upper()}"
            rows.append((ours, base, what, *gain_cells(found, metric)))
    columns = ("setting", "minus", "metric", "difference", "95 % interval", "p", "reading")
    seeds = len(config_of(SEARCHED).rerun.seeds)
    caption = (
        f"In percentage points, mean ± population std over {seeds} matching seeds; two-sided "
        f"paired t-test, {len(rows)} tests, no correction for their number."
    )
    return Table(columns, tuple(rows), caption).markdown()


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


def scorer_gains() -> dict[tuple[str, str, str], PairedDifference]:
    """Setting, part and scorer -> AUROC by it minus by Mahalanobis, on the same embeddings."""
    gains = {}
    for title, runs in settings_measured().items():
        for part in ("near", "far"):
            first = row_values(runs, "ood/mahalanobis")[f"{part}ood"]["auroc"]
            for key in runs[0].tables:
                found = paired_difference(row_values(runs, key)[f"{part}ood"]["auroc"], first)
                assert found is not None
                if key != "ood/mahalanobis":
                    gains[title, part, key.removeprefix("ood/")] = found
    return gains


def _scorer_gains() -> str:
    """What another scorer buys on the same embeddings."""
    found = scorer_gains()
    titles = list(settings_measured())
    rows = []
    for part, scorer in dict.fromkeys((part, scorer) for _, part, scorer in found):
        cells = []
        for title in titles:
            difference = found[title, part, scorer]
            mark = " *" if difference.beyond_chance else ""
            cells.append(f"{signed(difference.mean)} ± {difference.std:.2f}{mark}")
        rows.append((f"{scorer}, {part}", *cells))
    caption = (
        "AUROC by the scorer minus by Mahalanobis on the same embeddings, in percentage points: "
        "mean ± population std over the seeds. An asterisk: two-sided paired t-test, p below "
        f"0.05, {len(found)} tests, no correction for their number."
    )
    return Table(("scorer, OOD", *titles), tuple(rows), caption).markdown()


def summed(title: str, part: str) -> PairedDifference:
    """AUROC of a setting by `head_sum` minus ReweightOOD's defaults by Mahalanobis."""
    measured = settings_measured()
    first = row_values(measured["ReweightOOD, defaults"], "ood/mahalanobis")
    ours = row_values(measured[title], "ood/head_sum")
    found = paired_difference(*(values[f"{part}ood"]["auroc"] for values in (ours, first)))
    assert found is not None
    return found


def _summed() -> str:
    """Every setting with the sum of confidence and distance, against where a user starts."""
    rows = [
        (title, part, *gain_cells(summed(title, part), f"{part}/auroc"))
        for title in settings_measured()
        for part in ("near", "far")
    ]
    columns = ("setting, by head_sum", "OOD", "difference", "95 % interval", "p", "reading")
    caption = (
        "AUROC by head_sum minus that of ReweightOOD's defaults by Mahalanobis, in percentage "
        f"points; two-sided paired t-test, {len(rows)} tests, no correction for their number."
    )
    return Table(columns, tuple(rows), caption).markdown()


def _validation() -> str:
    """What the validation sets said of each rerun, and what the test sets said."""
    sets = [name for name in FAMILIES if f"val/{name}/auroc" in _last_metrics()[0]]
    rows = []
    for title, runs in settings_measured().items():
        last = [run.history[-1].metrics for run in runs]
        rows.append(
            (
                title,
                *(cell([m[f"val/{name}/auroc"] for m in last]) for name in sets),
                cell([flat(run)["near/auroc"] for run in runs]),
                cell([flat(run)["far/auroc"] for run in runs]),
                cell([m["id/dispersion"] for m in last]),
                cell([run.id_metrics["linear_probe"] for run in runs]),
                cell([run.id_metrics["nearest_mean"] for run in runs]),
            )
        )
    columns = ("setting", *(f"val {name}" for name in sets), "near", "far", "dispersion",
               "linear probe", "nearest mean")  # fmt: skip
    caption = (
        "AUROC on validation and test sets after the last epoch of the reruns; dispersion of the "
        "class means, in degrees; accuracy of the embedding on ID test, in percent."
    )
    return Table(columns, tuple(rows), caption).markdown()


def _last_metrics() -> list[Mapping[str, float]]:
    """What each rerun measured after its last epoch."""
    return [run.history[-1].metrics for runs in settings_measured().values() for run in runs]


def _agreement() -> str:
    """Rank correlation of validation with test over the reruns."""
    from scipy.stats import spearmanr

    runs = [run for each in settings_measured().values() for run in each]
    last = _last_metrics()
    rows = []
    for name in FAMILIES:
        key = f"val/{name}/auroc"
        if key in last[0]:
            cells = []
            for part in ("near", "far"):
                tested = [flat(run)[f"{part}/auroc"] for run in runs]
                found = spearmanr([m[key] for m in last], tested)
                cells += [signed(found.statistic), p_value(found.pvalue)]
            rows.append((name, str(len(runs)), *cells))
    caption = (
        "Spearman's rank correlation of AUROCs over the reruns of all settings, two-sided p; "
        "reruns of one setting count as often as there are seeds."
    )
    columns = ("validation set", "n", "with near test", "p", "with far test", "p")
    return Table(columns, tuple(rows), caption).markdown()


def _trials() -> str:
    """Every trial of every search."""
    parts = []
    for name in NAMES:
        inputs = ReportInputs(record_of(name), config_of(name), {}, {})
        spared = saving(inputs.study, inputs.config)
        words = (
            f"{STUDIES[name]}: {spared.pruned} of {len(inputs.study.trials)} trials were pruned: "
            f"{spared.epochs_run} epochs of {spared.epochs_full}."
        )
        parts.append(f"{words}\n\n{trial_table(inputs).markdown()}")
    return "\n\n".join(parts)


def _cost() -> str:
    rows = []
    for name in NAMES:
        rows += [(name, *row) for row in cost_table(record_of(name)).rows]
    return Table(("study", "what", "cost"), tuple(rows)).markdown()


def _trace() -> str:
    rows = []
    for name in NAMES:
        record = record_of(name)
        champion = record.of("champion") if record.champion_params else []
        for run in (*champion, *record.of("base")):
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
    "verdicts": _verdicts,
    "finals": _finals,
    "results": lambda: comparison().results.markdown(),
    "differences": _differences,
    "sets": _sets,
    "scorers": _scorers,
    "gains": _scorer_gains,
    "sum": _summed,
    "validation": _validation,
    "agreement": _agreement,
    "trials": _trials,
    "cost": _cost,
    "trace": _trace,
    "versions": _versions,
}
"""Name on the page -> Markdown."""


def filled(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The page with every table made anew."""
    return _PLACE.sub(lambda m: f"{m[1]}{tables[m[2]]()}\n{m[4]}", page)


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
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")
