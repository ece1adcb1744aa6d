"""A Ray cluster as an operator starts it: `ray start`, ports of its own, token authentication on."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent
START_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Cluster:
    """Nodes on this machine; `environment` is that of somebody who may use it."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    started: list[subprocess.Popen] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def environment(self) -> dict[str, str]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0"}
        return {**mine, **token, "PATH": path, "PYTHONPATH": str(TESTS)}

    def start(self, *arguments: str, **environment: str) -> None:
        """Starts a node."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *arguments]
        with (self.folder / f"node{len(self.started)}.log").open("w") as log:
            self.started.append(
                subprocess.Popen(
                    command,
                    env={**self.environment, **environment},
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def start_head(self) -> None:
        """Starts the head with three CPUs, and waits until its job server answers."""
        self.start(
            "--head", f"--port={self.port}", "--num-cpus=3", f"--ray-client-server-port={free_port()}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard_port}",
            f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={self.folder}",
        )  # fmt: skip
        ends = time.monotonic() + START_S
        while self.physai("jobs", "status", "--address", self.server).returncode:
            assert self.started[0].poll() is None and time.monotonic() < ends, (self.folder / "node0.log").read_text()

    def physai(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command line to its end, as somebody who has the token."""
        return subprocess.run(
            [sys.executable, "-c", "from physai.cli import main; main()", *arguments],
            env={**self.environment, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_S,
        )

    def stop(self) -> None:
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
