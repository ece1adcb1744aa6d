"""Specks of dust that lie where the floor is bare: for somebody who looks, without any part in the physics."""

from __future__ import annotations

import numpy as np

from physai_envs.parts.coverage import FloorPlan
from physai_envs.world import Body, Box, Vector, World

SPECKS = 220
HALF = (0.018, 0.018, 0.001)  # m
GREY: Vector = (0.36, 0.33, 0.30, 1.0)
UNDER: Vector = (0.0, 0.0, -20.0)  # m, where a speck is that was swept up


class Dust:
    """The specks; none where nobody looks."""

    def __init__(self, world: World) -> None:
        speck = (Box(HALF, (0.0, 0.0, 0.0), solid=False),)
        self._specks = [world.compound(f"speck{i}", speck, UNDER, color=GREY) for i in range(SPECKS * world.visual)]
        self._lying: list[tuple[int, int, Body]] = []

    def scatter(self, plan: FloorPlan) -> None:
        """Lays all specks on bare floor. Draws from a generator of its own: an episode does not depend on who looks."""
        self._lying = []
        if self._specks:
            cells = np.random.default_rng(0).permutation(np.argwhere(plan.bare))[:SPECKS].tolist()
            for (i, j), speck in zip(cells, self._specks, strict=False):
                speck.place((plan.x[i], plan.y[j], HALF[2]))
                self._lying.append((i, j, speck))

    def sweep(self, plan: FloorPlan) -> None:
        """Takes away what lies on covered floor."""
        for i, j, speck in self._lying:
            if not plan.bare[i, j]:
                speck.place(UNDER)
        self._lying = [lying for lying in self._lying if plan.bare[lying[:2]]]
