"""Swing, extension and lift of a wafer-handling robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import acos, cos, hypot, pi, sin, sqrt

from physai.spec import ActionSpec
from physai_envs.control.term import Controller
from physai_envs.robot import Robot

DAMPING_RATIO = 0.3  # of the flexible mode of drives and fork; belts and harmonic gears damp about so
CORRECTION_HZ = 10.0  # 1/s, at which errors of the joints against the drive's own count are taken back


@dataclass(frozen=True)
class PolarArm:
    """An arm of two equal links whose fork always points away from the axis of the robot.

    Attributes:
        link: length of each link [m].
        fork: from the wrist to the centre of the wafer [m].
    """

    link: float
    fork: float

    def joints(self, angle: float, radius: float) -> tuple[float, float, float]:
        """Shoulder, elbow and wrist [rad] that put the centre of the fork at `angle` [rad] and `radius` [m]."""
        half = acos((radius - self.fork) / (2.0 * self.link))
        return angle + half, -2.0 * half, half

    def bend(self, radius: float) -> float:
        """How fast the links fold, rad for each metre that the fork extends; negative: they unfold."""
        along = (radius - self.fork) / (2.0 * self.link)
        return -1.0 / (2.0 * self.link * sqrt(1.0 - along * along))

    def place(self, shoulder: float, elbow: float, wrist: float) -> tuple[float, float, float]:
        """Position (x, y) of the centre of the fork [m] and its yaw [rad], from the joints."""
        second = shoulder + elbow
        yaw = second + wrist
        x = self.link * (cos(shoulder) + cos(second)) + self.fork * cos(yaw)
        y = self.link * (sin(shoulder) + sin(second)) + self.fork * sin(yaw)
        return x, y, yaw


@dataclass(frozen=True)
class PolarSpeed:
    """Speeds of swing, extension and lift, with limited acceleration, through drives that are not rigid.

    The fork follows the command as a mass on a spring (`robot.drive.stiffness_hz`, its natural frequency), so a jerk
    makes it swing. Near the place that it was taught (`robot.drive.taught`: angle and radius) the drive scales swing
    and extension down, as the approach speed of a station does. It tells the largest acceleration that the middle of
    the fork has felt in an episode, in the plane (`robot.drive.peak_acceleration`).

    Attributes:
        arm: kinematics.
        swing: largest [rad/s].
        radial: largest [m/s].
        lift: largest [m/s].
        acceleration: that the drives of swing and extension do not exceed [rad/s2, m/s2].
        radii: between which the fork moves [m].
        heights: between which the lift moves [m].
        slow_zone: distance from the taught place within which speeds fall [m].
        slowest: share of the speed that is left there.
    """

    arm: PolarArm
    swing: float
    radial: float
    lift: float
    acceleration: tuple[float, float]
    radii: tuple[float, float]
    heights: tuple[float, float]
    slow_zone: float
    slowest: float
    name: str = "fork_speed"

    def spec(self) -> ActionSpec:
        """Describes the command: (swing, extension, lift)."""
        high = (self.swing, self.radial, self.lift)
        return ActionSpec(
            self.name, ("swing", "extension", "lift"), "rad/s, m/s, m/s", tuple(-v for v in high), high, frame="robot"
        )  # fmt: skip

    def share(self, angle: float, radius: float, taught: tuple[float, float]) -> float:
        """Share of the commanded speed that the drive allows at a place, `slowest` to 1."""
        away = hypot((taught[0] - angle) * radius, taught[1] - radius)
        return min(1.0, max(self.slowest, away / self.slow_zone))

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the drive of one robot."""
        return _PolarController(robot, self, period_s)


class _PolarController:
    """A reference that follows the command, and a fork that follows the reference as a mass on a spring.

    The joints are moved by velocity motors, which follow in one physics step: the flexibility is all in `_swing` and
    `_reach` (position, speed). The wafer is too light to act back on it.
    """

    def __init__(self, robot: Robot, law: PolarSpeed, period_s: float) -> None:
        self.robot, self.law, self.period_s = robot, law, period_s
        self.dt = 1.0 / robot.world.physics.hz
        self.substeps = round(period_s / self.dt)
        self.reset()

    def reset(self) -> None:
        lift, *arm = self.robot.joint_positions
        x, y, yaw = self.law.arm.place(*arm)
        self.height, self.lifting = lift, 0.0
        self.wanted, self.turning = [yaw, hypot(x, y)], [0.0, 0.0]  # reference of angle and radius, and its speed
        self.place, self.speed = list(self.wanted), [0.0, 0.0]  # of the fork
        self.ramp = [0.0, 0.0]
        self.fix = [0.0, 0.0, 0.0, 0.0]
        drive = self.robot.drive
        drive.peak_acceleration = 0.0
        self.stiffness = (2.0 * pi * getattr(drive, "stiffness_hz", 20.0)) ** 2
        self.damping = 2.0 * DAMPING_RATIO * sqrt(self.stiffness)

    def apply(self, command: Sequence[float]) -> None:
        law, robot = self.law, self.robot
        taught = getattr(robot.drive, "taught", None)
        share = 1.0 if taught is None else law.share(*self.wanted, taught)
        radial = share * command[1]
        low, high = law.radii
        radial = min(max(radial, -self._before(self.wanted[1] - low)), self._before(high - self.wanted[1]))
        changes = (share * command[0] - self.turning[0], radial - self.turning[1])
        most = [a * self.period_s for a in law.acceleration]
        self.ramp = [min(max(v, -m), m) / self.substeps for v, m in zip(changes, most, strict=True)]
        low, high = law.heights
        end = min(max(self.height + command[2] * self.period_s, low), high)
        self.lifting = (end - self.height) / self.period_s
        count = (self.height, *law.arm.joints(*self.place))
        self.fix = [CORRECTION_HZ * (a - b) for a, b in zip(count, robot.joint_positions, strict=True)]

    def _before(self, room: float) -> float:
        """Speed of extension from which the drive stops within `room` [m], seen a control step ahead."""
        room = max(0.0, room - abs(self.turning[1]) * self.period_s)
        return sqrt(self.law.acceleration[1] * room)

    def before_physics_step(self) -> None:
        dt, wanted, turning, place, speed, ramp = (
            self.dt, self.wanted, self.turning, self.place, self.speed, self.ramp,
        )  # fmt: skip
        pull, damping = self.stiffness, self.damping
        for i in (0, 1):
            turning[i] += ramp[i]
            wanted[i] += turning[i] * dt
        angular = pull * (wanted[0] - place[0]) + damping * (turning[0] - speed[0])
        radial = pull * (wanted[1] - place[1]) + damping * (turning[1] - speed[1])
        swing, out, radius = speed[0], speed[1], place[1]
        felt = (radial - radius * swing * swing) ** 2 + (radius * angular + 2.0 * out * swing) ** 2
        drive = self.robot.drive
        if felt > drive.peak_acceleration**2:
            drive.peak_acceleration = sqrt(felt)
        speed[0] = swing = swing + angular * dt
        speed[1] = out = out + radial * dt
        fold = self.law.arm.bend(radius + 0.5 * out * dt) * out
        place[0] += swing * dt
        place[1] = radius + out * dt
        self.height += self.lifting * dt
        fix = self.fix
        self.robot.body.drive_velocity(
            self.robot.joints,
            [self.lifting + fix[0], swing + fold + fix[1], -2.0 * fold + fix[2], fold + fix[3]],
            self.robot.effort,
        )
