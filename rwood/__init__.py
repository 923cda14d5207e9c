"""rwood: which temperature and margins should ReweightOOD train with, and how good is it then?

A study file goes in; out come a champion that is proved, its reruns, a report and a detector. What
the command line does, a notebook does with four functions:

```python
study = rwood.load_study("studies/digits.yaml")
found = rwood.run(study)                    # goes on where it stopped; reads what is finished
found.verdict, found.champion               # the finals' sentence; the champion's settings
found.trials, found.epochs                  # pandas frames: a row a trial, a row an epoch
found.reruns, found.scores                  # a row a rerun; a row a test image
detector = rwood.load_detector(found.detector)
```

`rwood.method` has losses, scorers, metrics and geometry as functions of tensors, for a training
loop of one's own. The rooms below this one are drawn in rwood/README.md and `tests/test_layers.py`.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rwood.config.study import StudyConfig
    from rwood.detector.model import Detector
    from rwood.study.frames import StudyResults

try:
    __version__ = version("rwood")
except PackageNotFoundError:  # a copy on a machine that cannot install packages
    __version__ = "0.0.0"
__all__ = ["load_detector", "load_study", "read_results", "run"]


def load_study(file: str | Path) -> "StudyConfig":
    """Read a study file and the benchmark file that it names.

    Args:
        file: YAML.

    Raises:
        SpecError: file missing, not a mapping, or a setting that cannot be; the sentence names
            file, key, value and the nearest right key.
    """
    from rwood.config.load import load_study
    from rwood.data.known import check_study

    study = load_study(Path(file))
    check_study(study)
    return study


def run(
    study: "StudyConfig",
    *,
    results: str | Path = "results",
    data_root: str | Path = "data",
    address: str | None = None,
    tracking_uri: str | None = None,
    storage: str | None = None,
    retry_failed: bool = False,
) -> "StudyResults":
    """Run what is left of a study, with the progress that `rwood run` shows.

    Interrupted and called again it goes on where it stopped.

    Args:
        study: from `load_study`.
        results: folder, or a prefix of an object store; the study has its own folder below.
        data_root: where image sets lie.
        address: a running Ray cluster; None starts a private Ray.
        tracking_uri: an MLflow server; None keeps a SQLite store in the results folder.
        storage: URL of Optuna's storage; None keeps a journal in the results folder.
        retry_failed: take failed trials up again.

    Raises:
        RwoodError: something that its sentence says how to mend.
    """
    from rich.console import Console

    from rwood.progress.display import screen
    from rwood.storage import place
    from rwood.study.context import Context
    from rwood.study.record import is_finished
    from rwood.study.stages import open_study

    where = place(str(results))
    context = Context(where, Path(data_root), address, tracking_uri, storage, retry_failed)
    if retry_failed or not is_finished(study, where / study.name):
        from rwood.ray_backend.session import logging_restored

        with (
            logging_restored(),
            screen(study, Console(highlight=False), where / study.name) as view,
            open_study(study, context, view) as opened,
        ):
            opened.run()
    return read_results(study, results=results, storage=storage)


def read_results(
    study: "StudyConfig", *, results: str | Path = "results", storage: str | None = None
) -> "StudyResults":
    """What a study found so far, as pandas frames; whoever works on it is not disturbed.

    Args:
        study: from `load_study`.
        results: as `run` was told.
        storage: likewise.

    Raises:
        StudyError: the study was never started there, or its trials are in another storage.
    """
    from rwood.storage import place
    from rwood.study.frames import read_results

    return read_results(study, folder=place(str(results)) / study.name, storage=storage)


def load_detector(folder: str | Path, *, device: str = "cpu", trust: bool = False) -> "Detector":
    """Open a detector: `predict` takes raw images, and gives score, verdict and nearest class.

    Args:
        folder: a study's `detector/`, here or on an object store.
        device: where it shall compute, e.g. `cuda`.
        trust: import and run the packages whose scorer or backbone it names.

    Raises:
        DataError: a file is missing or damaged, or names code that is not trusted.
    """
    import torch

    from rwood.detector.model import load_detector
    from rwood.storage import local_copy, place

    with local_copy(place(folder)) as local:
        return load_detector(local, device=torch.device(device), trust=trust)


def write_metadata(folder: Path) -> Path:
    """What tells a copy of rwood its version where it was never installed; the folder made."""
    made = folder / f"rwood-{__version__}.dist-info"
    made.mkdir()
    text = f"Metadata-Version: 2.1\nName: rwood\nVersion: {__version__}\n"
    (made / "METADATA").write_text(text, encoding="utf-8")
    return made
