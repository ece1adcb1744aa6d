"""The machines of a cluster: what they have, whether they fit this one, and whether a run fits them."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
import ray._private.state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from physai.errors import ClusterError
from physai.train.actor import RolloutActor
from physai.train.progress import Node

# What must be equal everywhere: experience is pickled between these, and an episode is computed by them.
EQUAL = ("physai", "python", "ray", "torch", "gymnasium", "stable-baselines3")
ANSWER_S = 60.0  # a node's first worker imports Python and Ray; on a loaded machine that takes long


def read() -> list[Node]:
    """Returns the nodes of the cluster that this process is connected to, with its rollout actors on each."""
    job = ray.JobID(bytes.fromhex(ray.get_runtime_context().get_job_id()))
    actors = ray._private.state.state.actor_table(None, job, "ALIVE").values()
    count = Counter(actor["Address"]["NodeID"] for actor in actors if actor["ActorClassName"] == RolloutActor.__name__)
    return [
        Node(
            name=_name(node),
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            actors=count[node["NodeID"]],
            alive=node["Alive"],
        )
        for node in sorted(ray.nodes(), key=lambda node: (_name(node), node["NodeID"]))
    ]


def _name(node: Mapping[str, Any]) -> str:
    host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
    return host if host == address else f"{host} ({address})"


def is_relative(storage: str) -> bool:
    """Whether a storage is a relative path, which is another folder on every machine."""
    return "://" not in storage and not Path(storage).is_absolute()


def check_storage(storage: str) -> str | None:
    """Returns a warning where the nodes of a cluster would not see the same folder."""
    if is_relative(storage) and sum(node["Alive"] for node in ray.nodes()) > 1:
        return (
            f"warning: storage={storage} is a relative folder, and the cluster has several nodes; unless all of them "
            "share this working folder, the run cannot go on elsewhere. Give storage=/mnt/shared/runs, or a bucket"
        )
    return None


def check_versions() -> None:
    """Compares every node with this process, before anything runs there; one that leaves meanwhile does not count.

    Raises:
        ClusterError: names the first node that differs, with both versions.
    """
    here = versions()
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(versions)
            asked[task.remote()] = node
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    living = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    for reference in done:
        name = _name(asked[reference])
        try:
            found = ray.get(reference)
        except ray.exceptions.RayError as error:
            if asked[reference]["NodeID"] not in living:
                continue
            raise ClusterError(
                f"node {name} cannot run physai ({cause_of(error)}); install the same physai[train] there as here"
            ) from error
        different = [what for what in EQUAL if found.get(what) != here.get(what)]
        if different:
            words = ", ".join(f"{what} {found.get(what, 'not at all')} (here {here.get(what)})" for what in different)
            raise ClusterError(f"node {name} has {words}; install the same versions on every node")
    for reference in silent:
        if asked[reference]["NodeID"] not in living:
            continue
        raise ClusterError(
            f"node {_name(asked[reference])} did not answer in {ANSWER_S:g} s; look at it with `ray status`, or "
            "remove it"
        )


def cause_of(error: BaseException) -> str:
    """Returns the last line of what Ray says, which is where it began."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def versions() -> dict[str, str]:
    """Returns the versions of `EQUAL`, without the build of a wheel (+cpu, +cu126), physai's with a digest."""
    found = {"python": platform.python_version()}
    for name in EQUAL:
        try:
            found.setdefault(name, metadata.version(name).partition("+")[0])
        except metadata.PackageNotFoundError:
            continue
    found["physai"] = f"{found.get('physai', 'of no version')}, source {_source()}"
    return found


def _source() -> str:
    """Digest of physai's and the environments' code: two working copies may have one version."""
    import physai
    import physai_envs

    digest = hashlib.sha256()
    for package in (physai, physai_envs):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]
