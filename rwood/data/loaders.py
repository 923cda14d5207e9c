"""Batches: two views of every training image in a seeded order; scored images in their order.

The global batch is the unit: order, views and row counts are drawn for it and each worker takes
its share of the rows, so that the union over workers is what one worker would see.

Where a training image comes from follows from the set. If its pack holds every pixel of its files
(CIFAR, digits), views are cut from the pack: on the device if it takes at most a quarter of the
device's memory, else from RAM or the memory map. If not (ImageNet), they are cut from the files.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig
from rwood.data import streaming, views
from rwood.data.opened import ImageSet
from rwood.data.rows import LazyImages, RowImages
from rwood.data.sharding import Share, shares
from rwood.data.streaming import Made

DEVICE_SHARE = 0.25
"""Largest share of a GPU's free memory that a resident image set may take: trials may share one."""


class Batch(NamedTuple):
    """One worker's share of a training step."""

    images: Tensor
    """(2n, C, S, S) float32: n first views, then the n second views of the same images."""
    labels: Tensor
    """(2n,) int64, repeated likewise."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    """Images of the global batch."""
    largest_class: int
    """Rows (views) in the global batch of the class that has most."""


@dataclass(frozen=True, eq=False)
class Resident:
    """An image set in memory, on the device that trains if it fits."""

    images_MCHW: Tensor
    """uint8; on a CPU a view of the memory map, which processes share."""
    rows_N: Tensor
    """int64, where each image of the set lies in it; beside it."""
    labels_N: Tensor
    """int64, on the device that trains."""


def training_batches(
    image_set: ImageSet,
    run: RunConfig,
    benchmark: BenchmarkConfig,
    *,
    epoch: int,
    rank: int,
    world_size: int,
    device: torch.device,
    first_step: int = 0,
    compiled: bool = False,
) -> Iterator[Batch]:
    """One epoch of this worker's batches from `first_step` on; the last one may be smaller.

    With more workers than images, one gets no rows.

    Args:
        image_set: the ID train set.
        run: seed, batch size and the laws of the views.
        benchmark: pixel statistics and sizes.
        epoch: 0-based.
        rank: this worker.
        world_size: workers that share the batch.
        device: where the batches are made.
        first_step: where an interrupted epoch goes on.
        compiled: make views of images in a GPU's memory by compiled code.

    Raises:
        DataError: a file of the set is missing or damaged.
    """
    total = len(image_set.labels_N)
    plan = shares(
        total,
        run.batch_size,
        seed=run.seed,
        epoch=epoch,
        rank=rank,
        world_size=world_size,
        first_step=first_step,
    )
    if image_set.files is None:
        made = _from_memory(resident(image_set, device), plan, run, benchmark, device, compiled)
    else:
        made = streaming.from_files(image_set.files, plan, run, benchmark, device)
    for share, images, labels in made:
        # Counted on the host, from what it knows: a loss that asks must not wait for a device.
        largest = 2 * int(np.bincount(image_set.labels_N[share.batch_B.numpy()]).max())
        yield Batch(images, labels, share.count, largest)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Steps that show every image once; the last may be smaller, as in the authors' code."""
    return math.ceil(images / batch_size)


def embedding_batches(
    image_set: ImageSet,
    benchmark: BenchmarkConfig,
    *,
    device: torch.device,
    batch: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Tensor]:
    """Normalised images of a set in its order, for scoring; the next batch is read meanwhile.

    Of several ranks, each takes the batches `rank`, `rank + world_size`, ...

    Yields:
        (n, C, S, S) float32 on the device.
    """
    stride = batch * world_size
    starts = range(rank * batch, len(image_set.labels_N), stride)
    with ThreadPoolExecutor(1) as ahead:
        read = functools.partial(_read, image_set.images_NHWC, batch)
        pending = ahead.submit(read, starts.start)
        for start in starts:
            images_NHWC = pending.result()
            pending = ahead.submit(read, start + stride)
            images = torch.from_numpy(images_NHWC).to(device)
            yield views.normalize(images, benchmark.mean, benchmark.std)


_PIXELS: dict[tuple[str, str], Tensor] = {}


def resident(image_set: ImageSet, device: torch.device) -> Resident:
    """A set in memory; its pixels are put there once a process: trials of an actor share them.

    Parts of a set share its pixels, so that all folds of one take the memory of one.
    """
    images = RowImages.of(image_set.images_NHWC, image_set.digest)
    pixels = _pixels(images.whole_MHWC, images.digest, device)
    rows = torch.from_numpy(images.rows_N).to(pixels.device)
    return Resident(pixels, rows, torch.tensor(image_set.labels_N, device=device))


def _pixels(images_NHWC: np.ndarray, digest: str, device: torch.device) -> Tensor:
    """(N, C, H, W) uint8, on the device if it fits."""
    key = (digest, str(device))
    if key not in _PIXELS:
        with warnings.catch_warnings():  # the array is read-only, and so is the tensor's use
            warnings.simplefilter("ignore", UserWarning)
            images = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if images.numel() <= DEVICE_SHARE * free:
                images = images.to(device).contiguous()
        _PIXELS[key] = images
    return _PIXELS[key]


def _from_memory(
    held: Resident,
    plan: Iterator[Share],
    run: RunConfig,
    benchmark: BenchmarkConfig,
    device: torch.device,
    compiled: bool,
) -> Iterator[Made]:
    augment = _augment(compiled and device.type == "cuda")
    for share in plan:
        drawn = views.draw_views(
            run.views,
            2 * share.count,
            seed=run.seed,
            epoch=share.epoch,
            step=share.step,
            image_size=(held.images_MCHW.shape[2], held.images_MCHW.shape[3]),
            channels=benchmark.channels,
        )
        rows_2n = share.rows_n.repeat(2)
        sent_2n = views.sent(rows_2n, device)
        resident_here = held.images_MCHW.device.type == device.type
        pixels_2n = held.rows_N[sent_2n if resident_here else rows_2n]
        images = augment(
            held.images_MCHW[pixels_2n].to(device, non_blocking=True),
            drawn.rows(share.views_2n).to(device),
            mean=benchmark.mean,
            std=benchmark.std,
            output_size=benchmark.image_size,
        )
        yield share, images, held.labels_N[sent_2n]


@functools.cache
def _augment(compiled: bool) -> Callable[..., Tensor]:
    """`views.augment`; compiled, its hundred small kernels become a few."""
    return torch.compile(views.augment, dynamic=False) if compiled else views.augment


def _read(images_NHWC: np.ndarray | LazyImages, batch: int, start: int) -> np.ndarray:
    return np.array(images_NHWC[start : start + batch])
