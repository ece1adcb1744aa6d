"""Bundles in words: tables for a person, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from physai.deploy.bundle import Bundle
from physai.deploy.files import MANIFEST

Rows = tuple[tuple[str, ...], ...]


def tables(bundle: Bundle) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    """Yields title, head and rows of each table about a bundle."""
    manifest, spec = bundle.manifest, bundle.spec
    facts = {
        "task": f"{manifest['task']}, {spec.control_hz:g} Hz",
        "intended use": manifest["intended_use"],
        "signature": bundle.standing,
        "digest": bundle.digest,
        "replaces": manifest["parent"] or "nothing",
        "network": f"{manifest['model']['algorithm']}, {manifest['model']['n_params']} numbers",
        "from": ", ".join(f"{name} {value}" for name, value in manifest["lineage"].items() if value),
        "made with": ", ".join(f"{name} {value}" for name, value in manifest["producer"].items()),
        "golden": f"{manifest['golden']['steps']} steps replayed",
        "slowest": f"{bundle.seconds.max() * 1e3:.2f} ms on this machine",
        "files": ", ".join(manifest["files"]),
    }
    yield f"{manifest['name']} {manifest['version']}", ("", ""), tuple(facts.items())
    observations = []
    for term in spec.observations:
        said = manifest["interface"]["observations"][term.name]
        seen = f"{_range(said['seen']['low'], said['seen']['high'])}"
        age = f"{said['max_age_s'] * 1e3:g} ms, then {said['on_stale']}"
        observations.append(
            (term.name, str(term.size), term.unit, term.frame, _range(term.low, term.high), seen, age)
        )  # fmt: skip
    head: tuple[str, ...] = ("observation", "size", "unit", "frame", "range", "seen in training", "maximum age")
    yield "Observations, in order", head, tuple(observations)
    actions = []
    for action in spec.actions:
        said, limits = manifest["interface"]["actions"][action.name], bundle.limits["commands"][action.name]
        for i, element in enumerate(action.elements):
            actions.append(
                (action.name, element, action.unit, said["mode"], _range(limits["low"][i], limits["high"][i]),
                 _or_none(limits["rate"][i]), _or_none(limits["rate_change"][i]), f"{said['expiry_s'] * 1e3:g} ms")
            )  # fmt: skip
    head = ("command", "element", "unit", "mode", "range", "rate", "change of rate", "expires")
    yield "Commands, with the limits of safety.json", head, tuple(actions)
    workspace = bundle.limits["workspace"]
    if workspace is not None:
        rows = [("inside", str(workspace["low"]), str(workspace["high"]))]
        rows += [(part["name"], str(part["low"]), str(part["high"])) for part in workspace["keep_out"]]
        yield f"Workspace of {workspace['position']}", ("", "low [m]", "high [m]"), tuple(rows)


def differences(old: Bundle, new: Bundle) -> list[tuple[str, str, str]]:
    """Returns what differs: the place, the value in the old bundle and that in the new one."""
    found: list[tuple[str, str, str]] = []
    _compare("", dict(old.manifest), dict(new.manifest), found)
    _compare("safety", dict(old.limits), dict(new.limits), found)
    if old.standing != new.standing:
        found.append(("signature", old.standing, new.standing))
    return found


def _compare(where: str, old: Any, new: Any, found: list[tuple[str, str, str]]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            _compare(f"{where}.{name}".lstrip("."), old.get(name), new.get(name), found)
    elif old != new:
        found.append((where or MANIFEST, _short(old), _short(new)))


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 70 else text[:67] + "..."


def _or_none(value: Any) -> str:
    return "not limited" if value is None else f"{value:g}"


def _range(low: Any, high: Any) -> str:
    lows, highs = (list(v) if isinstance(v, (list, tuple)) else [v] for v in (low, high))
    worst = [None if None in values else choose(values) for values, choose in ((lows, min), (highs, max))]
    return " to ".join("any" if value is None else f"{value:g}" for value in worst)
