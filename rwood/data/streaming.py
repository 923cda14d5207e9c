"""Training views cut from image files: for sets too large to be held, or larger than the input.

Threads decode, crop and resize (Pillow lets go of Python's lock meanwhile) some steps ahead into
pinned memory; mirroring, colours and normalisation follow on the device. Crops are those of the
authors' pipeline to the bit, with the same parameters from (seed, epoch, step) whatever thread
or worker handles an image.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig, ViewsConfig
from rwood.data import decode, transform, views
from rwood.data.crops import CROP_DRAWS, crop_boxes
from rwood.data.listing import Listing
from rwood.data.sharding import Share

STEPS_AHEAD = 2
"""Steps whose images are decoded before they are asked for."""
Made = tuple[Share, Tensor, Tensor]
"""A share with its (2n, C, S, S) float32 views and its (2n,) labels, on the device."""


def from_files(
    files: Listing,
    plan: Iterator[Share],
    run: RunConfig,
    benchmark: BenchmarkConfig,
    device: torch.device,
) -> Iterator[Made]:
    """Each share with its views and labels.

    Decodes with as many threads as torch computes with.

    Raises:
        DataError: a file is missing or damaged.
    """
    pool = ThreadPoolExecutor(max(1, torch.get_num_threads()))
    ahead: deque[Callable[[], Made]] = deque()
    try:
        for share in plan:
            ahead.append(_start(pool, files, share, run, benchmark, device))
            if len(ahead) > STEPS_AHEAD:
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(
    pool: ThreadPoolExecutor,
    files: Listing,
    share: Share,
    run: RunConfig,
    benchmark: BenchmarkConfig,
    device: torch.device,
) -> Callable[[], Made]:
    """Begin to decode the images of a share; what is returned waits for them."""
    draws_2nK = views.draw_numbers(
        2 * share.count, seed=run.seed, epoch=share.epoch, step=share.step
    )[share.views_2n]
    size, count = benchmark.image_size, len(share.rows_n)
    images_2nHWC = torch.empty(
        (2 * count, size, size, benchmark.channels),
        dtype=torch.uint8,
        pin_memory=device.type == "cuda",
    )
    target = images_2nHWC.numpy()
    jobs = [
        pool.submit(
            _cut, files, row, run.views, draws_2nK[[i, count + i]], target[i], target[count + i]
        )
        for i, row in enumerate(share.rows_n.tolist())
    ]

    def made() -> Made:
        for job in jobs:
            job.result()
        images = images_2nHWC.to(device, non_blocking=True).permute(0, 3, 1, 2)
        whole = torch.tensor([0, 0, size, size]).repeat(len(images), 1)
        drawn = views.parameters(run.views, draws_2nK, whole, benchmark.channels).to(device)
        finished = views.augment(
            images, drawn, mean=benchmark.mean, std=benchmark.std, output_size=None
        )
        labels_2n = torch.from_numpy(files.labels_N)[share.rows_n].repeat(2)
        return share, finished, views.sent(labels_2n, device)

    return made


def _cut(
    files: Listing,
    row: int,
    config: ViewsConfig,
    draws_2K: Tensor,
    first_HWC: np.ndarray,
    second_HWC: np.ndarray,
) -> None:
    """Decode one image and cut its two views to size."""
    size, channels = first_HWC.shape[1:]
    image = transform.convert(decode.load(files.path(row), files.remedy), channels)
    boxes = crop_boxes(config, draws_2K[:, :CROP_DRAWS], image.height, image.width)
    for (top, left, height, width), target in zip(
        boxes.tolist(), (first_HWC, second_HWC), strict=True
    ):
        cut = image.crop((left, top, left + width, top + height))
        cut = cut.resize((size, size), Image.Resampling.BILINEAR)
        target[:] = np.asarray(cut).reshape(target.shape)
