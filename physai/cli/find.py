"""What a person names on the command line, and where it is: configurations and run folders."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from physai.errors import CheckpointError, ConfigError, nearest

RUNS = Path("runs")


def find_config(name: str) -> Path:
    """Returns the YAML file of that path, or the shipped one of that name.

    Raises:
        ConfigError: if there is neither.
    """
    shipped = shipped_configs()
    if Path(name).is_file():
        return Path(name)
    if name in shipped:
        return shipped[name]
    raise ConfigError(f"there is no configuration {name!r}; {nearest(Path(name).stem, shipped)}, or give a YAML file")


def shipped_configs() -> dict[str, Path]:
    """Returns the configurations that are installed, by name."""
    import physai_configs

    return {path.stem: path for path in sorted(Path(physai_configs.__path__[0]).glob("*.yaml"))}


def located(name: str) -> Path:
    """Returns a path, or what reads like one in an object store."""
    from physai.storage import place

    return cast(Path, place(name))


def find_runs(folder: Path = RUNS) -> list[Path]:
    """Returns the run folders, the newest first."""
    found = [path.parent for path in folder.glob("*/*/config.yaml")]
    return sorted(found, key=lambda run: (run / "config.yaml").stat().st_mtime, reverse=True)


def newest_run() -> Path:
    """Returns the run folder that was started last.

    Raises:
        CheckpointError: if there is none.
    """
    found = find_runs()
    if not found:
        raise CheckpointError(f"nothing was named and there is no run in {RUNS}/; name one, or train one first")
    return found[0]


def run_folder(source: str) -> Path | None:
    """Returns the run folder of this machine that `source` is, or None."""
    return Path(source) if (Path(source) / "config.yaml").is_file() else None
