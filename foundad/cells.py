"""Selects cells: those of a table or figure, and those whose cost is measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from foundad.config import Axis
from foundad.paths import Cell


def chosen_cells(cells: Iterable[Cell], where: Mapping[Axis, Sequence[str | int]]) -> list[Cell]:
    """The ``cells`` with the values that ``where`` lists for each axis, in the order of these values.

    The axis ``category`` is ignored.
    """
    order = {axis: list(allowed) for axis, allowed in where.items() if axis != "category"}
    chosen = [c for c in cells if all(getattr(c, axis) in allowed for axis, allowed in order.items())]
    return sorted(chosen, key=lambda cell: [allowed.index(getattr(cell, axis)) for axis, allowed in order.items()])


def measured_cells(cells: Iterable[Cell], where: Mapping[Axis, Sequence[str | int]]) -> list[Cell]:
    """Those of :func:`chosen_cells` whose cost is measured: only the first seed, because all seeds cost the same."""
    chosen = chosen_cells(cells, where)
    first = {replace(cell, seed=0): cell for cell in reversed(chosen)}
    return [cell for cell in chosen if first[replace(cell, seed=0)] is cell]
