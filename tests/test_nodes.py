"""What a person is told of the machines of a cluster."""

from __future__ import annotations

import pytest
import ray

from physai.errors import ClusterError
from physai.train import nodes
from physai.train.actor import RolloutActor

pytestmark = pytest.mark.ray
GHOST = "f" * 56  # an identity that no node has


def test_a_node_that_leaves_while_it_is_asked_does_not_count(one_ray, monkeypatch):
    real = ray.nodes()
    ghost = {**real[0], "NodeID": GHOST, "NodeManagerHostname": "ghost"}
    answers = [[*real, ghost], real]
    monkeypatch.setattr(ray, "nodes", lambda: answers.pop(0))
    nodes.check_versions()
    monkeypatch.setattr(ray, "nodes", lambda: [*real, ghost])
    with pytest.raises(ClusterError, match=r"node ghost \(.*\) cannot run physai"):
        nodes.check_versions()


def test_the_table_counts_rollout_actors_alone(one_ray):
    class Idle:
        def ready(self) -> bool:
            return True

    crew = [
        ray.remote(num_cpus=0)(type(name, (Idle,), {})).remote()
        for name in (RolloutActor.__name__, RolloutActor.__name__, "Witness")
    ]
    assert all(ray.get([actor.ready.remote() for actor in crew]))
    (node,) = nodes.read()
    assert node.actors == 2 and node.alive and node.cpus == 2
