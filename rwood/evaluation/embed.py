"""Embeddings of a whole image set, in its order."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rwood.config.benchmark import BenchmarkConfig
from rwood.data.loaders import embedding_batches
from rwood.data.opened import ImageSet
from rwood.model.encoder import Encoder

BATCH = 512


@dataclass(frozen=True, eq=False)
class Embedded:
    """What scorers see of N images, from one pass."""

    unit_ND: Tensor
    """(N, D) embeddings of unit length."""
    raw_ND: Tensor | None = None
    """(N, D) the backbone's output as it is, from which logits follow; None where nobody asks."""


def embed(
    encoder: Encoder,
    image_set: ImageSet,
    benchmark: BenchmarkConfig,
    device: torch.device,
    *,
    raw: bool = False,
) -> Embedded:
    """Embed every image once, without augmentation, in evaluation mode.

    Args:
        encoder: network in any mode; it is left in that mode.
        image_set: (N, H, W, C) uint8 images.
        benchmark: pixel statistics.
        device: where the encoder lives.
        raw: keep the rows before the normalisation too, which takes as much memory again.

    Returns:
        Rows in float32 (float64 if the encoder is), on the device.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            dtype = next(encoder.parameters()).dtype
            # Filled in place: a list of batches and its concatenation would take twice as much.
            shape = (len(image_set.labels_N), encoder.dim)
            unit_ND = torch.empty(shape, dtype=dtype, device=device)
            raw_ND = torch.empty_like(unit_ND) if raw else None
            batches = embedding_batches(image_set, benchmark, device=device, batch=BATCH)
            for i, images in enumerate(batches):
                rows = slice(i * BATCH, i * BATCH + len(images))
                features_nD = encoder.features(images.to(dtype))
                unit_ND[rows] = F.normalize(features_nD, dim=1)
                if raw_ND is not None:
                    raw_ND[rows] = features_nD
            return Embedded(unit_ND, raw_ND)
    finally:
        encoder.train(was_training)


def labels_of(image_set: ImageSet, device: torch.device) -> Tensor:
    """(N,) int64 classes of a set beside its embeddings, -1 where OOD."""
    return torch.tensor(image_set.labels_N, dtype=torch.int64, device=device)
