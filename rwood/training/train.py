"""The only training loop: one run, on one worker or many, resumable to the bit on a CPU."""

import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.held_out import fold_of
from rwood.config.run import RunConfig
from rwood.config.study import run_digest
from rwood.data import image_sets
from rwood.evaluation.validation import open_validation, validate
from rwood.model.batch_norm import convert_global_batch_norm
from rwood.model.checkpoint_keys import load_backbone_weights, openood_state
from rwood.model.encoder import Encoder, build_encoder, freeze
from rwood.paths import RunPaths
from rwood.results import EpochReport
from rwood.training import checkpoint
from rwood.training.epoch import train_epoch
from rwood.training.loss import build_loss, start_loss
from rwood.training.precision import PrecisionName, choose_precision
from rwood.training.state import RunState
from rwood.training.worker import Worker

KEEP_S = 2.0
"""Training since the last checkpoint that is worth one more while the machine is taken away."""


def train(
    run: RunConfig, benchmark: BenchmarkConfig, worker: Worker, *, data_root: Path
) -> Encoder:
    """Train one run and return the encoder to score.

    Every epoch ends with a checkpoint and a report; while the worker is about to be taken away,
    there are checkpoints within an epoch. If the worker's folder holds checkpoints of
    this training, it goes on from the last one, after reporting again what was reported before, so
    that whoever listens misses nothing. Trials see validation sets only. The weights validated are
    those that the run would return if it ended there (`run.checkpoint`).

    Args:
        run: what to train.
        benchmark: ID train set, validation sets, pixel statistics. With a held-out set, the fold
            of the run's seed is left out of training and of every ID set.
        worker: rank, world size, device, folder, report, and whether it is about to be taken away.
        data_root: where image sets lie.

    Raises:
        NonFiniteLossError: the loss left the real numbers; no step was taken with it. A GPU is
            asked at the end of the epoch: until then steps without a finite gradient are skipped.
        DataError: an image set is missing or corrupt.
        StudyError: the folder holds another training.
    """
    epochs = training_epochs(run, benchmark, worker, folder=worker.folder, data_root=data_root)
    while True:
        try:
            report = next(epochs)
        except StopIteration as end:
            encoder: Encoder = end.value
            return encoder
        worker.report(report)


def training_epochs(
    run: RunConfig, benchmark: BenchmarkConfig, worker: Worker, *, folder: Path, data_root: Path
) -> Generator[EpochReport, None, Encoder]:
    """Train one run an epoch at a time; see `train`.

    Args:
        run: what to train.
        benchmark: ID train set, validation sets, pixel statistics.
        worker: all but `folder` and `report` of it.
        folder: the run's checkpoints.
        data_root: where image sets lie.

    Yields:
        The report of each epoch, whose checkpoint is on disk.

    Returns:
        The encoder to score.
    """
    benchmark = fold_of(benchmark, run.seed)
    digest = run_digest(run, benchmark)
    train_set = image_sets.open_set(benchmark.id.train, benchmark, data_root)
    saved = checkpoint.load_latest(folder, digest, worker.note)
    state = _begin(run, benchmark, worker, data_root, saved.get("precision") if saved else None)
    if saved is not None:
        state.load_state_dict(saved)
        yield from list(state.history)
    else:
        start_loss(state.loss, run, state.encoder, train_set, benchmark, worker)
    network = _wrap(state.encoder, run, worker)
    for epoch in range(len(state.history), run.epochs):
        started = time.monotonic() - state.seconds
        keep = partial(_keep, worker, folder, epoch, digest, state, started)
        mean, smoothed, rate = train_epoch(
            run, benchmark, worker, state, network, train_set, epoch, keep=keep
        )
        seconds = time.monotonic() - started
        state.losses, state.seconds = [], 0.0
        metrics = {
            "train/loss": mean,
            "train/loss_smoothed": smoothed,
            "train/lr": rate,
            "sys/images_per_s": len(train_set.labels_N) / seconds,
            "sys/train_seconds": seconds,
            "sys/significand_bits": float(state.precision.significand_bits),
        }
        if worker.device.type == "cuda":
            metrics["sys/gpu_memory_gb"] = torch.cuda.max_memory_allocated(worker.device) / 1e9
        if run.checkpoint == "lowest_loss" and smoothed <= state.best_loss:
            state.best_loss = smoothed
            state.best_weights = state.weights()
        done = epoch + 1
        if worker.rank == 0 and (done % run.validate_every == 0 or done == run.epochs):
            sets = open_validation(benchmark, data_root)
            with state.kept_weights() as encoder:
                metrics |= validate(encoder, sets, benchmark, run.scorer, worker.device)
        report = EpochReport(epoch=done, time=time.time(), metrics=metrics)
        state.history.append(report)
        if worker.rank == 0:
            if done == run.epochs:
                # Before the last report: whoever hears that the run is complete finds its weights.
                final = state.best_weights or state.weights()
                checkpoint.write_tensors(RunPaths(folder).encoder, openood_state(final))
            checkpoint.save(folder, done, digest, state.state_dict())
        yield report
    if state.best_weights is not None:
        state.encoder.load_state_dict(state.best_weights)
    return state.encoder


def _keep(
    worker: Worker, folder: Path, epoch: int, digest: str, state: RunState, started: float
) -> None:
    """Write a checkpoint within an epoch, unless the last one is new."""
    seconds = time.monotonic() - started
    if worker.rank == 0 and seconds - state.seconds >= KEEP_S:
        state.seconds = seconds
        checkpoint.save(folder, epoch, digest, state.state_dict(), step=len(state.losses))


def _begin(
    run: RunConfig,
    benchmark: BenchmarkConfig,
    worker: Worker,
    data_root: Path,
    precision: PrecisionName | None,
) -> RunState:
    """A run before its first step, in the precision that it was started with before."""
    torch.manual_seed(run.seed)
    encoder = build_encoder(
        run.model,
        channels=benchmark.channels,
        seed=run.seed,
        classes=benchmark.classes if run.is_classifier else None,
    )
    if run.model.weights is not None:
        load_backbone_weights(encoder, data_root / run.model.weights)
    if worker.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        # TF32 in convolutions, as torch and the authors have it; never in the products of the
        # loss and of the scorers.
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = False
        # A process that trains one trial after another reports the peak of each.
        torch.cuda.reset_peak_memory_stats(worker.device)
    loss = build_loss(run, benchmark.classes, worker.device)
    freeze(encoder, run.model)
    kind = choose_precision(run, benchmark, encoder, worker, precision)
    kind.place(encoder)
    trained = [p for p in encoder.parameters() if p.requires_grad] + [*loss.parameters()]
    optimizer = torch.optim.SGD(
        trained,
        lr=run.optimizer.lr,
        momentum=run.optimizer.momentum,
        weight_decay=run.optimizer.weight_decay,
        nesterov=run.optimizer.nesterov,
        fused=True,
    )
    if run.optimizer.momentum:
        # The fused step makes the buffers without a value, and leaves them so where it skips a
        # first gradient that is not finite.
        for parameter in trained:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return RunState(encoder, loss, optimizer, kind.scaler(), kind, [])


def _wrap(encoder: Encoder, run: RunConfig, worker: Worker) -> nn.Module:
    """What the loss sees: the encoder, over all workers."""
    network: nn.Module = encoder
    if run.compile:
        encoder.compile()
    if worker.world_size == 1:
        return network
    convert_global_batch_norm(encoder, dist.group.WORLD)
    devices = [worker.device.index] if worker.device.type == "cuda" else None
    # Every worker computes the same buffers: none needs to be sent.
    return nn.parallel.DistributedDataParallel(
        network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )
