"""The arm and its controllers: the data of the URDF, tracking, compliance, force measurement."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from physai.errors import AssetError, SimulationError
from physai_envs.control import CompliantPull, EndEffectorTwist
from physai_envs.robot import ASSETS, Robot
from physai_envs.robots.panda import PANDA_GRIPPER, PANDA_HAND, PANDA_PEG
from physai_envs.sensors import ContactMeter
from physai_envs.world import Physics, World

URDFS = sorted(ASSETS.rglob("*.urdf"))


@pytest.mark.parametrize("path", URDFS, ids=lambda p: p.stem)
def test_every_link_that_moves_has_mass_and_a_possible_inertia(path):
    for link in ElementTree.parse(path).getroot().findall("link"):
        inertial = link.find("inertial")
        if inertial is None:
            continue
        assert float(inertial.find("mass").get("value")) > 0
        i = {k: float(v) for k, v in inertial.find("inertia").attrib.items()}
        tensor = np.array(
            [[i["ixx"], i["ixy"], i["ixz"]], [i["ixy"], i["iyy"], i["iyz"]], [i["ixz"], i["iyz"], i["izz"]]]
        )
        assert np.linalg.eigvalsh(tensor).min() > 0, link.get("name")


@pytest.mark.parametrize("path", URDFS, ids=lambda p: p.stem)
def test_every_urdf_names_the_source_of_its_numbers(path):
    assert "<!--" in path.read_text()[:2000]


def arm(model, gravity=0.0, hz=240):
    world = World(Physics(hz=hz, gravity=gravity))
    return world, Robot(world, model)


def test_home_pose_is_that_of_the_datasheet():
    world, robot = arm(PANDA_GRIPPER)
    # Denavit-Hartenberg chain at the ready pose: flange at (0.307, 0, 0.590), tool tip 0.1034 m below
    assert robot.tip_position == pytest.approx((0.3069, 0.0, 0.4869), abs=1e-3)
    assert robot.tool_axis == pytest.approx((0, 0, -1), abs=1e-6)
    world.close()


def test_blocked_fingers_weigh_what_they_did_and_are_no_joints():
    worlds, (free, blocked) = zip(*(arm(model) for model in (PANDA_GRIPPER, PANDA_HAND)), strict=True)
    assert len(free.body.movable) == 9
    assert len(blocked.body.movable) == 7
    assert blocked.tip_position == pytest.approx(free.tip_position, abs=1e-6)
    masses = [
        sum(robot.body.dynamics_info(link)[0] for link in range(len(robot.body.joints))) for robot in (free, blocked)
    ]
    assert masses[1] == pytest.approx(masses[0])
    for world in worlds:
        world.close()


def test_tip_follows_the_commanded_velocity():
    world, robot = arm(PANDA_GRIPPER)
    robot.hold_tool()
    controller = EndEffectorTwist(linear=0.2).bind(robot, 0.05)
    controller.reset()
    start, upright = np.array(robot.tip_position), robot.tool_axis
    for _ in range(20):
        controller.apply((0.1, -0.05, 0.02))
        world.advance(12)
    assert np.array(robot.tip_position) - start == pytest.approx([0.1, -0.05, 0.02], abs=0.003)
    assert robot.tool_axis == pytest.approx(upright, abs=0.01)
    for _ in range(10):
        controller.apply((0, 0, 0))
        world.advance(12)
    assert np.linalg.norm(robot.tip_velocity) < 0.002
    world.close()


def test_compliant_arm_comes_to_rest_where_it_is_pulled():
    world, robot = arm(PANDA_PEG, hz=120)
    controller = CompliantPull(reach=0.01).bind(robot, 0.05)
    controller.reset()
    start, upright = np.array(robot.tip_position), robot.tool_axis
    goal = start + (0.05, -0.03, 0.04)
    for _ in range(40):
        controller.apply(np.clip(goal - robot.tip_position, -0.01, 0.01))
        world.advance(6, [controller.before_physics_step])
    assert np.array(robot.tip_position) == pytest.approx(goal, abs=5e-4)
    assert np.linalg.norm(robot.tip_velocity) < 0.002
    assert robot.tool_axis == pytest.approx(upright, abs=0.005)
    world.close()


def test_compliant_arm_pushes_with_its_spring_and_the_wrist_feels_it():
    world, robot = arm(PANDA_PEG, hz=120)
    top = robot.tip_position[2] - 0.02
    plate = world.box("plate", (0.1, 0.1, 0.05), (*robot.tip_position[:2], top - 0.05))
    controller = CompliantPull(reach=0.01, stiffness=2000.0).bind(robot, 0.05)
    meter = ContactMeter(world, robot.body, plate)
    controller.reset()
    for _ in range(60):
        controller.apply((0, 0, -0.01))
        meter.start()
        world.advance(6, [controller.before_physics_step], [meter.after_physics_step])
    assert meter.mean == pytest.approx(20.0, rel=0.03)  # 2000 N/m x 0.01 m
    assert robot.wrench[2] == pytest.approx(20.0, rel=0.03)
    assert top - robot.tip_position[2] < 0.0005  # and does not sink in
    robot.motor_strength = 0.8
    for _ in range(60):
        controller.apply((0, 0, -0.01))
        meter.start()
        world.advance(6, [controller.before_physics_step], [meter.after_physics_step])
    assert meter.mean == pytest.approx(16.0, rel=0.03)
    world.close()


def test_place_tip_is_exact_and_says_when_it_cannot():
    world, robot = arm(PANDA_PEG)
    robot.place_tip((0.55, 0.04, 0.1))
    assert robot.tip_position == pytest.approx((0.55, 0.04, 0.1), abs=2e-5)
    with pytest.raises(SimulationError, match="cannot put its tip at"):
        robot.place_tip((3.0, 0.0, 0.1))
    world.close()


def test_gravity_compensation_is_what_zero_gravity_stands_for():
    world, robot = arm(PANDA_PEG)
    robot.body.motors_off()
    start = robot.tip_position
    world.advance(240)
    assert robot.tip_position == pytest.approx(start, abs=1e-9)
    world.close()


def test_missing_joint_and_missing_file_are_one_sentence_each():
    from dataclasses import replace

    world = World(Physics())
    with pytest.raises(AssetError, match="has no joint 'joint9'"):
        Robot(world, replace(PANDA_GRIPPER, joints=("joint9",)))
    with pytest.raises(AssetError, match=r"nowhere\.urdf is missing"):
        Robot(world, replace(PANDA_GRIPPER, urdf="robots/nowhere.urdf"))
    world.close()
