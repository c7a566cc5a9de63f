"""A report as one page of HTML that needs nothing else: figures inline, light and dark, any
width."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from pynn.report.report import (
    COMPARISON_COLUMNS,
    OURS,
    Cell,
    Comparison,
    Picture,
    Report,
    Table,
    comparison_cells,
    duration,
    show,
)

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --page: #fff; --line: #d5dae1; --soft: #f4f6f8;
  --good: #11703c; --bad: #b3261e; --quiet: #59636e; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e8ed; --page: #14181d; --line: #39424d; --soft: #1d232a; --good: #56c98a;
    --bad: #ff8a80; --quiet: #9aa5b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.quiet { color: var(--quiet); }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { background: var(--soft); white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; }
.within { color: var(--good); } .outside { color: var(--bad); font-weight: 600; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { color: var(--quiet); font-size: .92rem; margin-top: .4rem; }
a { color: inherit; }
"""


def page(report: Report) -> str:
    """The page of a report."""
    body = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="quiet">pynn run {escape(report.study)} · {escape(report.outcome())} · '
        f"{duration(report.seconds)}</p>",
    ]
    for section in report.sections:
        if isinstance(section, str):
            body.append(f"<p>{escape(section)}</p>")
        elif isinstance(section, Table):
            body.append(f"<h2>{escape(section.title)}</h2>")
            body.append(_table(section.columns, section.rows))
        elif isinstance(section, Picture):
            data = base64.b64encode(section.png).decode()
            caption = escape(section.caption)
            body.append(
                f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        else:
            title, comparisons = section
            body.append(f"<h2>{escape(title)}</h2>")
            body.append(_compared(comparisons))
    for title, values in (("Settings", report.settings), (OURS, report.ours)):
        if values:
            rows = [(name, str(value)) for name, value in values.items()]
            body += [f"<h2>{escape(title)}</h2>", _table(("setting", "value"), rows)]
    return _document(report.title, body)


def index(reports: Sequence[Report]) -> str:
    """A page that leads to those of several studies, each in a folder that is called like it."""
    rows = "".join(
        f'<tr><td><a href="{escape(each.study)}/report.html">{escape(each.study)}</a></td>'
        f"<td>{escape(each.title)}</td><td>{escape(each.outcome())}</td>"
        f'<td class="number">{duration(each.seconds)}</td></tr>'
        for each in reports
    )
    head = "<tr><th>study</th><th>title</th><th>outcome</th><th>time</th></tr>"
    return _document(
        "The studies of pynn",
        ["<h1>The studies of pynn</h1>", f'<div class="table"><table>{head}{rows}</table></div>'],
    )


def _document(title: str, body: Sequence[str]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{lines}</table></div>'


def _compared(comparisons: Sequence[Comparison]) -> str:
    head = "".join(f"<th>{column}</th>" for column in COMPARISON_COLUMNS)
    lines = []
    for each in comparisons:
        cells = [_cell(cell) for cell in comparison_cells(each)]
        cells[4] = f'<td class="{each.verdict.split()[0]}">{each.verdict}</td>'
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="table"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cell(cell: Cell) -> str:
    kind = ' class="number"' if isinstance(cell, (int, float)) else ""
    return f"<td{kind}>{escape(show(cell))}</td>"
