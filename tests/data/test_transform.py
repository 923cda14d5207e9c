"""The test transform against torchvision's on PIL images, pixel for pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from torchvision import transforms

from rwood.data.transform import Transform, apply

SIZES = [(32, 32), (28, 28), (64, 64), (500, 375), (375, 500), (31, 97), (256, 256), (40, 41)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(("resize", "size"), [(32, 32), (256, 224), (24, 28)])
def test_pixels_are_torchvisions(width: int, height: int, resize: int, size: int) -> None:
    rng = np.random.default_rng(width * height)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    theirs = transforms.Compose(
        [
            transforms.Resize(resize, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(size),
        ]
    )(image)
    assert np.array_equal(apply(image, Transform(3, resize, size)), np.asarray(theirs))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_any_mode_becomes_rgb_or_grey(mode: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).convert(mode)
    rgb = apply(image, Transform(3, 9, 9))
    assert np.array_equal(rgb, np.asarray(image.convert("RGB")))
    assert np.array_equal(apply(image, Transform(1, 9, 9))[..., 0], np.asarray(image.convert("L")))


def test_sixteen_bits_and_shares_of_white_are_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        assert np.array_equal(apply(image, Transform(1, 9, 9))[..., 0], grey)
        assert np.array_equal(apply(image, Transform(3, 9, 9))[..., 2], grey)
    Image.fromarray((grey / 255).astype(np.float32)).save(tmp_path / "shares.tif")
    with Image.open(tmp_path / "shares.tif") as image:
        assert image.mode == "F"
        assert np.array_equal(apply(image, Transform(1, 9, 9))[..., 0], grey)
    stored = Image.fromarray(grey.astype(np.float32))
    assert np.array_equal(apply(stored, Transform(3, 9, 9))[..., 1], grey)
    wide = Image.fromarray(grey.astype(np.int32))
    assert wide.mode == "I"
    assert np.array_equal(apply(wide, Transform(1, 9, 9))[..., 0], grey)


def test_a_cameras_orientation_and_later_pictures_are_left_out(tmp_path: Path) -> None:
    grey = np.arange(81, dtype=np.uint8).reshape(9, 9)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(grey).save(tmp_path / "photo.png", exif=turned)
    later = Image.fromarray(255 - grey)
    Image.fromarray(grey).save(tmp_path / "loop.gif", save_all=True, append_images=[later])
    for name in ("photo.png", "loop.gif"):
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(apply(image, Transform(1, 9, 9))[..., 0], grey)
