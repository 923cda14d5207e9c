"""A real SQLite store for each test."""

from pathlib import Path

import pytest

from rwood.tracking.client import local_uri


@pytest.fixture
def uri(tmp_path: Path, empty_store: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return local_uri(tmp_path)
