"""The command that computes a bundle for robots elsewhere, and how `physai deploy run` finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from physai.cli.bundles import Folder, Keys, trust

PORT = 7448  # no service is registered for it
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="Holds the token; or set PHYSAI_EDGE_TOKEN.")
]


def serve(
    bundle: Folder,
    host: Annotated[
        str, typer.Option(help="Address to listen at; beyond this machine, TLS and a token are needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = PORT,
    certificate: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Certificate of this server.")] = None,
    private_key: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Its private key.")] = None,
    token_file: TokenFile = None,
    key: Keys = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Serve it although nobody has signed it.")] = False,
) -> None:
    """Compute a bundle for robots elsewhere, until Ctrl-C or SIGTERM."""
    import asyncio
    import signal

    from physai.deploy.infer import read_token
    from physai.deploy.run import load_to_run
    from physai.deploy.server import Server, server_tls
    from physai.deploy.server import serve as serve_until
    from physai.errors import DeployError

    if (certificate is None) != (private_key is None):
        raise DeployError("TLS needs both --certificate and --private-key")
    tls = None if certificate is None or private_key is None else server_tls(certificate, private_key)
    server = Server(
        load_to_run(bundle, trust(key), unsigned=unsigned), tls=tls, token=read_token(token_file), tell=typer.echo
    )

    async def until_stopped() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        await serve_until(server, host, port, ended, typer.echo)

    asyncio.run(until_stopped())


@contextmanager
def ladder(
    bundle: Any,
    remote: str | None,
    *,
    ca: Path | None,
    token_file: Path | None,
    fallback: Any,
    tell: Callable[[str], None],
) -> Iterator[Any]:
    """A ladder whose server is at HOST:PORT, and what it did when it ends; None where nobody asked for one."""
    from physai.errors import DeployError

    if remote is None:
        if ca is not None or token_file is not None or fallback is not None:
            raise DeployError("--ca, --token-file and --fallback belong to --remote HOST:PORT")
        yield None
        return
    from physai.deploy.infer import read_token
    from physai.deploy.ladder import Ladder
    from physai.deploy.remote import Remote, client_tls

    host, _, port = remote.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise DeployError(f"--remote {remote} is no HOST:PORT, such as cell-gpu.local:{PORT}")
    tls = None if ca is None else client_tls(ca)
    link = Remote(host.strip("[]"), int(port), bundle, tls=tls, token=read_token(token_file))
    rungs = Ladder(bundle, link, fallback)
    link.start()
    if not link.connected:
        tell(f"{remote} does not compute yet ({link.problem}); the policy on board does")
    try:
        yield rungs
    finally:
        link.close()
        tell("computed " + ", ".join(f"{rung.value} {count}" for rung, count in rungs.counts.items()))
