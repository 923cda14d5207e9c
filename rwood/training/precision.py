"""In which precision the network trains: chosen once, reported, and kept when a run resumes."""

import copy
import json
import logging
import time

import torch
from torch import nn

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.model.precision import Precision, PrecisionName, precision_on
from rwood.training.worker import Worker, of_rank_0

BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")
"""Features of CPUs that multiply bfloat16 in hardware; without, it is slower than float32."""
PROBE_VALUES = 2**18
"""Pixel values in the batch of a timing step: seconds even for a large network."""
PROBE_STEPS = 2

_CHOSEN: dict[str, PrecisionName] = {}
_log = logging.getLogger("rwood.training")


def choose_precision(
    run: RunConfig,
    benchmark: BenchmarkConfig,
    encoder: nn.Module,
    worker: Worker,
    kept: PrecisionName | None = None,
) -> Precision:
    """The precision of a run, the same on all its workers.

    It is the one `kept` in a checkpoint, else what the run asks for, else chosen for it (`auto`).
    The encoder is fresh, with frozen parameters frozen, and left as it is.
    """
    name = kept or run.precision
    if name == "auto":
        name = _auto(run, benchmark, encoder, worker)
    return precision_on(name, worker.device, benchmark.channels)


def _auto(
    run: RunConfig, benchmark: BenchmarkConfig, encoder: nn.Module, worker: Worker
) -> PrecisionName:
    """float16 on a GPU; on a CPU the faster of two, where it has bfloat16; else float32."""
    if worker.device.type == "cuda":
        return "float16"
    chosen: PrecisionName = "float32"
    if worker.rank == 0:
        chosen = _faster(run, benchmark, encoder, worker.world_size)
    return of_rank_0(chosen, worker)


def _faster(
    run: RunConfig, benchmark: BenchmarkConfig, encoder: nn.Module, world_size: int
) -> PrecisionName:
    """Time both once a process for a network and a batch shape."""
    if not cpu_has_bfloat16():
        return "float32"
    pixels = benchmark.channels * benchmark.image_size**2
    rows = min(2 * run.batch_size // world_size, max(8, PROBE_VALUES // pixels))
    shape = (rows, benchmark.channels, benchmark.image_size, benchmark.image_size)
    key = json.dumps([run.model.model_dump(), shape, torch.get_num_threads()])
    if key not in _CHOSEN:
        seconds = {
            precision: _seconds_a_step(encoder, shape, precision)
            for precision in ("float32", "bfloat16")
        }
        _CHOSEN[key] = "bfloat16" if seconds["bfloat16"] < seconds["float32"] else "float32"
        _log.info("precision auto: %s, from CPU seconds a step %s", _CHOSEN[key], seconds)
    return _CHOSEN[key]


def _seconds_a_step(
    encoder: nn.Module, shape: tuple[int, int, int, int], precision: PrecisionName
) -> float:
    """CPU time of the network's forward and backward pass; the rest of a step is the same in all.

    On a copy and with a generator of its own, so that the run does not notice.
    """
    kind = precision_on(precision, torch.device("cpu"), shape[1])
    network = copy.deepcopy(encoder).train()
    kind.place(network)
    images = kind.lay_out(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    times = []
    for _ in range(1 + PROBE_STEPS):
        started = time.process_time()
        with kind.autocast():
            projections = network(images)
        projections.square().sum().backward()
        times.append(time.process_time() - started)
    return min(times[1:])


def cpu_has_bfloat16() -> bool:
    """Whether the CPU says that it multiplies bfloat16."""
    features = torch.cpu.get_capabilities()
    return any(features.get(name) for name in BFLOAT16_FEATURES)
