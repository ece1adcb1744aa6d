"""Looks at this machine: what works, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Distributions a person needs for everything, by the extra that brings them; the first block is the base install.
DISTRIBUTIONS = {
    "base": ("numpy", "pydantic", "PyYAML", "typer", "rich"),
    "deploy": ("onnxruntime", "cryptography", "mcap"),
    "eval": ("gymnasium", "pybullet", "scipy", "matplotlib"),
    "train": (
        "stable-baselines3",
        "sb3-contrib",
        "torch",
        "ray",
        "imageio-ffmpeg",
        "tensorboard",
        "onnx",
        "onnxscript",
    ),
}
LAUNCHERS = ("ssh", "kubectl", "sbatch")
MEMORY_GB = 4.0  # a driver, a learner and two actors measured 2 to 3 GB
DISK_GB = 2.0  # checkpoints, videos and Ray's logs of a long run


@dataclass(frozen=True)
class Finding:
    """One line of the report. `usable` is False when training cannot work without it."""

    what: str
    detail: str
    good: bool = True
    usable: bool = True

    @property
    def mark(self) -> str:
        """OK, note (something works less well) or PROBLEM (something cannot work)."""
        return "OK" if self.good else "note" if self.usable else "PROBLEM"


def examine(*, quick: bool = False) -> Iterator[Finding]:
    """Yields findings as they are made; `quick` leaves out what takes seconds (rendering, starting Ray)."""
    yield python()
    missing = {extra: [name for name in names if not installed(name)] for extra, names in DISTRIBUTIONS.items()}
    yield from packages(missing)
    yield machine()
    yield memory()
    yield disk()
    yield writable(Path.cwd())
    yield cluster(os.environ)
    if quick or missing["train"]:
        return
    yield torch_device()
    yield simulator()
    yield video()
    yield ray_start()


def python() -> Finding:
    """Pybullet is published ready-built for 3.10 and 3.11 only."""
    good = sys.version_info[:2] in ((3, 10), (3, 11))
    advice = "" if good else "; use Python 3.11: pybullet is published ready-built for 3.10 and 3.11 only"
    return Finding("python", f"{platform.python_version()} at {sys.executable}{advice}", good, usable=good)


def installed(distribution: str) -> str | None:
    """Returns the installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def packages(missing: dict[str, list[str]]) -> Iterator[Finding]:
    """What is installed of each extra, and what differs from the versions in constraints.txt when that is at hand."""
    for extra, names in missing.items():
        advice = f"missing {', '.join(names)}: pip install 'physai{'' if extra == 'base' else f'[{extra}]'}'"
        # A whole extra that is missing was left out on purpose; half of one is a broken install.
        broken = bool(names) and len(names) < len(DISTRIBUTIONS[extra])
        yield Finding(f"[{extra}]", advice if names else "installed", not names, usable=not broken)
    constraints = Path(__file__).resolve().parent.parent / "constraints.txt"
    if constraints.exists():
        different = differing(constraints.read_text(encoding="utf-8"))
        advice = f"other than tested: {', '.join(different)}; `make setup` brings the tested ones"
        yield Finding("versions", advice if different else "as in constraints.txt", not different)


def differing(constraints: str) -> list[str]:
    """Returns the installed distributions whose version is not the one in the text of a constraints file."""
    different = []
    for line in constraints.splitlines():
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        elsewhere = marker and (">=" in marker) != (sys.version_info >= (3, 11))  # markers tell 3.10 from later
        if not requirement or requirement.startswith("#") or elsewhere:
            continue
        name, wanted = requirement.split("==")
        found = installed(name)
        if found and found.partition("+")[0] != wanted:
            different.append(f"{name} {found} (tested: {wanted})")
    return different


def machine() -> Finding:
    """Cores decide how many rollout actors run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    advice = "" if cores > 1 else "; training wants at least 2"
    return Finding("cores", f"{cores} ({platform.machine()}, {platform.system()}){advice}", cores > 1)


def memory() -> Finding:
    """Memory that is free now."""
    source = Path("/proc/meminfo")
    if not source.exists():
        return Finding("memory", "not known on this system", good=False)
    facts = dict(line.split(":", 1) for line in source.read_text().splitlines())
    free = int(facts["MemAvailable"].split()[0]) / 1e6
    advice = "" if free >= MEMORY_GB else f"; training wants {MEMORY_GB:g} GB: use fewer actors (rollout.actors=1)"
    return Finding("memory", f"{free:.1f} GB free{advice}", free >= MEMORY_GB)


def disk() -> Finding:
    """Space where runs and Ray's temporary files go."""
    free = {str(place): shutil.disk_usage(place).free / 1e9 for place in (Path.cwd(), Path(tempfile.gettempdir()))}
    scarce = [place for place, gigabytes in free.items() if gigabytes < DISK_GB]
    detail = ", ".join(f"{gigabytes:.0f} GB free in {place}" for place, gigabytes in free.items())
    advice = f"; make room in {' and '.join(scarce)} ({DISK_GB:g} GB wanted)" if scarce else ""
    return Finding("disk", detail + advice, not scarce)


def writable(folder: Path) -> Finding:
    """Runs are written to runs/ in the current folder."""
    good = os.access(folder, os.W_OK)
    advice = "can be written" if good else "cannot be written; go to a folder of yours, or train with storage=FOLDER"
    return Finding("run folder", f"{folder / 'runs'} {advice}", good)


def cluster(environment: Mapping[str, str]) -> Finding:
    """What training on a cluster needs from this machine: a token that only its owner can read, and a way to start."""
    tools = [name for name in LAUNCHERS if shutil.which(name)]
    there = f"; found here: {', '.join(tools)}" if tools else f"; none of {', '.join(LAUNCHERS)} is here"
    file = Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not environment.get("RAY_AUTH_TOKEN"):
        if not file.is_file():
            advice = "no token; make one with `ray get-auth-token --generate` before you use one (docs/how-to)"
            return Finding("cluster", advice + there)
        if file.stat().st_mode & 0o077:
            return Finding("cluster", f"others can read the token in {file}: chmod 600 {file}{there}", good=False)
    mode = environment.get("RAY_AUTH_MODE", "not set")
    shown = "is shown" if mode == "token" else f"is not shown to one at an address (RAY_AUTH_MODE is {mode}, not token)"
    return Finding("cluster", f"a token is there, and {shown}{there}")


def torch_device() -> Finding:
    """Where the learner computes."""
    import torch

    if torch.cuda.is_available():
        return Finding("torch", f"{torch.__version__} on {torch.cuda.get_device_name(0)}")
    return Finding("torch", f"{torch.__version__} on the CPU (enough for the tasks that ship)")


def simulator() -> Finding:
    """Drops a box for a tenth of a second and draws it, in software and without a screen."""
    try:
        from physai_envs.world import Physics, World
    except ImportError as error:
        return Finding("pybullet", f"does not start: {error}; install it again", good=False, usable=False)
    world = World(Physics(), visual=True)
    try:
        box = world.box("box", (0.1, 0.1, 0.1), (0.0, 0.0, 1.0), mass=1.0)
        steps = world.physics.hz // 10
        world.advance(steps)
        fall = 1.0 - box.position[2]
        picture = world.camera((1.0, 1.0, 1.0), (0.0, 0.0, 1.0), 64, 64)
    finally:
        world.close()
    expected = world.physics.gravity / world.physics.hz**2 * steps * (steps + 1) / 2  # semi-implicit Euler
    good = abs(fall - expected) < 1e-6 and picture.std() > 0
    measured = f"a box fell {fall * 1e3:.1f} mm in 0.1 s (expected {expected * 1e3:.1f}), and was drawn"
    detail = f"{installed('pybullet')}: {measured}"
    return Finding("pybullet", detail if good else f"{detail}; wrong: install it again", good, usable=good)


def video() -> Finding:
    """Videos are encoded by the ffmpeg that imageio-ffmpeg brings."""
    import imageio_ffmpeg

    try:
        return Finding("video", f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}")
    except (OSError, RuntimeError) as error:
        return Finding("video", f"no ffmpeg ({error}); install ffmpeg, or pip install imageio-ffmpeg again", good=False)


def ray_start() -> Finding:
    """Starts a Ray of its own, runs one task, stops it again."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        try:
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            ray.init(address="local", num_cpus=1, _temp_dir=folder, **quiet)
            ray.get(ray.remote(machine).remote(), timeout=60)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            return Finding("ray", f"does not start: {error}; `physai train` would fail", good=False, usable=False)
        finally:
            ray.shutdown()
    return Finding("ray", f"{ray.__version__} starts, and a worker answers")
