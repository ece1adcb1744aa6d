"""A scripted way to cover a floor that is known: along the edge of what is covered, and on to the nearest bare place.

It only looks at the floor as it is now, so whatever covered it, it goes on well.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from physai_envs.parts.coverage import CELL, FloorPlan

HEADINGS = 36
AHEAD = np.arange(0.05, 0.41, 0.05)  # m, on the way of the middle of the robot
MUST = 1  # index in it up to which the way has to be free
FRONT, SWATH_ACROSS = 0.1, np.arange(-0.15, 0.16, 0.05)  # m: what it would cover, there, is so far before its middle
EDGE_ALONG, EDGE_ACROSS = np.arange(0.0, 0.36, 0.05), -0.2  # m, the strip beside that, on the right
EDGE, TURN = 0.35, 1.0  # share of the swath that an edge along all of it, and a half turn, are worth
BACK = 0.8  # likewise a half turn against the one that it is making: it does not sway between two ways
WORTH = 0.12  # share of the swath that has to be bare for it
NEED, LEFT_OVER = 10, 3  # cells of bare floor under the disc that make a place worth going to; when there is none left
CELLS = 2.0  # of way that a cost of 1 is worth
RING = 0.15  # m, how far it looks ahead on the way to one
NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1))


class Sweeper:
    """Chooses where to go on a floor plan."""

    def __init__(self, plan: FloorPlan) -> None:
        self._plan = plan
        self._turns = (np.arange(HEADINGS) - HEADINGS // 2) * (2.0 * math.pi / HEADINGS)
        rays = np.exp(1j * self._turns)[:, None]
        self._ahead = rays * AHEAD
        self._swath = rays * (AHEAD[:, None] + FRONT + 1j * SWATH_ACROSS).reshape(1, -1)
        self._edge = rays * (EDGE_ALONG + 1j * EDGE_ACROSS)
        self._cost = TURN * np.abs(self._turns) / math.pi
        reach = int(plan.radius / CELL)
        self._reach = [(d, math.isqrt(int((plan.radius / CELL) ** 2 - d * d))) for d in range(-reach, reach + 1)]

    def _at(self, cells: NDArray[np.bool_], points: NDArray[np.complex128]) -> NDArray[np.bool_]:
        i = ((points.real - self._plan.x0) / CELL).astype(np.intp)
        return cells[i, ((points.imag - self._plan.y0) / CELL).astype(np.intp)]

    def turn(self, x: float, y: float, yaw: float, turning: float) -> float:
        """How far to turn, -pi to pi.

        Args:
            x: place [m].
            y: likewise.
            yaw: heading [rad].
            turning: how fast it turns already, -1 to 1 of the most, counterclockwise.
        """
        plan, here, ahead = self._plan, complex(x, y), complex(math.cos(yaw), math.sin(yaw))
        clear = np.logical_and.accumulate(self._at(plan.free, here + ahead * self._ahead), axis=1)
        bare = self._at(plan.bare, here + ahead * self._swath).reshape(HEADINGS, len(AHEAD), -1)
        gain = (bare & clear[:, :, None]).mean(axis=(1, 2))  # what it would cover before it has to stop
        edge = 1.0 - self._at(plan.bare, here + ahead * self._edge).mean(axis=1)
        cost = self._cost + BACK / math.pi * np.maximum(-turning * self._turns, 0.0)
        possible = clear[:, MUST] & (gain > WORTH)
        if possible.any():
            return float(self._turns[np.argmax(np.where(possible, gain + EDGE * edge - cost, -math.inf))])
        return self._to_nearest(here, ahead, cost)

    def _to_nearest(self, here: complex, ahead: complex, cost: NDArray[np.float64]) -> float:
        """Turn towards the nearest place worth going to, by the way there."""
        plan, need = self._plan, self._need()
        goal = plan.free & (need >= NEED)
        if not goal.any():
            goal = plan.free & (need >= LEFT_OVER)
        around = here + ahead * self._ahead[:, round(RING / CELL) - 1]
        i = ((around.real - plan.x0) / CELL).astype(np.intp)
        j = ((around.imag - plan.y0) / CELL).astype(np.intp)
        steps = np.full(goal.shape, math.inf)
        wave, seen, count = goal, goal.copy(), 0
        steps[goal] = 0.0
        while wave.any():
            count += 1
            if np.isfinite(steps[i, j]).sum() > 4 and seen[i, j].any() and count > steps[i, j].min() + 4:
                break
            grown = np.zeros_like(wave)
            grown[1:] |= wave[:-1]
            grown[:-1] |= wave[1:]
            grown[:, 1:] |= wave[:, :-1]
            grown[:, :-1] |= wave[:, 1:]
            if count % 2 == 0:  # every other ring by way of the corners, too: octagons instead of squares
                grown[1:] |= grown[:-1].copy()
                grown[:-1] |= grown[1:].copy()
            wave = grown & plan.free & ~seen
            seen |= wave
            steps[wave] = count
        score = steps[i, j] + CELLS * cost
        return float(self._turns[int(np.argmin(score))]) if np.isfinite(score).any() else 0.0

    def _need(self) -> NDArray[np.int16]:
        """Number of bare cells under the disc, for its middle in each cell."""
        bare = self._plan.bare
        sums = np.zeros((bare.shape[0], bare.shape[1] + 1), np.int16)
        np.cumsum(bare, axis=1, out=sums[:, 1:])
        need = np.zeros(bare.shape, np.int16)
        nx, ny = bare.shape
        for d, w in self._reach:
            run = np.zeros((nx, ny), np.int16)
            run[:, w : ny - w] = sums[:, 2 * w + 1 :] - sums[:, : ny - 2 * w]
            if d >= 0:
                need[: nx - d] += run[d:]
            else:
                need[-d:] += run[:d]
        return need
