"""The clock of the loop, the log, the watchdog and replays."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from runtime_toys import Setup

from physai.deploy.log import AROUND, EVENT, TICK, Log
from physai.deploy.replay import read_log, replay
from physai.deploy.runtime import State
from physai.deploy.safety import SAFETY_SCHEMA
from physai.deploy.watchdog import Watchdog
from physai.errors import DeployError
from physai.twin.actuators import Actuators, Command

FULL = (0.5, -0.5, 0.5)


def test_ticks_come_at_absolute_times_and_late_ones_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(lambda: FULL)
    times: list[int] = []

    def notice(robot) -> None:
        times.append(setup.clock())
        if len(times) == 20:
            setup.clock.sleep(0.18)  # more than three periods
        robot.reading.done = len(times) > 40

    setup.robot.before_reading = notice
    held, hold = [], setup.runtime.held
    monkeypatch.setattr(setup.runtime, "held", lambda ticks: (held.append(ticks), hold(ticks)))
    loop = setup.loop()
    assert loop.run() is State.VERIFIED
    gaps = [(b - a) * 1e-9 for a, b in itertools.pairwise(times[5:])]
    assert max(gaps) == pytest.approx(0.2, abs=0.01), "the next one in the grid, not at once"
    assert sorted(gaps)[0] > 0.04, "and none is caught up"
    assert loop.skipped == 3
    assert held == [3]
    assert setup.runtime.shield.resting
    assert [b - a for a, b in itertools.pairwise(setup.robot.ticks) if b - a != 1] == [4], "the drives see the gap"


@pytest.mark.parametrize("at", range(4, 12))
def test_a_tick_skipped_in_a_ramp_breaks_no_limit_at_the_drives(at: int) -> None:
    """The held command ends the ramp, which is the drives' doing, as with a command that was lost."""
    slow = {"low": [-0.6] * 3, "high": [0.6] * 3, "rate": [3.0] * 3, "rate_change": [20.0] * 3}  # a ramp of six ticks
    site = {"schema": SAFETY_SCHEMA, "basis": "a slow site", "commands": {"tip_velocity": slow}, "workspace": None}
    setup, count = Setup(lambda: FULL, site=site), itertools.count()

    def stumble(robot: Any) -> None:
        if next(count) == at:
            setup.clock.sleep(1.5 * setup.control.period_s)
        robot.reading.done = len(robot.sent) > 30

    setup.robot.before_reading = stumble
    assert setup.loop().run() is State.VERIFIED
    drives = Actuators(setup.runtime.safety, setup.bundle.spec)
    for tick, values in zip(setup.robot.ticks, setup.robot.sent, strict=True):
        drives.receive(Command(tick, tick + 3, tick, list(values)))
        drives.apply(tick)
    assert drives.violations == {}
    assert drives.received > 30 and drives.gaps == 1


def test_ending_brings_it_to_rest() -> None:
    setup = Setup(lambda: FULL)
    asked = []
    assert setup.loop().run(lambda: len(asked) > 20 or bool(asked.append(1))) is State.VERIFIED
    assert setup.robot.sent[-1] == [0.0, 0.0, 0.0]
    assert max(command[0] for command in setup.robot.sent) == pytest.approx(0.5)


@pytest.fixture
def logged(tmp_path: Path) -> tuple[Setup, Path]:
    says = [FULL]
    setup = Setup(lambda: says[0])
    log = Log(tmp_path / "run.mcap", setup.bundle)
    setup.runtime.log = log
    setup.running()
    setup.tick(100)
    says[0] = (9.0, 0.0, 0.0)
    setup.tick()
    says[0] = FULL
    setup.tick(100)
    setup.runtime.stop()
    setup.tick(10)
    log.close()
    return setup, tmp_path / "run.mcap"


def test_the_log_holds_every_tick_and_the_moments_around_each_event(logged: tuple[Setup, Path]) -> None:
    setup, path = logged
    with open(path, "rb") as stream:
        reader = make_reader(stream)
        messages = [(channel.topic, json.loads(m.data)) for _, channel, m in reader.iter_messages(log_time_order=False)]
        channels = reader.get_summary().channels.values()
        attachment = next(iter(reader.iter_attachments()))
    assert {channel.metadata["bundle"] for channel in channels} == {setup.bundle.digest}
    assert json.loads(attachment.data) == setup.bundle.manifest
    ticks = [record["tick"] for topic, record in messages if topic == TICK]
    assert ticks == list(range(1, len(setup.robot.sent) + 1))
    hit = next(record["tick"] for topic, record in messages if topic == TICK and record["reasons"])
    around = [r["tick"] for topic, r in messages if topic == EVENT and r["why"] == "shield"]
    assert around[0] <= hit - AROUND
    assert around[-1] >= hit + AROUND - 1


def test_a_log_that_was_cut_off_is_read_as_far_as_it_goes(logged: tuple[Setup, Path], tmp_path: Path) -> None:
    whole = read_log(logged[1])
    data = logged[1].read_bytes()
    for end in range(len(data) // 2, len(data), len(data) // 15):
        (tmp_path / "cut.mcap").write_bytes(data[:end])
        found = read_log(tmp_path / "cut.mcap")
        assert found == whole[: len(found)]
        assert len(found) > len(whole) // 4
    (tmp_path / "none.mcap").write_bytes(b"")
    with pytest.raises(DeployError, match="holds no ticks"):
        read_log(tmp_path / "none.mcap")


def test_a_log_is_not_overwritten(logged: tuple[Setup, Path]) -> None:
    with pytest.raises(DeployError, match="cannot be written"):
        Log(logged[1], logged[0].bundle)


def test_a_full_queue_drops_and_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("physai.deploy.log.LENGTH", 10)
    monkeypatch.setattr("physai.deploy.log.WRITE_EVERY_S", 60.0)
    log = Log(tmp_path / "run.mcap", Setup().bundle)
    for tick in range(25):
        log.put({"tick": tick, "observation": [0.0]})
    assert log.dropped == 15
    log.close()
    assert len(read_log(tmp_path / "run.mcap")) == 10


def test_a_full_disk_stops_the_robot(tmp_path: Path) -> None:
    setup = Setup(lambda: FULL)
    log = Log(tmp_path / "run.mcap", setup.bundle)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._stream.fileno())  # every write says now that no space is left
    os.close(full)
    setup.runtime.log = log
    setup.running()
    deadline = time.monotonic() + 20
    while log.failed is None and time.monotonic() < deadline:
        time.sleep(0.02)
    setup.tick(10)
    assert setup.runtime.state is State.FAULT
    assert "the log cannot be written" in setup.runtime.cause
    assert setup.robot.sent[-1] == [0.0, 0.0, 0.0]


def test_a_replay_commands_what_was_commanded(tmp_path: Path) -> None:
    setup = Setup()
    log = Log(tmp_path / "run.mcap", setup.bundle)
    setup.runtime.log = log
    setup.running()
    setup.tick(30)
    log.close()
    found = replay(Setup().bundle, tmp_path / "run.mcap")
    assert found.ticks >= 40
    assert found.difference < 1e-6
    other = Setup(lambda: (0.6, 0.6, 0.6)).bundle
    assert replay(other, tmp_path / "run.mcap").difference > 0.1


VICTIM = """
import sys, time
from functools import partial
from pathlib import Path
from physai.deploy.watchdog import Watchdog

if __name__ == "__main__":
    watchdog = Watchdog(2.0, partial(Path.touch, Path(sys.argv[1])))  # longer than a busy machine stands still
    watchdog.start()
    watchdog.arm()
    print("armed", flush=True)
    while True:
        watchdog.beat()
        time.sleep(0.02)
"""


@pytest.mark.parametrize("way", [signal.SIGSTOP, signal.SIGKILL])
def test_the_watchdog_stops_the_robot_of_a_loop_that_is_gone(tmp_path: Path, way: signal.Signals) -> None:
    (tmp_path / "victim.py").write_text(VICTIM)
    command = [sys.executable, str(tmp_path / "victim.py"), str(tmp_path / "stopped")]
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "armed\n"
        time.sleep(0.5)
        assert not (tmp_path / "stopped").exists(), "no false alarm"
        victim.send_signal(way)
        deadline = time.monotonic() + 20
        while not (tmp_path / "stopped").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "stopped").exists()
    finally:
        victim.kill()
        victim.wait()
        victim.stdout.close()


def test_a_watchdog_that_is_not_armed_leaves_the_robot_alone(tmp_path: Path) -> None:
    watchdog = Watchdog(0.05, partial(Path.touch, tmp_path / "stopped"))
    watchdog.start()
    watchdog.arm()
    watchdog.disarm()
    time.sleep(0.3)
    assert not watchdog.tripped
    assert watchdog.alive
    watchdog.close()
    assert not (tmp_path / "stopped").exists()
    assert not watchdog.alive


def test_ticks_leave_nothing_for_the_garbage_collector() -> None:
    """It is off in the loop, so what has cycles would stay there for ever."""
    setup = Setup().running()
    setup.runtime.log = None
    gc.collect()
    gc.disable()
    try:
        setup.tick(300)
        assert gc.collect() < 10
    finally:
        gc.enable()
