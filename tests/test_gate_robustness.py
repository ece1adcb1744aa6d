"""Perturbations: what they turn and what they leave alone, bit for bit; and the grid that is played and drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from physai.errors import ConfigError
from physai.evaluate import charts, evaluate, perturb
from physai.evaluate.outputs import together, write
from physai.evaluate.perturb import Axis, Grid
from physai.evaluate.report import schema
from physai.spec import PolicySpec
from physai_envs import registry

PEG: PolicySpec = registry.task("peg_insertion").policy_spec()
STEPS = 12


def rollout(options: dict[str, Any] | None, task: str = "peg_insertion") -> tuple[NDArray[Any], NDArray[Any], Any]:
    """Observations and rewards of a fixed sequence of actions, and the info of the reset."""
    env = registry.make(task)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (STEPS, *env.action_space.shape)).astype(np.float32)
    first, info = env.reset(seed=1_000_003, options=options)
    seen, rewards = [first], []
    for action in actions:
        observation, reward, *_ = env.step(action)
        seen.append(observation)
        rewards.append(reward)
    env.close()
    return np.asarray(seen), np.asarray(rewards), info


@pytest.fixture(scope="module")
def plain() -> tuple[NDArray[Any], NDArray[Any], Any]:
    return rollout(None)


def test_what_is_not_used_changes_no_bit(plain: tuple[NDArray[Any], NDArray[Any], Any]) -> None:
    neutral = {
        "difficulty": 1.0, "noise_scale": 1.0, "action_delay_s": 0.0, "observation_delay_s": 0.0,
        "observation_drop": 0.0, "randomization": {},
    }  # fmt: skip
    seen, rewards, info = rollout(neutral)
    assert np.array_equal(seen, plain[0])
    assert np.array_equal(rewards, plain[1])
    drawn = {"randomization": dict(info["randomization"])}
    assert np.array_equal(rollout(drawn)[0], plain[0]), "pinned to what would have been drawn"


def test_a_randomisation_is_pinned_and_nothing_else_is_drawn_otherwise() -> None:
    free, pinned = (rollout(options, "tidy_up")[2] for options in (None, {"randomization": {"mass": 0.1}}))
    assert pinned["randomization"].pop("mass") == 0.1
    assert free["randomization"].pop("mass") != 0.1
    assert pinned["randomization"] == free["randomization"]


def test_noise_is_scaled(plain: tuple[NDArray[Any], NDArray[Any], Any]) -> None:
    none, double = rollout({"noise_scale": 0.0}), rollout({"noise_scale": 2.0})
    for other in (none, double):
        assert np.array_equal(other[1], plain[1]), "what happens stays the same; it is only seen otherwise"
    error = plain[0] - none[0]
    assert np.ptp(error[:, 0]) > 1e-4, "noise, and not only an offset"
    inside = (np.abs(none[0] - PEG.observation_low) > 1e-2) & (np.abs(none[0] - PEG.observation_high) > 1e-2)
    assert np.allclose((double[0] - none[0])[inside], 2.0 * error[inside], atol=1e-4)


def test_observations_come_late(plain: tuple[NDArray[Any], NDArray[Any], Any]) -> None:
    late = rollout({"observation_delay_s": 3 / PEG.control_hz})
    assert np.array_equal(late[0][3:], plain[0][:-3])
    assert np.array_equal(late[0][:4], np.tile(plain[0][0], (4, 1)))
    assert np.array_equal(late[1], plain[1])


def test_observations_are_lost(plain: tuple[NDArray[Any], NDArray[Any], Any]) -> None:
    assert np.array_equal(rollout({"observation_drop": 1.0})[0], np.tile(plain[0][0], (STEPS + 1, 1)))
    some = rollout({"observation_drop": 0.5})[0]
    fresh = [np.array_equal(a, b) for a, b in zip(some, plain[0], strict=True)]
    assert 1 < sum(fresh) < STEPS
    for i, kept in enumerate(fresh):
        assert kept or np.array_equal(some[i], some[i - 1]), "the one before comes again"
    assert np.array_equal(some, rollout({"observation_drop": 0.5})[0])


def test_actions_come_late(plain: tuple[NDArray[Any], NDArray[Any], Any]) -> None:
    env = registry.make("peg_insertion")
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (STEPS, *env.action_space.shape)).astype(np.float32)
    still = np.zeros_like(actions[:2])
    env.reset(seed=1_000_003)
    by_hand = [env.step(action)[0] for action in np.concatenate([still, actions[:-2]])]
    env.close()
    late = rollout({"action_delay_s": 2 / PEG.control_hz})[0][1:]
    moved = ("tip_to_mouth",)  # the rest may hold the last action, which is that of the policy
    part = PEG.observation_slices[moved[0]] if moved[0] in PEG.observation_slices else slice(0, 3)
    assert np.array_equal(late[:, part], np.asarray(by_hand)[:, part])
    assert not np.array_equal(late, plain[0][1:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise_scal": 1.0}, "did you mean 'noise_scale'"),
        ({"randomization": {"hole_frictoin": 0.1}}, "draws no 'hole_frictoin'; did you mean 'hole_friction'"),
        ({"randomization": {"hole_friction": float("nan")}}, "give a finite number"),
        ({"noise_scale": -1.0}, "it must be 0 or more"),
        ({"observation_drop": 1.5}, "it must be between 0 and 1"),
        ({"action_delay_s": 0.01}, "must be a whole number of steps"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], words: str) -> None:
    env = registry.make("peg_insertion")
    with pytest.raises(ConfigError, match=re.escape(words)):
        env.reset(seed=0, options=options)
    env.close()


def test_a_grid_is_every_combination() -> None:
    grid = perturb.parse(["hole_friction=0.1:0.5:3", "action_delay_s=0:0.1:3"], PEG)
    assert grid is not None
    assert [axis.unit for axis in grid.axes] == ["1", "s"]
    assert len(grid.points) == 9
    assert grid.points[1] == {"hole_friction": 0.1, "action_delay_s": 0.05}
    assert perturb.options(grid.points[1]) == {"action_delay_s": 0.05, "randomization": {"hole_friction": 0.1}}
    assert perturb.parse([], PEG) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hole_frictoin=0:1", "has no 'hole_frictoin' to turn; did you mean 'hole_friction'"),
        ("hole_friction", "cannot be read; write hole_friction=LOW:HIGH"),
        ("hole_friction=1:0", "with LOW below HIGH"),
        ("hole_friction=0:1:1", "N of 2 or more"),
        ("noise_scale=-1:1", "noise_scale is 0 or more"),
        ("observation_drop=0:2", "is a chance, at most 1"),
        ("action_delay_s=0:0.1", "delays are whole control periods of 0.05 s, and its values are 0, 0.025"),
        ("hole_friction=0:1:2000", "the grid has 2,000 points"),
    ],
)
def test_what_cannot_be_turned_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        perturb.parse([text], PEG)


def test_the_shipped_policy_on_a_grid(tmp_path: Path) -> None:
    """Reach sees nothing with readings that never change; the report says so, by point, in every form."""
    perturbations = ["noise_scale=0:3:2", "observation_drop=0:1:2"]
    report = evaluate("reach", episodes=4, workers=1, perturbations=perturbations, progress=False)
    document = json.loads(json.dumps(together([report], {})))
    Draft202012Validator(schema()).validate(document)
    found = document["robustness"]
    assert [point["at"]["observation_drop"] for point in found["points"]] == [0.0, 1.0, 0.0, 1.0]
    assert found["points"][0]["success"]["rate"] == document["success"]["rate"] == 1.0
    assert found["worst"]["at"]["observation_drop"] == 1.0
    assert found["worst"]["success"]["rate"] < 0.5
    assert "--perturb noise_scale=0:3:2 --perturb observation_drop=0:1:2" in document["command"]
    files = {name: tmp_path / f"a.{name}" for name in ("markdown", "html", "heat_map")}
    write([report], {}, **files)  # type: ignore[arg-type]
    assert "Worst corner: noise_scale" in files["markdown"].read_text()
    assert files["html"].read_text().count("data:image/png;base64,") == 2
    assert files["heat_map"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("sizes", [(4,), (3, 2), (2, 3, 2)])
def test_every_grid_can_be_drawn(sizes: tuple[int, ...]) -> None:
    axes = tuple(Axis(f"axis{i}", "m", tuple(float(v) for v in range(size))) for i, size in enumerate(sizes))
    points = [
        {"at": at, "success": {"rate": 0.5 if at["axis0"] else 1.0}, "return": {"mean": 0.0}}
        for at in Grid(axes).points
    ]
    found = {"axes": [{"name": a.name, "unit": a.unit, "values": list(a.values)} for a in axes], "points": points}
    before = [{"old": 0.25} for _ in points]
    for old in ((), before):
        assert charts.png(charts.heat_map(found, old)).startswith(b"\x89PNG")
    if len(sizes) > 1:
        same = charts.heat_map(found, [{"old": point["success"]["rate"]} for point in points])
        (_, change) = (axes.images[0] for axes in same.axes if axes.images)
        assert change.get_clim() == (-0.05, 0.05), "no difference is white, with a scale that says so"
    shown = charts.heat_map(found).axes[0]
    assert shown.get_xlabel() == ("axis0 [m]" if len(sizes) == 1 else "axis1 [m]")
