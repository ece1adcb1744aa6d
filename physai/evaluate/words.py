"""What the summaries for people have in common: a report as rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
SIGNS = {"passed": "passed", "below": "below the bar", "failed": "could not be evaluated"}


@dataclass(frozen=True)
class Rows:
    """A heading, column heads, and rows of text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None) -> str:
    """Returns a number to four digits."""
    return "none" if value is None else f"{value:.4g}"


def rate(success: Mapping[str, Any]) -> str:
    """Returns a success rate with its interval."""
    if success["rate"] is None:
        return "not reported"
    low, high = success["interval"]
    return f"{success['rate']:.1%} ({low:.1%} to {high:.1%})"


def counted(count: int, what: str) -> str:
    """Returns a number of things, such as ``2 workers``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def headline(document: Document) -> str:
    """Returns the verdict in one line."""
    what = SIGNS[document["verdict"]]
    if document["verdict"] == "below" and all(check["passed"] for check in document["checks"]):
        what = "worse than before"
    return f"{document['task']}: {what}, success {rate(document['success'])} of {document['episodes']} episodes"


def checks(document: Document) -> Rows:
    """What the policy had to meet."""
    rows = [(c["rule"], number(c["value"]), "yes" if c["passed"] else "NO") for c in document["checks"]]
    return Rows("Requirements", ("requirement", "found", "met"), tuple(rows))


def measured(document: Document) -> Rows:
    """Every figure over the episodes."""
    rows = []
    if document["return"] is not None:
        for name in ("return", "steps"):
            rows.append((name, number(document[name]["mean"]), "", number(document[name]["max"])))
    tails = {**document["metrics"], **{n: document[n] for n in ("time_to_success_s", "action_change")}}
    rows += [(n, number(v["mean"]), number(v["p95"]), number(v["max"])) for n, v in tails.items() if v]
    rows += [
        (f"reward.{name}", number(v["mean"]), "", number(v["max"])) for name, v in document["reward_terms"].items()
    ]
    return Rows("Figures", ("figure", "mean", "95 % below", "largest"), tuple(rows))


def worst(document: Document) -> Rows:
    """The worst episodes, and how to see them."""
    says = {True: "yes", False: "no", None: ""}
    rows = [
        (str(w["seed"]), says[w["success"]], number(w["return"]), str(w["steps"]), w.get("replay", ""))
        for w in document["worst"]
    ]
    return Rows("Worst episodes", ("seed", "success", "return", "steps", "to see it"), tuple(rows))


def failed(document: Document) -> Rows:
    """Episodes that could not be played."""
    rows = [(str(f["seed"]), "" if f["at"] is None else at(f["at"]), f["error"]) for f in document["failed"]]
    return Rows("Episodes that could not be played", ("seed", "perturbed", "why"), tuple(rows))


def differences(document: Document) -> Rows:
    """A comparison, figure by figure."""
    found = document["comparison"]
    rows = [
        (d["name"], number(d["old"]), number(d["new"]), _interval(d["interval"]),
         d["verdict"] if d["name"] in found["judged"] else "not judged")
        for d in (found["differences"] if found else ())
    ]  # fmt: skip
    return Rows("Comparison", ("figure", "before", "now", "difference, 95 % or wider", "verdict"), tuple(rows))


def robustness(document: Document) -> Rows:
    """Success at each point of a grid of perturbations."""
    found = document["robustness"]
    before = {_key(p["at"]): p["old"] for p in (document["comparison"] or {}).get("points", ())}
    rows = []
    for point in found["points"] if found else ():
        row = (at(point["at"]), rate(point["success"]), number(point["return"] and point["return"]["mean"]))
        rows.append((*row, "" if not before else f"{before[_key(point['at'])]:.1%}"))
    return Rows("Perturbed", ("at", "success", "return", "success before"), tuple(rows))


def sentences(document: Document) -> list[str]:
    """What else there is to say."""
    told = []
    if document["comparison"] is not None:
        told.append(f"Compared: {document['comparison']['sentence']}.")
    stop = document["early_stop"]
    if stop is not None:
        sure = "the rest could not have changed the verdict" if stop["certain"] else (
            f"the chance of saying something else than all {stop['planned']} episodes would is at most "
            f"{stop['false_pass']:.2%} for a pass and {stop['false_fail']:.2%} for a fail, whatever the policy"
        )  # fmt: skip
        told.append(
            f"Stopped early, {stop['planned']} episodes were planned: after {stop['played']} {sure}. "
            "The interval of the success rate is not corrected for this."
        )
    if document["robustness"] is not None and document["robustness"]["worst"] is not None:
        corner = document["robustness"]["worst"]
        told.append(f"Worst corner: {at(corner['at'])}, success {rate(corner['success'])}.")
    timing = document["timing"]
    told.append(
        f"Took {timing['wall_s']:.1f} s with {counted(timing['workers'], 'worker')}"
        + (f", of which {timing['start_s']:.1f} s to start." if "start_s" in timing else ".")
    )
    return told


def tables(document: Document) -> list[Rows]:
    """All tables that have rows, the most important first."""
    functions = (failed, checks, differences, robustness, measured, worst)
    return [rows for rows in (function(document) for function in functions) if rows.rows]


def at(values: Mapping[str, float]) -> str:
    """Returns a point of a grid in words."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _key(values: Mapping[str, float]) -> Sequence[tuple[str, float]]:
    return tuple(values.items())


def _interval(ends: Sequence[float] | None) -> str:
    return "unknown" if ends is None else f"{ends[0]:+.3g} to {ends[1]:+.3g}"
