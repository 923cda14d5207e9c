"""One epoch of steps: the gradient, the learning rate, and what happens before a preemption."""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.data import loaders
from rwood.data.loaders import Batch
from rwood.data.opened import ImageSet
from rwood.errors import NonFiniteLossError
from rwood.method.schedule import learning_rate
from rwood.training.loss import average_gradients, gradient_share, loss_of
from rwood.training.state import RunState
from rwood.training.worker import Worker

SMOOTHING = 0.8
"""Weight of the past in the smoothed loss, restarted at 0 each epoch as the authors do."""
PREEMPTION_STEPS = 10
"""Steps between two questions whether this machine is being preempted. Asked of a group it is a
barrier of milliseconds; a machine that is preempted has half a minute."""

Check = Callable[[list[float]], None]
"""Raises if a loss is not finite."""


class TakeStep(Protocol):
    """How a run takes a step."""

    def __call__(self, batch: Batch, rate: float | Tensor, check: Check | None = None) -> Tensor:
        """Change the weights by the gradient of one batch.

        Args:
            batch: this worker's share.
            rate: learning rate; while a step is captured, a scalar on the device.
            check: what the loss must pass before the weights change, where it can be asked for
                without waiting for a GPU.

        Returns:
            The loss: a scalar on the device, without gradient. A GPU was not waited for.
        """


def train_epoch(
    run: RunConfig,
    benchmark: BenchmarkConfig,
    worker: Worker,
    state: RunState,
    step_with: TakeStep,
    train_set: ImageSet,
    epoch: int,
    *,
    keep: Callable[[], None],
) -> tuple[float, float, float]:
    """Train one epoch, or what is left of it after the steps whose losses the state holds.

    Every few steps the worker is asked whether it is being preempted; if so, `keep` is called.

    Args:
        run: what to train.
        benchmark: pixel statistics and sizes.
        worker: rank, world size, device.
        state: of the run; changed.
        step_with: how the run takes a step: `take_step`, or from a CUDA graph.
        train_set: the ID train set.
        epoch: 0-based.
        keep: writes a checkpoint.

    Returns:
        Mean loss, smoothed loss, last learning rate.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite; no step was taken with it. A GPU is
            asked at the end of the epoch: until then steps without a finite gradient are skipped.
    """
    state.encoder.train()
    steps = loaders.steps_per_epoch(len(train_set.labels_N), run.batch_size)
    unread: list[Tensor] = []
    rate = math.nan
    first = len(state.losses)
    batches = loaders.training_batches(
        train_set,
        run,
        benchmark,
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
        check = partial(_check_finite, run=run, epoch=epoch, first_step=step, rate=rate)
        unread.append(step_with(batch, rate, check))
        done = step + 1
        if done % PREEMPTION_STEPS == 0 and done < steps and worker.preemption_requested():
            _note(unread, run, state, epoch, rate)
            keep()
    _note(unread, run, state, epoch, rate)
    return math.fsum(state.losses) / len(state.losses), _smoothed(state.losses), rate


def take_step(
    run: RunConfig,
    worker: Worker,
    state: RunState,
    network: nn.Module,
    batch: Batch,
    rate: float | Tensor,
    check: Check | None = None,
) -> Tensor:
    """Change the weights by the gradient of one batch; see `TakeStep`.

    Args:
        run: what to train.
        worker: rank, world size, device.
        state: of the run; changed.
        network: the encoder, over all workers.
        batch: this worker's share.
        rate: learning rate.
        check: called with the loss on a CPU; if it raises, no step was taken.
    """
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
    smoothed = 0.0
    for value in losses:
        smoothed = SMOOTHING * smoothed + (1 - SMOOTHING) * value
    return smoothed


def _note(unread: list[Tensor], run: RunConfig, state: RunState, epoch: int, rate: float) -> None:
    """Move losses from the device into the state; until then no step has waited for one."""
    values = torch.stack(unread).double().tolist()
    _check_finite(values, run, epoch, len(state.losses), rate)
    state.losses += values
    unread.clear()


def _check_finite(
    values: list[float], run: RunConfig, epoch: int, first_step: int, rate: float
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
