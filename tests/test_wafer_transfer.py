"""WaferTransfer: friction holds the wafer as theory says, the drives do what they are told, the expert places it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.assembly import wafer_transfer as task
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.parts import wafer as parts
from physai_envs.robot import Robot
from physai_envs.robots.wafer_robot import ARM, DRIVE, PADS, RETRACTED, WAFER_ROBOT
from physai_envs.world import World

G = 9.81  # m/s2
DT = 1.0 / task.TASK.physics.hz


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("wafer_transfer").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


class Rig:
    """The robot with a wafer on its fork, retracted, with the given friction."""

    def __init__(self, friction: float) -> None:
        self.world = World(task.TASK.physics)
        self.robot = Robot(self.world, WAFER_ROBOT)
        self.fork, self.wafer = parts.add_fork(self.world, "fork"), parts.add_wafer(self.world, "wafer")
        self.world.reset()
        self.wafer.set_dynamics(lateralFriction=friction)
        self.fork.place((RETRACTED, 0.0, PADS))
        self.world.attach(self.robot.body, self.fork, task.BOLT, parent_link=self.robot.last_link)
        self.wafer.place((RETRACTED, 0.0, PADS + 0.5 * parts.THICKNESS))
        self.radius, self.speed = RETRACTED, 0.0
        self.run(0.2)
        self.start = self.offset()

    def run(self, seconds: float, push: float = 0.0, swing: float = 0.0) -> None:
        """Extends with a constant acceleration [m/s2] and swings with a constant speed [rad/s]."""
        for _ in range(round(seconds / DT)):
            self.speed += push * DT
            fold = ARM.bend(self.radius + 0.5 * self.speed * DT) * self.speed
            rates = [0.0, swing + fold, -2.0 * fold, fold]
            self.robot.body.drive_velocity(self.robot.joints, rates, self.robot.effort)
            self.world.advance(1)
            self.radius += self.speed * DT

    def offset(self) -> np.ndarray:
        """Place of the wafer in the frame of the fork [m], (2,)."""
        (fx, fy, _), (_, _, qz, qw) = self.fork.pose
        x, y, _ = self.wafer.position
        c, s = qw * qw - qz * qz, 2.0 * qw * qz
        return np.array((c * (x - fx) + s * (y - fy), c * (y - fy) - s * (x - fx)))

    def slip(self) -> float:
        """Distance that it has slipped since it was put down [m]."""
        return float(np.linalg.norm(self.offset() - self.start))


# ---- the wafer on its pads ------------------------------------------------------------------------------------------


def test_wafer_at_rest_does_not_creep() -> None:
    rig = Rig(0.25)
    rig.run(5.0)
    assert rig.slip() < 1e-5
    assert rig.wafer.position[2] == pytest.approx(PADS + 0.5 * parts.THICKNESS, abs=5e-5)
    rig.world.close()


@pytest.mark.parametrize("friction", [0.25, 0.5])
def test_wafer_holds_below_friction_times_gravity_and_slips_above(friction: float) -> None:
    below, above = Rig(friction), Rig(friction)
    below.run(0.3, push=0.97 * friction * G)
    above.run(0.3, push=1.03 * friction * G)
    assert below.slip() < 1e-4
    assert above.slip() > 1e-3  # 0.03 x 0.25 x 9.81 x 0.3^2 / 2 = 3.3 mm
    below.world.close()
    above.world.close()


@pytest.mark.parametrize("excess", [1.1, 1.4])
def test_wafer_slips_as_far_as_theory_says(excess: float) -> None:
    """The fork gains on a wafer that friction alone moves: (a - mu g) t^2 / 2."""
    rig = Rig(0.3)
    rig.run(0.3, push=excess * 0.3 * G)
    assert rig.slip() == pytest.approx(0.5 * (excess - 1.0) * 0.3 * G * 0.3**2, rel=0.04)
    assert rig.start[0] - rig.offset()[0] > 0.0  # it stays behind
    rig.world.close()


def test_swinging_does_not_make_the_wafer_creep_outward() -> None:
    """1.5 rad/s at 0.355 m is 0.8 m/s2, a third of what friction bears; on a link of the arm it crept 1.9 mm."""
    rig = Rig(0.25)
    for i in range(120):
        rig.run(DT, swing=1.5 * (i + 1) / 120)
    rig.run(1.5, swing=1.5)
    assert rig.slip() < 1e-4
    rig.run(0.5, swing=3.2)  # 3.6 m/s2
    assert rig.slip() > 5e-3
    rig.world.close()


# ---- the drives -----------------------------------------------------------------------------------------------------


def test_joints_put_the_fork_where_they_should() -> None:
    for angle, radius in ((0.3, 0.36), (-1.2, 0.5), (2.0, 0.72)):
        x, y, yaw = ARM.place(*ARM.joints(angle, radius))
        assert (x, y, yaw) == pytest.approx((radius * math.cos(angle), radius * math.sin(angle), angle), abs=1e-12)
        folded = ARM.joints(angle, radius + 1e-6)[2] - ARM.joints(angle, radius)[2]
        assert ARM.bend(radius) == pytest.approx(folded / 1e-6, rel=1e-4)


def drive(env: TaskEnv, command: tuple[float, float, float], seconds: float) -> None:
    for _ in range(round(seconds * task.CONTROL_HZ)):
        env.step(env.policy_spec.to_action(command))


def test_drive_does_what_it_is_told(env: TaskEnv) -> None:
    env.reset(seed=1, options={"randomization": {"command_delay": 0.0}})
    env.scene.world.reset()
    task.put_fork(env.scene, env.scene.memory.taught[0] + 2.0, 0.4)
    env._controllers[0][0].reset()
    drive(env, (-0.5, 0.2, 0.02), 0.5)
    before = task.fork(env.scene)
    drive(env, (-0.5, 0.2, 0.0), 0.5)
    after = task.fork(env.scene)
    assert (after.angle - before.angle, after.radius - before.radius) == pytest.approx((-0.25, 0.1), abs=0.002)
    assert (after.swing, after.out) == pytest.approx((-0.5, 0.2), abs=0.01)
    assert after.height == pytest.approx(task.CARRY + 0.01, abs=1e-4)


def test_fork_is_where_the_joints_say(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    for _ in range(40):
        env.step(env.expert_action())
        f, (x, y, z) = task.fork(env.scene), env.scene["fork"].position
        assert (math.hypot(x, y), math.atan2(y, x)) == pytest.approx((f.radius, f.angle), abs=1e-4)
        assert z - task.PINS == pytest.approx(f.height, abs=2e-5)


def test_drive_is_slow_near_the_taught_place_and_stops_at_its_limits(env: TaskEnv) -> None:
    env.reset(seed=2, options={"difficulty": 0.0})
    drive(env, (0.0, -DRIVE.radial, 0.0), 0.2)
    assert abs(task.fork(env.scene).out) < 0.15 * DRIVE.radial
    assert DRIVE.share(1.0, 0.7, (1.0, 0.7)) == DRIVE.slowest
    assert DRIVE.share(1.0, 0.7, (1.0, 0.7 - 0.5 * DRIVE.slow_zone)) == pytest.approx(0.5)
    assert DRIVE.share(1.0, 0.5, (2.0, 0.7)) == 1.0
    drive(env, (0.0, -DRIVE.radial, 0.05), 2.0)
    f = task.fork(env.scene)
    assert DRIVE.radii[0] - 0.002 < f.radius < DRIVE.radii[0] + 0.02
    assert f.height == pytest.approx(PADS + DRIVE.heights[1] - task.PINS, abs=1e-4)


def test_soft_drives_swing_and_jerks_shake(env: TaskEnv) -> None:
    def peak(stiffness_hz: float) -> float:
        env.reset(seed=3)
        env.scene.robot.drive.stiffness_hz = stiffness_hz
        env._controllers[0][0].reset()
        drive(env, (0.0, -0.1, 0.0), 0.3)  # 2 m/s2 for one control step
        return float(env.scene.robot.drive.peak_acceleration)

    assert 2.0 < peak(12.0) < 3.5
    assert peak(25.0) > peak(5.0) > 0.5


# ---- the task -------------------------------------------------------------------------------------------------------


def play(env: TaskEnv, seed: int, noise: float = 0.0, options: Any = None) -> dict[str, object]:
    env.reset(seed=seed, options=options)
    rng, over, info = np.random.default_rng(seed), False, {}
    while not over:
        action = np.clip(env.expert_action() + noise * rng.standard_normal(3), -1.0, 1.0)
        _, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    return info


def test_expert_succeeds(env: TaskEnv) -> None:
    infos = [play(env, TEST_SEED_START + i) for i in range(15)]
    assert sum(info["is_success"] for info in infos) >= 14
    for name, most in (("slip", task.MOST_SLIP), ("placement_error", task.WITHIN), ("takt", task.TAKT)):
        assert np.median([info["metrics"][name] for info in infos]) < most


@pytest.mark.parametrize("delay_s", [0.0, 0.02, task.MOST_DELAY])
def test_expert_bears_commands_that_come_late(env: TaskEnv, delay_s: float) -> None:
    options = {"randomization": {"command_delay": delay_s}}
    assert sum(play(env, TEST_SEED_START + i, options=options)["is_success"] for i in range(8)) >= 7


def test_expert_recovers_from_disturbed_actions(env: TaskEnv) -> None:
    assert sum(play(env, TEST_SEED_START + i, noise=0.02)["is_success"] for i in range(10)) >= 9


@pytest.mark.parametrize("kind", ["nothing", "random", "full speed"])
def test_without_skill_no_wafer_arrives(env: TaskEnv, kind: str) -> None:
    for i in range(8):
        env.reset(seed=TEST_SEED_START + i)
        rng, over = np.random.default_rng(i), False
        while not over:
            wild = np.sign(env.expert_action()) if kind == "full speed" else rng.uniform(-1.0, 1.0, 3)
            _, _, terminated, truncated, info = env.step(np.zeros(3) if kind == "nothing" else wild)
            over = terminated or truncated
        assert not info["is_success"]
        assert terminated == (kind != "nothing")


def at_station(env: TaskEnv, along: float, seed: int = 5) -> bool:
    """Lowers the fork with the wafer `along` [m] from where it belongs; whether that was a success."""
    env.reset(seed=seed, options={"difficulty": 0.0})
    scene, angle = env.scene, env.scene.memory.taught[0]
    x, y, _ = scene.memory.goal
    scene["wafer"].place(
        (x + along * math.cos(angle), y + along * math.sin(angle), task.PINS + task.CARRY + 0.5 * parts.THICKNESS)
    )
    scene.memory.at_start = task.wafer_offset(scene)
    for _ in range(12):
        info = env.step(env.policy_spec.to_action((0.0, 0.0, -DRIVE.lift)))[4]
    assert task.handed_over(scene)
    assert scene["wafer"].position[2] == pytest.approx(task.PINS + 0.5 * parts.THICKNESS, abs=2e-4)
    return bool(info["is_success"])


def test_wafer_counts_where_it_belongs_and_no_farther_away(env: TaskEnv) -> None:
    assert at_station(env, 0.0)
    assert at_station(env, 0.0004)
    assert not at_station(env, 0.0006)
    assert not at_station(env, -0.0006)


def test_wafer_that_is_still_carried_or_has_slipped_does_not_count(env: TaskEnv) -> None:
    env.reset(seed=5, options={"difficulty": 0.0})
    scene = env.scene
    x, y, _ = scene.memory.goal
    scene["wafer"].place((x, y, task.PINS + task.CARRY + 0.5 * parts.THICKNESS))
    assert task.placement_error(scene) == 0.0
    assert not task.placed(scene)
    assert at_station(env, 0.0)
    env.scene.memory.slip = 0.0011
    env.scene.world.touch()
    assert not task.placed(env.scene)


def test_slip_and_walls_end_the_episode(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    env.scene.memory.at_start = tuple(np.add(task.wafer_offset(env.scene), (0.0011, 0.0)))
    assert env.step(np.zeros(3))[2]
    env.reset(seed=TEST_SEED_START)
    for _ in range(60):  # swings without going out first
        _, reward, terminated, _, info = env.step(env.policy_spec.to_action((0.3, 0.0, 0.0)))
        if terminated:
            break
    assert terminated and not info["is_success"] and reward < -4.0
    assert info["reward_terms"]["failure"] == 1.0


def test_edge_sensor_tells_where_the_wafer_lies_on_the_fork(env: TaskEnv) -> None:
    part = env.policy_spec.observation_slices["wafer_offset"]
    for seed in range(4):
        observation, info = env.reset(seed=seed)
        drawn = [info["randomization"][name] for name in ("offset_along", "offset_across")]
        assert task.wafer_offset(env.scene) == pytest.approx(drawn, abs=1e-6)
        assert observation[part] == pytest.approx(drawn, abs=6e-4)  # five deviations
        readings = np.array([env.step(np.zeros(3))[0][part] for _ in range(60)])
        assert readings.std(axis=0) == pytest.approx(1e-4, rel=0.4)


def test_taught_place_is_wrong_by_the_declared_error(env: TaskEnv) -> None:
    _, info = env.reset(seed=4)
    angle, radius = env.scene.memory.taught
    drawn = [info["randomization"][name] for name in ("taught_error_x", "taught_error_y")]
    assert np.subtract(
        env.scene.memory.goal[:2], (radius * math.cos(angle), radius * math.sin(angle))
    ) == pytest.approx(drawn, abs=1e-12)


def test_starts_lead_from_the_station_to_the_source(env: TaskEnv) -> None:
    ways = []
    for difficulty in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        env.reset(seed=6, options={"difficulty": difficulty})
        ways.append(task.way_left(env.scene))
        assert not task.spoiled(env.scene)
    assert ways[0] == pytest.approx(task.CARRY + task.CLEAR, abs=1e-3)
    assert (np.diff(ways) > 0.1).all()
