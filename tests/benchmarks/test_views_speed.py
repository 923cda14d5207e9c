"""Two views of real 32x32 images: ours for a batch against the authors' pipeline on PIL images.

    python -m pytest tests/benchmarks/test_views_speed.py -n 0 -s

The constants are the authors' for CIFAR-10; agreement is asserted, time is printed.
"""

import numpy as np
import torch
from pairs import compare
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision import transforms

from rwood.config.run import ViewsConfig
from rwood.data.views import augment, draw_views

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGES = 512


def cuttings(count: int) -> Tensor:
    """(count, 3, 32, 32) uint8 cuttings of scikit-learn's two photographs."""
    photos = [np.asarray(Image.fromarray(p).reduce(3)) for p in load_sample_images().images]
    rng = np.random.default_rng(0)
    chosen = []
    for i in range(count):
        photo = photos[i % 2]
        top, left = (int(rng.integers(0, side - 31)) for side in photo.shape[:2])
        chosen.append(photo[top : top + 32, left : left + 32])
    return torch.from_numpy(np.stack(chosen).transpose(0, 3, 1, 2).copy())


def authors_pipeline() -> transforms.Compose:
    jitter = transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def test_two_views_of_a_batch() -> None:
    images = cuttings(IMAGES)
    pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    pipeline = authors_pipeline()
    doubled = images.repeat(2, 1, 1, 1)
    steps = iter(range(10_000))

    def reference() -> Tensor:
        return torch.stack([pipeline(image) for _ in range(2) for image in pil])

    def ours() -> Tensor:
        drawn = draw_views(
            ViewsConfig(), 2 * IMAGES, seed=0, epoch=0, step=next(steps), image_size=(32, 32)
        )
        return augment(doubled, drawn, mean=MEAN, std=STD, output_size=32)

    theirs, mine = reference(), ours()
    assert mine.shape == theirs.shape
    for moment in (torch.mean, torch.std):
        by_channel = [moment(views.transpose(0, 1).flatten(1), dim=1) for views in (mine, theirs)]
        assert (by_channel[0] - by_channel[1]).abs().max() < 0.05, moment
    compare(f"two views of {IMAGES} images, 32x32", reference, ours, target=">= 6x")
