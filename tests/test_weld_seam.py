"""WeldSeam: the sensor finds the groove as it is, the log adds up, the expert welds, and doing nothing does not."""

from dataclasses import replace
from math import cos, radians, sin, sqrt, tau

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.assembly import weld_seam as weld
from physai_envs.control import EndEffectorTwist
from physai_envs.env import TEST_SEED_START
from physai_envs.parts import laser
from physai_envs.parts.seam import Deviation, Seam, WeldLog
from physai_envs.robot import Robot
from physai_envs.robots.panda import PANDA_TORCH
from physai_envs.world import Physics, World

FLAT = Seam(x=0.5, z=0.2, across=(), along=())
DOWN, SIDE = (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)
NOZZLE_BACK, NOZZLE_RADIUS = 0.02, 0.0115  # m, of assets/tools/torch.urdf: its end is so far behind the wire's
SEEN = np.ones(laser.PIXELS, bool)


@pytest.fixture(scope="module")
def env():
    env = registry.make("weld_seam").unwrapped
    yield env
    env.close()


def play(env, seed, act):
    env.reset(seed=seed)
    while True:
        _, _, terminated, truncated, info = env.step(act(env))
        if terminated or truncated:
            return info


def test_seam_geometry_agrees_with_its_own_differences():
    waves = ((0.006, tau / 0.22, 0.3), (0.0015, tau / 0.09, 1.0))
    seam = Seam(0.5, 0.2, waves, ((0.002, tau / 0.16, 2.0),), 0.05, -0.04, 0.7, -0.5)
    y, h = 0.03, 1e-6
    x = seam.centre(y)
    gx = (seam.height(x + h, y) - seam.height(x - h, y)) / (2 * h)
    gy = (seam.height(x, y + h) - seam.height(x, y - h)) / (2 * h)
    assert seam.gradient(x, y) == pytest.approx((gx, gy), abs=1e-6)
    assert seam.normal_at(y) == pytest.approx(np.array((-gx, -gy, 1.0)) / sqrt(1 + gx**2 + gy**2), abs=1e-6)
    ends = [np.array((seam.centre(v), v, seam.height(seam.centre(v), v))) for v in (y - h, y + h)]
    assert seam.tangent(y) == pytest.approx((ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0]), abs=1e-6)


def test_groove_is_as_wide_and_as_deep_as_its_preparation():
    """60 degrees and 5 mm deep: 5 mm x tan 30 = 2.887 mm to each side, and half of the root gap."""
    seam = replace(FLAT, gap=0.002, mismatch=0.001)
    assert seam.half_width == pytest.approx(0.002887 + 0.001, abs=1e-6)
    offsets = np.array((-0.01, -0.0025, 0.0, 0.0009, 0.01))
    # 1.5 mm from the root's edge, the wall has risen by 1.5 mm / tan 30 = 2.598 mm from the ground at -5 mm
    assert seam.relief(offsets) == pytest.approx((-0.0005, -0.002402, -0.005, -0.005, 0.0005), abs=1e-6)


@pytest.mark.parametrize("gap", [0.0, 0.002])
@pytest.mark.parametrize("mismatch", [-0.001, 0.0, 0.001])
def test_sensor_finds_a_groove_of_any_fit_up(gap, mismatch):
    """The centre within a quarter of a millimetre, since plates that are not flush shift it; the mean level."""
    seam = replace(FLAT, gap=gap, mismatch=mismatch)
    for aside in (-0.009, -0.0043, 0.0, 0.0061):
        distance = laser.cast(seam, (0.5 + aside, 0.0, 0.203), SIDE, DOWN)
        at, level, slope = laser.find_groove(distance, SEEN)
        assert at == pytest.approx(-aside, abs=0.00025)
        assert level == pytest.approx(0.003, abs=1e-4)
        assert slope == pytest.approx(0.0, abs=0.002)


def test_sensor_measures_the_slope_of_plates_from_a_tilted_torch():
    """A plate that rises by 0.1 across, seen by a torch that is tilted by 3 degrees."""
    seam = replace(FLAT, slope_x=0.1)
    tilt = radians(3.0)
    side, axis = (np.cos(tilt), 0.0, -np.sin(tilt)), (-np.sin(tilt), 0.0, -np.cos(tilt))
    at, level, slope = laser.find_groove(laser.cast(seam, (0.501, 0.0, 0.202), side, axis), SEEN)
    point = np.array((0.501, 0.0, 0.202)) + at * np.array(side) + level * np.array(axis)
    assert point == pytest.approx((0.5, 0.0, 0.2), abs=1.5e-4)
    assert (side[2] + slope * axis[2]) / (side[0] + slope * axis[0]) == pytest.approx(0.1, abs=0.003)


def test_sensor_says_when_there_is_no_groove():
    rng = np.random.default_rng(0)
    flat = 0.003 + laser.PIXEL_NOISE * rng.standard_normal(laser.PIXELS)
    assert laser.find_groove(flat, SEEN) is None
    scratch = flat + 0.0015 * (np.abs(np.arange(laser.PIXELS) - 20) < 3)  # 1.5 mm deep, a groove has 5
    assert laser.find_groove(scratch, SEEN) is None
    outside = laser.cast(FLAT, (0.522, 0.0, 0.203), SIDE, DOWN)  # one plate alone is in the picture
    assert laser.find_groove(outside, SEEN) is None


def test_tracker_remembers_the_seam_until_the_torch_is_there(env):
    """What is under the torch was measured 30 mm before: within 0.3 mm RMS besides the calibration, half a degree."""
    errors = []
    for seed in range(4):
        _, info = env.reset(seed=seed)
        s = env.scene
        for i in range(300):
            if env.step(env.expert_action())[2]:
                break
            if i > 60:
                y, seam = s.robot.tip_position[1], s.memory.seam
                c = weld.course(s)
                error = (
                    c.x[0] - seam.centre(y) - info["randomization"]["laser_lateral"],
                    c.z[0] - seam.height(seam.centre(y), y) + info["randomization"]["laser_height"],
                    c.bank[0] - seam.gradient(seam.centre(y), y)[0],
                )
                errors.append(error)
    lateral, height, bank = np.sqrt(np.mean(np.square(errors), axis=0))
    assert lateral < 0.0003
    assert height < 0.0003
    assert bank < np.tan(radians(0.5))


def test_calibration_error_and_blinding_reach_the_observation(env):
    readings = {}
    for offset in (-0.0003, 0.0003):
        env.reset(seed=5)
        tracker = env.scene.sensors["tracker"]
        tracker.lateral_offset = tracker.height_offset = offset
        tracker.follow(env.scene.memory.seam, np.random.default_rng(0))
        tracker.reset()
        course = tracker.course(np.array((-0.1,)))
        readings[offset] = np.array((course.x[0], course.z[0]))
    # along the torch, which points down
    assert readings[0.0003] - readings[-0.0003] == pytest.approx((0.0006, -0.0006), abs=1e-5)
    env.reset(seed=5)
    for _ in range(100):
        env.step(env.expert_action())
    assert 0.6 < env.scene.sensors["tracker"].fresh < 1.0  # one profile of ten is lost


def test_log_takes_root_mean_squares_between_the_ends():
    looks = iter([Deviation(0.001, -0.002, 0.05, 0.01), Deviation(-0.003, 0.0, 0.02, 0.02)])
    places = iter([-0.2, -0.1, 0.1, 0.2])
    log = WeldLog(lambda: next(looks), lambda: next(places), (-0.15, 0.15))
    log.target_speed = 0.01
    for _ in range(4):
        log.start()
    assert log.count == 2
    assert log.lateral_rms == pytest.approx(sqrt((1 + 9) / 2) * 1e-3)
    assert log.standoff_rms == pytest.approx(sqrt(4 / 2) * 1e-3)
    assert log.speed_rms == pytest.approx(sqrt((0 + 1) / 2))
    assert (log.lateral_max, log.angle_max) == (0.003, 0.05)


def test_tilting_turns_the_tool_about_its_tip():
    """0.2 rad/s for 1 s about x and -0.1 about y; the tip stays, but for what damped least squares leave."""
    world = World(Physics(hz=240))
    robot = Robot(world, PANDA_TORCH)
    controller = EndEffectorTwist(linear=0.1, tilt=0.4).bind(robot, 0.05)
    robot.place_tip((0.5, 0.0, 0.2))
    controller.reset()
    for _ in range(20):
        controller.apply((0.0, 0.0, 0.0, 0.2, -0.1))
        world.advance(12)
    # to second order, the axis (0, 0, -1) turns by (0.2, -0.1, 0) x (0, 0, -1) = (0.1, 0.2, 0)
    assert robot.tool_axis[:2] == pytest.approx((0.1, 0.2), abs=0.006)
    assert robot.tip_position == pytest.approx((0.5, 0.0, 0.2), abs=0.003)
    world.close()


def test_expert_welds_within_the_limits(env):
    for i in range(4):
        info = play(env, TEST_SEED_START + i, lambda env: env.expert_action())
        assert info["is_success"]
        assert info["metrics"]["lateral_rms"] < 0.0002
        assert info["metrics"]["welded_length"] == pytest.approx(0.3, abs=0.001)


def test_nothing_and_chance_weld_nothing(env):
    rng = np.random.default_rng(0)
    assert not play(env, TEST_SEED_START, lambda env: np.zeros(5))["is_success"]
    for i in range(6):
        assert not play(env, TEST_SEED_START + i, lambda env: rng.uniform(-1, 1, 5))["is_success"]


@pytest.mark.parametrize(
    ("change", "name"),
    [((0.15, 0, 0, 0, 0), "lateral_rms"), ((0, 0, 0.15, 0, 0), "standoff_rms"), ((0, 0.12, 0, 0, 0), "speed_rms")],
)
def test_a_weld_beside_its_limits_is_scrap(env, change, name):
    """4.5 mm/s more than the expert, who closes errors at 3 1/s, is 1.5 mm beside; 3.6 mm/s of 20 are 18 %."""
    limit = {"lateral_rms": weld.LATERAL_LIMIT, "standoff_rms": weld.STANDOFF_LIMIT, "speed_rms": weld.SPEED_LIMIT}
    info = play(env, TEST_SEED_START + 2, lambda env: np.clip(env.expert_action() + change, -1, 1))
    assert not info["is_success"]
    assert info["reward_terms"]["scrapped"] == 1.0
    assert info["metrics"][name] > limit[name]
    assert info["metrics"]["welded_length"] == pytest.approx(0.3, abs=0.001)


def test_a_tilted_torch_is_scrap(env):
    env.reset(seed=1)
    env.scene.sensors["log"].angle_max = radians(5.1)
    assert not weld.within_limits(env.scene)


def test_touching_the_plate_ends_the_episode(env):
    info = play(env, 3, lambda env: np.array((0, 0, -1.0, 0, 0)))
    assert info["reward_terms"]["scrapped"] == 1.0
    assert -weld.TOUCHING - 0.002 < weld.weld(env.scene).standoff < -weld.TOUCHING


@pytest.mark.parametrize("roll", [-1, 0, 1])
@pytest.mark.parametrize("pitch", [-1, 1])
def test_no_torch_comes_into_the_plate_before_the_episode_ends(env, roll, pitch):
    """Driven down as fast as it goes, tilted as far as it may be: the rim of the nozzle stays above the surface."""
    for seed, down in ((0, -1.0), (1, -0.5), (2, -0.3)):
        env.reset(seed=seed)
        ended = False
        while not ended:
            _, _, ended, truncated, _ = env.step((0.0, 0.0, down, roll, pitch))
            assert not truncated
            now = weld.weld(env.scene)
            rim = NOZZLE_BACK * cos(now.angle) - NOZZLE_RADIUS * sin(now.angle) + now.standoff
            assert rim > -0.002  # what the last control step adds


def test_being_done_is_worth_more_than_any_waiting(env):
    """No state that lasts pays more than zero a step, so an episode that ends by success loses nothing."""
    lasting = [t for t in env.task.rewards if t.name not in ("finished", "scrapped", "time")]
    assert sum(t.weight for t in lasting) <= 1.2 + 1e-9


def test_difficulty_straightens_the_seam(env):
    env.reset(seed=3, options={"difficulty": 0.0})
    seam = env.scene.memory.seam
    assert [seam.centre(y) - seam.x for y in (-0.1, 0.0, 0.1)] == pytest.approx([0.0, 0.0, 0.0])
    assert weld.weld(env.scene).lateral == pytest.approx(0.0, abs=1e-4)
