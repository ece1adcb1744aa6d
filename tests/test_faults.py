"""Episodes that fail: a clear error, or the quarantine, which is the same for whoever plays and after a resume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import toys
from test_checkpoint import everything

from physai.config import RunConfig
from physai.errors import EpisodeError, SimulationError
from physai.train.behaviour import Package
from physai.train.quarantine import Crash, Findings, Place, Watched
from physai.train.rollout import Job, RolloutWorker
from physai.train.work import InProcessFleet

ERRORS = {"quarantine": {"of": "errors"}}


def rows(learner) -> list[dict]:
    return json.loads((learner.run_folder.path / "quarantine.json").read_text())


def test_an_environment_that_raises_ends_the_run_with_a_sentence_unless_it_is_told_otherwise(tmp_path):
    with pytest.raises(
        EpisodeError, match=r"Raising.* (the simulator is upset) \(group \d, environment \d, episode with"
    ):
        toys.learn(toys.small("toys:Raising-v0", storage=str(tmp_path)))


def test_quarantined_episodes_are_skipped_recorded_and_shown(tmp_path):
    learner = toys.learn(toys.small("toys:Raising-v0", storage=str(tmp_path), rollout=ERRORS))
    seeds = [row["seed"] for row in rows(learner)]
    assert len(seeds) == len(set(seeds)) >= 2 and all(seed % 16 == 0 for seed in seeds)
    assert {row["step"] for row in rows(learner)} == {0, 2}  # in a reset, and in a step
    lines = [line for line in learner.board.lines if line.startswith("quarantine: no more episodes with seed")]
    assert len(lines) == len(seeds)
    header, *_, last = (learner.run_folder.path / "progress.csv").read_text().splitlines()
    assert int(last.split(",")[header.split(",").index("quarantined")]) == len([r for r in rows(learner)])
    assert learner.steps == 320  # what is skipped is played by the next episode


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_continued_run_skips_the_same_episodes(tmp_path, after):
    whole = toys.learn(toys.small("toys:Raising-v0", storage=str(tmp_path / "whole"), rollout=ERRORS))
    values = toys.small("toys:Raising-v0", storage=str(tmp_path / "parts"), rollout=ERRORS)
    toys.learn(values, stop_after=after)
    continued = toys.learn(values)
    assert everything(continued) == everything(whole)
    assert rows(continued) == rows(whole)


def test_too_many_end_the_run(tmp_path):
    rollout = {"quarantine": {"of": "errors", "most": 1}}
    with pytest.raises(SimulationError, match=r"2 episodes of .* in quarantine, and rollout.quarantine.most is 1"):
        toys.learn(toys.small("toys:Raising-v0", storage=str(tmp_path), rollout=rollout))


def parts(task: str = "toys:Target-v0", **changes):
    config = RunConfig.model_validate(toys.small(task, **changes))
    from test_rollout_parity import package
    from test_rollout_parity import parts as made

    return config, package(*made(config))


def test_an_episode_in_quarantine_gives_way_to_the_next_wherever_its_group_is():
    config, package = parts(algorithm={"batch_size": 20}, rollout={"steps": 5})
    worker, other = RolloutWorker(config), RolloutWorker(config)
    first = worker.sample(package, Job(0, 0, None))
    here, there = first.state
    assert len(here.actions) == 5  # in the middle of it
    skipping = Package(2, package.learner, package.weights, package.normalizer, frozenset([here.seed]))
    stayed, moved = (w.sample(skipping, Job(0, 1, first.state)) for w in (worker, other))
    assert stayed.rebuilt == 0 and moved.rebuilt == len(there.actions)
    for fragment in (stayed, moved):
        assert fragment.reproducible
        assert list(fragment.episode_starts[0]) == [1.0, 0.0]
        assert fragment.state[0].episode == here.episode + 1 and fragment.state[1].episode == there.episode
    np.testing.assert_array_equal(stayed.observations, moved.observations)


def test_held_out_episodes_in_quarantine_are_not_played_and_are_no_success(tmp_path):
    values = toys.small("toys:Raising-v0", storage=str(tmp_path), rollout={"quarantine": {"of": "errors", "most": 100}})
    values["stop"] |= {"episodes": 60, "steps": 64 * 30, "every_steps": 640}
    values["algorithm"] |= {"learning_rate": 0.01, "epochs": 10}
    learner = toys.learn(values)
    missed = {row["seed"] for row in rows(learner) if row["work"] == "judge"}
    assert missed and all(seed >= 900_000 for seed in missed)
    assert learner.best["episodes"] == 60 - len(missed)
    success = learner.best["success"] * 60
    assert success == pytest.approx(round(success))  # of 60, and not of those that were played
    assert 0 < success <= 60 - len(missed)


def test_a_demonstration_that_fails_is_left_out(tmp_path):
    values = toys.small("toys:Raising-v0", storage=str(tmp_path), rollout=ERRORS)
    values |= {"warm_start": {"rounds": 1, "episodes": 90, "epochs": 1}}
    values["stop"] |= {"steps": 10}
    learner = toys.learn(values)
    assert [row["work"] for row in rows(learner)].count("demonstrate") >= 1


def test_a_watched_environment_tells_where_it_is_before_it_goes_on():
    told = []
    env = Watched(toys.Fatal(), told.append)
    bad = 16 * 2  # fails in step 2
    env.reset(seed=bad)
    with pytest.raises(ZeroDivisionError):
        for _ in range(9):
            env.step(np.zeros(2, np.float32))
    assert told == [Place(bad, step) for step in range(3)]


def test_crashes_are_for_the_quarantine_by_default_and_can_be_refused():
    config, package = parts()
    crash = Crash(5, 7, "died", "sample")
    findings = Findings(config)
    findings.begin(package)
    findings.crashed(1, crash)
    findings.crashed(0, Crash(6, 0, "died", "sample"))
    assert [found.seed for found in findings.crashes] == [6, 5]  # in the order of the jobs
    assert findings.package(1, package).skip == {5} and findings.package(2, package) is package
    refusing = Findings(RunConfig.model_validate(toys.small(rollout={"quarantine": {"of": "nothing"}})))
    refusing.begin(package)
    with pytest.raises(SimulationError, match=r"again and again in the episode with seed 5, step 7: died"):
        refusing.crashed(1, crash)


def test_the_answers_do_not_depend_on_who_found_the_episode():
    config, package = parts("toys:Raising-v0", rollout={"steps": 400, **ERRORS})
    fleet = InProcessFleet(config)
    fleet.start("sample", package, [Job(group, 0, None) for group in range(2)])
    fragments = fleet.finish(lambda: None)
    known = {crash.seed for crash in fleet.crashes}
    assert known
    informed = Package(2, package.learner, package.weights, package.normalizer, frozenset(known))
    again = [RolloutWorker(config).sample(informed, Job(group, 0, None)) for group in range(2)]
    for left, right in zip(fragments, again, strict=True):
        np.testing.assert_array_equal(left.rewards, right.rewards)
