"""What a run cost: where its time went, how busy the machine was, and how much energy it took."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from physai.train.history import History

WATT_PER_CORE = 5.0  # of a busy core, without memory and fans: an EPYC 7763 has 280 W for 64 cores (AMD's data sheet)
J_PER_WH = 3600.0


def time_shares(run: History) -> list[tuple[str, list[tuple[str, float]]]]:
    """Returns the shares of wall time of learner and actors, as far as the run tells them."""
    seconds = run.column("seconds")
    told = np.isfinite(seconds) & (seconds > 0)
    if not told.any():
        return []
    wall = float(seconds[told].sum())

    def mean(values: NDArray[np.float64]) -> float:
        known = told & np.isfinite(values)
        return float((values * seconds)[known].sum() / seconds[known].sum()) if known.any() else 0.0

    busy, waiting, physics = (mean(run.column(name)) for name in ("learner_busy", "waiting", "physics"))
    rows = [("learner", [("learning", busy), ("waiting", waiting), ("measuring,\nsaving", _rest(busy, waiting))])]
    actors = np.nansum(run.column("collected_s")) / max(1e-9, wall * _mean(run.column("actors"), 1.0))
    policy = max(0.0, float(actors) - physics)
    return [*rows, ("actors", [("physics", physics), ("policy, sensors", policy), ("idle", _rest(physics, policy))])]


def energy(run: History) -> str:
    """Returns the energy in words, and says where the number comes from."""
    seconds, joules = run.column("seconds"), run.column("energy_j")
    if not run.iterations:
        return "not known: no iteration was recorded"
    if np.isfinite(joules).all():
        return (
            f"{joules.sum() / J_PER_WH:.3g} Wh, by the counters of the learner's machine (RAPL and NVML), all its work"
        )
    cpu, cores = run.column("cpu"), run.versions.get("hardware", {}).get("cores")
    if not cores:
        return "not known: neither counters nor the number of cores were recorded"
    if np.isfinite(cpu).any():
        share, how = np.where(np.isfinite(cpu), cpu, np.nanmean(cpu)), "the share of time its cores were busy"
    else:
        share, how = np.ones(len(seconds)), "all its cores being busy, for the share was not recorded"
    watt_hours = float(np.nansum(seconds * share)) * cores * WATT_PER_CORE / J_PER_WH
    return (
        f"about {watt_hours:.3g} Wh: an estimate, there are no counters. It assumes {WATT_PER_CORE:g} W for each busy "
        f"core of the learner's machine ({cores} cores) and {how}; no GPU, no other machines"
    )


def facts(run: History) -> tuple[tuple[str, str], ...]:
    """Returns steps, time, speed, utilisation and energy in words."""
    if not run.iterations:
        return (("steps", "none recorded; a run that only clones its expert has no iterations"),)
    seconds = float(np.nansum(run.column("seconds")))
    steps = float(np.nanmax(run.column("steps")))
    found = [
        ("steps", f"{steps:,.0f} in {run.iterations} iterations"),
        ("wall time of iterations", f"{seconds:,.0f} s"),
        ("throughput", f"{steps / max(1e-9, seconds):,.0f} steps/s on average"),
        ("processor", _share(run, "cpu", "of the learner's machine busy")),
        ("GPU", _share(run, "gpu", "busy")),
        ("energy", energy(run)),
    ]
    return tuple(found)


def _share(run: History, name: str, words: str) -> str:
    values = run.column(name)
    return f"{np.nanmean(values):.0%} {words}" if np.isfinite(values).any() else "not recorded"


def _mean(values: NDArray[np.float64], without: float) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else without


def _rest(*shares: float) -> float:
    return max(0.0, 1.0 - sum(shares))
