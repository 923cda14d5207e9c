"""Validation OOD sets made of the ID val images themselves, for those who have no other images.

- `permuted`: the pixels of an image in a random order. What colours are there, and nothing else.
- `blobs`: the same pixels, laid out by brightness along blurred noise: smooth, but no object.
- `jigsaw`: an image cut into 4 x 4 tiles, each at another's place: right parts, wrong whole.
- `mixed`: the mean of two images of different classes: near the ID set on purpose.

Jigsaw and arithmetic mean are validation sets of Outlier Exposure (Hendrycks et al., ICLR 2019,
section 4.1 and appendix); blurred noise is its "Blobs", here with the colours of an ID image so
that brightness alone gives nothing away; permuted patches and pixels as negatives: CSI (Tack et
al., NeurIPS 2020). Nothing but ID val is opened, so no test image can leak into a choice.

Every image depends on a fixed seed, its row and its source, and on nothing else.
"""

import hashlib

import numpy as np

from rwood.config.benchmark import DERIVED, DerivedKind
from rwood.data.rows import LazyImages
from rwood.errors import DataError

SEED = 20240617
TILES = 4
"""Tiles along a side of a jigsaw."""
BLUR = (1 / 32, 1 / 8)
"""Least and largest deviation of the blur, as a share of the image's side."""
MEMORY_LIMIT = 256 * 2**20
"""Largest set that is made once and kept; larger ones are made anew whenever they are read."""
_LUMINANCE = np.array([0.299, 0.587, 0.114])


class DerivedImages(LazyImages):
    """Images that are made when they are indexed."""

    def __init__(
        self, kind: DerivedKind, images_NHWC: np.ndarray | LazyImages, labels_N: np.ndarray
    ) -> None:
        """Draw the pairs of `mixed`; make no image. Sides of the source images: at least `TILES`.

        Raises:
            DataError: `mixed` and all images are of one class.
        """
        super().__init__(*images_NHWC.shape)
        self._kind, self._images = kind, images_NHWC
        self._partner_N = other_class(labels_N) if kind == "mixed" else None

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Make some images."""
        numbered = zip(range(*rows.indices(len(self))), self._images[rows], strict=True)
        return self._stack([self._make(row, image) for row, image in numbered])

    def _make(self, row: int, image_HWC: np.ndarray) -> np.ndarray:
        if self._partner_N is not None:
            partner = int(self._partner_N[row])
            return mixed(image_HWC, self._images[partner : partner + 1][0])
        rng = np.random.default_rng((SEED, DERIVED.index(self._kind), row))
        return _DRAWN[self._kind](image_HWC, rng)


def derive(
    kind: DerivedKind, images_NHWC: np.ndarray | LazyImages, labels_N: np.ndarray
) -> np.ndarray | DerivedImages:
    """The images of a derived set, in memory where they are few.

    Raises:
        DataError: `mixed` and all images are of one class.
    """
    made = DerivedImages(kind, images_NHWC, labels_N)
    if int(np.prod(made.shape)) > MEMORY_LIMIT:
        return made
    images = made[:]
    images.setflags(write=False)
    return images


def digest(kind: DerivedKind, source: str) -> str:
    """Names the pixels of a derived set, by those of its source."""
    return hashlib.sha256(f"{kind} {SEED} {source}".encode()).hexdigest()[:16]


def permuted(image_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels in a random order; a pixel keeps its colour."""
    pixels_PC = image_HWC.reshape(-1, image_HWC.shape[2])
    return np.reshape(rng.permutation(pixels_PC, axis=0), image_HWC.shape)


def blobs(image_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels by brightness along blurred noise: the n-th darkest where the noise is n-th least."""
    height, width, channels = image_HWC.shape
    deviation = rng.uniform(*BLUR) * min(height, width)
    frequency_2 = np.add.outer(np.fft.fftfreq(height) ** 2, np.fft.rfftfreq(width) ** 2)
    spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
    blurred = np.fft.irfft2(
        spectrum * np.exp(-2 * np.pi**2 * deviation**2 * frequency_2), s=(height, width)
    )
    pixels_PC = image_HWC.reshape(-1, channels)
    brightness_P = pixels_PC @ _LUMINANCE if channels == 3 else pixels_PC[:, 0]
    made_PC = np.empty_like(pixels_PC)
    made_PC[np.argsort(blurred, axis=None)] = pixels_PC[np.argsort(brightness_P, kind="stable")]
    return made_PC.reshape(image_HWC.shape)


def jigsaw(image_HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tiles at each other's places, none at its own; a margin that fills no tile stays."""
    high, wide = image_HWC.shape[0] // TILES, image_HWC.shape[1] // TILES
    order = rng.permutation(TILES * TILES)
    made_HWC = image_HWC.copy()
    for source, target in zip(order, np.roll(order, 1), strict=True):  # one cycle through all
        (a, b), (c, d) = divmod(int(target), TILES), divmod(int(source), TILES)
        made_HWC[a * high : (a + 1) * high, b * wide : (b + 1) * wide] = image_HWC[
            c * high : (c + 1) * high, d * wide : (d + 1) * wide
        ]
    return made_HWC


_DRAWN = {"permuted": permuted, "blobs": blobs, "jigsaw": jigsaw}


def mixed(image_HWC: np.ndarray, other_HWC: np.ndarray) -> np.ndarray:
    """The mean of two images, halves rounded up."""
    mean_HWC: np.ndarray = (image_HWC.astype(np.uint16) + other_HWC + 1) // 2
    return mean_HWC.astype(np.uint8)


def other_class(labels_N: np.ndarray) -> np.ndarray:
    """A row of another class for every row, always the same.

    Raises:
        DataError: there is only one class.
    """
    rng = np.random.default_rng(SEED)
    partner_N = np.empty(len(labels_N), dtype=np.int64)
    for label in np.unique(labels_N):
        own, others = np.flatnonzero(labels_N == label), np.flatnonzero(labels_N != label)
        if not len(others):
            raise DataError("id.val shows one class only, so there are no two to mix")
        partner_N[own] = rng.choice(others, len(own))
    return partner_N
