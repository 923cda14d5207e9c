"""Settings by dotted key: read, listed, replaced and validated again."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rwood.config.branches import branches, check_range, grid, hyperparameters_of
from rwood.config.load import load_study
from rwood.config.losses import CiderLoss, SupConLoss
from rwood.config.scorers import ScorerConfig
from rwood.config.search import Choices, Range, apply, contains, settings


def test_apply_replaces_and_validates(digits_file: Path) -> None:
    run = load_study(digits_file).run
    changed = apply(run, {"loss.temperature": 0.25, "epochs": 4})
    assert settings(changed)["loss.temperature"] == 0.25
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


def test_spaces_are_tried_at_their_ends(digits_file: Path) -> None:
    run = load_study(digits_file).run
    check_range(run, {"loss.temperature": Range(low=0.01, high=1.0)}, "loss.temperature")
    with pytest.raises(ValidationError):
        check_range(run, {"epochs": Range(low=0, high=4)}, "epochs")
    with pytest.raises(ValidationError):
        check_range(run, {"precision": Choices(choices=("float32", "float12"))}, "precision")


def test_choices_are_numbers_where_yaml_takes_an_exponent_for_text() -> None:
    choices = Choices.model_validate(
        {"choices": ("1e-4", "5E-4", "2.e+3", "1", "mode-1e-4", "nan")}
    )
    assert choices.choices == (0.0001, 0.0005, 2000.0, "1", "mode-1e-4", "nan")
    assert contains(choices, 0.0001)


def test_membership() -> None:
    assert contains(Range(low=0, high=1), 1)
    assert not contains(Range(low=0, high=1), 1.5)
    assert contains(Choices(choices=("a", "b")), "b")
    assert not contains(Choices(choices=("a", "b")), "c")
    assert not any(contains(Range(low=0, high=9), value) for value in (None, (1, 5), "knn"))


MIXED = {
    "loss.momentum": Range(low=0.5, high=0.9),
    "loss.temperature": Range(low=0.05, high=0.5),
    "loss.name": Choices(choices=("cider", "reweightood", "cross_entropy")),
    "loss.between_shift": Range(low=0, high=6),
}


def test_another_loss_starts_from_its_own_defaults(digits_file: Path) -> None:
    run = apply(load_study(digits_file).run, {"loss.temperature": 0.3})
    same = apply(run, {"loss.name": "reweightood"})
    assert same == run
    assert apply(run, {"loss.name": "supcon"}).loss == SupConLoss()
    # In whatever order the settings come.
    changed = apply(run, {"loss.momentum": 0.7, "loss.name": "cider"})
    assert changed.loss == CiderLoss(momentum=0.7)
    with pytest.raises(KeyError, match=r"loss.within_scale"):
        apply(run, {"loss.name": "supcon", "loss.within_scale": 2.0})
    with pytest.raises(ValidationError, match="supco"):
        apply(run, {"loss.name": "supco"})


def test_another_scorer_keeps_what_every_scorer_has(digits_file: Path) -> None:
    """A base run with a scorer of settings of its own may search over scorers without them."""
    run = apply(load_study(digits_file).run, {"scorer.name": "head_gen", "scorer.gamma": 0.5})
    assert settings(run)["scorer.gamma"] == 0.5
    run = apply(run, {"scorer.k": 7})
    names = {"scorer.name": Choices(choices=("head_gen", "knn", "head_sum"))}
    check_range(run, names, "scorer.name")
    knn, both = (apply(run, {"scorer.name": name}).scorer for name in ("knn", "head_sum"))
    assert knn == ScorerConfig(name="knn", k=7)
    assert (both.k, settings(apply(run, {"scorer.name": "head_sum"}))["scorer.weight"]) == (7, 1.0)
    assert [point["scorer.name"] for point in grid(run, dict(names))] == ["head_gen", "knn",
                                                                          "head_sum"]  # fmt: skip
    with pytest.raises(ValidationError, match="no scorer is called ssdd; did you mean ssd"):
        apply(run, {"scorer.name": "ssdd"})


def test_what_is_set_together_is_judged_together(digits_file: Path) -> None:
    """vim needs fewer dims than the embedding has, and that is twice the width of small_cnn."""
    run = load_study(digits_file).run
    names = {"model.backbone": "resnet18_32x32", "loss.name": "cross_entropy", "scorer.name": "vim"}
    run = apply(run, {**names, "model.width": 4, "scorer.dims": 20})
    small = apply(run, {"model.backbone": "small_cnn", "model.width": 16})
    assert (small.model.backbone, small.scorer.dims) == ("small_cnn", 20)
    assert apply(run, {"model.backbone": "small_cnn", "scorer.dims": 5}).scorer.dims == 5
    with pytest.raises(KeyError, match="loss.momentum"):
        apply(run, {"loss.name": "supcon", "scorer.name": "knn", "loss.momentum": 0.5})


def test_each_loss_has_its_part_of_a_space(digits_file: Path) -> None:
    run = load_study(digits_file).run
    found = {
        branch.loss.name: list(hyperparameters_of(branch, MIXED)) for branch in branches(run, MIXED)
    }
    assert found == {
        "reweightood": ["loss.name", "loss.temperature", "loss.between_shift"],
        "cider": ["loss.name", "loss.momentum", "loss.temperature"],
        "cross_entropy": ["loss.name"],
    }
    assert next(iter(found)) == "reweightood", "the base run's own comes first"
    for key in MIXED:
        check_range(run, MIXED, key)
    with pytest.raises(KeyError):
        check_range(run, MIXED | {"loss.label": Range(low=0, high=1)}, "loss.label")
    with pytest.raises(ValidationError, match="momentum"):
        check_range(run, MIXED | {"loss.momentum": Range(low=0.5, high=1.5)}, "loss.momentum")


def test_scorers_and_backbones_have_their_parts_of_a_space(digits_file: Path) -> None:
    pytest.importorskip("timm", reason="needs the extra timm")
    run = apply(load_study(digits_file).run, {"model.width": 8})
    space = {
        "scorer.k": Choices(choices=(10,)),
        "model.drop_rate": Choices(choices=(0.0, 0.2)),
        "scorer.name": Choices(choices=("head_gen", "mahalanobis")),
        "scorer.gamma": Choices(choices=(0.1, 0.3)),
        "model.backbone": Choices(choices=("small_cnn", "timm:resnet18")),
    }
    for key in space:
        check_range(run, space, key)
    own = {"scorer.gamma", "model.drop_rate"}
    found = [own & hyperparameters_of(branch, space).keys() for branch in branches(run, space)]
    assert found == [set(), {"scorer.gamma"}, own, {"model.drop_rate"}]
    assert list(hyperparameters_of(run, space)) == ["scorer.name", "model.backbone", "scorer.k"]
    timm = apply(run, {"model.backbone": "timm:resnet18", "model.drop_rate": 0.2})
    assert (timm.model.width, settings(timm)["model.drop_rate"]) == (8, 0.2)
    assert apply(timm, {"model.backbone": "small_cnn"}) == run
    other = apply(timm, {"model.backbone": "timm:resnet34"})
    assert settings(other)["model.drop_rate"] == 0.2, "one function makes all networks of timm"
    assert len(grid(run, space)) == (1 + 2) * (1 + 2)


def test_a_grid_over_losses_has_no_empty_places(digits_file: Path) -> None:
    run = load_study(digits_file).run
    points = grid(
        run,
        {
            "loss.name": Choices(choices=("cider", "reweightood")),
            "loss.momentum": Choices(choices=(0.5, 0.9)),
            "loss.temperature": Choices(choices=(0.2, 0.1)),
            "loss.between_shift": Choices(choices=(4.0,)),
        },
    )
    assert points[0] == {
        "loss.name": "reweightood", "loss.temperature": 0.1, "loss.between_shift": 4.0
    }  # fmt: skip
    assert len(points) == 2 + 4
    for point in points:
        apply(run, point)
    assert len({str(p) for p in points}) == 6
