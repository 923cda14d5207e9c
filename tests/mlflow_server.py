"""An MLflow server on a store, for tests that send to it or open it in a browser."""

import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ray_backend.a_cluster import free_ports

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@contextmanager
def mlflow_server(uri: str, folder: Path, port: int | None = None) -> Iterator[str]:
    """Serve a store on the loopback; its address.

    Args:
        uri: of the store.
        folder: that the server works in, and keeps artifacts of new experiments in.
        port: None: a free one.

    Raises:
        TimeoutError: it did not start.
    """
    port = port or free_ports(1)[0]
    words = ["server", "--backend-store-uri", uri, "--artifacts-destination", str(folder / "files"),
             "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        _await(f"{address}/health", server)
        yield address
    finally:
        server.terminate()
        server.wait(120)


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError("the MLflow server did not start")
