"""What MLflow calls: one column of images in; score, verdict and nearest class out.

Every row of the column `image` is an image of any size:

- an encoded file (PNG, JPEG, ...), as base64 text or as bytes;
- or raw pixels 0 to 255: nested lists of shape (height, width, 1 or 3), or a numpy array as
  `Detector.predict` takes it.

The output has the columns `score` (higher = more OOD), `ood` (the score is above the `threshold`),
`nearest_class` and its `class_name`. The parameter `false_alarms`, a share of ID images, sets
another threshold. Served with
`mlflow models serve --model-uri URI --env-manager local`, POST /invocations answers to

    {"dataframe_split": {"columns": ["image"], "data": [["iVBORw0..."], ["iVBORw0..."]]}}
    {"inputs": ["iVBORw0...", "iVBORw0..."]}
    {"inputs": [[[[0], [255]], [[9], [8]]]]}        (N, height, width, channels)

with `{"predictions": [{"score": 12.3, "ood": false, "nearest_class": 4, "class_name": "cat",
"threshold": 20.1}, ...]}`; `"params": {"false_alarms": 0.01}` stands beside the images. In Python,
`mlflow.pyfunc.load_model(URI).predict(...)` takes a data frame with that column, or
`{"image": images_NHWC}`.
"""

import base64
import binascii
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rwood.data import decode
from rwood.detector.model import Detector, load_detector
from rwood.detector.raw import to_image
from rwood.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "image"
FALSE_ALARMS = "false_alarms"


class PyfuncDetector:
    """What MLflow calls: the `image` column in, score, verdict and class out."""

    def __init__(self, detector: Detector) -> None:
        """Wrap a detector."""
        self._detector = detector

    def predict(
        self, model_input: "pd.DataFrame", params: dict[str, Any] | None = None
    ) -> "pd.DataFrame":
        """Score the images of the column `image`.

        Args:
            model_input: as above.
            params: `false_alarms`, or nothing: the detector's own threshold.

        Raises:
            MlflowException: a row is not an image; HTTP answers 400 with the sentence.
        """
        import pandas as pd
        from mlflow.exceptions import MlflowException

        try:
            images = [image for cell in model_input[COLUMN] for image in _images(cell)]
            if not images:
                raise DataError("no image was given")
            detector, rate = self._detector, (params or {}).get(FALSE_ALARMS)
            if rate is not None:
                detector = detector.with_false_alarms(rate)
            pixels = [detector.pixels(_open(x, f"image {i}")) for i, x in enumerate(images)]
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        said, metadata = detector.predict_pixels(np.stack(pixels)), detector.metadata
        return pd.DataFrame(
            {
                "score": said.score,
                "ood": said.ood,
                "nearest_class": said.nearest_class,
                "class_name": [metadata.class_names[label] for label in said.nearest_class],
                "threshold": metadata.threshold,
            }
        )


def _load_pyfunc(data_path: str) -> PyfuncDetector:
    """What MLflow calls to load the model: a fixed name."""
    return PyfuncDetector(load_detector(Path(data_path), trust=True))


def _images(cell: Any) -> Iterator[Any]:
    """The images of a cell: one, but MLflow packs `{"inputs": [text, ...]}` into a single cell."""
    if isinstance(cell, list) and cell and all(isinstance(item, str) for item in cell):
        yield from cell
    else:
        yield cell


def _open(image: Any, name: str) -> Image.Image:
    """An image from an encoded file, base64 text of one, nested lists or an array."""
    if isinstance(image, str):
        try:
            image = base64.b64decode("".join(image.split()), validate=True)
        except (binascii.Error, ValueError):
            raise DataError(f"{name} is text, but not base64 of an image file") from None
    if isinstance(image, bytes):
        return decode.load(io.BytesIO(image), "give a whole image file, e.g. PNG or JPEG", name)
    if isinstance(image, list):
        image = _pixels(image, name)
    return to_image(image, name)


def _pixels(nested: list[Any], name: str) -> np.ndarray:
    """(H, W, C) uint8 of nested lists of whole numbers."""
    wanted = "nested lists of whole numbers 0 to 255, of shape (height, width, 1 or 3)"
    try:
        array = np.array(nested)
    except ValueError:
        raise DataError(f"{name} is ragged; pixels are {wanted}") from None
    if array.ndim != 3 or array.dtype.kind != "i":
        raise DataError(f"{name} is {array.dtype} of shape {array.shape}; pixels are {wanted}")
    if array.min(initial=0) < 0 or array.max(initial=0) > 255:
        raise DataError(f"{name} has values outside 0 to 255; pixels are {wanted}")
    return array.astype(np.uint8)
