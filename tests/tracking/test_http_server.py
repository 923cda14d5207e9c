"""A real MLflow server: what it refuses, and that it goes away and comes back."""

from pathlib import Path

from rwood.tracking.client import KEY_TAG, all_runs, connect
from rwood.tracking.server_run import listed
from rwood.tracking.tracker import Tracker
from tests.mlflow_server import mlflow_server
from tests.ray_backend.a_cluster import free_ports
from tests.tracking.a_backlog import SEARCH, a_trial


def test_a_server_refuses_one_run_and_goes_away_for_a_while(uri: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    page = tmp_path / "page.md"
    page.write_text("what was measured")
    with mlflow_server(uri, tmp_path, port) as address:
        tracker = Tracker(address, "toy")
        tracker.update(SEARCH)
        tracker.update(a_trial(0, params={"not$a name": 1}))
        tracker.update(a_trial(1, artifacts=((page, None),)))
        assert tracker.flush()
        assert tracker.run_id("id/search/0") is None
        assert tracker.run_id("id/search/1") is not None
    tracker.update(a_trial(2))
    assert not tracker.flush()
    client = connect(uri)
    found = client.get_experiment_by_name("toy")
    with mlflow_server(uri, tmp_path, port):
        tracker.interrupt()
        sentence = tracker.close()
        over_http = all_runs(connect(address), found.experiment_id)
        assert {run.info.run_name: listed(run).step for run in over_http} == {
            "search": 0, "trial-0000": 0, "trial-0001": 6, "trial-0002": 6,
        }  # fmt: skip
    assert sentence is not None
    assert sentence.startswith(f"MLflow at {address} lacks all or part of run trial-0000 (")
    assert "not$a name" in sentence
    held = {r.data.tags[KEY_TAG]: r for r in all_runs(client, found.experiment_id)}
    assert {key: run.info.status for key, run in held.items()} == {
        "id/search": "SCHEDULED", "id/search/0": "FINISHED", "id/search/1": "FINISHED",
        "id/search/2": "FINISHED",
    }  # fmt: skip
    assert [p.read_text() for p in (tmp_path / "files").rglob("page.md")] == ["what was measured"]
