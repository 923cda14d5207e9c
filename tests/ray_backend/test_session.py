"""A private Ray is private."""

import contextlib
import ipaddress

import psutil
import pytest
import ray


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
