"""Watch a policy in a window, in real time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from physai.errors import TaskError
from physai.evaluate.evaluation import first_seed
from physai.evaluate.progress import Meter
from physai.view.cameras import OWN, check_camera
from physai.view.player import cast_for
from physai.view.session import Session
from physai.view.stage import Stage
from physai_envs import registry
from physai_envs.robot import Robot
from physai_envs.task import Scene, Task
from physai_envs.window import Window, check_display


def watch(
    source: str | Path,
    task: str | None = None,
    *,
    seed: int = 0,
    camera: str = OWN,
    others: Sequence[str | Path] = (),
    follow: bool = False,
    episodes: int | None = None,
) -> None:
    """Opens a window and returns when it is closed.

    Args:
        source: anything that `physai.policy.load_policy` takes, or a task.
        task: needed where the source does not name it.
        seed: of the evaluation whose episodes are shown, one after the other, or of an episode itself.
        camera: one of `physai.view.cameras.NAMED`.
        others: further policies, between which a key switches.
        follow: `source` is a run that goes on: its newest checkpoint acts, from the next episode on.
        episodes: close after so many; None waits for the person.

    Raises:
        DisplayError: if there is no display.
        TaskError: if the environment is not one of ours.
        PhysaiError: whatever `Stage` raises.
    """
    check_display()
    check_camera(camera)
    first = first_seed(seed, 1)
    with tempfile.TemporaryDirectory(prefix="physai-") as folder, ExitStack() as open_things:
        with Meter("opening the window", None) as meter:
            chosen, follower = cast_for(source, task, follow, open_things, meter)
            full_id = registry.resolve(chosen[0])
            if not full_id.startswith(registry.NAMESPACE):
                raise TaskError(f"{full_id} draws itself and has no window here; film it with --record FILE")
            window = Window()  # before any other client: Bullet tells where the camera is to its first one alone
            open_things.callback(window.close)
            _furnish(window, registry.task(full_id))
            stage = open_things.enter_context(Stage(source, task, chosen=chosen))
        Session(stage, window, Path(folder), camera=camera, others=others, follower=follower).run(first, episodes)


def _furnish(window: Window, task: Task) -> None:
    """Puts the bodies of a task into a window."""
    task.build(Scene(window, Robot(window, task.robot)))
