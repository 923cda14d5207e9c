"""Batches: two views of every training image in a seeded order; scored images in their order.

The global batch is the unit: order, views and row counts are drawn for it and each worker takes
its share of the rows, so that the union over workers is what one worker would see.
"""

import functools
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rwood.data import views
from rwood.data.image_sets import ImageSet
from rwood.spec.benchmark import BenchmarkSpec
from rwood.spec.run import RunSpec


class Batch(NamedTuple):
    """One worker's share of a training step."""

    images: Tensor
    """(2n, C, S, S) float32: n first views, then the n second views of the same images."""
    labels: Tensor
    """(2n,) int64, repeated likewise."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    """Images of the global batch."""
    step: int
    """0-based, in the epoch."""
    steps: int
    """Steps of the epoch."""


@dataclass(frozen=True, eq=False)
class Resident:
    """A whole image set on the device that trains."""

    images_NCHW: Tensor
    """uint8."""
    labels_N: Tensor
    """int64."""


_RESIDENT: dict[tuple[str, str], Resident] = {}


def resident(image_set: ImageSet, device: torch.device) -> Resident:
    """The image set on a device, put there once a process: trials of an actor share it."""
    key = (image_set.digest, str(device))
    if key not in _RESIDENT:
        images = torch.from_numpy(np.array(image_set.images_NHWC.transpose(0, 3, 1, 2), order="C"))
        labels = torch.from_numpy(np.array(image_set.labels_N, dtype=np.int64))
        _RESIDENT[key] = Resident(images.to(device), labels.to(device))
    return _RESIDENT[key]


def training_batches(
    image_set: ImageSet,
    run: RunSpec,
    benchmark: BenchmarkSpec,
    *,
    epoch: int,
    rank: int,
    world_size: int,
    device: torch.device,
) -> Iterator[Batch]:
    """One epoch of this worker's batches; the last one may be smaller.

    Args:
        image_set: the ID train set.
        run: seed, batch size and the laws of the views.
        benchmark: pixel statistics and sizes.
        epoch: 0-based.
        rank: this worker.
        world_size: workers that share the batch; one with more workers than images gets no rows.
        device: where the batches are made.
    """
    held = resident(image_set, device)
    total = len(held.labels_N)
    order_N = _order(total, run.seed, epoch)
    steps = steps_per_epoch(total, run.batch_size)
    for step in range(steps):
        batch_B = order_N[step * run.batch_size : (step + 1) * run.batch_size]
        count = len(batch_B)
        mine = slice(rank * count // world_size, (rank + 1) * count // world_size)
        drawn = views.draw_views(
            run.views,
            2 * count,
            seed=run.seed,
            epoch=epoch,
            step=step,
            image_size=(held.images_NCHW.shape[2], held.images_NCHW.shape[3]),
            channels=benchmark.channels,
        )
        both = torch.cat([torch.arange(count)[mine], torch.arange(count, 2 * count)[mine]])
        rows_2n = batch_B[mine].repeat(2).to(device, non_blocking=True)
        images = views.augment(
            held.images_NCHW[rows_2n],
            drawn.rows(both).to(device),
            mean=benchmark.mean,
            std=benchmark.std,
            output_size=benchmark.image_size,
        )
        yield Batch(images, held.labels_N[rows_2n], count, step, steps)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Steps that show every image once; the last may be smaller, as in the authors' code."""
    return math.ceil(images / batch_size)


def embedding_batches(
    image_set: ImageSet, benchmark: BenchmarkSpec, *, device: torch.device, batch: int
) -> Iterator[Tensor]:
    """Normalised images of a set in its order, for scoring.

    Args:
        image_set: an opened set; its images went through the test transform's resize and crop.
        benchmark: pixel statistics.
        device: where the batches are wanted.
        batch: images a batch.

    Yields:
        (n, C, S, S) float32.
    """
    for start in range(0, len(image_set.labels_N), batch):
        images_NHWC = np.array(image_set.images_NHWC[start : start + batch])
        images = torch.from_numpy(images_NHWC).to(device)
        yield views.normalize(images, benchmark.mean, benchmark.std)


@functools.lru_cache(maxsize=2)
def _order(total: int, seed: int, epoch: int) -> Tensor:
    key = hashlib.sha256(f"order {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
    return torch.randperm(total, generator=generator)
