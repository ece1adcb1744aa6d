"""A session that runs, watched in a browser: what is told, what is obeyed, and that nobody who watches delays it."""

from __future__ import annotations

import http.client
import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from webdriver import SPACE, UP_ARROW, Browser, browser

from physai.errors import SimulationError
from physai.view.feed import Archive, Feed
from physai.view.live import Live, key_code
from physai.view.serve import LARGEST_ORDER, WATCHERS, PageServer
from physai.view.stage import Stage

# a shell that starts tests in the background has SIGINT ignored, which is inherited
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from physai.cli import main; main()"
FIRST = 1_000_000


@pytest.fixture
def live() -> Iterator[Live]:
    with Stage("reach", visual=True) as stage:
        live = Live(stage)
        live.player.begin(FIRST)
        yield live


def told(feed: Feed) -> dict[str, Any]:
    """What somebody is told who begins to watch."""
    return {kind: json.loads(text) for kind, text in next(feed.listen(0.0))}


def obey(live: Live, do: str, value: Any = None) -> None:
    live._obey({"do": do, "value": value})


def test_a_slow_reader_is_told_the_newest_and_never_waited_for() -> None:
    feed = Feed()
    listening = feed.listen(0.0)
    feed.tell("begin", 1)
    for step in range(10_000):
        feed.tell("frame", step)
    assert next(listening) == [("begin", "1"), ("frame", "9999")]
    feed.tell("begin", 2)
    assert next(listening) == [("begin", "2")]
    feed.tell("frame", 0)
    feed.tell("begin", 3)
    assert next(listening) == [("frame", "0"), ("begin", "3")], "in the order in which it was told"
    assert next(listening) == [], "nothing new"
    feed.end()
    assert list(listening) == [[]]


def test_who_waits_is_told_at_once() -> None:
    feed, heard = Feed(), queue.Queue[list[tuple[str, str]]]()
    reader = threading.Thread(target=lambda: [heard.put(news) for news in feed.listen(600.0)], daemon=True)
    reader.start()
    time.sleep(0.2)
    feed.tell("frame", 1)
    assert heard.get(timeout=60.0) == [("frame", "1")]
    feed.end()
    assert heard.get(timeout=60.0) == []
    reader.join(60.0)
    assert not reader.is_alive()


def test_the_archive_keeps_the_newest_within_its_bounds() -> None:
    archive = Archive(most_bytes=700)
    said = {"seed": 1, "actor": "a", "steps": 3, "successAt": None, "return": 0.5, "poses": "x" * 400}
    for number in range(5):
        archive.add(number, said)
    assert [one["id"] for one in archive.listed()] == [4]
    assert archive.episode(0) is None
    assert archive.episodes() == [said]


def test_orders_do_what_the_keys_of_the_window_do(live: Live) -> None:
    stage = live.player.stage
    obey(live, "step")
    assert (stage.steps, live.player.clock.paused) == (1, True)
    obey(live, "next")
    assert (stage.seed, stage.steps) == (FIRST + 1, 0)
    obey(live, "seed", FIRST + 42)
    assert stage.seed == FIRST + 42
    obey(live, "speed", 0.25)
    assert live.player.clock.speed == 0.25
    obey(live, "actor", 1)
    assert stage.words == "scripted expert, no policy"
    obey(live, "human")
    obey(live, "keys", ["ArrowUp", "w", "F5", 3])
    assert live._down() == {key_code("ArrowUp"), ord("w")}
    live._held_until = 0.0
    assert live._down() == set(), "keys of a browser that is gone are let go"


@pytest.mark.parametrize(
    ("do", "value"), [("speed", 1000), ("speed", [1]), ("seed", "1; import os"), ("rm", None), ("seed", 999_999)]
)
def test_an_order_that_is_none_is_explained_and_changes_nothing(live: Live, do: str, value: Any) -> None:
    obey(live, do, value)
    live._tell()
    assert str(value) in told(live.feed)["state"]["said"]
    assert (live.player.stage.seed, live.player.clock.speed) == (FIRST, 1.0)


def test_who_watches_is_told_what_happens_and_finished_episodes_are_kept_whole(live: Live) -> None:
    stage = live.player.stage
    live._tell()
    while not stage.ended:
        live.player.step(set())
    live._tell()
    news = told(live.feed)
    assert (news["begin"]["seed"], news["frame"]["step"]) == (FIRST, stage.steps)
    assert news["frame"]["return"] == pytest.approx(stage.total)
    [listed] = news["episodes"]
    episode = json.loads(live.archive.episode(listed["id"]) or "")
    assert (episode["seed"], episode["steps"], episode["successAt"]) == (FIRST, stage.steps, listed["successAt"])
    assert len(episode["goals"]) == 1
    page = live.download()
    assert str(FIRST) in page
    assert "connect-src" not in page, "a file asks for nothing"


def test_a_policy_that_fails_ends_it_in_words(live: Live) -> None:
    stage = live.player.stage
    stage.take_over(Broken(stage.spec))
    with pytest.raises(SimulationError, match="not finite"):
        live.run(FIRST)
    assert "not finite" in told(live.feed)["end"]


class Broken:
    """Acts with numbers that are none."""

    words = "broken"

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def reset(self) -> None: ...

    def act(self, observations: Any) -> Any:
        return np.full((1, self.spec.action_size), np.nan)


def post(server: PageServer, path: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("POST", path, body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_only_who_knows_the_token_gives_orders(live: Live) -> None:
    with PageServer("127.0.0.1", 0) as server, server.answering():
        server.live = live
        order = b'{"do": "pause"}'
        assert post(server, "/orders", order) == 404
        assert post(server, "/AAAAAAAAAAAAAAAAAAAAAA/orders", order) == 404
        assert live.orders.empty()
        mine = f"/{server.token}/orders"
        assert [post(server, mine, body) for body in (b"", b"[]", b'{"do": 3}', b"\xff")] == [400] * 4
        assert post(server, mine, b" " * (LARGEST_ORDER + 1)) == 413
        assert live.orders.empty()
        assert post(server, mine, order) == 204
        assert live.orders.get_nowait() == {"do": "pause"}
        live.feed.end()


def test_a_browser_that_does_not_read_delays_nobody(live: Live) -> None:
    with PageServer("127.0.0.1", 0) as server, server.answering():
        server.live = live
        with socket.create_connection(("127.0.0.1", server.server_port)) as deaf:
            deaf.sendall(f"GET /{server.token}/events HTTP/1.0\r\n\r\n".encode())
            time.sleep(0.2)
            for _ in range(2000):  # 20 MB, far more than any buffer takes
                live.feed.tell("frame", "x" * 10_000)
            [(kind, _)] = [one for one in next(live.feed.listen(0.0)) if one[0] == "frame"]
        assert kind == "frame"
        live.feed.end()


def test_a_browser_that_is_gone_gives_its_seat_back(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("physai.view.serve.HEARTBEAT_S", 0.05)

    def seat() -> tuple[socket.socket, bytes]:
        connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=60.0)
        connection.sendall(f"GET /{server.token}/events HTTP/1.0\r\n\r\n".encode())
        return connection, connection.recv(12)[-3:]

    with PageServer("127.0.0.1", 0) as server, server.answering():
        server.live = live
        seats = [seat() for _ in range(WATCHERS)]
        assert {status for _, status in seats} == {b"200"}
        heard = b""
        while b"\n:\n\n" not in heard:  # as long as nothing happens, so that everybody between knows of it
            heard += seats[0][0].recv(1000)
        refused, status = seat()
        assert status == b"503", "no more than it has threads for"
        for connection in (refused, *(connection for connection, _ in seats)):
            connection.close()
        end, status = time.monotonic() + 60.0, b""
        while status != b"200" and time.monotonic() < end:
            connection, status = seat()
            connection.close()
        assert status == b"200"
        live.feed.end()


@contextmanager
def session(*arguments: str) -> Iterator[str]:
    """Runs `physai view ... --browser`, gives its address, and ends it as a person does."""
    command = [sys.executable, "-c", MAIN, "view", *arguments, "--browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        said = re.match(r"(http://127\.0\.0\.1:\d+/[\w-]{22}/) ", process.stdout.readline())
        assert said is not None
        killer = threading.Timer(300.0, process.kill)
        killer.start()
        try:
            yield said[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            killer.cancel()
            process.kill()


def seconds(person: Browser) -> float:
    return float((person.text("output").split() or ["-1"])[0])


def drawn(person: Browser) -> float:
    """Share of the scene that is not backdrop."""
    part = person.picture()[100:500, :800].astype(int)
    return float((np.abs(part - (0xE3, 0xEA, 0xF2)).max(axis=2) > 12).mean())


def test_a_person_watches_what_happens_stops_it_and_looks_back(tmp_path: Path) -> None:
    with session("amr_navigation") as address, browser(tmp_path) as person:
        person.open(address)
        person.wait_for(lambda: seconds(person) > 1.0, "time that passes by itself")
        assert drawn(person) > 0.3
        person.type(SPACE)
        person.wait_for(lambda: "PAUSED" in person.text(".caption"), "PAUSED")
        still = seconds(person)
        time.sleep(0.5)
        assert seconds(person) == still
        person.type(".")
        person.wait_for(lambda: seconds(person) == pytest.approx(still + 0.1), "one step of 0.1 s")
        assert "goal direction" in person.text("aside")
        before = person.picture()
        person.run("const s = document.querySelector('#time'); s.value = 0; s.dispatchEvent(new Event('input'))")
        assert seconds(person) == 0.0
        assert (np.abs(person.picture().astype(int) - before).max(axis=2) > 40).mean() > 0.002, "the slider moves it"
        person.click("#live")
        person.wait_for(lambda: seconds(person) > still, "now")
        person.type(SPACE)
        last = "const a = document.querySelector('#actor'); a.selectedIndex = a.length - 1;"
        person.run(f"{last} a.dispatchEvent(new Event('change'))")
        person.wait_for(lambda: "random actions" in person.text(".caption"), "another policy")
        person.run("const s = document.querySelector('#seed'); s.value = 7; s.dispatchEvent(new Event('change'))")
        person.wait_for(lambda: "seed 1700000" in person.text(".caption"), "another episode")


def test_episodes_that_ended_are_compared_with_the_one_that_runs(tmp_path: Path) -> None:
    with session("reach") as address, browser(tmp_path) as person:
        person.open(address)
        person.wait_for(lambda: str(FIRST) in person.text("#episodes"), "the first episode in the list")
        person.click("#episodes input", 1)
        two = "return document.querySelectorAll('.caption:not([hidden])').length === 2"
        person.wait_for(lambda: person.run(two), "two side by side")
        person.click("#episodes input", 0)
        assert f"seed {FIRST}" in person.text(".caption:not([hidden])")
        person.click("#live")
        person.click("#human")
        person.wait_for(lambda: "Give back" in person.text("#human"), "a person acts")
        person.type("r")
        height = "return [...document.querySelectorAll('.values')].map((v) => v.textContent).join()"
        before = person.run(height)
        person.hold(UP_ARROW, 0.6)
        assert person.run(height) != before
        assert person.run("return document.querySelector('a[download]').href") == f"{address}recording.html"
        with urllib.request.urlopen(f"{address}recording.html", timeout=60.0) as saved:
            (tmp_path / "saved.html").write_bytes(saved.read())
        person.open((tmp_path / "saved.html").as_uri())
        assert f"seed {FIRST}" in person.text(".caption:not([hidden])")
        assert drawn(person) > 0.2
        assert person.run("return document.querySelectorAll('#episodes input').length") >= 2
