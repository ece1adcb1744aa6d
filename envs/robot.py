"""Robots: data about a machine, and a thin class that reads and drives it. No numbers of any one robot in here."""

from __future__ import annotations

import hashlib
import os
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from physai.errors import AssetError, SimulationError
from physai_envs.engine import MESHES, NO_ROTATION, Vector, invert, multiply, quaternion_from_euler, reading
from physai_envs.geometry import rotate, rotation_error, subtract
from physai_envs.world import World

PLACING_ROUNDS, PLACING_ACCURACY = 20, 1e-5  # Newton steps; m and rad
PLACING_STRIDE = 0.15  # m and rad, of one Newton step: longer ones leave the branch that the arm is on
TOOL_BRAKE_N = 50.0  # holds fingers against any weight they carry
ASSETS = Path(str(files("physai_assets")))


@dataclass(frozen=True)
class Tool:
    """What is mounted on the flange: a URDF and the tool centre point in the tool's base frame [m].

    With `blocked` its joints do not move: they stay at zero, and cost nothing.
    """

    urdf: str
    tip: Vector
    open_joints: tuple[float, ...] = ()
    blocked: bool = False


@dataclass(frozen=True)
class RobotModel:
    """Data of one robot. Files are relative to the assets folder.

    `joints` are the driven joints in the order of the command; `flange` is where a tool goes, as a pose in the frame of
    the last link; `wrench` asks for a force-torque sensor between flange and tool.
    """

    name: str
    urdf: str
    joints: tuple[str, ...]
    home: tuple[float, ...]
    base_position: Vector = (0.0, 0.0, 0.0)
    fixed_base: bool = True
    flange: tuple[Vector, Vector] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    tool: Tool | None = None
    wrench: bool = False

    def with_tool(self, tool: Tool, *, wrench: bool = False) -> RobotModel:
        """Returns the same robot with a tool on its flange."""
        return replace(self, tool=tool, wrench=wrench)


def parse(relative: str) -> ElementTree.Element:
    """Reads a URDF of the assets folder.

    Raises:
        AssetError: if it is missing or is not XML.
    """
    path = ASSETS / relative
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError as failure:
        raise AssetError(f"robot description {path} is missing; reinstall physai, or correct the path") from failure
    except ElementTree.ParseError as failure:
        raise AssetError(f"{path} is not valid XML ({failure}); restore the file") from failure


def compose(model: RobotModel, *, visual: bool) -> Path:
    """Writes one URDF of the robot and its tool; see `write`.

    Raises:
        AssetError: if a file is missing or is not XML.
    """
    robot = parse(model.urdf)
    if model.tool is not None:
        tool = parse(model.tool.urdf)
        for joint in tool.findall("joint") if model.tool.blocked else ():
            joint.set("type", "fixed")
        last, base = robot.findall("link")[-1].get("name", ""), tool.findall("link")[0].get("name", "")
        robot.extend(tool)
        mount = ElementTree.SubElement(robot, "joint", name="flange", type="fixed")
        xyz, rpy = (" ".join(map(str, v)) for v in model.flange)
        ElementTree.SubElement(mount, "origin", xyz=xyz, rpy=rpy)
        ElementTree.SubElement(mount, "parent", link=last)
        ElementTree.SubElement(mount, "child", link=base)
    return write(robot, model.name, visual=visual)


def write(robot: ElementTree.Element, name: str, *, visual: bool) -> Path:
    """Writes a URDF where Bullet can load it, and returns its path. The same content has the same path.

    Visual meshes are looked for in the models that come with pybullet, and left out when nobody looks.
    """
    for link in robot.findall("link"):
        for shape in link.findall("visual") if not visual else ():
            link.remove(shape)
    for mesh in robot.iter("mesh"):
        mesh.set("filename", str(MESHES / mesh.get("filename", "")))
    text = ElementTree.tostring(robot)
    path = Path(tempfile.gettempdir()) / f"physai-{os.getuid()}-{name}-{hashlib.sha256(text).hexdigest()[:16]}.urdf"
    if not path.exists() or path.read_bytes() != text:
        partial = path.with_suffix(f".{os.getpid()}")  # other processes may be reading the finished file
        partial.write_bytes(text)
        os.replace(partial, path)
    return path


class Robot:
    """A robot in a world: named joints, tool tip, wrench.

    `motor_strength` is for a task's randomisation: drives that honour it give that share of their torque. What
    else a task and the drive of a robot tell each other is in `drive`.
    """

    def __init__(self, world: World, model: RobotModel) -> None:
        self.world, self.model, self.readings = world, model, world.readings
        self.motor_strength = 1.0  # share of the rated torque that the motors have in this episode
        self.drive = SimpleNamespace()
        self.body = world.load(
            "robot",
            compose(model, visual=world.visual),
            model.base_position,
            fixed=model.fixed_base,
            merge_fixed=not model.wrench,
        )
        missing = [name for name in model.joints if name not in self.body.joints]
        if missing:
            raise AssetError(f"{model.urdf} has no joint {missing[0]!r}; it has: {', '.join(self.body.joints)}")
        self.joints = [self.body.joints[name] for name in model.joints]
        infos = [self.body.joint_info(name) for name in model.joints]
        self.effort, self.velocity_limit = [i[10] for i in infos], [i[11] for i in infos]
        order = [self.body.movable.index(joint) for joint in self.joints]
        if order != list(range(order[0], order[0] + len(order))):
            raise AssetError(f"{model.urdf}: the driven joints must follow each other, they are {model.joints}")
        self.columns = slice(order[0], order[-1] + 1)  # of the Jacobian and of the joint states
        self.tool_joints = [joint for joint in self.body.movable if joint not in self.joints]
        self.tool_columns = [self.body.movable.index(joint) for joint in self.tool_joints]
        self.home = list(model.home) + list(model.tool.open_joints if model.tool else ())
        self.last_link = self.joints[-1]
        if model.wrench:
            self._wrench_column = self.body.enable_wrench(self.body.joints["flange"])
            self.body.follow()
        if model.tool is not None:
            self._locate_tip(model.tool.tip)
        self.go_home()

    def _locate_tip(self, tip: Vector) -> None:
        """Finds the tip in the frames of the last link: its own for positions, its centre of mass for the Jacobian."""
        from_flange = multiply(self.model.flange[0], quaternion_from_euler(self.model.flange[1]), tip, NO_ROTATION)
        self.tip_offset, self.tip_rotation = from_flange
        info = self.body.dynamics_info(self.last_link)
        self.tip_from_com: Vector = multiply(*invert(info[3], info[4]), self.tip_offset, NO_ROTATION)[0]

    def go_home(self) -> None:
        """Puts every joint at its home position, at rest; the world resets robots to it."""
        self.body.home_joints = list(self.home)
        self.body.set_joints(self.home)

    def hold_tool(self) -> None:
        """Brakes the joints of the tool, until a gripper term drives them."""
        if tool := self.tool_joints:
            self.body.drive_velocity(tool, [0.0] * len(tool), [TOOL_BRAKE_N] * len(tool))

    def place_tip(self, position: Vector, lean: Vector = (0.0, 0.0, 0.0)) -> None:
        """Puts the arm at rest with the tip at `position` [m] and the tool as at home. For resets only.

        `lean` turns the tool from there, by roll, pitch and yaw about the world's axes [rad].

        Raises:
            SimulationError: if the arm does not reach that far.
        """
        self.body.set_joints(self.home)
        joints = np.array(self.home)
        _, orientation = multiply((0, 0, 0), quaternion_from_euler(lean), (0, 0, 0), self.tip_pose[1])
        for _ in range(PLACING_ROUNDS):
            there, turned = self.tip_pose
            error = np.array((*subtract(position, there), *rotation_error(orientation, turned)))
            worst = float(np.abs(error).max())
            if worst < PLACING_ACCURACY:
                return
            error *= min(1.0, PLACING_STRIDE / worst)
            jacobian = self.body.jacobian(self.last_link, self.tip_from_com, joints.tolist())[:, self.columns]
            joints[self.columns] += np.linalg.pinv(jacobian) @ error
            self.body.set_joints(joints.tolist())
        raise SimulationError(f"{self.model.name} cannot put its tip at {tuple(position)} m; choose a point in reach")

    @reading
    def joint_positions(self) -> list[float]:
        """Positions of the driven joints [rad or m]."""
        return [state[0] for state in self.body.joint_states[self.columns]]

    @reading
    def joint_velocities(self) -> list[float]:
        """Velocities of the driven joints [rad/s or m/s]."""
        return [state[1] for state in self.body.joint_states[self.columns]]

    @reading
    def tool_opening(self) -> tuple[float, float]:
        """Sum of the positions and of the speeds of the tool's joints: the width of a gripper [m, m/s]."""
        states = [self.body.joint_states[i] for i in self.tool_columns]
        return sum([state[0] for state in states]), sum([state[1] for state in states])

    @reading
    def tool_force(self) -> float:
        """Mean effort of the motors of the tool's joints [N or Nm]."""
        states = self.body.joint_states
        return sum([states[i][3] for i in self.tool_columns]) / len(self.tool_columns)

    @reading
    def wrench(self) -> Vector:
        """Force and torque between flange and tool (6,) [N, Nm], flange frame; zero until the first step.

        It is averaged over the control step, as such sensors filter; weight and inertia of the tool are included.
        """
        samples, column = self.body.samples[1:], self._wrench_column
        if not samples:
            return (0.0,) * 6
        return tuple([sum(v) / len(samples) for v in zip(*[states[column][2] for states in samples], strict=True)])

    @reading
    def _last_link_state(self) -> Sequence[Vector]:
        return self.body.link_state(self.last_link)

    @reading
    def tip_pose(self) -> tuple[Vector, Vector]:
        """Position [m] and orientation of the tool tip, world frame."""
        link = self._last_link_state
        return multiply(link[4], link[5], self.tip_offset, self.tip_rotation)  # type: ignore[no-any-return]

    @reading
    def tip_position(self) -> Vector:
        """Position of the tool tip [m], world frame, (3,)."""
        return self.tip_pose[0]

    @reading
    def tip_velocity(self) -> Vector:
        """Linear velocity of the tool tip [m/s], world frame, (3,)."""
        link = self._last_link_state
        (vx, vy, vz), (wx, wy, wz) = link[6], link[7]  # of the link's centre of mass
        rx, ry, rz = subtract(self.tip_position, link[0])
        return vx + wy * rz - wz * ry, vy + wz * rx - wx * rz, vz + wx * ry - wy * rx

    @property
    def tip_turning(self) -> Vector:
        """Angular velocity of the tool [rad/s], world frame, (3,)."""
        return self._last_link_state[7]

    @reading
    def tool_axis(self) -> Vector:
        """Unit vector out of the tool, world frame."""
        return rotate(self.tip_pose[1], (0.0, 0.0, 1.0))
