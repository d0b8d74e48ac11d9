"""Metrics of cells in rows and columns, mean ± sample deviation over seeds in percent.

The best competitor of a column is bold if it is significantly better than all others, otherwise underlined. The second
best is italic if it is significantly better than the rest. Controls are never marked. Published values and the
differences from them have columns of their own. Numbers come from :mod:`foundad.report.aggregate` and
:mod:`foundad.report.published`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from foundad.cells import NAMED_AXES, SHOWN_AXES, Axis, Cell
from foundad.metrics.registry import METRICS
from foundad.paths import Results
from foundad.report.aggregate import Frame, Summary, load, metric_name, protocol, seeds_of
from foundad.report.grid import Grid, Key
from foundad.report.published import FILES, published
from foundad.report.shown import Choosing
from foundad.report.tables.base import Rows, Table

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

UNMASKED = "no masks, hence no pixel metrics"
ABSENT = "not among the cells of this run"

INTERVALS = ("t95_low", "t95_high", "bootstrap95_low", "bootstrap95_high")


class Metrics(Choosing, Table):
    """Metrics of cells: which axes are rows and columns, and which cells and metrics it shows."""

    files: ClassVar = FILES

    kind: Literal["metrics"] = "metrics"
    rows: list[Axis] = Field(min_length=1)
    columns: list[Axis] = Field(default_factory=list)
    metrics: list[str] = Field(min_length=1)
    published: bool = Field(
        False, description="print published values, and our differences from them, where cells agree"
    )

    @property
    def axes(self) -> set[str]:
        return {*self.rows, *self.columns}

    @property
    def metric_ids(self) -> Sequence[str]:
        return self.metrics

    @property
    def ranked(self) -> bool:
        """Whether the rows of a column compete; not if they are categories, or if the methods are columns."""
        return "category" not in self.rows and "method" not in self.columns

    def grid(self, results: Results, catalogue: "Catalogue", experiment: "Experiment") -> Grid:
        return lay_out(load(results, catalogue, experiment), self)

    def numbers(self, grid: Grid) -> tuple[list[str], Rows]:
        """One line per entry: axes, metric, mean, deviation, 95 % intervals, seeds and notes; values are shares."""
        from foundad.report.statistics import bootstrap_interval, t_interval

        rows: Rows = []
        for row, column in product(grid.row_titles, grid.column_titles):
            entry = grid.entries[row, column]
            ends = [
                end
                for interval in (t_interval(entry.seeds), bootstrap_interval(entry.seeds))
                for end in ((None, None) if interval is None else (interval.low, interval.high))
            ]
            numbers = ["" if value is None else repr(value) for value in (entry.mean, entry.deviation, *ends)]
            rows.append([*row, *column, *numbers, entry.n, "; ".join(entry.notes)])
        return [*self.rows, *self.columns, "metric", "mean", "std", *INTERVALS, "seeds", "notes"], rows


def lay_out(frame: Frame, spec: Metrics) -> Grid:
    """Sort the cells into rows and columns and summarise each entry; metrics without values are left out."""
    cells = frame.cells(spec.where)
    places = _places(frame, spec, cells)
    rows = _in_order([row for row, _ in places])
    groups = _in_order([column for _, column in places])
    entries: dict[tuple[Key, Key], Summary] = {}
    for (row, column), found in places.items():
        known = dict(zip((*spec.rows, *spec.columns), (*row, *column), strict=True))
        for metric in spec.metrics:
            entries[row, (*column, metric)] = frame.summary(found, metric, known.get("category"))
    columns = [(*column, metric) for column in groups for metric in spec.metrics]
    filled = {column for (_, column), entry in entries.items() if entry.n}
    # If other metrics of its group have values, a metric without any is absent (no masks); otherwise all cells failed.
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


def _places(frame: Frame, spec: Metrics, cells: list[Cell]) -> dict[tuple[Key, Key], list[Cell]]:
    """(row, column) -> its cells; the columns do not include the metric yet."""
    categories: dict[str, list[str | None]] = {cell.dataset: [None] for cell in cells}
    if "category" in spec.axes:
        categories = {
            dataset: [*frame.categories([c for c in cells if c.dataset == dataset])] for dataset in categories
        }
    places: dict[tuple[Key, Key], list[Cell]] = {}
    for cell in cells:
        for category in categories[cell.dataset]:
            values = {axis: getattr(cell, axis, category) for axis in (*spec.rows, *spec.columns)}
            place = tuple(values[axis] for axis in spec.rows), tuple(values[axis] for axis in spec.columns)
            places.setdefault(place, []).append(cell)
    return places


def _beside_published(
    frame: Frame,
    places: dict[tuple[Key, Key], list[Cell]],
    rows: list[Key],
    titles: dict[Key, list[str]],
    entries: dict[tuple[Key, Key], Summary],
) -> tuple[dict[Key, list[str]], set[Key]]:
    """Add columns of the published value and our difference from it; returns all titles, and which are differences."""
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
            apart = None if ours is None or value is None else ours - value[0]
            entries[row, difference] = Summary(apart, None, 0)
    return result, signed


def _in_order(keys: list[Key]) -> list[Key]:
    """Distinct rows or columns in the order in which the cells name each axis' values, outer axis first."""
    ranks = [{value: rank for rank, value in enumerate(dict.fromkeys(values))} for values in zip(*keys, strict=True)]
    return sorted(dict.fromkeys(keys), key=lambda key: [rank[value] for rank, value in zip(ranks, key, strict=True)])


def _caption(frame: Frame, spec: Metrics, cells: list[Cell], absent: list[Key], beside: bool) -> str:
    parts = [f"{spec.caption}."]
    for axis in (axis for axis in SHOWN_AXES if axis != "method"):
        values = list(dict.fromkeys(getattr(cell, axis) for cell in cells))
        if len(values) == 1 and axis not in (*spec.rows, *spec.columns):
            head = f"{axis.capitalize()}: " if axis in NAMED_AXES else ""
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
    if spec.ranked:
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


def _marks(
    frame: Frame, spec: Metrics, rows: list[Key], columns: list[Key], entries: dict[tuple[Key, Key], Summary]
) -> dict[tuple[Key, Key], str]:
    """``best`` for a competitor that beats all others significantly, ``leading`` for a top one that does not,
    ``second`` for one that beats all but the best.

    Rows of a column compete if they share dataset and shots. The test is Wilcoxon's signed-rank test, paired over
    categories and seeds, Holm-corrected over the other competitors.
    """
    marks: dict[tuple[Key, Key], str] = {}
    if not spec.ranked:
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
    from foundad.report.statistics import SIGNIFICANT

    return all(p < SIGNIFICANT for p in _p_values(entries, column, best, others))


def _p_values(entries: dict[tuple[Key, Key], Summary], column: Key, best: Key, others: list[Key]) -> list[float]:
    """Holm-corrected p of the best row against each other one; 1 if they share too few pairs."""
    from foundad.report.statistics import compare, holm

    found = []
    for other in others:
        mine, theirs = entries[best, column].samples, entries[other, column].samples
        pairs = sorted(mine.keys() & theirs.keys())
        comparison = compare([theirs[pair] for pair in pairs], [mine[pair] for pair in pairs])
        found.append(1.0 if comparison is None else comparison.p)
    return holm(found)
