"""A finished cell as one results folder holds it: its files, its keys, and what is collected of it.

Neither config nor data is needed: every file says what it is (:mod:`foundad.sealed`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foundad.cells import Cell
from foundad.errors import BrokenFile, UserError
from foundad.paths import Results
from foundad.report.collect import SHOWN_PROBLEMS, Collected, Keys, read_cell
from foundad.sealed import key_of
from foundad.stored import finished_cells


@dataclass(frozen=True)
class Held:
    """A finished cell in a results folder; ``keys`` are those in its files."""

    cell: Cell
    results: Results
    keys: Keys
    collected: Collected

    @property
    def draw(self) -> str:
        """The hash of the draw it learned from; empty for a control, and for a cell that failed before it drew."""
        return str(self.collected.run.get("draw") or "")

    @property
    def has_model(self) -> bool:
        """Whether its model was kept."""
        return (self.results.cell(self.cell) / "model.safetensors").is_file()

    def equals(self, other: "Held") -> bool:
        """Whether both have the same keys, outcome, draw and numbers; times and machines may differ."""
        mine, others = self.collected.metrics, other.collected.metrics
        if mine is None or others is None:
            return mine is others and self._state == other._state
        return self._state == other._state and bool(mine.equals(others))

    @property
    def _state(self) -> tuple[object, ...]:
        return self.keys, self.collected.run["reason"], self.draw

    @property
    def written(self) -> int:
        """When the last of its files was written, in nanoseconds since 1970, as the file system tells."""
        return max((self.results.root / path).stat().st_mtime_ns for path in self.files)

    @property
    def files(self) -> list[Path]:
        """Its files below the results folder, in the order in which stages write them: metrics after what they tell of."""
        folder, root = self.results.cell(self.cell), self.results.root
        known = [folder / "model.safetensors", folder / "scores.safetensors"]
        known += [self.results.record(self.cell), self.results.cell_metrics(self.cell)]
        return [path.relative_to(root) for path in known if path.is_file()]

    @property
    def measured(self) -> list[Path]:
        """What was measured of its model, below the results folder."""
        known = (self.results.observation(self.cell), self.results.efficiency(self.cell))
        return [path.relative_to(self.results.root) for path in known if path.is_file()]


def held_cells(results: Results) -> dict[Cell, Held]:
    """All finished cells of a results folder.

    Raises:
        UserError: the folder does not exist or holds no cells.
        BrokenFile: cells are damaged; one line each.
    """
    if not results.cells.is_dir():
        raise UserError(f"{results.root}: is not a results folder: there is no folder cells in it")
    found: dict[Cell, Held] = {}
    problems: list[str] = []
    for cell in finished_cells(results):
        try:
            found[cell] = _held(cell, results)
        except BrokenFile as error:
            problems.append(str(error))
    if problems:
        raise BrokenFile("\n".join(shortened(problems)))
    return found


def contradiction(a: Held, b: Held) -> str:
    """How two copies of a cell contradict each other, and the hosts and versions that may explain it."""
    both = f"{_told(a, b)} and {_told(b, a)}"
    if a.keys != b.keys:
        keys = " and ".join(f"{held.keys.fit} {held.keys.evaluation}" for held in (a, b))
        return f"{both} are of another config, other data or other versions (keys {keys})"
    reasons = [held.collected.run["reason"] for held in (a, b)]
    if reasons[0] != reasons[1]:
        return f"{both} end differently under one key: {'; '.join(reason or 'done' for reason in reasons)}"
    if a.draw != b.draw:
        return f"{both} learned from other draws under one key: {a.draw} and {b.draw}"
    return f"{both} have other numbers under one key: {_difference(a, b)}"


def _told(held: Held, other: Held) -> str:
    """The folder of a copy, its host, and the versions that the other copy does not share."""
    versions, others = (set(str(one.collected.run.get("versions") or "").split()) for one in (held, other))
    host = f"host {held.collected.run.get('host') or 'unknown'}"
    return f"{held.results.root} ({', '.join([host, *sorted(versions - others)])})"


def _difference(a: Held, b: Held) -> str:
    """The first number in which two copies differ."""
    tables = [held.collected.metrics for held in (a, b)]
    rows = [[] if table is None else table.select(["category", "metric", "value"]).to_pylist() for table in tables]
    for row_a, row_b in zip(*rows, strict=False):
        if row_a != row_b:
            return f"{row_a['metric']} of {row_a['category']} is {row_a['value']} and {row_b['value']}"
    return f"{len(rows[0])} and {len(rows[1])} rows, or other reasons"


def shortened(lines: Sequence[str]) -> list[str]:
    """The first of many lines, and how many more there are."""
    more = len(lines) - SHOWN_PROBLEMS
    return [*lines[:SHOWN_PROBLEMS], *[f"and {more} more"] * (more > 0)]


def _held(cell: Cell, results: Results) -> Held:
    keys = Keys(key_of(results.record(cell)), key_of(results.cell_metrics(cell)))
    found = Held(cell, results, keys, read_cell(cell, results))
    scores = results.cell(cell) / "scores.safetensors"
    if key_of(scores) != keys.fit:
        raise BrokenFile(f"{scores}: does not belong to the record beside it; make the cell again there")
    return found


Folders = Mapping[Path, Mapping[Cell, Held]]
