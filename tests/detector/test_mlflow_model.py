"""The MLflow model: logged once, no pickle, loads from its own source, served over HTTP."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from rwood.detector.mlflow_model import log_detector, save_model
from rwood.detector.model import Detector, load_detector

Raw = Callable[[str], np.ndarray]
START_S = 300.0
COLUMNS = ["score", "ood", "nearest_class", "class_name", "threshold"]
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8)


def encoded(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def png(image: np.ndarray) -> str:
    return base64.b64encode(encoded(Image.fromarray(image), "PNG")).decode()


@pytest.fixture(scope="module")
def detector(folder: Path) -> Detector:
    return load_detector(folder)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, path)
    return path


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """MLflow leaves a model's source in sys.path and its store in the environment.

    Its default store would be ./mlflow.db.
    """
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(tmp_path)
    yield
    mlflow.set_tracking_uri("")


def test_the_pyfunc_predicts_what_the_detector_predicts(
    model: Path, detector: Detector, raw_images: Raw
) -> None:
    images = raw_images("near/digit8")[:5]
    expected = detector.predict(images[..., None])
    loaded = mlflow.pyfunc.load_model(str(model))
    assert loaded.metadata.get_input_schema().input_names() == ["image"]
    assert loaded.metadata.get_output_schema().input_names() == COLUMNS
    texts = [png(image) for image in images]
    files = [base64.b64decode(text) for text in texts]
    wrapped = [base64.encodebytes(file).decode() for file in files]
    for column in (texts, wrapped, files, list(images), [i[..., None].tolist() for i in images]):
        said = loaded.predict(pd.DataFrame({"image": pd.Series(column, dtype=object)}))
        assert list(said.columns) == COLUMNS
        np.testing.assert_allclose(said["score"], expected.score, rtol=1e-5, atol=1e-5)
        assert said["ood"].tolist() == expected.ood.tolist()
        assert said["nearest_class"].tolist() == expected.nearest_class.tolist()
    assert set(said["threshold"]) == {detector.metadata.threshold}
    assert said["class_name"].tolist() == [str(label) for label in expected.nearest_class]
    strict = loaded.predict({"image": images[..., None]}, params={"false_alarms": 0.01})
    assert set(strict["threshold"]) == {detector.with_false_alarms(0.01).metadata.threshold}
    said = loaded.predict({"image": images[..., None]})
    np.testing.assert_allclose(said["score"], expected.score, rtol=1e-5, atol=1e-5)
    example = loaded.predict(loaded.input_example)
    assert np.isfinite(example["score"]).all()


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("not base64!", "image 0 is text, but not base64 of an image file"),
        (base64.b64encode(b"hello").decode(), "image 0 is not an image: give a whole image file"),
        (base64.b64decode(png(RAMP))[:45], "image 0 is damaged .*: give a whole image file"),
        (encoded(Image.new("LAB", (8, 8)), "TIFF"), "image 0 is damaged .it has Lab"),
        ([[1, 2], [3, 4]], r"image 0 is int64 of shape \(2, 2\); pixels are nested lists"),
        ([[[1.5]]], "image 0 is float64"),
        ([[[256]]], "image 0 has values outside 0 to 255"),
        ([[[1]], [[1], [2]]], "image 0 is ragged"),
        ([[[1, 2]]], r"image 0 has shape \(1, 1, 2\)"),
        (None, "image 0 is a NoneType"),
    ],
    ids=["text", "file", "cut", "lab", "flat", "float", "range", "ragged", "channels", "none"],
)
def test_what_is_no_image_is_refused_in_a_sentence(model: Path, cell: Any, sentence: str) -> None:
    loaded = mlflow.pyfunc.load_model(str(model))
    with pytest.raises(MlflowException, match=sentence):
        loaded.predict(pd.DataFrame({"image": pd.Series([cell], dtype=object)}))
    with pytest.raises(MlflowException, match="no image was given"):
        loaded.predict(pd.DataFrame({"image": pd.Series([], dtype=object)}))


def test_the_model_is_self_contained(model: Path, folder: Path, tmp_path: Path) -> None:
    names = [p.name for p in model.rglob("*") if p.is_file()]
    assert not [n for n in names if n.endswith((".pkl", ".pickle", ".pt", ".bin", ".pyc"))]
    assert (model / "data" / folder.name / "detector.safetensors").is_file()
    required = (model / "requirements.txt").read_text(encoding="utf-8")
    assert "torch==" in required
    assert "ray" not in required
    code = (
        "import sys\n"
        "for name in ('ray', 'optuna', 'typer', 'rich'):\n"
        "    sys.modules[name] = None\n"
        "import mlflow.pyfunc\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "assert len(model.predict(model.input_example)) == 1\n"
        "import rwood\n"
        "print(rwood.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(model))


def test_a_model_with_a_network_of_timm_requires_timm(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm", reason="needs the extra timm")
    assert "timm" not in (model / "requirements.txt").read_text(encoding="utf-8")
    metadata = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
    metadata["model"] = {"backbone": "timm:test_resnet"}
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "detector.json").write_text(json.dumps(metadata), encoding="utf-8")
    save_model(tmp_path / "detector", tmp_path / "model")
    assert "timm==" in (tmp_path / "model" / "requirements.txt").read_text(encoding="utf-8")


def test_logged_to_a_run_once_and_registered(
    folder: Path, detector: Detector, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("study", (tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    before = mlflow.get_tracking_uri()
    address = log_detector(uri, run_id, folder, "detector")
    assert address.startswith("models:/m-")
    assert log_detector(uri, run_id, folder, "detector") == address
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    model_id = address.removeprefix("models:/")
    logged = client.get_logged_model(model_id)
    assert str(logged.status) == "READY"
    assert logged.source_run_id == run_id
    assert logged.params["scorer"] == "mahalanobis"
    assert [o.model_id for o in client.get_run(run_id).outputs.model_outputs] == [model_id]
    client.create_registered_model("study")
    client.create_model_version("study", logged.artifact_location, run_id, model_id=model_id)
    client.set_registered_model_alias("study", "champion", "1")
    assert {p.name for p in tmp_path.iterdir()} == {"store.db", "artifacts"}
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model("models:/study@champion")
    said = loaded.predict(pd.DataFrame({"image": [png(RAMP)]}))
    assert said["score"][0] == pytest.approx(detector.predict(RAMP).score[0], rel=1e-5)


def test_a_failed_upload_is_marked_and_not_taken_for_the_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("study", (tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_model_artifacts", fail)
        with pytest.raises(OSError, match="disk full"):
            log_detector(uri, run_id, folder, "detector")
    address = log_detector(uri, run_id, folder, "detector")
    states = {m.model_id: str(m.status) for m in client.search_logged_models([experiment])}
    assert states.pop(address.removeprefix("models:/")) == "READY"
    assert list(states.values()) == ["FAILED"]


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running `mlflow models serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = tmp_path_factory.mktemp("serve")
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve"),
        *("--model-uri", str(model), "--env-manager", "local"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=place,
            env=os.environ | {"PATH": search, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/ping", place / "log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(server: subprocess.Popen[bytes], ping: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(ping, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no answer within {START_S:.0f} s: {log.read_text()}")


def post(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


def test_served_over_http_it_gives_the_benchmarks_scores(
    address: str, detector: Detector, reference: dict[str, np.ndarray], raw_images: Raw
) -> None:
    for part in ("id/test", "near/digit9", "far/china"):
        images = raw_images(part)
        texts = [png(image) for image in images]
        bodies: list[dict[str, Any]] = [
            {"inputs": images[..., None].tolist()},
            {"inputs": texts},
            {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
            {"dataframe_records": [{"image": text} for text in texts]},
            {"instances": [{"image": text} for text in texts]},
            {"inputs": {"image": images[..., None].tolist()}},
        ]
        for body in bodies:
            said = post(address, body)
            scores = np.array([row["score"] for row in said])
            np.testing.assert_allclose(scores, reference[part], rtol=1e-5, atol=1e-5)
            above = scores > detector.metadata.threshold
            assert [row["ood"] for row in said] == above.tolist()
            assert {row["nearest_class"] for row in said} <= set(range(7))
    few = {"inputs": [png(raw_images("id/test")[0])], "params": {"false_alarms": 0.3}}
    assert post(address, few)[0]["threshold"] == pytest.approx(
        detector.with_false_alarms(0.3).metadata.threshold
    )
    image = raw_images("id/test")[0]
    mixed = [[png(np.tile(image, (3, 2)))], [image[..., None].tolist()]]
    said = post(address, {"dataframe_split": {"columns": ["image"], "data": mixed}})
    assert said[1]["score"] == pytest.approx(float(reference["id/test"][0]), rel=1e-5)


def test_what_is_no_image_is_refused_over_http(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, {"inputs": ["aGVsbG8="]})
    with refused.value as answer:
        assert answer.code == 400
        assert "image 0 is not an image" in json.load(answer)["message"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, {"inputs": [png(RAMP)], "params": {"false_alarms": 0.0001}})
    with refused.value as answer:
        assert "takes 10,000 ID validation images" in json.load(answer)["message"]
