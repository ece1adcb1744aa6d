"""The models that cars move by: the formulas of the textbook, and nothing from nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from physai_envs.parts.bicycle import GRAVITY, CarData, DynamicBicycle, KinematicBicycle, brush_force
from physai_envs.robots.car import CAR_DATA

FREE = replace(CAR_DATA, drag_area=0.0, side_area=0.0, rolling=0.0)


def drive(
    data: CarData, steering: float, speed: float, seconds: float, dt: float = 0.005, acceleration: float = 0.0
) -> DynamicBicycle:
    car = DynamicBicycle(data)
    car.place(0.0, 0.0, 0.0, speed)
    for _ in range(round(seconds / dt)):
        car.step(steering, acceleration, dt)
    return car


@pytest.mark.parametrize("payload", [0.0, 300.0])
@pytest.mark.parametrize("speed", [10.0, 20.0, 30.0])
def test_steady_cornering_obeys_the_understeer_gradient(speed: float, payload: float) -> None:
    """Yaw rate = v delta / (L + K v2) (Rajamani, section 3.3); K = 1573 / 2.68 x 0.48 / 160,000 = 0.00176 rad s2/m."""
    assert CAR_DATA.understeer(CAR_DATA.mass) == pytest.approx(0.00176, rel=0.01)
    car, steering = DynamicBicycle(FREE), 0.0005
    car.mass += payload
    car.place(0.0, 0.0, 0.0, speed)
    for _ in range(1000):
        car.step(steering, (speed - car.speed) / 0.1, 0.005)
    expected = car.speed * steering / (FREE.wheelbase + FREE.understeer(car.mass) * car.speed**2)
    assert car.yaw_rate == pytest.approx(expected, rel=0.005)
    assert car.lateral_acceleration == pytest.approx(car.speed * car.yaw_rate, rel=0.001)


def test_tyre_is_linear_for_small_slip_and_slides_at_its_grip() -> None:
    assert brush_force(1e-6, 160_000.0, 5_000.0) == pytest.approx(-0.16, rel=1e-3)
    assert brush_force(-0.05, 160_000.0, 5_000.0) == pytest.approx(8_000.0 * (1.0 - 8 / 15 + (8 / 15) ** 2 / 3))
    assert brush_force(1.0, 160_000.0, 5_000.0) == -5_000.0
    onset = 3 * 5_000.0 / 160_000.0
    assert brush_force(onset * (1 - 1e-9), 160_000.0, 5_000.0) == pytest.approx(-5_000.0, rel=1e-6)


@pytest.mark.parametrize("steering", [-0.5, 0.2, 0.6])
@pytest.mark.parametrize("speed", [-0.5, 0.3, 1.0])
def test_slow_car_moves_as_the_kinematic_model_says(speed: float, steering: float) -> None:
    slow, rolling = DynamicBicycle(FREE), KinematicBicycle(FREE)
    for car in (slow, rolling):
        car.place(0.0, 0.0, 0.3, speed)
        for _ in range(1000):
            car.step(steering, (speed - car.speed) / 0.1, 0.005)
    assert slow.yaw_rate == pytest.approx(rolling.yaw_rate, rel=0.02)
    assert math.dist((slow.x, slow.y), (rolling.x, rolling.y)) < 0.02 * 5.0 * abs(speed)


def test_kinematic_model_turns_in_the_circle_of_its_wheelbase() -> None:
    """R = L / tan(delta) = 2.68 / tan(0.5) = 4.906 m of the rear axle; a full turn of 2 pi R comes back."""
    car = KinematicBicycle(FREE)
    radius = FREE.wheelbase / math.tan(0.5)
    car.place(0.0, 0.0, 0.0, 1.0)
    steps, farthest = 500, 0.0
    for _ in range(steps):
        car.step(0.5, 0.0, 2.0 * math.pi * radius / steps)
        farthest = max(farthest, math.hypot(car.x, car.y))
    assert math.hypot(car.x, car.y) < 1e-9
    assert car.yaw == pytest.approx(2.0 * math.pi)
    assert farthest == pytest.approx(2.0 * math.hypot(radius, FREE.rear), rel=1e-4)


@pytest.mark.parametrize("friction", [0.3, 0.6, 1.0])
def test_friction_limits_cornering_and_braking(friction: float) -> None:
    car = DynamicBicycle(FREE)
    car.friction = friction
    car.place(0.0, 0.0, 0.0, 25.0)
    most = 0.0
    for _ in range(600):
        car.step(0.25, 0.0, 0.005)
        most = max(most, abs(car.lateral_acceleration))
    assert 0.85 * friction * GRAVITY < most <= friction * GRAVITY * 1.0001
    car.place(0.0, 0.0, 0.0, 25.0)
    car.step(0.0, -20.0, 0.1)
    assert (25.0 - car.speed) / 0.1 == pytest.approx(friction * GRAVITY, rel=0.001)


def test_braking_leaves_less_grip_for_cornering() -> None:
    """Friction circle: of 0.8 g, braking with 0.6 g leaves sqrt(0.64 - 0.36) = 0.53 g."""
    car = DynamicBicycle(FREE)
    car.friction, most = 0.8, 0.0
    car.place(0.0, 0.0, 0.0, 25.0)
    for _ in range(200):
        car.step(0.25, -0.6 * GRAVITY, 0.005)
        along = math.cos(0.25)  # the front tyres pull a little across
        most = max(most, abs(car.lateral_acceleration) * along)
    assert 0.35 * GRAVITY < most < 0.53 * GRAVITY + 0.6 * GRAVITY * math.sin(0.25)


@pytest.mark.parametrize("speed", [1.0, 8.0, 30.0])
def test_no_energy_appears(speed: float) -> None:
    car = DynamicBicycle(FREE)
    car.place(0.0, 0.0, 0.0, speed)
    car.lateral_speed, car.yaw_rate = 0.2 * speed, 0.5

    def energy() -> float:
        return 0.5 * (FREE.mass * (car.speed**2 + car.lateral_speed**2) + FREE.yaw_inertia * car.yaw_rate**2)

    last = start = energy()
    for i in range(2000):
        car.step(0.3 * math.sin(0.02 * i), 0.0, 0.005)
        assert energy() <= last + 1e-6 * start
        last = energy()
    assert last < start


def test_halving_the_step_quarters_the_error() -> None:
    def end(dt: float) -> tuple[float, float]:
        car = DynamicBicycle(replace(CAR_DATA, rolling=0.0))
        car.place(0.0, 0.0, 0.0, 15.0)
        for i in range(round(2.0 / dt)):
            car.step(0.08 * math.sin(2.0 * (i + 0.5) * dt), 0.0, dt)
        return car.x, car.y

    exact = end(0.0002)
    coarse, fine = math.dist(end(0.01), exact), math.dist(end(0.005), exact)
    assert coarse < 0.01
    assert 3.0 < coarse / fine < 5.0


def test_drag_and_rolling_resistance_brake_and_do_not_push_back() -> None:
    """At 30 m/s: (0.6 x 0.66 x 900 N) / 1573 kg + 0.012 g = 0.344 m/s2."""
    assert 30.0 - drive(CAR_DATA, 0.0, 30.0, 0.1).speed == pytest.approx(0.0344, rel=0.01)
    assert drive(CAR_DATA, 0.0, 0.3, 20.0).speed == 0.0
    parked = KinematicBicycle(CAR_DATA)
    parked.slope = 0.1  # m/s2, less than 0.012 g
    parked.place(0.0, 0.0, 0.0, 0.2)
    for _ in range(2000):
        parked.step(0.1, 0.0, 0.01)
    assert parked.speed == 0.0


def test_crosswind_and_bank_push_to_their_side() -> None:
    """0.6 x 5.1 x 10 x hypot(20, 10) = 684 N on 1573 kg; a bank of 0.03 gives 0.29 m/s2 downhill."""
    windy, banked = DynamicBicycle(CAR_DATA), DynamicBicycle(CAR_DATA)
    windy.wind, banked.bank = (0.0, 10.0), 0.03
    for car in (windy, banked):
        car.place(0.0, 0.0, 0.0, 20.0)
        car.step(0.0, 0.0, 0.0001)
    assert windy.lateral_speed / 0.0001 == pytest.approx(684.0 / 1573.0, rel=0.01)
    assert banked.lateral_speed / 0.0001 == pytest.approx(-0.03 * GRAVITY, rel=0.01)
