"""A laid-out table as Markdown, LaTeX (booktabs) and HTML; and the parts of that HTML for other pages.

Means and deviations are printed in percent with one digit; the best are marked, notes are numbered.
"""

import html
from dataclasses import dataclass
from pathlib import Path

from foundad.report.grid import DASH, Grid, Key
from foundad.sealed import broken

# Separate the parts of the HTML; no text in it can contain them, because all texts are escaped.
_TABLE, _CAPTION, _END = "</style><table><caption>", "</caption>", "</html>\n"
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse;border-top:2px solid;"
    "border-bottom:2px solid}thead{border-bottom:1px solid}th,td{padding:.25em .7em;text-align:right}"
    "th[scope=row]{text-align:left;font-weight:normal}caption{text-align:left;padding-bottom:.7em}"
)


def markdown(grid: Grid) -> str:
    """A pipe table with the caption above and the footnotes below."""
    width = len(next(iter(grid.row_titles.values())))
    lines = [f"**{grid.caption}**", ""]
    heads = [" ".join(titles) for titles in grid.column_titles.values()]
    lines.append("| " + " | ".join([*[""] * width, *heads]) + " |")
    lines.append("|" + "---|" * width + "---:|" * len(heads))
    for row, titles in grid.row_titles.items():
        values = [
            _cell(
                grid, row, column, {"best": "**{}**", "leading": "<u>{}</u>", "second": "*{}*"}, "<sup>{}</sup>", " ± "
            )
            for column in grid.column_titles
        ]
        lines.append("| " + " | ".join([*titles, *values]) + " |")
    lines += ["", *(f"<sup>{number}</sup> {note}  " for number, note in enumerate(grid.notes, 1))]
    return "\n".join(lines).rstrip() + "\n"


def latex(grid: Grid, label: str) -> str:
    """A booktabs table; repeated column titles are joined over their columns."""
    width = len(next(iter(grid.row_titles.values())))
    columns = list(grid.column_titles)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escape(grid.caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{'l' * width}{'r' * len(columns)}}}",
        r"\toprule",
    ]
    levels = list(zip(*grid.column_titles.values(), strict=True))
    for depth in range(len(levels)):
        cells, rules, start = [], [], 0
        while start < len(columns):
            prefix = grid.column_titles[columns[start]][: depth + 1]
            end = start
            while end < len(columns) and grid.column_titles[columns[end]][: depth + 1] == prefix:
                end += 1
            cells.append(rf"\multicolumn{{{end - start}}}{{c}}{{{_escape(prefix[-1])}}}")
            rules.append(rf"\cmidrule(lr){{{width + start + 1}-{width + end}}}")
            start = end
        lines.append("& " * width + " & ".join(cells) + r" \\")
        if depth < len(levels) - 1:
            lines.append("".join(rules))
    lines.append(r"\midrule")
    for row, titles in grid.row_titles.items():
        values = [
            _cell(
                grid,
                row,
                c,
                {"best": r"\textbf{{{}}}", "leading": r"\underline{{{}}}", "second": r"\textit{{{}}}"},
                r"\textsuperscript{{{}}}",
                r" $\pm$ ",
            )
            for c in columns
        ]
        lines.append(" & ".join([*map(_escape, titles), *values]).replace(DASH, "--") + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize\textsuperscript{{{n}}} {_escape(note)}" for n, note in enumerate(grid.notes, 1)]
    return "\n".join([*lines, r"\end{table}", ""])


@dataclass(frozen=True)
class Fragment:
    """The HTML of a table for other pages: its caption, and its element without the caption, followed by the notes."""

    caption: str
    element: str


def page(grid: Grid) -> str:
    """A small page with the table alone; :func:`read_fragment` extracts the table from it."""
    width = len(next(iter(grid.row_titles.values())))
    heads = "".join(f"<th>{'<br>'.join(map(html.escape, titles))}</th>" for titles in grid.column_titles.values())
    body = []
    marks = {"best": "<b>{}</b>", "leading": "<u>{}</u>", "second": "<i>{}</i>"}
    for row, titles in grid.row_titles.items():
        names = "".join(f'<th scope="row">{html.escape(title)}</th>' for title in titles)
        values = "".join(
            f"<td>{_cell(grid, row, column, marks, '<sup>{}</sup>', ' ± ')}</td>" for column in grid.column_titles
        )
        body.append(f"<tr>{names}{values}</tr>")
    notes = "".join(f"<p><sup>{number}</sup> {html.escape(note)}</p>" for number, note in enumerate(grid.notes, 1))
    caption = html.escape(grid.caption)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{caption}</title>'
        f"<style>{_STYLE}{_TABLE}{caption}{_CAPTION}"
        f"<thead><tr>{'<td></td>' * width}{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>{notes}{_END}"
    )


def read_fragment(path: Path) -> Fragment:
    """The table in the file ``path``, which holds a page made by :func:`page`.

    Raises:
        BrokenFile: the file is not such a page.
    """
    _, table, rest = path.read_text(encoding="utf-8").partition(_TABLE)
    caption, between, element = rest.partition(_CAPTION)
    if not (table and between and element.endswith(_END)):
        raise broken(path, "is not the page of a table")
    return Fragment(caption, f"<table>{element.removesuffix(_END)}")


def _cell(grid: Grid, row: Key, column: Key, marks: dict[str, str], note: str, plus_minus: str) -> str:
    entry = grid.entries[row, column]
    numbers = ",".join(map(str, grid.footnotes(row, column)))
    notes = note.format(numbers) if numbers else ""
    if entry.mean is None:
        return (grid.texts.get((row, column)) or DASH) + notes
    if column in grid.signed:
        return f"{100 * entry.mean:+.1f}"
    text = marks.get(grid.marks.get((row, column), ""), "{}").format(f"{100 * entry.mean:.1f}")
    spread = "" if entry.deviation is None else f"{plus_minus}{100 * entry.deviation:.1f}"
    return text + spread + notes


def _escape(text: str) -> str:
    """``text`` with LaTeX's special characters escaped."""
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash " if character == "\\" else "\\" + character)
    return text.replace("±", r"$\pm$").replace("–", "--").replace("^", r"\^{}").replace("~", r"\~{}")
