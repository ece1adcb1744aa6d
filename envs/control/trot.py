"""A trot whose stride, foot placement and leg lengths are commanded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from physai.spec import ActionSpec
from physai_envs.control.term import Controller
from physai_envs.robot import Robot


@dataclass(frozen=True)
class Leg:
    """Measures of a leg with joints x, y, y.

    Attributes:
        hip: of the joint about x, base frame, (x, y) [m].
        side: 1 on the left, -1 on the right.
        offset: sideways, from the first joint to the plane of the leg [m].
        upper: length of the upper leg [m].
        lower: length of the lower leg, to the middle of the foot [m].
    """

    hip: tuple[float, float]
    side: float
    offset: float
    upper: float
    lower: float

    def joints(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Angles that bring the foot to a point of the base frame [m]; a point out of reach is approached."""
        x, y = x - self.hip[0], y - self.hip[1]
        down = math.sqrt(max(y * y + z * z - self.offset**2, 1e-6))
        roll = math.atan2(y, -z) - math.atan2(self.side * self.offset, down)
        cosine = (x * x + down * down - self.upper**2 - self.lower**2) / (2.0 * self.upper * self.lower)
        knee = -math.acos(min(max(cosine, -1.0), 1.0))
        bend = math.atan2(self.lower * math.sin(knee), self.upper + self.lower * math.cos(knee))
        return roll, math.atan2(-x, down) - bend, knee


@dataclass(frozen=True)
class Trot:
    """Velocity at which the standing feet push the body, where the swinging feet land, and how long each leg is.

    Diagonal legs step together (M. Raibert, "Legged Robots That Balance", 1986). A standing foot goes against the
    commanded velocity; a swinging one flies to the place from which it would carry the body evenly to both sides of the
    hip, plus the commanded offset. Joints are held by position motors.

    Attributes:
        legs: front left, front right, rear left, rear right.
        height: of the hips above the middle of the feet [m].
        shift: of the standing feet ahead of the hips [m], to below the centre of mass.
        frequency: of the gait [Hz].
        duty: share of a period in which a foot stands.
        clearance: of a swinging foot [m].
        speed: largest stride velocity (forward, sideways, turning) [m/s, m/s, rad/s].
        reach: largest offset of the landing place, each way [m].
        stretch: largest change of a leg's length [m].
        gain: of the position motors, share of the error in a physics step.
        torque: of the three joints of a leg [Nm].
    """

    legs: tuple[Leg, Leg, Leg, Leg]
    height: float
    shift: float
    frequency: float
    duty: float
    clearance: float
    speed: tuple[float, float, float]
    reach: float
    stretch: float
    gain: float
    torque: tuple[float, float, float]
    name: str = "trot"

    def spec(self) -> ActionSpec:
        """Describes the command: stride velocity, offset of the landing place, change of the length of each leg."""
        high = (*self.speed, self.reach, self.reach, *(self.stretch,) * 4)
        elements = (
            "forward", "sideways", "turning", "landing_x", "landing_y",
            "front_left", "front_right", "rear_left", "rear_right",
        )  # fmt: skip
        return ActionSpec(self.name, elements, "m/s, rad/s, m", tuple(-v for v in high), high, frame="base")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the gait of one robot, which moves its `phase` on."""
        return _TrotController(robot, self, period_s)

    def stand(self) -> tuple[float, ...]:
        """Joint angles at which all feet stand (12,) [rad]."""
        return tuple(angle for leg in self.legs for angle in leg.joints(*self.rest(leg), -self.height))

    def rest(self, leg: Leg) -> tuple[float, float]:
        """Where the foot stands at rest, base frame, (x, y) [m]."""
        return leg.hip[0] + self.shift, leg.hip[1] + leg.side * leg.offset


DIAGONAL = (0.0, 0.5, 0.5, 0.0)  # share of a period by which each leg is ahead


class _TrotController:
    def __init__(self, robot: Robot, law: Trot, period_s: float) -> None:
        self.robot, self.law, self._dt = robot, law, period_s
        robot.drive.phase = 0.0  # of the gait, share of its period; a reset may choose another
        self._rest = [law.rest(leg) for leg in law.legs]
        self._standing_s = law.duty / law.frequency
        self._torque: list[float] = []
        self._feet: list[tuple[float, float]] = []
        self._targets: list[float] = []

    def reset(self) -> None:
        self._feet = list(self._rest)
        self._torque = [self.robot.motor_strength * torque for torque in self.law.torque] * 4
        self._targets = list(self.law.stand())
        self._drive(self._targets)

    def apply(self, command: Sequence[float]) -> None:
        law, dt = self.law, self._dt
        vx, vy, turn, ahead, aside = command[:5]
        self.robot.drive.phase = (self.robot.drive.phase + law.frequency * dt) % 1.0
        half, targets = 0.5 * self._standing_s, []
        for i, leg in enumerate(law.legs):
            x, y = self._feet[i]
            phase, z = (self.robot.drive.phase + DIAGONAL[i]) % 1.0, command[5 + i] - law.height
            if phase < law.duty:
                x, y = x - (vx - turn * y) * dt, y - (vy + turn * x) * dt
            else:
                rx, ry = self._rest[i]
                share = min(1.0, law.frequency * dt / max(1.0 - phase, 1e-6))  # of the way that is left
                x += share * (rx + (vx - turn * ry) * half + ahead - x)
                y += share * (ry + (vy + turn * rx) * half + aside - y)
                z += law.clearance * math.sin(math.pi * (phase - law.duty) / (1.0 - law.duty))
            self._feet[i] = x, y
            targets += leg.joints(x, y, z)
        self._drive(targets)

    def _drive(self, targets: list[float]) -> None:
        rates = [(new - old) / self._dt for new, old in zip(targets, self._targets, strict=True)]
        self._targets = targets
        self.robot.body.drive_position(self.robot.joints, targets, rates, self._torque, self.law.gain)
