"""What cells cost: one row per method and encoder, from what the stage ``efficiency`` measured.

The only table whose numbers differ from run to run.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from foundad.cells import Cell
from foundad.failures import failure_of
from foundad.paths import Results
from foundad.report.aggregate import Summary
from foundad.report.choice import measured_cells
from foundad.report.grid import Grid, Key
from foundad.report.published import FILES, published_cost
from foundad.report.shown import Choosing, Stage
from foundad.report.tables.base import Rows, Table
from foundad.sealed import read_json

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

COLUMNS = (
    "trainable (M)",
    "total (M)",
    "GFLOP an image",
    "ms per image, batch 1",
    "ms per image, batch 8",
    "peak memory (MiB)",
    "training (s)",
    "encoder passes to train",
    "to test an image",
)


Facts = Mapping[str, Any]


class Efficiency(Choosing, Table):
    """What the cells cost: parameters, operations, time, memory; one row per encoder and method, for the first seed."""

    files: ClassVar = FILES

    kind: Literal["efficiency"]

    @property
    def axes(self) -> set[str]:
        return {"encoder", "method"}

    def cells(self, selected: Sequence[Cell]) -> list[Cell]:
        """The chosen cells, only the first seed of each."""
        return measured_cells(selected, self.where)

    def reads(self, selected: Sequence[Cell]) -> Mapping[Stage, Sequence[Cell]]:
        return {"efficiency": self.cells(selected)}

    def facts(self, results: Results, catalogue: "Catalogue", experiment: "Experiment") -> dict[Cell, Facts | str]:
        """What was measured for every cell it shows; the reason (str) if the cell failed."""
        paths = {cell: results.efficiency(cell) for cell in self.cells(catalogue.cells(experiment))}
        return {cell: failure_of(path) or read_json(path, "efficiency").facts for cell, path in paths.items()}

    def grid(self, results: Results, catalogue: "Catalogue", experiment: "Experiment") -> Grid:
        """Printed values instead of means; a failed cell is a row of dashes with its reason."""
        found = self.facts(results, catalogue, experiment)
        rows: dict[Key, list[str]] = {
            (cell,): [catalogue.encoders[cell.encoder].title, catalogue.methods[cell.method].title] for cell in found
        }
        columns: dict[Key, list[str]] = {(head,): [head] for head in COLUMNS}
        entries, texts = {}, {}
        for cell, facts in found.items():
            printed = [""] * len(columns) if isinstance(facts, str) else row(facts)
            for column, text in zip(columns, printed, strict=True):
                notes = (facts,) if isinstance(facts, str) else published_cost(cell, catalogue.methods[cell.method])
                entries[(cell,), column] = Summary(None, None, 0, notes if column == (COLUMNS[0],) else ())
                texts[(cell,), column] = text
        used = list(dict.fromkeys(note for entry in entries.values() for note in entry.notes))
        return Grid(_caption(self, catalogue, found), rows, columns, entries, {}, used, texts=texts)

    def numbers(self, grid: Grid) -> tuple[list[str], Rows]:
        """One line per row, as printed."""
        rows: Rows = [
            [cell.encoder, cell.method, *(grid.texts[(cell,), column] for column in grid.column_titles)]
            for (cell,) in grid.row_titles
        ]
        return ["encoder", "method", *COLUMNS], rows


def row(facts: Facts) -> list[str]:
    """The printed values of one row, in the order of :data:`COLUMNS`."""

    def spread(batch: str) -> str:
        found = facts["milliseconds"][batch]
        return f"{found['median']:.1f} ({found['quartile1']:.1f} to {found['quartile3']:.1f})"

    return [
        f"{facts['trainable_parameters'] / 1e6:.2f}",
        f"{facts['parameters'] / 1e6:.2f}",
        f"{facts['operations'] / 1e9:.2f}",
        spread("1"),
        spread("8"),
        f"{facts['peak_memory_bytes'] / 2**20:.0f}",
        f"{facts['fit_seconds']:.1f}",
        f"{facts['training_passes']:,}",
        str(facts["passes_an_image"]),
    ]


def _caption(spec: Efficiency, catalogue: "Catalogue", found: dict[Cell, Facts | str]) -> str:
    """The caption with the hardware, the dataset and what the numbers mean."""
    known = [facts for facts in found.values() if not isinstance(facts, str)]
    cell = next(iter(found))
    hardware = {
        f"{f['device']}, {f['threads']} thread{'s' * (f['threads'] > 1)}, {f['precision']}, torch {f['versions']['torch']}"
        for f in known
    }
    memory = " and ".join(sorted({facts["memory_kind"] for facts in known}))
    return (
        f"{spec.caption}. Measured on: {'; '.join(sorted(hardware)) or 'nothing'}. "
        f"{catalogue.datasets[cell.dataset].title}, {cell.shots}-shot. Milliseconds from decoded pictures to image scores: "
        "median (quartiles) after a warm-up. FLOP: of torch, a multiplication and an addition are two; methods that search "
        f"with numpy show the encoder's alone. Memory: {memory}. Times are measured, not reproduced: this table differs from "
        "run to run."
    )
