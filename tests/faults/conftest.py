"""One real cluster for all fault tests: Ray with two worker nodes, MLflow on PostgreSQL.

Beside it one undisturbed study, which all the disturbed ones must equal.
"""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.faults.driver import SINGLE, Driver, outcome
from tests.tiny import write_tiny


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """Also where the tests are a script's background job, whose children would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cluster(whole_cluster: Any) -> Any:
    """With all its services up, whatever an earlier test stopped and, failing, did not start."""
    whole_cluster.start()
    return whole_cluster


@pytest.fixture(autouse=True)
def _no_driver_is_left() -> Iterator[None]:
    """A test that fails leaves no study behind that would slow the next one down."""
    yield
    for driver in Driver.started:
        if driver.process.poll() is None:
            driver.kill()
    Driver.started.clear()


@pytest.fixture(scope="session")
def whole_cluster() -> Iterator[Any]:
    """Up until the tests end; its folder is short, since Ray's sockets lie in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "infra" / "local"))
        # Ray's workers run this tree's rwood, installed or not.
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        from cluster import Cluster

        folder = Path(tempfile.mkdtemp(prefix="rwood-", dir="/tmp"))
        folder.chmod(0o711)
        local = Cluster(folder)
        try:
            local.start()
            yield local
        finally:
            local.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The study of one-worker trials as a laptop runs it: a private Ray, nothing broken."""
    folder = tmp_path_factory.mktemp("calm")
    Driver("search", write_tiny(folder, name="calm", **SINGLE)).ended()
    found = outcome(folder / "results" / "calm")
    assert {trial[2] for trial in found} == {"complete", "pruned"}
    return found
