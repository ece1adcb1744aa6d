"""A real browser without a screen, for tests of pages."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
WAIT_S = 120
BROWSER = "not an origin"  # who asks, in the log of a request that is no page's


def _run(folder: Path, page: Path, *flags: str, at: str = "") -> subprocess.CompletedProcess[str]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri() + at]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)


def screenshot(folder: Path, page: Path, width: int = 1000, height: int = 1600, at: str = "") -> NDArray[np.uint8]:
    """What somebody sees, (height, width, 3); `at` is appended to the address, such as ``#t=2``."""
    out = folder / f"{page.stem}-{width}.png"
    _run(folder, page, f"--window-size={width},{height}", f"--screenshot={out}", at=at)
    return np.asarray(Image.open(out).convert("RGB"))


def requests(folder: Path, page: Path) -> tuple[str, list[str]]:
    """The page after it ran, and the addresses that it asked for beyond itself."""
    log = folder / "net.json"
    done = _run(folder, page, f"--log-net-log={log}", "--dump-dom")
    found = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # Chromium itself asks for the time and for updates; such a request was not initiated by a page.
    asked = {event["url"] for event in found if "url" in event and event.get("initiator", BROWSER) != BROWSER}
    return done.stdout, sorted(url for url in asked if url.startswith(("http:", "https:", "ws:", "wss:")))
