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
