"""Cells, the unit of the benchmark, and the names of their axes."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, order=True)
class Cell:
    """The unit of the benchmark: one method on one encoder, trained on one draw of one dataset."""

    dataset: str
    encoder: str
    method: str
    shots: int
    seed: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.encoder}/{self.method}/k{self.shots}-s{self.seed}"


AXES = tuple(axis.name for axis in fields(Cell))
NAMED_AXES = tuple(axis.name for axis in fields(Cell) if axis.type is str)  # the values of the others are numbers
# Axes that tables and figures tell apart. A category is a part of a cell; seeds are averaged.
SHOWN_AXES = tuple(axis for axis in AXES if axis != "seed")
if TYPE_CHECKING:
    Axis = str
    CellAxis = str
else:
    CellAxis = Literal[SHOWN_AXES]
    Axis = Literal[(*SHOWN_AXES, "category")]
