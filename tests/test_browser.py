"""Recorded episodes in a real browser: what is seen, that it moves, and that the page keeps to itself."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from chromium import requests, screenshot
from numpy.typing import NDArray
from webdriver import SPACE, Browser, browser

from physai.errors import ConfigError, TaskError
from physai.evaluate.episodes import play
from physai.view.capture import Scenery, capture
from physai.view.page import page
from physai.view.record import record
from physai.view.serve import PageServer
from physai.view.stage import Stage
from physai_envs import registry
from physai_envs.shapes import frame, read_obj, shapes

MAIN = "from physai.cli import main; main()"
SEED = 1_000_000
SIZE = (1000, 700)
SCENE = (slice(100, 600), slice(0, 660))  # the part of a picture that is not plots and bars


@pytest.fixture(scope="module")
def reach(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record("reach", tmp_path_factory.mktemp("page") / "reach.html")


def numbers(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_robot_is_seen_and_the_time_moves_it(reach: Path, tmp_path: Path) -> None:
    early, late = (screenshot(tmp_path, reach, *SIZE, at=f"#t={time}")[SCENE].astype(int) for time in (0, 0.4))
    backdrop = np.array([0xE3, 0xEA, 0xF2])
    drawn = np.abs(early - backdrop).max(axis=2) > 12
    assert 0.2 < drawn.mean() < 0.95
    white = (early.min(axis=2) > 190) & (np.ptp(early, axis=2) < 10)
    assert white.mean() > 0.02, "the arm"
    assert 0.005 < (np.abs(early - late).max(axis=2) > 40).mean() < 0.5, "the arm alone has moved"


def test_the_page_asks_for_nothing_and_shows_what_was_recorded(reach: Path, tmp_path: Path) -> None:
    shown, asked = requests(tmp_path, reach)
    assert asked == []
    assert f"seed {SEED}" in shown
    assert "tip to goal [m]" in shown, "a plot"
    assert 'class="problem"' not in shown, "it was drawn"


def test_recording_changes_nothing_and_tells_the_truth() -> None:
    with Stage("reach") as stage:
        alone = play(stage.env, stage.actor, SEED)
        scenery = Scenery(stage)
        recording = json.loads(json.dumps(capture(stage, [SEED])))
        end = np.array([frame(link) for link in scenery.links], np.float32)
        stage.reset(SEED)
        start = np.array([frame(link) for link in scenery.links], np.float32)
    (episode,) = recording["episodes"]
    assert (episode["return"], episode["steps"], episode["successAt"]) == (
        alone.episode_return, alone.steps, alone.success_at,
    )  # fmt: skip
    poses = numbers(episode["poses"]).reshape(alone.steps + 1, len(episode["moving"]), 7)
    assert np.allclose(np.linalg.norm(poses[..., 3:], axis=2), 1.0, atol=1e-5)
    for row, now in ((poses[0], start), (poses[-1], end)):
        whole = numbers(episode["still"]).reshape(-1, 7).copy()
        whole[episode["moving"]] = row
        assert np.array_equal(whole, now), "everything is where it was"
    assert numbers(episode["rewards"]).sum() == pytest.approx(alone.episode_return, rel=1e-4)


@pytest.mark.parametrize("task", [task.id for task in registry.tasks()])
def test_every_task_can_be_recorded(task: str) -> None:
    with Stage(task) as stage:
        recording = capture(stage, [SEED], max_steps=3)
        text = page(recording)
    assert "1" not in {*recording["metrics"].values(), *(term["unit"] for term in recording["observations"])}
    kinds = {shape["kind"] for shape in recording["shapes"]}
    assert kinds <= {"box", "sphere", "cylinder", "capsule", "plane", "mesh"}
    assert all("points" in shape for shape in recording["shapes"] if shape["kind"] == "mesh")
    still = numbers(recording["episodes"][0]["still"]).reshape(-1, 7)
    assert np.isfinite(still).all()
    floor = max((shape for shape in recording["shapes"] if shape["kind"] == "box"), key=lambda shape: shape["size"][0])
    assert abs(still[floor["link"]][3:5]).max() < 1e-6, "the largest slab lies flat"
    assert json.loads(re.findall(r'id="recording">(.*?)</script>', text, re.DOTALL)[0]) == recording


def test_no_name_can_leave_its_place_in_the_page() -> None:
    with Stage("reach") as stage:
        text = page(capture(stage, [SEED], max_steps=1, words="</script><script>alert(1)</script>"))
    assert "<script>alert" not in text


def test_the_served_page_is_the_file_and_nothing_else_is_served(reach: Path) -> None:
    with PageServer("127.0.0.1", 0) as server, server.answering():
        server.page = reach.read_text(encoding="utf-8")
        token, answers = server.token, []
        for path in (f"/{token}/", "/", f"/{token}", "/x/", f"/{token}/events", f"/{token}/../../etc/passwd"):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
            connection.request("GET", path)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()))
            connection.close()
    assert answers[0] == (200, reach.read_bytes())
    assert [status for status, _ in answers[1:]] == [404] * 5


def test_the_command_prints_its_address_and_ctrl_c_ends_it_well() -> None:
    command = [sys.executable, "-c", MAIN, "view", "reach", "--browser", "--episodes", "1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert re.match(r"http://127\.0\.0\.1:\d+/[\w-]{22}/ ", said)


def test_a_port_in_use_is_one_sentence_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port} .*in use.*another --port") as refused:
            PageServer("127.0.0.1", port)
    assert refused.value.exit_code == 2


def test_a_person_turns_the_page_chooses_and_moves_the_time(tmp_path: Path) -> None:
    page_file = record("amr_navigation", tmp_path / "two.html", episodes=2)
    with browser(tmp_path, SIZE) as person:
        person.open(page_file.as_uri())
        start = person.picture()
        assert person.run("return document.querySelectorAll('.caption:not([hidden])').length") == 1
        first, told = curves(person), values(person)
        person.click("#episodes input", 1)
        assert person.run("return document.querySelectorAll('.caption:not([hidden])').length") == 2, "side by side"
        both = curves(person)
        assert both != first, "the curves are those of both"
        pairs = values(person)
        assert [[pair[0]] for pair in pairs] == told
        person.click("#episodes input", 0)
        assert [[pair[1]] for pair in pairs] == values(person) != told, "of the second one alone"
        assert curves(person) not in (first, both), "the curves are those of the second one alone"
        assert f"seed {SEED + 1}" in person.text(".caption:not([hidden])")
        person.run(f"{SLIDER}; slider.value = 3; slider.dispatchEvent(new Event('input'))")
        assert person.text("output").startswith("3.00 /")
        person.type(SPACE)
        person.wait_for(lambda: not person.text("output").startswith("3.00 /"), "time that passes")
        person.type(SPACE)
        still = person.text("output")
        assert person.text("#play") == "Play"
        assert person.text("output") == still, "time that stands"
        before = person.picture()
        person.drag((300, 300), (120, 40))
        assert moved(before, person.picture()) > 0.1, "the mouse turns the scene"
        for camera in ("top", "follow"):
            before = person.picture()
            person.run(f"{CAMERA}; camera.value = '{camera}'; camera.dispatchEvent(new Event('change'))")
            assert moved(before, person.picture()) > 0.1, f"the camera {camera} stands elsewhere"
        rays = red(person.picture())
        person.click("#overlay")
        assert rays - red(person.picture()) > 200, "no rays any more; what else is red stays"
    assert moved(start, before) > 0.1


SLIDER, CAMERA = "const slider = document.querySelector('#time')", "const camera = document.querySelector('#camera')"


def curves(person: Browser) -> list[str]:
    """The pictures of all curves."""
    found: list[str] = person.run("return [...document.querySelectorAll('figure canvas')].map((c) => c.toDataURL())")
    return found


def values(person: Browser) -> list[list[str]]:
    """What is written over each curve, for each episode that is shown."""
    script = "[...document.querySelectorAll('.values')].map((v) => [...v.children].map((one) => one.textContent))"
    found: list[list[str]] = person.run(f"return {script}")
    return found


def moved(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Share of the scene that looks otherwise."""
    difference = np.abs(after[SCENE].astype(int) - before[SCENE])
    return float((difference.max(axis=2) > 40).mean())


def red(picture: NDArray[np.uint8]) -> int:
    """Pixels of the colour of rays on a grey floor."""
    part = picture[SCENE].astype(int)
    return int(((part[..., 0] - part[..., 1] > 40) & (np.abs(part[..., 1] - part[..., 2]) < 25)).sum())


def test_a_task_of_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="not declared by physai") as refused:
        record("CartPole-v1", tmp_path / "x.html")
    assert refused.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_page_has_one_camera(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one camera"):
        record("reach", tmp_path / "x.html", cameras=("top", "side"))


def test_the_shapes_of_a_second_world_are_its_own() -> None:
    def looks(stage: Stage) -> list[object]:
        return [(shape.kind, shape.size, shape.color) for shape in shapes(stage.ours().scene.world)]

    with Stage("amr_navigation"), Stage("reach") as second:
        beside = looks(second)
    with Stage("reach") as alone:
        assert beside == looks(alone)


def test_a_mesh_of_polygons_becomes_triangles(tmp_path: Path) -> None:
    file = tmp_path / "square.obj"
    file.write_text("# a square\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1/1/1 2/2/1 3/3/1 -1\n")
    points, faces = read_obj(file)
    assert points.shape == (4, 3)
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]
