from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwood.config.backbones import ModelConfig
from rwood.errors import DataError
from rwood.model.checkpoint_keys import (
    load_backbone_weights,
    load_into,
    load_openood_state,
    save_openood_state,
)
from rwood.model.encoder import Encoder, build_encoder
from rwood.model.infer import infer_model

SPEC = ModelConfig(backbone="resnet18_32x32", width=4, projection_dim=6)


def encoder(seed: int) -> Encoder:
    return build_encoder(SPEC, channels=3, seed=seed)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_loads_with_and_without_the_ddp_prefix(tmp_path: Path, prefix: str) -> None:
    saved = encoder(1).state_dict()
    torch.save(OrderedDict((prefix + k, v) for k, v in saved.items()), tmp_path / "best.ckpt")
    target = encoder(2)
    load_into(target, load_openood_state(tmp_path / "best.ckpt"))
    assert same(target.state_dict(), saved)


def test_export_is_a_plain_state_dict_and_comes_back(tmp_path: Path) -> None:
    source = encoder(1)
    save_openood_state(source, tmp_path / "out" / "best.ckpt")
    plain = torch.load(tmp_path / "out" / "best.ckpt", weights_only=True)
    assert same(dict(plain), source.state_dict())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["best.ckpt"]


def test_classifier_weights_fill_the_backbone_and_leave_the_head(tmp_path: Path) -> None:
    source, target = encoder(1), encoder(2)
    head = {k: v.clone() for k, v in target.head.state_dict().items()}
    state = source.backbone.state_dict() | {
        "fc.weight": torch.ones(10, 32),
        "fc.bias": torch.ones(10),
    }
    torch.save(state, tmp_path / "classifier.ckpt")
    load_backbone_weights(target, tmp_path / "classifier.ckpt")
    assert same(target.backbone.state_dict(), source.backbone.state_dict())
    assert same(target.head.state_dict(), head)


def test_a_classifier_is_written_under_openoods_keys_and_comes_back(tmp_path: Path) -> None:
    source, target = (build_encoder(SPEC, channels=3, seed=s, classes=10) for s in (1, 2))
    save_openood_state(source, tmp_path / "best.ckpt")
    plain = torch.load(tmp_path / "best.ckpt", weights_only=True)
    keys = [*source.backbone.state_dict(), "fc.weight", "fc.bias"]
    assert list(plain) == keys
    assert plain["conv1.weight"].shape == (4, 3, 3, 3)
    assert plain["fc.weight"].shape == (10, 32)
    load_into(target, load_openood_state(tmp_path / "best.ckpt"))
    assert same(target.state_dict(), source.state_dict())
    config, channels, classes = infer_model(load_openood_state(tmp_path / "best.ckpt"))
    assert (config.backbone, config.width, channels, classes) == ("resnet18_32x32", 4, 3, 10)


def test_backbone_weights_may_come_from_an_encoder(tmp_path: Path) -> None:
    source, target = encoder(1), encoder(2)
    save_openood_state(source, tmp_path / "best.ckpt")
    load_backbone_weights(target, tmp_path / "best.ckpt")
    assert same(target.backbone.state_dict(), source.backbone.state_dict())


def test_first_key_that_does_not_fit_is_named(tmp_path: Path) -> None:
    state = encoder(1).state_dict()
    lacking = {k: v for k, v in state.items() if "layer2.0.bn1" not in k}
    with pytest.raises(DataError, match=r"lacks backbone.layer2.0.bn1.weight \(8,\)"):
        load_into(encoder(2), lacking)
    wide = build_encoder(SPEC.model_copy(update={"width": 8}), channels=3, seed=0).state_dict()
    with pytest.raises(DataError, match=r"backbone.conv1.weight has shape \(8, 3, 3, 3\).*\(4, 3"):
        load_into(encoder(2), wide)
    with pytest.raises(DataError, match=r"prototypes \(10, 6\) has no place"):
        load_into(encoder(2), dict(state) | {"prototypes": torch.ones(10, 6)})


def test_a_failed_load_changes_nothing(tmp_path: Path) -> None:
    target = encoder(2)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    state = dict(encoder(1).state_dict())
    del state["head.2.bias"]
    with pytest.raises(DataError):
        load_into(target, state)
    assert same(target.state_dict(), before)


class Opener:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("must not run",))


@pytest.mark.parametrize("content", ["text", "code", "list", "empty"])
def test_what_is_no_checkpoint_says_so(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.ckpt"
    match content:
        case "text":
            path.write_text("not weights")
        case "code":
            torch.save({"a": Opener()}, path)
        case "list":
            torch.save([torch.ones(1)], path)
        case "empty":
            path.write_bytes(b"")
    with pytest.raises(DataError, match="best.ckpt is not a"):
        load_openood_state(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "state",
    [
        {"backbone.conv1.conv.weight": (64, 3, 7, 7), "fc.weight": (1000, 1024)},
        {"backbone.conv1.weight": (512, 3, 7, 7), "fc.weight": (10, 512)},
        {"fc.weight": (10,)},
        {"head.2.weight": ()},
    ],
)
def test_a_network_that_is_none_of_ours_costs_a_sentence(state: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(DataError, match=r"are those of none of rwood's networks \(small_cnn, "):
        infer_model({key: torch.zeros(shape) for key, shape in state.items()})


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing.ckpt: no such checkpoint"):
        load_openood_state(tmp_path / "nothing.ckpt")
