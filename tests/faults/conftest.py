"""One real cluster for all fault tests: Ray with two worker nodes, MLflow on PostgreSQL.

Beside it one undisturbed study, which all the disturbed ones must equal.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.faults.driver import SINGLE, Driver, outcome
from tests.tiny import write_tiny


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
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
