"""The efficiency table: one row a method and encoder, from what the stage ``efficiency`` measured.

The only table whose numbers differ from run to run. Laid out as :class:`foundad.report.tables.Grid`, so that it comes in the
same formats.
"""

from collections.abc import Mapping
from typing import Any

from foundad import config
from foundad.failures import failure_of
from foundad.paths import Cell, Results
from foundad.plan.catalogue import Catalogue, measured_cells
from foundad.sealed import read_json

COLUMNS = (
    "trainable (M)",
    "total (M)",
    "GFLOP an image",
    "ms an image, batch 1",
    "ms an image, batch 8",
    "peak memory (MiB)",
    "training (s)",
    "encoder passes to train",
    "to test an image",
)


Facts = Mapping[str, Any]


def read(
    results: Results, catalogue: Catalogue, experiment: config.Experiment, spec: config.EfficiencyTable
) -> dict[Cell, Facts | str]:
    """The facts of the measured cells of the table; a reason (str) for a cell that failed."""
    cells = measured_cells(catalogue.cells(experiment), spec.where)
    paths = {cell: results.efficiency(cell) for cell in cells}
    return {cell: failure_of(path) or read_json(path, "efficiency").facts for cell, path in paths.items()}


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


def caption(spec: config.EfficiencyTable, catalogue: Catalogue, found: dict[Cell, Facts | str]) -> str:
    """With the hardware, the dataset and what the numbers mean."""
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
