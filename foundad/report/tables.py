"""Stage ``table``: one table of an experiment as Markdown, LaTeX (booktabs), CSV and HTML.

Shows mean ± sample deviation over seeds in percent; the best competitor of a column is bold where it is significantly
better than all others and underlined where it is not, the second best in italics where it is significantly better than the
rest; controls are never marked. Published values and differences from them have columns of their own. Its numbers come from
:mod:`foundad.report.aggregate` and :mod:`foundad.report.published`.
"""

import csv
import html
import io
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from foundad import config
from foundad.files import write_csv, write_text
from foundad.metrics.registry import METRICS
from foundad.paths import Cell, Results
from foundad.plan.catalogue import Catalogue
from foundad.report import efficiency
from foundad.report.aggregate import Frame, Summary, load, metric_name, protocol, seeds_of
from foundad.report.published import published, published_cost
from foundad.report.statistics import bootstrap_interval, compare, holm, t_interval

DASH = "–"
UNMASKED = "no masks, hence no pixel metrics"
ABSENT = "not among the cells of this run"
SIGNIFICANT = 0.05
INTERVALS = ("t95_low", "t95_high", "bootstrap95_low", "bootstrap95_high")
Key = tuple[Any, ...]


@dataclass
class Grid:
    """A laid-out table: row and column keys with their titles, a summary where there is one, and a caption."""

    caption: str
    row_titles: dict[Key, list[str]]
    column_titles: dict[Key, list[str]]
    entries: dict[tuple[Key, Key], Summary]
    marks: dict[tuple[Key, Key], str]
    notes: list[str] = field(default_factory=list)
    signed: set[Key] = field(default_factory=set)  # columns of differences
    texts: dict[tuple[Key, Key], str] = field(default_factory=dict)  # printed as they are, where an entry has no mean

    def footnotes(self, row: Key, column: Key) -> list[int]:
        """Numbers of the notes of an entry, from 1."""
        return sorted({self.notes.index(note) + 1 for note in self.entries[row, column].notes})


def write_table(results: Results, catalogue: Catalogue, experiment: config.Experiment, name: str) -> None:
    """Write the four files of the table ``name`` of ``experiment``."""
    spec = experiment.tables[name]
    if isinstance(spec, config.EfficiencyTable):
        found = efficiency.read(results, catalogue, experiment, spec)
        grid = efficiency_grid(catalogue, spec, found)
        rows = [[c.encoder, c.method, *(grid.texts[(c,), column] for column in grid.column_titles)] for c in found]
        write_csv(results.table(experiment.id, name, "csv"), ["encoder", "method", *efficiency.COLUMNS], rows)
    else:
        frame = load(results, catalogue, experiment)
        grid = lay_out(frame, spec)
        write_text(results.table(experiment.id, name, "csv"), tidy(grid, spec))
    write_text(results.table(experiment.id, name, "md"), markdown(grid))
    write_text(results.table(experiment.id, name, "tex"), latex(grid, f"tab:{experiment.id}-{name}"))
    write_text(results.table(experiment.id, name, "html"), page(grid))


def efficiency_grid(
    catalogue: Catalogue, spec: config.EfficiencyTable, found: dict[Cell, efficiency.Facts | str]
) -> Grid:
    """What cells cost as a grid of printed values; a cell that failed is dashes with its reason."""
    rows: dict[Key, list[str]] = {
        (cell,): [catalogue.encoders[cell.encoder].title, catalogue.methods[cell.method].title] for cell in found
    }
    columns: dict[Key, list[str]] = {(head,): [head] for head in efficiency.COLUMNS}
    entries, texts = {}, {}
    for cell, facts in found.items():
        printed = [""] * len(columns) if isinstance(facts, str) else efficiency.row(facts)
        for column, text in zip(columns, printed, strict=True):
            notes = (facts,) if isinstance(facts, str) else published_cost(cell, catalogue.methods[cell.method])
            entries[(cell,), column] = Summary(None, None, 0, notes if column == (efficiency.COLUMNS[0],) else ())
            texts[(cell,), column] = text
    used = list(dict.fromkeys(note for entry in entries.values() for note in entry.notes))
    return Grid(efficiency.caption(spec, catalogue, found), rows, columns, entries, {}, used, texts=texts)


def lay_out(frame: Frame, spec: config.Table) -> Grid:
    """Sort the cells into rows and columns and summarise each place; columns without any value are left out."""
    cells = frame.cells(spec.where)
    categories: dict[str, list[str | None]] = {cell.dataset: [None] for cell in cells}
    if "category" in (*spec.rows, *spec.columns):
        categories = {
            dataset: [*frame.categories([c for c in cells if c.dataset == dataset])] for dataset in categories
        }
    places: dict[tuple[Key, Key], list[Cell]] = {}
    for cell in cells:
        for category in categories[cell.dataset]:
            values = {axis: getattr(cell, axis, category) for axis in (*spec.rows, *spec.columns)}
            place = tuple(values[axis] for axis in spec.rows), tuple(values[axis] for axis in spec.columns)
            places.setdefault(place, []).append(cell)
    rows = _in_order([row for row, _ in places])
    groups = _in_order([column for _, column in places])
    entries: dict[tuple[Key, Key], Summary] = {}
    for (row, column), found in places.items():
        known = dict(zip((*spec.rows, *spec.columns), (*row, *column), strict=True))
        for metric in spec.metrics:
            entries[row, (*column, metric)] = frame.summary(found, metric, known.get("category"))
    columns = [(*column, metric) for column in groups for metric in spec.metrics]
    filled = {column for (_, column), entry in entries.items() if entry.n}
    # A metric without any value is absent (no masks) where others of its group have some; else all of it failed.
    alive = {column[:-1] for column in filled}
    shown = [column for column in columns if column in filled or column[:-1] not in alive]
    absent = [column for column in columns if column not in shown]
    for row, column in product(rows, shown):
        entries.setdefault((row, column), Summary(None, None, 0, (ABSENT,)))
        if entries[row, column].mean is None and not entries[row, column].notes:
            # A finished cell without this metric: pixel metrics need masks.
            entries[row, column] = replace(entries[row, column], notes=(UNMASKED,))
    entries = {place: entry for place, entry in entries.items() if place[1] in shown}
    marks = _marks(frame, spec, rows, shown, entries)
    metrics = {column[-1] for column in shown}
    titles = {
        c: [*(frame.title(a, v) for a, v in zip(spec.columns, c, strict=False)), metric_name(c[-1], metrics)]
        for c in shown
    }
    signed: set[Key] = set()
    if spec.published:
        titles, signed = _beside_published(frame, places, rows, titles, entries)
    notes = list(dict.fromkeys(note for place in product(rows, titles) for note in entries[place].notes))
    return Grid(
        _caption(frame, spec, cells, absent, bool(signed)),
        {row: [frame.title(axis, value) for axis, value in zip(spec.rows, row, strict=True)] for row in rows},
        titles,
        entries,
        marks,
        notes,
        signed,
    )


def _beside_published(
    frame: Frame,
    places: dict[tuple[Key, Key], list[Cell]],
    rows: list[Key],
    titles: dict[Key, list[str]],
    entries: dict[tuple[Key, Key], Summary],
) -> tuple[dict[Key, list[str]], set[Key]]:
    """Columns with the published value and our difference from it behind every column that has any; which are differences."""
    result: dict[Key, list[str]] = {}
    signed: set[Key] = set()
    for column, head in titles.items():
        result[column] = head
        *group, metric = column
        found = {}
        for row in rows:
            cells = {replace(cell, seed=0) for cell in places.get((row, tuple(group)), [])}
            if len(cells) == 1:
                (cell,) = cells
                found[row] = published(cell, frame.catalogue.methods[cell.method], metric)
        if not any(found.values()):
            continue
        theirs, difference = (*group, f"{metric} published"), (*group, f"{metric} difference")
        result |= {theirs: [*head[:-1], f"{head[-1]} published"], difference: [*head[:-1], f"{head[-1]} difference"]}
        signed.add(difference)
        for row in rows:
            ours, value = entries[row, column].mean, found.get(row)
            entries[row, theirs] = Summary(value and value[0], None, 0, value[1] if value else ())
            known = ours is not None and value is not None
            entries[row, difference] = Summary(ours - value[0] if known else None, None, 0)  # type: ignore[operator,index]
    return result, signed


def _in_order(keys: list[Key]) -> list[Key]:
    """Distinct rows or columns in the order the cells name each axis' values, outer axis first."""
    ranks = [{value: rank for rank, value in enumerate(dict.fromkeys(values))} for values in zip(*keys, strict=True)]
    return sorted(dict.fromkeys(keys), key=lambda key: [rank[value] for rank, value in zip(ranks, key, strict=True)])


def _caption(frame: Frame, spec: config.Table, cells: list[Cell], absent: list[Key], beside: bool) -> str:
    parts = [f"{spec.caption}."]
    for axis in ("dataset", "encoder", "shots"):
        values = list(dict.fromkeys(getattr(cell, axis) for cell in cells))
        if len(values) == 1 and axis not in (*spec.rows, *spec.columns):
            head = "" if axis == "shots" else f"{axis.capitalize()}: "
            parts.append(f"{head}{frame.title(axis, values[0])}.")
    scopes = {frame.catalogue.methods[cell.method].scope for cell in cells}
    exception = " unless the method says per category" if "category" in scopes else ""
    parts.append(f"One model for all categories{exception}.")
    seeds = seeds_of(cells)
    macro = "" if "category" in (*spec.rows, *spec.columns) else ", macro over categories"
    spread = f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    parts.append(f"{spread}{macro}, in %.")
    names = protocol(spec.metrics)
    if names:
        parts.append(f"Pixel metrics under the protocol: {names}.")
    if _ranked(spec):
        parts.append(
            "Bold: significantly better than all others (Wilcoxon over categories and seeds, Holm, 0.05); underlined: "
            "best, but not significantly; italic: second best, significantly better than the rest; controls are not ranked."
        )
    if beside:
        parts.append(
            "Published values where dataset, encoder, method, scope, shots, metric and protocol agree; differences are ours "
            "minus theirs."
        )
    elif spec.published:
        parts.append("No published value agrees with these cells in dataset, encoder, method, scope and shots.")
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        notes = frame.dataset_notes.get(dataset, [])
        parts += [f"{frame.title('dataset', dataset)}: {note}." for note in notes]
    mixed = frame.version_note(cells)
    parts += [mixed] if mixed else []
    unmasked = dict.fromkeys(
        frame.title("dataset", c[spec.columns.index("dataset")]) for c in absent if "dataset" in spec.columns
    )
    if unmasked:
        parts.append(f"{', '.join(unmasked)} has no masks, hence no pixel metrics.")
    return " ".join(parts)


def _ranked(spec: config.Table) -> bool:
    """Do the rows of a column compete: not where they are categories, or the methods stand side by side."""
    return "category" not in spec.rows and "method" not in spec.columns


def _marks(
    frame: Frame, spec: config.Table, rows: list[Key], columns: list[Key], entries: dict[tuple[Key, Key], Summary]
) -> dict[tuple[Key, Key], str]:
    """``best`` for a competitor that beats all others significantly, ``leading`` for one that does not, ``second`` for one
    that beats all but the best.

    Rows of a column compete where they share their other axes, such as the shots. Paired over categories and seeds:
    Wilcoxon's signed-rank test, Holm-corrected over the other competitors.
    """
    marks: dict[tuple[Key, Key], str] = {}
    if not _ranked(spec):
        return marks
    shared = [number for number, axis in enumerate(spec.rows) if axis in ("dataset", "shots")]
    groups: dict[Key, list[Key]] = {}
    for row in rows:
        groups.setdefault(tuple(row[number] for number in shared), []).append(row)
    for column, group in product(columns, groups.values()):
        sign = 1 if METRICS[column[-1]].higher_is_better else -1
        found: dict[Key, float] = {}
        for row in group:
            mean = entries[row, column].mean
            method = row[spec.rows.index("method")] if "method" in spec.rows else None
            if mean is not None and not (method and frame.catalogue.methods[method].control):
                found[row] = sign * round(100 * mean, 1)
        if len(found) < 2:
            continue
        ranked = sorted(found, key=lambda row: -found[row])
        leading = [row for row in ranked if found[row] == found[ranked[0]]]
        alone = len(leading) == 1 and _beats(entries, column, ranked[0], ranked[1:])
        marks |= {(row, column): "best" if alone else "leading" for row in leading}
        behind = ranked[len(leading) :]
        if len(leading) == 1 and len(behind) > 1 and _beats(entries, column, behind[0], behind[1:]):
            marks[behind[0], column] = "second"
    return marks


def _beats(entries: dict[tuple[Key, Key], Summary], column: Key, best: Key, others: list[Key]) -> bool:
    return all(p < SIGNIFICANT for p in _p_values(entries, column, best, others))


def _p_values(entries: dict[tuple[Key, Key], Summary], column: Key, best: Key, others: list[Key]) -> list[float]:
    """Corrected p of the best row against each other one; 1 where they share too few pairs."""
    found = []
    for other in others:
        mine, theirs = entries[best, column].samples, entries[other, column].samples
        pairs = sorted(mine.keys() & theirs.keys())
        comparison = compare([theirs[pair] for pair in pairs], [mine[pair] for pair in pairs])
        found.append(1.0 if comparison is None else comparison.p)
    return holm(found)


# ---------------------------------------------------------------------------------------------------- formats


def markdown(grid: Grid) -> str:
    """A pipe table, caption above, footnotes below."""
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
    """A booktabs table; column titles that repeat are joined over their columns."""
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


def tidy(grid: Grid, spec: config.Table) -> str:
    """One line an entry: axes, metric, mean, deviation, intervals of 95 %, seeds and notes, as shares at full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*spec.rows, *spec.columns, "metric", "mean", "std", *INTERVALS, "seeds", "notes"])
    for row, column in product(grid.row_titles, grid.column_titles):
        entry = grid.entries[row, column]
        ends = [
            end
            for interval in (t_interval(entry.seeds), bootstrap_interval(entry.seeds))
            for end in ((None, None) if interval is None else (interval.low, interval.high))
        ]
        numbers = ["" if value is None else repr(value) for value in (entry.mean, entry.deviation, *ends)]
        writer.writerow([*row, *column, *numbers, entry.n, "; ".join(entry.notes)])
    return out.getvalue()


def page(grid: Grid) -> str:
    """A small page of its own."""
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
    style = (
        "body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse;border-top:2px solid;"
        "border-bottom:2px solid}thead{border-bottom:1px solid}th,td{padding:.25em .7em;text-align:right}"
        "th[scope=row]{text-align:left;font-weight:normal}caption{text-align:left;padding-bottom:.7em}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(grid.caption)}</title>'
        f"<style>{style}</style><table><caption>{html.escape(grid.caption)}</caption>"
        f"<thead><tr>{'<td></td>' * width}{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>{notes}</html>\n"
    )


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
    """LaTeX's special characters, escaped."""
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash " if character == "\\" else "\\" + character)
    return text.replace("±", r"$\pm$").replace("–", "--").replace("^", r"\^{}").replace("~", r"\~{}")
