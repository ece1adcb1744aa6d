"""The state machine of the runtime: what starts, degrades, stops and latches it, and that nothing starts by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from runtime_toys import FakeRobot, Setup

from physai.deploy.monitor import LEAST_REPEATS
from physai.deploy.runtime import RECOVERY_TICKS, Runtime, State
from physai.deploy.safety import tightened
from physai.errors import BundleError, DeployError

FULL = (0.5, -0.5, 0.5)


def test_it_arms_blends_and_runs() -> None:
    setup = Setup(lambda: FULL)
    assert setup.runtime.state is State.VERIFIED
    setup.tick(3)
    assert setup.robot.sent == [], "nothing is sent before it is armed"
    setup.runtime.arm()
    states = []
    for _ in range(8):
        setup.tick()
        states.append(setup.runtime.state.value)
    assert states == ["blending"] * 4 + ["running"] * 4  # 0.2 s at 20 Hz
    speeds = [command[0] for command in setup.robot.sent]
    assert speeds[:6] == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5, 0.5])
    assert setup.robot.valid_s[0] == setup.control.expiry_s == pytest.approx(0.125)
    assert setup.watchdog.armed
    assert setup.watchdog.beats == 8


def test_it_waits_for_observations() -> None:
    setup = Setup(lambda: FULL)
    setup.robot.silent = {0}
    setup.runtime.arm()
    setup.tick(50)
    assert setup.runtime.state is State.ARMED
    assert set(map(tuple, setup.robot.sent)) == {(0.0, 0.0, 0.0)}
    setup.robot.silent = set()
    setup.tick(10)
    assert setup.runtime.state is State.RUNNING


def test_stopping_ends_at_rest_and_needs_arming() -> None:
    setup = Setup(lambda: FULL).running()
    setup.runtime.stop()
    setup.tick(10)
    assert setup.runtime.state is State.VERIFIED
    assert setup.robot.sent[-1] == [0.0, 0.0, 0.0]
    assert not setup.watchdog.armed
    sent = len(setup.robot.sent)
    setup.tick(10)
    assert len(setup.robot.sent) == sent
    setup.running()
    assert setup.runtime.state is State.RUNNING


def silence(robot: FakeRobot) -> None:
    robot.silent = set(range(5))


def not_a_number(robot: FakeRobot) -> None:
    robot.normal = np.full_like(robot.normal, np.nan)


def far_away(robot: FakeRobot) -> None:
    robot.normal = robot.normal + 1.0


def freeze(robot: FakeRobot) -> None:
    robot.frozen = {1}


def braking(robot: FakeRobot) -> None:
    robot.reading.follows = False


@pytest.mark.parametrize(
    ("trouble", "words", "ticks"),
    [
        (silence, "joint_positions is old", 3),
        (not_a_number, "joint_positions is not finite", 1),
        (far_away, "is far from anything seen in training", 20),
        (freeze, "joint_velocities is frozen", LEAST_REPEATS + 1),
        (braking, "the actuators brake by themselves", 1),
    ],
)
def test_bad_observations_bring_it_to_rest_and_then_latch(trouble, words: str, ticks: int) -> None:
    setup = Setup(lambda: FULL).running()
    trouble(setup.robot)
    setup.tick(ticks)
    assert setup.runtime.state is State.DEGRADED
    assert words in setup.runtime.cause
    setup.tick(8)
    assert setup.robot.sent[-1] == [0.0, 0.0, 0.0]
    setup.tick(30)
    assert setup.runtime.state is State.FAULT, "longer than max_fallback_s"
    assert words in setup.runtime.cause
    assert setup.robot.stops == 1


def test_it_goes_on_when_observations_are_good_again() -> None:
    setup = Setup(lambda: FULL).running()
    setup.robot.silent = set(range(5))
    setup.tick(8)
    assert setup.runtime.state is State.DEGRADED
    setup.robot.silent = set()
    setup.tick(RECOVERY_TICKS - 1)
    assert setup.runtime.state is State.DEGRADED
    setup.tick(8)
    assert setup.runtime.state is State.RUNNING
    assert setup.robot.sent[-1] == pytest.approx(FULL)
    assert setup.runtime.cause == ""


def test_one_lost_observation_is_nothing() -> None:
    setup = Setup(lambda: FULL).running()
    setup.robot.silent = set(range(5))
    setup.tick(2)
    setup.robot.silent = set()
    setup.tick()
    assert setup.runtime.state is State.RUNNING


@pytest.mark.parametrize(("on_stale", "state"), [("hold", State.RUNNING), ("stop", State.FAULT)])
def test_what_to_do_with_a_stale_term_is_in_the_manifest(on_stale: str, state: State) -> None:
    setup = Setup(lambda: FULL)
    terms = [replace(term, on_stale=on_stale) for term in setup.bundle.interface.terms]
    bundle = replace(setup.bundle, interface=replace(setup.bundle.interface, terms=tuple(terms)))
    setup.runtime = Runtime(bundle, setup.robot, clock=setup.clock)
    setup.running()
    setup.robot.silent = {2}
    setup.tick(12)
    assert setup.runtime.state is state
    setup.tick(30)
    assert setup.runtime.state is not State.RUNNING, "nothing is held for ever"


def test_a_fault_is_latched_until_a_person_says_so() -> None:
    setup = Setup(lambda: FULL).running()
    setup.runtime.stop("somebody is in the cell")
    setup.tick(20)
    assert setup.runtime.state is State.FAULT
    assert setup.robot.sent[-1] == [0.0, 0.0, 0.0]
    sent = len(setup.robot.sent)
    with pytest.raises(DeployError, match=r"a fault is latched \(somebody is in the cell\)"):
        setup.runtime.arm()
    setup.tick(100)
    assert len(setup.robot.sent) == sent
    with pytest.raises(DeployError, match="say who"):
        setup.runtime.acknowledge(" ")
    setup.runtime.acknowledge("Ada")
    setup.tick(5)
    assert setup.runtime.state is State.VERIFIED, "acknowledged is not started"
    assert ("acknowledged by Ada") in [event for _, event in setup.log.records]
    setup.running()
    assert setup.runtime.state is State.RUNNING


def test_a_policy_that_puts_out_no_number_is_stopped() -> None:
    says = [FULL]
    setup = Setup(lambda: says[0]).running()
    says[0] = (0.5, math.nan, 0.5)
    setup.tick(10)
    assert setup.runtime.state is State.FAULT
    assert "no number" in setup.runtime.cause
    assert np.isfinite(setup.robot.sent).all()


def test_late_commands_are_dropped_and_many_of_them_degrade() -> None:
    setup = Setup()
    late = [False]

    def says() -> tuple[float, ...]:
        if late[0]:
            setup.clock.sleep(0.04)  # of the 25 ms that are allowed
            return (-0.5, -0.5, -0.5)
        return FULL

    setup.__init__(says)  # type: ignore[misc]
    setup.running()
    late[0] = True
    setup.tick()
    assert setup.robot.sent[-1] == pytest.approx(FULL), "the late one is not used"
    assert (setup.runtime.misses, setup.runtime.state) == (1, State.RUNNING)
    setup.tick(2)
    assert setup.runtime.state is State.DEGRADED
    assert setup.runtime.cause == "commands come too late"


def test_a_robot_that_does_not_answer_is_a_fault() -> None:
    setup = Setup(lambda: FULL).running()

    def gone(robot: FakeRobot) -> None:
        raise ConnectionResetError(104, "connection reset by peer")

    setup.robot.before_reading = gone
    setup.tick()
    assert setup.runtime.state is State.FAULT
    assert "does not answer (connection reset by peer)" in setup.runtime.cause


@pytest.mark.parametrize("trouble", ["log", "watchdog trips", "watchdog dies", "stopped"])
def test_what_watches_over_it_can_stop_it(trouble: str) -> None:
    setup = Setup(lambda: FULL).running()
    if trouble == "log":
        setup.log.failed = "No space left on device"
    elif trouble == "stopped":
        setup.robot.reading.stopped = True
    elif trouble == "watchdog trips":
        setup.watchdog.tripped = True
    else:
        setup.watchdog.alive = False
    setup.tick(10)
    assert setup.runtime.state is State.FAULT
    assert trouble.split()[0] in setup.runtime.cause
    if trouble == "watchdog dies":
        with pytest.raises(DeployError, match="the watchdog is gone"):
            setup.runtime.acknowledge("Ada")


def test_another_policy_is_blended_in_and_the_old_one_comes_back() -> None:
    setup = Setup(lambda: FULL).running()
    other = replace(Setup(lambda: (-0.5, 0.5, -0.5)).bundle, digest="b" * 64)
    setup.runtime.swap(other)
    setup.tick()
    assert setup.robot.sent[-1][0] == pytest.approx(0.25)  # a quarter of the way from 0.5 to -0.5
    setup.tick(4)
    assert setup.robot.sent[-1][0] == pytest.approx(-0.5)
    setup.runtime.rollback()
    setup.tick(5)
    assert setup.robot.sent[-1] == pytest.approx(FULL)
    assert setup.runtime.bundle is setup.bundle
    foreign = replace(other, spec=replace(other.spec, control_hz=10.0))
    with pytest.raises(DeployError, match="sees or commands something else"):
        setup.runtime.swap(foreign)


def test_a_shadow_is_computed_and_never_sent() -> None:
    shadow = Setup(lambda: (-0.4, -0.4, -0.4)).bundle
    setup = Setup(lambda: FULL, shadow=shadow).running()
    assert setup.robot.sent[-1] == pytest.approx(FULL)
    assert setup.log.records[-1][0]["shadow"] == pytest.approx([-0.4, -0.4, -0.4])


def test_the_log_says_what_happened_and_why() -> None:
    setup = Setup(lambda: (9.0, 0.0, 0.0)).running()
    events = [event for _, event in setup.log.records if event]
    assert events[:2] == ["blending", "shield"]
    last = setup.log.records[-1][0]
    assert last["state"] == "running"
    assert last["reasons"] == 2
    assert last["correction"] == pytest.approx((9.0 - 0.6) / 1.2, rel=1e-5)
    assert len(last["observation"]) == setup.bundle.spec.observation_size


def site_limits(setup: Setup, **changes: float) -> dict:
    limits = {**setup.bundle.limits, "workspace": None}
    term = dict(limits["commands"]["tip_velocity"])
    for what, value in changes.items():
        term[what] = [value] * 3
    return {**limits, "commands": {"tip_velocity": term}}


def test_a_site_may_only_tighten() -> None:
    setup = Setup(lambda: FULL)
    tight = site_limits(setup, low=-0.1, high=0.1)
    slow = Setup(lambda: FULL, site=tight).running()
    assert np.abs(slow.robot.sent).max() == pytest.approx(0.1)
    assert tightened(setup.bundle.limits, tight)["workspace"] == setup.bundle.limits["workspace"]
    for change, words in (({"high": 0.7}, "high 0.7 is looser"), ({"rate": 100.0}, "rate 100 is looser")):
        with pytest.raises(BundleError, match=words):
            Setup(lambda: FULL, site=site_limits(setup, **change))
    with pytest.raises(BundleError, match="lacks 'basis'"):
        Setup(lambda: FULL, site={})


def test_it_refuses_to_run_where_it_cannot() -> None:
    setup = Setup()
    for has, words in (
        (replace(setup.robot.has, rate_hz=10.0), "rate_hz 10.0 and the policy needs 20"),
        (replace(setup.robot.has, observations={"joint_positions": 6}), "observations"),
        (replace(setup.robot.has, commands={"tip_velocity": ("x", "z", "y")}), "commands"),
    ):
        setup.robot.has = has
        with pytest.raises(DeployError, match=words):
            Runtime(setup.bundle, setup.robot)
    setup = Setup()
    with pytest.raises(DeployError, match=r"needs 50\.0 ms .* 25 ms are allowed"):
        Runtime(replace(setup.bundle, seconds=np.full(10, 0.05)), setup.robot)
    endless = replace(setup.bundle.safety, high=np.full(3, np.inf))
    with pytest.raises(DeployError, match=r"tip_velocity\.x has no limits"):
        Runtime(replace(setup.bundle, safety=endless), setup.robot)


def test_the_driver_says_what_was_really_sent() -> None:
    setup = Setup(lambda: FULL)
    send = setup.robot.send

    def slower(command, valid_s, tick):
        send([0.5 * v for v in command], valid_s, tick)
        return [0.5 * v for v in command]

    setup.robot.send = slower
    setup.running()
    assert setup.runtime.shield.elements[0].last == pytest.approx(setup.robot.sent[-1][0])
