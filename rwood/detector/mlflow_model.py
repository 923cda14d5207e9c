"""A detector as an MLflow model: written, and logged to a run so that it can be registered.

The model is the detector's folder beside rwood's source, so that it loads where rwood is not
installed. MLflow calls `pyfunc`, which says what goes in and what comes out; nothing is pickled.
"""

import base64
import io
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import rwood
from rwood.config.backbones import TIMM
from rwood.config.base import digest
from rwood.detector import pyfunc
from rwood.detector.metadata import Metadata, read_metadata

TAG = "rwood.detector"
"""Marks a logged model with the content of its detector."""
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "torch")


def save_model(folder: Path, path: Path, model: Any = None) -> None:
    """Write a detector as an MLflow model in a path that is not there yet.

    `model` is an `mlflow.models.Model` that says where it will be logged, if it will.

    Raises:
        DataError: the folder holds no detector.
    """
    import mlflow.pyfunc
    import pandas as pd

    metadata = read_metadata(folder, trust=True)
    packages = [*REQUIREMENTS, *(["timm"] if metadata.model.backbone.startswith(TIMM) else [])]
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.pyfunc.save_model(
            path,
            loader_module=pyfunc.__name__,
            data_path=str(folder),
            code_paths=[str(Path(rwood.__file__).parent), str(rwood.write_metadata(Path(scratch)))],
            mlflow_model=model,
            signature=_signature(),
            input_example=pd.DataFrame({pyfunc.COLUMN: [_example(metadata)]}),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in packages],
        )


def log_detector(tracking_uri: str, run_id: str, folder: Path, name: str) -> str:
    """Log a detector as a model of a run; the same detector is not logged twice.

    Leaves MLflow's process-wide settings (tracking address, active run) alone.

    Returns:
        Address of the model (`models:/m-...`), to load, serve or register it from.

    Raises:
        DataError: the folder holds no detector.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model
    from mlflow.tracking import MlflowClient

    metadata = read_metadata(folder, trust=True)
    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_run(run_id).info.experiment_id
    mark = digest(metadata)
    for known in client.search_logged_models(
        [experiment], f"source_run_id = '{run_id}' AND name = '{name}' AND tags.`{TAG}` = '{mark}'"
    ):
        if known.status == LoggedModelStatus.READY:
            return str(known.model_uri)
    logged = client.create_logged_model(
        experiment,
        name,
        source_run_id=run_id,
        tags={TAG: mark},
        params={"scorer": metadata.scorer.name, "threshold": repr(metadata.threshold)},
        model_type="ood-detector",
    )
    status = LoggedModelStatus.FAILED
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model"
            described = Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            )
            save_model(folder, path, described)
            client.log_model_artifacts(logged.model_id, str(path))
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    return str(logged.model_uri)


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    outputs = (
        ("double", "score"),
        ("boolean", "ood"),
        ("long", "nearest_class"),
        ("string", "class_name"),
        ("double", "threshold"),
    )
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), pyfunc.COLUMN)]),
        outputs=Schema([ColSpec(kind, name) for kind, name in outputs]),
        params=ParamSchema([ParamSpec(pyfunc.FALSE_ALARMS, "double", default=None)]),
    )


def _example(metadata: Metadata) -> str:
    """A grey ramp of the encoder's size, as the base64 text of a PNG file."""
    ramp = np.linspace(0, 255, metadata.preprocessing.image_size).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.tile(ramp, (len(ramp), 1))).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
