"""Every file and folder of a results folder, by name; nothing else in rwood spells one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Below:
    """A file or folder by its name in the owner's folder."""

    name: str

    def __get__(self, owner: "RunPaths | StudyPaths", kind: object = None) -> Path:
        return owner.folder / self.name


@dataclass(frozen=True)
class RunPaths:
    """What one training leaves: a trial, one of the finals, a rerun. Checkpoints lie beside."""

    folder: Path

    encoder = _Below("encoder.pt")
    """The weights to score, in OpenOOD's form; written when a run ends."""
    epochs = _Below("epochs.json")
    """Metrics of every epoch of a trial that has ended."""
    result = _Below("result.json")
    """Result of a rerun, or of a training of the finals."""
    scores = _Below("scores.npz")
    """Scores of every test image of a rerun."""
    embeddings = _Below("embeddings.npz")
    """Some embeddings of a rerun, for the figure."""
    detector = _Below("detector")
    """The detector of a rerun, if it makes one."""

    def seed(self, seed: int) -> "RunPaths":
        """One seed of a trial of several."""
        return RunPaths(self.folder / f"seed-{seed}")


@dataclass(frozen=True)
class StudyPaths:
    """What a study leaves in its results folder."""

    folder: Path

    record = _Below("study.json")
    """All that a study decided and measured, but for the epochs of its trials."""
    config = _Below("study.yaml")
    """The resolved study."""
    champion = _Below("champion.yaml")
    """The champion's settings."""
    report = _Below("report.html")
    """The page; `report.md`, CSVs and `figures/` lie beside it."""
    detector = _Below("detector")
    """The champion, ready to use."""
    optuna = _Below("optuna.journal")
    """Optuna's journal; on an object store a folder of segments."""
    ray = _Below("ray")
    """Ray's own state of trials and training runs."""
    log = _Below("rwood.log")
    """What Ray, Optuna and MLflow had to say."""
    live = _Below("live.json")
    """How far a running study is, for `rwood status`."""
    lock = _Below("lock")
    """Who works on the study; on an object store a folder of leases."""
    runs = _Below("runs")
    """Folders of the reruns."""

    def trial(self, number: int) -> RunPaths:
        """A trial of the search."""
        return RunPaths(self.folder / "trials" / f"{number:04d}")

    def finals(self, label: str, seed: int, digest: str) -> RunPaths:
        """A training of the finals; another setting under the same label has another folder."""
        return RunPaths(self.folder / "finals" / f"{label}-seed{seed}-{digest[:8]}")

    def rerun(self, label: str, seed: int, digest: str) -> RunPaths:
        """A rerun, likewise."""
        return RunPaths(self.runs / f"{label}-seed{seed}-{digest[:8]}")
