import pytest

from rwood.report.table import Table, in_markdown, plain_number, signed
from rwood.text import duration

TABLE = Table(
    ("set", "figure", "word"),
    (("a|b", "1.00 ± 0.10\n2.00; −1.00", "<b>"), ("mean", "3.00", "x & y")),
    caption="What <this> is.",
    strong=frozenset({"mean"}),
)


def test_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "| set | figure | word |",
        "| :-- | --: | :-- |",
        "| a\\|b | 1.00 ± 0.10 (2.00; −1.00) | &lt;b&gt; |",
        "| **mean** | **3.00** | **x &amp; y** |",
        "",
        "*What &lt;this&gt; is.*",
    ]


def test_csv_leaves_notes_out() -> None:
    assert TABLE.csv() == "set,figure,word\na|b,1.00 ± 0.10,<b>\nmean,3.00,x & y\n"


def test_in_markdown_keeps_one_line() -> None:
    assert in_markdown("a\n# b `c` [d](e) *f*") == r"a # b \`c\` \[d\](e) \*f\*"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1322328, "0.1322"), (2.0, "2"), (-1, "−1"), (True, "True"), ("cosine", "cosine")],
)
def test_plain_number(value: object, text: str) -> None:
    assert plain_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "+0.50"), (-0.5, "−0.50"), (0.001, "0.00"), (-0.001, "0.00")]
)
def test_signed(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (41.0, "41 s"), (200.0, "3 min 20 s"), (59.7, "1 min 00 s"),
     (18120.0, "5 h 02 min")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
