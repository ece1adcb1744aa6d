"""Trains on two hosts of one machine, cuts the cable between them for a minute, and prints what the run does.

A host is a network namespace of Linux with an interface, an address and a Ray of its own; nothing listens outside of
the two. On the second one a loop starts Ray again whenever it ends, as systemd would. The run is driven from the first.
Needs root, for the namespaces. Everything is removed at the end, also after a failure.

    sudo .venv/bin/python benchmarks/two_hosts.py
"""

from __future__ import annotations

import argparse
import csv
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# Of the block for tests between two networks (RFC 2544): nobody has these addresses, and here they lead nowhere else.
ADDRESSES = ("198.18.0.1", "198.18.0.2")
PORT = 6379
STORE_BYTES = 200 * 2**20
START_S, END_S = 180.0, 900.0  # generous: the machine may be busy
AGAIN_S = 2.0  # pause of the loop on the second host
RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", f"--object-store-memory={STORE_BYTES}",
       "--disable-usage-stats", "--block")  # fmt: skip
# Three silent seconds, three times: lost after about 15 s. Left alone, Ray waits 10 s five times.
QUICK = {"RAY_health_check_timeout_ms": "3000", "RAY_health_check_failure_threshold": "3"}


class Log:
    """Prints lines with the seconds since it was made, and remembers when something was said first."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.lines: list[tuple[float, str]] = []

    def __call__(self, text: str) -> None:
        """Prints a line."""
        now = time.monotonic() - self._started
        self.lines.append((now, text))
        sys.stdout.write(f"{now:6.1f} s  {text}\n")
        sys.stdout.flush()

    def when(self, word: str, after: float = 0.0) -> float | None:
        """Returns when a word was first said after a time; None if it was not."""
        return next((now for now, text in self.lines if word in text and now > after), None)


class Host:
    """A network namespace with an address on a cable to the other one.

    Args:
        name: of the namespace.
        folder: for its Ray, named as the host.
        address: of its end of the cable.
        environment: variables of all that runs on it.
    """

    def __init__(self, name: str, folder: Path, address: str, environment: Mapping[str, str]) -> None:
        self.name, self.folder, self.address = name, folder, address
        folder.mkdir()
        self._environment = {**os.environ, **environment, "RAY_TMPDIR": str(folder)}
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")

    def start(self, command: Sequence[str], output: int) -> subprocess.Popen[str]:
        """Starts a command on it."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.folder.name]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *named, *command],
            env=self._environment, stdout=output, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def processes(self) -> list[int]:
        """All that run on it, whoever started them."""
        return [int(word) for word in ip("netns", "pids", self.name).split()]

    def remove(self) -> None:
        """Ends all that runs on it, and the host."""
        ends = time.monotonic() + 10.0
        while (left := self.processes()) and time.monotonic() < ends:
            for process in left:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)
        ip("netns", "delete", self.name)


def ip(*arguments: str) -> str:
    """Returns what a command of iproute2 printed."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def two_hosts(environment: Mapping[str, str]) -> Iterator[tuple[Host, Host, Path]]:
    """Makes two hosts with a cable between them, and their common folder; all is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="two-", dir="/tmp"))  # Ray's sockets want a short path
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    hosts: list[Host] = []
    try:
        for name, address in zip(("one", "two"), ADDRESSES, strict=True):
            hosts.append(Host(f"physai-{os.getpid()}-{name}", folder / name, address, environment))
        first, second = hosts
        ip("-n", first.name, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second.name)
        for host in hosts:
            ip("-n", host.name, "address", "add", f"{host.address}/30", "dev", "cable")
            ip("-n", host.name, "link", "set", "cable", "up")
        yield first, second, folder
    finally:
        for host in hosts:
            host.remove()
        shutil.rmtree(folder, ignore_errors=True)


class Supervisor(threading.Thread):
    """Starts Ray on the second host, and again whenever it ends."""

    def __init__(self, host: Host, log: Log) -> None:
        super().__init__(daemon=True)
        self._host, self._log, self.ended = host, log, threading.Event()

    def run(self) -> None:
        """Works until it is told to end."""
        command = [*RAY, f"--address={ADDRESSES[0]}:{PORT}", f"--node-ip-address={self._host.address}"]
        while not self.ended.is_set():
            self._log("second host: starting Ray")
            started = self._host.start(command, subprocess.DEVNULL)
            started.wait()
            if not self.ended.wait(AGAIN_S):
                self._log(f"second host: Ray ended with {started.returncode}")


def answers(host: Host, nodes: int) -> bool:
    """Whether a Ray with so many living nodes answers on a host."""
    script = (
        f"import ray; ray.init('{ADDRESSES[0]}:{PORT}', logging_level='error', log_to_driver=False);"
        f"raise SystemExit(sum(n['Alive'] for n in ray.nodes()) != {nodes})"
    )
    return host.start([sys.executable, "-c", script], subprocess.DEVNULL).wait() == 0


def until(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Waits for something."""
    ends = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"{what} did not come in {within_s:g} s")
        time.sleep(0.5)


def listen(process: subprocess.Popen[str], log: Log) -> threading.Thread:
    """Prints what the run says, without what Ray says of itself when a node ends."""

    def hear() -> None:
        for text in process.stdout or ():
            if not any(word in text for word in ("(raylet)", "[state-dump]", "\t(")) and text.strip():
                log(f"run: {text.rstrip()}")

    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    return thread


def rows(folder: Path) -> list[dict[str, str]]:
    """Returns the figures of the run so far."""
    found = list(folder.glob("runs/*/two/progress.csv"))
    return list(csv.DictReader(found[0].open(newline="", encoding="utf-8"))) if found else []


def rehearse(options: argparse.Namespace, log: Log) -> tuple[int, list[dict[str, str]]]:
    """Trains and cuts the cable; returns how the run ended, and its figures."""
    with two_hosts({} if options.ray_defaults else QUICK) as (first, second, folder):
        head = [*RAY, "--head", "--include-dashboard=false", f"--port={PORT}", f"--node-ip-address={first.address}"]
        first.start(head, subprocess.DEVNULL)
        until(lambda: answers(first, 1), START_S, "Ray on the first host")
        supervisor = Supervisor(second, log)
        supervisor.start()
        until(lambda: answers(first, 2), START_S, "the second node")
        log("both nodes are there")
        command = [
            str(Path(sys.executable).with_name("physai")), "train", options.config, "--address",
            f"{first.address}:{PORT}", f"storage={folder / 'runs'}", "name=two", *options.overrides,
        ]  # fmt: skip
        training = first.start(command, subprocess.PIPE)
        heard = listen(training, log)
        try:
            until(lambda: training.poll() is not None or len(rows(folder)) >= 5, START_S, "the fifth iteration")
            time.sleep(options.after)
            log(f"CUT: the cable is out; {rows(folder)[-1]['steps']} steps so far")
            ip("-n", second.name, "link", "set", "cable", "down")
            time.sleep(options.cut)
            ip("-n", second.name, "link", "set", "cable", "up")
            log(f"MENDED: the cable is in again; {rows(folder)[-1]['steps']} steps so far")
            training.wait(END_S)
        finally:
            supervisor.ended.set()
            training.kill()
            heard.join(5.0)
        return training.returncode, rows(folder)


def main() -> None:
    """Rehearses, and says what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="reach", help="a configuration of two groups or more")
    parser.add_argument("--cut", type=float, default=60.0, help="seconds without cable")
    parser.add_argument("--after", type=float, default=5.0, help="seconds of training before that, and five iterations")
    parser.add_argument("--ray-defaults", action="store_true", help="leave Ray's time limits as they are")
    parser.add_argument("overrides", nargs="*", help="key=value, such as stop.steps=400000")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("network namespaces need root; run it with sudo, or in a container that has CAP_NET_ADMIN")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is removed then, too
    log = Log()
    ended, figures = rehearse(options, log)
    cut = log.when("CUT:") or 0.0
    mended = log.when("MENDED:") or 0.0
    seen = {
        "lost after the cut": (log.when("was lost, and", cut), cut),
        "joined after the mending": (log.when("a rollout actor joined", mended), mended),
    }
    for what, (when, since) in seen.items():
        log(f"{what}: {'NOT SEEN' if when is None else f'{when - since:.0f} s'}")
    iterations = [int(row["iteration"]) for row in figures]
    log(f"actors by iteration: {', '.join(changes(figures))}")
    log(f"longest iteration: {max(float(row['seconds']) for row in figures[1:]):.1f} s; redone {figures[-1]['redone']}")
    fine = ended == 0 and iterations == list(range(1, len(iterations) + 1)) and all(when for when, _ in seen.values())
    log(f"the run ended with {ended}; iterations {'each once' if fine else 'NOT as they should be'}")
    sys.exit(0 if fine else 1)


def changes(figures: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns at which iterations the number of actors changed."""
    told, before = [], ""
    for row in figures:
        if row["actors"] != before:
            before = row["actors"]
            told.append(f"{before} from iteration {row['iteration']} on")
    return told


if __name__ == "__main__":
    main()
