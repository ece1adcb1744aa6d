"""Writes what an evaluation found, in every form that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from physai.errors import StorageError
from physai.evaluate.junit import junit as to_junit
from physai.evaluate.markdown import markdown as to_markdown
from physai.evaluate.report import Report, to_text, write_text

SET = "physai-evaluations/1"


def together(reports: Sequence[Report], broken: Mapping[str, str]) -> dict[str, Any]:
    """Returns the JSON of an evaluation: of one policy its report, else a list of them, with those that are broken.

    Args:
        reports: of those that could be evaluated.
        broken: why the others could not be, by their source.
    """
    if len(reports) == 1 and not broken:
        return reports[0].to_dict()
    return {
        "schema": SET,
        "verdict": ("passed", "below", "failed")[max([r.exit_code for r in reports] + [2 if broken else 0])],
        "reports": [report.to_dict() for report in reports],
        "failed": [{"source": source, "error": error} for source, error in broken.items()],
    }


def write(
    reports: Sequence[Report],
    broken: Mapping[str, str],
    *,
    json: str | Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
    html: Path | None = None,
    heat_map: Path | None = None,
) -> None:
    """Writes the files that are named, each whole or not at all.

    Args:
        reports: of policies that could be evaluated.
        broken: why the others could not be, by their source.
        json: file, or ``-`` for stdout.
        junit: file of JUnit XML.
        markdown: file of the summary.
        html: file of the page.
        heat_map: PNG; only with a single report that has a grid.

    Raises:
        StorageError: if one cannot be written.
    """
    documents = [report.to_dict() for report in reports]
    if json is not None:
        write_text(json, to_text(together(reports, broken)))
    if junit is not None:
        write_text(junit, to_junit(documents, broken))
    if markdown is not None:
        write_text(markdown, to_markdown(documents, broken))
    if html is not None:
        from physai.evaluate.html import html as to_html  # here, for drawing takes a second to import

        write_text(html, to_html(documents, broken))
    if heat_map is not None and documents and documents[0]["robustness"] is not None:
        from physai.evaluate.charts import heat_map as drawn
        from physai.evaluate.charts import png

        before = (documents[0]["comparison"] or {}).get("points", ())
        try:
            heat_map.write_bytes(png(drawn(documents[0]["robustness"], before)))
        except OSError as problem:
            raise StorageError(f"{heat_map} cannot be written ({problem.strerror}); name another file") from problem
