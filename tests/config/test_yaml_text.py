"""YAML that no settings file is: a sentence within a moment."""

from pathlib import Path

import pytest
import yaml

from rwood.config.load import load_study
from rwood.config.yaml_text import parse
from rwood.errors import SpecError

LAUGHS = "a0: &a0 [1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join(f'*a{i - 1}' for _ in range(9))}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nname: y\n", "name is set twice"),
        ("'{x}': 1\n'{x}': 2\n", "{x} is set twice"),
        ("a: [0512]", "0512 is octal or base 60 to YAML: write a number in decimal"),
        ("a: 1:30", "1:30 is octal or base 60"),
        ("published: 2024-13-45", "month must be in 1..12"),
        (f"a: {'9' * 5000}", "a date, number or other value that cannot be"),
        ("a: !!int x", "a date, number or other value that cannot be"),
        ("a: !!timestamp x", "a date, number or other value that cannot be"),
        ("a: !!int [1]", "not valid YAML"),
        ("2024-01-01: x", "a name that is no text: put it in quotes"),
        (r'a: "\ud800"', "half of a character"),
        (r'"\ud800": a', "half of a character"),
        ("a: &a [*a]\n", "an anchor that contains itself"),
        ("[" * 3000 + "]" * 3000, "too many levels of nesting"),
        ("a: " + "[" * 250 + "]" * 250, "more than 100 levels of nesting"),
        ("a: " + "[" * 80 + "]" * 80, "a: unknown setting"),
        (LAUGHS, "more than 100000 values"),
        ("a: [1", "not valid YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SpecError, match=words) as caught:
        load_study(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n",
        "- 1\n- [2, 3]\n",
        "[0, -0.5, 00.5, 0x1F, '012', '1:30']",
    ],
)
def test_what_settings_may_be_is_read_as_before(text: str) -> None:
    assert parse(text) == yaml.safe_load(text)
