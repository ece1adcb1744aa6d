"""What a window's keys do, without one: the session plays on a window that only remembers what it was shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from displays import display

from physai.errors import ConfigError
from physai.evaluate.evaluation import first_seed
from physai.view import overlay
from physai.view.cameras import NAMED, viewpoint
from physai.view.clock import LATEST_S, Clock
from physai.view.human import Human
from physai.view.player import SPEEDS
from physai.view.session import Session
from physai.view.stage import Stage
from physai_envs import registry
from physai_envs.window import LEFT_ARROW, RETURN, UP_ARROW

FIRST = 1_000_000


class Paper:
    """A window of paper: it says which keys are down, and remembers where the camera was put."""

    open = True

    def __init__(self) -> None:
        self.looks: list[Any] = []
        self.labels: list[str] = []
        self.points_shown = 0

    def look(self, *where: Any) -> None:
        self.looks.append(where)

    def label(self, text: str, at: Any) -> None:
        self.labels.append(text)

    def points(self, places: Any, color: Any) -> None:
        self.points_shown = len(places)

    def nothing(self, *_: Any) -> None: ...

    copy = show_panel = hang_panel = put_panel_away = draw = nothing


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Stage("reach", visual=False) as stage:
        session = Session(stage, Paper(), tmp_path)  # type: ignore[arg-type]
        session.player.begin(FIRST)
        yield session


def press(session: Session, *keys: str | int) -> None:
    for key in keys:
        session._press(ord(key) if isinstance(key, str) else key)


def test_pause_and_single_steps(session: Session) -> None:
    press(session, " ")
    assert session.player.clock.due() == 0
    press(session, ".", ".")
    assert session.stage.steps == 2
    assert session.player.clock.paused
    press(session, " ")
    assert not session.player.clock.paused


def test_the_episode_is_chosen_by_keys(session: Session) -> None:
    press(session, "n")
    assert session.stage.seed == FIRST + 1
    press(session, "b", "b")
    assert session.stage.seed == FIRST, "there is none before the first"
    press(session, *"1000042", RETURN)
    assert session.stage.seed == 1_000_042, "an episode"
    press(session, "2", RETURN)
    assert session.stage.seed == first_seed(2, 1), "the first episode of an evaluation"
    press(session, ".", "r")
    assert session.stage.steps == 0


def test_a_number_that_is_no_episode_is_explained(session: Session) -> None:
    press(session, *"0999999", RETURN)
    assert session.stage.seed == FIRST
    assert "999999" in session.player.said


def test_speed_has_ends(session: Session) -> None:
    press(session, *"----")
    assert session.player.clock.speed == SPEEDS[0]
    press(session, *"++++++++")
    assert session.player.clock.speed == SPEEDS[-1]


def test_the_keys_of_a_person_move_the_tip(session: Session) -> None:
    """Up is up, and left is along y; without a key the arm stands."""
    press(session, "m")
    robot = session.env.scene.robot
    start = np.array(robot.tip_position)
    for _ in range(5):
        session.player.step({ord("w")})
    up = np.array(robot.tip_position) - start
    assert up[2] > 0.03
    assert abs(up[1]) < 0.005
    for _ in range(10):
        session.player.step(set())
    still = np.array(robot.tip_position)
    session.player.step(set())
    assert np.abs(robot.tip_position - still).max() < 1e-3
    for _ in range(5):
        session.player.step({LEFT_ARROW})
    assert robot.tip_position[1] - still[1] > 0.03


def test_policies_take_turns_on_the_same_episode(session: Session) -> None:
    words = [session.stage.words]
    for _ in range(3):
        press(session, ".", "p")
        assert (session.stage.seed, session.stage.steps) == (FIRST, 0)
        words.append(session.stage.words)
    assert words == ["ppo policy", "scripted expert, no policy", "random actions, no policy", "ppo policy"]


def test_a_policy_that_does_not_fit_is_explained(tmp_path: Path) -> None:
    with Stage("reach", visual=False) as stage:
        session = Session(stage, Paper(), tmp_path, others=["tidy_up"])  # type: ignore[arg-type]
        session.player.begin(FIRST)
        press(session, "p")
        assert "was trained for" in session.player.said
        assert session.stage.words == "ppo policy"


def test_the_panel_tells_terms_and_outcome(session: Session) -> None:
    while not session.stage.ended:
        session.player.step(set())
    rows = overlay.lines(session.stage, overlay.Facts("Reach", keys=[("q", "quit")]))
    said = {row.left for row in rows}
    assert {"Reach", "near", "close", "action change", "return", "SUCCESS", "final error", "q quit"} <= said
    assert overlay.panel(rows, overlay.height_of(rows)).std() > 10


def test_forces_rays_and_goals_are_found_where_a_task_has_them() -> None:
    with Stage("peg_insertion", visual=False) as stage:
        stage.reset(FIRST)
        stage.step()
        assert stage.declared is not None
        assert set(overlay.forces(stage.declared.scene)) == {"contact", "wrist"}
        assert overlay.rays(stage.declared.scene) == []
    with Stage("amr_navigation", visual=False) as stage:
        stage.reset(FIRST)
        assert stage.declared is not None
        scene = stage.declared.scene
        assert len(overlay.rays(scene)) > 20 * overlay.DOTS_A_RAY
        assert overlay.goal(scene) == (*scene.memory.goal, 0.0)
        while not stage.ended:
            stage.step()
        told = {row.left: row.right for row in overlay.lines(stage, overlay.Facts("AMR"))}
        assert float(told["spl"]) == pytest.approx(stage.info["metrics"]["spl"], abs=1e-3)
        assert told["path length"].endswith(" m")


@pytest.mark.parametrize("task", [registry.slug(task.full_id) for task in registry.tasks()])
def test_a_person_can_drive_every_robot(task: str) -> None:
    spec = registry.task(task).policy_spec()
    human = Human(spec)
    assert human.keys
    quiet = human.action(set())
    assert quiet.shape == (spec.action_size,)
    assert not quiet.any()
    driven = human.action({UP_ARROW, LEFT_ARROW})
    assert driven.any()
    assert (np.abs(driven) <= 1.0).all()


def test_a_gripper_stays_as_it_was_told() -> None:
    human = Human(registry.task("tidy_up").policy_spec())
    human.action({ord("c")})
    assert human.action(set()).tolist() == [0.0] * 4 + [-1.0]
    human.reset()
    assert not human.action(set()).any()


@pytest.mark.parametrize("task", ["peg_insertion", "amr_navigation"])
def test_every_camera_looks_at_the_job_from_elsewhere(task: str) -> None:
    with Stage(task, visual=False) as stage:
        stage.reset(FIRST)
        assert stage.declared is not None
        views = {name: viewpoint(name, stage.declared) for name in NAMED}
        assert len({tuple(np.round(view.eye, 3)) for view in views.values()}) >= 4
        eye, target = np.array(views["top"].eye), np.array(views["top"].target)
        assert np.hypot(*(eye - target)[:2]) < 0.01 * (eye - target)[2]
        with pytest.raises(ConfigError, match="did you mean 'close'"):
            viewpoint("clos", stage.declared)


class Time:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_clock_is_absolute_and_gives_up_what_is_lost() -> None:
    time = Time()
    clock = Clock(20.0, time)
    made = 0
    for time.now in np.arange(0.0, 2.0, 0.017):  # no multiple of the period
        for _ in range(clock.due()):
            clock.made()
            made += 1
    assert made == 39, "19.7 a second, by however uneven looks"
    clock.speed = 0.5
    time.now += 0.21
    assert clock.due() == 2
    clock.pause()
    time.now += 100.0
    assert clock.due() == 0
    clock.resume()
    assert clock.due() == 0, "a pause is no delay"
    time.now += 10 * LATEST_S
    assert clock.due() == 1, "it does not rush to catch up"


WATCHED = """
import sys
import numpy as np
from physai.view.stage import Stage
from physai.view.window import watch

rows, step = [], Stage.step

def noted(self, *given):
    step(self, *given)
    rows.append(self.observation)

Stage.step = noted
watch("reach", seed=1_000_003, episodes=1)
np.save(sys.argv[1], np.array(rows))
"""


def test_an_episode_in_a_window_is_the_headless_one_bit_for_bit(tmp_path: Path) -> None:
    with display() as screen:
        command = [sys.executable, "-c", WATCHED, str(tmp_path / "rows.npy")]
        subprocess.run(command, env=screen.environment, check=True, capture_output=True, timeout=120)
    seen = np.load(tmp_path / "rows.npy")
    with Stage("reach", visual=False) as stage:
        stage.reset(1_000_003)
        rows = []
        while not stage.ended:
            stage.step()
            rows.append(stage.observation)
    assert np.array_equal(seen, np.array(rows))
