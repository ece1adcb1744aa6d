"""What a search may change: a strict YAML file of configuration keys, each with what its values are drawn from.

algorithm.learning_rate: {loguniform: [1.0e-4, 3.0e-3]}
algorithm.epochs: {choice: [5, 10, 20]}
algorithm.entropy: {uniform: [0.0, 0.01]}
rollout.steps: {randint: [32, 128]}       # both ends are possible
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from physai.config import RunConfig, as_override
from physai.errors import ConfigError, nearest

RANGES = ("uniform", "loguniform", "randint")
DRAWN = (*RANGES, "choice")
# What may change at a checkpoint while a run goes on; the rest shapes the network or the experience.
LIVE = ("algorithm.", "curriculum.")
FIXED = ("algorithm.name", "algorithm.network", "algorithm.activation", "algorithm.log_std_init")


@dataclass(frozen=True)
class Draw:
    """How the values of one key are drawn: `kind` is one of `DRAWN`, `values` its bounds or the choices."""

    kind: str
    values: tuple[Any, ...]

    def clipped(self, value: Any) -> Any:
        """Returns the allowed value that is closest to one that was perturbed."""
        if self.kind == "choice":
            return value
        inside = min(max(value, self.values[0]), self.values[1])
        return round(inside) if self.kind == "randint" else inside


def load(path: Path, config: RunConfig, *, live: bool = False) -> dict[str, Draw]:
    """Reads a search space.

    Args:
        path: of the YAML file.
        config: that it varies: every bound and every choice must be possible in it.
        live: only what may change while a run goes on.

    Raises:
        ConfigError: lists everything that is wrong.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the space {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the space {path} is not valid YAML: {error}") from error
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"the space {path} is not a table such as 'algorithm.gamma: {{uniform: [0.9, 0.99]}}'")
    problems: list[str] = []
    space: dict[str, Draw] = {}
    for key, given in data.items():
        draw = _draw(str(key), given, problems)
        if draw is None:
            continue
        space[str(key)] = draw
        _try(config, str(key), draw, problems)
        if live and (not str(key).startswith(LIVE) or str(key) in FIXED):
            problems.append(f"{key}: pbt changes values while a run goes on, and this one cannot be; leave it to asha")
    if problems:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"the space {path} has {count}:" + "".join(f"\n  {line}" for line in problems))
    return space


def _draw(key: str, given: Any, problems: list[str]) -> Draw | None:
    if not isinstance(given, dict) or len(given) != 1:
        problems.append(f"{key}: it should be one of {', '.join(DRAWN)} with a list, and not {given!r}")
        return None
    ((kind, values),) = given.items()
    if kind not in DRAWN:
        problems.append(f"{key}: nothing is drawn from {kind!r}; {nearest(str(kind), DRAWN)}")
        return None
    if not isinstance(values, list) or not values:
        problems.append(f"{key}: {kind} takes a list, and not {values!r}")
        return None
    if kind == "choice":
        return Draw(kind, tuple(values))
    values = [_number(value) for value in values]
    if len(values) != 2 or any(value is None for value in values) or values[0] >= values[1]:
        problems.append(f"{key}: {kind} takes two numbers, the smaller first, and not {given[kind]!r}")
    elif kind == "loguniform" and values[0] <= 0:
        problems.append(f"{key}: loguniform takes numbers above 0, and not {values[0]!r}")
    elif kind == "randint" and any(value != int(value) for value in values):
        problems.append(f"{key}: randint takes whole numbers, and not {given[kind]!r}")
    else:
        return Draw(kind, tuple(int(value) if kind == "randint" else float(value) for value in values))
    return None


def _number(value: Any) -> float | int | None:
    if isinstance(value, str):  # YAML 1.1 takes 1e-4 for a word
        try:
            value = float(value)
        except ValueError:
            return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _try(config: RunConfig, key: str, draw: Draw, problems: list[str]) -> None:
    """Lets the configuration itself say what it thinks of a key and of its values, each alone."""
    for value in draw.values:
        try:
            varied(config, {key: value})
        except ConfigError as error:
            if "algorithm.batch_size" in str(error) and "does not divide" in str(error):
                continue  # it may fit with another value that is drawn with it
            problems += [line.strip() for line in str(error).splitlines()[1:]]
            if "no such key" in str(error):
                return


def varied(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Returns the configuration with other values, by dotted key.

    Raises:
        ConfigError: if it does not take them.
    """
    return RunConfig.load_data(
        config.model_dump(mode="json", exclude_unset=True),
        [f"{key}={as_override(value)}" for key, value in sorted(values.items())],
    )
