"""Plots of runs as SVG that takes the colours of the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from physai.evaluate.statistics import wilson_interval
from physai.train.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # stands for the colour of the page's text
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # Tol's bright scheme, colour-blind safe
SIZE_IN = (4.6, 2.7)
GRID = 200  # points at which seeds are averaged
Groups = Sequence[Sequence[History]]


def curve(groups: Groups, name: str, title: str, *, share: bool = False) -> str | None:
    """Draws a figure over the steps: a line a group, the mean of its seeds, and a band from the lowest to the highest.

    Args:
        groups: of runs that differ by their seed alone.
        name: column of the progress.
        title: of the plot.
        share: from 0 to 1.

    Returns:
        the SVG, or None if no run has it.
    """

    def draw(axes: Axes) -> bool:
        drawn = False
        for index, group in enumerate(groups):
            color = COLORS[index % len(COLORS)]
            seeds = [known for run in group if len((known := _known(run, name))[0])]
            if not seeds:
                continue
            drawn = True
            if len(seeds) == 1:
                axes.plot(*seeds[0], color=color, lw=1.6, marker="o" if len(seeds[0][0]) < 20 else "", ms=3)
            else:
                steps = np.linspace(max(s[0] for s, _ in seeds), min(s[-1] for s, _ in seeds), GRID)
                values = np.array([np.interp(steps, *seed) for seed in seeds])
                axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)
                axes.plot(steps, values.mean(0), color=color, lw=1.6)
            if name == "validation/success" and len(seeds) == 1:
                _wilson(axes, group[0], *seeds[0], color)
        if share:
            axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("steps")
        return drawn

    return _svg(title, draw)


def terms(run: History) -> str | None:
    """Draws the sum of each reward term over an episode, unweighted."""

    def draw(axes: Axes) -> bool:
        names = run.named("term/")
        for index, name in enumerate(names):
            style = ("-", "--", ":")[index // len(COLORS) % 3]
            label = name.removeprefix("term/")
            axes.plot(*_known(run, name), style, color=COLORS[index % len(COLORS)], lw=1.4, label=label)
        if names:
            axes.legend(fontsize=7, frameon=False, labelcolor=INK, ncols=2)
        axes.set_xlabel("steps")
        return bool(names)

    return _svg("reward terms, sum over an episode", draw)


def parts(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str | None:
    """Draws bars of one length, each with its named shares."""

    def draw(axes: Axes) -> bool:
        colors = {}
        for place, (_, shares) in enumerate(rows):
            left = 0.0
            for name, value in shares:
                color = colors.setdefault(name, COLORS[len(colors) % len(COLORS)])
                axes.barh(place, value, left=left, color=color, height=0.55)
                if value > 0.07:
                    label = f"{name}\n{value:.0%}"
                    axes.text(left + value / 2, place, label, ha="center", va="center", fontsize=7, color="white")
                left += value
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return bool(rows)

    return _svg("share of wall time", draw)


def _known(run: History, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    steps, values = run.column("steps"), run.column(name)
    known = np.isfinite(steps) & np.isfinite(values)
    steps, values = steps[known], values[known]
    if name.startswith("validation/") and len(values):  # a measurement stands in every row until the next
        new = np.r_[True, np.diff(values) != 0.0]
        new[-1] = True
        steps, values = steps[new], values[new]
    return steps, values


def _wilson(axes: Axes, run: History, steps: NDArray[np.float64], rates: NDArray[np.float64], color: str) -> None:
    episodes = int(run.config["stop"]["episodes"])
    low, high = zip(*(wilson_interval(round(rate * episodes), episodes) for rate in rates), strict=True)
    axes.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)


def _svg(title: str, draw: Callable[[Axes], bool]) -> str | None:
    import matplotlib
    from matplotlib.figure import Figure

    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    settings = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif", "font.size": 8}
    with matplotlib.rc_context({**settings, **ink}):
        picture: Figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = picture.add_subplot()
        if not draw(axes):
            return None
        axes.set_title(title, fontsize=9, loc="left")
        axes.grid(alpha=0.25, lw=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.StringIO()
        picture.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
