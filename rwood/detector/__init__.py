"""The champion as something that can be deployed: raw images in, score, verdict and class out.

A detector is a folder with `detector.safetensors` (weights, statistics) and `detector.json` (all
else). It needs no training data, no Ray, no Optuna, and MLflow only to be logged or served.

```
metadata      what detector.json says
raw           images as people have them -> pixels of one kind
model         Detector: predict(), save, load
build         encoder weights + ID train and val sets -> a detector
files         verdicts on image files
pyfunc        the detector as MLflow calls it, also over HTTP
mlflow_model  the MLflow model: written, logged to a run
```
"""

from rwood.detector.build import build_detector
from rwood.detector.files import Verdict, detect, find_images, verdicts_csv
from rwood.detector.metadata import Metadata
from rwood.detector.mlflow_model import log_detector, save_model
from rwood.detector.model import Detector, Prediction, load_detector

__all__ = [
    "Metadata",
    "Detector",
    "Prediction",
    "Verdict",
    "build_detector",
    "detect",
    "find_images",
    "load_detector",
    "log_detector",
    "save_model",
    "verdicts_csv",
]
