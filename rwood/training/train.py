"""The only training loop: one run, on one worker or many, resumable to the bit on a CPU."""

import time
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from rwood.config.backbones import BACKBONES
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.held_out import fold_of
from rwood.config.losses import LOSSES
from rwood.config.run import RunConfig
from rwood.config.study import run_digest
from rwood.data import image_sets
from rwood.data.opened import ImageSet
from rwood.evaluation.embed import EmbeddingPass
from rwood.evaluation.validation import open_validation, validate
from rwood.model.batch_norm import convert_global_batch_norm
from rwood.model.checkpoint_keys import load_backbone_weights, openood_state, write_tensors
from rwood.model.encoder import Encoder, encoder_of, freeze
from rwood.model.precision import PrecisionName, set_up
from rwood.paths import RunPaths
from rwood.results import EpochReport
from rwood.training import checkpoint
from rwood.training.compiled import compiles
from rwood.training.epoch import TakeStep, take_step, train_epoch
from rwood.training.graph import GraphedStep
from rwood.training.loss import build_loss, start_loss
from rwood.training.precision import choose_precision
from rwood.training.state import RunState
from rwood.training.worker import Worker

KEEP_S = 2.0
"""Training since the last checkpoint that is worth one more while the machine is preempted."""


def train(
    run: RunConfig, benchmark: BenchmarkConfig, worker: Worker, *, data_root: Path
) -> Encoder:
    """Train one run and return the encoder to score.

    Every epoch ends with a checkpoint and a report; while the worker is being preempted, there are
    checkpoints within an epoch. If the worker's folder holds checkpoints of this training, it goes
    on from the last one, after reporting again what was reported before. Trials see validation sets
    only. The weights validated are those that the run would return if it ended there
    (`run.checkpoint`).

    Args:
        run: what to train.
        benchmark: ID train set, validation sets, pixel statistics. With a held-out set, the fold
            of the run's seed is left out of training and of every ID set.
        worker: rank, world size, device, folder, report, and whether it is being preempted.
        data_root: where image sets lie.

    Raises:
        NonFiniteLossError: see `train_epoch`.
        DataError: an image set is missing or corrupt.
        StudyError: the folder holds another training.
    """
    with closing(
        training_epochs(run, benchmark, worker, folder=worker.folder, data_root=data_root)
    ) as epochs:
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
    """Train one run an epoch at a time, with its checkpoints in the folder; see `train`.

    Yields:
        The report of each epoch. Its checkpoint is on disk; beside a GPU it may still be written,
        or left out where the disk is slow, but for the last.

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
    step = _step_of(run, worker, state, _wrap(state.encoder, worker, state.compiled))
    behind = worker.device.type == "cuda"
    with checkpoint.Writer(folder, digest, behind=behind) as writer:
        for _ in range(len(state.history), run.epochs):
            yield _one_epoch(
                run, benchmark, worker, state, step, train_set, writer, data_root=data_root
            )
    if state.best_weights is not None:
        state.encoder.load_state_dict(state.best_weights)
    return state.encoder


def _one_epoch(
    run: RunConfig,
    benchmark: BenchmarkConfig,
    worker: Worker,
    state: RunState,
    step: TakeStep,
    train_set: ImageSet,
    writer: checkpoint.Writer,
    *,
    data_root: Path,
) -> EpochReport:
    """Train the next epoch, validate, and hand the checkpoint to its writer."""
    epoch, earlier, cpu_started = len(state.history), state.seconds, time.process_time()
    started = time.monotonic() - earlier
    keep = partial(_keep, worker, writer, epoch, state, started)
    mean, smoothed, rate = train_epoch(
        run, benchmark, worker, state, step, train_set, epoch, keep=keep
    )
    seconds = time.monotonic() - started
    state.losses, state.seconds = [], 0.0
    metrics = {
        "train/loss": mean,
        "train/loss_smoothed": smoothed,
        "train/lr": rate,
        "sys/images_per_s": len(train_set.labels_N) / seconds,
        "sys/train_seconds": seconds,
        "sys/cpu_cores": (time.process_time() - cpu_started) / (seconds - earlier),
        "sys/significand_bits": float(state.precision.significand_bits),
    }
    if worker.device.type == "cuda":
        metrics["sys/gpu_memory_gb"] = torch.cuda.max_memory_allocated(worker.device) / 1e9
    least = _of_rank_0(smoothed, worker)
    if run.checkpoint == "lowest_loss" and least <= state.best_loss:
        state.best_loss = least
        state.best_weights = state.weights()
    done = epoch + 1
    if done % run.validate_every == 0 or done == run.epochs:
        sets = open_validation(benchmark, data_root)
        half = state.precision.name if worker.device.type == "cuda" else "float32"
        how = EmbeddingPass(half, worker.rank, worker.world_size)
        with state.kept_weights() as encoder:
            metrics |= validate(encoder, sets, benchmark, run.scorer, worker.device, how=how)
    report = EpochReport(epoch=done, time=time.time(), metrics=metrics)
    state.history.append(report)
    if worker.rank == 0:
        if done == run.epochs:
            # Before the last report: whoever hears that the run is complete finds its weights.
            final = state.best_weights or state.weights()
            write_tensors(RunPaths(writer.folder).encoder, openood_state(final))
        writer.save(done, state.state_dict(), at_once=done == run.epochs)
    return report


def _of_rank_0(value: float, worker: Worker) -> float:
    """The value of rank 0: under a local loss each rank has its own, and all keep one epoch."""
    if worker.world_size == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=worker.device)
    dist.broadcast(shared, 0)
    return float(shared)


def _keep(
    worker: Worker, writer: checkpoint.Writer, epoch: int, state: RunState, started: float
) -> None:
    """Write a checkpoint within an epoch, unless the last one is new."""
    seconds = time.monotonic() - started
    if worker.rank == 0 and seconds - state.seconds >= KEEP_S:
        state.seconds = seconds
        writer.save(epoch, state.state_dict(), step=len(state.losses), at_once=True)


def _begin(
    run: RunConfig,
    benchmark: BenchmarkConfig,
    worker: Worker,
    data_root: Path,
    precision: PrecisionName | None,
) -> RunState:
    """A run before its first step, in the precision that it was started with before."""
    torch.manual_seed(run.seed)
    encoder = encoder_of(run, benchmark)
    if run.model.weights is not None:
        load_backbone_weights(encoder, data_root / run.model.weights)
    set_up(worker.device)
    if worker.device.type == "cuda":
        # A process that trains one trial after another reports the peak of each.
        torch.cuda.reset_peak_memory_stats(worker.device)
    loss = build_loss(run, benchmark.classes, worker.device)
    freeze(encoder, run.model)
    kind = choose_precision(run, benchmark, encoder, worker, precision)
    kind.place(encoder)
    trained = [p for p in encoder.parameters() if p.requires_grad] + [*loss.parameters()]
    optimizer = _optimizer(run, trained)
    compiled = compiles(run.compile, worker.device, worker.note)
    return RunState(encoder, loss, optimizer, kind.scaler(), kind, [], compiled)


def _optimizer(run: RunConfig, trained: list[nn.Parameter]) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(trained, fused=True, **run.optimizer.model_dump())
    if run.optimizer.momentum:
        # The fused step makes the buffers without a value, and leaves them so where it skips a
        # first gradient that is not finite.
        for parameter in trained:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _wrap(encoder: Encoder, worker: Worker, compiled: bool) -> nn.Module:
    """What the loss sees: the encoder, over all workers."""
    network: nn.Module = encoder
    if compiled:
        encoder.compile(dynamic=False)  # two shapes: the last batch of an epoch is smaller
    if worker.world_size == 1:
        return network
    convert_global_batch_norm(encoder, dist.group.WORLD)
    devices = [worker.device.index] if worker.device.type == "cuda" else None
    # Every worker computes the same buffers: none needs to be sent.
    return nn.parallel.DistributedDataParallel(
        network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def _step_of(run: RunConfig, worker: Worker, state: RunState, network: nn.Module) -> TakeStep:
    """How a run takes its steps.

    Compiled and alone on a GPU, it replays them from CUDA graphs, if loss and backbone are ours and
    the loss carries nothing from step to step.
    """
    plain = partial(take_step, run, worker, state, network)
    ours = run.loss.name in LOSSES and run.model.backbone in BACKBONES
    alone = worker.device.type == "cuda" and worker.world_size == 1
    if state.compiled and alone and ours and not list(state.loss.buffers()):
        return GraphedStep(plain, state, worker.note)
    return plain
