"""A benchmark that names what there is not is refused before anything is opened."""

import difflib

import pytest

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_benchmark
from rwood.data.image_sets import NAMED
from rwood.data.known import check_known
from rwood.errors import SpecError
from tests.conftest import STUDIES


@pytest.fixture(scope="module")
def digits() -> BenchmarkConfig:
    return load_benchmark(STUDIES / "benchmarks" / "digits.yaml")


def test_unknown_name_is_refused_with_the_nearest_right_one(digits: BenchmarkConfig) -> None:
    check_known(digits)
    plain = digits.model_dump()
    plain["near"]["digit8"] = "digit/8"
    with pytest.raises(SpecError, match="near.digit8: digit/8 is not a known") as caught:
        check_known(BenchmarkConfig(**plain))
    nearest = difflib.get_close_matches("digit/8", NAMED, n=1)[0]
    assert f"did you mean {nearest}?" in str(caught.value)


def test_id_set_of_other_classes_is_refused(digits: BenchmarkConfig) -> None:
    plain = digits.model_dump() | {"classes": 10}
    with pytest.raises(SpecError, match=r"id.train: digits/train has 7 ID classes.*says 10"):
        check_known(BenchmarkConfig(**plain))
