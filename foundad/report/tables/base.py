"""What a kind of table defines, beside :mod:`foundad.report.shown`: how its cells are laid out, and what its CSV holds.

Each file of this folder is one kind: a strict model of its settings with

    kind: Literal["…"]              the name of its file, with - for _
    cells(selected)                 from Choosing (key where) or Naming (cells named one by one)
    axes                            for Choosing: the axes whose values it tells apart
    reads(selected)                 if it reads more, or other files, than the collected metrics
    grid(…), numbers(grid)          what is written

:mod:`foundad.report.formats` writes the grid in all formats, for all kinds.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING

from foundad.files import write_text
from foundad.paths import Results
from foundad.report import formats
from foundad.report.grid import Grid
from foundad.report.numbers import write_csv
from foundad.report.shown import Shown

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

Rows = list[list[object]]


class Table(Shown):
    """One table of an experiment."""

    caption: str

    @abstractmethod
    def grid(self, results: Results, catalogue: "Catalogue", experiment: "Experiment") -> Grid:
        """Rows and columns of what is printed, with titles, marks, notes and the caption."""

    @abstractmethod
    def numbers(self, grid: Grid) -> tuple[list[str], Rows]:
        """The header of the CSV and its rows, at full precision; None is an empty field."""

    def write(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", name: str) -> None:
        """Write the table called ``name`` in every format; the same inputs give the same bytes."""
        grid = self.grid(results, catalogue, experiment)
        write_csv(results.table(experiment.id, name, "csv"), *self.numbers(grid))
        write_text(results.table(experiment.id, name, "md"), formats.markdown(grid))
        write_text(results.table(experiment.id, name, "tex"), formats.latex(grid, f"tab:{experiment.id}-{name}"))
        write_text(results.table(experiment.id, name, "html"), formats.page(grid))


def write_table(results: Results, catalogue: "Catalogue", experiment: "Experiment", name: str) -> None:
    """Write the four files of the table ``name`` of ``experiment``."""
    experiment.tables[name].write(results, catalogue, experiment, name)
