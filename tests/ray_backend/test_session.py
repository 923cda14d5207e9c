"""A private Ray is private."""

import contextlib
import ipaddress
import socket
from functools import partial

import psutil
import pytest
import ray

from rwood.errors import RwoodError
from rwood.ray_backend import session
from rwood.ray_backend.session import _check_reachable


@pytest.mark.usefixtures("ray_session")
def test_nothing_listens_beyond_the_loopback() -> None:
    this, heard = psutil.Process(), set()
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # A worker may end at any time.
            heard |= {
                (process.name(), connection.laddr.ip)
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    assert {"gcs_server", "raylet"} <= {name for name, _ in heard}
    for name, ip in heard:
        address = ipaddress.ip_address(ip)
        mapped = getattr(address, "ipv4_mapped", None)
        assert (mapped or address).is_loopback, f"{name} listens on {ip}"
    assert not ray._private.worker._global_node.webui_url  # no dashboard


@pytest.mark.usefixtures("ray_session")
def test_its_nodes_ask_for_a_token() -> None:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    assert is_token_auth_enabled()


def test_an_address_at_which_nothing_listens_is_told_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with pytest.raises(RwoodError, match=f"nothing answers at --address 127.0.0.1:{port}"):
        _check_reachable(f"127.0.0.1:{port}")
    _check_reachable("auto")


def test_the_address_of_a_job_server_names_the_verb_that_takes_it() -> None:
    with pytest.raises(RwoodError, match="rwood submit FILE --address http://head:8265.*HOST:6379"):
        _check_reachable("http://head:8265")


def test_a_clients_server_that_comes_up_late_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def init(in_time: int, **settings: object) -> None:
        asked.append(settings["address"])
        if len(asked) < in_time:
            raise ConnectionAbortedError("Initialization failure from server:\n at\nlate: 30 s")

    monkeypatch.setattr(session, "_check_reachable", lambda address: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", partial(init, 3))
    session._connect("ray://head:10001", None, False)
    assert asked == ["ray://head:10001"] * 3
    asked.clear()
    monkeypatch.setattr(ray, "init", partial(init, 9))
    with pytest.raises(RwoodError, match="head:10001: Initialization .* server: late: 30 s"):
        session._connect("ray://head:10001", None, False)
    assert len(asked) == session.ATTEMPTS
