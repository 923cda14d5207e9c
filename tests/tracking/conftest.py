"""A real SQLite store for each test."""

from pathlib import Path

import pytest

from rwood.tracking import local_uri
from rwood.tracking.client import connect


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store whose tables are made: making them takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    connect(local_uri(folder)).search_experiments()
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def uri(tmp_path: Path, empty_store: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return local_uri(tmp_path)
