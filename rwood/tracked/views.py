"""What MLflow's page of an experiment opens with: its description and its saved views.

A saved view (columns, filter, order, charts) is listed under *Views* on the page and has an
address, `.../#/experiments/<id>/runs?viewStateShareKey=<key>`. Its form is MLflow's own (its UI
writes it as an experiment's tag `mlflow.sharedViewState.<key>`, JSON); versions that do not know a
field leave it out.
"""

import json
from collections.abc import Iterable
from typing import Any

from rwood.config.benchmark import METRICS, BenchmarkConfig
from rwood.config.study import StudyConfig, is_minimized
from rwood.tracked.measures import MEANS

TRIALS, SETTINGS, RERUNS = "trials", "settings", "reruns"
"""Keys of the saved views."""
EXPERIMENT = "{experiment}"
"""Stands for the experiment's id, which only the server knows, in a tag's text."""
_MANY = 100
"""Runs a chart shows."""
_COLUMNS = {"search": 1, "means": 2, "sets": 3, "epochs": 3}
"""Charts side by side in each section."""


def experiment_tags(study: StudyConfig, results: str = "") -> dict[str, str]:
    """Description and saved views of a study's experiment.

    What came out so far is in Markdown. Without a search there is no view of trials.
    """
    views = {} if study.search is None else {TRIALS: _trials(study)}
    views[SETTINGS] = _settings(study.benchmark)
    views[RERUNS] = _reruns(study.benchmark)
    tags = {
        f"mlflow.sharedViewState.{key}": json.dumps(
            # Fixed times, since saying it again must change nothing; the UI lists the newest first.
            {"name": view.pop("name"), "createdAt": at, "updatedAt": at, "state": json.dumps(view)}
        )
        for at, (key, view) in enumerate(reversed(views.items()))
    }
    address = f"#/experiments/{EXPERIMENT}/runs?viewStateShareKey="
    links = [f"[{key}]({address}{key}&compareRunsMode=CHART)" for key in views]
    # The page shows the first line alone until it is unfolded: question and headline.
    note = f"{f'{study.question} {results}'.strip()}\n\nViews: {', '.join(links)}"
    return tags | {"mlflow.note.content": note, "rwood.study": study.name}


def _trials(study: StudyConfig) -> dict[str, Any]:
    """Trials by objective: their settings, curves of every validation set, cost."""
    search = study.the_search
    hyperparameters = list(search.space)
    last = search.primary.rsplit("/", 1)[-1]
    metric = last if last in METRICS else "auroc"
    sets = [f"val/{name}/{metric}" for name in study.benchmark.validation]
    curves = list(dict.fromkeys((*search.objectives, *sets, "train/loss", *_GEOMETRY)))
    parallel = {"selectedParams": hyperparameters, "showAllRuns": True,
                "selectedMetrics": [search.primary]}  # fmt: skip
    charts = [_chart("PARALLEL", "search", f"settings and {search.primary}", **parallel)]
    charts += [_curve("epochs", name) for name in curves]
    shown = ("objective", *search.objectives, "val/fpr95", *sets, "epochs", "seconds")
    columns = [f"metrics.`{name}`" for name in dict.fromkeys(shown)]
    columns += [f"params.`{parameter}`" for parameter in hyperparameters]
    columns.append("tags.`rwood.is_champion`")
    return _view(
        "Trials: settings, objective, curves",
        kind="trial",
        columns=columns,
        order=("metrics.`objective`", is_minimized(search.primary)),
        charts=charts,
        sections={"search": "Settings against the objective", "epochs": "Epoch by epoch"},
    )


def _settings(benchmark: BenchmarkConfig) -> dict[str, Any]:
    """Champion and base run, a row each: mean and std over seeds of near, far and every set."""
    columns = [f"metrics.`{name}{end}`" for name in MEANS for end in ("", "/std")]
    columns += [f"metrics.`{name}`" for name in _sets(benchmark)]
    return _view(
        "Settings: mean and std over seeds",
        kind="setting",
        columns=["metrics.`seeds`", *columns],
        order=("attributes.`run_name`", True),
        charts=_bars(benchmark),
        sections=_BARS,
    )


_BARS = {"means": "Means over near and far sets (%)", "sets": "Every set (%)"}
_GEOMETRY = ("id/mes_radius", "id/dispersion", "val/overlap")


def _reruns(benchmark: BenchmarkConfig) -> dict[str, Any]:
    """Champion and base, seed by seed: near and far means, then every set."""
    charts = [_curve("epochs", name) for name in ("train/loss", *_GEOMETRY)]
    columns = [f"metrics.`{name}`" for name in MEANS]
    columns += ["tags.`rwood.label`", "params.`seed`", "metrics.`seconds`", "attributes.`Models`"]
    return _view(
        "Reruns: near and far OOD",
        kind="rerun",
        columns=columns,
        order=("attributes.`run_name`", True),
        charts=_bars(benchmark) + charts,
        sections=_BARS | {"epochs": "Epoch by epoch"},
    )


def _view(
    name: str,
    *,
    kind: str,
    columns: list[str],
    order: tuple[str, bool],
    charts: Iterable[dict[str, Any]],
    sections: dict[str, str],
) -> dict[str, Any]:
    key, ascending = order
    return {
        "name": name,
        "searchFilter": f"tags.`rwood.kind` = '{kind}'",
        "orderByKey": key,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOWALL",
        "isAccordionReordered": True,
        "compareRunCharts": list(charts),
        "compareRunSections": [
            {"uuid": key, "name": title, "display": True, "isReordered": True, "deleted": False,
             "isGenerated": False, "columns": _COLUMNS[key]}
            for key, title in sections.items()
        ],
    }  # fmt: skip


def _chart(kind: str, section: str, title: str, **more: Any) -> dict[str, Any]:
    return {
        "uuid": f"{section}:{title}",
        "type": kind,
        "metricSectionId": section,
        "displayName": title,
        "runsCountToCompare": _MANY,
        "deleted": False,
        "isGenerated": False,
    } | more


def _curve(section: str, metric: str) -> dict[str, Any]:
    return _chart(
        "LINE", section, metric, metricKey=metric, selectedMetricKeys=[metric], xAxisKey="step",
        yAxisKey="metric", yAxisExpressions=[], scaleType="linear", xAxisScaleType="linear",
        lineSmoothness=0, useGlobalXaxisKey=True, useGlobalLineSmoothing=True,
        selectedXAxisMetricKey="", range={},
    )  # fmt: skip


def _sets(benchmark: BenchmarkConfig) -> list[str]:
    """FPR@95 and AUROC of every test OOD set."""
    return [f"{part}/{name}/{metric}" for part in ("near", "far")
            for name in getattr(benchmark, part) for metric in METRICS[:2]]  # fmt: skip


def _bars(benchmark: BenchmarkConfig) -> list[dict[str, Any]]:
    """A chart for each mean and each set."""
    charts = [_chart("BAR", "means", name, metricKey=name) for name in MEANS]
    return charts + [_chart("BAR", "sets", name, metricKey=name) for name in _sets(benchmark)]
