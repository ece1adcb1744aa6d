"""What a person is told of the machines of a cluster."""

from __future__ import annotations

import pytest
import ray
import toys

from physai.config import RunConfig
from physai.errors import ClusterError
from physai.train import nodes, placement
from physai.train.actor import RolloutActor
from physai.train.placement import Node, Placement

pytestmark = pytest.mark.ray
GHOST = "ab" * 28  # an identity that no node has


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


@pytest.mark.parametrize("left", [0, 2])
def test_actors_on_a_node_that_is_lost_before_they_start_are_started_elsewhere(one_ray, monkeypatch, left):
    there = {n.id: n for n in placement.nodes().values() if left}
    views = [{GHOST: Node(GHOST, "ghost", 2, 0), **there}] * 2  # Ray still counts on the lost one
    monkeypatch.setattr(placement, "nodes", lambda: views.pop(0) if views else there)
    said: list[str] = []
    with Placement(RunConfig.model_validate(toys.small(rollout={"actors": "auto"})), said.append) as crew:
        if left:
            crew.start()
            assert len(crew.members()) == 2
        else:
            with pytest.raises(ClusterError, match=r"rollout\.actors is auto and Ray has 0 CPUs for them"):
                crew.start()
    assert "node ghost was lost" in said[0]
