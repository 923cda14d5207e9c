"""The only training loop: one run, on one worker or many, resumable to the bit on a CPU."""

import math
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rwood.data import image_sets, loaders
from rwood.data.image_sets import ImageSet
from rwood.errors import NonFiniteLossError
from rwood.evaluation.evaluate import open_validation, validate
from rwood.method.schedule import learning_rate
from rwood.model.batch_norm import convert_global_batch_norm
from rwood.model.checkpoint_keys import load_backbone_weights, openood_state
from rwood.model.encoder import Encoder, build_encoder, trainable_parameters
from rwood.results import EpochReport
from rwood.spec.benchmark import BenchmarkSpec
from rwood.spec.run import RunSpec
from rwood.spec.study import run_digest
from rwood.training import checkpoint
from rwood.training.arithmetic import Precision, arithmetic
from rwood.training.loss import first_prototypes, gradient_share, loss_of
from rwood.training.state import RunState
from rwood.training.worker import Worker

ENCODER_FILE = "encoder.pt"
"""The weights to score, in OpenOOD's form; written when a run ends."""
SMOOTHING = 0.8
"""Weight of the past in the smoothed loss, restarted at 0 each epoch as the authors do."""


def train(run: RunSpec, benchmark: BenchmarkSpec, worker: Worker, *, data_root: Path) -> Encoder:
    """Train one run and return the encoder to score.

    Every epoch ends with a checkpoint and a report. If the worker's folder holds checkpoints of
    this training, it goes on from the last one, after reporting again what was reported before, so
    that whoever listens misses nothing. Trials see validation sets only.

    Args:
        run: what to train.
        benchmark: ID train set, validation sets, pixel statistics.
        worker: rank, world size, device, folder, report.
        data_root: where image sets lie.

    Raises:
        NonFiniteLossError: the loss left the real numbers; no step was taken with it.
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
    run: RunSpec, benchmark: BenchmarkSpec, worker: Worker, *, folder: Path, data_root: Path
) -> Generator[EpochReport, None, Encoder]:
    """Train one run an epoch at a time; see `train`.

    Args:
        run: what to train.
        benchmark: ID train set, validation sets, pixel statistics.
        worker: rank, world size, device.
        folder: the run's checkpoints.
        data_root: where image sets lie.

    Yields:
        The report of each epoch, whose checkpoint is on disk.

    Returns:
        The encoder to score.
    """
    digest = run_digest(run, benchmark)
    train_set = image_sets.open_set(benchmark.id.train, benchmark, data_root)
    saved = checkpoint.load_latest(folder, digest)
    state = _begin(run, benchmark, worker, data_root, saved.get("precision") if saved else None)
    if saved is not None:
        state.unpack(saved)
        yield from list(state.history)
    else:
        state.prototypes_CD = first_prototypes(run, state.encoder, train_set, benchmark, worker)
    network = _wrap(state.encoder, run, worker)
    for epoch in range(len(state.history), run.epochs):
        started = time.monotonic()
        mean, smoothed, rate = _one_epoch(run, benchmark, worker, state, network, train_set, epoch)
        seconds = time.monotonic() - started
        metrics = {
            "train/loss": mean,
            "train/loss_smoothed": smoothed,
            "train/lr": rate,
            "sys/images_per_s": len(train_set.labels_N) / seconds,
            "sys/train_seconds": seconds,
            "sys/significand_bits": float(state.arithmetic.significand_bits),
        }
        if worker.device.type == "cuda":
            metrics["sys/gpu_memory_gb"] = torch.cuda.max_memory_allocated(worker.device) / 1e9
        if run.checkpoint == "lowest_loss" and smoothed <= state.best_loss:
            state.best_loss = smoothed
            state.best_weights = state.weights()
        done = epoch + 1
        if worker.rank == 0 and (done % run.validate_every == 0 or done == run.epochs):
            sets = open_validation(benchmark, data_root)
            metrics |= validate(state.encoder, sets, benchmark, run.scorer, worker.device)
        report = EpochReport(epoch=done, time=time.time(), metrics=metrics)
        state.history.append(report)
        if worker.rank == 0:
            if done == run.epochs:
                # Before the last report: whoever hears that the run is complete finds its weights.
                final = state.best_weights or state.weights()
                checkpoint.write_tensors(folder / ENCODER_FILE, openood_state(final))
            checkpoint.save(folder, done, digest, state.pack())
        yield report
    if state.best_weights is not None:
        state.encoder.load_state_dict(state.best_weights)
    return state.encoder


def _begin(
    run: RunSpec,
    benchmark: BenchmarkSpec,
    worker: Worker,
    data_root: Path,
    precision: Precision | None,
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
    trained = list(trainable_parameters(encoder, run.model))
    kind = arithmetic(run, benchmark, encoder, worker, precision)
    kind.place(encoder)
    optimizer = torch.optim.SGD(
        trained,
        lr=run.optimizer.lr,
        momentum=run.optimizer.momentum,
        weight_decay=run.optimizer.weight_decay,
        nesterov=run.optimizer.nesterov,
        fused=True,
    )
    return RunState(encoder, optimizer, kind.scaler(), kind, [])


def _wrap(encoder: Encoder, run: RunSpec, worker: Worker) -> nn.Module:
    """What the loss sees: the encoder, over all workers."""
    network: nn.Module = encoder
    if run.compile:
        encoder.compile()
    if worker.world_size == 1:
        return network
    convert_global_batch_norm(encoder, dist.group.WORLD)
    devices = [worker.device.index] if worker.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)


def _one_epoch(
    run: RunSpec,
    benchmark: BenchmarkSpec,
    worker: Worker,
    state: RunState,
    network: nn.Module,
    train_set: ImageSet,
    epoch: int,
) -> tuple[float, float, float]:
    """Train one epoch; mean loss, smoothed loss and last learning rate."""
    network.train()
    steps = loaders.steps_per_epoch(len(train_set.labels_N), run.batch_size)
    seen: list[Tensor] = []
    rate = math.nan
    for step, batch in enumerate(_batches(run, benchmark, worker, train_set, epoch)):
        rate = _learning_rate(run, epoch, step, steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad(set_to_none=True)
        with state.arithmetic.autocast():
            outputs_MD = network(state.arithmetic.lay_out(batch.images))
        loss = loss_of(run, outputs_MD, batch, worker, state)
        if worker.device.type == "cpu":
            _check_finite([loss.item()], run, epoch, step, rate)
        state.scaler.scale(loss * gradient_share(run, worker)).backward()  # type: ignore[no-untyped-call]
        state.scaler.step(state.optimizer)
        state.scaler.update()
        seen.append(loss.detach())
    values = torch.stack(seen).double().tolist()
    _check_finite(values, run, epoch, 0, rate)
    smoothed = 0.0
    for value in values:
        smoothed = SMOOTHING * smoothed + (1 - SMOOTHING) * value
    return math.fsum(values) / len(values), smoothed, rate


def _batches(
    run: RunSpec, benchmark: BenchmarkSpec, worker: Worker, train_set: ImageSet, epoch: int
) -> Iterator[loaders.Batch]:
    return loaders.training_batches(
        train_set,
        run,
        benchmark,
        epoch=epoch,
        rank=worker.rank,
        world_size=worker.world_size,
        device=worker.device,
    )


def _learning_rate(run: RunSpec, epoch: int, step: int, steps: int) -> float:
    return learning_rate(
        epoch=epoch,
        step=step,
        steps_per_epoch=steps,
        epochs=run.epochs,
        lr=run.optimizer.lr,
        warmup=run.schedule.warmup,
        warmup_epochs=run.schedule.warmup_epochs,
        warmup_from=run.schedule.warmup_from,
        decay=run.schedule.decay,
        milestones=run.schedule.milestones,
    )


def _check_finite(
    values: list[float], run: RunSpec, epoch: int, first_step: int, rate: float
) -> None:
    warmer = " or a higher loss.temperature" if hasattr(run.loss, "temperature") else ""
    for step, value in enumerate(values, start=first_step):
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the loss became {value} in epoch {epoch + 1}, step {step + 1}, at "
                f"learning rate {rate:.4g}; try a lower optimizer.lr{warmer}",
                epoch=epoch + 1,
                step=step + 1,
                lr=rate,
                loss=value,
            )
