"""A trial that needs a while to end, on Ray."""

from pathlib import Path

import pytest

from rwood.search import tuner
from rwood.search.read_trials import read_trials
from tests.search.a_search import RECORD_ID, trial_that_ends_late
from tests.tiny import tiny


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("ray_session")
def test_a_search_goes_on_after_a_pruned_trial_that_still_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune gave it 2 s, could not use its worker again, and waited for ever."""
    monkeypatch.setattr(tuner, "_trial", trial_that_ends_late)
    study = tiny(tmp_path, run__epochs=6, search__trials=4, cluster__max_concurrent=1)
    folder = tmp_path / "results"
    tuner.search(
        study, record_id=RECORD_ID, folder=folder, data_root=tmp_path,
        on_change=lambda trial: None, on_note=lambda text: None,
    )  # fmt: skip
    states = [trial.state for trial in read_trials(study, folder).values()]
    assert states == ["complete", "complete", "pruned", "complete"]
