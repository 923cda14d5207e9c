"""Every node is asked what a study needs of it, before the first trial."""

from pathlib import Path
from typing import Any

import pytest

from rwood.config.benchmark import FolderSet
from rwood.config.study import ClusterConfig
from rwood.errors import StudyError
from rwood.ray_backend import nodes
from rwood.ray_backend.versions import versions
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("ray_session")


def test_a_node_that_sees_everything(tmp_path: Path, bucket: Path) -> None:
    study = tiny(tmp_path)
    nodes.check_nodes(study, tmp_path / "results", tmp_path)
    assert list((tmp_path / "results").iterdir()) == []


def test_a_folder_that_only_the_driver_sees(tmp_path: Path) -> None:
    """`memory://` is a real place that another process cannot see."""
    from upath import UPath

    hidden: Any = UPath("memory://results")
    with pytest.raises(
        StudyError, match=r"^node \S+ \(\w+\) does not see the results folder memory:/+results"
    ):
        nodes.check_nodes(tiny(tmp_path), hidden, tmp_path)


def test_images_and_versions_that_a_node_lacks(tmp_path: Path) -> None:
    study = tiny(tmp_path)
    probe = tmp_path / "probe"
    probe.write_text("text")
    far = {"far": {"mine": FolderSet(folder="mine")}}
    own = study.model_copy(update={"benchmark": study.benchmark.model_copy(update=far)})
    said = nodes.problem_here(probe, "text", own, tmp_path, versions())
    assert said is not None
    assert said.startswith("lacks data: ")
    assert "mine" in said
    said = nodes.problem_here(probe, "text", study, tmp_path, {**versions(), "torch": "0.1"})
    assert said is not None
    assert "the driver has 0.1: make them the same" in said
    assert nodes.problem_here(probe, "text", study, tmp_path, versions()) is None


def test_gpus_that_this_machine_lacks() -> None:
    import ray

    here = int(ray.cluster_resources().get("GPU", 0))
    nodes.check_machine(ClusterConfig(gpus_per_worker=min(here, 1)))
    cores = int(ray.cluster_resources()["CPU"])
    with pytest.raises(StudyError, match=rf"asks for {cores + 1} CPU cores .* has {cores}: lower"):
        nodes.check_machine(ClusterConfig(cpus_per_worker=cores + 1))
    if here + 2 > cores:
        return
    with pytest.raises(StudyError, match=rf"asks for {here + 2} GPUs .* has {here}: lower"):
        nodes.check_machine(ClusterConfig(workers=here + 2, gpus_per_worker=1))
