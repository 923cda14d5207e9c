"""The embedded sets are scikit-learn's own, read without importing it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from rwood.data import digits
from rwood.errors import DataError


def test_pixels_and_labels_are_those_of_load_digits() -> None:
    images, labels = digits._all_digits()
    whole = load_digits()
    assert np.array_equal(labels, whole.target)
    assert np.array_equal(images, np.rint(whole.images * (255 / 16)).astype(np.uint8))


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_photographs_are_those_of_load_sample_image(name: str) -> None:
    found = np.asarray(Image.open(digits._bundled(f"images/{name}")))
    assert np.array_equal(found, load_sample_image(name))


def test_reading_imports_no_scikit_learn() -> None:
    code = (
        "import sys\nfrom rwood.data import digits\n"
        "digits.read('train'), digits.read('flower')\nprint('sklearn' in sys.modules)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_file_that_is_missing_is_said() -> None:
    with pytest.raises(DataError, match=r"scikit-learn's data/nothing.csv is missing: install"):
        digits._bundled("data/nothing.csv")
