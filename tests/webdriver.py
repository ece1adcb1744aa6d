"""A browser without a screen that does what a person does: chromedriver, by the W3C WebDriver protocol."""

from __future__ import annotations

import base64
import http.client
import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import CHROMIUM, FLAGS
from numpy.typing import NDArray
from PIL import Image

WAIT_S = 120.0  # generous: other work may have the cores
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # by which the protocol marks an element
SPACE, UP_ARROW = "\ue00d", "\ue013"  # keys, as the protocol names them


class Browser:
    """One window of a browser."""

    def __init__(self, port: int, folder: Path, size: tuple[int, int]) -> None:
        self._port = port
        flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}"]
        options = {"goog:chromeOptions": {"binary": CHROMIUM, "args": flags}, "timeouts": {"script": 60_000}}
        self._session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        connection.request(method, path, None if body is None else json.dumps(body))
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{value['error']}: {value['message']}")
        return value

    def _do(self, what: str, **values: Any) -> Any:
        return self._ask("POST", f"/session/{self._session}/{what}", values)

    def open(self, address: str) -> None:
        """Opens an address."""
        self._do("url", url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a function body in the page, and returns its value."""
        return self._do("execute/sync", script=script, args=list(arguments))

    def text(self, selector: str) -> str:
        """What an element says; empty if there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def click(self, selector: str, index: int = 0) -> None:
        """Clicks an element with the mouse."""
        found = self._do("elements", using="css selector", value=selector)
        self._do(f"element/{found[index][ELEMENT]}/click")

    def type(self, keys: str) -> None:
        """Presses keys, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._do("actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def hold(self, key: str, seconds: float) -> None:
        """Holds a key down."""
        pause = {"type": "pause", "duration": round(1000 * seconds)}
        actions = [{"type": "keyDown", "value": key}, pause, {"type": "keyUp", "value": key}]
        self._do("actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def drag(self, start: tuple[int, int], by: tuple[int, int]) -> None:
        """Moves the mouse with its button down."""
        moves = [
            {"type": "pointerMove", "x": start[0], "y": start[1], "duration": 0}, {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "x": by[0], "y": by[1], "origin": "pointer", "duration": 200},
            {"type": "pointerUp", "button": 0},
        ]  # fmt: skip
        self._do("actions", actions=[{"type": "pointer", "id": "mouse", "actions": moves}])

    def picture(self) -> NDArray[np.uint8]:
        """What is seen, (height, width, 3)."""
        picture = base64.b64decode(self._ask("GET", f"/session/{self._session}/screenshot"))
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))

    def wait_for(self, seen: Callable[[], Any], what: str) -> Any:
        """Waits until `seen` returns something that is true, and returns it."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if found := seen():
                return found
            time.sleep(0.05)
        raise AssertionError(f"not seen within {WAIT_S:g} s: {what}")

    def close(self) -> None:
        """Closes the window."""
        self._ask("DELETE", f"/session/{self._session}")


@contextmanager
def browser(folder: Path, size: tuple[int, int] = (1200, 800)) -> Iterator[Browser]:
    """Starts a browser; skips, naming the package, where there is none."""
    driver = shutil.which("chromedriver")
    if driver is None or CHROMIUM is None:
        pytest.skip("no Chromium with its driver is installed: apt-get install chromium chromium-driver")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        said = next(line for line in process.stdout if "successfully on port" in line)
        window = Browser(int(said.rstrip(".\n").rpartition(" ")[2]), folder, size)
        try:
            yield window
        finally:
            window.close()
    finally:
        process.terminate()
        process.wait(timeout=WAIT_S)
