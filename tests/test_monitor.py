"""What tells a dead sensor from a quiet one: noise that repeats itself to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from runtime_toys import Setup

from physai.catalog import shipped_policies
from physai.deploy.bundle import load_bundle
from physai.deploy.interface import Freshness
from physai.deploy.io import Features, Reading, Replay
from physai.deploy.monitor import CHANCE, LEAST_REPEATS, Monitor, Verdict, repeats_of_a_freeze
from physai.deploy.runtime import Runtime, State
from physai.errors import DeployError

PERIOD_S = 0.05
SHIPPED = sorted(path.name for path in shipped_policies().iterdir() if path.is_dir())


def term(frozen_after_s: float | None, size: int = 1) -> Freshness:
    return Freshness("angle", slice(0, size), 0.1, "fallback", frozen_after_s)


@pytest.mark.parametrize(
    ("noise", "size", "resolution", "repeats"),
    [
        (0.01, 1, 0.0, 3),  # 1.2e-7 of 0.01 x 2.5: 5e-6, and 5e-6^3 is 1e-16
        (0.01, 7, 0.0, LEAST_REPEATS),
        (0.01, 1, 0.001, 9),  # 0.04^9 is 2e-13
        (0.01, 3, 0.001, 3),
        (0.01, 1, 0.01, None),  # 0.4^10 happens
        (0.01, 1, 1.0, None),
        (0.0, 1, 0.0, 10),  # somebody wrote down that it is noisy all the same
    ],
)
def test_noise_says_how_often_it_may_repeat_itself(
    noise: float, size: int, resolution: float, repeats: int | None
) -> None:
    largest = np.full(size, 1.0)
    assert repeats_of_a_freeze(term(0.5, size), noise, largest, resolution, PERIOD_S) == repeats
    assert repeats_of_a_freeze(term(None, size), noise, largest, resolution, PERIOD_S) is None


def test_noise_in_steps_repeats_itself_no_more_often_than_that() -> None:
    """With steps as wide as the noise, the same value follows no more often than is reckoned with."""
    readings = np.round(np.random.default_rng(0).standard_normal(100_000))
    assert np.mean(readings[1:] == readings[:-1]) < 1.0 / math.sqrt(2.0 * math.pi)


def judged(monitor: Monitor, reading: Reading, values: np.ndarray, now: int) -> Verdict:
    reading.values[:] = values
    for index in range(len(reading.sequence)):
        reading.sequence[index], reading.received_ns[index] = reading.sequence[index] + 1, now
    return monitor.judge(reading, now)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_dead_sensor_of_a_shipped_policy_is_seen_within_five_readings_and_no_living_one(name: str) -> None:
    bundle = load_bundle(shipped_policies() / name)
    spec, period = bundle.spec, round(1e9 / bundle.spec.control_hz)
    monitor, reading = Monitor(bundle.interface, spec), Reading.empty(spec)
    for observations, _ in bundle.golden:
        monitor.reset()
        for step, values in enumerate(observations):
            judged(monitor, reading, values, (step + 1) * period)
            assert monitor.worst == ""
    for part in (spec.observation_slices[t.name] for t in spec.observations if t.noise_std):
        monitor.reset()
        for step, values in enumerate(observations[:6]):
            dead = values.copy()
            dead[part] = bundle.interface.seen["mean"][part]
            assert "frozen" not in monitor.worst or step > LEAST_REPEATS
            judged(monitor, reading, dead, (step + 1) * period)
        assert spec.observation_slices[monitor.worst.removesuffix(" is frozen")] == part


def test_a_driver_says_which_sensors_are_coarse() -> None:
    """Encoders of a resting arm repeat themselves; without a word of the driver that is a dead sensor."""
    for resolution, state in (({}, State.DEGRADED), ({"joint_velocities": 0.02}, State.RUNNING)):
        setup = Setup(lambda: (0.1, 0.0, 0.0))
        of = Features.of(setup.bundle.spec)
        setup.robot.has = Features(of.observations, of.commands, of.rate_hz, resolution)
        setup.runtime = Runtime(setup.bundle, setup.robot, clock=setup.clock, watchdog=setup.watchdog)
        setup.running()
        setup.robot.frozen = {1}
        setup.tick(20)
        assert setup.runtime.state is state


def test_what_repeats_itself_in_a_recording_need_not_have_come() -> None:
    setup = Setup()
    robot = Replay(setup.bundle.spec, np.repeat(setup.bundle.golden[0][0][:10], 5, axis=0), setup.clock)
    setup.runtime = Runtime(setup.bundle, robot, clock=setup.clock)
    setup.running()
    setup.tick(20)
    assert setup.runtime.state is State.RUNNING


def test_a_resolution_of_what_is_not_observed_is_refused() -> None:
    setup = Setup()
    of = Features.of(setup.bundle.spec)
    setup.robot.has = Features(of.observations, of.commands, of.rate_hz, {"joint_velocity": 0.01})
    with pytest.raises(DeployError, match="a resolution of joint_velocity, which it does not observe"):
        Runtime(setup.bundle, setup.robot, clock=setup.clock)


def test_the_chance_is_that_of_a_long_life() -> None:
    assert pytest.approx(1.0, abs=0.1) == 10 * 50 * 3600 * 24 * 365 * 60 * CHANCE
