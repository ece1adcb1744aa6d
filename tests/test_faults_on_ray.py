"""Actors that die or hang at one place again and again, answers and packages that are lost on the way: on real Ray."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import ray
import toys
from ray.exceptions import ObjectLostError, ObjectStoreFullError, RayTaskError
from test_checkpoint import everything
from test_faults import ERRORS, parts, rows

from physai.config import RunConfig
from physai.errors import ClusterError, SimulationError
from physai.train import fleet as fleets
from physai.train.driver import train
from physai.train.fleet import RayFleet
from physai.train.placement import Placement
from physai.train.progress import TerminalBoard
from physai.train.rollout import Job

pytestmark = pytest.mark.ray


def raising(tmp_path, one_in: int, **changes):
    """The same run in this process, where the episodes that would take it down raise instead."""
    toys.register(f"Raising{one_in}-v0", toys.Fatal, kwargs={"one_in": one_in})
    values = toys.small(f"Raising{one_in}-v0", storage=str(tmp_path / "raising"), rollout=ERRORS, **changes)
    return toys.learn(values)


def crashes(path: Path) -> list[tuple]:
    return [(row["seed"], row["step"], row["work"], row["iteration"]) for row in json.loads(path.read_text())]


@pytest.mark.slow
def test_an_episode_that_kills_its_actor_is_found_and_the_rest_has_the_bits_of_one_that_raises(one_ray, tmp_path):
    values = toys.small("toys:Fatal-v0", storage=str(tmp_path), stop={"steps": 128})
    run = train(RunConfig.model_validate(values), quiet=True)
    learner = raising(tmp_path, 16, stop={"steps": 128})
    ours, theirs = crashes(run / "quarantine.json"), crashes(learner.run_folder.path / "quarantine.json")
    assert [crash[0] for crash in ours] == [crash[0] for crash in theirs] and len(ours) >= 1
    assert len(rows(learner)) == len(ours)
    values["stop"]["steps"] = 1
    assert everything(toys.learn(values)) == everything(learner)


@pytest.mark.slow
def test_an_episode_that_hangs_is_found_too(one_ray, tmp_path):
    values = toys.small("toys:Hanging-v0", storage=str(tmp_path), rollout={"timeout_s": 15})
    run = train(RunConfig.model_validate(values), quiet=True)
    learner = raising(tmp_path, 32)
    assert len(crashes(run / "quarantine.json")) == len(rows(learner)) >= 1
    values["stop"]["steps"] = 1
    assert everything(toys.learn(values)) == everything(learner)


@pytest.mark.slow
def test_without_a_quarantine_the_run_ends_and_names_the_episode(one_ray, tmp_path):
    values = toys.small("toys:Fatal-v0", storage=str(tmp_path), rollout={"quarantine": {"of": "nothing"}})
    with pytest.raises(SimulationError, match=r"took down its process again and again in the episode with seed \d+"):
        train(RunConfig.model_validate(values), quiet=True)


@pytest.mark.slow
def test_actors_that_hang_in_construction_and_in_a_reset_are_replaced(one_ray, tmp_path):
    values = toys.small("toys:Stuck-v0", storage=str(tmp_path / "stuck"), rollout={"timeout_s": 15})
    run = train(RunConfig.model_validate(values), quiet=True)
    once = os.environ["PHYSAI_TOY_ONCE"]
    assert Path(f"{once}-construction").exists() and Path(f"{once}-reset").exists()
    reference = toys.learn(toys.small(storage=str(tmp_path / "reference")))
    assert run.exists() and everything(restored_as(values)) == everything(reference)


def restored_as(values):
    return toys.learn({**values, "stop": {**values["stop"], "steps": 1}})


class Silent(TerminalBoard):
    """Remembers phases."""

    def __init__(self) -> None:
        super().__init__("", shown=False)
        self.phases: list[str] = []

    def phase(self, text: str) -> None:
        self.phases.append(text)


def test_lost_answers_and_packages_are_made_again_and_counted(one_ray, monkeypatch):
    config, package = parts()
    jobs = [Job(group, 0, None) for group in range(2)]
    put, full = ray.put, iter([ObjectStoreFullError(), None])

    def put_when_there_is_room(value):
        error = next(full, None)
        if error is not None:
            raise error
        return put(value)

    monkeypatch.setattr(fleets, "BACK_OFF_S", 0.01)
    with Placement(config) as placement:
        placement.start()
        fleet = RayFleet(placement, config, Silent())
        fleet.start("sample", package, jobs)
        expected = fleet.finish(lambda: None)
        assert fleet.redone == 0
        monkeypatch.setattr(ray, "put", put_when_there_is_room)
        fleet.start("sample", package, jobs)
        assert "waiting: Ray's object store is full" in fleet._board.phases
        monkeypatch.setattr(ray, "put", put)
        lost = ObjectLostError("00", None, "")
        errors = [lost, RayTaskError("do", "", lost)]  # of an answer; of the package, in the actor
        get, before = ray.get, fleet._packed

        def get_what_is_there(wanted):
            if errors:
                raise errors[0] if isinstance(wanted, list) else errors.pop(0)
            return get(wanted)

        monkeypatch.setattr(ray, "get", get_what_is_there)
        again = fleet.finish(lambda: None)
        assert fleet.redone == 2 and fleet.restarts == 0
        assert fleet._packed != before  # it was put into the store anew
        assert [f.rewards.tobytes() for f in again] == [f.rewards.tobytes() for f in expected]
        assert len(placement.members()) == 2


def test_a_fleet_whose_actors_never_come_back_says_so(one_ray):
    config, package = parts(rollout={"patience_s": 1.0})

    class Nobody:
        def members(self):
            return {}

    board = Silent()
    fleet = RayFleet(Nobody(), config, board)
    fleet.start("sample", package, [Job(0, 0, None)])
    with pytest.raises(ClusterError, match=r"no rollout actor has been there for \d+ s"):
        fleet.finish(lambda: None)
    assert any("no rollout actor is left; waiting up to 1 s" in phase for phase in board.phases)


def test_what_goes_wrong_while_jobs_are_handed_out_is_raised_to_who_waits_for_them(one_ray):
    config, package = parts()

    class Broken:
        def members(self):
            raise error

    crew = Broken()
    crew.members = dict
    fleet = RayFleet(crew, config, Silent())
    del crew.members
    for error in (ClusterError("once"), ClusterError("again")):
        fleet.start("sample", package, [Job(0, 0, None)])
        with pytest.raises(ClusterError, match=str(error)):
            fleet.finish(lambda: None)
