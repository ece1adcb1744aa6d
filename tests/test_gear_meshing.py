"""GearMeshing: teeth stop teeth and carry torque, the tool turns where it is pulled, the expert meshes the gear."""

import xml.etree.ElementTree as ElementTree
from math import atan2, cos, hypot, pi, radians, sin, tau

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.assembly import gear_meshing as task
from physai_envs.control import CompliantPull
from physai_envs.env import TEST_SEED_START
from physai_envs.parts import gear
from physai_envs.robot import ASSETS, Robot
from physai_envs.robots.panda import PANDA_GEAR
from physai_envs.world import Physics, World

DOWN = (0.0, 0.0, -1.0, 0.0)


@pytest.fixture(scope="module")
def env():
    env = registry.make("gear_meshing").unwrapped
    yield env
    env.close()


def play(env, seed, act):
    env.reset(seed=seed)
    while True:
        _, _, terminated, truncated, info = env.step(act(env))
        if terminated or truncated:
            return info


@pytest.mark.parametrize("name", ["gear", "mate_gear"])
def test_teeth_are_where_the_numbers_say(name):
    boxes = ElementTree.parse(ASSETS / "tools" / f"{name}.urdf").getroot().findall("link//collision")[: gear.TEETH]
    for i, box in enumerate(boxes):
        x, y, _ = map(float, box.find("origin").get("xyz").split())
        yaw = float(box.find("origin").get("rpy").split()[2])
        depth, _, face = map(float, box.find("geometry/box").get("size").split())
        assert atan2(y, x) % tau == pytest.approx(i * gear.TOOTH, abs=1e-4)
        assert yaw == pytest.approx(i * gear.TOOTH, abs=1e-5)
        assert hypot(x, y) + depth / 2 == pytest.approx(gear.OUTER_RADIUS, abs=1e-5)
        assert face == gear.FACE


def test_phase_error_is_zero_where_teeth_stand_in_gaps():
    """Mate at +y: a tooth of the gear that points to it belongs in the middle of a gap of the mate."""
    up, half = pi / 2, gear.TOOTH / 2
    assert gear.phase_error(up, -up + half, up) == pytest.approx(0.0, abs=1e-12)
    assert abs(gear.phase_error(up, -up, up)) == pytest.approx(half)
    # both turn by the same angle in opposite directions, and stay in mesh
    assert gear.phase_error(up + 0.1, -up + half - 0.1, up) == pytest.approx(0.0, abs=1e-12)
    assert gear.phase_error(up - 0.05, -up + half, up) == pytest.approx(0.05)


def pair(friction=0.1):
    """Two mates at their distance, one of them turned into mesh."""
    world = World(Physics(hz=120, solver_iterations=20, contact_threshold=0.002, gravity=0.0))
    one, other = gear.add_mate(world, "one"), gear.add_mate(world, "other")
    other.place((0.0, 2 * gear.PITCH_RADIUS, 0.0))
    one.set_joints([0.0])
    other.set_joints([gear.phase_error(0.0, 0.0, -pi / 2)])
    for body in (one, other):
        body.set_dynamics(0, lateralFriction=friction)
    return world, one, other


def test_meshed_gears_transmit_torque_and_turn_against_each_other():
    """0.5 rad/s for 12 s is nearly a turn; the driven one, braked with 0.1 Nm, lags by the backlash at most."""
    world, one, other = pair()
    start = other.joint_positions[0]
    one.drive_velocity(one.movable, [0.5], [1.0])
    other.drive_velocity(other.movable, [0.0], [0.1])
    world.advance(120 * 12)
    assert one.joint_positions[0] == pytest.approx(6.0, rel=0.01)
    assert start - other.joint_positions[0] == pytest.approx(6.0, abs=radians(8.0))
    assert one.joint_states[0][3] > 0.05  # the driving motor feels the brake
    world.close()


def test_gears_apart_transmit_nothing():
    world, one, other = pair()
    other.place((0.0, 2 * gear.OUTER_RADIUS + 0.001, 0.0))
    start = other.joint_positions[0]
    one.drive_velocity(one.movable, [0.5], [1.0])
    world.advance(120 * 3)
    assert other.joint_positions[0] == pytest.approx(start, abs=1e-6)
    world.close()


def test_a_blocked_gear_stalls_its_mate():
    world, one, other = pair()
    one.drive_velocity(one.movable, [0.5], [0.3])
    other.drive_velocity(other.movable, [0.0], [50.0])
    world.advance(120 * 3)
    assert abs(one.joint_states[0][1]) < 0.02
    assert one.joint_positions[0] < radians(10.0)  # the backlash
    world.close()


def over_the_mate(env, phase):
    """Puts the gear on the shaft just above a mate that stands still, its teeth off by `phase` [rad]."""
    env.reset(seed=0)
    s = env.scene
    x, y, _ = s.memory.top
    s.robot.place_tip((x, y, task.COLLAR + task.FACE + 0.001))
    mate = s["mate"]
    mate.set_joints([mate.joint_positions[0] + task.phase(s) - phase])
    mate.drive_velocity(mate.movable, [0.0], [50.0])
    for controller, _ in env._controllers:
        controller.reset()
    assert task.phase(s) == pytest.approx(phase, abs=1e-6)


def test_tooth_on_tooth_the_gear_does_not_go_down(env):
    over_the_mate(env, 0.49 * gear.TOOTH)
    for _ in range(30):
        env.step(0.5 * np.array(DOWN))
    assert task.overlap(env.scene) < 0.08  # 0.8 mm under 8 N, as far as arm and solver give
    assert env.scene.sensors["on_mate"].mean == pytest.approx(8.0, rel=0.2)


def test_tooth_in_gap_the_gear_goes_down_by_itself(env):
    over_the_mate(env, 0.0)
    for _ in range(30):
        env.step(0.5 * np.array(DOWN))
    assert task.overlap(env.scene) > 0.95


def test_seated_gear_holds_the_teeth_and_turns_with_them(env):
    """The mate turns at 0.3 rad/s; the arm gives way, since its own yaw pull is zero."""
    over_the_mate(env, 0.0)
    for _ in range(20):
        env.step(0.5 * np.array(DOWN))
    s = env.scene
    yaw = gear.yaw_of_gear(s.robot.tip_pose[1])
    s["mate"].drive_velocity(s["mate"].movable, [0.3], [1.0])
    for _ in range(40):
        env.step(0.3 * np.array(DOWN))
    turned = (gear.yaw_of_gear(s.robot.tip_pose[1]) - yaw + pi) % tau - pi
    assert turned == pytest.approx(-0.6, abs=radians(10.0))
    assert task.overlap(s) > 0.95


def test_tool_turns_where_it_is_pulled_and_stays_upright():
    world = World(Physics(hz=120, gravity=0.0))
    robot = Robot(world, PANDA_GEAR)
    controller = CompliantPull(reach=0.01, turn=0.05).bind(robot, 0.05)
    controller.reset()
    start, yaw = np.array(robot.tip_position), gear.yaw_of_gear(robot.tip_pose[1])
    for _ in range(40):
        controller.apply((0.0, 0.0, 0.0, np.clip(yaw + 0.4 - gear.yaw_of_gear(robot.tip_pose[1]), -0.05, 0.05)))
        world.advance(6, [controller.before_physics_step])
    assert gear.yaw_of_gear(robot.tip_pose[1]) - yaw == pytest.approx(0.4, abs=0.01)
    assert robot.tool_axis == pytest.approx((0, 0, -1), abs=0.005)
    assert np.array(robot.tip_position) == pytest.approx(
        start, abs=0.01
    )  # nothing pulls it back: the pull is from where it is
    world.close()


def test_expert_meshes_gently(env):
    for i in range(12):
        info = play(env, TEST_SEED_START + i, lambda env: env.expert_action())
        assert info["is_success"]
        assert info["metrics"]["peak_force"] < 40.0


def test_expert_recovers_from_disturbed_actions(env):
    rng = np.random.default_rng(0)
    acts = [lambda env: np.clip(env.expert_action() + 0.15 * rng.standard_normal(4), -1, 1)] * 6
    assert sum(play(env, TEST_SEED_START + i, act)["is_success"] for i, act in enumerate(acts)) >= 5


def test_nothing_and_chance_mesh_nothing(env):
    rng = np.random.default_rng(0)
    assert not play(env, TEST_SEED_START, lambda env: np.zeros(4))["is_success"]
    for i in range(8):
        assert not play(env, TEST_SEED_START + i, lambda env: rng.uniform(-1, 1, 4))["is_success"]


def test_a_stalled_mate_does_not_count(env):
    over_the_mate(env, 0.0)
    for _ in range(30):
        info = env.step(0.5 * np.array(DOWN))[4]
    assert task.overlap(env.scene) > 0.95
    assert not info["is_success"]


def test_hard_contact_ends_the_episode(env):
    env.reset(seed=0)
    env.scene.sensors["on_mate"].peak = task.FORCE_LIMIT + 1.0
    _, _, terminated, _, info = env.step(np.zeros(4))
    assert terminated
    assert info["reward_terms"]["stopped"] == 1.0


def test_mates_run_both_ways_at_any_phase(env):
    speeds, phases = [], []
    for seed in range(30):
        env.reset(seed=seed)
        speeds.append(env.scene.memory.speed)
        phases.append(task.phase(env.scene))
    assert min(speeds) < -0.15 < 0.15 < max(speeds)
    assert np.ptp(phases) > 0.7 * gear.TOOTH
    assert sin(12 * phases[-1]) == pytest.approx(task.mesh_phase(env.scene)[0])
    assert cos(12 * phases[-1]) == pytest.approx(task.mesh_phase(env.scene)[1])


def test_being_done_is_worth_more_than_any_waiting(env):
    """No state that lasts pays more than zero a step, so an episode that ends by success loses nothing."""
    lasting = [t for t in env.task.rewards if t.weight > 0 and t.name != "finished"]
    time = next(t for t in env.task.rewards if t.name == "time")
    assert sum(t.weight for t in lasting) <= -time.weight + 1e-9
