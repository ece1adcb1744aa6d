"""Commands about bundles: export, show, verify, sign, compare, pack, and the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from physai.cli.find import newest_run, run_folder
from physai.cli.policies import Source, TaskOption
from physai.cli.show import echo_json, show

Folder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE.pub", help="Public key that must have signed it; several: one of them."),
]
PrivateKey = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Private key; `physai bundle keygen` makes one.")
]
RegistryFolder = Annotated[Path, typer.Option("--registry", metavar="DIR", help="Where the registry is.")]
REGISTRY = Path("registry")
MILLI = 1e-3
TEST_SEED_START = 1_000_000  # of the episodes that training never draws

app = typer.Typer(help="Exported policies: look at them, sign them, keep them.", no_args_is_help=True)


def export(
    source: Source = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Bundle folder; default: bundle/ in the run.")] = None,
    task: TaskOption = None,
    version: Annotated[str | None, typer.Option(metavar="X.Y.Z", help="Of the policy; default: 1.0.0.")] = None,
) -> None:
    """Export a policy as a bundle. It is compared with the original before it is written."""
    chosen = source or str(newest_run())
    from physai.export import export as run_export

    folder = out or (run_folder(chosen) or Path()) / "bundle"
    typer.echo(run_export(chosen, folder, task=task, version=version))


@app.command("show")
def show_bundle(bundle: Folder, as_json: Annotated[bool, typer.Option("--json", help="The manifest.")] = False) -> None:
    """Show what a policy sees, does and needs, its limits, and where it comes from."""
    from physai.deploy.bundle import load_bundle
    from physai.deploy.describe import tables

    loaded = load_bundle(bundle)
    if as_json:
        echo_json(dict(loaded.manifest))
        return
    from physai.catalog import Table

    for title, head, rows in tables(loaded):
        show(Table(title, head, rows))


@app.command()
def verify(bundle: Folder, key: Keys = None) -> None:
    """Check that a bundle is intact, computes what it recorded, and is signed by a key that is given."""
    from physai.deploy.bundle import load_bundle

    loaded = load_bundle(bundle, trust(key))
    typer.echo(f"{bundle}: intact, and computes what it recorded; {loaded.standing}")


@app.command()
def sign(
    bundle: Folder,
    key: PrivateKey,
    by: Annotated[str, typer.Option(help="Who approves it.")],
    days: Annotated[int | None, typer.Option(min=1, help="For how long; default: for ever.")] = None,
) -> None:
    """Sign a bundle that passes all checks, as approved to run."""
    from datetime import datetime, timedelta, timezone

    from physai.deploy.bundle import sign_bundle
    from physai.deploy.signature import SIGNATURE, Approval, read_private_key, utc_now

    until = None if days is None else (datetime.now(timezone.utc) + timedelta(days=days)).isoformat(timespec="seconds")
    sign_bundle(bundle, Approval(by, utc_now(), until), read_private_key(key))
    typer.echo(bundle / SIGNATURE)


@app.command()
def keygen(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Private key; the public one is FILE.pub.")],
) -> None:
    """Make a pair of keys for signing bundles."""
    from physai.deploy.signature import write_keys

    public, name = write_keys(path)
    typer.echo(f"{path}: private, keep it off the robot\n{public}: public, give it to every controller; key {name}")


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Bundle folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Bundle folder.")],
) -> None:
    """Show in what two bundles differ. Exit code 1 if they do."""
    from physai.catalog import Table
    from physai.deploy.bundle import load_bundle
    from physai.deploy.describe import differences

    rows = differences(load_bundle(old), load_bundle(new))
    if not rows:
        typer.echo("equal")
        return
    show(Table("Differences", ("what", str(old), str(new)), tuple(rows)))
    raise typer.Exit(1)


@app.command()
def schema(name: Annotated[str, typer.Argument(help="manifest or safety.")] = "manifest") -> None:
    """Print the JSON Schema of a manifest or of safety limits."""
    from physai.deploy.schema import NAMES, schema_text
    from physai.errors import BundleError, nearest

    if name not in NAMES:
        raise BundleError(f"there is no schema {name!r}; {nearest(name, NAMES)}")
    typer.echo(schema_text(name), nl=False)


@app.command()
def pack(bundle: Folder, archive: Annotated[Path, typer.Argument(metavar="FILE.zip")]) -> None:
    """Write a bundle as one file."""
    from physai.deploy.archive import pack as write

    typer.echo(write(bundle, archive))


@app.command()
def unpack(archive: Annotated[Path, typer.Argument(metavar="FILE.zip")], bundle: Folder) -> None:
    """Unpack a bundle into a new folder."""
    from physai.deploy.archive import unpack as read

    typer.echo(read(archive, bundle))


@app.command()
def migrate(bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundle folders.")]) -> None:
    """Bring bundles of an older format to the present one; their run/ becomes evidence/."""
    from physai.export.migrate import migrate as bring

    for bundle in bundles:
        typer.echo(f"{bundle}: {'migrated' if bring(bundle) else 'has the present format'}")


@app.command()
def attach(
    bundle: Folder,
    records: Annotated[Path, typer.Argument(metavar="RUN", help="Folder with evaluation.json, versions.json, ...")],
) -> None:
    """Take the records of a run into a bundle as evidence. It has to be signed again then."""
    from physai.export.migrate import attach as take

    take(bundle, records)
    typer.echo(bundle)


@app.command()
def add(bundle: Folder, key: PrivateKey, registry: RegistryFolder = REGISTRY) -> None:
    """Take a bundle into the registry, as its candidate."""
    from physai.deploy.signature import read_private_key

    typer.echo(_registry(registry).add(bundle, read_private_key(key)))


@app.command()
def promote(
    key: PrivateKey,
    name: Annotated[str, typer.Argument(help="Alias, digest, or its first digits.")] = "candidate",
    registry: RegistryFolder = REGISTRY,
) -> None:
    """Make a bundle of the registry the champion; the former is kept for a rollback."""
    from physai.deploy.signature import read_private_key

    typer.echo(_registry(registry).promote(name, read_private_key(key)))


@app.command()
def rollback(key: PrivateKey, registry: RegistryFolder = REGISTRY) -> None:
    """Make the former champion the champion again."""
    from physai.deploy.signature import read_private_key

    typer.echo(_registry(registry).rollback(read_private_key(key)))


@app.command()
def leapp(
    bundle: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder.")],
) -> None:
    """Write a bundle for NVIDIA's LEAPP: the same graph, and a YAML file that Isaac Lab and Isaac ROS read."""
    from physai.export.leapp import export_leapp

    typer.echo(export_leapp(bundle, out))


@app.command("list")
def list_bundles(registry: RegistryFolder = REGISTRY, key: Keys = None) -> None:
    """List the aliases of a registry and its log, which is checked."""
    from physai.catalog import Table

    store, known = _registry(registry), trust(key)
    events = store.events(known.keys if known else None)
    show(
        Table("Aliases", ("alias", "bundle"), tuple(sorted(store.aliases().items()))),
        Table(
            "Log", ("time", "event", "aliases", "key"),
            tuple((e["time"], e["event"], ", ".join(f"{a} {d[:12]}" for a, d in e["aliases"].items()), e["signer"])
                  for e in events),
        ),
    )  # fmt: skip


def run(
    bundle: Folder,
    twin: Annotated[bool, typer.Option("--twin", help="Against the simulated cell, in a process of its own.")] = False,
    robot: Annotated[str | None, typer.Option(metavar="MODULE:NAME", help="Driver of a real robot.")] = None,
    replay: Annotated[Path | None, typer.Option(metavar="FILE.mcap", help="Against the observations of a log.")] = None,
    key: Keys = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Run it although nobody has signed it.")] = False,
    site: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Limits of this site; tighter ones only.")
    ] = None,
    shadow: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Compute this one too, and only log it.")
    ] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE.mcap", help="Where every tick is written.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Jobs on the simulated cell.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Evaluation seed of the first of them.")] = 0,
    latency_ms: Annotated[float, typer.Option(help="Twin: of each observation and of each command.")] = 0.0,
    jitter_ms: Annotated[float, typer.Option(help="Twin: added to it, from 0 to this.")] = 0.0,
    drop: Annotated[float, typer.Option(help="Twin: share of observations that get lost.")] = 0.0,
    freeze_at: Annotated[float | None, typer.Option(help="Twin: when the sensor freezes [s].")] = None,
    stall_at: Annotated[float | None, typer.Option(help="Twin: when nothing passes for 0.2 s [s].")] = None,
    remote: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Server that computes the commands.")] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Certificate that its own is checked with.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Token for it; or set PHYSAI_EDGE_TOKEN.")
    ] = None,
    fallback: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="On board without the server; default: the same bundle.")
    ] = None,
) -> None:
    """Run a bundle: on the simulated cell, on a robot, or on a log. Exit code 1 if it ended in a fault."""
    from physai.cli.edge import ladder
    from physai.deploy.run import Ways, load_to_run, read_site, run_robot
    from physai.errors import DeployError

    if [twin, bool(robot), bool(replay)].count(True) != 1:
        raise DeployError("say on what it runs: --twin, --robot MODULE:NAME, or --replay FILE.mcap")
    loaded = load_to_run(bundle, trust(key), unsigned=unsigned or replay is not None)
    if replay is not None:
        if remote is not None:
            raise DeployError("a log is replayed on this machine; leave out --remote")
        _replay(loaded, replay)
        return
    loaded_fallback = None if fallback is None else load_to_run(fallback, trust(key), unsigned=unsigned)
    with ladder(
        loaded, remote, ca=ca, token_file=token_file, fallback=loaded_fallback, tell=typer.echo
    ) as rungs:  # fmt: skip
        ways = Ways(
            None if site is None else read_site(site),
            log,
            None if shadow is None else load_to_run(shadow, None, unsigned=True),
            rungs,
        )
        if robot is not None:
            states = [run_robot(loaded, robot, ways, typer.echo)]
        else:
            faults = (latency_ms * MILLI, jitter_ms * MILLI, drop, freeze_at, stall_at)
            first = TEST_SEED_START + seed
            states = _run_twin(loaded, range(first, first + episodes), faults, ways)
    _fail_on_fault(states)


def _replay(bundle: Any, log: Path) -> None:
    from physai.deploy.replay import replay

    done = replay(bundle, log)
    typer.echo(
        f"{done.ticks} ticks, ended {done.state}; the shield changed {done.interventions}; "
        f"commands differ from the log by at most {done.difference:.2g} of half their range"
    )


def _run_twin(bundle: Any, seeds: range, faults: tuple[Any, ...], ways: Any) -> list[str]:
    from physai.deploy.run import say
    from physai.twin.faults import Faults
    from physai.twin.jobs import run_jobs

    jobs = run_jobs(
        bundle, seeds, Faults(*faults), site=ways.site, log=ways.log, shadow=ways.shadow, ladder=ways.ladder,
        on_job=lambda job: typer.echo(say(job)),
    )  # fmt: skip
    typer.echo(f"{sum(job.success for job in jobs)} of {len(jobs)} jobs succeeded")
    return [job.state.value for job in jobs]


def _fail_on_fault(states: list[str]) -> None:
    if "fault" in states:
        raise typer.Exit(1)


def _registry(folder: Path) -> Any:
    from physai.deploy.registry import Registry

    return Registry(folder)


def trust(keys: list[Path] | None) -> Any:
    """The keys of which one must have signed; None if none were given."""
    if not keys:
        return None
    from physai.deploy.signature import Trust

    return Trust.of(keys)
