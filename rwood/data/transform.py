"""The test transform, up to normalisation: convert, resize the shorter side, crop the centre."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from rwood.config.benchmark import BenchmarkConfig


@dataclass(frozen=True)
class Transform:
    """What a scored image goes through before normalisation. OpenOOD's, evaluation API v1.5."""

    channels: int
    """1 = grey, 3 = RGB."""
    resize: int
    """Shorter side after the resize, in pixels (bilinear with PIL's antialias)."""
    size: int
    """Side of the centre crop, in pixels."""


def of(benchmark: BenchmarkConfig) -> Transform:
    """The test transform of a benchmark."""
    return Transform(
        benchmark.channels, benchmark.resize or benchmark.image_size, benchmark.image_size
    )


def apply(image: Image.Image, how: Transform) -> np.ndarray:
    """(size, size, channels) uint8 of one image of any mode and size.

    Equal to torchvision's Resize and CenterCrop on PIL images.
    """
    image = convert(image, how.channels)
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != how.resize:
        longer = int(how.resize * long / short)
        target = (how.resize, longer) if width <= height else (longer, how.resize)
        image = image.resize(target, Image.Resampling.BILINEAR)
    if image.size != (how.size, how.size):
        image = _centre(image, how.size)
    return np.asarray(image).reshape(how.size, how.size, how.channels)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """To grey or RGB; a copy only where the mode differs.

    PIL clips 16-bit grey at 255, which is nearly white everywhere, and shares of white at 1, which
    is black; here they are scaled. Transparency and the orientation that a camera noted in EXIF are
    left out, as PIL and OpenOOD do; of an animation, the first picture counts.
    """
    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith(("I", "F")):
        image = _of_sixteen_bits(image)
    return image if image.mode == mode else image.convert(mode)


def _of_sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    if image.mode == "F" and values.max(initial=0) <= 1:  # shares of white
        values *= 65535
    elif image.mode in ("I", "F") and values.max(initial=0) <= 255:  # storage of 8-bit values
        return image
    return Image.fromarray((np.clip(values, 0, 65535) / 257).round().astype(np.uint8))


def _centre(image: Image.Image, size: int) -> Image.Image:
    """Crop the centre; a side shorter than the crop is padded with black, as torchvision does."""
    left, top = (
        round((side - size) / 2) if side > size else -((size - side) // 2) for side in image.size
    )
    return image.crop((left, top, left + size, top + size))
