"""The loss of a run: which module, over whose rows, and that it stays finite.

Legend of shape suffixes: M rows (views) of this worker, N rows of all workers, D dims, C classes.
"""

import math
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rwood.config.losses import LOSSES
from rwood.config.registry import asked_for, find
from rwood.config.run import RunConfig
from rwood.data.loaders import Batch
from rwood.data.sharding import edges
from rwood.errors import NonFiniteLossError
from rwood.method.losses import Loss, Rows
from rwood.training.worker import Worker


def build_loss(run: RunConfig, classes: int, device: torch.device) -> nn.Module:
    """The loss of a run, before its first step, with its buffers on the device.

    Raises:
        ValueError: other people's loss cannot be imported.
    """
    part, _ = find("losses", run.loss.part, tuple(LOSSES))
    ours = {"scope"} if run.loss.name in LOSSES else set()  # asked by `is_global`
    settings = {key: value for key, value in run.loss if key not in ours | {"name"}}
    settings |= asked_for(part, {"classes": classes, "dims": row_length(run, classes)})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(run.seed)
        loss: nn.Module = part(**settings)
    return loss.to(device)


def loss_of(
    loss: nn.Module, run: RunConfig, outputs_MD: Tensor, batch: Batch, worker: Worker
) -> Tensor:
    """The loss of one step over the rows of all workers, or of this one if it is local."""
    if not isinstance(loss, Loss):
        return loss(outputs_MD, batch.labels)  # type: ignore[no-any-return]
    rows = Rows(largest_class=batch.largest_class)
    if worker.world_size > 1 and is_global(loss, run):
        firsts = edges(batch.count, worker.world_size)
        rows = Rows(
            group=dist.group.WORLD,
            # Given how many rows each rank has, no rank needs to exchange it.
            per_rank=[2 * (end - first) for first, end in pairwise(firsts)],
            order_N=_one_workers_order(firsts, outputs_MD.device),
            largest_class=batch.largest_class,
        )
    return loss(outputs_MD, batch.labels, rows)  # type: ignore[no-any-return]


def check_finite(
    values: list[float], run: RunConfig, epoch: int, first_step: int, rate: float
) -> None:
    """Look for a NaN or an infinity among the losses of consecutive steps.

    Raises:
        NonFiniteLossError: there is one.
    """
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


def is_global(loss: nn.Module, run: RunConfig) -> bool:
    """Whether the loss is over the rows of all workers."""
    return isinstance(loss, Loss) and getattr(run.loss, "scope", "global") != "local"


def gradient_share(loss: nn.Module, run: RunConfig, worker: Worker) -> int:
    """Data-parallel averaging divides by the world size; a global loss needs the sum."""
    return worker.world_size if is_global(loss, run) else 1


def average_gradients(loss: nn.Module, worker: Worker) -> None:
    """What data-parallel training does to the network's gradients, for those of the loss itself."""
    if worker.world_size > 1:
        for parameter in loss.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= worker.world_size


def row_length(run: RunConfig, classes: int) -> int:
    """Values in a row that the loss sees: of a projection, or a classifier's logits."""
    return classes if run.is_classifier else run.model.projection_dim


def _one_workers_order(edges: list[int], device: torch.device) -> Tensor:
    """(N,) rows in rank order -> in the order that one worker has: first views, then second."""
    views_of_rank = [
        torch.arange(2 * begin, 2 * end, device=device).view(2, end - begin)
        for begin, end in pairwise(edges)
    ]
    return torch.cat(views_of_rank, dim=1).flatten()
