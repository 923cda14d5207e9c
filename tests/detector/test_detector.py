"""The detector: the benchmark's scores, any image, clear refusals, no Ray, files one by one."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

import rwood
from rwood.config.benchmark import FolderSet, ImageSetRef, ListSet
from rwood.config.scorers import CLASSIFIER_SCORERS, ScorerName
from rwood.data import image_sets, transform
from rwood.data.transform import Transform
from rwood.detector.build import _class_names, build_detector
from rwood.detector.files import Verdict, detect, find_images, verdicts_csv
from rwood.detector.model import Detector, load_detector, threshold_of
from rwood.errors import DataError, SpecError
from rwood.evaluation.benchmark import run_benchmark
from rwood.evaluation.scorer import ROWS
from tests.detector.conftest import PARTS, Trained

Raw = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def detector(folder: Path) -> Detector:
    return load_detector(folder)


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "name"),
    [("cross_entropy", name) for name in get_args(ScorerName)]
    + [("reweightood", name) for name in get_args(ScorerName) if name not in CLASSIFIER_SCORERS],
)
def test_scores_are_the_benchmarks(
    trained: Trained, classifier: Trained, raw_images: Raw, tmp_path: Path, loss: str, name: str
) -> None:
    settings: dict[str, Any] = {"scorer.name": name, "scorer.k": 20}
    made = classifier if loss == "cross_entropy" else trained
    expected = made.benchmark_scores(**settings)
    built = made.build(tmp_path, **settings)
    again = load_detector(tmp_path)
    few = raw_images("id/test")[:5]
    many = again.predict(few[..., None])
    for row, image in enumerate(few):
        alone = again.predict(image)
        close(alone.score, many.score[row : row + 1])
        assert alone.nearest_class[0] == many.nearest_class[row]
    assert type(again.fitted.state) is ROWS[name].state
    assert expected.keys() == PARTS.keys()
    for part, scores in expected.items():
        batch = raw_images(part)[..., None]
        close(again.predict(batch).score, scores)
        np.testing.assert_array_equal(built.predict(batch).score, again.predict(batch).score)


class Bank:
    """Other people's scorer, two of whose tensors share memory."""

    def fit(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        self.rows, self.first = embeddings, embeddings[:5]

    def score(self, embeddings: torch.Tensor) -> torch.Tensor:
        return torch.cdist(embeddings, self.first).amin(1)


def test_tensors_that_share_memory_are_kept(trained: Trained, tmp_path: Path) -> None:
    built = trained.build(tmp_path, **{"scorer.name": f"{__name__}:Bank"})
    assert torch.equal(built.fitted.state.first, built.fitted.state.rows[:5])


class Scaled(torch.nn.Module):
    """Other people's scorer, a module that learns two buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        self.mean, self.scale = embeddings.mean(0), 7 * embeddings.std()

    def score(self, embeddings: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.scale * (embeddings - self.mean).norm(dim=1)
        return scores


class Forgetful(Scaled):
    """The same, but that its scale is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0

    def fit(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        super().fit(embeddings, labels)
        self.factor = 3.0

    def score(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.factor * super().score(embeddings)


class Lists(Forgetful):
    """The same, but that it keeps a list."""

    def fit(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        self.kept = embeddings.mean(0).tolist()

    def score(self, embeddings: torch.Tensor) -> torch.Tensor:
        return (embeddings - torch.tensor(self.kept)).norm(dim=1)


def test_what_a_scorer_of_ones_own_learned_is_kept(
    trained: Trained, raw_images: Raw, tmp_path: Path
) -> None:
    scorer = {"scorer.name": f"{__name__}:Scaled"}
    built = trained.build(tmp_path, **scorer)
    expected = trained.benchmark_scores(**scorer)["id/test"]
    close(built.predict(raw_images("id/test")[..., None]).score, expected)


@pytest.mark.parametrize("name", ["Forgetful", "Lists"])
def test_a_scorer_that_learns_what_is_no_tensor_is_refused(
    trained: Trained, tmp_path: Path, name: str
) -> None:
    with pytest.raises(SpecError, match=f"{name} keeps what it learned elsewhere than in tensors"):
        trained.build(tmp_path, **{"scorer.name": f"{__name__}:{name}"})


def test_every_scorer_has_its_state() -> None:
    assert ROWS.keys() == set(get_args(ScorerName))


def test_the_threshold_accepts_95_percent_of_id_val(
    detector: Detector, reference: dict[str, np.ndarray], raw_images: Raw
) -> None:
    said = detector.predict(raw_images("id/val")[..., None])
    count = len(said.ood)
    assert said.ood.dtype == bool
    assert (~said.ood).sum() == np.ceil(0.95 * count)
    wanted = np.quantile(reference["id/val"], 0.95, method="inverted_cdf")
    assert detector.metadata.threshold == pytest.approx(float(wanted), rel=1e-6)
    assert detector.predict(raw_images("far/permuted")[..., None]).ood.mean() > 0.1


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_a_chosen_false_alarm_rate_holds_on_id_val(
    folder: Path, raw_images: Raw, rate: float
) -> None:
    detector = load_detector(folder).with_false_alarms(rate)
    said = detector.predict(raw_images("id/val")[..., None])
    assert said.ood.sum() == np.floor(rate * len(said.ood))
    assert detector.metadata.accepted == 1 - rate


def test_a_false_alarm_rate_is_used_up() -> None:
    """In binary, 1 - 0.18 is more than 0.82: of 500 images 89 were called OOD, where 90 may be."""
    scores_N = np.arange(500.0)
    for percent in range(1, 100):
        assert (scores_N > threshold_of(scores_N, 1 - percent / 100)).sum() == 5 * percent


def test_a_false_alarm_rate_that_cannot_be_told_costs_a_sentence(folder: Path) -> None:
    detector = load_detector(folder)
    with pytest.raises(DataError, match="above 0 and below 1, got 1"):
        detector.with_false_alarms(1)
    with pytest.raises(DataError, match="of 0.001 takes 1,000 ID validation images; .* of 253"):
        detector.with_false_alarms(0.001)


def test_only_id_train_and_val_are_opened(
    trained: Trained, tmp_path: Path, opened: list[ImageSetRef]
) -> None:
    trained.build(tmp_path)
    assert opened == ["digits/train", "digits/val"]


def test_one_image_gets_the_score_that_it_gets_among_many(
    detector: Detector, raw_images: Raw
) -> None:
    images = raw_images("id/test")[:12]
    many = detector.predict(images[..., None])
    for row, image in enumerate(images):
        alone = detector.predict(image)
        assert alone.score.shape == (1,)
        close(alone.score, many.score[row : row + 1])
        assert alone.nearest_class[0] == many.nearest_class[row]
    close(detector.predict(list(images)).score, many.score)


@pytest.mark.parametrize("name", ["mahalanobis", "knn", "msp", "vim"])
def test_the_nearest_class_is_mostly_the_right_one(
    trained: Trained, classifier: Trained, raw_images: Raw, tmp_path: Path, name: str
) -> None:
    labels = image_sets.open_set("digits/test", trained.benchmark, trained.root).labels_N
    made = classifier if name in CLASSIFIER_SCORERS else trained
    said = made.build(tmp_path, **{"scorer.name": name}).predict(raw_images("id/test")[..., None])
    right = (said.nearest_class == labels).mean()
    if made is classifier:  # four epochs do not make it a good one
        measured = run_benchmark(
            made.encoder, made.benchmark, [], data_root=made.root, device=torch.device("cpu")
        )
        assert 100 * right == pytest.approx(measured.id_metrics["classifier"])
    else:
        assert right > 0.8
    assert said.nearest_class.dtype == np.int64


def test_grey_colour_and_any_size(detector: Detector, raw_images: Raw) -> None:
    grey = raw_images("id/test")[0]
    colour = np.stack([grey] * 3, axis=2)
    expected = detector.predict(grey).score
    close(detector.predict(grey[..., None]).score, expected)
    close(detector.predict(colour).score, expected)
    sizes = [(8, 8), (40, 23), (5, 9), (1, 1), (300, 17)]
    generator = np.random.default_rng(0)
    mixed = [generator.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    mixed += [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    together = detector.predict(mixed).score
    assert np.isfinite(together).all()
    how = Transform(channels=1, resize=8, size=8)
    for image, score in zip(mixed, together, strict=True):
        by_hand = transform.apply(Image.fromarray(image), how)
        close(detector.predict(by_hand).score, np.array([score]))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((8, 8), np.float32), "the image is float32; raw pixels are uint8, 0 to 255"),
        (np.zeros((2, 8, 8, 1), np.int64), "image 0 is int64; raw pixels are uint8"),
        (np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\); an image is \(H, W\), \(H, W, 1\)"),
        (np.zeros((5, 8, 8), np.uint8), r"shape \(5, 8, 8\); an image is"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"image 0 has shape \(8, 8, 4\); an image is"),
        (np.zeros((1, 1, 8, 8, 1), np.uint8), r"image 0 has shape \(1, 8, 8, 1\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), "no image was given"),
        (np.zeros((0, 8), np.uint8), "no pixel at all"),
        ([], "no image was given"),
        ([np.zeros((8, 8), np.uint8), [[0]]], "image 1 is a list, not a numpy array"),
        ("cat.png", "a numpy array or a list of numpy arrays, not str"),
        (torch.zeros(8, 8, dtype=torch.uint8), "not Tensor"),
    ],
)
def test_what_is_no_image_is_refused(detector: Detector, images: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        detector.predict(images)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
def test_processes_share_the_memory_of_a_detectors_tensors(
    detector: Detector, folder: Path
) -> None:
    """The neighbours of ImageNet are ten gigabytes, which each server would hold for itself."""
    assert str(folder / "detector.safetensors") in Path("/proc/self/maps").read_text()


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    def broken(name: str, change: Callable[[bytes], bytes]) -> Path:
        copy = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(change((copy / name).read_bytes()))
        return copy

    tensors, metadata = "detector.safetensors", "detector.json"
    flipped = broken(tensors, lambda b: b[:-5] + bytes([b[-5] ^ 1]) + b[-4:])
    with pytest.raises(DataError, match="safetensors is damaged or belongs to another"):
        load_detector(flipped)
    with pytest.raises(DataError, match="safetensors is damaged or belongs to another"):
        load_detector(broken(tensors, lambda b: b[: len(b) // 2]))
    with pytest.raises(DataError, match=r"json does not describe a detector .* build it again"):
        load_detector(broken(metadata, lambda b: b[: len(b) // 2]))
    with pytest.raises(DataError, match=r"\(threshold: .*\)"):
        load_detector(
            broken(metadata, lambda b: b.replace(b'"threshold": ', b'"threshold": "x", "y":'))
        )
    with pytest.raises(DataError, match="json does not describe"):
        load_detector(broken(metadata, lambda b: b"\xff\xfe"))
    with pytest.raises(DataError, match="lacks scorer.directions_CD, which scorer cosine needs"):
        load_detector(broken(metadata, lambda b: b.replace(b'"mahalanobis"', b'"cosine"')))
    with pytest.raises(DataError, match="holds no detector: detector.json is missing"):
        load_detector(tmp_path / "nowhere")
    (flipped / tensors).unlink()
    with pytest.raises(DataError, match="safetensors is missing"):
        load_detector(flipped)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ('"name": "mahalanobis"', '"name": "nowhere:Thing"'),
        ('"name": "mahalanobis"', r'"name": "nowhere\u003aThing"'),
        ('"name": "mahalanobis"', r'"n\u0061me": "nowhere:Thing"'),
        ('"name": "mahalanobis"', '"name": "timm:nowhere.Thing"'),
        ('"backbone": "small_cnn"', r'"backbone": "nowhere\u003aThing"'),
    ],
)
def test_code_of_a_stranger_is_not_imported(
    folder: Path, tmp_path: Path, ours: str, theirs: str
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    metadata = tmp_path / "copy" / "detector.json"
    text = metadata.read_text(encoding="utf-8")
    assert ours in text
    metadata.write_text(text.replace(ours, theirs), encoding="utf-8")
    with pytest.raises(DataError, match="names code of another package"):
        load_detector(tmp_path / "copy")
    with pytest.raises(DataError, match="cannot be imported"):
        load_detector(tmp_path / "copy", trust=True)


def test_the_folder_is_complete_and_leaves_nothing_else(folder: Path, detector: Detector) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["detector.json", "detector.safetensors"]
    said = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
    assert said["scorer"]["name"] == "mahalanobis"
    assert said["preprocessing"]["image_size"] == 8
    assert said["class_names"] == ["0", "1", "2", "3", "4", "5", "6"]
    assert all(said["digests"].values())
    assert detector.metadata.threshold == said["threshold"]


def test_a_detector_on_an_object_store_is_loaded(folder: Path, bucket: Path) -> None:
    for name in ("detector.json", "detector.safetensors"):
        (bucket / name).write_bytes((folder / name).read_bytes())
    expected = load_detector(folder).metadata
    for place in (bucket, str(bucket), folder, str(folder)):
        assert rwood.load_detector(place).metadata == expected


def test_weights_and_sets_that_do_not_fit_are_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such checkpoint"):
        build_detector(
            trained.run, trained.benchmark, tmp_path / "none.pt", tmp_path,
            data_root=tmp_path, device=torch.device("cpu"),
        )  # fmt: skip
    with pytest.raises(SpecError, match="scorer knn cannot be fitted on ID train: k = 1000"):
        trained.build(tmp_path, **{"scorer.name": "knn", "scorer.k": 1000})
    assert not (tmp_path / "detector.json").exists()


def test_classes_of_ones_own_folders_keep_their_names(
    trained: Trained, raw_images: Raw, tmp_path: Path
) -> None:
    names = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
    for part in ("train", "val"):
        found = image_sets.open_set(f"digits/{part}", trained.benchmark, tmp_path)
        for row, label in enumerate(found.labels_N):
            path = tmp_path / part / names[label] / f"{row:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array(found.images_NHWC[row, :, :, 0])).save(path)
    own = trained.benchmark.id.model_copy(
        update={"train": FolderSet(folder="train"), "val": FolderSet(folder="val")}
    )
    benchmark = trained.benchmark.model_copy(update={"id": own})
    detector = build_detector(
        trained.run, benchmark, trained.weights, tmp_path / "detector",
        data_root=tmp_path, device=torch.device("cpu"),
    )  # fmt: skip
    assert detector.metadata.class_names == tuple(names)
    [verdict] = detect(detector, find_images([tmp_path / "val" / "eel"])[:1])
    assert verdict.class_name in names
    lists = {}
    for part in ("train", "val"):
        files = [f"{n}/{p.name} {i}\n" for i, n in enumerate(names)
                 for p in sorted((tmp_path / part / n).iterdir())]  # fmt: skip
        (tmp_path / f"{part}.txt").write_text("".join(files))
        lists[part] = ListSet(list=f"{part}.txt", images=part)
    listed = benchmark.model_copy(update={"id": own.model_copy(update=lists)})
    detector = build_detector(
        trained.run, listed, trained.weights, tmp_path / "listed",
        data_root=tmp_path, device=torch.device("cpu"),
    )  # fmt: skip
    assert detector.metadata.class_names == tuple(names)


def test_a_class_folder_may_have_a_name_that_is_not_utf_8(trained: Trained, tmp_path: Path) -> None:
    names = ["ant", "bee", "cat", "dog", "eel", "fox", os.fsdecode(b"caf\xe9")]
    for name in names:
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "one.png").touch()
    own = trained.benchmark.id.model_copy(update={"train": FolderSet(folder="train")})
    benchmark = trained.benchmark.model_copy(update={"id": own})
    found = _class_names(benchmark, tmp_path)
    assert sorted(found) == sorted([*names[:-1], "caf\N{REPLACEMENT CHARACTER}"])


def test_it_loads_and_predicts_without_ray_optuna_and_mlflow(
    folder: Path, detector: Detector, tmp_path: Path
) -> None:
    expected = detector.predict(np.arange(64, dtype=np.uint8).reshape(8, 8))
    code = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'mlflow', 'sklearn', 'matplotlib', 'plotly', 'pandas',\n"
        "             'scipy', 'torchvision', 'typer', 'rich', 'yaml'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from rwood.detector.model import load_detector\n"
        "said = load_detector(Path(sys.argv[1])).predict(\n"
        "    np.arange(64, dtype=np.uint8).reshape(8, 8))\n"
        "print(said.score[0], said.nearest_class[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    score, nearest = done.stdout.split()
    assert float(score) == pytest.approx(expected.score[0], rel=1e-5)
    assert int(nearest) == expected.nearest_class[0]


def test_files_get_verdicts_one_by_one(detector: Detector, raw_images: Raw, tmp_path: Path) -> None:
    images = raw_images("id/test")[:70]  # more than a batch
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / "deep" / f"{row:03}.png")
    (folder / "broken.png").write_bytes((folder / "deep" / "000.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.txt").write_text("not looked at")
    paths = find_images([folder, tmp_path / "gone.png"])
    assert [p.name for p in paths[:2]] == ["broken.png", "000.png"]
    verdicts = list(detect(detector, iter(paths)))
    assert [v.path for v in verdicts] == paths
    wrong = {v.path.name: v for v in verdicts if v.error}
    assert wrong.keys() == {"broken.png", "text.jpg", "gone.png"}
    for name, verdict in wrong.items():
        assert name in str(verdict.error)
        assert verdict.score is verdict.ood is verdict.nearest_class is None
    right = [v for v in verdicts if not v.error]
    expected = detector.predict(images[..., None])
    close(np.array([v.score for v in right]), expected.score)
    assert [v.ood for v in right] == expected.ood.tolist()
    assert [v.class_name for v in right] == [str(c) for c in expected.nearest_class]
    rows = list(csv.DictReader(io.StringIO("\n".join(verdicts_csv(verdicts)))))
    assert [float(r["score"]) for r in rows if not r["error"]] == [v.score for v in right]
    assert [r["path"] for r in rows] == [str(p) for p in paths]


def test_an_image_with_lab_colours_keeps_no_other_from_its_score(
    detector: Detector, raw_images: Raw, tmp_path: Path
) -> None:
    image = Image.fromarray(raw_images("near/digit8")[0])
    image.convert("RGB").save(tmp_path / "a.png")
    Image.new("LAB", (8, 8)).save(tmp_path / "b.tif")
    scored, lab = detect(detector, find_images([tmp_path]))
    assert scored.score is not None
    assert "b.tif is damaged (it has Lab colours; save it as RGB)" in str(lab.error)


def test_a_name_with_a_line_break_is_one_field_of_the_csv() -> None:
    names = ["a\nb.png", "c\rd.png", 'e,"f.png']
    text = "\n".join(verdicts_csv(Verdict(Path(name), score=1.0) for name in names))
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["path"] for row in read] == names


def test_a_link_to_nothing_in_a_folder_keeps_no_other_from_its_score(
    detector: Detector, raw_images: Raw, tmp_path: Path
) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    Image.fromarray(raw_images("near/digit8")[0]).save(tmp_path / "b.png")
    missing, scored = detect(detector, find_images([tmp_path]))
    assert missing.error == f"{tmp_path / 'a.png'} is missing: it has no score"
    assert scored.score is not None


def test_files_that_all_fail_and_an_empty_folder(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a")
    [verdict] = detect(detector, find_images([tmp_path / "a.png"]))
    assert verdict.error == f"{tmp_path / 'a.png'} is not an image: it has no score"
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="holds no image"):
        find_images([tmp_path])
