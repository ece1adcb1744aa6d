"""What happens in a window between opening and closing: episodes in real time, and what the keys do."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from physai.view import overlay
from physai.view.cameras import NAMED, OWN, moves, viewpoint
from physai.view.follow import Follower
from physai.view.player import SPEEDS, Player
from physai.view.stage import Stage
from physai_envs import registry
from physai_envs.engine import bullet
from physai_envs.window import BACKSPACE, RETURN, Window

PICTURES_HZ, PANEL_HZ = 30.0, 5.0
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
        self.stage, self.env, self.window = stage, stage.ours(), window
        self.player = Player(
            stage, others=others, follower=follower, on_begin=self._write_soon, on_step=self._write_at_the_end
        )
        self._title = registry.slug(stage.spec.task).replace("_", " ").capitalize()
        self._camera, self._file = camera, folder / "panel.png"
        self._typed, self._hidden, self._quit = "", False, False
        self._speed, self._panel_due = SPEEDS.index(1.0), 0.0
        self._shown: object = None
        self._height = 0
        player = self.player
        self._actions: dict[int, Callable[[], None]] = {
            ord(" "): player.pause, ord("."): player.single_step, ord("-"): lambda: self._change_speed(-1),
            ord("="): lambda: self._change_speed(1), ord("+"): lambda: self._change_speed(1),
            ord("r"): player.again, ord("n"): player.next, ord("b"): player.back, ord("m"): player.take_over,
            ord("p"): lambda: player.choose(player.chosen + 1), ord("v"): self._next_camera, ord("h"): self._hide,
            ord("q"): self._end, RETURN: self._go_to_typed, BACKSPACE: self._erase,
        }  # fmt: skip

    def run(self, seed: int, episodes: int | None = None) -> None:
        """Shows episodes until the window is closed, or `episodes` of them."""
        last = None if episodes is None else seed + episodes - 1
        self.player.begin(seed)
        self.window.copy(self.env.scene.world)
        eye, target = self.env.viewpoint(self.env.task.camera)
        self.window.draw(self.env.task.camera.light, SHADOWS * math.dist(eye, target))
        self._place_camera()
        try:
            while self.window.open and not self._quit:
                self._turn(last)
                time.sleep(min(self.player.clock.until_next(), 1.0 / PICTURES_HZ))
        except bullet.error:
            if self.window.open:
                raise
            log.info("the window was closed")

    def _turn(self, last: int | None) -> None:
        """Looks at the keys, makes the steps that are due, and shows where that led."""
        pressed, down = self.window.keys()
        for key in pressed:
            self._press(key)
        if not self.player.turn(down, last):
            self._quit = True
            return
        self._show()

    def _write_soon(self) -> None:
        self._panel_due = 0.0

    def _write_at_the_end(self) -> None:
        if self.stage.ended:
            self._panel_due = 0.0

    def _show(self) -> None:
        self.window.copy(self.env.scene.world)
        if moves(self._camera, self.env):
            self._place_camera()  # with the panel
        elif not self._hidden:
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
        player, clock = self.player, self.player.clock
        state = f"go to seed {self._typed}_" if self._typed else "PAUSED" if clock.paused else player.said
        facts = overlay.Facts(
            title=self._title, actor="you" if player.human else self.stage.words, state=state or "running",
            note="" if clock.speed == 1.0 else f"x {clock.speed:g}",
            keys=[*player.hands.keys, *HUMAN_KEYS] if player.human else SESSION_KEYS,
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
            self.player.said = ""
            self._actions[key]()

    def _change_speed(self, by: int) -> None:
        self._speed = min(max(self._speed + by, 0), len(SPEEDS) - 1)
        self.player.clock.speed = SPEEDS[self._speed]

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
            self.player.go_to(int(typed))

    def _erase(self) -> None:
        self._typed = self._typed[:-1]

    def _end(self) -> None:
        self._quit = True
