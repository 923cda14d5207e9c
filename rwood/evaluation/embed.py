"""Embeddings of a whole image set, in its order."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from rwood.config.benchmark import BenchmarkConfig
from rwood.data.loaders import embedding_batches
from rwood.data.opened import ImageSet
from rwood.model.encoder import Encoder
from rwood.model.precision import Precision, PrecisionName

BATCH = 512


@dataclass(frozen=True, eq=False)
class Embedded:
    """What scorers see of N images, from one pass."""

    unit_ND: Tensor
    """(N, D) embeddings of unit length."""
    raw_ND: Tensor | None = None
    """(N, D) the backbone's output as it is, from which logits follow; None unless kept."""


@dataclass(frozen=True, eq=False)
class EmbeddedID:
    """The ID sets embedded: what scorers learn from."""

    train: Embedded
    labels_N: Tensor
    """(N,) classes of `train`."""
    classes: int
    classifier: tuple[Tensor, Tensor] | None
    """Weights (C, D) and biases (C,) of the last layer, where the network has one."""
    val: Embedded
    """It sets scales and chooses settings; nothing is fitted on it."""


@dataclass(frozen=True)
class EmbeddingPass:
    """In which precision a set is embedded, and by whom."""

    precision: PrecisionName = "float32"
    """Of the backbone."""
    rank: int = 0
    """Only rank 0 is given the embeddings."""
    world_size: int = 1
    """Ranks that embed a batch each in turn, with equal weights; each batch is what rank 0 alone
    would embed, so that its embeddings are the same to the bit on equal devices."""


ALONE = EmbeddingPass()


def embed(
    encoder: Encoder,
    image_set: ImageSet,
    benchmark: BenchmarkConfig,
    device: torch.device,
    *,
    raw: bool = False,
    how: EmbeddingPass = ALONE,
) -> Embedded:
    """Embed every image once, without augmentation, in evaluation mode; collective if shared.

    The encoder is left in the mode that it is in.

    Args:
        encoder: network in any mode.
        image_set: (N, H, W, C) uint8 images.
        benchmark: pixel statistics.
        device: where the encoder lives.
        raw: keep the rows before the normalisation too, which takes as much memory again.
        how: precision, and the ranks that share the work.

    Returns:
        Rows in float32 (float64 if the encoder is), on the device; none on ranks other than 0.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            dtype = next(encoder.parameters()).dtype
            # Filled in place: a list of batches and its concatenation would take twice as much.
            shape = (0 if how.rank else len(image_set.labels_N), encoder.dim)
            unit_ND = torch.empty(shape, dtype=dtype, device=device)
            raw_ND = torch.empty_like(unit_ND) if raw else None
            for start, features_nD in _features(encoder, image_set, benchmark, device, how):
                rows = slice(start, start + len(features_nD))
                unit_ND[rows] = F.normalize(features_nD, dim=1)
                if raw_ND is not None:
                    raw_ND[rows] = features_nD
            return Embedded(unit_ND, raw_ND)
    finally:
        encoder.train(was_training)


def _features(
    encoder: Encoder,
    image_set: ImageSet,
    benchmark: BenchmarkConfig,
    device: torch.device,
    how: EmbeddingPass,
) -> Iterator[tuple[int, Tensor]]:
    """First row and (n, D) features of each batch; of several ranks' batches, on rank 0 only."""
    batches = embedding_batches(
        image_set, benchmark, device=device, batch=BATCH, rank=how.rank, world_size=how.world_size
    )
    dtype, count = next(encoder.parameters()).dtype, len(image_set.labels_N)
    precision = Precision(how.precision, device, channels_last=False)  # as its weights lie

    def features(images: Tensor) -> Tensor:
        with precision.autocast():
            return encoder.features(images.to(dtype))

    if how.world_size == 1:
        yield from zip(range(0, count, BATCH), map(features, batches), strict=True)
        return
    for first in range(0, count, BATCH * how.world_size):
        own_BD = torch.zeros(BATCH, encoder.dim, dtype=dtype, device=device)
        images = next(batches, None)
        if images is not None:
            own_BD[: len(images)] = features(images)
        parts = [torch.empty_like(own_BD) for _ in range(how.world_size)]
        dist.gather(own_BD, parts if how.rank == 0 else None)
        for start, part_BD in zip(range(first, count, BATCH), parts, strict=False):
            if how.rank == 0:
                yield start, part_BD[: count - start]


def labels_of(image_set: ImageSet, device: torch.device) -> Tensor:
    """(N,) int64 classes of a set beside its embeddings, -1 where OOD."""
    return torch.tensor(image_set.labels_N, dtype=torch.int64, device=device)
