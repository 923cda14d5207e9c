"""One step of a run: from a batch to changed weights."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from rwood.config.run import RunConfig
from rwood.data.loaders import Batch
from rwood.training.loss import average_gradients, gradient_share, loss_of
from rwood.training.state import RunState
from rwood.training.worker import Worker

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
