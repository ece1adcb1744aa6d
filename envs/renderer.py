"""What draws pictures: EGL where there is a GPU, and Bullet's own renderer in software elsewhere."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from physai.errors import ConfigError
from physai_envs.engine import STDERR, STDOUT, bullet, silenced

VARIABLE, CHOICES = "PHYSAI_RENDERER", ("auto", "egl", "software")
GPUS = ("nvidia[0-9]*", "dri/renderD*")  # device files, in /dev
PLUGIN, ENTRY = "eglRenderer", "_eglRendererPlugin"
PROBE_S = 60.0
# The plugin ends its process where EGL does not start, so another process tries first.
PROBE = """
import pybullet, sys
client = pybullet.connect(pybullet.DIRECT)
if pybullet.loadPlugin(sys.argv[1], sys.argv[2], client) < 0:
    sys.exit(3)
pybullet.getCameraImage(8, 8, renderer=pybullet.ER_BULLET_HARDWARE_OPENGL, physicsClientId=client)
"""
log = logging.getLogger("physai")


def renderer(client: int) -> int:
    """Returns the renderer for a client that has no bodies yet: for ``getCameraImage``.

    `PHYSAI_RENDERER` asks for ``egl`` or ``software``; else it is EGL where there is a GPU and EGL starts.

    Raises:
        ConfigError: if it asks for anything else.
    """
    library = egl()
    if library is not None:
        with silenced(STDOUT, STDERR):
            if bullet.loadPlugin(library, ENTRY, client) >= 0:
                return int(bullet.ER_BULLET_HARDWARE_OPENGL)
    return int(bullet.ER_TINY_RENDERER)


@functools.cache
def egl() -> str | None:
    """Returns the file of the plugin that draws by EGL; None if pictures are drawn in software."""
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in CHOICES:
        raise ConfigError(f"{VARIABLE} is {wanted!r}; allowed: {', '.join(CHOICES)}")
    if wanted == "software" or (wanted == "auto" and not has_gpu()):
        return None
    found = find_spec(PLUGIN)
    if found is None or found.origin is None:
        log.warning("pybullet has no EGL plugin here, so pictures are drawn in software")
        return None
    why = trouble(found.origin)
    if why:
        log.warning("EGL does not start here (%s), so pictures are drawn in software", why)
        return None
    return found.origin


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this machine has a device that draws."""
    return any(any(devices.glob(pattern)) for pattern in GPUS)


def trouble(library: str) -> str:
    """Tries EGL in another process; returns why it does not work, empty if it does."""
    command = [sys.executable, "-c", PROBE, library, ENTRY]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_S:g} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
