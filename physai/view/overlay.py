"""What is written beside the picture: who acts, how the episode goes, reward terms, forces, and which keys do what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from physai.view.stage import Stage
from physai_envs.env import TaskEnv
from physai_envs.parts.lidar import Lidar
from physai_envs.sensors import ContactMeter
from physai_envs.task import Scene
from physai_envs.world import Vector

BACK, INK, DIM = (24, 29, 38), (240, 243, 248), (150, 160, 176)
GOOD, BAD, ACCENT = (88, 214, 120), (255, 110, 92), (102, 178, 255)
WIDTH, LINE, PAD = 320, 21, 12  # pixels
FONT_SIZE = 14
DOTS_A_RAY = 6
FORCE_FULL_N = 60.0  # at which the bar of a force is full


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The typeface that comes with matplotlib, so that it looks the same everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)


@dataclass(frozen=True)
class Line:
    """One row of the panel.

    Attributes:
        left, right: words at both ends.
        share: filled part of a bar behind them, -1 (red) to 1 (green); None for none.
    """

    left: str = ""
    right: str = ""
    color: tuple[int, int, int] = INK
    share: float | None = None
    bold: bool = False


@dataclass
class Facts:
    """What the session knows and the stage does not."""

    title: str
    actor: str = ""
    state: str = ""
    note: str = ""
    keys: list[tuple[str, str]] = field(default_factory=list)


def forces(scene: Scene) -> dict[str, float]:
    """Contact forces that the task measures, and that of a wrist sensor, by name [N]."""
    found = {name.replace("_", " "): s.mean for name, s in scene.sensors.items() if isinstance(s, ContactMeter)}
    if scene.robot.model.wrench:
        found["wrist"] = math.hypot(*scene.robot.wrench[:3])
    return found


def sight(scene: Scene) -> list[Vector]:
    """What the laser scanner of a robot sees now: where it stands, then every point that it hits, world frame [m]."""
    lidars = [value for value in vars(scene.memory).values() if isinstance(value, Lidar)]
    if not lidars:
        return []
    return [scene.robot.body.position, *(hit for lidar in lidars for hit in lidar.hits())]


def rays(scene: Scene) -> list[Vector]:
    """Dots along what the laser scanner of a robot sees now, world frame [m]."""
    (x, y, _), *hits = sight(scene) or [(0.0, 0.0, 0.0)]
    dots: list[Vector] = []
    for hit in hits:
        for i in range(DOTS_A_RAY):
            share = 1.0 - i / DOTS_A_RAY
            dots.append((x + share * (hit[0] - x), y + share * (hit[1] - y), hit[2]))
    return dots


def goal(scene: Scene) -> Vector | None:
    """Where the goal of this episode is, if the task remembers a place of that name [m]."""
    place = getattr(scene.memory, "goal", None)
    if not isinstance(place, (tuple, list)) or len(place) not in (2, 3) or not all(np.isfinite(place)):
        return None
    return (float(place[0]), float(place[1]), float(place[2]) if len(place) == 3 else 0.0)


def lines(stage: Stage, facts: Facts) -> list[Line]:
    """Everything that the panel says now."""
    env, outcome, color = stage.declared, *_outcome(stage, facts)
    rows = [Line(facts.title, bold=True), Line(facts.actor, color=ACCENT)]
    rows.append(Line(f"seed {stage.seed}", f"{stage.time_s:.2f} s"))
    rows.append(Line(outcome, facts.note, color, bold=True))
    rows.append(Line())
    rows += _rewards(env, stage.info.get("reward_terms", {}))
    rows.append(Line("return", f"{stage.total:.2f}", bold=True))
    if env is not None and (measured := forces(env.scene)):
        rows.append(Line())
        rows += [Line(f"{name} force", f"{n:.1f} N", share=-min(n / FORCE_FULL_N, 1.0)) for name, n in measured.items()]
    if env is not None and (metrics := stage.info.get("metrics")):
        units = {metric.name: written(metric.unit) for metric in env.task.metrics}
        rows.append(Line())
        rows += [Line(name.replace("_", " "), f"{value:.3g} {units[name]}".rstrip()) for name, value in metrics.items()]
    return [*rows, Line(), *_keys(facts.keys)]


def written(unit: str) -> str:
    """How a unit is written beside a number: that of a plain number is not."""
    return "" if unit == "1" else unit


def _outcome(stage: Stage, facts: Facts) -> tuple[str, tuple[int, int, int]]:
    if stage.success:
        return "SUCCESS", GOOD
    if stage.ended:
        env = stage.declared
        late = env is not None and stage.steps >= env.task.max_steps
        return ("TIME IS UP" if late else "FAILED"), BAD
    return facts.state, INK


def _rewards(env: TaskEnv | None, values: Mapping[str, float]) -> Iterable[Line]:
    for term in () if env is None else env.task.rewards:
        value = term.weight * values.get(term.name, 0.0) + 0.0  # no negative zero
        most = max(abs(term.weight * term.low), abs(term.weight * term.high)) or 1.0
        yield Line(term.name.replace("_", " "), f"{value:+.3f}", share=value / most)


def _keys(keys: list[tuple[str, str]]) -> Iterable[Line]:
    row = ""
    for key, words in keys:
        entry = f"{key} {words}"
        if row and font(FONT_SIZE - 2).getlength(f"{row}   {entry}") > WIDTH - 2 * PAD:
            yield Line(row, color=DIM)
            row = ""
        row = f"{row}   {entry}" if row else entry
    yield Line(row, color=DIM)


def panel(rows: list[Line], height: int) -> NDArray[np.uint8]:
    """Draws rows on a sheet of fixed size, (height, WIDTH, 3)."""
    sheet = Image.new("RGB", (WIDTH, height), BACK)
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        y = PAD + i * LINE
        middle = y + LINE // 2
        if row.share is not None:
            full = WIDTH - 2 * PAD
            length = round(full * min(abs(row.share), 1.0))
            draw.rectangle((PAD, y + 2, PAD + full, y + LINE - 2), fill=(36, 43, 55))
            draw.rectangle(
                (PAD, y + 2, PAD + length, y + LINE - 2), fill=(33, 92, 56) if row.share > 0 else (112, 46, 42)
            )
        size = FONT_SIZE - 2 if row.color == DIM else FONT_SIZE
        face = font(size, bold=row.bold)
        draw.text((PAD + 4, middle), row.left, font=face, fill=row.color, anchor="lm")
        if row.right:
            draw.text((WIDTH - PAD - 4, middle), row.right, font=face, fill=row.color, anchor="rm")
    return np.asarray(sheet, dtype=np.uint8)


def height_of(rows: list[Line], more: int = 0) -> int:
    """Height of the sheet that these rows and `more` need [pixels]."""
    return 2 * PAD + (len(rows) + more) * LINE
