"""Films a policy at work, or records it for a browser, without a screen."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from physai.errors import ConfigError, PhysaiError, StorageError
from physai.evaluate.episodes import play
from physai.evaluate.evaluation import first_seed
from physai.evaluate.progress import Meter
from physai.view.cameras import OWN, check_camera
from physai.view.capture import capture
from physai.view.film import Film, GifWriter, Mp4Writer
from physai.view.page import page
from physai.view.pick import Pick, picked
from physai.view.stage import Stage

MAX_FPS = 50.0  # more than this costs rendering and shows nothing


def record(
    source: str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    episodes: int = 1,
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    fps: float | None = None,
    cameras: Sequence[str] = (OWN,),
    pick: Pick | None = None,
) -> Path:
    """Writes a video of episodes in real time, captioned with seed, time and outcome.

    Args:
        source: anything that `physai.policy.load_policy` takes; for a task without a policy, its scripted expert acts,
            or random actions are taken, and the caption says so.
        out: an ``.mp4`` (H.264) or ``.gif`` file; or ``.html``, which is `replay` and has no size and no rate.
        task: needed where the source does not name it.
        episodes: how many, one after the other: the first of the evaluation with this `seed`.
        seed: of the evaluation.
        width: pixels; even.
        height: pixels; even.
        fps: pictures a second; None takes the control rate, at most 50.
        cameras: names of `physai.view.cameras`; several are shown side by side.
        pick: film the best, the worst or random ones of the evaluated episodes in place of the first.

    Returns:
        The file.

    Raises:
        ConfigError: if a number or the file's suffix is not possible.
        TaskError: if the environment cannot be rendered.
        StorageError: if the file cannot be written.
        PhysaiError: whatever `load_policy` raises.
    """
    target = Path(out)
    if target.suffix.lower() == ".html":
        with _appearing(target) as part:
            part.write_text(
                replay(source, task=task, episodes=episodes, seed=seed, cameras=cameras, pick=pick), encoding="utf-8"
            )
        return target
    writer_class = _writer_for(target)
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise ConfigError(f"a video of {width} x {height} pixels is not possible; both must be even")
    if fps is not None and not 0 < fps <= 240:
        raise ConfigError(f"fps is {fps}; it must lie between 0 and 240")
    for name in cameras:
        check_camera(name)
    with ExitStack() as open_things:
        with Meter("loading", None):
            stage = open_things.enter_context(Stage(source, task))
            if tuple(cameras) != (OWN,):
                stage.ours()
        seeds, chosen = _chosen(pick, stage, source, episodes, seed)
        rate = fps or min(stage.spec.control_hz, MAX_FPS)
        meter = open_things.enter_context(Meter("frames", None))
        part = open_things.enter_context(_appearing(target))
        writer = open_things.enter_context(writer_class(part, (width, height), rate))
        film = Film(stage, writer, f"{stage.words}{chosen}", meter, cameras)
        for episode_seed in seeds:
            film.begin(episode_seed)
            played = play(stage.env, stage.actor, episode_seed, on_step=film.step)
            film.end("no success" if played.success is False else "")
    return target


def replay(
    source: str | Path,
    *,
    task: str | None = None,
    episodes: int = 1,
    seed: int = 0,
    cameras: Sequence[str] = (OWN,),
    pick: Pick | None = None,
) -> str:
    """Returns a page that plays episodes in a browser; the arguments are those of `record`, with one camera.

    Raises:
        ConfigError: if several cameras are named: whoever watches turns it.
        TaskError: if the task is somebody else's.
        PhysaiError: whatever `load_policy` raises.
    """
    if len(cameras) != 1:
        raise ConfigError(f"a page starts at one camera, not at {', '.join(cameras)}; the mouse turns it")
    check_camera(cameras[0])
    with Meter("loading", None):
        stage = Stage(source, task)
    with stage:
        stage.ours()
        seeds, chosen = _chosen(pick, stage, source, episodes, seed)
        with Meter("steps", None) as meter:
            return page(capture(stage, seeds, camera=cameras[0], words=f"{stage.words}{chosen}", meter=meter))


def _chosen(pick: Pick | None, stage: Stage, source: str | Path, episodes: int, seed: int) -> tuple[list[int], str]:
    """Returns the seeds of the episodes to show, and what the caption says of the choice."""
    if pick is not None:
        return picked(pick, stage, source, episodes, seed)
    first = first_seed(seed, episodes)
    return list(range(first, first + episodes)), ""


def _writer_for(target: Path) -> type[Mp4Writer] | type[GifWriter]:
    if target.suffix.lower() == ".mp4":
        return Mp4Writer
    if target.suffix.lower() == ".gif":
        return GifWriter
    raise ConfigError(f"{target} cannot be written: name a file that ends in .mp4, .gif or .html")


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Gives a file to write, which takes the target's name when all went well and disappears when not."""
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, target)
    except PhysaiError:
        raise
    except (OSError, subprocess.SubprocessError) as problem:
        raise StorageError(f"the recording cannot be written to {target} ({problem}); name another file") from problem
    finally:
        part.unlink(missing_ok=True)
