"""Counts in sentences."""

import pytest

from rwood.text import count_of


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 trials"), (1, "1 trial"), (1.0, "1 trial"), (0.5, "0.5 trials"),
     (1234567, "1,234,567 trials")],
)  # fmt: skip
def test_one_and_many(count: float, said: str) -> None:
    assert count_of(count, "trial") == said


def test_a_plural_of_its_own() -> None:
    assert [count_of(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
