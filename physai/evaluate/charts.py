"""Pictures of a report, drawn without a screen: how figures are spread, and a heat map of a grid of perturbations."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from physai.evaluate import figures
from physai.evaluate.words import Document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_HISTOGRAMS = 6
DPI = 110
LEAST_SPAN = 0.05  # of the colours of differences, so that rounding does not look like one
BAR, LINE = "#4477aa", "#cc3311"  # of Tol's colour-blind safe schemes


def histograms(document: Document, bars: Mapping[str, float]) -> Figure | None:
    """Draws how the return, the time to success and the task's metrics are spread over the episodes.

    Args:
        document: a report.
        bars: where a requirement draws the line, by figure.
    """
    from matplotlib.figure import Figure

    from physai.evaluate.report import record_of

    records = [record_of(row) for row in document["records"]]
    if not records:
        return None
    values = figures.by_name(records, 1.0)  # times are drawn in steps
    names = [figures.RETURN, *document["metrics"], figures.STEPS][:MOST_HISTOGRAMS]
    picture = Figure(figsize=(3.2 * min(3, len(names)), 2.4 * -(-len(names) // 3)), layout="constrained")
    for index, name in enumerate(names):
        axes = picture.add_subplot(-(-len(names) // 3), min(3, len(names)), index + 1)
        axes.hist(values[name], bins=20, color=BAR)
        if name in bars:
            axes.axvline(bars[name], color=LINE, linewidth=1.5)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    return picture


def heat_map(robustness: Mapping[str, Any], before: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Draws success over a grid of perturbations: a line for one axis, a map for two.

    Of more axes the first two are drawn, with the worst that the others do. Without success it is the return.

    Args:
        robustness: of a report.
        before: at each point the ``old`` success of another policy; then the difference is drawn beside it.
    """
    from matplotlib.figure import Figure

    axes_, points = robustness["axes"], robustness["points"]
    told = all(point["success"]["rate"] is not None for point in points)
    found = [point["success"]["rate"] if told else (point["return"] or {"mean": np.nan})["mean"] for point in points]
    shape = [len(axis["values"]) for axis in axes_]
    values = _worst_of_the_rest(np.asarray(found, dtype=np.float64).reshape(shape))
    label = "success" if told else "return"
    old = (
        _worst_of_the_rest(np.asarray([p["old"] for p in before], dtype=np.float64).reshape(shape)) if before else None
    )
    picture = Figure(figsize=(5.2 if old is None or len(shape) == 1 else 10.4, 4.0), layout="constrained")
    if len(shape) == 1:
        _line(picture, axes_[0], values, old, label)
        return picture
    _map(picture, (1, 2 if old is not None else 1, 1), axes_, values, label, told)
    if old is not None:
        _map(picture, (1, 2, 2), axes_, values - old, f"{label}, now minus before", None)
    return picture


def png(picture: Figure) -> bytes:
    """Returns the bytes of a PNG."""
    file = io.BytesIO()
    picture.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _worst_of_the_rest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.min(axis=tuple(range(2, values.ndim))) if values.ndim > 2 else values


def _title(axis: Mapping[str, Any]) -> str:
    return axis["name"] if axis["unit"] in ("", "1") else f"{axis['name']} [{axis['unit']}]"


def _line(picture: Figure, axis: Mapping[str, Any], values: NDArray[Any], old: NDArray[Any] | None, label: str) -> None:
    axes = picture.add_subplot()
    axes.plot(axis["values"], values, "o-", color=BAR, label="now")
    if old is not None:
        axes.plot(axis["values"], old, "s--", color=LINE, label="before")
        axes.legend()
    axes.set(xlabel=_title(axis), ylabel=label)
    if label == "success":
        axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.3)


def _map(
    picture: Figure,
    place: tuple[int, int, int],
    axes_: Sequence[Mapping[str, Any]],
    values: NDArray[Any],
    label: str,
    rate: bool | None,
) -> None:
    axes = picture.add_subplot(*place)
    largest = max(float(np.nanmax(np.abs(values))), LEAST_SPAN) if np.isfinite(values).any() else 1.0
    limits = {True: (0.0, 1.0), False: (None, None), None: (-largest, largest)}[rate]
    image = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap="RdBu" if rate is None else "viridis",
        vmin=limits[0],
        vmax=limits[1],
    )
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.0%}" if rate else f"{value:+.0%}" if rate is None else f"{value:.3g}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, bbox={"fc": "white", "alpha": 0.6, "lw": 0})
    for axis, set_ticks in ((axes_[1], axes.set_xticks), (axes_[0], axes.set_yticks)):
        set_ticks(range(len(axis["values"])), [f"{value:.4g}" for value in axis["values"]], fontsize=8)
    axes.set(xlabel=_title(axes_[1]), ylabel=_title(axes_[0]))
    picture.colorbar(image, ax=axes, label=label)
