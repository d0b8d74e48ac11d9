"""A metric against a swept value: the number of shots, or any key of the method or encoder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from foundad.cells import Cell, CellAxis
from foundad.errors import UserError
from foundad.paths import Results
from foundad.report.aggregate import load
from foundad.report.figures.base import Figure
from foundad.report.shown import Choosing, Problem

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue


class Curve(Choosing, Figure):
    """A metric against a swept value, one panel per dataset and metric (per metric if the lines are datasets)."""

    redrawn: ClassVar[bool] = True

    kind: Literal["curve"]
    x: str = Field(description="'shots', or a key of the method or encoder such as method.training.steps")
    lines: CellAxis = Field("method", description="one line per value of this axis")
    metrics: list[str] = Field(min_length=1)
    label: str | None = Field(None, description="label of the horizontal axis; absent = the key")

    @property
    def axes(self) -> set[str]:
        return {"dataset", self.lines, self.x.partition(".")[0]}

    @property
    def metric_ids(self) -> Sequence[str]:
        return self.metrics

    @property
    def axis_label(self) -> str | None:
        return self.label

    def unclear(self, selected: Sequence[Cell], catalogue: "Catalogue") -> Iterator[Problem]:
        """Also reports an ``x`` that names no value."""
        try:
            for cell in self.cells(selected):
                swept(catalogue, cell, self.x)
        except UserError as error:
            yield Problem("", f"x: {error}")
        else:
            yield from super().unclear(selected, catalogue)

    def draw(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", path: Path) -> None:
        """Draw mean and standard deviation over seeds."""
        from foundad.report import panels

        cells = self.cells(catalogue.cells(experiment))
        xs = {cell: swept(catalogue, cell, self.x) for cell in cells}
        found = panels.panels_of(load(results, catalogue, experiment), cells, self.metrics, self.lines, xs)
        title = panels.title_of(self.title, cells, self.metrics)
        panels.draw_panels(found, title, self.label or self.x, panels.curve, path)
        panels.write_points(path, self.x, self.lines, found)


def swept(catalogue: "Catalogue", cell: Cell, x: str) -> int | float | str:
    """The swept value of one cell: the number of shots, or a key of its method or encoder.

    Raises:
        UserError: there is no such key, or its value is not a number, a word or a list.
    """
    if x == "shots":
        return cell.shots
    kind, _, path = x.partition(".")
    things: dict[str, Any] = {"method": catalogue.methods, "encoder": catalogue.encoders}
    value = things[kind].get(getattr(cell, kind)) if kind in things else None
    for key in path.split("."):
        value = getattr(value, key, None)
    if isinstance(value, list):
        return "+".join(map(str, value))
    if not isinstance(value, int | float | str):
        raise UserError(f"'{x}' names no value of cell {cell}; write shots, or a key such as method.training.steps")
    return value
