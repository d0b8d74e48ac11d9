"""``foundad compare`` of two results folders: the numbers of the same cells, made by another version, machine or commit.

A is the reference. Every value of every cell that both have is compared, and a paired test per metric says whether B is
shifted. A cell of B alone is told, a cell of A alone is a fault.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from foundad.cells import AXES, NAMED_AXES, Cell
from foundad.errors import UserError
from foundad.paths import Results
from foundad.report.compare import check_metrics
from foundad.report.statistics import Comparison, compare, holm
from foundad.sealed import broken, read_run_table

LARGEST = 10  # differences that are named per metric
PLACE = ["category", "metric"]


@dataclass(frozen=True)
class Difference:
    """One value in both folders; None where a folder has no value."""

    cell: Cell
    category: str
    a: float | None
    b: float | None

    @property
    def size(self) -> float:
        """How far they are apart; infinite if only one folder has a value."""
        return float("inf") if self.a is None or self.b is None else abs(self.b - self.a)


@dataclass(frozen=True)
class Line:
    """One metric in all cells that both folders have.

    values: number of values that either folder has. differing, beyond: how many are not equal, and how many of these are
    further apart than the tolerance. largest: the largest differences, largest first. comparison: paired comparison
    b - a of the cells' means over categories; None for fewer than two cells. p: its p, corrected over all metrics.
    """

    metric: str
    values: int
    differing: int
    beyond: int
    largest: list[Difference]
    comparison: Comparison | None
    p: float | None


@dataclass(frozen=True)
class Differences:
    """Two results folders side by side.

    both: number of cells in both. only_a, only_b: cells in one alone. draws: cells that learned from other images.
    metrics_a, metrics_b: metrics that one folder has alone; they are not compared.
    """

    both: int
    only_a: list[Cell]
    only_b: list[Cell]
    draws: list[Cell]
    metrics_a: list[str]
    metrics_b: list[str]
    tolerance: float
    lines: list[Line]

    @property
    def equal(self) -> bool:
        """Whether B has every cell of A, from the same draws, with every value within the tolerance."""
        return not (self.only_a or self.draws or any(line.beyond for line in self.lines))


class _Values:
    """The values of one or two folders, as arrays with one entry per value; names are stored once."""

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        table = pa.concat_tables(tables)
        self.side = np.repeat([0, 1], [one.num_rows for one in tables])
        self.names: dict[str, list[str | int]] = {}
        self.codes: dict[str, np.ndarray] = {}
        for column in (*AXES, *PLACE):
            encoded = table[column].combine_chunks().dictionary_encode()
            self.names[column] = encoded.dictionary.to_pylist()
            self.codes[column] = encoded.indices.to_numpy().astype(np.int64)
        self.cell = self._joined(AXES)
        self.place = self._joined((*AXES, *PLACE))
        self.value = table["value"].to_numpy().astype(np.float64)
        self.draw = table["draw"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)

    def _joined(self, columns: Sequence[str]) -> np.ndarray:
        """One number per row that is equal where all ``columns`` are."""
        found = np.zeros(len(self.side), np.int64)
        for column in columns:
            found = found * len(self.names[column]) + self.codes[column]
        return np.unique(found, return_inverse=True)[1]

    def cell_of(self, row: int) -> Cell:
        """The cell of a row."""
        values = [self.names[axis][self.codes[axis][row]] for axis in AXES]
        return Cell(*values)

    def name(self, column: str, row: int) -> str:
        """The value of a column in a row."""
        return str(self.names[column][self.codes[column][row]])

    def rows(self, side: int, of: np.ndarray) -> np.ndarray:
        """For each number in ``of`` its row in a folder, -1 where the folder has none."""
        found = np.full(int(of.max(initial=-1)) + 1, -1)
        mine = np.flatnonzero(self.side == side)
        found[of[mine]] = mine
        return found


def differences(a: Path, b: Path, metrics: Sequence[str] = (), tolerance: float = 0.0) -> Differences:
    """Compare the results folders (or metrics.parquet files) ``a`` and ``b``.

    Args:
        metrics: ids of the metrics to compare; none means all that both have.
        tolerance: how far two values may be apart, in the units that are stored: 0.001 is 0.1 % of a share.

    Raises:
        UserError: a folder has no metrics, a metric is unknown, or no cell is in both.
    """
    check_metrics(metrics)
    values = _Values([_read(a), _read(b)])
    names = values.names["metric"]
    held = [{str(names[code]) for code in np.unique(values.codes["metric"][values.side == side])} for side in (0, 1)]
    in_a, in_b = (values.rows(side, values.cell) for side in (0, 1))
    both = (in_a >= 0) & (in_b >= 0)
    if not both.any():
        raise UserError(f"{a} and {b} have no cell in common; compare folders of the same cells")
    place_a, place_b = (values.rows(side, values.place) for side in (0, 1))
    shared = both[values.cell[np.maximum(place_a, place_b)]]
    rows = place_a[shared], place_b[shared]
    lines = [_line(values, rows, one, tolerance) for one in sorted(held[0] & held[1]) if not metrics or one in metrics]
    tested = [(line.metric, line.comparison.p) for line in lines if line.comparison is not None]
    corrected = dict(zip([metric for metric, _ in tested], holm([p for _, p in tested]), strict=True))
    return Differences(
        both=int(both.sum()),
        only_a=sorted(map(values.cell_of, in_a[(in_a >= 0) & (in_b < 0)])),
        only_b=sorted(map(values.cell_of, in_b[(in_b >= 0) & (in_a < 0)])),
        draws=sorted(map(values.cell_of, in_a[both][values.draw[in_a[both]] != values.draw[in_b[both]]])),
        metrics_a=sorted(held[0] - held[1]),
        metrics_b=sorted(held[1] - held[0]),
        tolerance=tolerance,
        lines=[replace(line, p=corrected.get(line.metric)) for line in lines],
    )


def _read(path: Path) -> pa.Table:
    """The metrics in a results folder or a file of metrics."""
    path = Results(path).metrics if path.is_dir() else path
    table = read_run_table(path, [*AXES, *PLACE, "value", "draw"])
    types = {axis: pa.string() if axis in NAMED_AXES else pa.int64() for axis in AXES}
    types |= dict.fromkeys((*PLACE, "draw"), pa.string()) | {"value": pa.float64()}
    try:
        return table.cast(pa.schema([(name, types[name]) for name in table.column_names]))
    except (pa.ArrowException, ValueError) as error:
        raise broken(path, f"holds something other than metrics ({error})") from None


def _line(values: _Values, rows: tuple[np.ndarray, np.ndarray], metric: str, tolerance: float) -> Line:
    """Compare one metric; ``rows``: of every value that is compared the row in A and in B, -1 where one has none."""
    row = np.maximum(*rows)
    chosen = values.codes["metric"][row] == values.names["metric"].index(metric)
    row, rows = row[chosen], (rows[0][chosen], rows[1][chosen])
    a, b = (np.where(of_side >= 0, values.value[of_side], np.nan) for of_side in rows)
    known_a, known_b = ~np.isnan(a), ~np.isnan(b)
    apart = np.where(known_a & known_b, np.abs(b - a), np.where(known_a | known_b, np.inf, 0.0))
    order = np.argsort(-apart, kind="stable")[:LARGEST]
    largest = [
        Difference(values.cell_of(row[at]), values.name("category", row[at]), _number(a[at]), _number(b[at]))
        for at in order
        if apart[at] > 0
    ]
    paired = known_a & known_b
    cells, index = np.unique(values.cell[row[paired]], return_inverse=True)
    means = [np.bincount(index, side[paired], len(cells)) / np.bincount(index, minlength=len(cells)) for side in (a, b)]
    comparison = compare(means[0].tolist(), means[1].tolist())
    counts = (int((known_a | known_b).sum()), int((apart > 0).sum()), int((apart > tolerance).sum()))
    return Line(metric, *counts, largest, comparison, None)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
