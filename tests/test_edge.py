"""A server that computes for robots, over real sockets: greeting, secrets, bounds, capacity, and a bad network."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from impaired import Background, Impairment, Proxy
from runtime_toys import Recurrent
from typer.testing import CliRunner

from physai.cli import app
from physai.deploy import remote as remote_module
from physai.deploy.bundle import Bundle, load_bundle
from physai.deploy.infer import (
    HEAD,
    HELLO,
    LARGEST,
    MAGIC,
    PROTOCOL,
    REFUSED,
    REQUEST,
    RESPONSE,
    TOKEN,
    WELCOME,
    Shape,
    frame,
    is_loopback,
    json_frame,
    read_token,
)
from physai.deploy.ladder import Ladder, Rung
from physai.deploy.remote import Remote, client_tls
from physai.deploy.server import LOAD, Server, server_tls
from physai.errors import DeployError
from physai.policy import shipped_policy

SECRET = "a secret of twenty-odd characters"
PATIENCE_S = 10.0  # of tests: nothing is measured by it


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return replace(load_bundle(shipped_policy("reach")), seconds=np.full(10, 1e-4))


@pytest.fixture
def background() -> Iterator[Background]:
    with Background() as loop:
        yield loop


def started(background: Background, bundle: Bundle, **options: object) -> Server:
    server = Server(bundle, **options)  # type: ignore[arg-type]
    background.run(server.start("127.0.0.1", 0))
    return server


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def connected(port: int, bundle: Bundle, **options: object) -> Remote:
    link = Remote("127.0.0.1", port, bundle, **options)  # type: ignore[arg-type]
    link.start(PATIENCE_S)
    return link


@pytest.fixture
def identity(tmp_path: Path) -> tuple[Path, Path]:
    return certificate(tmp_path, days=1)


def certificate(folder: Path, days: int, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate for an address that ends so many days from now, and its key."""
    key, now = Ed25519PrivateKey.generate(), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cell")])
    shown = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, None)
    )  # fmt: skip
    public, private = folder / "cell.pem", folder / "cell.key"
    public.write_bytes(shown.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return public, private


def test_it_computes_what_the_bundle_computes(bundle: Bundle, background: Background) -> None:
    link = connected(started(background, bundle).port, bundle)
    try:
        for sequence, (seen, command) in enumerate(zip(*bundle.golden[0], strict=True), 1):
            assert link.ask(sequence, PATIENCE_S, seen, {})
            answer = link.take(sequence, PATIENCE_S)
            assert answer is not None
            assert answer.digest.hex() == bundle.digest
            np.testing.assert_array_equal(answer.command[0], bundle.act(seen))
            np.testing.assert_allclose(answer.command[0], command, atol=1e-5)
    finally:
        link.close()


def test_memory_travels_so_any_server_can_go_on(bundle: Bundle, background: Background) -> None:
    recurrent = replace(bundle, graph=Recurrent())
    links = [connected(started(background, recurrent).port, recurrent) for _ in range(2)]
    memory = recurrent.graph.initial
    try:
        for sequence, seen in enumerate(recurrent.golden[0][0], 1):
            link = links[sequence % 2]
            link.ask(sequence, PATIENCE_S, seen, memory)
            answer = link.take(sequence, PATIENCE_S)
            assert answer is not None
            np.testing.assert_array_equal(answer.command, recurrent.graph(seen[None]))
            memory = answer.memory
    finally:
        for link in links:
            link.close()


def test_another_bundle_is_refused_by_both_sides(bundle: Bundle, background: Background) -> None:
    link = connected(started(background, bundle).port, replace(bundle, digest="0" * 64))
    until(lambda: "has the bundle" in link.problem)
    assert not link.connected
    link.close()

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json_frame(WELCOME, {"protocol": PROTOCOL, "digest": "0" * 64}))

    liar = background.run(asyncio.start_server(lie, "127.0.0.1", 0))
    link = connected(liar.sockets[0].getsockname()[1], bundle)
    until(lambda: "another bundle" in link.problem)
    assert not link.ask(1, 1.0, bundle.golden[0][0][0], {})
    link.close()


def test_tls_and_token(bundle: Bundle, background: Background, identity: tuple[Path, Path]) -> None:
    lines: list[str] = []
    server = started(background, bundle, tls=server_tls(*identity), token=SECRET, tell=lines.append)
    link = connected(server.port, bundle, tls=client_tls(identity[0]), token=SECRET)
    assert link.connected, link.problem
    link.close()
    for options, words in (
        ({"tls": client_tls(identity[0]), "token": SECRET[:-1] + "?"}, "token is another one"),
        ({"tls": client_tls(identity[0])}, "token is another one"),
        ({"tls": ssl.create_default_context(), "token": SECRET}, "certificate verify failed"),
        ({"token": SECRET}, "hung up without an answer; if it has a certificate, give --ca"),
    ):
        link = connected_not(server.port, bundle, options)
        assert words in link.problem
    assert not any(SECRET[:10] in line for line in lines), "no secret is told"


@pytest.mark.parametrize(
    ("days", "address", "words"),
    [(-1, "127.0.0.1", "certificate has expired"), (1, "127.0.0.2", "not valid for '127.0.0.1'")],
)
def test_a_certificate_that_is_old_or_of_somebody_else_is_refused(
    bundle: Bundle, background: Background, tmp_path: Path, days: int, address: str, words: str
) -> None:
    shown = certificate(tmp_path, days, address)
    server = started(background, bundle, tls=server_tls(*shown), token=SECRET)
    link = connected_not(server.port, bundle, {"tls": client_tls(shown[0]), "token": SECRET})
    assert words in link.problem


def connected_not(port: int, bundle: Bundle, options: dict) -> Remote:
    link = Remote("127.0.0.1", port, bundle, **options)
    link.start(0.0)
    until(lambda: link.problem != "not connected yet")
    assert not link.connected
    link.close()
    return link


def test_nothing_leaves_the_machine_without_tls_and_a_token(
    bundle: Bundle, background: Background, identity: tuple[Path, Path]
) -> None:
    tls = server_tls(*identity)
    for host in ("0.0.0.0", "::", "192.0.2.1", "cell.example"):
        assert not is_loopback(host)
        for options in ({}, {"tls": tls}, {"token": SECRET}):
            with pytest.raises(DeployError, match="beyond this machine"):
                background.run(Server(bundle, **options).start(host, 0))
            with pytest.raises(DeployError, match="beyond this machine"):
                Remote(host, 1, bundle, **options)


NOISE = np.random.default_rng(0)
HEADER = HEAD.pack(MAGIC, HELLO, 2)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HEAD.pack(MAGIC, HELLO, LARGEST),
        HEAD.pack(MAGIC, HELLO, 2**32 - 1),
        HEADER + b"[]",
        HEADER + b"\xff\xff",
        json_frame(HELLO, {"protocol": PROTOCOL, "digest": 1, "rate_hz": True}),
        frame(REQUEST, b""),
        *(NOISE.bytes(int(size)) for size in NOISE.integers(1, 5000, 40)),
    ],
)
def test_strangers_are_disconnected(bundle: Bundle, background: Background, sent: bytes) -> None:
    server = started(background, bundle)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as stranger:
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)
        said = stranger.recv(4096)
        assert not said or said[4] == REFUSED
    link = connected(server.port, bundle)
    assert link.connected, "others are served as before"
    link.close()


@pytest.mark.parametrize("head", [HEAD.pack(MAGIC, HELLO, LARGEST), HEAD.pack(b"PHIX", HELLO, 2)])
def test_what_is_no_frame_is_not_waited_for(bundle: Bundle, background: Background, head: bytes) -> None:
    lines: list[str] = []
    server = started(background, bundle, tell=lines.append)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as stranger:
        stranger.sendall(head + b"{}")
        assert stranger.recv(10) == b""
    assert "disconnected" in lines[0]


def greeted(port: int, bundle: Bundle, **changes: object) -> tuple[socket.socket, dict]:
    robot = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    hello = {"protocol": PROTOCOL, "digest": bundle.digest, "rate_hz": 20.0, "token": None, **changes}
    robot.sendall(json_frame(HELLO, hello))
    head = robot.recv(HEAD.size, socket.MSG_WAITALL)
    return robot, json.loads(robot.recv(HEAD.unpack(head)[2], socket.MSG_WAITALL))


@pytest.mark.parametrize("bad", ["short", "nan", "kind"])
def test_a_robot_that_sends_nonsense_is_disconnected(bundle: Bundle, background: Background, bad: str) -> None:
    robot, _ = greeted(started(background, bundle).port, bundle)
    shape, seen = Shape.of(bundle), np.zeros(bundle.spec.observation_size, np.float32)
    request = shape.request(1, 1.0, seen if bad != "nan" else seen + np.nan, {})
    if bad == "short":
        request = frame(REQUEST, request[HEAD.size : -4])
    elif bad == "kind":
        request = frame(RESPONSE, request[HEAD.size :])
    robot.sendall(request)
    with robot:
        assert robot.recv(100) == b""


def test_it_refuses_above_its_measured_capacity(bundle: Bundle, background: Background) -> None:
    slow = replace(bundle, seconds=np.full(10, 0.01))
    server = started(background, slow)
    room, robots = int(LOAD / server.cost_s / 20.0), []
    for _ in range(room):
        robot, said = greeted(server.port, bundle)
        assert said["digest"] == bundle.digest
        robots.append(robot)
    last, said = greeted(server.port, bundle)
    assert said["reason"].startswith("this server is full")
    last.close()
    robots.pop().close()
    until(lambda: len(server._rates) == room - 1)
    robot, said = greeted(server.port, bundle)
    assert "digest" in said, "whoever leaves makes room"
    for one in (robot, *robots):
        one.close()


def test_a_request_that_would_wait_too_long_is_declined_at_once(bundle: Bundle, background: Background) -> None:
    server = started(background, bundle)
    server._waiting, server.cost_s = 3, 0.01
    link = connected(server.port, bundle)
    link.ask(1, 0.02, bundle.golden[0][0][0], {})
    until(lambda: server.declined == 1)
    server._waiting = 0
    link.ask(2, 0.001, bundle.golden[0][0][0], {})
    assert link.take(2, PATIENCE_S) is not None, "an idle server tries, so that its measure can recover"
    link.close()


def test_falls_and_climbs_over_a_bad_network(
    bundle: Bundle, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real sockets through a proxy: good, a half-open partition, good again; commands are right throughout."""
    monkeypatch.setattr(remote_module, "SILENT_S", 0.2)
    impairment = Impairment(duplicate=0.3)
    proxy = Proxy(started(background, bundle).port, impairment)
    background.run(proxy.start())
    link = connected(proxy.port, bundle)
    ladder = Ladder(bundle, link)
    ladder.budget_s, ladder._budget_ns = 0.5, 500_000_000  # the machine may be slow; that is not what is tested
    seen = bundle.golden[0][0]
    reference = bundle.graph.session

    def tick(index: int = 0) -> Rung:
        observation = seen[index % len(seen)][None]
        np.testing.assert_array_equal(ladder(observation), reference.run(["command"], {"observation": observation})[0])
        time.sleep(0.01)
        return ladder.rung

    until(lambda: tick() is Rung.REMOTE)
    impairment.partition = True
    assert tick() is Rung.LOCAL
    assert {tick(i) for i in range(10)} == {Rung.LOCAL}
    until(lambda: not link.connected)
    impairment.partition = False
    until(lambda: tick() is Rung.REMOTE)
    link.close()


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN, SECRET)
    assert read_token(None) == SECRET
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(DeployError, match="shorter than 16"):
        read_token(tmp_path / "token")
    with pytest.raises(DeployError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_the_command_line_says_what_is_missing(tmp_path: Path) -> None:
    folder = str(shipped_policy("reach"))
    for words, said in (
        (["serve", folder, "--unsigned", "--host", "0.0.0.0"], "beyond this machine"),
        (["serve", folder, "--unsigned", "--certificate", "x"], "both --certificate and --private-key"),
        (["serve", folder], "nobody was named who signed it"),
        (["run", folder, "--unsigned", "--twin", "--remote", "nowhere"], "is no HOST:PORT"),
        (["run", folder, "--unsigned", "--twin", "--fallback", folder], "belong to --remote"),
        (["run", folder, "--replay", "x.mcap", "--remote", "localhost:1"], "leave out --remote"),
    ):
        outcome = CliRunner().invoke(app, ["deploy", *words])
        assert isinstance(outcome.exception, Exception)
        assert said in str(outcome.exception)
