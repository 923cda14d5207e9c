"""Every file and folder of a results folder, by name; nothing else in rwood spells one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """What one training leaves: a trial, one of the finals, a rerun. Checkpoints lie beside."""

    folder: Path

    @property
    def encoder(self) -> Path:
        """The weights to score, in OpenOOD's form; written when a run ends."""
        return self.folder / "encoder.pt"

    @property
    def epochs(self) -> Path:
        """Metrics of every epoch of a trial that has ended."""
        return self.folder / "epochs.json"

    @property
    def result(self) -> Path:
        """Result of a rerun, or of a training of the finals."""
        return self.folder / "result.json"

    @property
    def scores(self) -> Path:
        """Scores of every test image of a rerun."""
        return self.folder / "scores.npz"

    @property
    def embeddings(self) -> Path:
        """Some embeddings of a rerun, for the figure."""
        return self.folder / "embeddings.npz"

    @property
    def detector(self) -> Path:
        """The detector of a rerun, if it makes one."""
        return self.folder / "detector"

    def seed(self, seed: int) -> "RunPaths":
        """One seed of a trial of several."""
        return RunPaths(self.folder / f"seed-{seed}")


@dataclass(frozen=True)
class StudyPaths:
    """What a study leaves in its results folder."""

    folder: Path

    @property
    def record(self) -> Path:
        """All that a study decided and measured, but for the epochs of its trials."""
        return self.folder / "study.json"

    @property
    def config(self) -> Path:
        """The resolved study."""
        return self.folder / "study.yaml"

    @property
    def champion(self) -> Path:
        """The champion's settings."""
        return self.folder / "champion.yaml"

    @property
    def report(self) -> Path:
        """The page; `report.md`, CSVs and `figures/` lie beside it."""
        return self.folder / "report.html"

    @property
    def detector(self) -> Path:
        """The champion, ready to use."""
        return self.folder / "detector"

    @property
    def optuna(self) -> Path:
        """Optuna's journal; on an object store a folder of segments."""
        return self.folder / "optuna.journal"

    @property
    def ray(self) -> Path:
        """Ray's own state of trials and training runs."""
        return self.folder / "ray"

    @property
    def log(self) -> Path:
        """What Ray, Optuna and MLflow had to say."""
        return self.folder / "rwood.log"

    @property
    def live(self) -> Path:
        """How far a running study is, for `rwood status`."""
        return self.folder / "live.json"

    @property
    def lock(self) -> Path:
        """Who works on the study; on an object store a folder of leases."""
        return self.folder / "lock"

    @property
    def mlflow(self) -> Path:
        """What MLflow has acknowledged."""
        return self.folder / "mlflow.json"

    @property
    def runs(self) -> Path:
        """Folders of the reruns."""
        return self.folder / "runs"

    def trial(self, number: int) -> RunPaths:
        """A trial of the search."""
        return RunPaths(self.folder / "trials" / f"{number:04d}")

    def finals(self, label: str, seed: int, digest: str) -> RunPaths:
        """A training of the finals; another setting under the same label has another folder."""
        return RunPaths(self.folder / "finals" / f"{label}-seed{seed}-{digest[:8]}")

    def rerun(self, label: str, seed: int, digest: str) -> RunPaths:
        """A rerun, likewise."""
        return RunPaths(self.runs / f"{label}-seed{seed}-{digest[:8]}")
