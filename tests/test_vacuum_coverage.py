"""The vacuum cleaner, its room, what of the floor it covers and believes to cover, and the task made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.geometry import wrap_angle, yaw_of
from physai_envs.home import vacuum_coverage as task
from physai_envs.parts.coverage import BARE, CELL, COVERED, UNKNOWN, CoverageMap, FloorPlan
from physai_envs.parts.room import APART, Rectangle
from physai_envs.parts.sweep import Sweeper
from physai_envs.robot import Robot
from physai_envs.robots.vacuum import DRIVE, HEIGHT, RADIUS, VACUUM
from physai_envs.world import World


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("vacuum_coverage").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


def action(env: TaskEnv, speed: float, yaw_rate: float) -> np.ndarray:
    return env.policy_spec.to_action([speed, yaw_rate])


def put(env: TaskEnv, x: float, y: float, yaw: float, *, pieces: int = 0, drift: float = 0.0) -> None:
    """Starts at a place in a room of 4 x 3 m without furniture, with perfect odometry but for `drift` [rad/s]."""
    env.reset(seed=0)
    memory = env.scene.memory
    for piece, body in memory.room._pool:
        body.place((0.0, len(piece.name), -20.0))
    memory.room.arrange(np.random.default_rng(0), 2.0, 1.5, pieces)
    memory.plan.open(memory.plan.survey(2.0, 1.5, memory.room.obstacles) == 1)
    env.scene.robot.body.place((x, y, HEIGHT), (0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)))
    memory.odometry.begin(1.0, drift)


# ---- robot ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed", "yaw_rate"), [(0.4, 0.0), (0.1, 0.0), (0.0, 1.5), (0.0, 0.2), (0.3, 1.0), (-0.2, 0.0)]
)
def test_drive_does_what_it_is_told(speed: float, yaw_rate: float) -> None:
    world = World(task.PHYSICS)
    world.floor()
    robot = Robot(world, VACUUM)
    world.reset()
    drive = DRIVE.bind(robot, 0.2)
    drive.reset()
    for share in np.linspace(0.2, 1.0, 5):
        drive.apply((share * speed, share * yaw_rate))
        world.advance(12)
    world.advance(60)
    way = turned = 0.0
    for _ in range(20):  # 2 s in pieces short enough to be straight
        (x, y, _), yaw = robot.body.position, yaw_of(robot.body.orientation)
        world.advance(6)
        step = robot.body.position
        turned += wrap_angle(yaw_of(robot.body.orientation) - yaw)
        way += (step[0] - x) * math.cos(yaw + yaw_rate / 20) + (step[1] - y) * math.sin(yaw + yaw_rate / 20)
    world.close()
    assert way == pytest.approx(2.0 * speed, rel=0.01, abs=0.01)
    assert turned == pytest.approx(2.0 * yaw_rate, rel=0.01, abs=0.002)


def test_bumper_tells_the_side_and_the_wall_stops_the_robot(env: TaskEnv) -> None:
    touch = env.scene.sensors["bumper"]
    for yaw, side in ((0.6, "right"), (-0.6, "left")):  # the wall is ahead, on that side
        put(env, 1.6, 0.0, yaw)
        halves = set()
        for _ in range(8):
            env.step(action(env, 0.3, 0.0))
            halves |= {name for name in ("left", "right") if getattr(touch, name)}
        assert halves == {side}
        assert touch.bumps >= 1
        assert env.scene.robot.body.position[0] < 2.0 - RADIUS + 0.005
    put(env, 0.0, 0.0, 0.0)
    for _ in range(8):
        env.step(action(env, 0.3, 0.0))
    assert not touch.touched
    assert touch.bumps == 0


def test_scanner_measures_from_the_middle_to_the_walls(env: TaskEnv) -> None:
    put(env, 0.5, -0.3, 0.0)
    ranges = env.scene.memory.odometry.ranges
    quarter = task.RAYS // 4
    assert ranges[[0, quarter, 2 * quarter, 3 * quarter]] == pytest.approx([1.5, 1.8, 2.5, 1.2], abs=0.01)
    assert env.scene.memory.odometry.clearance == pytest.approx(1.2 - RADIUS, abs=0.01)


# ---- floor ----------------------------------------------------------------------------------------------------------


def test_a_straight_way_covers_a_strip_and_two_half_discs() -> None:
    plan = FloorPlan(RADIUS)
    plan.open(plan.survey(2.0, 1.5, []) == 1)
    cells = plan.cover((-1.0, 0.31), (-1.0, 0.31)) + plan.cover((-1.0, 0.31), (0.53, -0.37))
    length = math.hypot(1.53, 0.68)
    assert cells * CELL**2 == pytest.approx(2 * RADIUS * length + math.pi * RADIUS**2, rel=0.03)
    assert plan.cover((-1.0, 0.31), (0.53, -0.37)) == 0
    assert plan.coverage == pytest.approx(cells / plan.area)


def test_reachable_floor_is_all_but_the_corners() -> None:
    plan = FloorPlan(RADIUS)
    regions = plan.survey(2.0, 1.5, [])
    assert regions.max() == 1
    plan.open(regions == 1)
    assert plan.area * CELL**2 == pytest.approx(4.0 * 3.0 - 4.0 * (1.0 - math.pi / 4) * RADIUS**2, rel=0.02)


@pytest.mark.parametrize(("gap", "regions"), [(2 * RADIUS - 0.02, 2), (2 * RADIUS + 0.1, 1)])
def test_a_gap_connects_when_the_disc_fits_through(gap: float, regions: int) -> None:
    plan = FloorPlan(RADIUS)
    barrier = Rectangle(0.0, -0.5 * gap, 0.1, 1.5 - 0.5 * gap)  # from one wall to a gap at the other
    assert plan.survey(2.0, 1.5, [barrier]).max() == regions


def test_turned_furniture_keeps_the_disc_away() -> None:
    plan = FloorPlan(RADIUS)
    free = plan.survey(2.0, 1.5, [Rectangle(0.2, 0.1, 0.6, 0.1, turn=0.5)]) > 0
    for along, across, expected in ((0.0, 0.23, False), (0.0, 0.32, True), (0.73, 0.0, False), (0.82, 0.0, True)):
        x = 0.2 + along * math.cos(0.5) - across * math.sin(0.5)
        y = 0.1 + along * math.sin(0.5) + across * math.cos(0.5)
        assert free[int((x - plan.x0) / CELL), int((y - plan.y0) / CELL)] == expected


def test_sweeper_counts_the_bare_cells_under_the_disc() -> None:
    plan = FloorPlan(RADIUS)
    plan.open(plan.survey(2.0, 1.5, []) == 1)
    plan.cover((-1.0, 0.3), (0.5, -0.4))
    need = Sweeper(plan)._need()
    rng = np.random.default_rng(0)
    for i, j in rng.choice(np.argwhere(plan.free), 50):
        rows, columns, disc = plan.disc(plan.x[i], plan.y[j], RADIUS)
        assert need[i, j] == (plan.bare[rows, columns] & disc).sum()


# ---- the robot's own map --------------------------------------------------------------------------------------------


def test_picture_shows_what_is_where() -> None:
    """A robot at the origin that faces along y, with bare floor on its left half and a covered strip before it."""
    angles = np.arange(4) * 0.5 * math.pi
    seen = CoverageMap(RADIUS, angles, task.EDGES, task.SECTORS)
    seen.cells[seen.x < 0.0] = BARE
    seen.cover((0.0, 0.0), (0.0, 0.6))
    picture = seen.picture(0.0, 0.0, 0.5 * math.pi).reshape(-1, task.SECTORS)
    far = np.searchsorted(task.EDGES, 0.7)
    assert picture[far, task.SECTORS // 4] == 1.0  # to the left
    assert picture[far, 3 * task.SECTORS // 4] == 0.0  # to the right, unknown
    assert picture[far - 2, 0] == 0.0  # ahead, covered
    assert 0.3 < picture[-1, 0] < 0.7  # far ahead, half of it


def test_scan_makes_floor_bare_and_walls_unknown_and_leaves_what_is_covered() -> None:
    angles = np.arange(8) * 0.25 * math.pi
    seen = CoverageMap(RADIUS, angles, task.EDGES, task.SECTORS)

    def cell(x: float, y: float) -> int:
        return int(seen.cells[int((x - seen.x0) / CELL), int((y - seen.y0) / CELL)])

    seen.cover((0.0, 0.0), (0.0, 0.0))
    seen.look(0.0, 0.0, 0.0, np.full(8, 1.0))
    assert (cell(0.1, 0.0), cell(0.5, 0.0), cell(1.2, 0.0), cell(0.5, 0.2)) == (COVERED, BARE, UNKNOWN, UNKNOWN)
    seen.look(0.0, 0.0, 0.0, np.full(8, 0.52))
    assert cell(0.52, 0.0) == UNKNOWN  # somebody has put something there


def drive(env: TaskEnv, steps: int = 60) -> None:
    for i in range(steps):
        env.step(action(env, 0.25, 0.8 * math.cos(0.3 * i)))


def test_without_drift_the_robot_believes_what_is_true(env: TaskEnv) -> None:
    put(env, -1.5, 0.0, 0.0)
    drive(env)
    o = env.scene.memory.odometry
    assert math.dist(o.believed[:2], o.place) < 0.03  # what the wheels slip while the robot speeds up
    assert wrap_angle(o.believed[2] - o.yaw) == pytest.approx(0.0, abs=1e-6)
    truth = env.scene.memory.plan.area - env.scene.memory.plan.left
    assert (o.map.cells == COVERED).sum() == pytest.approx(truth, rel=0.02)


def test_drift_turns_the_map(env: TaskEnv) -> None:
    """30 deg/min for 12 s are 6 deg."""
    put(env, -1.5, 0.0, 0.0, drift=math.radians(30.0) / 60.0)
    drive(env)
    o = env.scene.memory.odometry
    assert math.degrees(wrap_angle(o.believed[2] - o.yaw)) == pytest.approx(6.0, abs=0.01)
    assert 0.05 < math.dist(o.believed[:2], o.place) < 0.4


# ---- task -----------------------------------------------------------------------------------------------------------


def test_rooms_are_connected_and_leave_room_for_the_robot(env: TaskEnv) -> None:
    pieces = []
    for seed in range(30):
        env.reset(seed=TEST_SEED_START + seed)
        room, plan = env.scene.memory.room, env.scene.memory.plan
        pieces.append(len(room._taken))
        for i, piece in enumerate(room._taken):
            assert abs(piece.x) + piece.half_x <= room.half_x and abs(piece.y) + piece.half_y <= room.half_y
            assert all(piece.gap(other) >= APART for other in room._taken[:i])
        regions = plan.survey(room.half_x, room.half_y, room.obstacles)
        assert plan.free.sum() > task.WHOLE * (regions > 0).sum()
        x, y, _ = env.scene.robot.body.position
        assert plan.free[int((x - plan.x0) / CELL), int((y - plan.y0) / CELL)]
        assert not env.scene.world.touching(env.scene.robot.body)
    assert min(pieces) >= 1 and max(pieces) >= 5


def play(env: TaskEnv, seed: int, act) -> dict:
    env.reset(seed=seed)
    over, info = False, {}
    while not over:
        _, _, terminated, truncated, info = env.step(act())
        over = terminated or truncated
    return info


def test_expert_covers_every_room(env: TaskEnv) -> None:
    for seed in range(TEST_SEED_START, TEST_SEED_START + 8):
        info = play(env, seed, env.expert_action)
        assert info["is_success"], seed
        assert info["metrics"]["coverage"] >= task.DONE
        assert -0.1 < info["metrics"]["overlap"] < 1.0
        assert info["metrics"]["distance"] <= DRIVE.speed * info["metrics"]["time"]


def test_nothing_and_noise_cover_little(env: TaskEnv) -> None:
    rng = np.random.default_rng(0)
    assert play(env, TEST_SEED_START, lambda: action(env, 0.0, 0.0))["metrics"]["coverage"] < 0.05
    assert play(env, TEST_SEED_START, lambda: rng.uniform(-1.0, 1.0, 2))["metrics"]["coverage"] < 0.6


def test_success_is_worth_more_than_the_rest_of_the_floor_and_standing_still_costs(env: TaskEnv) -> None:
    weights = {term.name: term.weight for term in task.TASK.rewards}
    (_, x), (_, y) = task.ROOM
    rest = (1.0 - task.DONE) * 4.0 * x * y / CELL**2
    assert weights["done"] > weights["newly"] * rest / task.MOST_CELLS
    put(env, 0.0, 0.0, 0.0)
    assert max(env.step(action(env, 0.0, 0.0))[1] for _ in range(5)) < 0.0


def test_a_bump_is_felt_in_the_reward_and_counted_once(env: TaskEnv) -> None:
    put(env, 1.6, 0.0, 0.0)
    bumps = [env.step(action(env, 0.3, 0.0))[4]["reward_terms"]["bump"] for _ in range(10)]
    assert sum(bumps) >= 1.0
    begun = sum(after > before for before, after in zip([0.0, *bumps], bumps, strict=False))
    assert env.scene.sensors["bumper"].bumps == begun


def test_dust_lies_on_bare_floor_only_and_only_where_somebody_looks(env: TaskEnv) -> None:
    assert not env.scene.memory.dust._specks
    looking = registry.make("vacuum_coverage", visual=True).unwrapped
    looking.reset(seed=TEST_SEED_START)
    memory = looking.scene.memory
    before = len(memory.dust._lying)
    for _ in range(60):
        looking.step(looking.expert_action())
    memory.dust.sweep(memory.plan)
    assert 0 < len(memory.dust._lying) < before
    for _, _, speck in memory.dust._lying:
        x, y, z = speck.position
        assert z > 0.0 and memory.plan.bare[int((x - memory.plan.x0) / CELL), int((y - memory.plan.y0) / CELL)]
    looking.close()
