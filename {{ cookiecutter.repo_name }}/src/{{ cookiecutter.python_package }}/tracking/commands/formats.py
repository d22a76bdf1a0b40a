"""What commands print: tables for a terminal, Markdown, and JSON."""

import json
from collections.abc import Sequence
from typing import Any

import click

from .project_runs import printable

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "md", "json"]),
    default="table",
    show_default=True,
    help="For a terminal, for a page, or for a program.",
)


def render(rows: Sequence[tuple[str, ...]], format_: str) -> str:
    """Lay out rows, of which the first is the header, as text or Markdown."""
    return markdown(rows) if format_ == "md" else table(rows)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay out rows in columns; long values are cut."""
    shown = [[printable(cell) for cell in row] for row in rows]
    cut = [[cell if len(cell) <= 40 else f"{cell[:39]}…" for cell in r] for r in shown]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in cut)
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay out rows as a table of Markdown; values are code, so that none is markup."""
    header, *lines = (
        [printable(cell).replace("`", "'").replace("|", "\\|") for cell in row]
        for row in rows
    )
    values = ([f"`{cell}`" if cell else "" for cell in line] for line in lines)
    found = [header, ["---"] * len(header), *values]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in found)


def to_json(content: Any) -> str:
    """Return JSON that every reader takes: numbers that are not finite are texts."""
    # NaN and Infinity become nan and inf.
    plain = json.loads(json.dumps(content), parse_constant=lambda n: str(float(n)))
    return json.dumps(plain, indent=2, ensure_ascii=False)
