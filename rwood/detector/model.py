"""The detector itself, and the folder that it is kept in."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from rwood import results
from rwood.data import transform, views
from rwood.detector import raw
from rwood.detector.metadata import METADATA_FILE, Metadata, read_metadata
from rwood.errors import DataError
from rwood.evaluation import scorer
from rwood.evaluation.embed import BATCH, Embedded
from rwood.evaluation.scorer import FittedScorer
from rwood.model.checkpoint_keys import load_into
from rwood.model.encoder import Encoder, build_encoder
from rwood.storage import written

TENSORS_FILE = "detector.safetensors"
_ENCODER = "encoder."
_VAL_SCORES = "val_scores"
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a detector says of N images."""

    score: np.ndarray
    """(N,) float64, higher = more OOD."""
    ood: np.ndarray
    """(N,) bool: the score is above the threshold."""
    nearest_class: np.ndarray
    """(N,) int64: the ID class that the image is nearest to, whatever the verdict."""


@dataclass(frozen=True, eq=False)
class Detector:
    """An encoder, a fitted scorer, a threshold and the preprocessing."""

    metadata: Metadata
    encoder: Encoder
    """In evaluation mode."""
    fitted: FittedScorer
    val_scores_N: np.ndarray
    """Of the ID validation images, float64; none in a detector of a version that kept none."""
    device: torch.device
    """Where it computes."""

    def with_false_alarms(self, rate: float) -> "Detector":
        """The detector with the least threshold that calls at most this share of ID images OOD.

        The share is of the ID validation images, which stand for what is yet to come.

        Args:
            rate: above 0, below 1.

        Raises:
            DataError: no such rate, or fewer ID validation images than tell it.
        """
        count = len(self.val_scores_N)
        if not 0 < rate < 1:
            raise DataError(f"a false-alarm rate lies above 0 and below 1, got {rate:g}")
        if count * rate < 1:
            raise DataError(
                f"a false-alarm rate of {rate:g} takes {math.ceil(1 / rate):,} ID validation "
                f"images; this detector kept the scores of {count:,}"
            )
        threshold = threshold_of(self.val_scores_N, 1 - rate)
        changes = {"threshold": threshold, "accepted": 1 - rate}
        return replace(self, metadata=self.metadata.model_copy(update=changes))

    def predict(self, images: np.ndarray | Sequence[np.ndarray]) -> Prediction:
        """Score raw images.

        Args:
            images: uint8; one image (H, W), (H, W, 1) or (H, W, 3), a batch (N, H, W, 1 or 3), or
                a list of images, whose sizes may differ. Grey and colour are converted.

        Returns:
            Arrays of N values, N = 1 for one image; the scores that the benchmark computes.

        Raises:
            DataError: no image, or another type or shape; says which image.
        """
        return self.predict_pixels(np.stack([self.pixels(i) for i in raw.each_image(images)]))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """The test transform of one image of any mode and size: (S, S, C) uint8."""
        return transform.apply(image, self.metadata.preprocessing.transform)

    def predict_pixels(self, images_NHWC: np.ndarray) -> Prediction:
        """Score images that went through `pixels`: (N, S, S, C) uint8, N > 0."""
        raw_ND = torch.cat(
            [
                self._features(images_NHWC[start : start + BATCH])
                for start in range(0, len(images_NHWC), BATCH)
            ]
        )
        embedded = Embedded(F.normalize(raw_ND, dim=1), raw_ND)
        score_N = self.fitted.score(embedded).double().cpu().numpy()
        nearest_N = self.fitted.nearest(embedded).cpu().numpy()
        return Prediction(score_N, score_N > self.metadata.threshold, nearest_N)

    def _features(self, images_NHWC: np.ndarray) -> Tensor:
        """(N, D) rows; a lone image goes in twice: another kernel would round otherwise."""
        count = len(images_NHWC)
        doubled = np.repeat(images_NHWC, 2, axis=0) if count == 1 else np.array(images_NHWC)
        how = self.metadata.preprocessing
        with torch.inference_mode():
            images = torch.from_numpy(doubled).to(self.device)
            return self.encoder.features(views.normalize(images, how.mean, how.std))[:count]


def load_detector(folder: Path, *, device: torch.device = CPU, trust: bool = False) -> Detector:
    """Open a detector; no code in the files is run.

    Args:
        folder: with `detector.safetensors` and `detector.json`.
        device: where it shall compute.
        trust: import and run the packages whose scorer or backbone it names.

    Raises:
        DataError: a file is missing or damaged, they belong to different detectors, or they name
            code that is not trusted.
    """
    metadata = read_metadata(folder, trust=trust)
    tensors = {k: t.to(device) for k, t in _read_tensors(folder / TENSORS_FILE, metadata).items()}
    weights = {k.removeprefix(_ENCODER): t for k, t in tensors.items() if k.startswith(_ENCODER)}
    encoder = build_encoder(
        metadata.model,
        channels=metadata.preprocessing.channels,
        seed=0,
        classes=len(weights["fc.bias"]) if "fc.bias" in weights else None,
    )
    load_into(encoder, weights)
    encoder.to(device).eval().requires_grad_(False)
    fitted = scorer.from_tensors(metadata.scorer, tensors)
    val_scores_N = tensors.get(_VAL_SCORES, torch.empty(0)).double().cpu().numpy()
    return Detector(metadata, encoder, fitted, val_scores_N, device)


def threshold_of(scores_N: np.ndarray, accepted: float) -> float:
    """The least score that accepts a share of the images, which is the score of one of them."""
    share = accepted - 1e-12  # 1 - 0.18 is a little more than 0.82, which 410 of 500 are
    return float(np.quantile(scores_N, share, method="inverted_cdf"))


def save_detector(
    metadata: Metadata,
    encoder: Encoder,
    learned: FittedScorer,
    val_scores_N: np.ndarray,
    folder: Path,
) -> None:
    """Write a detector's two files, each of them whole or not at all, and the tensors' digest.

    Should a crash leave one old and one new, their digests differ and `load_detector` says so.
    """
    from safetensors.torch import save

    weights = {f"{_ENCODER}{k}": tensor for k, tensor in encoder.state_dict().items()}
    kept = weights | learned.tensors() | {_VAL_SCORES: torch.from_numpy(np.sort(val_scores_N))}
    # Copies: the format refuses tensors that share memory, as tied weights do.
    plain = torch.contiguous_format
    content = save({k: t.detach().cpu().clone(memory_format=plain) for k, t in kept.items()})
    with written(folder / TENSORS_FILE) as file:  # `save_file` would keep others from reading it
        file.write(content)
    digests = metadata.digests.model_copy(update={"tensors": hashlib.sha256(content).hexdigest()})
    whole = metadata.model_copy(update={"digests": digests})
    results.write_atomically(folder / METADATA_FILE, whole.model_dump_json(indent=1))


def _read_tensors(path: Path, metadata: Metadata) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != metadata.digests.tensors:
            raise DataError(
                f"{path} is damaged or belongs to another {METADATA_FILE}: build the detector "
                "again",
                file=str(path),
            )
        # Mapped, not read: processes that serve one detector share gigabytes of neighbours.
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except FileNotFoundError:
        raise DataError(f"{path} is missing: build the detector again", file=str(path)) from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error})", file=str(path)) from error
