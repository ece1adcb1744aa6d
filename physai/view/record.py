"""Films a policy at work, without a screen."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from physai.errors import ConfigError, PhysaiError, StorageError, TaskError
from physai.evaluate.episodes import play
from physai.evaluate.evaluation import first_seed
from physai.evaluate.progress import Meter
from physai.spec import PolicySpec
from physai.view.stage import Stage
from physai_envs import registry
from physai_envs.env import TaskEnv

LAST_FRAME_S = 1.0  # the end of an episode stands still this long, so that one sees how it ended
MAX_FPS = 50.0  # more than this costs rendering and shows nothing
QUALITY = 23  # H.264 constant rate factor; 18 is visually lossless, 28 is small


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
) -> Path:
    """Writes a video of episodes in real time, captioned with seed, time and success.

    Args:
        source: anything that `physai.policy.load_policy` takes; for a task without a policy, its scripted expert acts,
            or random actions are taken, and the caption says so.
        out: an ``.mp4`` (H.264) or ``.gif`` file.
        task: needed where the source does not name it.
        episodes: how many, one after the other: the first of the evaluation with this `seed`.
        seed: of the evaluation.
        width: pixels; even.
        height: pixels; even.
        fps: pictures a second; None takes the control rate, at most 50.

    Returns:
        The file.

    Raises:
        ConfigError: if a number or the file's suffix is not possible.
        TaskError: if the environment cannot be rendered.
        StorageError: if the file cannot be written.
        PhysaiError: whatever `load_policy` raises.
    """
    target = Path(out)
    writer_class = _writer_for(target)
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise ConfigError(f"a video of {width} x {height} pixels is not possible; both must be even")
    if fps is not None and not 0 < fps <= 240:
        raise ConfigError(f"fps is {fps}; it must lie between 0 and 240")
    first = first_seed(seed, episodes)
    with Meter("frames", None) as meter, Stage(source, task) as stage:
        rate = fps or min(stage.spec.control_hz, MAX_FPS)
        with _appearing(target) as part, writer_class(part, (width, height), rate) as writer:
            film = Film(stage.env, stage.spec, writer, stage.words, meter)
            for episode_seed in range(first, first + episodes):
                film.begin(episode_seed)
                play(stage.env, stage.actor, episode_seed, on_step=film.step)
                film.end()
    return target


class Film:
    """Turns steps into pictures at the video's own rate."""

    def __init__(self, env: gym.Env[Any, Any], spec: PolicySpec, writer: Writer, words: str, meter: Meter) -> None:
        self._env, self._spec, self._writer, self._words, self._meter = env, spec, writer, words, meter
        self._seed, self._success, self._last_step = 0, False, 0
        self._frame: NDArray[np.uint8] | None = None

    def begin(self, seed: int) -> None:
        """Starts an episode."""
        self._seed, self._success, self._last_step = seed, False, 0

    def step(self, step: int, info: Mapping[str, Any]) -> None:
        """Renders if a picture is due: called after the reset (step 0) and after every step."""
        self._success, self._last_step = bool(info.get("is_success")), step
        per_step = self._writer.fps / self._spec.control_hz
        due = 1 if step == 0 else int((step + 1) * per_step) - int(step * per_step)
        if due:
            self._write(due)

    def end(self) -> None:
        """Shows the last state for a moment."""
        self._write(max(1, round(LAST_FRAME_S * self._writer.fps)))

    def _write(self, times: int) -> None:
        picture = self._render().convert("RGB")
        seconds = self._last_step / self._spec.control_hz
        mark = "   success" if self._success else ""
        title = registry.slug(self._spec.task)
        _caption(picture, f"{title}   {self._words}   seed {self._seed}   {seconds:5.2f} s{mark}")
        frame = np.asarray(picture)
        for _ in range(times):
            self._writer.add(frame)
        self._meter.advance(1, f"seed {self._seed}, {seconds:.1f} s")

    def _render(self) -> Image.Image:
        width, height = self._writer.size
        inner = self._env.unwrapped
        try:
            pixels: Any = inner.render(width, height) if isinstance(inner, TaskEnv) else self._env.render()
        except gym.error.Error as problem:
            raise TaskError(f"{self._spec.task} cannot be rendered: {problem}") from problem
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 3:
            raise TaskError(f"{self._spec.task} does not render to pictures (render_mode='rgb_array')")
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        if picture.size == (width, height):
            return picture
        picture = ImageOps.contain(picture, (width, height))  # keeps the proportions
        sheet = Image.new("RGB", (width, height), "white")
        sheet.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
        return sheet


def _caption(picture: Image.Image, text: str) -> None:
    size = max(10, picture.height // 30)
    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
    while size > 6 and font.getlength(text) > picture.width - 8:
        size -= 1
        font = font.font_variant(size=size)
    draw = ImageDraw.Draw(picture, "RGBA")
    draw.rectangle((0, picture.height - 2 * size, picture.width, picture.height), fill=(0, 0, 0, 160))
    draw.text((4, picture.height - size), text, font=font, fill="white", anchor="lm")


class Writer(ABC):
    """Takes pictures (height, width, 3) uint8, and leaves a file when it is closed; used as a context manager."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        self.path, self.size, self.fps = path, size, fps

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(whole=error is None)

    @abstractmethod
    def add(self, frame: NDArray[np.uint8]) -> None:
        """Appends a picture."""

    @abstractmethod
    def close(self, *, whole: bool) -> None:
        """Ends the file; `whole` is False when the film broke off."""


class Mp4Writer(Writer):
    """H.264 in yuv420p, which every player and browser shows."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        super().__init__(path, size, fps)
        self._stream: Generator[None, Any, None] | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Appends a picture."""
        if self._stream is None:
            self._stream = self._start()
        self._stream.send(np.ascontiguousarray(frame))

    def close(self, *, whole: bool) -> None:
        """Ends the file."""
        if self._stream is not None:
            self._stream.close()

    def _start(self) -> Generator[None, Any, None]:
        stream: Generator[None, Any, None] = imageio_ffmpeg.write_frames(
            str(self.path), self.size, fps=self.fps, codec="libx264", pix_fmt_in="rgb24", pix_fmt_out="yuv420p",
            quality=None, macro_block_size=2, ffmpeg_log_level="error",
            output_params=["-crf", str(QUALITY), "-preset", "veryfast", "-movflags", "+faststart", "-f", "mp4"],
        )  # fmt: skip
        next(stream)  # starts the encoder
        return stream


class GifWriter(Writer):
    """Animated GIF, for pages that show no video; the times of its pictures are whole hundredths of a second."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        super().__init__(path, size, fps)
        self._frames: list[Image.Image] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Appends a picture, with a palette of its own."""
        self._frames.append(Image.fromarray(frame).quantize(128, dither=Image.Dither.NONE))

    def close(self, *, whole: bool) -> None:
        """Writes the file."""
        if whole and self._frames:
            hundredths = max(2, round(100 / self.fps))
            self._frames[0].save(
                self.path, "GIF", save_all=True, append_images=self._frames[1:], duration=10 * hundredths, loop=0
            )


def _writer_for(target: Path) -> type[Mp4Writer] | type[GifWriter]:
    if target.suffix.lower() == ".mp4":
        return Mp4Writer
    if target.suffix.lower() == ".gif":
        return GifWriter
    raise ConfigError(f"{target} cannot be written: name a file that ends in .mp4 or .gif")


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
        raise StorageError(f"the video cannot be written to {target} ({problem}); name another file") from problem
    finally:
        part.unlink(missing_ok=True)
