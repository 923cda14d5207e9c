"""Embeddings of a whole image set, in its order."""

import torch
from torch import Tensor

from rwood.data.image_sets import ImageSet
from rwood.data.loaders import embedding_batches
from rwood.model.encoder import Encoder
from rwood.spec.benchmark import BenchmarkSpec

BATCH = 512


def embed(
    encoder: Encoder, image_set: ImageSet, benchmark: BenchmarkSpec, device: torch.device
) -> Tensor:
    """Embed every image once, without augmentation, in evaluation mode.

    Args:
        encoder: network in any mode; it is left in that mode.
        image_set: (N, H, W, C) uint8 images.
        benchmark: pixel statistics.
        device: where the encoder lives.

    Returns:
        (N, D) unit rows in float32 (float64 if the encoder is), on the device.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            dtype = next(encoder.parameters()).dtype
            # Filled in place: a list of batches and its concatenation would take twice as much.
            embeddings_ND = torch.empty(
                len(image_set.labels_N), encoder.dim, dtype=dtype, device=device
            )
            batches = embedding_batches(image_set, benchmark, device=device, batch=BATCH)
            for i, images in enumerate(batches):
                rows = slice(i * BATCH, i * BATCH + len(images))
                embeddings_ND[rows] = encoder.embed(images.to(dtype))
            return embeddings_ND
    finally:
        encoder.train(was_training)
