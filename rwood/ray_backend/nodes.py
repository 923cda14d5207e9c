"""What every node of a cluster must offer, asked before the first trial: one sentence, not a crash.

Nodes that join later (an autoscaler's) are not asked; they are made as the first ones were.
"""

from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rwood.config.study import ClusterConfig, StudyConfig
from rwood.data.sample import check_files
from rwood.errors import DataError, StudyError
from rwood.ray_backend.versions import versions
from rwood.storage import probe
from rwood.text import count_of

MUST_AGREE = ("rwood", "torch", "ray", "python")
"""Versions that must be the driver's on every node."""
_PATIENCE_S = 180.0
"""A node that starts its first worker imports torch from a cold disk."""


def check_nodes(study: StudyConfig, folder: Path, data_root: Path) -> None:
    """Ask every node whether it sees the results folder and the data, and runs this code.

    Needs a connected Ray.

    Raises:
        StudyError: the first node that cannot take part, and why.
    """
    nodes = {n["NodeID"]: _name(n) for n in ray.nodes() if n["Alive"]}
    with probe(folder.resolve()) as (path, text):
        tasks = {_ask(node, path, text, study, data_root.resolve()): node for node in nodes}
        done, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=_PATIENCE_S)
        if late:
            raise StudyError(
                f"{nodes[tasks[late[0]]]} did not answer in {_PATIENCE_S:.0f} s: is it alive?"
            )
        for answer in done:
            problem = _answer(answer)
            if problem is not None:
                raise StudyError(f"{nodes[tasks[answer]]} {problem}", node=tasks[answer])


def _ask(node: str, path: Path, text: str, study: StudyConfig, data_root: Path) -> Any:
    here = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(problem_here)
    return task.remote(path, text, study, data_root, versions())


def _answer(answer: Any) -> str | None:
    try:
        problem: str | None = ray.get(answer)
    except Exception as error:  # Ray passes on whatever the task raised, a missing module too.
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"cannot run rwood: {lines[-1].strip() if lines else type(error).__name__}"
    return problem


def problem_here(
    path: Path, text: str, study: StudyConfig, data_root: Path, wanted: dict[str, str]
) -> str | None:
    """Why this node cannot take part in a study; None if it can.

    `text` is what the driver wrote to the file `path`, `wanted` are its versions.
    """
    here = versions()
    for name in MUST_AGREE:
        if here[name] != wanted[name]:
            return f"has {name} {here[name]}, the driver has {wanted[name]}: make them the same"
    try:
        content = path.read_text(encoding="ascii")
    except Exception as error:  # An object store's library raises errors of its own.
        content = type(error).__name__
    if content != text:
        return (
            f"does not see the results folder {path.parent}: choose --results on a file system or "
            "an object store that every node sees"
        )
    try:
        check_files(study, data_root)
    except DataError as error:
        return f"lacks data: {error}"
    return None


def check_machine(cluster: ClusterConfig) -> None:
    """Refuse what a private Ray would wait for in vain; a cluster may still grow.

    Raises:
        StudyError: this machine has fewer CPU cores or GPUs than a training asks for.
    """
    for resource, name, each in (
        ("CPU", "CPU core", cluster.cpus_per_worker),
        ("GPU", "GPU", cluster.gpus_per_worker),
    ):
        wanted, here = cluster.workers * each, ray.cluster_resources().get(resource, 0.0)
        if wanted > here:
            raise StudyError(
                f"a training asks for {count_of(wanted, name)} (cluster.workers x "
                f"cluster.{resource.lower()}s_per_worker) and this machine has {here:g}: lower "
                "it, or name a cluster by --address"
            )


def _name(node: dict[str, Any]) -> str:
    return f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
