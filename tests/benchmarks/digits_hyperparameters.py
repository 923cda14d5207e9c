"""What pays on digits: `python -m tests.benchmarks.digits_hyperparameters [--seeds N ...]`.

Trains the base run of `studies/digits.yaml` and variants of it, every one with the same seeds, and
scores each encoder with several scorers. Prints AUROC in percent on the near and far test sets and
on the validation sets, each with its mean difference to the base run at the same seed ± the
standard error of that mean.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_benchmark, load_study
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.search import Params, apply
from rwood.evaluation.benchmark import run_benchmark
from rwood.evaluation.validation import open_validation, validate
from rwood.training.train import train
from rwood.training.worker import LocalWorker

STUDIES = Path(__file__).parents[2] / "studies"
VARIANTS: dict[str, Params] = {
    "base": {},
    "width 24": {"model.width": 24},
    "width 32": {"model.width": 32},
    "width 32, 12 epochs": {"model.width": 32, "epochs": 12},
    "lr .05": {"optimizer.lr": 0.05},
    "temperature .2": {"loss.temperature": 0.2},
    "stronger jitter": {"views.contrast": 0.8, "views.brightness": 0.6},
}
SCORERS = {
    "mahalanobis": ScorerConfig(),
    "knn 1": ScorerConfig(name="knn", k=1),
    "knn 5": ScorerConfig(name="knn", k=5),
    "knn 50": ScorerConfig(name="knn", k=50),
}
COLUMNS = ("near", "far", "mixed", "digit7", "flower", "farlike", "accuracy", "cpu_s")
"""`farlike`: mean of the validation sets jigsaw, permuted and blobs; `accuracy`: of the nearest
class mean on ID test."""

Values = Mapping[str, float]


def benchmark_with_derived_sets() -> BenchmarkConfig:
    """The benchmark of the digits study with the derived validation sets beside its own."""
    own = load_benchmark(STUDIES / "benchmarks/digits.yaml")
    derived = load_benchmark(STUDIES / "benchmarks/digits-derived.yaml")
    return own.model_copy(update={"validation": own.validation | derived.validation})


def measure(run: RunConfig, benchmark: BenchmarkConfig) -> dict[str, dict[str, float]]:
    """Train one run and return the columns by scorer, AUROC and accuracy in percent."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        worker = LocalWorker(folder=root, device=torch.device("cpu"))
        encoder = train(run, benchmark, worker, data_root=root)
        seconds = time.process_time() - started
        sets = open_validation(benchmark, root)
        columns = {}
        for name, scorer in SCORERS.items():
            val = validate(encoder, sets, benchmark, scorer, worker.device)
            outcome = run_benchmark(
                encoder, benchmark, [scorer], data_root=root, device=worker.device
            )
            table = outcome.tables[f"ood/{scorer.name}"]
            farlike = (val[f"val/{kind}/auroc"] for kind in ("jigsaw", "permuted", "blobs"))
            columns[name] = {
                "near": statistics.fmean(row.auroc for row in table.near.values()),
                "far": statistics.fmean(row.auroc for row in table.far.values()),
                **{kind: val[f"val/{kind}/auroc"] for kind in ("mixed", "digit7", "flower")},
                "farlike": statistics.fmean(farlike),
                "accuracy": outcome.id_metrics["nearest_mean"],
                "cpu_s": seconds,
            }
    return columns


def row(name: str, values: Sequence[Values], base: Sequence[Values]) -> str:
    """One line of the table: the mean of each column, and its paired difference to the base."""
    cells = []
    for column in COLUMNS:
        differences = [v[column] - b[column] for v, b in zip(values, base, strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        mean = statistics.fmean(v[column] for v in values)
        cells.append(f"{mean:6.2f} {statistics.fmean(differences):+5.2f} ± {error:.2f}")
    return f"{name:34s} " + "  ".join(cells)


def main() -> None:
    """Train every variant with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(21, 31)))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", type=Path, help="every value, as JSON")
    arguments = parser.parse_args()
    if len(arguments.seeds) < 2:
        parser.error("--seeds: a standard error needs two seeds or more")
    torch.set_num_threads(1)
    benchmark = benchmark_with_derived_sets()
    # Validation is read off the trained encoder, not after every epoch.
    base = apply(load_study(STUDIES / "digits.yaml").run, {"validate_every": 1000})
    names = ["base", *(name for name in arguments.variants if name != "base")]
    measured: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in names}
    for seed in arguments.seeds:
        for name in names:
            run = apply(base, VARIANTS[name] | {"seed": seed})
            measured[name].append(measure(run, benchmark))
    reference = [columns["mahalanobis"] for columns in measured["base"]]
    print(" " * 34, "  ".join(f"{column:19s}" for column in COLUMNS))
    for name in names:
        for scorer in SCORERS:
            print(row(f"{name}, {scorer}", [c[scorer] for c in measured[name]], reference))
    if arguments.output:
        arguments.output.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
