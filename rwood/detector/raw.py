"""Images as people have them: one or many, grey or colour, of any size -> PIL images."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from rwood.errors import DataError

SHAPES = "(H, W), (H, W, 1) or (H, W, 3)"


def each_image(images: np.ndarray | Sequence[np.ndarray]) -> Iterator[Image.Image]:
    """One PIL image for each image given, in the forms that `Detector.predict` takes.

    Raises:
        DataError: none, or not such an image; says which and what it is instead.
    """
    if isinstance(images, np.ndarray):
        if images.ndim < 4:
            yield to_image(images, "the image")
            return
    elif not isinstance(images, (list, tuple)):
        raise DataError(
            f"images must be a numpy array or a list of numpy arrays, not {type(images).__name__}"
        )
    if len(images) == 0:
        raise DataError("no image was given")
    for row, image in enumerate(images):
        yield to_image(image, f"image {row}")


def to_image(image: np.ndarray, name: str) -> Image.Image:
    """A PIL image of raw pixels: (H, W), (H, W, 1) or (H, W, 3) uint8.

    Raises:
        DataError: it is not; the sentence begins with the name.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f"{name} is a {type(image).__name__}, not a numpy array")
    if image.dtype != np.uint8:
        raise DataError(f"{name} is {image.dtype}; raw pixels are uint8, 0 to 255")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise DataError(f"{name} has shape {image.shape}; an image is {SHAPES}")
    if 0 in image.shape:
        raise DataError(f"{name} has shape {image.shape}: no pixel at all")
    grey = image.ndim == 3 and image.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if grey else image))
