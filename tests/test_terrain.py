"""Uneven ground: where its surface is, how it is strewn, and that strewing it again and again costs nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from physai_envs.parts.terrain import LOWEST, PARKED, Terrain
from physai_envs.world import Physics, World, quaternion_from_euler

LOW, HIGH, HEIGHT = (-3.0, -1.0), (3.0, 1.0), 0.09


@pytest.fixture(scope="module")
def ground() -> Iterator[tuple[World, Terrain]]:
    world = World(Physics())
    world.floor()
    yield world, Terrain(world, domes=8, logs=6, slabs=6)
    world.close()


def seen_from_above(world: World, x: float, y: float) -> float:
    hit = world.rays([(x, y, 1.0)], [(x, y, -1.0)])[0]
    return float(hit[3][2])


@pytest.mark.parametrize("index", [0, 8, 14], ids=["dome", "log", "slab"])
def test_height_of_a_mound_is_what_a_ray_from_above_finds(ground: tuple[World, Terrain], index: int) -> None:
    world, terrain = ground
    rng = np.random.default_rng(index)
    terrain.arrange(rng, LOW, HIGH, 0.0)
    mound = terrain.mounds[index]
    depth = 0.05 - (mound.radius or 0.1)
    tilts = (0.05, -0.04) if mound.kind == "slab" else (0.0, 0.0)
    mound.place((0.1, 0.2, depth), quaternion_from_euler((*tilts, 0.5)))
    found = [(terrain.height(x, y), seen_from_above(world, x, y)) for x, y in rng.uniform(-0.4, 0.6, (400, 2))]
    right = [math.isclose(a, b, abs_tol=1e-3) for a, b in found]
    assert sum(right) >= 390  # at an edge a hair's breadth decides, and the sides of a tilted slab are not upright
    assert sum(a > 0.01 for a, _ in found) > 20


def test_strewn_ground_is_what_rays_from_above_find(ground: tuple[World, Terrain]) -> None:
    world, terrain = ground
    rng = np.random.default_rng(3)
    terrain.arrange(rng, LOW, HIGH, HEIGHT)
    points = rng.uniform(LOW, HIGH, (500, 2))
    wrong = [abs(terrain.height(x, y) - seen_from_above(world, x, y)) > 1e-3 for x, y in points]
    assert sum(wrong) <= 5


def test_mounds_lie_all_over_the_lane_and_none_too_high(ground: tuple[World, Terrain]) -> None:
    _, terrain = ground
    for seed in range(10):
        terrain.arrange(np.random.default_rng(seed), LOW, HIGH, HEIGHT)
        places = np.array([mound.at for mound in terrain.mounds])
        assert (places[:, :2] >= LOW).all() and (places[:, :2] <= HIGH).all()
        along = np.sort(places[:, 0])
        assert np.diff(along).max() < 2.0 * (HIGH[0] - LOW[0]) / len(along)
        tops = [mound.height(*mound.at[:2]) for mound in terrain.mounds if mound.kind != "slab"]
        assert min(tops) >= LOWEST * HEIGHT - 1e-9 and max(tops) <= HEIGHT + 1e-9
        slabs = [mound.height(*mound.at[:2]) for mound in terrain.mounds if mound.kind == "slab"]
        assert min(slabs) > 0.0 and max(slabs) < 0.6 * HEIGHT


def test_flat_ground_is_flat(ground: tuple[World, Terrain]) -> None:
    world, terrain = ground
    terrain.arrange(np.random.default_rng(0), LOW, HIGH, 0.0)
    assert all(mound.at == PARKED for mound in terrain.mounds)
    assert terrain.height(0.0, 0.0) == 0.0 == seen_from_above(world, 0.0, 0.0)


def test_strewing_again_leaks_nothing(ground: tuple[World, Terrain]) -> None:
    world, terrain = ground

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def strew(times: int) -> None:
        for seed in range(times):
            world.reset()
            terrain.arrange(np.random.default_rng(seed), LOW, HIGH, HEIGHT)
            world.advance(2)

    strew(50)
    before = resident()
    strew(500)
    assert resident() - before < 1.0  # MB; a height field that is made anew leaks 9.6 MB each time
