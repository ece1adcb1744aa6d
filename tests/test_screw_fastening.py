"""ScrewFastening: the thread is exact, torque and cross-threading come from physics, the expert tightens well."""

from dataclasses import replace
from math import tau

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.assembly import screw_fastening as task
from physai_envs.control import EndEffectorTwist, SpindleSpeed
from physai_envs.env import TEST_SEED_START
from physai_envs.parts.screw import JAM, LENGTH, PITCH, STRIP, STRIPPED_TORQUE, Hole, Screw
from physai_envs.robot import Robot
from physai_envs.robots.panda import PANDA_SCREWDRIVER
from physai_envs.world import Physics, World, quaternion_from_euler

HZ = 120
HOLE = Hole(depth=0.0021, prevailing=0.25, rate=1.6, start=1.0)  # m: three turns deep


class Bench:
    """A screwdriver that stands still over a hole, its bit pressed down by its spring."""

    def __init__(self, hole=HOLE, aside=0.0, tilt=0.0, press=0.008):
        self.world = World(Physics(hz=HZ))
        self.robot = robot = Robot(self.world, PANDA_SCREWDRIVER)
        self.law = SpindleSpeed(speed=15.0, reverse=15.0, torque=4.0)
        self.motor = self.law.bind(robot, 0.05)
        self.screw = Screw(self.world, robot, lambda: self.force)
        robot.place_tip((0.5, 0.0, 0.1 + LENGTH))
        self.screw.place(hole, (0.5 - aside, 0.0, 0.1), quaternion_from_euler((tilt, 0.0, 0.0)))
        robot.hold_tool()
        self.arm = EndEffectorTwist(linear=0.1).bind(robot, 0.05)
        self.arm.reset()
        self.motor.reset()
        self.screw.reset()
        self.down(press)

    @property
    def force(self):
        return self.law.stiffness * self.robot.body.joint_states[task.SLIDE][0]

    def down(self, way):
        """Moves the arm down in a second, and waits for half of one."""
        self.run(0.0, 1.0, feed=-way)
        self.run(0.0, 0.5)

    def run(self, speed, seconds, feed=0.0):
        """Turns the spindle while the arm moves at `feed` [m/s]."""
        self.motor.apply((speed,))
        for _ in range(round(seconds * 20)):
            self.arm.apply((0.0, 0.0, feed))
            self.screw.start()
            self.world.advance(HZ // 20, [self.motor.before_physics_step], [self.screw.after_physics_step])

    def drive(self, speed, seconds):
        """Turns the spindle with the feed that belongs to it."""
        self.run(speed, seconds, feed=-speed * PITCH / tau)

    @property
    def angle(self):
        return self.screw.body.joint_states[3][0]

    @property
    def height(self):
        return self.screw.position[2]


@pytest.fixture
def bench():
    made = []

    def make(**values):
        made.append(Bench(**values))
        return made[-1]

    yield make
    for one in made:
        one.world.close()


def test_screw_rests_on_the_mouth_under_the_force_of_the_spring(bench):
    """The spring is pressed together by 8 mm: 8 N; the mouth gives by 0.2 mm, as the solver leaves it."""
    b = bench()
    assert b.height == pytest.approx(0.0, abs=3e-4)
    assert b.force == pytest.approx(8.0, abs=0.5)
    assert not b.screw.engaged


def test_pitch_is_exact(bench):
    """Two turns at three speeds: 0.7 mm each, within a micrometre; the spindle turns as the screw does."""
    b = bench()
    b.drive(6.0, 1.2)
    assert b.screw.engaged
    angle, height = b.angle, b.height
    for speed, seconds in ((2.0, 1.0), (8.0, 0.5), (-3.0, 0.5), (6.0, 0.5)):
        b.drive(speed, seconds)
        assert height - b.height == pytest.approx(PITCH * (b.angle - angle) / tau, abs=1e-6)
    assert b.robot.body.joint_states[task.SPIN][0] == pytest.approx(b.angle, abs=0.02)
    assert b.screw.turns == pytest.approx((b.angle - HOLE.start) / tau, abs=0.01)  # caught within one physics step


def test_thread_does_not_catch_without_pressure_or_backwards(bench):
    lifted = bench(press=-0.004)
    lifted.run(6.0, 1.5)
    light = bench(press=0.001)  # 1 N, half of what it takes
    light.run(6.0, 1.5)
    back = bench()
    back.run(-6.0, 1.5)
    for b in (lifted, light, back):
        assert not b.screw.engaged
        assert not b.screw.crossed


def test_thread_catches_within_one_turn_at_its_start(bench):
    b = bench(hole=replace(HOLE, start=5.0))
    b.run(6.0, 0.75)  # 4.5 rad
    assert not b.screw.engaged
    b.run(6.0, 0.15)
    assert b.screw.engaged


def test_an_engaged_screw_is_held(bench):
    b = bench(aside=0.0004)
    b.drive(6.0, 1.2)
    assert b.screw.engaged
    assert 0.0001 < b.screw.offset < HOLE.capture
    assert np.hypot(*b.screw.position[:2]) == pytest.approx(b.screw.offset, abs=2e-4)
    height = b.height
    b.run(0.0, 0.5, feed=0.002)  # the arm goes up by 1 mm: the spring gives, the thread does not
    assert b.height == pytest.approx(height, abs=3e-5)  # while the spindle comes to rest
    assert b.force == pytest.approx(7.0, abs=0.7)


@pytest.mark.parametrize("askew", [{"aside": 0.0009}, {"tilt": 0.05}])
def test_a_misaligned_screw_is_cross_threaded_and_jams(bench, askew):
    b = bench(**askew)
    b.run(6.0, 0.2)
    assert b.screw.crossed
    assert not b.screw.engaged
    start, height = b.angle, b.height
    b.run(2.0, 0.2)
    assert b.height == pytest.approx(height, abs=2e-5)  # it does not go in
    # the motor takes 4 Nm/rad times what it was turned by
    assert b.screw.torque == pytest.approx(HOLE.prevailing + JAM * (b.angle - b.screw._start), abs=0.01)
    assert b.angle > start


def test_far_from_the_hole_it_turns_on_the_flat(bench):
    b = bench(aside=0.004)
    b.run(6.0, 1.5)
    assert not b.screw.engaged
    assert not b.screw.crossed


def test_torque_rises_only_when_seated_and_the_motor_feels_it(bench):
    b = bench()
    b.drive(6.0, 1.2)
    for _ in range(200):
        if b.screw.seated:
            break
        assert b.screw.motor_torque < HOLE.prevailing + 0.1  # and the torque that turns the bit itself
        b.drive(2.0, 0.05)
    for _ in range(6):
        b.drive(2.0, 0.1)
        beyond = (b.screw.turns * PITCH - HOLE.depth) / PITCH * tau  # rad
        assert b.screw.torque == pytest.approx(HOLE.prevailing + HOLE.rate * beyond, abs=1e-6)
    b.run(0.0, 0.2)
    assert b.screw.motor_torque == pytest.approx(b.screw.torque, rel=0.02)  # the spindle holds what it has built up
    assert 1.5 < b.screw.torque < STRIP
    assert b.screw.peak_torque == pytest.approx(b.screw.torque, rel=0.05)


def test_too_much_torque_strips_the_thread(bench):
    b = bench()
    b.drive(6.0, 1.2)
    b.drive(4.0, 4.0)
    assert b.screw.stripped
    assert b.screw.torque == STRIPPED_TORQUE


def test_a_screw_comes_out_again_and_lets_go(bench):
    b = bench()
    b.drive(6.0, 1.2)
    depth = -b.height
    assert depth > 0.0001
    b.drive(-6.0, 1.2)
    assert not b.screw.engaged
    assert b.height == pytest.approx(0.0, abs=3e-4)


def test_a_weak_motor_stalls_against_the_seat():
    b = Bench()
    b.law = SpindleSpeed(speed=15.0, reverse=15.0, torque=1.0)
    b.motor = b.law.bind(b.robot, 0.05)
    b.motor.reset()
    b.drive(6.0, 1.2)
    b.drive(3.0, 5.0)
    assert b.screw.seated
    assert b.screw.torque < 1.1
    assert not b.screw.stripped
    b.world.close()


@pytest.fixture(scope="module")
def env():
    env = registry.make("screw_fastening").unwrapped
    yield env
    env.close()


def play(env, seed, act):
    env.reset(seed=seed)
    while True:
        _, _, terminated, truncated, info = env.step(act(env))
        if terminated or truncated:
            return info


def test_expert_tightens_within_the_window(env):
    for i in range(4):
        info = play(env, TEST_SEED_START + i, lambda env: env.expert_action())
        assert info["is_success"]
        assert info["metrics"]["final_torque"] == pytest.approx(task.TARGET, rel=0.05)
        assert info["metrics"]["peak_axial_force"] < 10.0
        assert info["metrics"]["offset_at_engagement"] < 0.0005


def test_nothing_and_chance_tighten_nothing(env):
    rng = np.random.default_rng(0)
    assert not play(env, TEST_SEED_START, lambda env: np.zeros(4))["is_success"]
    for i in range(5):
        assert not play(env, TEST_SEED_START + i, lambda env: rng.uniform(-1, 1, 4))["is_success"]


def test_a_driver_that_does_not_stop_spoils_the_joint(env):
    def on(env):
        action = env.expert_action()
        if task.screw(env.scene).engaged:
            action[3] = 0.0  # 4.5 rad/s
        return action

    info = play(env, TEST_SEED_START, on)
    assert info["reward_terms"]["scrapped"] == 1.0
    assert info["metrics"]["final_torque"] > 1.1 * task.TARGET
    assert not task.screw(env.scene).stripped


def test_a_driver_that_turns_beside_the_hole_cross_threads(env):
    def beside(env):
        action = env.expert_action()
        dx = task.tip_to_hole(env.scene)[0]
        return (task.GAIN * (dx + 0.0009) / task.SPEED, action[1], -0.25 if task.axial_force(env.scene) < 8 else 0, 0.0)

    info = play(env, TEST_SEED_START + 1, lambda env: np.clip(beside(env), -1, 1))
    assert info["metrics"]["cross_threaded"] == 1.0
    assert not info["is_success"]


def test_pressing_on_ends_the_episode(env):
    info = play(env, 2, lambda env: (0.0, 0.0, -1.0, -0.6))
    assert info["reward_terms"]["scrapped"] == 1.0
    assert task.FORCE_LIMIT < task.axial_force(env.scene) < task.FORCE_LIMIT + 1.5
    assert task.slip(env.scene) < task.SLIPPED


@pytest.mark.parametrize("side", [(0.0, 0.0), (1.0, 0.4), (-1.0, 0.0), (0.0, -1.0)])
def test_neither_screw_nor_bit_goes_through_the_part(env, side):
    """Pressed on it anywhere, turning or not, the screw stays on the surface, and the bit at the screw's other end."""
    for seed, turn in ((0, -1.0), (1, -0.6), (2, 1.0)):
        env.reset(seed=seed)
        terminated = truncated = False
        while not (terminated or truncated):
            _, _, terminated, truncated, _ = env.step((*side, -1.0, turn))
            joint = task.screw(env.scene)
            assert joint.engaged or joint.position[2] > -0.0005  # Bullet's stop gives way by 0.02 mm/N
            assert -task.tip_to_hole(env.scene)[2] > -task.DEPTH - task.DEPTH_RANGE - task.SLIPPED


def test_torque_sensor_has_the_gain_of_its_episode(env):
    _, info = env.reset(seed=4)
    for _ in range(200):
        env.step(env.expert_action())
        if task.screw(env.scene).motor_torque > 0.05:
            break
    read = task.spindle_torque(env.scene) / task.screw(env.scene).motor_torque
    assert read == pytest.approx(info["randomization"]["torque_gain"])


def test_being_done_is_worth_more_than_any_waiting(env):
    """No state that lasts pays more than zero a step, so an episode that ends by success loses nothing."""
    lasting = [t for t in env.task.rewards if t.name not in ("finished", "scrapped", "time")]
    time = next(t for t in env.task.rewards if t.name == "time")
    assert sum(t.weight for t in lasting) <= -time.weight + 1e-9
