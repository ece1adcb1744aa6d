"""Pictures of a stage, captioned and tiled, and the files that they become."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from physai.errors import TaskError
from physai.evaluate.progress import Meter
from physai.view.cameras import OWN, viewpoint
from physai.view.overlay import font
from physai.view.stage import Stage
from physai_envs import registry

LAST_FRAME_S = 1.0  # the end of an episode stands still this long, so that one sees how it ended
TILE_GAP = 2  # pixels
QUALITY = 23  # H.264 constant rate factor; 18 is visually lossless, 28 is small


class Film:
    """Turns steps into pictures at the video's own rate.

    Args:
        stage: what is filmed; `step` is called while it is played.
        writer: takes the pictures.
        words: of the caption, beyond task, seed, time and outcome.
        meter: counts the pictures.
        cameras: names of `physai.view.cameras`; several are shown side by side.
    """

    def __init__(self, stage: Stage, writer: Writer, words: str, meter: Meter, cameras: Sequence[str] = (OWN,)) -> None:
        self._stage, self._writer, self._words, self._meter = stage, writer, words, meter
        self._cameras = tuple(cameras)
        self._seed, self._outcome, self._last_step = 0, "", 0

    def begin(self, seed: int) -> None:
        """Starts an episode."""
        self._seed, self._outcome, self._last_step = seed, "", 0

    def step(self, step: int, info: Mapping[str, Any]) -> None:
        """Renders if a picture is due: called after the reset (step 0) and after every step."""
        self._outcome, self._last_step = "success" if info.get("is_success") else "", step
        hz = self._stage.spec.control_hz
        per_step = self._writer.fps / hz
        due = 1 if step == 0 else int((step + 1) * per_step) - int(step * per_step)
        if due:
            self._write(due)

    def end(self, outcome: str = "") -> None:
        """Shows the last state for a moment, and how it ended."""
        self._outcome = self._outcome or outcome
        self._write(max(1, round(LAST_FRAME_S * self._writer.fps)))

    def _write(self, times: int) -> None:
        picture = self._tiled()
        seconds = self._last_step / self._stage.spec.control_hz
        mark = f"   {self._outcome}" if self._outcome else ""
        title = registry.slug(self._stage.spec.task)
        _caption(picture, f"{title}   {self._words}   seed {self._seed}   {seconds:5.2f} s{mark}")
        frame = np.asarray(picture)
        for _ in range(times):
            self._writer.add(frame)
        self._meter.advance(1, f"seed {self._seed}, {self._stage.told_time(self._last_step)}")

    def _tiled(self) -> Image.Image:
        """One picture of all cameras, each with its name if there are several."""
        width, height = self._writer.size
        if len(self._cameras) == 1:
            return self._render(self._cameras[0], width, height)
        columns = math.ceil(math.sqrt(len(self._cameras)))
        rows = math.ceil(len(self._cameras) / columns)
        sheet = Image.new("RGB", (width, height), "white")
        across, down = width // columns, height // rows
        for i, name in enumerate(self._cameras):
            tile = self._render(name, across - TILE_GAP, down - TILE_GAP)
            face = font(max(9, down // 22))
            ImageDraw.Draw(tile).text((6, 4), name, font=face, fill="white", stroke_width=2, stroke_fill="black")
            sheet.paste(tile, ((i % columns) * across, (i // columns) * down))
        return sheet

    def _render(self, camera: str, width: int, height: int) -> Image.Image:
        ours, task = self._stage.declared, self._stage.spec.task
        try:
            shown = self._stage.env.render() if ours is None else ours.render(width, height, viewpoint(camera, ours))
        except gym.error.Error as problem:
            raise TaskError(f"{task} cannot be rendered: {problem}") from problem
        pixels: Any = shown
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 3:
            raise TaskError(f"{task} does not render to pictures (render_mode='rgb_array')")
        picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        if picture.size == (width, height):
            return picture
        picture = ImageOps.contain(picture, (width, height))  # keeps the proportions
        sheet = Image.new("RGB", (width, height), "white")
        sheet.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
        return sheet


def _caption(picture: Image.Image, text: str) -> None:
    size = max(10, picture.height // 30)
    while size > 6 and font(size).getlength(text) > picture.width - 8:
        size -= 1
    draw = ImageDraw.Draw(picture, "RGBA")
    draw.rectangle((0, picture.height - 2 * size, picture.width, picture.height), fill=(0, 0, 0, 160))
    draw.text((4, picture.height - size), text, font=font(size), fill="white", anchor="lm")


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
