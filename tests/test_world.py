"""The engine room: free fall, friction, rays, resets without memory, errors with a name."""

import math
from pathlib import Path

import pytest

from physai.errors import AssetError, SimulationError
from physai_envs.world import Physics, World, quaternion_from_euler


@pytest.fixture
def world():
    world = World(Physics(hz=240))
    yield world
    world.close()


def test_free_fall_follows_gravity(world):
    ball = world.box("ball", (0.05, 0.05, 0.05), (0, 0, 10.0), mass=1.0)
    world.advance(240)
    # semi-implicit Euler falls g t^2 / 2 (1 + 1 / n) in n steps
    assert 10.0 - ball.position[2] == pytest.approx(0.5 * 9.81 * (1 + 1 / 240), rel=1e-4)
    assert ball.velocity[0][2] == pytest.approx(-9.81, rel=1e-4)


@pytest.mark.parametrize("friction", [0.2, 0.4])
def test_sliding_box_stops_where_coulomb_says(world, friction):
    world.floor(friction=1.0)
    box = world.box("box", (0.1, 0.1, 0.05), (0, 0, 0.05), mass=1.0, friction=friction)
    world.advance(60)
    start = box.position[0]
    box.set_velocity((1.0, 0, 0))
    world.advance(480)
    # v^2 / (2 mu g); Bullet multiplies the frictions of both surfaces
    assert box.position[0] - start == pytest.approx(1.0 / (2 * friction * 9.81), rel=0.03)


def test_reads_are_fresh_after_a_step_and_shared_before(world):
    box = world.box("box", (0.1, 0.1, 0.1), (0, 0, 5), mass=1.0)
    assert box.pose is box.pose
    before = box.position
    world.advance(10)
    assert box.position != before


def test_reset_forgets_contacts(world):
    world.floor()
    box = world.box("box", (0.1, 0.1, 0.1), (0, 0, 0.1), mass=1.0)

    def settle():
        world.reset()
        box.place((0.0, 0.0, 0.101))
        box.set_velocity((0.3, 0.1, 0.0), (0.0, 0.0, 1.0))
        world.advance(100)
        return box.pose, box.velocity

    first = settle()
    world.advance(37)
    box.set_velocity((1, 2, 0))
    world.advance(11)
    assert settle() == first


def test_contact_force_carries_the_weight(world):
    floor = world.floor()
    box = world.box("box", (0.1, 0.1, 0.1), (0, 0, 0.1), mass=2.0)
    world.advance(240)
    assert world.contact_force(box, floor) == pytest.approx(2.0 * 9.81, rel=0.01)
    assert world.touching(box, floor)


def test_rays_hit_at_the_right_distance(world):
    world.box("wall", (0.1, 1, 1), (2.0, 0, 0))
    hit, miss = world.rays([(0, 0, 0), (0, 0, 5)], [(4, 0, 0), (4, 0, 5)])
    assert hit[2] * 4 == pytest.approx(1.9, abs=1e-3)
    assert miss[0] == -1


def test_two_worlds_with_different_thresholds_do_not_disturb_each_other():
    def roll(other):
        world = World(Physics(hz=240, contact_threshold=0.0005))
        world.floor()
        box = world.box("box", (0.1, 0.1, 0.1), (0, 0, 0.1), mass=1.0)
        box.set_velocity((0.5, 0.2, 0), (0, 0, 2))
        for _ in range(20):
            world.advance(5)
            if other:
                other.advance(5)
        pose = box.pose
        world.close()
        return pose

    other = World(Physics(hz=120, contact_threshold=0.02))
    other.floor()
    other.box("box", (0.1, 0.1, 0.1), (0, 0, 0.1), mass=1.0)
    assert roll(other) == roll(None)
    other.close()


def test_unknown_body_names_those_there_are(world):
    world.floor()
    with pytest.raises(SimulationError, match=r"no body 'flor' in the scene; there are: floor"):
        world["flor"]


def test_missing_and_broken_urdf_are_one_sentence_each(world, tmp_path: Path):
    with pytest.raises(AssetError, match=r"nothing\.urdf is missing"):
        world.load("robot", tmp_path / "nothing.urdf", fixed=True)
    broken = tmp_path / "broken.urdf"
    broken.write_text("<robot name='x'><link")
    with pytest.raises(AssetError, match="cannot read"):
        world.load("robot", broken, fixed=True)


def test_orientation_helpers_agree_with_the_engine():
    from physai_envs import geometry
    from physai_envs.engine import multiply, quaternion_from_euler

    q = quaternion_from_euler((0.3, -0.4, 1.1))
    v = (0.2, -0.7, 0.5)
    assert geometry.rotate(q, v) == pytest.approx(multiply((0, 0, 0), q, v, (0, 0, 0, 1))[0])
    assert geometry.rotate_back(q, geometry.rotate(q, v)) == pytest.approx(v)
    small = quaternion_from_euler((0.0, 0.0, 0.01))
    assert geometry.rotation_error(small, (0, 0, 0, 1)) == pytest.approx((0, 0, 0.01), abs=1e-6)
    assert geometry.yaw_of(quaternion_from_euler((0, 0, 0.7))) == pytest.approx(0.7)
    assert geometry.wrap_angle(math.pi + 0.1) == pytest.approx(-math.pi + 0.1)


def test_what_falls_is_out_of_the_floor_again_in_an_instant():
    """A can that falls 8 cm is stopped when it is in the floor already, by the way of a physics step of 10 mm."""

    def time_inside(**settings):
        world = World(Physics(hz=120, **settings))
        world.box("floor", (0.1, 0.1, 0.01), (0, 0, -0.01))
        can = world.cylinder("can", 0.022, 0.04, mass=0.1)
        world.reset()
        can.place((0, 0, 0.1), quaternion_from_euler((0.15, 0.1, 0.0)))
        inside = 0
        for _ in range(120):
            world.advance(1)
            inside += min([point[8] for point in world.contacts(can)], default=0.0) < -0.002
        world.close()
        return inside / 120

    assert time_inside(contact_erp=0.4) < 0.05 < 0.15 < time_inside()
