"""Rows for OpenOOD's leaderboard, in the columns of its `results/*.csv`."""

from rwood.config.run import RunConfig
from rwood.config.search import apply
from rwood.report.inputs import ReportInputs
from rwood.report.table import Table
from rwood.report.tables import cell, row_values
from rwood.results import RunResult
from rwood.text import count_of

COLUMNS = ("Training", "Postprocessor", "Near-OOD_AUROC", "Far-OOD_AUROC", "ID_Accuracy",
           "Outlier_Data", "Arch", "Additional_Description")  # fmt: skip
"""As OpenOOD v1.5 has them (github.com/Jingkang50/OpenOOD, results/cifar10.csv)."""
_TRAININGS = {"reweightood": "ReweightOOD", "supcon": "SupCon", "cider": "CIDER", "palm": "PALM",
              "cross_entropy": "CrossEntropy"}  # fmt: skip
_POSTPROCESSORS = {"mahalanobis": "MDS", "mahalanobis_raw": "MDS", "rmds": "RMDS", "knn": "KNN",
                   "msp": "MSP", "energy": "EBO", "vim": "VIM"}  # fmt: skip
_UNIT = "unit-length features"
_NETWORKS = {"resnet18_32x32": "ResNet18", "resnet18_224x224": "ResNet18", "resnet50": "ResNet50"}


def leaderboard_files(inputs: ReportInputs) -> dict[str, str]:
    """File name -> CSV: `leaderboard_ood.csv`, and `leaderboard_fsood.csv` with shifted ID sets.

    A row a setting and scorer. Empty for a benchmark that OpenOOD has no table of.
    """
    if inputs.config.benchmark.published is None or not inputs.runs:
        return {}
    rows: dict[str, list[tuple[str, ...]]] = {}
    for runs in inputs.groups.values():
        chosen = inputs.study.champion_params if runs[0].label == "champion" else {}
        settings = apply(inputs.config.run, chosen)
        for key in runs[0].tables:
            rows.setdefault(key.partition("/")[0], []).append(_row(settings, runs, key))
    return {f"leaderboard_{name}.csv": Table(COLUMNS, tuple(r)).csv() for name, r in rows.items()}


def _row(settings: RunConfig, runs: list[RunResult], key: str) -> tuple[str, ...]:
    protocol, _, scorer = key.partition("/")
    values = row_values(runs, key)
    # With shifted ID sets OpenOOD's accuracy is over those too, which is not measured here.
    measured = protocol == "ood" and all("classifier" in run.id_metrics for run in runs)
    network, loss = settings.model.backbone, settings.loss.name
    width = settings.model.width
    narrow = f", width {width}" if network in _NETWORKS and width != 64 else ""
    words = [
        count_of(settings.epochs, "epoch"),
        f"{runs[0].label} over {count_of(len(runs), 'seed')}",
        *([_UNIT] if scorer == "mahalanobis" else []),
    ]
    return (
        _TRAININGS.get(loss, loss),
        _POSTPROCESSORS.get(scorer, scorer),
        *(cell(list(values[row]["auroc"].values())) for row in ("nearood", "farood")),
        cell([run.id_metrics["classifier"] for run in runs]) if measured else "/",
        "No",
        _NETWORKS.get(network, network) + narrow,
        "; ".join(words),
    )
