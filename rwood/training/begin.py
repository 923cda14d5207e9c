"""A run before its first step: network, loss, optimiser, precision, and how it takes steps."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from rwood.config.backbones import BACKBONES
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.losses import LOSSES
from rwood.config.run import RunConfig
from rwood.model.batch_norm import convert_global_batch_norm
from rwood.model.checkpoint_keys import load_backbone_weights
from rwood.model.encoder import Encoder, encoder_of, freeze
from rwood.model.precision import PrecisionName, set_up
from rwood.training.compiled import compiles
from rwood.training.graph import GraphedStep, TakeStep
from rwood.training.loss import build_loss
from rwood.training.precision import choose_precision
from rwood.training.state import RunState
from rwood.training.worker import Worker


def begin(
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


def _optimizer(run: RunConfig, trained: list[nn.Parameter]) -> torch.optim.SGD:
    nesterov = run.optimizer.nesterov and run.optimizer.momentum > 0  # which torch insists on
    settings = {**run.optimizer.model_dump(), "nesterov": nesterov}
    optimizer = torch.optim.SGD(trained, fused=True, **settings)
    if run.optimizer.momentum:
        # The fused step makes the buffers without a value, and leaves them so where it skips a
        # first gradient that is not finite.
        for parameter in trained:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


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


def step_of(run: RunConfig, worker: Worker, state: RunState, plain: TakeStep) -> TakeStep:
    """How a run takes its steps.

    Compiled and alone on a GPU, it replays them from CUDA graphs, if loss and backbone are ours and
    the loss carries nothing from step to step.
    """
    ours = run.loss.name in LOSSES and run.model.backbone in BACKBONES
    alone = worker.device.type == "cuda" and worker.world_size == 1
    if state.compiled and alone and ours and not list(state.loss.buffers()):
        return GraphedStep(plain, state, worker.note)
    return plain
