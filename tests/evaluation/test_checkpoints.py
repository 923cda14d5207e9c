"""Checkpoints in OpenOOD's form: in, scored, out, and scored again."""

import csv
import json
import re
import statistics
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from rwood.cli import app
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.scorers import ScorerConfig
from rwood.data.image_sets import open_set
from rwood.errors import DataError, SpecError
from rwood.evaluation.checkpoints import evaluate_checkpoints, export_checkpoint, open_checkpoint
from rwood.evaluation.embed import embed
from rwood.results import RunResult

CPU = torch.device("cpu")
SCORERS = (ScorerConfig(), ScorerConfig(name="knn", k=5))
BN = ("weight", "bias", "running_mean", "running_var")


def openood_state(seed: int, width: int = 8, prefix: str = "") -> dict[str, Tensor]:
    """A CIDER network's state dict for 32x32 images, key by key as OpenOOD's trainer writes it."""
    rng = np.random.default_rng(seed)
    state: dict[str, Tensor] = OrderedDict()

    def put(key: str, *shape: int) -> None:
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        state[prefix + key] = torch.from_numpy(scale * rng.standard_normal(shape)).float()

    def norm(key: str, channels: int) -> None:
        for name in BN:
            put(f"{key}.{name}", channels)
        for name in ("weight", "running_var"):
            state[f"{prefix}{key}.{name}"] = 1 + 0.1 * state[f"{prefix}{key}.{name}"].abs()
        state[f"{prefix}{key}.num_batches_tracked"] = torch.tensor(98)

    put("backbone.conv1.weight", width, 3, 3, 3)
    norm("backbone.bn1", width)
    inputs = width
    for stage in range(1, 5):
        outputs = width * 2 ** (stage - 1)
        for block in range(2):
            at = f"backbone.layer{stage}.{block}"
            put(f"{at}.conv1.weight", outputs, inputs, 3, 3)
            norm(f"{at}.bn1", outputs)
            put(f"{at}.conv2.weight", outputs, outputs, 3, 3)
            norm(f"{at}.bn2", outputs)
            if block == 0 and stage > 1:
                put(f"{at}.shortcut.0.weight", outputs, inputs, 1, 1)
                norm(f"{at}.shortcut.1", outputs)
            inputs = outputs
    for layer, rows in ((0, inputs), (2, 128)):
        put(f"head.{layer}.weight", rows, inputs)
        put(f"head.{layer}.bias", rows)
    return state


def classifier_state(seed: int, classes: int = 3) -> dict[str, Tensor]:
    """A classifier's state dict as OpenOOD's trainer writes it: no `backbone.`, but `fc.*`."""
    state = {
        key.removeprefix("backbone."): value
        for key, value in openood_state(seed).items()
        if key.startswith("backbone.")
    }
    rng = np.random.default_rng(seed + 100)
    state["fc.weight"] = torch.from_numpy(rng.standard_normal((classes, 64))).float() / 8
    state["fc.bias"] = torch.from_numpy(rng.standard_normal(classes)).float() / 8
    return state


@pytest.fixture
def best(tmp_path: Path) -> Path:
    path = tmp_path / "s0" / "best.ckpt"
    path.parent.mkdir()
    torch.save(openood_state(1), path)
    return path


def score(paths: list[Path], config: BenchmarkConfig, root: Path) -> list[RunResult]:
    return evaluate_checkpoints(paths, config, SCORERS, data_root=root, device=CPU, fsood=True)


def test_the_hand_written_checkpoint_has_the_published_keys() -> None:
    assert len(openood_state(0)) == 124
    wide = openood_state(0, width=64)
    assert sum(v.numel() for k, v in wide.items() if not re.search("running|tracked", k)) == (
        11_497_152
    )


def test_evaluated_exported_and_evaluated_again(
    best: Path, tmp_path: Path, shapes: Path, shapes_config: BenchmarkConfig
) -> None:
    first = score([best], shapes_config, shapes)[0]
    assert set(first.tables) == {
        "ood/mahalanobis", "ood/knn", "fsood/mahalanobis", "fsood/knn",
    }  # fmt: skip
    assert first.tables["ood/mahalanobis"].far["grain"].auroc > 60
    export_checkpoint(best, tmp_path / "out" / "best.ckpt")
    plain = torch.load(tmp_path / "out" / "best.ckpt", weights_only=True)
    original = openood_state(1)
    assert list(plain) == list(original)
    assert all(torch.equal(plain[k], original[k]) for k in original)
    again = score([tmp_path / "out" / "best.ckpt"], shapes_config, shapes)[0]
    assert again.tables == first.tables
    assert again.id_metrics == first.id_metrics


def test_a_data_parallel_prefix_changes_nothing(
    best: Path, tmp_path: Path, shapes: Path, shapes_config: BenchmarkConfig
) -> None:
    torch.save(openood_state(1, prefix="module."), tmp_path / "ddp.ckpt")
    plain, prefixed = score([best, tmp_path / "ddp.ckpt"], shapes_config, shapes)
    assert prefixed.tables == plain.tables
    export_checkpoint(tmp_path / "ddp.ckpt", tmp_path / "out.ckpt")
    assert list(torch.load(tmp_path / "out.ckpt", weights_only=True)) == list(openood_state(1))


def test_several_runs_give_mean_and_population_std(tmp_path: Path, shapes: Path) -> None:
    paths = []
    for seed in range(3):
        paths.append(tmp_path / f"s{seed}.ckpt")
        torch.save(openood_state(seed), paths[-1])
    words = ["evaluate", *map(str, paths), "--benchmark", str(shapes / "shapes.yaml"),
             "--data-root", str(shapes), "--csv", str(tmp_path / "tables")]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    from rwood.config.load import load_benchmark

    runs = score(paths, load_benchmark(shapes / "shapes.yaml"), shapes)
    with (tmp_path / "tables" / "ood_mahalanobis.csv").open() as file:
        rows = {row[""]: row for row in csv.DictReader(file)}
    assert list(rows) == ["mixed", "nearood", "flat", "grain", "farood"]
    tables = [run.tables["ood/mahalanobis"] for run in runs]
    flat = [table.far["flat"].auroc for table in tables]
    far = [(table.far["flat"].fpr95 + table.far["grain"].fpr95) / 2 for table in tables]
    assert rows["flat"]["AUROC"] == f"{statistics.mean(flat):.2f} ± {statistics.pstdev(flat):.2f}"
    assert rows["farood"]["FPR@95"] == (
        f"{statistics.mean(far):.2f} ± {statistics.pstdev(far):.2f}"
    ), "the std of the runs' means"


def test_what_does_not_fit_names_the_first_key_and_shape(tmp_path: Path) -> None:
    state = openood_state(1)
    path = tmp_path / "best.ckpt"

    def sentence(changed: dict[str, Tensor]) -> str:
        torch.save(changed, path)
        with pytest.raises(DataError) as caught:
            open_checkpoint(path)
        return str(caught.value)

    key = "backbone.layer3.0.bn2.running_var"
    told = sentence(dict(state) | {key: torch.ones(5), "head.0.bias": torch.ones(3)})
    assert told == f"{path}: the checkpoint's {key} has shape (5,), the network's (32,)"
    told = sentence({k: v for k, v in state.items() if k != key})
    assert told == f"{path}: the checkpoint lacks {key} (32,)"
    told = sentence(dict(state) | {"prototypes": torch.ones(10, 128)})
    assert "prototypes (10, 128) has no place in the network" in told
    told = sentence({k: v for k, v in state.items() if not k.startswith("head.")})
    assert "lacks head.2.weight and fc.weight: it is neither an encoder" in told


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_classifier_of_openood_is_scored_by_its_logits(
    tmp_path: Path, shapes: Path, shapes_config: BenchmarkConfig, prefix: str
) -> None:
    path = tmp_path / "best.ckpt"
    state = classifier_state(1)
    torch.save({prefix + k: v for k, v in state.items()}, path)
    names = ("msp", "energy", "vim", "mahalanobis_raw", "rmds", "knn")
    words = ["evaluate", str(path), "--benchmark", str(shapes / "shapes.yaml"), "--k", "5"]
    words += ["--data-root", str(shapes), "--json", "--export", str(tmp_path / "out.ckpt")]
    done = CliRunner().invoke(app, [*words, *(w for n in names for w in ("--scorer", n))])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output.partition("\n")[2])[0]
    assert list(found["tables"]) == [f"ood/{name}" for name in names]
    exported = torch.load(tmp_path / "out.ckpt", weights_only=True)
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)
    _, encoder = open_checkpoint(path)
    test = open_set(shapes_config.id.test, shapes_config, shapes)
    features = embed(encoder, test, shapes_config, CPU, raw=True).raw_ND
    assert features is not None
    logits = features @ state["fc.weight"].T + state["fc.bias"]
    right = logits.argmax(1).numpy() == test.labels_N
    assert found["id_metrics"]["classifier"] == pytest.approx(100 * right.mean())


def test_scorers_that_a_checkpoint_cannot_have_are_refused(
    best: Path, tmp_path: Path, shapes: Path, shapes_config: BenchmarkConfig
) -> None:
    def sentence(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            evaluate_checkpoints(
                [path], shapes_config, [ScorerConfig(name="msp")], data_root=shapes, device=CPU
            )
        return str(caught.value)

    assert sentence(best) == f"{best} has no fc.weight: msp scores the logits of a classifier"
    torch.save(classifier_state(1, classes=10), tmp_path / "ten.ckpt")
    assert sentence(tmp_path / "ten.ckpt").endswith("knows 10 classes, benchmark shapes has 3")


def test_more_neighbours_than_train_images_cost_a_sentence(
    best: Path, shapes: Path, shapes_config: BenchmarkConfig
) -> None:
    with pytest.raises(SpecError, match="knn cannot be fitted on ID train: k = 500 neighbours of"):
        evaluate_checkpoints(
            [best], shapes_config, [ScorerConfig(name="knn", k=500)], data_root=shapes, device=CPU
        )


def test_a_checkpoint_for_colour_refuses_grey_images(
    best: Path, shapes: Path, shapes_config: BenchmarkConfig
) -> None:
    plain = shapes_config.model_dump() | {"channels": 1, "mean": (0.5,), "std": (0.25,)}
    with pytest.raises(DataError, match="takes images of 3 channels, benchmark shapes has 1"):
        score([best], BenchmarkConfig(**plain), shapes)
