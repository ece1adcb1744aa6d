"""A screen that nobody sees: Xvfb, pictures of it, and keys that are pressed on it."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageGrab

NEEDED = {"Xvfb": "xvfb", "xdotool": "xdotool"}  # programs, and the Debian packages that bring them
START_S, WAIT_S = 60.0, 120.0  # generous: other work may have the cores
FIRST_NUMBER, MOST_NUMBERS = 100, 20_000  # of displays; their TCP ports, which nobody opens, end at 65,535


class Display:
    """One running X server, without a window manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.environment = {**os.environ, "DISPLAY": name}

    def picture(self) -> NDArray[np.uint8]:
        """What is on the screen, (height, width, 3)."""
        return np.asarray(ImageGrab.grab(xdisplay=self.name).convert("RGB"))

    def press(self, *keys: str) -> None:
        """Presses and releases keys, by their X11 names, one after the other."""
        subprocess.run(["xdotool", "key", "--delay", "60", *keys], env=self.environment, check=True, timeout=WAIT_S)

    def hold(self, key: str, seconds: float) -> None:
        """Holds a key down."""
        for command, wait in (("keydown", seconds), ("keyup", 0.0)):
            subprocess.run(["xdotool", command, key], env=self.environment, check=True, timeout=WAIT_S)
            time.sleep(wait)

    def wait_for(self, seen: Callable[[NDArray[np.uint8]], bool], what: str) -> NDArray[np.uint8]:
        """Waits for a picture that satisfies `seen`, and returns it."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            picture = self.picture()
            if seen(picture):
                return picture
            time.sleep(0.1)
        raise AssertionError(f"not seen within {WAIT_S:g} s: {what}")


@contextmanager
def display(width: int = 1280, height: int = 800) -> Iterator[Display]:
    """Starts an X server on a number of this process alone; skips, naming the package, where there is none.

    Servers that look for a free number at the same moment may find the same one.
    """
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install {package}")
    reading, writing = os.pipe()
    name = f":{FIRST_NUMBER + os.getpid() % MOST_NUMBERS}"
    # without -noreset it begins anew when its last client leaves, and who connects at that moment is turned away
    screen = ["-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(
        ["Xvfb", name, "-displayfd", str(writing), *screen], pass_fds=[writing], stderr=subprocess.DEVNULL
    )
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], START_S)
        if not ready or not os.read(reading, 16):
            pytest.fail(f"Xvfb gave no display within {START_S:g} s (exit code {server.poll()})")
        yield Display(name)
    finally:
        os.close(reading)
        server.terminate()
        server.wait(timeout=START_S)
