"""The only training loop: one run, on one worker or many, resumable to the bit on a CPU."""

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial, reduce
from pathlib import Path

import torch
from torch import Tensor, nn

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.held_out import fold_of
from rwood.config.run import RunConfig
from rwood.config.study import run_digest
from rwood.data import image_sets, loaders
from rwood.data.loaders import Batch
from rwood.evaluation.embed import EmbeddingPass
from rwood.evaluation.validation import open_validation, validate
from rwood.method.schedule import learning_rate
from rwood.model.checkpoint_keys import openood_state, write_tensors
from rwood.model.encoder import Encoder
from rwood.paths import RunPaths
from rwood.results import EpochReport
from rwood.training import checkpoint
from rwood.training.begin import Task, begin, start_loss, step_of, wrap
from rwood.training.graph import Check, TakeStep
from rwood.training.loss import average_gradients, check_finite, gradient_share, loss_of
from rwood.training.state import RunState
from rwood.training.worker import Worker, of_rank_0

SMOOTHING = 0.8
"""Weight of the past in the smoothed loss, restarted at 0 each epoch as the authors do."""
PREEMPTION_STEPS = 10
"""Steps between two questions whether this machine is being preempted. Asked of a group it is a
barrier of milliseconds; a machine that is preempted has half a minute."""
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
    task = Task(run, benchmark, worker, data_root, train_set)
    state = begin(task, saved.get("precision") if saved else None)
    if saved is not None:
        state.load_state_dict(saved)
        yield from list(state.history)
    else:
        start_loss(task, state)
    network = wrap(state.encoder, worker, state.compiled)
    step = step_of(task, state, partial(take_step, task, state, network))
    with checkpoint.Writer(folder, digest, behind=worker.device.type == "cuda") as writer:
        for _ in range(len(state.history), run.epochs):
            yield _one_epoch(task, state, step, writer)
    if state.best_weights is not None:
        state.encoder.load_state_dict(state.best_weights)
    return state.encoder


def _one_epoch(
    task: Task, state: RunState, step: TakeStep, writer: checkpoint.Writer
) -> EpochReport:
    """Train the next epoch, validate, and hand the checkpoint to its writer."""
    run, worker = task.run, task.worker
    epoch, earlier, cpu_started = len(state.history), state.seconds, time.process_time()
    started = time.monotonic() - earlier
    keep = partial(_keep, worker, writer, epoch, state, started)
    mean, smoothed, rate = train_epoch(task, state, step, epoch, keep=keep)
    seconds = time.monotonic() - started
    state.losses, state.seconds = [], 0.0
    metrics = {
        "train/loss": mean,
        "train/loss_smoothed": smoothed,
        "train/lr": rate,
        "sys/images_per_s": len(task.train_set.labels_N) / seconds,
        "sys/train_seconds": seconds,
        "sys/cpu_cores": (time.process_time() - cpu_started) / (seconds - earlier),
        "sys/significand_bits": float(state.precision.significand_bits),
    }
    if worker.device.type == "cuda":
        metrics["sys/gpu_memory_gb"] = torch.cuda.max_memory_allocated(worker.device) / 1e9
    # Under a local loss each rank has its own, and all keep one epoch.
    least = of_rank_0(smoothed, worker)
    if run.checkpoint == "lowest_loss" and least <= state.best_loss:
        state.best_loss = least
        state.best_weights = state.weights()
    done = epoch + 1
    if done % run.validate_every == 0 or done == run.epochs:
        sets = open_validation(task.benchmark, task.data_root)
        half = state.precision.name if worker.device.type == "cuda" else "float32"
        how = EmbeddingPass(half, worker.rank, worker.world_size)
        with state.kept_weights() as encoder:
            metrics |= validate(encoder, sets, task.benchmark, run.scorer, worker.device, how=how)
    report = EpochReport(epoch=done, time=time.time(), metrics=metrics)
    state.history.append(report)
    if worker.rank == 0:
        if done == run.epochs:
            # Before the last report: whoever hears that the run is complete finds its weights.
            final = state.best_weights or state.weights()
            write_tensors(RunPaths(writer.folder).encoder, openood_state(final))
        writer.save(done, state.state_dict(), at_once=done == run.epochs)
    return report


def train_epoch(
    task: Task, state: RunState, step_with: TakeStep, epoch: int, *, keep: Callable[[], None]
) -> tuple[float, float, float]:
    """Train one epoch, or what is left of it after the steps whose losses the state holds.

    Every few steps the worker is asked whether it is being preempted; if so, `keep` is called.

    Args:
        task: what the training is given.
        state: of the run; changed.
        step_with: how the run takes a step: `take_step`, or from a CUDA graph.
        epoch: 0-based.
        keep: writes a checkpoint.

    Returns:
        Mean loss, smoothed loss, last learning rate.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite; no step was taken with it. A GPU is
            asked at the end of the epoch: until then steps without a finite gradient are skipped.
    """
    run, worker = task.run, task.worker
    state.encoder.train()
    steps = loaders.steps_per_epoch(len(task.train_set.labels_N), run.batch_size)
    unread: list[Tensor] = []
    rate = math.nan
    first = len(state.losses)
    batches = loaders.training_batches(
        task.train_set,
        run,
        task.benchmark,
        epoch=epoch,
        rank=worker.rank,
        world_size=worker.world_size,
        device=worker.device,
        first_step=first,
        compiled=state.compiled,
    )
    rate_of = partial(learning_rate, epoch=epoch, steps_per_epoch=steps, epochs=run.epochs,
                      lr=run.optimizer.lr, **run.schedule.model_dump())  # fmt: skip
    for step, batch in enumerate(batches, first):
        rate = rate_of(step=step)
        check = partial(check_finite, run=run, epoch=epoch, first_step=step, rate=rate)
        unread.append(step_with(batch, rate, check))
        done = step + 1
        if done % PREEMPTION_STEPS == 0 and done < steps and worker.preemption_requested():
            _note(unread, run, state, epoch, rate)
            keep()
    _note(unread, run, state, epoch, rate)
    return math.fsum(state.losses) / len(state.losses), _smoothed(state.losses), rate


def take_step(
    task: Task,
    state: RunState,
    network: nn.Module,
    batch: Batch,
    rate: float | Tensor,
    check: Check | None = None,
) -> Tensor:
    """Change the weights by the gradient of one batch; see `TakeStep`.

    Args:
        task: what the training is given.
        state: of the run; changed.
        network: the encoder, over all workers.
        batch: this worker's share.
        rate: learning rate.
        check: called with the loss on a CPU; if it raises, no step was taken.
    """
    run, worker = task.run, task.worker
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    with state.precision.autocast():
        outputs_MD = network(state.precision.lay_out(batch.images))
    loss = loss_of(state.loss, run, outputs_MD, batch, worker)
    if check is not None and worker.device.type == "cpu":
        check([loss.item()])
    share = gradient_share(state.loss, run, worker)
    state.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
    average_gradients(state.loss, worker)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return loss.detach()


def _smoothed(losses: list[float]) -> float:
    return reduce(lambda past, loss: SMOOTHING * past + (1 - SMOOTHING) * loss, losses, 0.0)


def _note(unread: list[Tensor], run: RunConfig, state: RunState, epoch: int, rate: float) -> None:
    """Move losses from the device into the state; until then no step has waited for one."""
    values = torch.stack(unread).double().tolist()
    check_finite(values, run, epoch, len(state.losses), rate)
    state.losses += values
    unread.clear()


def _keep(
    worker: Worker, writer: checkpoint.Writer, epoch: int, state: RunState, started: float
) -> None:
    """Write a checkpoint within an epoch, unless the last one is new."""
    seconds = time.monotonic() - started
    if worker.rank == 0 and seconds - state.seconds >= KEEP_S:
        state.seconds = seconds
        writer.save(epoch, state.state_dict(), step=len(state.losses), at_once=True)
