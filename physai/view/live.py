"""A running session for a browser: the scene as it moves, orders from whoever watches, and what was recorded so far."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from physai.errors import PhysaiError
from physai.evaluate.evaluation import first_seed
from physai.evaluate.progress import Meter
from physai.view.cameras import OWN, check_camera
from physai.view.capture import Scenery, Track
from physai.view.feed import Archive, Feed
from physai.view.follow import Follower
from physai.view.page import page
from physai.view.player import SPEEDS, Player, cast_for
from physai.view.serve import PageServer
from physai.view.stage import Stage
from physai_envs.window import DOWN_ARROW, LEFT_ARROW, RIGHT_ARROW, UP_ARROW

PICTURES_HZ = 30.0
ORDERS = 64  # that wait; more at a time is nobody who watches
HELD_S = 0.5  # after which a key counts as released if the browser does not say that it is still down
ARROWS = {"ArrowUp": UP_ARROW, "ArrowDown": DOWN_ARROW, "ArrowLeft": LEFT_ARROW, "ArrowRight": RIGHT_ARROW}


class Live:
    """Plays the episodes of a stage in real time, and tells everybody who watches.

    Args:
        stage: one of our tasks, and who acts.
        camera: where one stands first, a name of `physai.view.cameras`.
        others: further policies, between which one can switch.
        follower: where newer policies come from.

    Attributes:
        feed: what happens now; a slow reader never delays the simulation.
        archive: finished episodes.
        orders: what those who watch want: ``{"do": name, "value": ...}``.
    """

    def __init__(
        self, stage: Stage, *, camera: str = OWN, others: Sequence[str | Path] = (), follower: Follower | None = None
    ) -> None:
        self.feed, self.archive = Feed(), Archive()
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue(ORDERS)
        self._scenery = Scenery(stage)
        self.player = Player(stage, others=others, follower=follower, on_begin=self._begin, on_step=self._look)
        self._stage, self._number, self._told = stage, 0, (0, -1)
        self._track: Track | None = None
        self._state: dict[str, Any] = {}
        self._colors, self._held, self._held_until = 0, set[int](), 0.0
        self._described = self._scenery.described(camera)
        player = self.player
        self._plain: Mapping[str, Callable[[], None]] = {
            "pause": player.pause, "step": player.single_step, "again": player.again, "next": player.next,
            "back": player.back, "human": player.take_over,
        }  # fmt: skip

    def page(self) -> str:
        """Returns the page on which the session is watched."""
        return page({**self._described, "episodes": [], "live": True, "speeds": SPEEDS})

    def download(self) -> str:
        """Returns the page of what was recorded so far."""
        return page({**self._described, "episodes": self.archive.episodes()})

    def run(self, seed: int, episodes: int | None = None) -> None:
        """Plays until somebody interrupts, or `episodes` of them.

        Raises:
            SimulationError: whatever `Stage.step` raises; those who watch are told, too.
        """
        last = None if episodes is None else seed + episodes - 1
        ending = "the command has ended"
        try:
            self.player.begin(seed)
            while self.player.turn(self._down(), last):
                self._tell()
                self._wait(min(self.player.clock.until_next(), 1.0 / PICTURES_HZ))
            self._tell()
        except PhysaiError as problem:
            ending = str(problem)
            raise
        finally:
            self.feed.tell("end", ending)
            self.feed.end()

    def _begin(self) -> None:
        self._number += 1
        self._track, self._colors = self._scenery.track(), -1
        self.feed.tell("begin", {"id": self._number, **self._track.first()})

    def _look(self) -> None:
        if self._track is None:
            return
        self._track.look()
        if self._stage.ended:
            self.archive.add(self._number, self._track.recorded())
            self.feed.tell("episodes", self.archive.listed())

    def _tell(self) -> None:
        """Says what is new since the last picture."""
        player, clock, track = self.player, self.player.clock, self._track
        state = {
            "paused": clock.paused, "speed": clock.speed, "said": player.said, "human": player.human,
            "actors": player.actors, "acting": player.acting, "keys": [" ".join(key) for key in player.hands.keys],
        }  # fmt: skip
        if state != self._state:
            self._state = state
            self.feed.tell("state", state)
        if track is None or (self._number, self._stage.steps) == self._told:
            return
        self._told = self._number, self._stage.steps
        if len(track.colors) + len(track.goals) != self._colors:
            self._colors = len(track.colors) + len(track.goals)
            self.feed.tell("changes", {"id": self._number, "colors": track.colors, "goals": track.goals})
        self.feed.tell("frame", {"id": self._number, **track.latest()})

    def _wait(self, seconds: float) -> None:
        """Waits for orders, and obeys."""
        with contextlib.suppress(queue.Empty):
            self._obey(self.orders.get(timeout=max(seconds, 1e-4)))
            while True:
                self._obey(self.orders.get_nowait())

    def _obey(self, order: Mapping[str, Any]) -> None:
        """Does what somebody wants; what cannot be done is said."""
        name, value, player = order["do"], order.get("value"), self.player
        if name == "keys" and isinstance(value, list):
            self._held = {code for key in value if (code := key_code(key)) is not None}
            self._held_until = time.monotonic() + HELD_S
            return
        player.said = ""
        if name in self._plain:
            self._plain[name]()
        elif name == "speed" and value in SPEEDS:
            player.clock.speed = float(value)
        elif name in ("seed", "actor") and isinstance(value, int):
            player.go_to(value) if name == "seed" else player.choose(value)
        else:
            player.said = f"{name} {value} is no order of this page"

    def _down(self) -> set[int]:
        return self._held if time.monotonic() < self._held_until else set()


def key_code(key: Any) -> int | None:
    """Returns the code of a key that a browser names, as `Human` knows them; None for others."""
    if not isinstance(key, str):
        return None
    return ARROWS.get(key) or (ord(key) if len(key) == 1 and key.isascii() else None)


def broadcast(
    source: str | Path,
    task: str | None = None,
    *,
    host: str,
    port: int,
    say: Callable[[str], None],
    seed: int = 0,
    camera: str = OWN,
    others: Sequence[str | Path] = (),
    follow: bool = False,
    episodes: int | None = None,
) -> None:
    """Plays episodes in real time for whoever opens the page, until Ctrl-C.

    Args:
        source: anything that `physai.policy.load_policy` takes, or a task.
        task: needed where the source does not name it.
        host: where to listen.
        port: where to listen; 0 takes a free one.
        say: is told the address of the page.
        seed: of the evaluation whose episodes are shown, one after the other, or of an episode itself.
        camera: one of `physai.view.cameras.NAMED`.
        others: further policies, between which one can switch.
        follow: `source` is a run that goes on: its newest checkpoint acts, from the next episode on.
        episodes: end after so many; None goes on.

    Raises:
        ConfigError: if nothing can listen there.
        TaskError: if the environment is not one of ours.
        PhysaiError: whatever `Stage` raises.
    """
    check_camera(camera)
    first = first_seed(seed, 1)
    with ExitStack() as open_things, contextlib.suppress(KeyboardInterrupt):
        server = open_things.enter_context(PageServer(host, port))
        with Meter("loading", None) as meter:
            chosen, follower = cast_for(source, task, follow, open_things, meter)
            stage = open_things.enter_context(Stage(source, task, chosen=chosen))
            live = Live(stage, camera=camera, others=others, follower=follower)
            server.page, server.live = live.page(), live
        open_things.enter_context(server.answering())
        say(f"{server.address} (Ctrl-C ends it)")
        live.run(first, episodes)
