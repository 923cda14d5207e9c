"""The notebook runs as it stands, from the first cell to the last."""

import json
from pathlib import Path

import pytest

TOUR = Path(__file__).parents[1] / "studies" / "tour.ipynb"


@pytest.mark.usefixtures("ray_session")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process and not in a kernel: it shares the suite's Ray."""
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 10
    seen: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), seen)
    assert seen["found"].verdict  # type: ignore[attr-defined]
    assert set(seen["found"].reruns.index.get_level_values("label")) == {"champion", "base"}  # type: ignore[attr-defined]
    assert len(seen["new"].ood) == 100  # type: ignore[attr-defined]
