"""One real cluster for all fault tests: Ray with two worker nodes, MLflow on PostgreSQL."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY


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
