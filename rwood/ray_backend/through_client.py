"""Tune's loop in this process although Ray is reached through its client port (`ray://`).

Tune would send the loop to the head node, where the ledger, MLflow's sender and the screen are not.
Two developer interfaces of Ray are turned, here and nowhere else.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.train._internal import storage


@contextmanager
def tune_here() -> Iterator[None]:
    """While it is open, Tune takes a client for a driver; nothing changes for a driver."""
    client = ray.util.client.ray
    if not client.is_connected():
        yield
        return
    session = storage._get_ray_train_session_dir
    with tempfile.TemporaryDirectory(prefix="rwood-") as scratch:
        client.is_connected = lambda: False
        storage._get_ray_train_session_dir = lambda: scratch
        try:
            yield
        finally:
            del client.is_connected
            storage._get_ray_train_session_dir = session
