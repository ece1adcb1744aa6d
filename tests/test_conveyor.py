"""The belt carries by friction, the suction cup holds by vacuum, and each as far as theory says."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from physai_envs.parts.conveyor import STROKE, Conveyor
from physai_envs.parts.suction import Cup, Suction, Top
from physai_envs.robot import Robot
from physai_envs.robots.scara import SCARA_SUCTION
from physai_envs.world import Physics, World, quaternion_from_euler

G, HZ, SUBSTEPS = 9.81, 120, 6
PERIOD = SUBSTEPS / HZ
TOP = 0.1  # m, of the belt
HALF = 0.015  # m, of a part


@pytest.fixture
def world() -> Iterator[World]:
    world = World(Physics(hz=HZ))
    yield world
    world.close()


# ---- belt -----------------------------------------------------------------------------------------------------------


def on_belt(world: World, friction: float, *, yaw: float = 0.0) -> Conveyor:
    belt = Conveyor(world, "belt", (0.1, 2.0), (0.0, 0.0, TOP), friction=1.0)
    world.box("part", (0.02, 0.02, HALF), mass=0.1, friction=friction)
    world.reset()
    world["part"].place((0.0, -1.0, TOP + HALF), quaternion_from_euler((0.0, 0.0, yaw)))
    return belt


def run(world: World, belt: Conveyor, speed: float, seconds: float) -> None:
    for _ in range(round(seconds / PERIOD)):
        belt.run(speed)
        world.advance(SUBSTEPS)


@pytest.mark.parametrize("speed", [0.08, 0.12, 0.3])
def test_a_part_rides_at_the_speed_of_the_belt(world: World, speed: float) -> None:
    belt = on_belt(world, 0.6, yaw=0.4)
    run(world, belt, speed, 1.0)
    start = world["part"].position
    run(world, belt, speed, 3.0)
    x, y, z = world["part"].position
    assert y - start[1] == pytest.approx(3.0 * speed, rel=0.005)
    assert x == pytest.approx(start[0], abs=0.003 * 3.0 * speed)  # 3 mm to the side in each metre
    assert z == pytest.approx(TOP + HALF, abs=2e-4)


@pytest.mark.parametrize("friction", [0.1, 0.25])
def test_a_part_catches_up_by_friction(world: World, friction: float) -> None:
    """It slides v^2 / (2 mu g) behind, and then rides: after t it has gone v t - v^2 / (2 mu g)."""
    speed, seconds = 0.3, 1.0
    belt = on_belt(world, friction)
    run(world, belt, speed, seconds)
    theory = speed * seconds - speed**2 / (2 * friction * G)
    assert world["part"].position[1] + 1.0 == pytest.approx(theory, rel=0.01)


def test_a_belt_that_stands_does_not_carry_and_never_moves_itself(world: World) -> None:
    belt = on_belt(world, 0.6)
    home = world["belt"].position
    run(world, belt, 0.0, 5.0)
    assert world["part"].position[1] == pytest.approx(-1.0, abs=1e-4)
    run(world, belt, 0.3, 2.0)
    assert abs(world["belt"].position[1] - home[1]) <= STROKE + 0.3 * PERIOD
    run(world, belt, 0.0, 0.5)
    start = world["part"].position[1]
    run(world, belt, 0.0, 3.0)
    assert world["part"].position[1] == pytest.approx(start, abs=1e-4)


def test_rails_keep_parts_on_the_belt(world: World) -> None:
    belt = on_belt(world, 0.2)
    world["part"].set_velocity((0.8, 0.0, 0.0))
    run(world, belt, 0.1, 1.0)
    assert abs(world["part"].position[0]) < 0.1
    assert world["part"].position[2] > TOP


# ---- suction --------------------------------------------------------------------------------------------------------


class Rig:
    """The arm with its cup above a part on a block."""

    def __init__(self, mass: float = 0.1, cup: Cup | None = None) -> None:
        self.world = World(Physics(hz=HZ))
        self.robot = Robot(self.world, SCARA_SUCTION)
        self.world.box("block", (0.05, 0.05, 0.05), (0.3, 0.0, 0.05))
        self.part = self.world.box("part", (0.02, 0.02, HALF), mass=mass)
        self.other = self.world.box("other", (0.02, 0.02, HALF), mass=0.1)
        self.world.reset()
        self.part.place((0.3, 0.0, 0.1 + HALF))
        self.other.place((1.0, 1.0, HALF))
        self.cup = cup or Cup()
        self.suction = Suction(self.robot, self.cup, {self.part: Top(HALF, 0.02)}, PERIOD)

    def put(self, x: float = 0.0, y: float = 0.0, height: float = -0.001) -> None:
        """Puts the lip `height` above the middle of the part's upper side, or beside it [m]."""
        self.robot.place_tip((0.3 + x, y, 0.1 + 2 * HALF + height))

    def run(self, seconds: float, *, on: bool = True, lift: float = 0.0) -> None:
        for _ in range(round(seconds / PERIOD)):
            self.robot.body.drive_velocity(self.robot.joints, [0.0, 0.0, lift, 0.0], self.robot.effort)
            self.world.advance(SUBSTEPS)
            self.suction.update(on)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.world.close()


def test_vacuum_builds_up_on_a_sealed_part_and_lifts_it(rig: Rig) -> None:
    rig.put()
    rig.run(PERIOD)
    assert rig.suction.level == pytest.approx(1.0 - math.exp(-PERIOD / rig.cup.fill_s))
    rig.run(0.3)
    assert rig.suction.held is rig.part
    assert rig.suction.level > 0.99
    rig.run(0.3, lift=0.2)
    assert rig.part.position[2] == pytest.approx(0.1 + HALF + 0.06, abs=0.002)


def test_without_vacuum_or_seal_nothing_is_held(rig: Rig) -> None:
    rig.put()
    rig.run(0.3, on=False)
    assert rig.suction.held is None and rig.suction.level == 0.0
    for x, height in ((0.0, 0.003), (0.012, 0.0), (0.0, -0.006)):  # too high, over the edge, deeper than the bellows
        rig.put(x=x, height=0.05)
        rig.put(x=x, height=height)
        assert not rig.suction.sealed(rig.part), (x, height)
    rig.put(height=0.02)
    rig.run(0.3)
    assert rig.suction.held is None
    assert rig.suction.level == pytest.approx(rig.cup.open_share, rel=0.01)


def test_a_tilted_part_does_not_seal(rig: Rig) -> None:
    rig.put()
    assert rig.suction.sealed(rig.part)
    rig.part.place(rig.part.position, quaternion_from_euler((0.15, 0.0, 0.0)))
    assert not rig.suction.sealed(rig.part)


def test_only_parts_that_may_be_held_are_held(rig: Rig) -> None:
    rig.other.place((0.3, 0.0, 0.1 + HALF))
    rig.part.place((1.0, 1.0, HALF))
    rig.put()
    rig.run(0.3)
    assert rig.suction.held is None


def test_blowing_off_drops_the_part_at_once(rig: Rig) -> None:
    rig.put()
    rig.run(0.3)
    rig.run(0.3, lift=0.2)
    rig.run(PERIOD, on=False)
    assert rig.suction.held is None
    rig.run(0.4, on=False)
    assert rig.part.position[2] == pytest.approx(0.1 + HALF, abs=1e-3)


@pytest.mark.parametrize(("share", "holds"), [(0.8, True), (1.3, False)])
def test_a_part_heavier_than_the_vacuum_holds_comes_off(share: float, holds: bool) -> None:
    cup = Cup(vacuum=10e3)  # 4.5 N
    assert cup.force == pytest.approx(10e3 * math.pi * 0.012**2)
    rig = Rig(mass=share * cup.force / G, cup=cup)
    rig.put()
    rig.run(0.3)
    rig.run(0.5, lift=0.1)
    assert (rig.suction.held is rig.part) == holds
    assert rig.suction.load == pytest.approx(share * cup.force if holds else 0.0, rel=0.05)
    assert (rig.part.position[2] > 0.1 + HALF + 0.03) == holds
    rig.world.close()


def test_jerking_tears_a_part_off() -> None:
    """27 N accelerate 1 kg upward by 17 m/s2: while the cup goes up at 1 m/s, the part stays 22 mm behind in 50 ms."""
    rig = Rig(mass=1.0)
    rig.put()
    rig.run(0.3)
    rig.run(0.3, lift=0.1)
    assert rig.suction.held is rig.part
    rig.run(PERIOD, lift=1.1)
    assert rig.suction.held is None
    rig.world.close()
