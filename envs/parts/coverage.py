"""What of a floor has been covered: the truth for the reward, and the map that the robot keeps of it.

Both are grids of square cells that lie still in their frame; a robot covers the cells whose middle its
disc passes over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from physai_envs.parts.room import HALF_X, HALF_Y, Rectangle

CELL = 0.05  # m
MARGIN = 1.0  # m, of the grids around the largest room: nobody looks further beyond its walls
STRIDE = 0.05  # m, between the discs that stand for a short way


class Grid:
    """Square cells around the origin; cell (i, j) has its middle at ((i + 0.5) CELL - reach_x, ...) [m]."""

    def __init__(self, reach_x: float, reach_y: float) -> None:
        self.nx, self.ny = 2 * math.ceil(reach_x / CELL), 2 * math.ceil(reach_y / CELL)
        self.x0, self.y0 = -0.5 * self.nx * CELL, -0.5 * self.ny * CELL
        self.x = self.x0 + (np.arange(self.nx) + 0.5) * CELL
        self.y = self.y0 + (np.arange(self.ny) + 0.5) * CELL

    def disc(self, x: float, y: float, radius: float) -> tuple[slice, slice, NDArray[np.bool_]]:
        """Cells with their middle within `radius` of a point [m]: a window of the grid, and which of it."""
        i0, i1 = max(int((x - radius - self.x0) / CELL), 0), int((x + radius - self.x0) / CELL) + 1
        j0, j1 = max(int((y - radius - self.y0) / CELL), 0), int((y + radius - self.y0) / CELL) + 1
        dx, dy = self.x[i0:i1] - x, self.y[j0:j1] - y
        return slice(i0, i1), slice(j0, j1), (dx * dx)[:, None] + dy * dy <= radius * radius


def way(start: Sequence[float], end: Sequence[float]) -> list[tuple[float, float]]:
    """Points along a straight way, at most `STRIDE` apart, its end last."""
    steps = max(1, math.ceil(math.dist(start, end) / STRIDE))
    return [
        (start[0] + (end[0] - start[0]) * k / steps, start[1] + (end[1] - start[1]) * k / steps)
        for k in range(1, steps + 1)
    ]


class FloorPlan(Grid):
    """The true floor of a room: where a disc of `radius` [m] can go, and what it has covered.

    Attributes:
        free: cells where the middle of the disc can be, connected to where it started.
        bare: cells of reachable floor that have not been covered.
        area: of the reachable floor [cells]; `left` is what has not been covered of it.
    """

    def __init__(self, radius: float) -> None:
        from scipy import ndimage  # here, because who lists the tasks does not wait for it

        super().__init__(HALF_X[1] + MARGIN, HALF_Y[1] + MARGIN)
        self._ndimage, self.radius = ndimage, radius
        reach = int(radius / CELL) + 1
        offsets = np.arange(-reach, reach + 1) * CELL
        self._disc = offsets[:, None] ** 2 + offsets**2 <= radius * radius
        self.free = np.zeros((self.nx, self.ny), bool)
        self.bare = np.zeros((self.nx, self.ny), bool)
        self.area = self.left = 0

    def survey(self, half_x: float, half_y: float, obstacles: Sequence[Rectangle]) -> NDArray[np.int32]:
        """Labels the connected regions in which the middle of the disc can be, 0 for where it cannot, (nx, ny)."""
        x, y = self.x[:, None], self.y[None, :]
        free = (np.abs(x) <= half_x - self.radius) & (np.abs(y) <= half_y - self.radius)
        for o in obstacles:
            c, s = math.cos(o.turn), math.sin(o.turn)
            dx, dy = x - o.x, y - o.y
            out_x = np.maximum(np.abs(c * dx + s * dy) - o.half_x, 0.0)
            out_y = np.maximum(np.abs(c * dy - s * dx) - o.half_y, 0.0)
            free &= out_x * out_x + out_y * out_y >= self.radius**2
        return self._ndimage.label(free)[0]  # type: ignore[no-any-return]

    def open(self, region: NDArray[np.bool_]) -> None:
        """Starts an episode: the middle of the disc can be in `region`; all that the disc covers there is bare."""
        self.free = region
        self.bare = self._ndimage.binary_dilation(region, self._disc)
        self.area = self.left = int(self.bare.sum())

    def cover(self, start: Sequence[float], end: Sequence[float]) -> int:
        """Covers what the disc passes over on a straight way [m]; returns how many cells of it were bare."""
        before = self.left
        for x, y in way(start, end):
            rows, columns, disc = self.disc(x, y, self.radius)
            window = self.bare[rows, columns]
            self.left -= int(np.count_nonzero(window & disc))
            window &= ~disc
        return before - self.left

    @property
    def coverage(self) -> float:
        """Share of the reachable floor that has been covered."""
        return 1.0 - self.left / self.area


ALONG, ACROSS = 3, 3  # points of a bin of the picture at which the map is looked up
SAMPLES = ALONG * ACROSS
UNKNOWN, COVERED, BARE = -1, 0, 1  # of a cell of the robot's map; where something stands it is UNKNOWN, too


class CoverageMap(Grid):
    """What a robot knows of the floor, in the frame of its own odometry.

    That is floor that its scanner looked across, and floor that it has covered. The last look counts, so that errors of
    the odometry do not add up to walls everywhere. What a policy gets of it is an egocentric picture in polar
    coordinates, fine near the robot and coarse far away, after A. Jonnarth et al., arXiv:2306.16978.

    Args:
        radius: of the robot [m].
        angles: of the scanner's rays in the robot's frame [rad].
        edges: distances between the rings of the picture [m].
        sectors: how many; sector 0 is ahead, the others follow counterclockwise.
    """

    def __init__(self, radius: float, angles: NDArray[np.float64], edges: Sequence[float], sectors: int) -> None:
        margin = edges[-1] + MARGIN
        super().__init__(HALF_X[1] + margin, HALF_Y[1] + margin)
        self.radius = radius
        self.cells = np.full((self.nx, self.ny), UNKNOWN, np.int8)
        self._flat = self.cells.reshape(-1)
        self._rays = np.exp(1j * angles)[:, None]
        self._along = np.arange(1.5 * CELL, edges[-1], 1.5 * CELL)[None, :]
        self._looks = self._rays * self._along
        self._points = np.concatenate([_ring(*ring, sectors) for ring in pairwise(edges)])

    def clear(self) -> None:
        """Forgets everything."""
        self.cells.fill(UNKNOWN)

    def _index(self, points: NDArray[np.complex128]) -> NDArray[np.intp]:
        """Flat index of the cell of each point; beyond the map, that of some cell at its rim."""
        i = ((points.real - self.x0) * (1.0 / CELL)).astype(np.intp)
        i *= self.ny
        i += ((points.imag - self.y0) * (1.0 / CELL)).astype(np.intp)
        return np.minimum(np.maximum(i, 0, out=i), self._flat.size - 1, out=i)

    def look(self, x: float, y: float, yaw: float, ranges: NDArray[np.float64]) -> None:
        """Takes a scan in, seen from where the robot believes it is [m, rad]; ranges from the middle of the robot."""
        turned, here = complex(math.cos(yaw), math.sin(yaw)), complex(x, y)
        seen = self._index((self._looks * turned)[self._along < ranges[:, None] - CELL] + here)
        known = self._flat[seen]
        self._flat[seen] = np.where(known == UNKNOWN, BARE, known)
        hits = self._index((self._rays[:, 0] * ranges * turned)[ranges < self._along[0, -1]] + here)
        known = self._flat[hits]
        self._flat[hits] = np.where(known == BARE, UNKNOWN, known)

    def cover(self, start: Sequence[float], end: Sequence[float]) -> None:
        """Marks what the robot believes to have passed over [m]."""
        for x, y in way(start, end):
            rows, columns, disc = self.disc(x, y, self.radius)
            self.cells[rows, columns][disc] = COVERED

    def picture(self, x: float, y: float, yaw: float) -> NDArray[np.float64]:
        """Egocentric picture: share of each bin that is bare floor, (rings x sectors,)."""
        points = self._points * complex(math.cos(yaw), math.sin(yaw)) + complex(x, y)
        return (self._flat[self._index(points)] == BARE).reshape(-1, SAMPLES).mean(axis=1)  # type: ignore[no-any-return]


def _ring(inner: float, outer: float, sectors: int) -> NDArray[np.complex128]:
    """Points in the bins of a ring, `SAMPLES` in each, as complex numbers [m]."""
    along = inner + (outer - inner) * (np.arange(ALONG) + 0.5) / ALONG
    across = (np.arange(ACROSS) + 0.5) / ACROSS - 0.5
    turns = (np.arange(sectors)[:, None] + across) * (2.0 * math.pi / sectors)
    return (np.exp(1j * turns)[:, :, None] * along).reshape(-1)
