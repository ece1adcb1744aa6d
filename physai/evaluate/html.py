"""A report as one HTML file with its pictures inside, which asks for nothing from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from physai.evaluate import charts, words
from physai.evaluate.gate import Rule
from physai.evaluate.words import Document, Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } th, td { padding: .2rem .8rem .2rem 0; text-align: left; }
th { border-bottom: 1px solid #888; font-weight: 600; } td { border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; } h2.passed { color: #117733; } h2.below, h2.failed { color: #bb2211; }
code, pre { font-family: ui-monospace, monospace; font-size: 13px; } pre { background: #f4f4f4; padding: .6rem; }
img { max-width: 100%; }
"""
NOTHING_FROM_OUTSIDE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
HEAD = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_FROM_OUTSIDE}">\n'
    f"<title>physai eval</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Evaluation</h1>\n"
)


def html(documents: Sequence[Document], broken: Mapping[str, str]) -> str:
    """Returns the page of some reports; `broken` says why other policies have none."""
    sections = [_section(document) for document in documents]
    for source, error in broken.items():
        sections.append(f'<h2 class="failed">{escape(source)}: could not be evaluated</h2>\n<p>{escape(error)}</p>')
    return HEAD + "\n".join(sections) + "\n</body>\n</html>\n"


def _section(document: Document) -> str:
    parts = [f'<h2 class="{escape(document["verdict"])}">{escape(words.headline(document))}</h2>']
    parts += [f"<p>{escape(sentence)}</p>" for sentence in words.sentences(document)]
    if document["robustness"] is not None:
        before = (document["comparison"] or {}).get("points", ())
        parts.append(_picture(charts.heat_map(document["robustness"], before), "success under perturbation"))
    parts += [_table(rows) for rows in words.tables(document)]
    rules = [Rule.parse(check["rule"]) for check in document["checks"]]
    spread = charts.histograms(document, {rule.figure: rule.bar for rule in rules})
    if spread is not None:
        parts.append(_picture(spread, "how the figures are spread over the episodes"))
    facts = {
        **document["versions"],
        **document["hardware"],
        **document["policy"],
        "physics": document["physics"]["sha256"],
    }
    known = tuple((str(name), str(value)) for name, value in facts.items())
    parts.append(_table(Rows("Made with", ("what", "which"), known)))
    parts.append(f"<h3>Again</h3>\n<pre>{escape(document['command'])}</pre>")
    return "\n".join(parts)


def _table(rows: Rows) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows.head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows.rows)
    return f"<h3>{escape(rows.title)}</h3>\n<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _picture(figure: Figure, what: str) -> str:
    data = base64.b64encode(charts.png(figure)).decode("ascii")
    return f'<img alt="{escape(what)}" src="data:image/png;base64,{data}">'
