"""A watched episode is the episode that is evaluated, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_policies import save_bundle
from evaluation_toys import STEPS, TASK

from physai.errors import TaskError
from physai.evaluate.episodes import play
from physai.policy import load_policy
from physai.view.stage import Stage


def test_watching_step_by_step_is_evaluating(tmp_path: Path) -> None:
    """The same observations as `play`, bit for bit, and the same sums."""
    seen: list[Any] = []
    with Stage("reach") as stage:
        record = play(
            stage.env,
            stage.actor,
            1_000_007,
            on_step=lambda step, info: seen.append(stage.declared.scene.robot.joint_positions),
        )  # type: ignore[union-attr]
    with Stage("reach", visual=False) as stage:
        stage.reset(1_000_007)
        rows = [stage.declared.scene.robot.joint_positions]  # type: ignore[union-attr]
        while not stage.ended:
            stage.step()
            rows.append(stage.declared.scene.robot.joint_positions)  # type: ignore[union-attr]
    assert np.array_equal(np.array(seen), np.array(rows))
    assert (stage.steps, stage.total, stage.success) == (record.steps, record.episode_return, record.success)
    assert stage.time_s == record.steps / 20.0
    assert stage.told_time(30) == "1.5 of at most 5 s"


def test_somebody_else_may_act(tmp_path: Path) -> None:
    with Stage(save_bundle(tmp_path / "bundle")) as stage:
        assert stage.declared is None
        assert stage.told_time(30) == "3.0 s"
        stage.reset(4)
        before = stage.observation.copy()
        stage.step(np.array([1.0, 0.0, 0.0]))
        moved = stage.observation - before
        stage.reset(4)
        stage.step(np.array([-1.0, 0.0, 0.0]))
        assert moved[0] > (stage.observation - before)[0]
        while not stage.ended:
            stage.step()
        assert (stage.steps, stage.success) == (STEPS, True)


def test_another_policy_takes_over_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    first, second = save_bundle(tmp_path / "first"), save_bundle(tmp_path / "second")
    with Stage(first) as stage:
        before = stage.actor
        stage.take_over(load_policy(second))
        assert stage.actor is not before
        taken = stage.actor
        with pytest.raises(TaskError, match="acts in physai/Reach-v0, and this is EvaluationToy-v0"):
            stage.take_over(load_policy("reach"))
        assert stage.actor is taken, "it goes on"


def test_without_a_policy_chance_acts_the_same_twice() -> None:
    with Stage(TASK) as stage:
        assert stage.words == "random actions, no policy"
        ends = []
        for _ in range(2):
            stage.reset(3)
            while not stage.ended:
                stage.step()
            ends.append(stage.observation.tolist())
        assert ends[0] == ends[1]
