"""An S3 server in this process, over HTTP on the loopback, with a bucket of its own for each user.

`moto` speaks S3's protocol, conditional puts included; it is not S3.
"""

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

KEY, SECRET = "planted-access-key", "planted-secret-access-key"


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """The environment that leads to the server; set in this process too."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ |= given
    try:
        yield given
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        server.stop()


def new_bucket() -> str:
    """Make a bucket; its address."""
    import boto3

    name = f"rwood-{uuid.uuid4().hex[:10]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
