"""What happens in a window between opening and closing: episodes in real time, and what the keys do."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from physai.errors import PhysaiError
from physai.evaluate.episodes import Actor
from physai.evaluate.evaluation import first_seed
from physai.policy import load_policy
from physai.view import overlay
from physai.view.cameras import NAMED, OWN, moves, viewpoint
from physai.view.clock import Clock
from physai.view.follow import Follower
from physai.view.human import Human
from physai.view.stage import Stage, called
from physai_envs import registry
from physai_envs.engine import bullet
from physai_envs.env import TEST_SEED_START
from physai_envs.window import BACKSPACE, RETURN, Window

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
PICTURES_HZ, PANEL_HZ = 30.0, 5.0
REST_S = 1.5  # after an episode, so that one sees how it ended
LONGEST_SEED = 7  # digits
ROWS_TO_COME = 4  # of the panel, for what is not there at first: metrics
SESSION_KEYS = [
    ("space", "pause"), (".", "one step"), ("- +", "speed"), ("r", "again"), ("n b", "next, last seed"),
    ("0-9 enter", "seed"), ("m", "act yourself"), ("p", "policy"), ("v", "camera"), ("h", "hide"), ("q", "quit"),
]  # fmt: skip
SHADOWS = 2.0  # times as wide as the camera is far away is what casts shadows
RAY_COLOR = (0.95, 0.25, 0.2)
HUMAN_KEYS = [("m", "give back"), ("space", "pause"), ("r", "again"), ("q", "quit")]
log = logging.getLogger("physai")


class Session:
    """Shows the episodes of a stage in a window.

    Args:
        stage: one of our tasks, and who acts.
        window: with the bodies of that task in it.
        folder: for files that the window reads.
        camera: a name of `physai.view.cameras`.
        others: further policies, between which a key switches.
        follower: where newer policies come from.
    """

    def __init__(
        self, stage: Stage, window: Window, folder: Path, *, camera: str = OWN, others: Sequence[str | Path] = (),
        follower: Follower | None = None,
    ) -> None:  # fmt: skip
        self.stage, self.env, self.window, self.follower = stage, stage.ours(), window, follower
        self.clock, self.hands, self.human = Clock(stage.spec.control_hz), Human(stage.spec), False
        self._title = registry.slug(stage.spec.task).replace("_", " ").capitalize()
        self._actors: list[Actor | str | Path] = [stage.actor, *others, *stage.understudies()]
        self._acting, self._camera, self._file = 0, camera, folder / "panel.png"
        self._typed, self._said, self._hidden, self._quit = "", "", False, False
        self._speed, self._rest_until, self._panel_due = SPEEDS.index(1.0), 0.0, 0.0
        self._shown: object = None
        self._height = 0
        self._actions: dict[int, Callable[[], None]] = {
            ord(" "): self._pause, ord("."): self._single_step, ord("-"): lambda: self._change_speed(-1),
            ord("="): lambda: self._change_speed(1), ord("+"): lambda: self._change_speed(1),
            ord("r"): lambda: self._begin(self.stage.seed), ord("n"): lambda: self._begin(self.stage.seed + 1),
            ord("b"): lambda: self._begin(max(self.stage.seed - 1, TEST_SEED_START)), ord("m"): self._take_over,
            ord("p"): self._next_actor, ord("v"): self._next_camera, ord("h"): self._hide, ord("q"): self._end,
            RETURN: self._go_to_typed, BACKSPACE: self._erase,
        }  # fmt: skip

    def run(self, seed: int, episodes: int | None = None) -> None:
        """Shows episodes until the window is closed, or `episodes` of them."""
        if self.follower is not None:
            self.stage.words = self._of_checkpoint(self.stage.actor)
        last = None if episodes is None else seed + episodes - 1
        self._begin(seed)
        self.window.copy(self.env.scene.world)
        eye, target = self.env.viewpoint(self.env.task.camera)
        self.window.draw(self.env.task.camera.light, SHADOWS * math.dist(eye, target))
        self._place_camera()
        try:
            while self.window.open and not self._quit:
                self._turn(last)
                time.sleep(min(self.clock.until_next(), 1.0 / PICTURES_HZ))
        except bullet.error:
            if self.window.open:
                raise
            log.info("the window was closed")

    def _turn(self, last: int | None) -> None:
        """Looks at the keys, makes the steps that are due, and shows where that led."""
        pressed, down = self.window.keys()
        for key in pressed:
            self._press(key)
        self._play(down)
        if self.stage.ended and not self.clock.paused and time.perf_counter() > self._rest_until:
            if self.stage.seed == last:
                self._quit = True
                return
            self._begin(self.stage.seed + 1)
        self._show()

    def _begin(self, seed: int) -> None:
        fresh = None if self.follower is None else self.follower.fresh()
        if fresh is not None:
            self.stage.take_over(fresh, self._of_checkpoint(fresh))
            self._actors[0] = fresh
        self.stage.reset(seed)
        self.hands.reset()
        self.clock.restart()
        self._panel_due = 0.0

    def _of_checkpoint(self, policy: Actor) -> str:
        return called(policy) if self.follower is None else f"{called(policy)}, checkpoint {int(self.follower.name)}"

    def _play(self, down: set[int]) -> None:
        """Makes the control steps that are due, with no picture between them."""
        for _ in range(self.clock.due()):
            self._step(down)
            self.clock.made()

    def _step(self, down: set[int]) -> None:
        if not self.stage.ended:
            self.stage.step(self.hands.action(down) if self.human else None)
            if self.stage.ended:
                self._rest_until, self._panel_due = time.perf_counter() + REST_S, 0.0

    def _show(self) -> None:
        self.window.copy(self.env.scene.world)
        if moves(self._camera, self.env):
            self._place_camera()
        if not self._hidden:
            self.window.hang_panel()
        now = time.perf_counter()
        if now >= self._panel_due:
            self._panel_due = now + 1.0 / PANEL_HZ
            self._write()

    def _place_camera(self) -> None:
        camera = viewpoint(self._camera, self.env)
        beside = 0 if self._hidden else overlay.WIDTH
        self.window.look(camera.eye, camera.target, camera.field_of_view_deg, beside)

    def _write(self) -> None:
        """Updates what costs the time of a picture: the panel, the rays, and the word at the goal."""
        state = f"go to seed {self._typed}_" if self._typed else "PAUSED" if self.clock.paused else self._said
        facts = overlay.Facts(
            title=self._title, actor="you" if self.human else self.stage.words, state=state or "running",
            note="" if self.clock.speed == 1.0 else f"x {self.clock.speed:g}",
            keys=[*self.hands.keys, *HUMAN_KEYS] if self.human else SESSION_KEYS,
        )  # fmt: skip
        rows = overlay.lines(self.stage, facts)
        if self._hidden or (rows, self._camera) == self._shown:
            return
        self._shown = (rows, self._camera)
        self._height = self._height or overlay.height_of(rows, ROWS_TO_COME)
        picture = overlay.panel(rows, self._height)
        if not self._file.exists():
            Image.fromarray(picture).save(self._file)
        self.window.show_panel(picture, self._file)
        self.window.points(overlay.rays(self.env.scene), RAY_COLOR)
        if (goal := overlay.goal(self.env.scene)) is not None:
            self.window.label("goal", goal)

    def _press(self, key: int) -> None:
        self._panel_due = 0.0
        if ord("0") <= key <= ord("9"):
            self._typed = (self._typed + chr(key))[-LONGEST_SEED:]
        elif key in self._actions:
            self._said = ""
            self._actions[key]()

    def _pause(self) -> None:
        if self.clock.paused:
            self.clock.resume()
        else:
            self.clock.pause()

    def _single_step(self) -> None:
        self.clock.pause()
        self._step(set())

    def _change_speed(self, by: int) -> None:
        self._speed = min(max(self._speed + by, 0), len(SPEEDS) - 1)
        self.clock.speed = SPEEDS[self._speed]

    def _take_over(self) -> None:
        self.human = not self.human
        self.hands.reset()

    def _next_actor(self) -> None:
        """Lets the next policy act from a new start of this episode; says why where it cannot be loaded."""
        self._acting = (self._acting + 1) % len(self._actors)
        actor = self._actors[self._acting]
        try:
            if isinstance(actor, (str, Path)):
                actor = self._actors[self._acting] = load_policy(actor, self.stage.task)
            self.stage.take_over(actor)
        except PhysaiError as problem:
            self._said = str(problem)
            return
        self.human = False
        self._begin(self.stage.seed)

    def _next_camera(self) -> None:
        names = list(NAMED)
        self._camera = names[(names.index(self._camera) + 1) % len(names)]
        self._place_camera()

    def _hide(self) -> None:
        self._hidden, self._shown = not self._hidden, None
        if self._hidden:
            self.window.put_panel_away()
        self._place_camera()

    def _go_to_typed(self) -> None:
        typed, self._typed = self._typed, ""
        if typed:
            try:
                self._begin(first_seed(int(typed), 1))
            except PhysaiError as problem:
                self._said = str(problem)

    def _erase(self) -> None:
        self._typed = self._typed[:-1]

    def _end(self) -> None:
        self._quit = True
