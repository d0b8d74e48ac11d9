"""What a kind of figure defines, beside :mod:`foundad.report.shown`: how it is drawn, and how the page shows it.

Each file of this folder is one kind: a strict model of its settings with

    kind: Literal["…"]              the name of its file, with - for _
    cells(selected)                 from Choosing (key where) or Naming (cells named one by one)
    axes                            for Choosing: the axes whose values it tells apart
    reads(selected)                 if it reads more, or other files, than the collected metrics
    draw(…)                         PNG, PDF and CSV

Shared by kinds: :mod:`foundad.report.style` (colours, sizes, saving), :mod:`foundad.report.panels` (grids of panels,
curves, legends), :mod:`foundad.report.aggregate` (numbers of metrics). Import drawing libraries inside ``draw``.
"""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from foundad.paths import Results
from foundad.report.shown import Shown

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue


class Figure(Shown):
    """One figure of an experiment.

    photographs: it shows pictures; the page embeds it as JPEG, among the galleries.
    redrawn: its CSV holds curves, one row per point, with the columns panel, metric, the line's axis, x, mean, std and
    seeds; the page draws them again.
    """

    photographs: ClassVar[bool] = False
    redrawn: ClassVar[bool] = False

    title: str

    @property
    def axis_label(self) -> str | None:
        """Label of the horizontal axis of its curves; None = the name of the column."""
        return None

    @abstractmethod
    def draw(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", path: Path) -> None:
        """Write ``path`` (.png), with .pdf and .csv beside it; the same inputs give the same bytes."""


def write_figure(results: Results, catalogue: "Catalogue", experiment: "Experiment", name: str) -> None:
    """Draw the figure ``name`` of ``experiment``."""
    experiment.figures[name].draw(results, catalogue, experiment, results.figure(experiment.id, name, "png"))
