"""rwood: which temperature and margins should ReweightOOD train with, and how good is it then?

A study file goes in; out come a champion, its reruns, a report and a detector. The rooms, from the
top: a room may import those below it, never the reverse (`tests/test_layers.py`).

```
cli          the verbs
cluster      Ray and Optuna: launch one run, search, rerun, submit
training     the only training loop, checkpoints, the Worker protocol
tracking     the only mlflow import (but for the detector's flavour); tracked: how runs should look
report       results -> tables, figures, page
detector     champion -> something that can be deployed
evaluation   embed once, score, measure
data model method      images in; networks; the paper as pure tensors
results      what comes out, JSON both ways
spec         what we ask for
storage      where it lies: a folder, or a prefix of an object store
errors       what can go wrong
```
"""

from importlib.metadata import version
from pathlib import Path

__version__ = version("rwood")


def write_metadata(folder: Path) -> Path:
    """What tells a copy of rwood its version where it was never installed; the folder made."""
    made = folder / f"rwood-{__version__}.dist-info"
    made.mkdir()
    text = f"Metadata-Version: 2.1\nName: rwood\nVersion: {__version__}\n"
    (made / "METADATA").write_text(text, encoding="utf-8")
    return made
