"""The report of one or several runs: one HTML file with everything inside, which asks for nothing from anywhere."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml

from physai import catalog
from physai.config import RunConfig
from physai.errors import PhysaiError, StorageError
from physai.evaluate.report import write_text
from physai.storage import reason
from physai.train import costs, curves
from physai.train.history import FILM, RECORDING, History, groups
from physai.train.run_dir import RunFolder

REPORT = "report.html"
LARGEST_FILM = 6_000_000  # bytes; a larger film is named and not carried along
STYLE = """
:root { color-scheme: light dark; --ink: #23272e; --soft: #6a727d; --line: #d9dde2; --paper: #fff; --card: #f7f8fa; }
@media (prefers-color-scheme: dark) {
:root { --ink: #dfe3e8; --soft: #98a1ac; --line: #3a414a; --paper: #16191d; --card: #1e2227; } }
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
max-width: 68rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
p.lead { color: var(--soft); margin: .2rem 0 1rem; } p.result { font-size: 1.15rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .6rem; background: var(--card); border-radius: 8px; }
figure svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); } td { overflow-wrap: anywhere; }
pre { background: var(--card); padding: .8rem; border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere;
font: 12.5px/1.45 ui-monospace, monospace; } video { max-width: 100%; border-radius: 8px; }
.key { margin-right: 1.2rem; } .key i { display: inline-block; width: 1.1em; height: .22em; margin: 0 .4em .25em 0; }
@media print { body { margin: 0; max-width: none; } figure, pre { break-inside: avoid; } }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
PLOTS = (
    ("validation/success", "success on held-out episodes", True),
    ("success", "success in training, exploring", True),
    ("validation/return", "return on held-out episodes", False),
    ("return", "return in training, exploring", False),
    ("steps_per_s", "throughput, steps/s", False),
    ("cpu", "processor, share busy", True),
    ("gpu", "GPU, share busy", True),
)


def write(locations: Sequence[str | Path], out: str | Path | None = None) -> str:
    """Writes the report of runs, whole or not at all.

    Args:
        locations: run folders; those that differ by their seed alone become one curve with a band.
        out: file; None writes it into the folder of the first run.

    Returns:
        where it was written.

    Raises:
        CheckpointError: if one is no run.
        StorageError: if a file cannot be read or written.
    """
    runs = [History.read(location) for location in locations]
    text = page(runs)
    if out is not None:
        write_text(out, text)
        return str(out)
    RunFolder(locations[0], keep=1).write(REPORT, text)
    return str(runs[0].folder / REPORT)


def page(runs: Sequence[History]) -> str:
    """Returns the page."""
    together = groups(runs)
    tasks = " and ".join(dict.fromkeys(str(run.config["task"]) for run in runs))
    parts = [f"<h1>{escape(tasks)}</h1>", _lead(runs), *(_result(run) for run in runs), _key(together)]
    plots = [curves.curve(together, name, title, share=share) for name, title, share in PLOTS]
    plots += [curves.terms(runs[0]), curves.parts(costs.time_shares(runs[0]))]
    shown = "\n".join(f"<figure>{svg}</figure>" for svg in plots if svg)
    parts.append(f'<h2>Curves</h2>\n<div class="plots">\n{shown}\n</div>' if shown else "")
    parts.append(_band_words(together) if shown else "")
    parts += [_run(run, named=len(runs) > 1) for run in runs]
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(tasks)}: {escape(runs[0].name)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )
    return head + "\n".join(part for part in parts if part) + "\n</body>\n</html>\n"


def command(run: History) -> str:
    """Returns the command that does the run again, under a new name."""
    from physai.train.submit import overrides  # with Ray, which takes a second to import

    words = overrides(RunConfig.load_data({**run.config, "name": None}))
    return shlex.join(["physai", "train", *words])


def _lead(runs: Sequence[History]) -> str:
    names = ", ".join(f"{run.name} (seed {run.config['seed']})" for run in runs)
    return f'<p class="lead">{escape(str(runs[0].config["algorithm"]["name"]).upper())} · {escape(names)}</p>'


def _result(run: History) -> str:
    if run.evaluation is None:
        return f'<p class="lead">{escape(run.name)} is not evaluated yet: physai eval {escape(str(run.folder))}</p>'
    return f'<p class="result">{escape(run.name)}: success {escape(catalog.success(run.evaluation))}</p>'


def _key(together: Sequence[Sequence[History]]) -> str:
    if len(together) == 1:
        return ""
    keys = [
        f'<span class="key"><i style="background:{curves.COLORS[i % len(curves.COLORS)]}"></i>'
        f"{escape(', '.join(run.name for run in group))}</span>"
        for i, group in enumerate(together)
    ]
    return f"<p>{''.join(keys)}</p>"


def _band_words(together: Sequence[Sequence[History]]) -> str:
    words = "Of several seeds, the line is the mean and the band reaches from the lowest to the highest. "
    if all(len(group) == 1 for group in together):
        words = "The band about held-out success is its 95 % Wilson interval. "
    terms = " Reward terms and wall time are those of the first run." if sum(map(len, together)) > 1 else ""
    return f'<p class="lead">{words}Training episodes explore; held-out ones do not.{terms}</p>'


def _run(run: History, *, named: bool) -> str:
    title = f"{run.name}: " if named else ""
    parts = [f"<h2>{escape(title)}what it took</h2>", _table(costs.facts(run)), _film(run)]
    if run.evaluation is not None:
        parts += [f"<h2>{escape(title)}evaluation</h2>"]
        parts += [_table(table.rows, table.head) for table in catalog.evaluation(run.evaluation) if table.rows]
    made = {**run.versions.get("packages", {}), **run.versions.get("hardware", {})}
    if run.versions.get("git"):
        made["git"] = run.versions["git"] + (", with local changes" if run.versions.get("git_changed") else "")
    if made:
        parts += [f"<h2>{escape(title)}versions</h2>", _table(tuple((k, str(v)) for k, v in made.items()))]
    parts += [f"<h2>{escape(title)}again</h2>", f"<pre>{escape(command(run))}</pre>"]
    config = yaml.safe_dump(run.config, sort_keys=False)
    parts += [f"<h2>{escape(title)}configuration, resolved</h2>", f"<pre>{escape(config)}</pre>"]
    return "\n".join(part for part in parts if part)


def _film(run: History) -> str:
    """The film, and the recording for a browser, which is a page of its own and travels as an attachment."""
    film, scene = _embedded(run.folder / FILM, "video/mp4"), _embedded(run.folder / RECORDING, "text/html")
    shown = film if not film.startswith("data:") else f'<video controls muted loop src="{film}"></video>'
    kept = scene if not scene.startswith("data:") else (
        f'<p>The same to turn and to look into, as a page: <a download="{RECORDING}" href="{scene}">{RECORDING}</a></p>'
    )  # fmt: skip
    return f"<h2>Film</h2>\n{shown}\n{kept}" if shown or kept else ""


def _embedded(file: Path, kind: str) -> str:
    """A file as an address of itself; why not, where it is too large; empty where there is none."""
    try:
        if not file.is_file():
            return ""
        if file.stat().st_size > LARGEST_FILM:
            return f"<p>{escape(str(file))} is too large to be in here.</p>"
        return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {reason(error)}") from error


def _table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>\n" if any(head) else ""
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>\n{top}{body}\n</table></div>'


def refreshed(location: str | Path) -> str:
    """Writes the report of a run anew; returns what is to be told if that fails, for it must not fail the rest."""
    try:
        write([location])
    except PhysaiError as error:
        return f"note: the report is not written: {error}"
    return ""


def compared(runs: Sequence[History]) -> tuple[catalog.Table, ...]:
    """Returns what differs between the configurations of runs, and their results side by side."""
    head = ("", *(run.name for run in runs))
    configs = [run.flat() for run in runs]
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if key not in ("name", "storage")]
    cells = {key: tuple(json.dumps(config[key]) if key in config else "-" for config in configs) for key in keys}
    different = tuple((key, *values) for key, values in cells.items() if len(set(values)) > 1)
    taken = [dict(costs.facts(run)) for run in runs]
    results = [("evaluated", *(catalog.success(run.evaluation) if run.evaluation else "not yet" for run in runs))]
    results += [("held out, last", *(_last(run, "validation/success") for run in runs))]
    results += [(name, *(facts.get(name, "-") for facts in taken)) for name in ("steps", "throughput", "energy")]
    return (
        catalog.Table("Differences of configuration", head, different or (("none", *("" for _ in runs)),)),
        catalog.Table("Results", head, tuple(results)),
    )


def _last(run: History, name: str) -> str:
    from physai.evaluate.statistics import wilson_interval

    known = [float(value) for value in run.column(name) if value == value]
    if not known:
        return "-"
    episodes = int(run.config["stop"]["episodes"])
    low, high = wilson_interval(round(known[-1] * episodes), episodes)
    return f"{known[-1]:.1%} of {episodes} episodes (95 % interval {low:.1%} to {high:.1%})"
