"""The gate from end to end: independent of workers, safe against crashes, resumable, and with one exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from evaluation_policies import document, one_sentence, save_bundle, save_zip
from evaluation_toys import TASK
from gate_toys import CRASHES, FAULTY, HANGING, KILLED, NARROW, ONCE, RAISES, SLOW

from physai.deploy.bundle import load_bundle
from physai.errors import ConfigError, TaskError
from physai.evaluate import evaluate
from physai.evaluate.episodes import EpisodeRecord
from physai.evaluate.gate import Gate
from physai.evaluate.journal import journal_of
from physai.evaluate.workers import Crew, Job, Play

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("gate") / "bundle")


def test_one_two_and_four_workers_say_the_same(bundle: Path) -> None:
    """Half of the toy's episodes succeed, so that a bar of 80 % is missed long before the last is played."""
    one, two, four = (
        evaluate(bundle, episodes=60, workers=workers, progress=False, gate=Gate.of(0.8), stop_risk=0.01)
        for workers in (1, 2, 4)
    )
    assert document(one) == document(two) == document(four)
    assert one.stopped is not None
    assert (one.stopped.passed, one.exit_code) == (False, 1)
    assert len(one.records) == one.stopped.played < 40
    assert [record.seed for record in one.records] == list(range(1_000_000, 1_000_000 + one.stopped.played))


def test_a_pass_waits_for_what_else_is_asked_for(bundle: Path) -> None:
    gate = Gate.of(0.1, None, ["steps<100"])
    found = evaluate(bundle, episodes=30, workers=1, progress=False, gate=gate, stop_risk=0.01)
    assert found.stopped is None
    assert (len(found.records), found.exit_code) == (30, 0)
    alone = evaluate(bundle, episodes=30, workers=1, progress=False, gate=Gate.of(0.1), stop_risk=0.01)
    assert len(alone.records) < 30


def test_an_episode_that_crashes_or_raises_does_not_take_the_others_with_it(bundle: Path) -> None:
    found = evaluate(bundle, task=FAULTY, episodes=8, workers=2, progress=False, gate=Gate.of(0.0))
    crash, raised = found.failures
    assert (crash.seed, raised.seed) == (CRASHES, RAISES)
    assert "was ended by SIGSEGV, 2 times" in crash.error
    assert "it raised ZeroDivisionError: a wheel of no radius (episode with seed 1000004)" in raised.error
    assert one_sentence(crash.error)
    assert len(found.records) == 6
    assert found.exit_code == 2
    assert [row["seed"] for row in found.to_dict()["failed"]] == [CRASHES, RAISES]
    healthy = evaluate(bundle, episodes=8, workers=1, progress=False)
    kept = {record.seed: record.episode_return for record in found.records}
    assert all(kept.get(r.seed, r.episode_return) == r.episode_return for r in healthy.records)


def test_an_episode_that_hangs_is_stopped_and_the_others_are_kept(bundle: Path) -> None:
    found = evaluate(bundle, task=HANGING, episodes=8, workers=2, progress=False, timeout_s=6.0)
    assert [failure.seed for failure in found.failures] == [CRASHES, RAISES], "in a step, and in the reset"
    for failure in found.failures:
        assert f"did not end within 6 s and was stopped (episode with seed {failure.seed})" in failure.error
        assert one_sentence(failure.error)
    assert len(found.records) == 6
    assert found.exit_code == 2


def test_an_episode_that_hangs_is_stopped_although_somebody_always_has_an_answer(bundle: Path) -> None:
    """The slower side here is who asks: whenever it does, the other worker has finished another episode."""
    plays = [Play(seed) for seed in (CRASHES, *range(1_000_100, 1_000_400))]
    with Crew(Job(str(bundle), None, HANGING, load_bundle(bundle).digest), 2, 2.0) as crew:
        asked, before = [], 0.0
        for play, _ in crew.play(plays):
            asked.append(play.seed)
            if play.seed == CRASHES:
                break
            busy = next(worker for worker in crew._workers if worker.ready and Play(CRASHES) not in worker.told)
            assert busy.since >= before, "each episode has the whole time for itself"
            assert not busy.told or busy.seat.pipe.poll(60.0)
            before = time.monotonic()
            time.sleep(0.02)
    assert asked[-1] == CRASHES
    assert len(asked) < 200, "not only when there was nothing else to hear"


def test_an_episode_whose_process_was_killed_from_outside_is_played_again(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ONCE, str(tmp_path / "once"))
    found = evaluate(bundle, task=KILLED, episodes=5, workers=1, progress=False)
    assert (tmp_path / "once").exists()
    assert found.failures == ()
    assert [record.seed for record in found.records] == list(range(1_000_000, 1_000_005))


def test_a_worker_that_is_dead_before_it_is_told_is_replaced(bundle: Path) -> None:
    """Its end of the pipe is closed when the parent sends: a race that a crash loses now and then."""
    with Crew(Job(str(bundle), None, TASK, load_bundle(bundle).digest), 1, 600.0) as crew:
        playing = crew.play([Play(seed) for seed in range(1_000_000, 1_000_004)])
        outcomes = [next(playing)[1]]
        crew._workers[0].seat.process.kill()
        crew._workers[0].seat.process.join()
        outcomes += [outcome for _, outcome in playing]
    assert sorted(outcome.seed for outcome in outcomes) == list(range(1_000_000, 1_000_004))
    assert all(isinstance(outcome, EpisodeRecord) for outcome in outcomes)


def test_a_policy_that_computes_no_numbers_is_named(tmp_path: Path) -> None:
    import torch
    from stable_baselines3 import PPO

    path = save_zip(tmp_path)
    model = PPO.load(path, device="cpu")
    with torch.no_grad():
        model.policy.action_net.bias.fill_(float("nan"))
    model.save(path)
    found = evaluate(path, task=TASK, episodes=2, workers=1, progress=False)
    assert found.exit_code == 2
    assert len(found.failures) == 2
    assert re.search(r"an action of the policy is not finite .* seed 1000000, step 0", found.failures[0].error)
    assert found.to_dict()["return"] is None


def test_a_policy_of_another_task_is_refused_term_by_term(bundle: Path) -> None:
    with pytest.raises(TaskError) as refusal:
        evaluate(bundle, task=NARROW, episodes=2, progress=False)
    for words in (
        "does not fit GateToyNarrow-v0",
        "it lacks observation 'velocity' (shape (1,), m/s, frame none)",
        "the task has no observation 'speed'",
        "action 'turn' is elements yaw, -2 to 2 rad/s, frame none to the policy and elements yaw, -1 to 1 rad/s",
    ):
        assert words in str(refusal.value)
    with pytest.raises(TaskError, match="it lacks observation 'joint_positions'"):
        evaluate(bundle, task="reach", episodes=2, progress=False)


def test_one_that_was_killed_goes_on_where_it_was(bundle: Path, tmp_path: Path) -> None:
    code = "from physai.cli import main; main()"
    words = ["eval", str(bundle), "--task", SLOW, "--episodes", "40", "--workers", "1", "--json", "report.json"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    journal = journal_of(tmp_path / "report.json")
    until = time.monotonic() + 60.0
    while not journal.exists() or journal.read_text().count("\n") < 8:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = journal.read_text().count("\n") - 1
    with journal.open("a") as file:
        file.write('{"point": -1, "seed": 10000')  # as if it had been killed while it wrote
    settings: dict[str, Any] = {"task": SLOW, "episodes": 40, "workers": 1, "progress": False}
    resumed = evaluate(bundle, journal=journal, resume=True, **settings)
    assert kept <= resumed.timing["resumed"] < 40
    assert document(resumed) == document(evaluate(bundle, **settings))
    assert journal.read_text().count("\n") == 41, "one line for each, and one that says what it is"


def test_the_journal_of_another_evaluation_is_refused(bundle: Path, tmp_path: Path) -> None:
    journal = tmp_path / "report.json.journal"
    evaluate(bundle, episodes=2, workers=1, progress=False, journal=journal)
    with pytest.raises(ConfigError, match=r"episodes of another evaluation \(other first_seed\); leave out --resume"):
        evaluate(bundle, episodes=2, seed=1, workers=1, progress=False, journal=journal, resume=True)
    more = evaluate(bundle, episodes=3, workers=1, progress=False, journal=journal, resume=True)
    assert (more.timing["resumed"], len(more.records)) == (2, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stop_risk": 0.01}, "give --min-success"),
        ({"gate": Gate.of(requirements=["steps<3"]), "stop_risk": 0.01}, "give --min-success"),
        ({"perturbations": ["noise_scale=0:2"]}, "is not a task of physai"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(bundle: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluate(bundle, episodes=2, progress=False, **settings)
