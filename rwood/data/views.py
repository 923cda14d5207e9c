"""Two random views of every training image, on the device that trains.

Parameters are drawn on the CPU for the global batch from a generator keyed by (seed, epoch,
step): which worker holds a row, and how many workers there are, does not change its views. The
laws are those of the authors' pipeline (torchvision's RandomResizedCrop, RandomHorizontalFlip,
RandomApply(ColorJitter) and RandomGrayscale, drawn per sample), the arithmetic is that of their
float path.

Shapes: N views, C channels, H x W pixels in, S x S pixels out, A colour operations.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rwood.config.run import ViewsConfig
from rwood.data.crops import CROP_DRAWS, crop, crop_boxes
from rwood.data.jitter import OPERATIONS, drop_colour, jitter
from rwood.data.sharding import generator_of

CPU_CHUNK, GPU_CHUNK = 3 * 2**17, 2**26
"""Values augmented at a time."""


@dataclass(frozen=True)
class ViewParameters:
    """How each of N views is made."""

    box_N4: Tensor
    """int64 top, left, height, width of the crop in pixels."""
    flip_N: Tensor
    """bool: mirrored left to right."""
    factors_NA: Tensor
    """float32 factor of each operation; 1 (hue: 0 turns) leaves a view as it is."""
    order_NA: Tensor
    """int64 operations, by column of `factors_NA`, in the order of their application."""
    grey_N: Tensor
    """bool: colours dropped."""
    operations: tuple[str, ...]
    """Columns of `factors_NA`; operations that the settings rule out have none."""
    greyable: bool
    """Whether the settings drop colours at all."""

    def rows(self, index: slice | Tensor) -> "ViewParameters":
        """The same for some of the views."""
        return replace(self, **{name: getattr(self, name)[index] for name in _TENSORS})

    def to(self, device: torch.device | str) -> "ViewParameters":
        """The same on a device."""
        moved: dict[str, Any] = {name: sent(getattr(self, name), device) for name in _TENSORS}
        return replace(self, **moved)


_TENSORS = ("box_N4", "flip_N", "factors_NA", "order_NA", "grey_N")


def sent(host: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; to a GPU from pinned memory, so that the host need not wait."""
    if torch.device(device).type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


def draw_views(
    config: ViewsConfig,
    count: int,
    *,
    seed: int,
    epoch: int,
    step: int,
    image_size: tuple[int, int],
    channels: int = 3,
) -> ViewParameters:
    """Draw the parameters of all views of one step (0-based, as is the epoch).

    Args:
        config: the laws.
        count: views of the global batch: 2 x images, all first views before all second ones.
        seed: of the run.
        epoch: of the step.
        step: in the epoch.
        image_size: (H, W) of the source images, in pixels.
        channels: grey images have no saturation, hue or colours to drop.
    """
    draws = draw_numbers(count, seed=seed, epoch=epoch, step=step)
    box_N4 = crop_boxes(config, draws[:, :CROP_DRAWS], *image_size)
    return parameters(config, draws, box_N4, channels)


def draw_numbers(count: int, *, seed: int, epoch: int, step: int) -> Tensor:
    """(count, K) uniform numbers in [0, 1), float64: all the chance there is in a step's views."""
    generator = generator_of(f"views {seed} {epoch} {step}")
    width = CROP_DRAWS + 1 + 1 + 2 * len(OPERATIONS) + 1
    return torch.rand(count, width, generator=generator, dtype=torch.float64)


def parameters(
    config: ViewsConfig, draws_NK: Tensor, box_N4: Tensor, channels: int
) -> ViewParameters:
    """Turn (N, K) uniform numbers of `draw_numbers` into flips, factors, orders and grey rows."""
    strength = {name: getattr(config, name) for name in OPERATIONS}
    allowed = OPERATIONS if channels == 3 else OPERATIONS[:2]
    kept = [i for i, name in enumerate(OPERATIONS) if name in allowed and strength[name] > 0]
    kept = kept if config.jitter > 0 else []
    flip, applied = draws_NK[:, CROP_DRAWS], draws_NK[:, CROP_DRAWS + 1]
    factors = draws_NK[:, CROP_DRAWS + 2 : CROP_DRAWS + 2 + len(OPERATIONS)]
    order = draws_NK[:, CROP_DRAWS + 2 + len(OPERATIONS) : -1]
    centre = torch.tensor([0.0 if name == "hue" else 1.0 for name in OPERATIONS])
    reach = torch.tensor([strength[name] for name in OPERATIONS], dtype=torch.float64)
    factors_NA = centre + (applied < config.jitter)[:, None] * reach * (2 * factors - 1)
    return ViewParameters(
        box_N4=box_N4,
        flip_N=flip < config.flip,
        factors_NA=factors_NA[:, kept].float(),
        order_NA=order[:, kept].argsort(dim=1),
        grey_N=draws_NK[:, -1] < (config.grayscale if channels == 3 else 0.0),
        operations=tuple(OPERATIONS[i] for i in kept),
        greyable=channels == 3 and config.grayscale > 0,
    )


def augment(
    images_NCHW: Tensor,
    parameters: ViewParameters,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    output_size: int | None,
) -> Tensor:
    """Make one view of each row: crop, flip, jitter, grey, normalise.

    Args:
        images_NCHW: (N, C, H, W) uint8.
        parameters: of N views, on the same device.
        mean: of each channel, of values in [0, 1].
        std: of each channel, of values in [0, 1].
        output_size: S; None: the images were cropped and resized to S x S before.

    Returns:
        (N, C, S, S) float32.
    """
    made = []
    for rows in _chunks(images_NCHW, output_size or images_NCHW.shape[2]):
        part = parameters.rows(rows)
        if output_size is None:
            images = images_NCHW[rows].to(torch.float32) / 255
            images = torch.where(part.flip_N[:, None, None, None], images.flip(3), images)
        else:
            images = crop(images_NCHW[rows], part.box_N4, part.flip_N, output_size)
        images = jitter(images, part.factors_NA, part.order_NA, part.operations)
        if part.greyable:
            images = drop_colour(images, part.grey_N)
        made.append(_normalize(images, mean, std))
    return torch.cat(made)


def _chunks(images_NCHW: Tensor, size: int) -> Iterator[slice]:
    """Rows to augment at a time: a CPU's cache or a GPU's memory holds what is made of them."""
    count, channels = images_NCHW.shape[:2]
    values = GPU_CHUNK if images_NCHW.is_cuda else CPU_CHUNK
    rows = max(1, values // (channels * size * size))
    return (slice(start, start + rows) for start in range(0, max(count, 1), rows))


def normalize(images_NHWC: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Scored images: (N, H, W, C) uint8 -> (N, C, H, W) float32, minus mean, over std."""
    images = images_NHWC.permute(0, 3, 1, 2).to(
        torch.float32, memory_format=torch.contiguous_format
    )
    return _normalize(images.div_(255), mean, std)


def _normalize(images_NCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """In place, by plain numbers: tensors of statistics would wait for a GPU to receive them."""
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        images_NCHW[:, channel].sub_(m).div_(s)
    return images_NCHW
