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
            return torch.cat(
                [
                    encoder.embed(images.to(dtype))
                    for images in embedding_batches(
                        image_set, benchmark, device=device, batch=BATCH
                    )
                ]
            )
    finally:
        encoder.train(was_training)
