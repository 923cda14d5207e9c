"""The first part of `gpu.py`: the numbers of the device are those of the CPU.

A process of its own, since whether CUDA's products are TF32 is asked when its libraries are
loaded: `NVIDIA_TF32_OVERRIDE=0` makes float32 float32. Prints one JSON object.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from gpu_runs import STUDY, noise_sets, run_of
from gpu_step import DEVICE, SMALL

from rwood.config.run import RunConfig
from rwood.results import EpochReport
from rwood.training.train import train, training_epochs
from rwood.training.worker import LocalWorker

LOSSES = ("reweightood", "supcon", "cider", "palm", "cross_entropy")
TOLERANCE = 2e-3
"""Relative, of an epoch's loss: float32 sums in another order, over a few steps."""
PATIENCE_S = 150
"""After so long the first part has failed, and the others have their turn."""


def check() -> dict[str, float]:
    """Largest relative differences of losses, in a process without TF32.

    Raises:
        RuntimeError: the process failed.
        TimeoutExpired: it took longer than `PATIENCE_S`.
        ValueError: a difference is above the tolerance.
    """
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "NVIDIA_TF32_OVERRIDE": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    wrong = [what for what, difference in found.items() if not difference <= TOLERANCE]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} differ by more than {TOLERANCE}: {found}")
    return found


def compiled_as_eager(folder: Path) -> dict[str, float]:
    """Relative difference of the epochs' losses, compiled and replayed from a CUDA graph or not.

    Raises:
        ValueError: it is above the tolerance, or a note says that something ran otherwise.
    """
    notes: list[str] = []
    found = {}
    with noise_sets(SMALL.divisor):
        for loss in LOSSES:
            kinds = (
                short_run(loss, epochs=4, compile=compiled, **{"optimizer.lr": 1e-3})
                for compiled in (True, False)
            )
            pair = [
                losses(run, folder / loss / str(run.compile), DEVICE, notes.append) for run in kinds
            ]
            found[loss] = gap(*pair)
    wrong = [loss for loss, difference in found.items() if not difference <= TOLERANCE]
    if wrong or notes:
        raise ValueError(f"{found}, notes {notes}")
    return found


def differences(folder: Path) -> dict[str, float]:
    """Of every loss on the device and on the CPU, of a resumed run, of two processes at once."""
    found = {}
    with noise_sets(SMALL.divisor):
        for loss in LOSSES:
            run = short_run(loss)
            ours = losses(run, folder / loss / "device", DEVICE)
            theirs = losses(run, folder / loss / "cpu", CPU)
            found[f"{loss}, device and CPU"] = gap(ours[:1], theirs[:1])  # later steps only drift
        run = short_run("reweightood")
        straight = losses(run, folder / "straight", DEVICE)
        first = LocalWorker(folder / "resumed", DEVICE)
        epochs = training_epochs(run, STUDY.benchmark, first, folder=first.folder, data_root=folder)
        next(epochs)
        epochs.close()
        found["resumed and straight"] = gap(straight, losses(run, first.folder, DEVICE))
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        pairs = pool.map(_losses_there, [folder / "one", folder / "two"])
    found |= {f"process {i} and straight": gap(straight, pair) for i, pair in enumerate(pairs, 1)}
    return found


CPU = torch.device("cpu")


def short_run(loss: str, **changes: object) -> RunConfig:
    """Two epochs of three steps in float32, kernel by kernel: `auto` would compile on a GPU."""
    named = {"loss.name": loss, "precision": "float32", "epochs": 2, "batch_size": 80}
    return run_of(SMALL, **named | {"compile": False} | changes)


def losses(
    run: RunConfig,
    folder: Path,
    device: torch.device,
    on_note: Callable[[str], None] = warnings.warn,
) -> list[float]:
    """Mean loss of each epoch."""
    reports: list[EpochReport] = []
    worker = LocalWorker(folder, device, reports.append, on_note=on_note)
    train(run, STUDY.benchmark, worker, data_root=folder)
    return [report.metrics["train/loss"] for report in reports]


def gap(ours: list[float], theirs: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def _losses_there(folder: Path) -> list[float]:
    _alone()
    with noise_sets(SMALL.divisor):
        return losses(short_run("reweightood"), folder, DEVICE)


def _alone() -> None:
    """As a run in deterministic mode, so that two of them can be compared."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)


if __name__ == "__main__":
    _alone()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(differences(Path(scratch))))
