"""What every table and figure defines: the cells it shows, the files it reads, and what is wrong with its settings.

The base of :mod:`foundad.report.tables.base` and :mod:`foundad.report.figures.base`, which say how they are written.
Validation and planning use it, so no kind imports torch, pandas, matplotlib or scipy at its top.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from foundad.cells import SHOWN_AXES, Axis, Cell
from foundad.config.base import Strict
from foundad.names import nearest
from foundad.report.choice import chosen_cells
from foundad.yamlfile import shown

if TYPE_CHECKING:
    from foundad.plan.catalogue import Catalogue

Where = Annotated[
    dict[Axis, list[str | int]], Field(default_factory=dict, description="values of axes that are shown; absent = all")
]
# The stages whose files are read. evaluate: the metrics of all cells in one file, with the notes of manifests. fit: the
# scores of cells, with the manifests that hold their ground truth. observe, efficiency: what these measured of cells.
Stage = Literal["evaluate", "fit", "observe", "efficiency"]


class Problem(NamedTuple):
    """Why a table or figure cannot be made.

    key: the wrong key inside it, such as where.method, or empty. text: what is wrong, and the nearest valid name.
    """

    key: str
    text: str


class Shown(Strict):
    """A table or a figure of an experiment: its settings, and what they mean for the plan.

    kind: the name of the kind; each kind sets its own, which is the name of its file.
    files: of the repository, read beside results; their contents are in the key.

    The key of its job covers its settings, the source of its own file and of all that this file imports, the titles of
    what the experiment names, ``files``, and the keys of the jobs that it reads.
    """

    files: ClassVar[tuple[Path, ...]] = ()

    kind: str

    @abstractmethod
    def cells(self, selected: Sequence[Cell]) -> list[Cell]:
        """The cells it shows, out of those that the experiment selects, in the order it shows them."""

    @abstractmethod
    def problems(self, selected: Sequence[Cell], catalogue: "Catalogue") -> Iterator[Problem]:
        """What is wrong with its settings, given the cells that the experiment selects."""

    def reads(self, selected: Sequence[Cell]) -> Mapping[Stage, Sequence[Cell]]:
        """Stage -> the cells whose files of this stage it reads; the collected metrics are those of all cells."""
        return {"evaluate": selected}


class Choosing(Shown):
    """Shows the cells of the experiment that match its key ``where``."""

    where: Where

    @property
    @abstractmethod
    def axes(self) -> set[str]:
        """Axes whose values it tells apart; on every other axis, except the seed, it must show only one value."""

    @property
    def metric_ids(self) -> Sequence[str]:
        """The metrics it shows; they must be known."""
        return ()

    def cells(self, selected: Sequence[Cell]) -> list[Cell]:
        return chosen_cells(selected, self.where)

    def problems(self, selected: Sequence[Cell], catalogue: "Catalogue") -> Iterator[Problem]:
        yield from _unknown_metrics(self.metric_ids)
        yield from _unknown_values(self.where, selected)
        yield from self.unclear(selected, catalogue)

    def unclear(self, selected: Sequence[Cell], catalogue: "Catalogue") -> Iterator[Problem]:
        """Axes that it would average over without saying so."""
        cells = self.cells(selected)
        for axis in SHOWN_AXES:
            values = list(dict.fromkeys(str(getattr(cell, axis)) for cell in cells))
            if axis not in self.axes and len(values) > 1:
                named = ", ".join(values)
                yield Problem(
                    "", f"{axis} takes {len(values)} values ({named}); show it or choose one with where.{axis}"
                )


class Naming(Shown):
    """Names its cells one by one."""

    def problems(self, selected: Sequence[Cell], catalogue: "Catalogue") -> Iterator[Problem]:
        for cell in self.cells(selected):
            if cell not in selected:
                yield Problem("", f"the experiment has no cell {cell}")


def _unknown_metrics(metrics: Sequence[str]) -> Iterator[Problem]:
    """Problems with ``metrics`` that do not exist or are not shares: tables and figures print percent."""
    from foundad.metrics.registry import METRICS

    known = {name for name, metric in METRICS.items() if metric.unit == "share"}
    for metric in metrics:
        if metric in METRICS and metric not in known:
            yield Problem(
                "metrics", f"{shown(metric)} has the unit {METRICS[metric].unit}, but tables and figures print shares"
            )
        elif metric not in known:
            yield Problem("metrics", f"there is no metric {shown(metric)}{nearest(metric, known)}")


def _unknown_values(where: Mapping[Axis, Sequence[str | int]], selected: Sequence[Cell]) -> Iterator[Problem]:
    """Values in ``where`` that no cell has; categories are not checked, because they are only known after a run."""
    for axis, allowed in where.items():
        if axis == "category":
            continue
        values = {getattr(cell, axis) for cell in selected}
        for value in allowed:
            if value not in values:
                hint = nearest(str(value), map(str, values))
                yield Problem(f"where.{axis}", f"no cell has the {axis} '{value}'{hint}")
