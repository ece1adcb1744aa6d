"""The window on a screen that nobody sees: what is visible, what keys do, and what the person at the desk is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from displays import Display, display
from numpy.typing import NDArray

from physai.view.overlay import BACK, GOOD, WIDTH
from physai_envs import registry
from physai_envs.engine import bullet, multiply
from physai_envs.robot import Robot
from physai_envs.shapes import Link, frame, shapes
from physai_envs.task import Scene
from physai_envs.window import PANEL_MARGIN, Window
from physai_envs.world import Vector, World

pytestmark = pytest.mark.xdist_group("screen")  # drawn in software: one at a time
PHYSAI = str(Path(sys.executable).parent / "physai")
SCENE = np.s_[:760, WIDTH + 2 * PANEL_MARGIN : 1200]  # what is beside the panel
PANEL = np.s_[PANEL_MARGIN : PANEL_MARGIN + 200, PANEL_MARGIN : PANEL_MARGIN + WIDTH]
STATE = np.s_[PANEL_MARGIN + 70 : PANEL_MARGIN + 98, PANEL_MARGIN : PANEL_MARGIN + WIDTH // 2]
CLOCK = np.s_[PANEL_MARGIN + 50 : PANEL_MARGIN + 76, PANEL_MARGIN + WIDTH // 2 : PANEL_MARGIN + WIDTH]
SEED = np.s_[PANEL_MARGIN + 50 : PANEL_MARGIN + 76, PANEL_MARGIN : PANEL_MARGIN + WIDTH // 2]
Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def screen() -> Iterator[Display]:
    with display() as screen:
        yield screen


@contextmanager
def window(screen: Display, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `physai view ... --gui` until its window is there, and ends it with its own key."""
    process = subprocess.Popen([PHYSAI, "view", *arguments, "--gui"], env=screen.environment)
    try:
        screen.wait_for(lambda picture: panel_there(picture) or process.poll() is not None, "the panel")
        assert process.poll() is None, "it ended by itself"
        yield process
        screen.press("q")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def panel_there(picture: Picture) -> bool:
    """Whether the panel is in its corner, with bright writing on it."""
    part = picture[PANEL].astype(int)
    dark = np.abs(part - BACK).max(axis=2) < 16
    return bool(dark.mean() > 0.5 and (part.min(axis=2) > 170).sum() > 200)


def differs(before: Picture, after: Picture, where: tuple[slice, slice]) -> bool:
    """Whether more has changed there than a shimmer."""
    return bool((np.abs(after[where].astype(int) - before[where]).max(axis=2) > 30).sum() > 12)


def orange(picture: Picture) -> int:
    """Pixels with the colour of the tool of PegInsertion, beside the panel."""
    red, green, blue = np.moveaxis(picture[SCENE].astype(int), 2, 0)
    return int(((red > 150) & (green > 70) & (green < 170) & (blue < 90)).sum())


def test_the_robot_its_work_and_the_figures_are_visible(screen: Display) -> None:
    with window(screen, "peg_insertion"):
        first = screen.wait_for(lambda picture: orange(picture) > 3000, "the tool")
        screen.wait_for(lambda picture: differs(first, picture, SCENE), "motion")
        screen.wait_for(lambda picture: differs(first, picture, CLOCK), "time that passes")
        green = screen.wait_for(
            lambda picture: (np.abs(picture[STATE].astype(int) - GOOD).max(axis=2) < 40).sum() > 20, "SUCCESS in green"
        )
        assert panel_there(green)


def test_keys_pause_step_and_choose_the_episode(screen: Display) -> None:
    with window(screen, "vacuum_coverage"):
        running = screen.picture()
        screen.press("space")
        screen.wait_for(lambda picture: differs(running, picture, STATE), "PAUSED")
        still = screen.picture()
        for _ in range(5):
            assert not differs(still, screen.picture(), CLOCK), "time passes though it is paused"
        screen.press("period")
        stepped = screen.wait_for(lambda picture: differs(still, picture, CLOCK), "a step")
        screen.press("4", "2", "Return")
        chosen = screen.wait_for(lambda picture: differs(stepped, picture, SEED), "the number of another episode")
        assert differs(stepped, chosen, SCENE), "another room"
        screen.press("h")
        screen.wait_for(lambda picture: not panel_there(picture), "no panel")


def test_a_person_moves_the_arm(screen: Display) -> None:
    with window(screen, "reach"):
        policy = screen.picture()
        screen.press("m", "space", "r")
        before = screen.wait_for(lambda picture: differs(policy, picture, STATE), "PAUSED")
        screen.press("space")
        screen.hold("w", 0.7)
        screen.press("space")
        screen.wait_for(lambda picture: differs(before, picture, SCENE), "an arm elsewhere")


def test_the_panel_goes_where_the_camera_goes(screen: Display) -> None:
    """Bullet draws in a thread of its own, between any two orders."""
    with window(screen, "amr_navigation", "--camera", "follow"):
        seen = []
        for _ in range(20):
            seen.append(panel_there(screen.picture()))
            time.sleep(0.1)
    assert sum(seen) >= 14


def test_closing_the_window_ends_the_command(screen: Display) -> None:
    process = subprocess.Popen([PHYSAI, "view", "vacuum_coverage", "--gui"], env=screen.environment)
    try:
        screen.wait_for(lambda picture: panel_there(picture) or process.poll() is not None, "the panel")
        screen.press("Escape")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("named", ["", ":4711"])
def test_without_a_display_it_says_what_to_do(named: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {"DISPLAY": named} if named else {}
    done = subprocess.run([PHYSAI, "view", "reach", "--gui"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    [sentence] = done.stderr.splitlines()
    for word in ("display", "--browser", "--record", "xvfb-run"):
        assert word in sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["raech"], "neither a path nor a task"),
        (["reach", "--task", "tidy_up"], "was trained for"),
        (["Pendulum-v1"], "has no window"),
        (["reach", "--camera", "tob"], "did you mean 'top'"),
    ],
)
def test_what_cannot_be_shown_is_said_before_a_window_opens(screen: Display, arguments: list[str], said: str) -> None:
    done = subprocess.run([PHYSAI, "view", *arguments, "--gui"], env=screen.environment, capture_output=True, text=True)
    assert done.returncode == 2
    [sentence] = done.stderr.splitlines()
    assert said in sentence


def test_the_window_shows_what_the_world_shows_with_a_link_for_each_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bullet's window draws a link in one colour, whatever its shapes have."""
    monkeypatch.setattr("physai_envs.window.check_display", lambda: None)
    monkeypatch.setattr(Window, "_connect", lambda self: bullet.connect(bullet.DIRECT))
    for task in registry.tasks():
        env = registry.make(task.id, visual=True)
        env.reset(seed=1_000_000)
        for _ in range(3):
            env.step(env.action_space.sample())
        world, window = env.unwrapped.scene.world, Window()
        task.build(Scene(window, Robot(window, task.robot)))
        window.copy(world)
        window.touch()
        shown, meant = drawn(window), drawn(world)
        assert shown.keys() == meant.keys(), task.id
        for looks in meant:
            assert np.allclose(sorted(shown[looks]), sorted(meant[looks]), atol=1e-5), (task.id, looks)
        worn: dict[Link, set[Vector]] = {}
        for shape in shapes(window):
            worn.setdefault(shape.link, set()).add(shape.color)
        assert all(len(colors) == 1 for colors in worn.values()), task.id
        window.close()
        env.close()


def drawn(world: World) -> dict[tuple[str, Vector, Vector], list[list[float]]]:
    """Where the shapes of each kind, size and colour are in the world."""
    found: dict[tuple[str, Vector, Vector], list[list[float]]] = {}
    for shape in shapes(world):
        place = frame(shape.link)
        position, _ = multiply(place[:3], place[3:], shape.position, shape.orientation)
        found.setdefault((shape.kind, shape.size, shape.color), []).append([round(x, 6) for x in position])
    return found
