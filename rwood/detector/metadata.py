"""What `detector.json` says: everything about a detector that is not a tensor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError, ValidationInfo

from rwood.config.backbones import TIMM, AnyModel
from rwood.config.base import Config, Number
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.scorers import AnyScorer
from rwood.data import transform
from rwood.data.transform import Transform
from rwood.errors import DataError

METADATA_FILE = "detector.json"


class Preprocessing(Config):
    """The test transform of the benchmark: convert, resize, crop the centre, normalise."""

    channels: Literal[1, 3]
    """1 = grey, 3 = RGB; images are converted."""
    resize: int
    """Shorter side after the resize, in pixels (bilinear, antialiased)."""
    image_size: int
    """Side of the centre crop, in pixels."""
    mean: tuple[Number, ...]
    """Mean of each channel, of values in [0, 1]."""
    std: tuple[Number, ...]
    """Standard deviation of each channel, of values in [0, 1]."""

    @property
    def transform(self) -> Transform:
        """All but the normalisation."""
        return Transform(self.channels, self.resize, self.image_size)


class Digests(Config):
    """What a detector was made of, by content."""

    training: str
    """Of the run, and of the sets and pixels that it saw."""
    train_set: str
    """Of the images that fitted the scorer."""
    val_set: str
    """Of the images that set the threshold."""
    tensors: str
    """SHA-256 of `detector.safetensors`."""


def _check_trust(settings: Any, info: ValidationInfo) -> Any:
    """The settings of a model or a scorer as they are, before the class that they name is imported.

    Raises:
        DataError: they name it by its module, and the context is a path: a file nobody trusts.
    """
    key = "backbone" if info.field_name == "model" else "name"
    name = str(settings.get(key)) if isinstance(settings, Mapping) else ""
    if info.context and ":" in name and not (key == "backbone" and name.startswith(TIMM)):
        raise DataError(
            f"{info.context} names code of another package ({name}), which would be run; if you "
            "trust it, load it with trust=True (rwood detect --trust)",
            file=str(info.context),
        )
    return settings


class Metadata(Config):
    """A detector without its tensors."""

    format: Literal[1] = 1
    """Of this file."""
    rwood: str
    """Version that built the detector."""
    benchmark: str
    """Name of the benchmark whose ID set it knows."""
    model: Annotated[AnyModel, BeforeValidator(_check_trust)]
    """The encoder; its weights are among the tensors."""
    preprocessing: Preprocessing
    """From an image to the encoder's input."""
    scorer: Annotated[AnyScorer, BeforeValidator(_check_trust)]
    """How an embedding becomes a score (higher = more OOD)."""
    threshold: Number
    """A score above it means OOD."""
    accepted: Number
    """Share of ID validation images that the threshold is to accept."""
    class_names: tuple[str, ...]
    """Folder names of one's own ID set; elsewhere the class numbers."""
    digests: Digests


def preprocessing_of(benchmark: BenchmarkConfig) -> Preprocessing:
    """The test transform of a benchmark, with its normalisation."""
    how = transform.of(benchmark)
    return Preprocessing(
        channels=benchmark.channels,
        resize=how.resize,
        image_size=how.size,
        mean=benchmark.mean,
        std=benchmark.std,
    )


def read_metadata(folder: Path, *, trust: bool = False) -> Metadata:
    """Read `detector.json`.

    Args:
        folder: of the detector.
        trust: import the packages that it names, if its scorer or backbone is another's.

    Raises:
        DataError: it is missing or not such a file, or names code that is not trusted.
    """
    path = folder / METADATA_FILE
    try:
        return Metadata.model_validate_json(path.read_bytes(), context=None if trust else path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder} holds no detector: {METADATA_FILE} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error})", file=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = f"{key}: {first['msg']}" if key else first["msg"]
        raise DataError(
            f"{path} does not describe a detector of this version of rwood ({reason}); build it "
            "again",
            file=str(path),
        ) from error
