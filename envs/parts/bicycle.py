"""Single-track ("bicycle") models of a car: the left and the right wheel of each axle are one wheel in the middle.

Bullet has no tyre: its point contacts know Coulomb friction and no slip angle, a car on them turns as on rails until it
slides. So the motion of a car comes from these models, and its body in the world follows them. Positions are those of
the centre of gravity, world frame; x points ahead and y to the left in the frame of the car.

Sources: R. Rajamani, "Vehicle Dynamics and Control", 2nd edition, 2012, chapters 2 and 13; tyre: E. Fiala's brush model
as in H. B. Pacejka, "Tire and Vehicle Dynamics", 3rd edition, 2012, chapter 3; crosswind: W.-H. Hucho, "Aerodynamics of
Road Vehicles", 4th edition, 1998, chapter 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from physai_envs.world import Vector

GRAVITY = 9.81  # m/s2
AIR_DENSITY = 1.2  # kg/m3
SLOW = 1.5  # m/s, below which slip is the lateral speed over this: at rest a slip angle has no value
LEAST_GRIP = 1.0  # N, of a tyre whose friction braking has used up, so that nothing is divided by zero


@dataclass(frozen=True)
class CarData:
    """A car as the models see it.

    Attributes:
        mass: without payload [kg].
        yaw_inertia: about the centre of gravity, without payload [kg m2].
        front, rear: distance of the axles from the centre of gravity [m].
        height: of the centre of gravity above the road [m].
        front_stiffness, rear_stiffness: cornering stiffness of both tyres of an axle together [N/rad].
        drag_area: drag coefficient times frontal area [m2].
        side_area: side force coefficient per rad of apparent wind, times frontal area [m2].
        side_arm: how far ahead of the centre of gravity the side wind presses [m].
        rolling: rolling resistance as a share of the weight.
    """

    mass: float
    yaw_inertia: float
    front: float
    rear: float
    height: float
    front_stiffness: float
    rear_stiffness: float
    drag_area: float
    side_area: float
    side_arm: float
    rolling: float

    @property
    def wheelbase(self) -> float:
        """Distance of the axles [m]."""
        return self.front + self.rear

    def understeer(self, mass: float) -> float:
        """Understeer gradient: steering angle per lateral acceleration beyond wheelbase times curvature [rad s2/m]."""
        share = self.rear / self.front_stiffness - self.front / self.rear_stiffness
        return mass * share / self.wheelbase


def brush_force(slip: float, stiffness: float, grip: float) -> float:
    """Lateral force of the tyres of an axle [N]: linear for small slip, `grip` when the whole contact patch slides.

    Args:
        slip: tangent of the slip angle.
        stiffness: slope at zero slip [N/rad].
        grip: what friction leaves for lateral force [N].
    """
    sliding = stiffness * abs(slip) / (3.0 * grip)
    if sliding >= 1.0:
        return math.copysign(grip, -slip)
    return -stiffness * slip * (1.0 - sliding + sliding * sliding / 3.0)


class KinematicBicycle:
    """Wheels that roll without slip, for low speeds; exact for a steering angle that is constant in a step.

    Attributes:
        wheelbase: [m]; `rear` is the distance of the rear axle from the centre of gravity.
        rolling: deceleration by rolling resistance [m/s2], which also holds a car at rest on a slight slope.
        slope: acceleration by gravity along x of the world [m/s2].
        steering_offset: by which the front wheels point beside where they should [rad].
        x, y, yaw: pose [m, rad].
        speed: along the car's x axis [m/s], negative in reverse.
        yaw_rate: [rad/s].
        steering, acceleration: as commanded in the last step [rad, m/s2].
    """

    def __init__(self, data: CarData) -> None:
        self.data, self.rolling = data, data.rolling * GRAVITY
        self.wheelbase, self.rear, self.slope = data.wheelbase, data.rear, 0.0
        self.steering_offset = 0.0
        self.place(0.0, 0.0, 0.0)

    def place(self, x: float, y: float, yaw: float, speed: float = 0.0) -> None:
        """Puts the car down, going straight ahead."""
        self.x, self.y, self.yaw, self.speed, self.yaw_rate = x, y, yaw, speed, 0.0
        self.steering = self.acceleration = 0.0

    def step(self, steering: float, acceleration: float, dt: float) -> None:
        """Moves on by `dt` [s] with a steering angle of the front wheels [rad] and an acceleration [m/s2]."""
        self.steering, self.acceleration, before = steering, acceleration, self.speed
        gained = before + (acceleration + self.slope * math.cos(self.yaw)) * dt
        self.speed = gained - min(max(gained, -self.rolling * dt), self.rolling * dt)
        curvature = math.tan(steering + self.steering_offset) / self.wheelbase
        way = 0.5 * (before + self.speed) * dt
        half = 0.5 * way * curvature
        chord = way * math.hypot(1.0, self.rear * curvature) * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
        course = self.yaw + math.atan(self.rear * curvature) + half
        self.x += chord * math.cos(course)
        self.y += chord * math.sin(course)
        self.yaw += 2.0 * half
        self.yaw_rate = self.speed * curvature


class DynamicBicycle:
    """Tyres with slip and limited grip, load transfer, aerodynamics and a banked road; a front-driven car.

    Tyres share their grip between pushing and cornering (friction circle). Brakes are split as the axles are loaded.
    Below 1.5 m/s slip is computed as at that speed: the faster a tyre's force answers, the smaller the time step would
    have to be, without end towards standstill; as lateral forces fade with the square of the speed, what is left there
    is the kinematic model.

    Attributes:
        mass: with payload [kg]; inertia grows with it.
        friction: between tyres and road.
        wind: velocity of the air, world frame [m/s], (2,).
        steering_offset: by which the front wheels point beside where they should [rad].
        bank: slope of the road across the direction of travel [rad], positive where it falls to the right.
        x, y, yaw: pose [m, rad].
        speed, lateral_speed: velocity in the frame of the car [m/s].
        yaw_rate: [rad/s].
        steering, acceleration: as commanded in the last step [rad, m/s2].
        lateral_acceleration: what an accelerometer on a level car would show [m/s2].
    """

    def __init__(self, data: CarData) -> None:
        self.data, self.mass, self.friction = data, data.mass, 1.0
        self.wind: Vector = (0.0, 0.0)
        self.bank = self.steering_offset = 0.0
        self.place(0.0, 0.0, 0.0)

    def place(self, x: float, y: float, yaw: float, speed: float = 0.0) -> None:
        """Puts the car down, going straight ahead."""
        self.x, self.y, self.yaw, self.speed = x, y, yaw, speed
        self.lateral_speed = self.yaw_rate = self.lateral_acceleration = 0.0
        self.steering = self.acceleration = 0.0

    def step(self, steering: float, acceleration: float, dt: float) -> None:
        """Moves on by `dt` [s] (midpoint rule) with an angle of the front wheels [rad] and an acceleration [m/s2].

        The acceleration is what the wheels would give the car without drag; friction limits it.
        """
        forces = self._pushes(acceleration)
        self.steering, self.acceleration = steering, acceleration
        steering += self.steering_offset
        turned = math.cos(steering), math.sin(steering)
        v, w, r, half = self.speed, self.lateral_speed, self.yaw_rate, 0.5 * dt
        dv, dw, dr = self._rates(v, w, r, turned, forces, self.yaw)
        v_mid, w_mid, r_mid, yaw_mid = v + half * dv, w + half * dw, r + half * dr, self.yaw + half * r
        dv, dw, dr = self._rates(v_mid, w_mid, r_mid, turned, forces, yaw_mid)
        cos, sin = math.cos(yaw_mid), math.sin(yaw_mid)
        self.x += (v_mid * cos - w_mid * sin) * dt
        self.y += (v_mid * sin + w_mid * cos) * dt
        self.yaw += r_mid * dt
        v += dv * dt
        rolling = self.data.rolling * GRAVITY * dt
        self.speed = v - min(max(v, -rolling), rolling)
        self.lateral_speed, self.yaw_rate = w + dw * dt, r + dr * dt
        self.lateral_acceleration = dw + v_mid * r_mid

    def _pushes(self, acceleration: float) -> Vector:
        """Pushes of front and rear tyres and the grip they leave for cornering: (front, rear, front, rear) [N]."""
        data, mass, most = self.data, self.mass, self.friction * GRAVITY
        acceleration = min(max(acceleration, -most), most)
        shift = acceleration * data.height
        front_load = mass * (GRAVITY * data.rear - shift) / data.wheelbase
        rear_load = mass * GRAVITY - front_load
        front_grip, rear_grip = self.friction * front_load, self.friction * rear_load
        push = mass * acceleration
        front_share = 1.0 if acceleration * self.speed >= 0.0 else front_load / (mass * GRAVITY)
        front = min(max(push * front_share, -front_grip), front_grip)
        rear = min(max(push * (1.0 - front_share), -rear_grip), rear_grip)
        front_left = math.sqrt(max(front_grip * front_grip - front * front, LEAST_GRIP))
        rear_left = math.sqrt(max(rear_grip * rear_grip - rear * rear, LEAST_GRIP))
        return front, rear, front_left, rear_left

    def _rates(
        self, v: float, w: float, r: float, turned: Vector, forces: Vector, yaw: float
    ) -> tuple[float, float, float]:
        """Time derivatives of speed, lateral speed and yaw rate."""
        data, mass, (cos, sin), (front, rear, front_grip, rear_grip) = self.data, self.mass, turned, forces
        at_front, at_rear = w + data.front * r, w - data.rear * r
        slip = (at_front * cos - v * sin) / max(abs(v * cos + at_front * sin), SLOW)
        side = brush_force(slip, data.front_stiffness, front_grip)
        ahead, aside = front * cos - side * sin, front * sin + side * cos
        behind = brush_force(at_rear / max(abs(v), SLOW), data.rear_stiffness, rear_grip)
        cos_yaw, sin_yaw, (east, north) = math.cos(yaw), math.sin(yaw), self.wind
        against, across = v - east * cos_yaw - north * sin_yaw, north * cos_yaw - east * sin_yaw - w
        pressure = 0.5 * AIR_DENSITY * math.hypot(against, across)
        drag, blow = pressure * data.drag_area * against, pressure * data.side_area * across
        return (
            (ahead + rear - drag) / mass + w * r,
            (aside + behind + blow) / mass - GRAVITY * self.bank - v * r,
            (data.front * aside - data.rear * behind + blow * data.side_arm) * data.mass / (mass * data.yaw_inertia),
        )
