"""One trial of several seeds: its runs advance an epoch in turn and report as one."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.config.search import apply
from rwood.paths import RunPaths
from rwood.results import EpochReport, mean_and_std
from rwood.training.train import training_epochs
from rwood.training.worker import Worker

_SUMMED = frozenset({"sys/train_seconds"})


def train_seeds(
    run: RunConfig,
    seeds: Sequence[int],
    benchmark: BenchmarkConfig,
    worker: Worker,
    *,
    data_root: Path,
) -> None:
    """Train a run with every seed, side by side, and report the means after each epoch.

    After epoch e every seed has trained e epochs, so trials are compared, and stopped, at equal
    training and on all their seeds; their networks are in memory together. The run's own seed does
    not count. Each seed has checkpoints of its own in `seed-<n>` and is to the bit what `train`
    makes of it; killed at any moment, each goes on from its own last epoch. Where the benchmark has
    a held-out set, each seed leaves out its own fold of classes.

    Raises:
        NonFiniteLossError: the loss of one seed became NaN or infinite.
        DataError: an image set is missing or corrupt.
        StudyError: the folder holds another training.
    """
    with ExitStack() as closed:
        runs = [
            training_epochs(
                apply(run, {"seed": seed}),
                benchmark,
                worker,
                folder=RunPaths(worker.folder).seed(seed).folder,
                data_root=data_root,
            )
            for seed in seeds
        ]
        for epochs in runs:
            closed.enter_context(closing(epochs))
        apart = [_apart(epochs, worker.device) for epochs in runs]
        for reports in zip(*apart, strict=True):
            worker.report(merged(reports))


def _apart(epochs: Iterable[EpochReport], device: torch.device) -> Iterator[EpochReport]:
    """The epochs of a run that draws on as if nothing else had drawn between two of them."""
    for report in epochs:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield report


def merged(reports: Sequence[EpochReport]) -> EpochReport:
    """One report of the same epoch of several seeds.

    Means of what every seed reported, and for `val/...` the population std as `<name>/std`;
    seconds are added up.
    """
    metrics: dict[str, float] = {}
    for name in reports[0].metrics:
        values = [report.metrics[name] for report in reports if name in report.metrics]
        if len(values) < len(reports):
            continue
        mean, std = mean_and_std(values)
        metrics[name] = sum(values) if name in _SUMMED else mean
        if name.startswith("val/"):
            metrics[f"{name}/std"] = std
    return EpochReport(
        epoch=reports[0].epoch, time=max(report.time for report in reports), metrics=metrics
    )
