"""What all tests share: the digits study, one Ray for the session, the real images if present."""

import math
import os

# Networks of a test are so small that a second thread only waits for the first. Before torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each MLflow server would start six processes for jobs that nobody sends.
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from rwood.config.benchmark import BenchmarkConfig, ImageSetRef
from rwood.data import image_sets
from rwood.data.opened import ImageSet

if TYPE_CHECKING:
    from rwood.study.frames import StudyResults

REPOSITORY = Path(__file__).parents[1]
STUDIES = REPOSITORY / "studies"


class Together(LoadScopeScheduling):
    """Shares test files among processes; all that use one Ray, or one cluster, go to the same."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith("tests/faults/"):
            return "faults"
        return "ray" if _uses_ray(REPOSITORY / file) else file


@cache
def _uses_ray(file: Path) -> bool:
    text = file.read_text(encoding="utf-8")
    return "ray_session" in text or "finals_study" in text


@cache
def _starts_processes(file: Path) -> bool:
    return "subprocess" in file.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no process is left with one at the end."""
    items.sort(key=lambda item: (not _uses_ray(item.path), not _starts_processes(item.path)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Others give way to the tests on Ray, which one process runs from the first to the last."""
    if not _uses_ray(item.path) and os.nice(0) == 0:
        os.nice(5)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Together:
    """Called by pytest-xdist."""
    return Together(config, log)


@pytest.fixture(scope="session")
def digits_file() -> Path:
    """The study of the loss's five settings."""
    return STUDIES / "digits-margins.yaml"


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray for all tests; more CPUs than cores, so that groups of workers fit."""
    from rwood.ray_backend.session import session

    with session(None, log=tmp_path_factory.mktemp("ray") / "rwood.log", cpus=8):
        yield


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow store whose tables are made: making them takes seconds."""
    from rwood.tracking.client import local_uri, make_store

    folder = tmp_path_factory.mktemp("empty")
    make_store(local_uri(folder))
    return (folder / "mlflow.db").read_bytes()


def with_store(folder: Path, empty_store: bytes) -> Path:
    """A results folder that has the MLflow store already."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlflow.db").write_bytes(empty_store)
    return folder


@pytest.fixture
def results(tmp_path: Path, empty_store: bytes) -> Path:
    """A results folder that no study has used, beside a test's own files."""
    return with_store(tmp_path / "results", empty_store)


@pytest.fixture(scope="session")
def finals_study(
    tmp_path_factory: pytest.TempPathFactory, ray_session: None, empty_store: bytes
) -> "StudyResults":
    """A tiny study with finals and reruns, finished; whoever uses it leaves it as it is."""
    import rwood
    from tests.tiny import tiny

    folder = tmp_path_factory.mktemp("finals")
    study = tiny(
        folder, run__epochs=2, search__trials=3, search__pruner=None, search__objective="families",
        finals={"candidates": 2, "race_seeds": 1, "confirm_seeds": 2},
        rerun={"seeds": [1], "base": True},
    )  # fmt: skip
    results = with_store(folder / "results", empty_store)
    with pytest.MonkeyPatch.context() as patch:
        leave_unpainted(patch)
        return rwood.run(study, results=results, data_root=folder)


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not painted, nor laid out by t-SNE: most of a report's work."""
    leave_unpainted(monkeypatch)


def leave_unpainted(patch: pytest.MonkeyPatch) -> None:
    """See `unpainted`."""

    def save(figure: object, file: Any, **how: object) -> None:
        file.write(b"a picture")

    patch.setattr("matplotlib.figure.Figure.savefig", save)
    patch.setattr("rwood.report.inputs._TSNE_FROM", math.inf)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[ImageSetRef]:
    """Every image set that is opened from now on."""
    refs: list[ImageSetRef] = []
    real = image_sets.open_set

    def spy(ref: ImageSetRef, benchmark: BenchmarkConfig, data_root: Path) -> ImageSet:
        refs.append(ref)
        return real(ref, benchmark, data_root)

    monkeypatch.setattr(image_sets, "open_set", spy)
    return refs


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real images that stand beside the project."""
    folder = Path(os.environ.get("RWOOD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "cifar10-jpeg.tar.gz").exists():
        reason = f"{folder} has no cifar10-jpeg.tar.gz; set RWOOD_DATA"
        if os.environ.get("RWOOD_REQUIRE_SHARED_DATA"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[dict[str, str]]:
    """An S3 server for all tests; its environment."""
    from tests.an_object_store import object_store

    with object_store() as environment:
        yield environment


@pytest.fixture
def bucket(object_store: dict[str, str]) -> Path:
    """An empty prefix on the S3 server."""
    from rwood.storage import place
    from tests.an_object_store import new_bucket

    return place(f"{new_bucket()}/results")
