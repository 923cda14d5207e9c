"""The loss of a run: which of the method's it is, over whose rows, and what it remembers.

Legend of shape suffixes: M rows (views) of this worker, N rows of all workers, D dims, C classes.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.data.loaders import Batch, embedding_batches
from rwood.data.opened import ImageSet
from rwood.evaluation.embed import BATCH
from rwood.method import losses
from rwood.model.encoder import Encoder
from rwood.training.state import RunState
from rwood.training.worker import Worker


def loss_of(
    run: RunConfig, outputs_MD: Tensor, batch: Batch, worker: Worker, state: RunState
) -> Tensor:
    """The loss of one step, over the rows of all workers unless it is local.

    Args:
        run: which loss, and its settings.
        outputs_MD: what the encoder's last part made of the batch.
        batch: labels and row counts.
        worker: rank, world size.
        state: CIDER's prototypes are read from it and replaced.
    """
    knobs: dict[str, Any] = run.loss.model_dump(exclude={"name", "scope"})
    edges = _edges(batch.count, worker.world_size)
    if worker.world_size > 1 and is_global(run):
        # Told how many rows each rank has, no rank needs to ask.
        knobs["rows_per_rank"] = [2 * (b - a) for a, b in pairwise(edges)]
        knobs["group"] = dist.group.WORLD
    match run.loss.name:
        case "reweightood":
            return losses.reweightood_loss(outputs_MD, batch.labels, **knobs)
        case "supcon":
            return losses.supcon_loss(outputs_MD, batch.labels, **knobs)
        case "cross_entropy":
            return losses.cross_entropy_loss(outputs_MD, batch.labels, **knobs)
        case "cider":
            assert state.prototypes_CD is not None
            loss, state.prototypes_CD = losses.cider_loss(
                outputs_MD,
                batch.labels,
                state.prototypes_CD,
                longest_class=batch.largest_class,
                order_N=_one_workers_order(edges, outputs_MD.device),
                **knobs,
            )
            return loss


def is_global(run: RunConfig) -> bool:
    """Whether the loss is over the rows of all workers."""
    return getattr(run.loss, "scope", "global") == "global"


def gradient_share(run: RunConfig, worker: Worker) -> int:
    """Data-parallel averaging divides by the world size; a global loss needs the sum."""
    return worker.world_size if is_global(run) else 1


def first_prototypes(
    run: RunConfig,
    encoder: Encoder,
    train_set: ImageSet,
    benchmark: BenchmarkConfig,
    worker: Worker,
) -> Tensor | None:
    """CIDER's prototypes before the first step; None for other losses.

    The direction of every class's mean projection over the ID train set, in evaluation mode and
    without augmentation, as in the authors' code (OpenOOD takes the ID validation set). Rank 0
    computes them for all.

    Returns:
        (C, D) unit rows; a class without an image has a zero row.
    """
    if run.loss.name != "cider":
        return None
    like = next(encoder.parameters())
    prototypes_CD = like.new_zeros(benchmark.classes, run.model.projection_dim)
    if worker.rank == 0:
        sums_CD = prototypes_CD.double()
        labels_N = torch.tensor(train_set.labels_N, device=like.device)
        encoder.eval()
        with torch.no_grad():
            batches = embedding_batches(train_set, benchmark, device=like.device, batch=BATCH)
            for i, images in enumerate(batches):
                rows = slice(i * BATCH, i * BATCH + len(images))
                sums_CD.index_add_(0, labels_N[rows], encoder.project(images).double())
        encoder.train()
        prototypes_CD = F.normalize(sums_CD, dim=1).to(like.dtype)
    if worker.world_size > 1:
        dist.broadcast(prototypes_CD, 0)
    return prototypes_CD


def _edges(count: int, world_size: int) -> list[int]:
    """First image of every worker's share of a global batch, and the end."""
    return [rank * count // world_size for rank in range(world_size + 1)]


def _one_workers_order(edges: list[int], device: torch.device) -> Tensor | None:
    """(N,) rows in rank order -> in the order that one worker has: first views, then second."""
    if len(edges) == 2:
        return None
    firsts, seconds = [], []
    for begin, end in pairwise(edges):
        rows = torch.arange(2 * begin, 2 * end, device=device)
        firsts.append(rows[: end - begin])
        seconds.append(rows[end - begin :])
    return torch.cat([*firsts, *seconds])
