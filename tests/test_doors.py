"""Losses, scorers and backbones that rwood has never heard of, named by their module."""

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from rwood.cli import app
from rwood.config.branches import grid
from rwood.config.load import load_study, set_values
from rwood.config.losses import LossConfig, loss_kind
from rwood.config.run import RunConfig
from rwood.config.search import apply
from rwood.detector.model import load_detector
from rwood.errors import DataError, SpecError
from rwood.model.checkpoint_keys import load_backbone_weights
from rwood.model.encoder import build_encoder
from rwood.ray_backend.job_folder import fill
from rwood.results import StudyResult, load
from rwood.search.read_trials import read_trials
from rwood.study.record import open_record
from rwood.training.loss import build_loss
from tests.a_command import said
from tests.search.a_search import Search
from tests.tiny import tiny, write_tiny

PARTS = '''
import dataclasses
import enum
import functools
import math

import pydantic
import torch
from torch import Tensor, nn


class Proxies(nn.Module):
    """Cross-entropy against learned unit proxies, one a class."""

    def __init__(self, classes: int, dims: int, *, scale: float = 10.0, margin: float = 0.0):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.proxies = nn.Parameter(torch.randn(classes, dims))

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        cosines = rows @ nn.functional.normalize(self.proxies, dim=1).T
        target = nn.functional.one_hot(labels, cosines.shape[1])
        return nn.functional.cross_entropy(self.scale * (cosines - self.margin * target), labels)


class Norm:
    """Distance to the mean of all training rows, times a factor."""

    sees_raw = True

    def __init__(self, *, factor: float = 1.0):
        self.factor = factor

    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        self.mean = embeddings.mean(0)

    def score(self, embeddings: Tensor) -> Tensor:
        return self.factor * (embeddings - self.mean).norm(dim=1)


class Flat(nn.Module):
    """One linear layer on the pixels."""

    def __init__(self, channels: int, *, features: int = 24):
        super().__init__()
        self.dim = features
        self.layer = nn.LazyLinear(features)
        self.layer(torch.zeros(1, channels * 64))
        self.fc = nn.Linear(features, features)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.fc(self.layer(images.flatten(1))))


class Sized(Flat):
    def __init__(self, channels: int, dim: int = 16, copy: bool = True):
        super().__init__(channels, features=dim)


def scaled(make):
    def made(classes: int, dims: int, *, scale: float = 5.0):
        return make(classes, dims, scale=scale)

    return made


class Odd(Proxies):
    """What research code writes: None for no number, and defaults that no file can hold."""

    def __init__(self, classes: int, dims: int, size: int = None, weight: Tensor | None = None,
                 act: type[nn.Module] = nn.ReLU, dtype: torch.dtype = torch.float32):
        super().__init__(classes, dims)
        self.size, self.weight, self.act, self.dtype = size, weight, act, dtype


class Mode(enum.Enum):
    HARD, SOFT = "hard", "soft"


class Options(pydantic.BaseModel):
    power: float = 2.0


@dataclasses.dataclass
class Sizes:
    large: int = 3


class Nested(Proxies):
    def __init__(self, classes: int, dims: int, options: Options = Options(),
                 sizes: Sizes = Sizes(), mode: Mode = Mode.HARD, gap: float | None = None):
        super().__init__(classes, dims)
        self.kept = (options.power, sizes.large, mode, gap)


class Scoped(Proxies):
    def __init__(self, classes: int, dims: int, scope: str = "class"):
        super().__init__(classes, dims)
        self.scope = scope


class Queue(Proxies):
    """With rows of earlier steps, of which there are none at first."""

    def __init__(self, classes: int, dims: int):
        super().__init__(classes, dims)
        self.register_buffer("first", None)
        self.register_buffer("rows", torch.zeros(0, dims))

    def start(self, means):
        self.first = means.float()

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        self.rows = torch.cat([self.rows, rows.detach()[:1]])
        return super().forward(rows, labels) + (rows @ self.first.T).var() + self.rows.sum() * 0


class Needs(Norm):
    def __init__(self, factor: float):
        super().__init__(factor=factor)


class Clipped(Proxies):
    def __init__(self, classes: int, dims: int, clip: float = math.inf, floor: float | None = None,
                 least=-math.inf):
        super().__init__(classes, dims)
        self.kept = (clip, floor, least)


class Taken(Norm):
    def __init__(self, part: str = "whole"):
        super().__init__()


class NeedsMargin(Proxies):
    def __init__(self, classes: int, dims: int, margin: float, scale: float = 10.0):
        super().__init__(classes, dims, margin=margin, scale=scale)


class OddChild(Odd):
    weight: Tensor


class Unnameable(Proxies):
    def __init__(self, classes: int, dims: int, weight: Tensor):
        super().__init__(classes, dims)


Sharp, Tall = functools.partial(Proxies, scale=30.0), scaled(Proxies)
not_callable = 3
'''


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"parts_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def run_settings(parts: str) -> dict[str, Any]:
    return {
        "run__loss": {"name": f"{parts}:Proxies", "scale": 12},
        "run__scorer": {"name": f"{parts}:Norm", "factor": 2.0},
        "run__model": {"backbone": f"{parts}:Flat", "features": 32, "projection_dim": 16},
        "search__space": {
            "loss.margin": {"low": 0.0, "high": 0.3},
            "loss.scale": {"low": 2.0, "high": 30.0, "log": True},
            "scorer.factor": {"choices": [1.0, 2.0]},
        },
    }


def test_a_study_of_parts_from_outside_runs_and_its_detector_serves(
    tmp_path: Path, results: Path, parts: str
) -> None:
    settings = run_settings(parts)
    file = write_tiny(tmp_path, **settings, search__trials=3, run__epochs=2)
    done = subprocess.run(
        [sys.executable, "-m", "rwood", "run", file.name],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = results / "tiny"
    trials = list(read_trials(load_study(file), folder).values())
    assert trials[0].params == {"loss.margin": 0.0, "loss.scale": 12.0, "scorer.factor": 2.0}
    assert len({trial.params["loss.margin"] for trial in trials}) == 3
    record = load(StudyResult, folder / "study.json")
    assert record.runs
    assert all(f"ood/{parts}:Norm" in run.tables for run in record.runs)
    with pytest.raises(DataError, match=rf"of another package \({parts}:Flat\), .*--trust"):
        load_detector(folder / "detector")
    detector = load_detector(folder / "detector", trust=True)
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 1), dtype=np.uint8)
    found = detector.predict(images)
    assert found.score.shape == (5,)
    assert detector.encoder.dim == 32
    state = torch.load(next((folder / "trials" / "0000").glob("epoch-*.pt")), weights_only=True)
    assert state["loss"]["proxies"].shape == (7, 16)
    assert "nothing is left to do" in said("run", file.name, cwd=tmp_path).stdout


@pytest.mark.parametrize(("loss", "key"), [("Proxies", "proxies"), ("Queue", "rows")])
def test_what_a_loss_carries_is_trained_and_restored(
    tmp_path: Path, parts: str, loss: str, key: str
) -> None:
    from rwood.training.train import train
    from rwood.training.worker import LocalWorker

    settings = run_settings(parts) | {"run__loss": {"name": f"{parts}:{loss}"}, "search": None}
    del settings["search__space"]
    study = tiny(tmp_path, **settings, run__epochs=3)
    cpu = torch.device("cpu")
    train(study.run, study.benchmark, LocalWorker(tmp_path / "a", cpu), data_root=tmp_path)
    states = [torch.load(path, weights_only=True)["loss"][key]
              for path in sorted((tmp_path / "a").glob("epoch-*.pt"))]  # fmt: skip
    assert not torch.equal(states[0], states[-1])
    (tmp_path / "b").mkdir()
    first = sorted((tmp_path / "a").glob("epoch-*.pt"))[0]
    (tmp_path / "b" / first.name).write_bytes(first.read_bytes())
    train(study.run, study.benchmark, LocalWorker(tmp_path / "b", cpu), data_root=tmp_path)
    last = torch.load(sorted((tmp_path / "b").glob("epoch-*.pt"))[-1], weights_only=True)
    assert torch.equal(last["loss"][key], states[-1])


def test_settings_of_a_part_are_checked_like_ours(tmp_path: Path, parts: str) -> None:
    loss = f"{parts}:Proxies"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"run__loss": {"name": loss, "margn": 1}},
         "run.loss.margn: unknown setting; did you mean margin?"),
        ({"run__scorer": {"name": f"{parts}:Norm", "facto": 1}}, "did you mean factor?"),
        ({"run__scorer": {"name": "head_gen", "gama": 0.1}}, "did you mean gamma?"),
        ({"run__model": {"backbone": f"{parts}:Flat", "featurs": 9}}, "did you mean features?"),
        ({"run__loss": {"name": loss, "scale": "x"}}, "run.loss.scale: got 'x'"),
        ({"run__loss": {"name": f"{parts}:Proxis"}},
         "run.loss.name: loss .*Proxis cannot be imported: module .* has no attribute"),
        ({"run__loss": {"name": "__main__:Mine"}}, "put it into a module of its own"),
        ({"run__loss": {"name": "no_such_package:X"}}, "No module named 'no_such_package'"),
        ({"run__loss": {"name": f"./{parts}.py:Proxies"}}, "imported: .* relative import"),
        ({"run__loss": {"name": f"{parts}:Unnameable"}}, "its parameter weight cannot be"),
        ({"run__scorer": {"name": f"{parts}:Taken"}}, "its parameter part cannot be a setting"),
        ({"run__loss": {"name": f"{parts}:Clipped", "floor": math.inf}}, "loss.floor: got inf"),
        ({"run__loss": {"name": f"{parts}:not_callable"}}, "is int, not a class or function"),
        ({"run__scorer": {"name": "mahalanobi"}},
         "run.scorer.name: no scorer is called mahalanobi; did you mean mahalanobis?"),
        ({"run__model": {"backbone": "timm:resnet1888"}},
         "timm has no network called resnet1888; did you mean timm:"),
        ({"rerun__scorers": ["knnn"]}, "rerun.scorers.0.name: no scorer is called knnn"),
        ({"run__loss": {"name": loss}, "search__space": {"loss.mrgin": {"low": 0, "high": 1}}},
         "loss.mrgin is not a setting of a run; did you mean loss.margin?"),
    ]  # fmt: skip
    for changes, sentence in wrong:
        with pytest.raises(SpecError, match=sentence):
            tiny(tmp_path, **changes)


def test_a_setting_may_be_called_dim_or_copy(tmp_path: Path, parts: str) -> None:
    model = {"backbone": f"{parts}:Sized", "dim": 24}
    space: dict[str, Any] = {
        "model.dim": {"low": 8, "high": 32},
        "model.copy": {"choices": [True, False]},
    }
    run = tiny(tmp_path, run__model=model, search__space=space).run
    changed = apply(run, {"model.dim": 12, "model.copy": False})
    for config, dim in ((run.model, 24), (changed.model, 12)):
        assert build_encoder(config, channels=1, seed=0).dim == dim


def test_a_backbone_of_ones_own_starts_from_weights_that_were_saved_without_rwood(
    tmp_path: Path, parts: str
) -> None:
    model = {"backbone": f"{parts}:Flat", "features": 32}
    encoder = build_encoder(tiny(tmp_path, run__model=model).run.model, channels=1, seed=0)
    wanted = {key: torch.ones_like(v) for key, v in encoder.backbone.network.state_dict().items()}  # type: ignore[operator, union-attr]
    for name, state in (("own", wanted), ("rwood", encoder.state_dict())):
        torch.save(state, tmp_path / f"{name}.pt")
    load_backbone_weights(encoder, tmp_path / "own.pt")
    assert all((p == 1).all() for p in encoder.backbone.parameters())
    load_backbone_weights(encoder, tmp_path / "rwood.pt")
    assert not all((p == 1).all() for p in encoder.backbone.parameters())


def test_a_scorer_that_needs_a_setting_costs_evaluate_a_sentence(
    digits_file: Path, parts: str
) -> None:
    benchmark = digits_file.parent / "benchmarks" / "digits.yaml"
    words = ["evaluate", "no.pt", "--benchmark", str(benchmark), "--scorer", f"{parts}:Needs"]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, SpecError)
    assert str(error) == "--scorer: factor: missing"


def test_a_setting_travels_between_processes(tmp_path: Path, parts: str) -> None:
    run = tiny(tmp_path, **run_settings(parts)).run
    assert pickle.loads(pickle.dumps(run)) == run
    assert RunConfig.model_validate_json(run.model_dump_json()) == run
    assert json.loads(run.model_dump_json())["loss"] == {
        "name": f"{parts}:Proxies", "scale": 12.0, "margin": 0.0}  # fmt: skip
    assert isinstance(run.loss, LossConfig)
    assert type(run.loss) is loss_kind(f"{parts}:Proxies")
    changed = apply(run, {"loss.name": "supcon"})
    assert changed.loss.name == "supcon"
    assert apply(changed, {"loss.name": f"{parts}:Proxies"}).loss.scale == 10.0  # type: ignore[attr-defined]


def test_a_part_may_be_an_entry_point(
    tmp_path: Path, parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "someones-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[rwood.losses]\nproxies_{parts} = {parts}:Proxies\ngone_{parts} = gone_{parts}:X\n"
    )
    study = tiny(tmp_path, run__loss={"name": f"proxies_{parts}"}, search=None)
    assert study.run.loss.part == f"{parts}:Proxies"
    assert study.run.loss.name == f"proxies_{parts}"
    with pytest.raises(SpecError, match=f"loss gone_{parts} cannot be imported: No module named"):
        tiny(tmp_path, run__loss={"name": f"gone_{parts}"}, search=None)


@pytest.mark.parametrize(("name", "scale"), [("Sharp", 30.0), ("Tall", 5.0)])
def test_a_part_may_be_what_another_function_made(
    tmp_path: Path, parts: str, name: str, scale: float
) -> None:
    run = tiny(tmp_path, run__loss={"name": f"{parts}:{name}"}, search=None).run
    assert build_loss(run, 7, torch.device("cpu")).scale == scale


def test_what_no_file_can_hold_keeps_its_default(tmp_path: Path, parts: str) -> None:
    for name in (f"{parts}:Odd", f"{parts}:OddChild"):
        run = tiny(tmp_path, run__loss={"name": name}, search=None).run
        assert run.loss.model_dump() == {"name": name, "size": None}
        loss = build_loss(run, 7, torch.device("cpu"))
        assert (loss.size, loss.weight, loss.act) == (None, None, torch.nn.ReLU)
        with pytest.raises(SpecError, match=r"run.loss.size: got 'x'"):
            tiny(tmp_path, run__loss={"name": name, "size": "x"}, search=None)
    name = "torch.nn:CrossEntropyLoss"
    smoothed = tiny(tmp_path, run__loss={"name": name, "label_smoothing": 0.1}, search=None)
    assert build_loss(smoothed.run, 7, torch.device("cpu")).label_smoothing == 0.1


def test_a_part_gets_its_models_dataclasses_and_enums_as_such(tmp_path: Path, parts: str) -> None:
    settings = {"options": {"power": 3}, "sizes": {"large": 4}, "mode": "soft", "gap": "1e-3"}
    run = tiny(tmp_path, run__loss={"name": f"{parts}:Nested"} | settings, search=None).run
    kept = build_loss(pickle.loads(pickle.dumps(run)), 7, torch.device("cpu")).kept
    assert kept == (3.0, 4, sys.modules[parts].Mode.SOFT, 0.001), "1e-3 is text to YAML"


def test_a_search_chooses_from_an_enumeration(tmp_path: Path, parts: str) -> None:
    space = {"loss.mode": {"choices": ["hard", "soft"]}}
    study = tiny(tmp_path, run__loss={"name": f"{parts}:Nested"}, search__space=space)
    assert grid(study.run, study.the_search.space) == [{"loss.mode": "hard"}, {"loss.mode": "soft"}]


def test_a_loss_whose_setting_has_no_default_is_one_of_several_to_search(
    tmp_path: Path, parts: str
) -> None:
    name = f"{parts}:NeedsMargin"
    space: dict[str, Any] = {
        "loss.name": {"choices": ["reweightood", name]},
        "loss.margin": {"low": 0.1, "high": 0.3},
        "loss.temperature": {"low": 0.05, "high": 0.5},
    }
    study = tiny(tmp_path, search__space=space, search__trials=12)
    search = Search(study, tmp_path)
    search.run()
    for trial in search.trials().values():
        loss = apply(study.run, trial.params).loss
        own = {"margin"} if loss.name == name else {"temperature"}
        assert trial.params.keys() == {"loss.name", *(f"loss.{key}" for key in own)}
    assert {t.params["loss.name"] for t in search.trials().values()} == {"reweightood", name}
    changed = set_values(study, [f"loss.name={name}", "loss.margin=0.2"])
    assert changed.run.loss.model_dump() == {"name": name, "margin": 0.2, "scale": 10.0}
    with pytest.raises(SpecError, match="--set loss.mrgin: .* did you mean loss.margin?"):
        set_values(study, [f"loss.name={name}", "loss.margin=0.2", "loss.mrgin=1"])
    with pytest.raises(SpecError, match="--set loss.margin: got 'x', should be a valid number"):
        set_values(changed, [f"loss.name={name}", "loss.margin=x", "loss.mrgin=1"])
    del space["loss.margin"]
    with pytest.raises(SpecError, match=r"search.space: loss.margin: missing"):
        tiny(tmp_path, search__space=space)


def test_a_setting_may_be_infinite_by_default(tmp_path: Path, parts: str) -> None:
    name = f"{parts}:Clipped"
    space = {"optimizer.lr": {"low": 0.05, "high": 0.2}}
    study = tiny(tmp_path, run__loss={"name": name}, search__space=space)
    assert build_loss(study.run, 7, torch.device("cpu")).kept == (math.inf, None, -math.inf)
    for _ in range(2):  # the second start finds the same study
        with open_record(study, tmp_path / "tiny"):
            pass
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    assert load_study(tmp_path / "resolved.yaml") == study
    finite = set_values(study, ["loss.clip=1e-3", "loss.least=.inf"])
    assert build_loss(finite.run, 7, torch.device("cpu")).kept == (1e-3, None, math.inf)


def test_a_loss_of_ones_own_may_have_a_scope(tmp_path: Path, parts: str) -> None:
    loss = {"name": f"{parts}:Scoped", "scope": "batch"}
    run = tiny(tmp_path, run__loss=loss, search=None).run
    assert build_loss(run, 7, torch.device("cpu")).scope == "batch"


def test_a_submitted_study_takes_its_parts_along(tmp_path: Path, parts: str) -> None:
    study = tiny(tmp_path, **run_settings(parts))
    folder = tmp_path / "job"
    folder.mkdir()
    fill(folder, study, code=False)
    assert {path.name for path in folder.iterdir()} == {"study.yaml", f"{parts}.py"}
    for key, names in (("scorer.name", ["mahalanobis", f"{parts}:Norm"]),
                       ("model.backbone", ["small_cnn", f"{parts}:Flat"])):  # fmt: skip
        (folder / f"{parts}.py").unlink()
        fill(folder, tiny(tmp_path, search__space={key: {"choices": names}}), code=False)
        assert (folder / f"{parts}.py").is_file(), f"a search may choose it by {key}"
    plain = tmp_path / "plain"
    plain.mkdir()
    fill(plain, tiny(tmp_path), code=False)
    assert {path.name for path in plain.iterdir()} == {"study.yaml"}


def test_a_network_of_timm_is_a_backbone(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs the extra timm")
    model = {"backbone": "timm:resnet18", "drop_path_rate": 0.1, "projection_dim": 8}
    run = tiny(tmp_path, run__model=model, search=None).run
    encoder = build_encoder(run.model, channels=1, seed=0)
    same = build_encoder(run.model, channels=1, seed=0)
    assert encoder.dim == 512
    assert encoder.project(torch.zeros(2, 1, 32, 32)).shape == (2, 8)
    for one, other in zip(encoder.parameters(), same.parameters(), strict=True):
        assert torch.equal(one, other)
