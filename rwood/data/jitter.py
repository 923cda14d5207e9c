"""Colour jitter of a batch: every row has its own factors and its own order of operations.

The laws are those of torchvision's ColorJitter and RandomGrayscale on float tensors. Brightness,
contrast and saturation are one form, a blend of the pixel with black, with the mean grey or with
its own grey, so that rows in different orders share the same arithmetic.

Shapes: N rows, C channels, H x W pixels, A operations.
"""

import torch
from torch import Tensor

OPERATIONS = ("brightness", "contrast", "saturation", "hue")
GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601 as torchvision rounds them."""
HUGE = 1e30
"""Makes a difference of two colours a step from 0 to 1."""


def jitter(
    images_NCHW: Tensor, factors_NA: Tensor, order_NA: Tensor, operations: tuple[str, ...]
) -> Tensor:
    """Apply each row's operations in the row's order.

    Hue is costly, so it is shifted once for all rows, between the operations that a row has
    before it and those that it has after it; an operation that is not a row's turn has factor 1.
    Nothing depends on the values of a tensor, so a GPU is never waited for.

    Args:
        images_NCHW: float in [0, 1]; overwritten.
        factors_NA: (N, A), a column an operation; 1 (hue: 0) leaves a row as it is.
        order_NA: (N, A) columns in the order of their application.
        operations: names of the columns, out of `OPERATIONS`.

    Returns:
        The jittered images in [0, 1].
    """
    factor_NA = factors_NA.gather(1, order_NA)
    if "hue" not in operations:
        for turn in range(len(operations)):
            _blend(images_NCHW, factor_NA[:, turn], order_NA[:, turn], operations)
        return images_NCHW
    hue = operations.index("hue")
    turn_N1 = (order_NA == hue).int().argmax(dim=1, keepdim=True)
    turns_A = torch.arange(len(operations), device=order_NA.device)
    before_NA = torch.where(turns_A < turn_N1, factor_NA, 1.0)
    after_NA = torch.where(turns_A > turn_N1, factor_NA, 1.0)
    for turn in range(len(operations) - 1):
        _blend(images_NCHW, before_NA[:, turn], order_NA[:, turn], operations)
    shift_N = factors_NA[:, hue]
    shifted = shift_hue(images_NCHW, shift_N)
    images_NCHW = torch.where((shift_N != 0)[:, None, None, None], shifted, images_NCHW)
    for turn in range(1, len(operations)):
        _blend(images_NCHW, after_NA[:, turn], order_NA[:, turn], operations)
    return images_NCHW


def grey(images_NCHW: Tensor) -> Tensor:
    """Grey of colour images, or the one channel as it is: (N, H, W)."""
    if images_NCHW.shape[1] == 1:
        return images_NCHW[:, 0]
    red, green, blue = images_NCHW.unbind(1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def drop_colour(images_NCHW: Tensor, rows_N: Tensor) -> Tensor:
    """Make the chosen rows grey; rows_N is (N,) bool."""
    weight_N111 = rows_N.to(images_NCHW.dtype)[:, None, None, None]
    return torch.lerp(images_NCHW, grey(images_NCHW)[:, None], weight_N111)


def shift_hue(images_NCHW: Tensor, turns_N: Tensor) -> Tensor:
    """Turn the hue of HSV, in closed form and without branches.

    With maximum v, minimum m and chroma c, each channel is m + c * w(h), where w is a trapezoid
    of the hue h; only h changes. The sector of h comes from two comparisons: sort green and
    blue, then red and the larger of the two.

    Args:
        images_NCHW: RGB in [0, 1].
        turns_N: (N,) shift in turns, within [-1, 1].

    Returns:
        A new (N, 3, H, W) tensor.
    """
    red, green, blue = images_NCHW.unbind(1)
    larger, smaller = torch.maximum(green, blue), torch.minimum(green, blue)
    least = torch.minimum(red, smaller)
    chroma = torch.maximum(red, larger).sub_(least)
    swapped = (blue - green).mul_(HUGE).clamp_(0, 1)
    second = (larger - red).mul_(HUGE).clamp_(0, 1)
    sector = swapped.mul_(-6)
    sector = torch.addcmul(sector, second, sector.add(1), value=-2)
    sixths = torch.minimum(red, larger).sub_(smaller).div_(chroma.add(1e-20)).add_(sector).abs_()
    turned = sixths.div_(6).add_(turns_N[:, None, None] + 1).frac_().mul_(6)
    weights = (
        (turned - 3).abs_().sub_(1).clamp_(0, 1),
        (turned - 2).abs_().neg_().add_(2).clamp_(0, 1),
        (turned - 4).abs_().neg_().add_(2).clamp_(0, 1),
    )
    return torch.stack([weight.mul_(chroma).add_(least) for weight in weights], dim=1)


def _blend(
    images_NCHW: Tensor, factor_N: Tensor, chosen_N: Tensor, operations: tuple[str, ...]
) -> None:
    """Make it f x + (1 - f) r, clamped; r is black, the mean grey or the pixel's grey."""
    rest_N = 1 - factor_N
    added: Tensor | None = None
    if "contrast" in operations or "saturation" in operations:
        grey_NHW = grey(images_NCHW)
        if "contrast" in operations:
            share_N = torch.where(chosen_N == operations.index("contrast"), rest_N, 0.0)
            added = (grey_NHW.mean(dim=(1, 2)) * share_N)[:, None, None]
        if "saturation" in operations:
            share_N = torch.where(chosen_N == operations.index("saturation"), rest_N, 0.0)
            own = grey_NHW * share_N[:, None, None]
            added = own if added is None else own.add_(added)
    images_NCHW.mul_(factor_N[:, None, None, None])
    if added is not None:
        images_NCHW.add_(added[:, None])
    images_NCHW.clamp_(0, 1)
