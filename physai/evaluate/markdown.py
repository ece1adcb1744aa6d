"""A report as Markdown: what a pull request shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from physai.evaluate import words
from physai.evaluate.words import Document, Rows

OPEN = {"Episodes that could not be played", "Requirements", "Comparison", "Perturbed"}  # seen without a click
MOST_ROWS = 30  # of a table: a comment on GitHub holds 65,536 characters


def markdown(documents: Sequence[Document], broken: Mapping[str, str]) -> str:
    """Returns the summary of some reports; `broken` says why other policies have none."""
    sections = [_section(document) for document in documents]
    sections += [f"### {_text(source)}: could not be evaluated\n\n{_text(error)}" for source, error in broken.items()]
    return "\n\n".join(sections) + "\n"


def _section(document: Document) -> str:
    parts = [f"### {_text(words.headline(document))}", "\n".join(f"- {_text(s)}" for s in words.sentences(document))]
    for rows in words.tables(document):
        if rows.title in OPEN:
            parts.append(f"**{rows.title}**\n\n{_table(rows)}")
        else:
            parts.append(f"<details><summary>{rows.title}</summary>\n\n{_table(rows)}\n\n</details>")
    parts.append(f"```bash\n{document['command']}\n```")
    return "\n\n".join(parts)


def _table(rows: Rows) -> str:
    cut = rows.rows[:MOST_ROWS]
    lines = [rows.head, tuple("---" for _ in rows.head), *(tuple(map(_text, row)) for row in cut)]
    more = f"\n\n{len(rows.rows) - MOST_ROWS} more are in the JSON report." if len(rows.rows) > MOST_ROWS else ""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + more


def _text(text: str) -> str:
    """Returns text that is no markup, on one line."""
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(sign, written)
    return text
