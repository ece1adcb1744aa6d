"""A suction cup: it holds what it has sealed on, as long as vacuum and load allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, hypot, pi

from physai_envs.geometry import distance, rotate, rotate_back, subtract
from physai_envs.robot import Robot
from physai_envs.world import Body


@dataclass(frozen=True)
class Cup:
    """Data of a suction cup.

    Attributes:
        radius: of the lip [m].
        give: by which the bellows give when they are pressed [m].
        reach: farthest that the lip seals from a surface [m].
        slope: sine of the largest angle between cup and surface.
        vacuum: below the pressure of the air, of a pump with a sealed cup [Pa].
        fill_s: time constant with which the vacuum builds up and goes away [s].
        open_share: share of the vacuum that is measured with the cup open; it sucks air.
        holds: share of the vacuum from which a part is held.
        slack: distance that a held part may move on the cup before it is off [m].
    """

    radius: float = 0.012
    give: float = 0.004
    reach: float = 0.001
    slope: float = 0.1
    vacuum: float = 60e3
    fill_s: float = 0.04
    open_share: float = 0.1
    holds: float = 0.5
    slack: float = 0.004

    @property
    def force(self) -> float:
        """Largest force on the whole area of the lip [N]."""
        return self.vacuum * pi * self.radius**2


@dataclass(frozen=True)
class Top:
    """The flat upper side of a part: its height above the part's origin and the largest circle on it [m]."""

    height: float
    radius: float


class Suction:
    """The cup of one robot, and what it may hold.

    Only the named parts are held, only by their upper side, and only while the whole lip lies on it. `update` is called
    once a control step.

    Args:
        robot: whose tool tip is the middle of the lip.
        cup: its data.
        tops: upper side of each part that may be held.
        period_s: control period [s].

    Attributes:
        strength: share of its vacuum that the pump of this episode reaches.
        held: the part that hangs on the cup, or None.
        level: share of the vacuum, what a sensor in the line measures, 0 to 1.
    """

    def __init__(self, robot: Robot, cup: Cup, tops: Mapping[Body, Top], period_s: float) -> None:
        self._robot, self._world, self._cup, self._tops = robot, robot.world, cup, tops
        self._kept = exp(-period_s / cup.fill_s)
        self.strength = 1.0
        self.reset()

    def reset(self) -> None:
        """Lets go of everything; the world's reset has removed what held it."""
        self.held: Body | None = None
        self.level, self._constraint, self._at = 0.0, -1, (0.0, 0.0, 0.0)

    @property
    def force(self) -> float:
        """Largest force that holds a part in this episode [N]."""
        return self.strength * self._cup.force

    @property
    def load(self) -> float:
        """Force that the held part pulled with in the last physics step [N]; 0 without one."""
        return self._world.load_on(self._constraint) if self.held is not None else 0.0

    def sealed(self, part: Body) -> bool:
        """Whether the whole lip lies on the upper side of a part, pressed by no more than the bellows give."""
        cup, top = self._cup, self._tops[part]
        place, turned = part.pose
        x, y, z = rotate_back(turned, subtract(self._robot.tip_position, place))
        if not -cup.give <= z - top.height <= cup.reach or hypot(x, y) > top.radius - cup.radius:
            return False
        upright = rotate(turned, (0.0, 0.0, 1.0))
        return hypot(upright[0], upright[1]) < cup.slope

    def update(self, on: bool) -> None:
        """Runs the vacuum for one control step; takes hold, and lets go of what is too heavy or has come off."""
        cup = self._cup
        part = self.held or (next((p for p in self._tops if self.sealed(p)), None) if on else None)
        goal = 0.0 if not on else 1.0 if part is not None else cup.open_share
        self.level = goal + (self.level - goal) * self._kept
        if self.held is not None:
            if not on or self._come_off():
                self._let_go()
        elif part is not None and self.level > cup.holds:
            self.held = part
            self._constraint = self._world.attach(self._robot.body, part, self.force, parent_link=self._robot.last_link)
            self._at = self._on_cup(part)

    def _come_off(self) -> bool:
        """Whether the held part has moved on the cup, which it does where it pulls with more than the vacuum holds."""
        return self.held is not None and distance(self._on_cup(self.held), self._at) > self._cup.slack

    def _on_cup(self, part: Body) -> tuple[float, float, float]:
        tip, turned = self._robot.tip_pose
        return rotate_back(turned, subtract(part.position, tip))

    def _let_go(self) -> None:
        """Blows the part off: real valves blow the vacuum away in milliseconds."""
        self._world.detach(self._constraint)
        self.held, self._constraint, self.level = None, -1, 0.0
