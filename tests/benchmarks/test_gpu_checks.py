"""What `gpu.py` compares, and what it keeps where something goes wrong."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import gpu
import gpu_checks
import pytest
from gpu_checks import short_run
from gpu_runs import NOTES, training


def test_the_device_is_compared_with_the_cpu_before_anything_is_compiled() -> None:
    """Else a fault of the compiler is taken for one of the kernels, and minutes go to compiling."""
    assert short_run("supcon").compile is False
    assert short_run("supcon", compile=True).compile is True


def test_a_first_part_that_hangs_leaves_time_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "hangs.py"
    hangs.write_text("import time; time.sleep(60)", encoding="utf-8")
    monkeypatch.setattr(gpu_checks, "__file__", str(hangs))
    monkeypatch.setattr(gpu_checks, "PATIENCE_S", 0.5)
    with pytest.raises(subprocess.TimeoutExpired):
        gpu_checks.check()


def test_what_a_run_says_is_kept_beside_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody knows whether the steps that were timed came from a CUDA graph."""
    monkeypatch.setattr(gpu, "parts", lambda size, folder: {
        "training": lambda: training(size, tmp_path / "run", True)})  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--output", str(tmp_path / "gpu.json")])
    with (
        patch("rwood.training.compiled._why_not", lambda kind: "no compiler"),
        pytest.raises(SystemExit),
    ):
        gpu.main()
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert found["failed"] == {}
    assert found["notes"] == NOTES
    assert ["no compiler" in note for note in NOTES] == [True]
