"""Random resized crops: their law, and their pixels for a whole batch at once.

Shapes: N views, C channels, H x W pixels in, S x S pixels out, K uniform numbers, T proposals.
"""

import math

import torch
from torch import Tensor

from rwood.config.run import ViewsConfig

ATTEMPTS = 10
"""Crops proposed before the central crop is taken, as in torchvision."""
CROP_DRAWS = 2 * ATTEMPTS + 2
"""Uniform numbers that decide a crop."""


def crop_boxes(config: ViewsConfig, draws_NK: Tensor, height: int, width: int) -> Tensor:
    """Crops by the law of torchvision's RandomResizedCrop, of source images of `height` x `width`.

    Ten times an area and a (log-uniform) ratio are proposed; the first crop that fits is placed
    uniformly. If none fits, the largest central crop of an allowed ratio is taken.

    Args:
        config: ranges of area and ratio.
        draws_NK: (N, CROP_DRAWS) uniform numbers.
        height: in pixels.
        width: in pixels.

    Returns:
        (N, 4) int64 top, left, height, width.
    """
    low, high = config.crop_scale
    area_NT = height * width * (low + draws_NK[:, :ATTEMPTS] * (high - low))
    low, high = (math.log(ratio) for ratio in config.crop_ratio)
    ratio_NT = torch.exp(low + draws_NK[:, ATTEMPTS : 2 * ATTEMPTS] * (high - low))
    widths_NT = torch.round(torch.sqrt(area_NT * ratio_NT)).long()
    heights_NT = torch.round(torch.sqrt(area_NT / ratio_NT)).long()
    fits_NT = (widths_NT > 0) & (widths_NT <= width) & (heights_NT > 0) & (heights_NT <= height)
    first_N1 = fits_NT.int().argmax(dim=1, keepdim=True)
    h_N = heights_NT.gather(1, first_N1)[:, 0]
    w_N = widths_NT.gather(1, first_N1)[:, 0]
    top_N = (draws_NK[:, -2] * (height - h_N + 1)).long()
    left_N = (draws_NK[:, -1] * (width - w_N + 1)).long()
    box_N4 = torch.stack([top_N, left_N, h_N, w_N], dim=1)
    box_N4[~fits_NT.any(dim=1)] = torch.tensor(_central_box(config, height, width))
    return box_N4


def _central_box(config: ViewsConfig, height: int, width: int) -> tuple[int, int, int, int]:
    narrowest, widest = config.crop_ratio
    h, w = height, width
    if width / height < narrowest:
        h = round(width / narrowest)
    elif width / height > widest:
        w = round(height * widest)
    return (height - h) // 2, (width - w) // 2, h, w


def crop(images_NCHW: Tensor, box_N4: Tensor, flip_N: Tensor, size: int) -> Tensor:
    """Cut each row's box, resize it to size x size, mirror some rows.

    Bilinear with antialias, edges clamped to the box, as torchvision's RandomResizedCrop: two
    small matrix products a row, (S, H) x (H, W) x (W, S), whose weights hold crop, resize and
    flip at once.

    Returns:
        (N, C, size, size) float32 in [0, 1].
    """
    count, channels, height, width = images_NCHW.shape
    top_N, left_N, h_N, w_N = box_N4.to(torch.float32).unbind(1)
    rows_NSH = _weights(top_N, h_N, height, size, torch.zeros_like(flip_N))
    columns_NSW = _weights(left_N, w_N, width, size, flip_N).div_(255)
    images = images_NCHW.to(torch.float32).reshape(count, channels * height, width)
    half = torch.bmm(images, columns_NSW.transpose(1, 2))
    half = half.view(count, channels, height, size)
    return torch.matmul(rows_NSH[:, None], half)


def _weights(start_N: Tensor, length_N: Tensor, pixels: int, size: int, flip_N: Tensor) -> Tensor:
    """(N, size, pixels) weights of source pixels in each output pixel: triangles inside the box."""
    scale_N1 = (length_N / size)[:, None]
    output_S = torch.arange(size, device=start_N.device, dtype=torch.float32)
    output_NS = torch.where(flip_N[:, None], size - 1 - output_S, output_S)
    centre_NS = start_N[:, None] + (output_NS + 0.5) * scale_N1
    source_P = torch.arange(pixels, device=start_N.device, dtype=torch.float32) + 0.5
    distance_NSP = (source_P - centre_NS[:, :, None]).abs_()
    weights = distance_NSP.div_(scale_N1.clamp(min=1)[:, :, None]).neg_().add_(1).clamp_(min=0)
    end_N1 = (start_N + length_N)[:, None]
    inside_NP = (source_P >= start_N[:, None]) & (source_P < end_N1)
    weights = weights.mul_(inside_NP.to(torch.float32)[:, None])
    return weights.div_(weights.sum(dim=2, keepdim=True))
