"""Holding a part without friction: what suction cups are made of."""

import pytest

from physai_envs.world import Physics, World

WEIGHT = 0.5 * 9.81  # N


@pytest.fixture
def world():
    world = World(Physics(hz=240))
    world.sphere("cup", 0.02, (0.0, 0.0, 0.5))
    world.box("part", (0.03, 0.03, 0.03), (0.0, 0.0, 0.45), mass=0.5)
    world.reset()
    yield world
    world.close()


def test_a_part_hangs_where_it_was_attached_and_its_weight_is_known(world):
    holding = world.attach(world["cup"], world["part"], max_force=20.0)
    world.advance(240)
    assert world["part"].position == pytest.approx((0.0, 0.0, 0.45), abs=1e-4)
    assert world.load_on(holding) == pytest.approx(WEIGHT, rel=0.02)


def test_a_part_that_is_too_heavy_falls(world):
    world.attach(world["cup"], world["part"], max_force=0.8 * WEIGHT)
    world.advance(240)
    assert world["part"].position[2] < 0.4


def test_a_part_falls_when_it_is_let_go_and_a_reset_lets_go_too(world):
    world.detach(world.attach(world["cup"], world["part"], max_force=20.0))
    world.advance(60)
    assert world["part"].position[2] == pytest.approx(0.45 - 0.5 * 9.81 * 0.25**2, abs=0.01)
    world.attach(world["cup"], world["part"], max_force=20.0)
    world.reset()
    world.advance(60)
    assert world["part"].position[2] < 0.2
