"""Settings by dotted key: read, listed, replaced and validated again."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rwood.spec.load import load_study
from rwood.spec.search import Choices, Range, apply, check_space, contains, setting, settings


def test_apply_replaces_and_validates(digits_file: Path) -> None:
    run = load_study(digits_file).run
    changed = apply(run, {"loss.temperature": 0.25, "epochs": 4})
    assert setting(changed, "loss.temperature") == 0.25
    assert changed.epochs == 4
    assert changed.model == run.model
    with pytest.raises(ValidationError):
        apply(run, {"loss.temperature": -1.0})
    with pytest.raises(KeyError):
        apply(run, {"loss.tau": 0.1})
    with pytest.raises(KeyError):
        apply(run, {"loss.temperature.x": 0.1})


def test_settings_are_dotted_and_complete(digits_file: Path) -> None:
    run = load_study(digits_file).run
    flat = settings(run)
    assert flat["loss.between_shift"] == 4.0
    assert flat["model.backbone"] == "small_cnn"
    assert all(setting(run, key) == value for key, value in flat.items())


def test_spaces_are_tried_at_their_ends(digits_file: Path) -> None:
    run = load_study(digits_file).run
    check_space(run, {"loss.temperature": Range(low=0.01, high=1.0)})
    with pytest.raises(ValidationError):
        check_space(run, {"epochs": Range(low=0, high=4)})
    with pytest.raises(ValidationError):
        check_space(run, {"precision": Choices(choices=("float32", "float12"))})


def test_membership() -> None:
    assert contains(Range(low=0, high=1), 1)
    assert not contains(Range(low=0, high=1), 1.5)
    assert contains(Choices(choices=("a", "b")), "b")
    assert not contains(Choices(choices=("a", "b")), "c")
