"""A run before its first step: network, loss, optimiser, precision, and how it takes steps.

Legend of shape suffixes: N images, D dims, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import unwrap
from itertools import count
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rwood.config.backbones import BACKBONES
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.losses import LOSSES
from rwood.config.run import RunConfig
from rwood.data.loaders import embedding_batches
from rwood.data.opened import ImageSet
from rwood.evaluation.embed import BATCH, labels_of
from rwood.model.batch_norm import convert_global_batch_norm
from rwood.model.checkpoint_keys import load_backbone_weights
from rwood.model.encoder import Encoder, encoder_of, freeze
from rwood.model.precision import PrecisionName, set_up
from rwood.training.compiled import compiles
from rwood.training.graph import GraphedStep, TakeStep
from rwood.training.loss import build_loss, row_length
from rwood.training.precision import choose_precision
from rwood.training.state import RunState
from rwood.training.worker import Worker


@dataclass(frozen=True)
class Task:
    """What a training is given: the same from its first step to its last."""

    run: RunConfig
    benchmark: BenchmarkConfig
    """Of the run's fold where there is a held-out set: pixel statistics, sizes, validation sets."""
    worker: Worker
    """Rank, world size, device."""
    data_root: Path
    train_set: ImageSet
    """The ID train set."""


def begin(task: Task, precision: PrecisionName | None) -> RunState:
    """A run before its first step, in the precision that it was started with before."""
    run, benchmark, worker = task.run, task.benchmark, task.worker
    torch.manual_seed(run.seed)
    encoder = encoder_of(run, benchmark)
    if run.model.weights is not None:
        load_backbone_weights(encoder, task.data_root / run.model.weights)
    set_up(worker.device)
    loss = build_loss(run, benchmark.classes, worker.device)
    freeze(encoder, run.model)
    kind = choose_precision(run, benchmark, encoder, worker, precision)
    kind.place(encoder)
    if worker.device.type == "cuda":
        # A process that trains one trial after another reports the peak of each; only now, since
        # what has not used the device yet has no statistics of it.
        torch.cuda.reset_peak_memory_stats(worker.device)
    trained = [p for p in encoder.parameters() if p.requires_grad] + [*loss.parameters()]
    optimizer = _optimizer(run, trained)
    compiled = compiles(run.compile, worker.device, worker.note)
    return RunState(encoder, loss, optimizer, kind.scaler(), kind, [], compiled)


class _SGD(torch.optim.SGD):
    """torch's SGD without its compiler, whose import takes as long as all else before a first step.

    torch imports it so that these methods are not compiled; here nothing compiles them.
    """

    add_param_group = unwrap(torch.optim.SGD.add_param_group)
    zero_grad = unwrap(torch.optim.SGD.zero_grad)
    state_dict = unwrap(torch.optim.SGD.state_dict)
    load_state_dict = unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


def _optimizer(run: RunConfig, trained: list[nn.Parameter]) -> torch.optim.SGD:
    nesterov = run.optimizer.nesterov and run.optimizer.momentum > 0  # which torch insists on
    settings = {**run.optimizer.model_dump(), "nesterov": nesterov}
    optimizer = _SGD(trained, fused=True, **settings)
    if run.optimizer.momentum:
        # The fused step makes the buffers without a value, and leaves them so where it skips a
        # first gradient that is not finite.
        for parameter in trained:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def start_loss(task: Task, state: RunState) -> None:
    """Hand a loss that asks for it the classes' mean projections, before the first step.

    Workers embed a batch each in turn: of a large set, no one could while the others wait.
    """
    start: Callable[[Tensor], None] | None = getattr(state.loss, "start", None)
    if start is None:
        return
    encoder, device, classes = state.encoder, task.worker.device, task.benchmark.classes
    rank, world = task.worker.rank, task.worker.world_size
    labels_N = labels_of(task.train_set, device)
    means_CD = torch.zeros(
        classes, row_length(task.run, classes), dtype=torch.float64, device=device
    )
    batches = embedding_batches(
        task.train_set, task.benchmark, device=device, batch=BATCH, rank=rank, world_size=world
    )
    encoder.eval()
    with torch.no_grad():
        for images, first in zip(batches, count(rank * BATCH, world * BATCH)):
            rows = slice(first, first + len(images))
            means_CD.index_add_(0, labels_N[rows], encoder.project(images).double())
    encoder.train()
    if world > 1:
        dist.all_reduce(means_CD)
    means_CD /= labels_N.bincount(minlength=classes)[:, None]
    start(means_CD)


def wrap(encoder: Encoder, worker: Worker, compiled: bool) -> nn.Module:
    """What the loss sees: the encoder, over all workers."""
    if compiled:
        encoder.compile(dynamic=False)  # two shapes: the last batch of an epoch is smaller
    if worker.world_size == 1:
        return encoder
    convert_global_batch_norm(encoder, dist.group.WORLD)
    devices = [worker.device.index] if worker.device.type == "cuda" else None
    network = nn.parallel.DistributedDataParallel(
        encoder, device_ids=devices, gradient_as_bucket_view=True
    )
    # Every worker computes the same buffers: none needs to be sent. As an argument it is deprecated
    # since torch 2.14, which has another one for it.
    network.broadcast_buffers = False
    return network


def step_of(task: Task, state: RunState, plain: TakeStep) -> TakeStep:
    """How a run takes its steps.

    Compiled and alone on a GPU, it replays them from CUDA graphs, if loss and backbone are ours and
    the loss carries nothing from step to step.
    """
    ours = task.run.loss.name in LOSSES and task.run.model.backbone in BACKBONES
    alone = task.worker.device.type == "cuda" and task.worker.world_size == 1
    if state.compiled and alone and ours and not list(state.loss.buffers()):
        return GraphedStep(plain, state, task.worker.note)
    return plain
